"""The HTTP endpoint of a broker: its figures for Prometheus, documents for the monitor.

One client is one task; ``h11`` reads and writes HTTP/1.1, in ``http_exchange``, imported with the
first client: a broker that nobody looks at need not know HTTP. What a client can take is
bounded: four of them at a time (a fifth is told so at once), 64 KiB of header, 2 s from the first
byte of a request to its last, 5 s to read an answer, 15 s between two requests. Only GET, without a
body; whatever is wrong is answered with a JSON document and the end of the connection.

A failure in here ends a connection, never the broker.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from typing import Final

import trio

from .routes import Observed, error_answer

log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 4
"""Clients that are served at a time."""
MAX_REFUSED: Final = 16
"""Further clients that are told so at a time; above it they are just closed."""
MAX_HEADER_BYTES: Final = 64 * 1024
REQUEST_SECONDS: Final = 2.0
"""From the first byte of a request to its last."""
ANSWER_SECONDS: Final = 5.0
"""For a client to take an answer."""
IDLE_SECONDS: Final = 15.0
"""Between two requests of a client."""

RECEIVE_BYTES: Final = 16 * 1024
"""What is read at once."""
_BACKLOG = 64


class MetricsEndpoint:
    """Serves one broker's figures on one port."""

    def __init__(self, host: str, port: int, observed: Observed) -> None:
        """Bind and listen; nothing is served before ``run``.

        Args:
            host: address or name of this machine; empty is everywhere.
            port: 0 takes a free one.
            observed: the broker.

        Raises:
            OSError: the address cannot be bound; the text names host and port.
        """
        self._observed = observed
        try:
            self._socket = _listen(host, port)
        except OSError as error:
            # Of a name that does not resolve, the number is of another kind.
            number = errno.EADDRNOTAVAIL if isinstance(error, socket.gaierror) else error.errno
            raise OSError(
                number, f"cannot listen on METRICS {host}:{port}: {error.strerror}"
            ) from error
        self.bound_address: tuple[str, int] = self._socket.getsockname()[:2]
        """Host and port as the kernel has them."""
        self._is_loopback = ipaddress.ip_address(self.bound_address[0]).is_loopback
        self._clients = 0
        self._refused = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; an unexpected failure to accept ends it, and is logged.

        Cancellation: answers in progress are cut.
        """
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        task_status.started()
        try:
            await trio.serve_listeners(self.serve_client, [listener])
        except* OSError as errors:
            log.error("the metrics endpoint has ended", exc_info=errors)

    def close(self) -> None:
        """Give the port back; a second call does nothing."""
        self._socket.close()

    async def serve_client(self, stream: trio.abc.HalfCloseableStream) -> None:
        """Serve one client to its end, and close; it may be any stream.

        Cancellation: an answer in progress is cut.
        """
        try:
            # In here, where a failure is the client's: what is installed may have changed since.
            from .http_exchange import serve_requests

            if self._clients < MAX_CLIENTS:
                self._clients += 1
                try:
                    await serve_requests(stream, self._observed, is_loopback=self._is_loopback)
                finally:
                    self._clients -= 1
            elif self._refused < MAX_REFUSED:
                self._refused += 1
                try:
                    await _refuse(stream)
                finally:
                    self._refused -= 1
        except (trio.BrokenResourceError, trio.TooSlowError):
            pass  # the client is gone, or does not read
        except Exception:
            log.exception("serving a client of the metrics endpoint failed")
        finally:
            await trio.aclose_forcefully(stream)


async def _refuse(stream: trio.abc.HalfCloseableStream) -> None:
    body = error_answer(503, f"{MAX_CLIENTS} clients are served already").body
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    with trio.fail_after(REQUEST_SECONDS):
        await stream.send_all(head.encode() + body)
        await let_read(stream)


async def let_read(stream: trio.abc.HalfCloseableStream) -> None:
    """Let the client read the last answer: closing with unread bytes would destroy it.

    Cancellation: safe.
    """
    try:
        await stream.send_eof()
        for _ in range(MAX_HEADER_BYTES // RECEIVE_BYTES):
            if not await stream.receive_some(RECEIVE_BYTES):
                return
    except trio.BrokenResourceError:
        return


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
