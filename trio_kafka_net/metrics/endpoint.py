"""The HTTP endpoint of a broker: its figures for Prometheus, documents for the monitor.

One client is one task; ``h11`` reads and writes HTTP/1.1. What a client can take is bounded: four
of them at a time (a fifth is told so at once), 64 KiB of header, 2 s from the first byte of a
request to its last, 5 s to read an answer, 15 s between two requests. Only GET, without a body;
whatever is wrong is answered with a JSON document and the end of the connection.

A failure in here ends a connection, never the broker.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from typing import Final

import h11
import trio

from .routes import Answer, Observed, RefusedError, answer, check_host, error_answer

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

_RECEIVE_BYTES = 16 * 1024
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
            if self._clients < MAX_CLIENTS:
                self._clients += 1
                try:
                    await self._serve_requests(stream)
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

    async def _serve_requests(self, stream: trio.abc.HalfCloseableStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        idle_seconds = REQUEST_SECONDS
        while await _wait_for_bytes(http, stream, idle_seconds):
            idle_seconds = IDLE_SECONDS
            request: h11.Request | None = None
            try:
                request = await _read_request(http, stream)
                if request is None:
                    return
                found = await answer(self._observed, self._target(request))
                is_over = False
            except RefusedError as refused:
                found, is_over = error_answer(refused.status, str(refused)), True
            has_body = request is None or request.method != b"HEAD"
            await _send(http, stream, found, is_over=is_over, has_body=has_body)
            if is_over or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    def _target(self, request: h11.Request) -> str:
        """Path and query of a request that may be answered.

        Raises:
            RefusedError: it may not.
        """
        if request.method != b"GET":
            raise RefusedError(405, "only GET is served")
        if self._is_loopback:
            hosts = [value for name, value in request.headers if name == b"host"]
            if hosts:  # HTTP/1.0 has none; no browser speaks it
                check_host(hosts[0].decode("latin-1"))
        return request.target.decode("latin-1")


async def _wait_for_bytes(
    http: h11.Connection, stream: trio.abc.HalfCloseableStream, seconds: float
) -> bool:
    """Wait for the beginning of a request; False if none comes."""
    if http.trailing_data[0]:
        return True
    with trio.move_on_after(seconds):
        data = await stream.receive_some(_RECEIVE_BYTES)
        if data:
            http.receive_data(bytes(data))
            return True
    return False


async def _read_request(
    http: h11.Connection, stream: trio.abc.HalfCloseableStream
) -> h11.Request | None:
    """Read a request to its end; None if the client closes before.

    Raises:
        RefusedError: it is none, too slow, too large, or has a body.
    """
    request: h11.Request | None = None
    with trio.move_on_after(REQUEST_SECONDS):
        while True:
            event = await _next_event(http, stream)
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif isinstance(event, h11.Data):
                raise RefusedError(400, "a request has no body here")
            else:
                return None
    raise RefusedError(408, f"a request may take {REQUEST_SECONDS:g} s")


async def _next_event(http: h11.Connection, stream: trio.abc.HalfCloseableStream) -> object:
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            status = 431 if error.error_status_hint == 431 else 400
            raise RefusedError(status, f"not HTTP as it should be: {error}") from error
        if event is not h11.NEED_DATA:
            return event
        http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))


async def _send(
    http: h11.Connection,
    stream: trio.abc.HalfCloseableStream,
    found: Answer,
    *,
    is_over: bool,
    has_body: bool,
) -> None:
    headers = [
        ("Content-Type", found.content_type),
        ("Content-Length", str(len(found.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if found.status == 405:
        headers.append(("Allow", "GET"))
    if is_over:
        headers.append(("Connection", "close"))
    if http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return  # it broke in a way that allows no answer
    response = h11.Response(status_code=found.status, headers=headers)
    data = http.send(response) or b""
    if has_body:
        data += http.send(h11.Data(data=found.body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    with trio.fail_after(ANSWER_SECONDS):
        await stream.send_all(data)
        if is_over:
            await _let_read(stream)


async def _let_read(stream: trio.abc.HalfCloseableStream) -> None:
    """Let the client read the last answer: closing with unread bytes would destroy it."""
    try:
        await stream.send_eof()
        for _ in range(MAX_HEADER_BYTES // _RECEIVE_BYTES):
            if not await stream.receive_some(_RECEIVE_BYTES):
                return
    except trio.BrokenResourceError:
        return


async def _refuse(stream: trio.abc.HalfCloseableStream) -> None:
    body = error_answer(503, f"{MAX_CLIENTS} clients are served already").body
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    with trio.fail_after(REQUEST_SECONDS):
        await stream.send_all(head.encode() + body)
        await _let_read(stream)


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
