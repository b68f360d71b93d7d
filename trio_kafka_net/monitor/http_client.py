"""HTTP as far as the monitor needs it: GET, one connection, kept open, bounded in time and size.

The other end may be another version of this project, Kafka behind a JMX exporter, or no such thing
at all: a port of SSH, a login page, a file of 10 GB. Whatever it is, a request ends in a page or in
one sentence that says what to do.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final
from urllib.parse import urlsplit

import attrs
import h11
import trio

from ..errors import TrioKafkaError

DEFAULT_PORT: Final = 9404
"""Where a broker's figures are if nobody said otherwise."""
DEFAULT_TIMEOUT_SECONDS: Final = 5.0
"""A page that takes longer is as good as none."""
MAX_PAGE_BYTES: Final = 32 * 1024 * 1024
"""More than a hundred thousand series; whatever is larger is no page of figures."""

_CHUNK_BYTES = 64 * 1024
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")


class SourceError(TrioKafkaError):
    """Figures could not be had; the text is one sentence for whoever looks at the screen."""


class PageRefusedError(SourceError):
    """The server is there and well, but has no such page, or not for this question."""


@attrs.frozen
class Address:
    """Where an endpoint is: ``http://host:port/prefix``."""

    host: str
    port: int
    prefix: str = ""
    """Path in front of every page, without a slash at its end."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Understand ``host``, ``host:port``, ``:port``, ``[::1]:port`` or an ``http`` URL.

        Raises:
            ValueError: it is none of these; the text says so.
        """
        url = text if _SCHEME.match(text) else f"http://{text}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
        if parts.scheme.lower() != "http":
            raise ValueError(f"{text}: must be host:port or http://host:port")
        prefix = parts.path.rstrip("/").removesuffix("/metrics")
        return cls(parts.hostname or "127.0.0.1", DEFAULT_PORT if port is None else port, prefix)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{self.prefix}"


class HttpClient:
    """Gets pages of one server, one after the other; belongs to one task at a time."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_page_bytes: int = MAX_PAGE_BYTES,
    ) -> None:
        """Connect when the first page is asked for.

        Args:
            address: of the server.
            timeout: seconds that a page may take, connecting included.
            max_page_bytes: larger pages are refused as soon as they are seen to be.
        """
        self.address = address
        """The server."""
        self._timeout = timeout
        self._max_page_bytes = max_page_bytes
        self._stream: trio.SocketStream | None = None
        self._http = h11.Connection(h11.CLIENT)

    async def aclose(self) -> None:
        """Close the connection, if there is one; the next page opens another.

        Cancellation: it is closed all the same.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def get(self, target: str) -> bytes:
        """Get a page.

        Args:
            target: path and query.

        Returns:
            Its body.

        Raises:
            PageRefusedError: the answer is 4xx.
            SourceError: it cannot be had; the connection is closed.

        Cancellation: the connection is closed.
        """
        try:
            with trio.fail_after(self._timeout):
                return await self._get_perhaps_again(target)
        except BaseException as error:
            if not isinstance(error, PageRefusedError):
                await self.aclose()
            if isinstance(error, SourceError) or not isinstance(error, Exception):
                raise
            raise SourceError(f"cannot read http://{self.address}: {self._why(error)}") from error

    def _why(self, error: Exception) -> str:
        if isinstance(error, trio.TooSlowError):
            return f"no answer in {self._timeout:g} s"
        if isinstance(error, h11.RemoteProtocolError):
            return f"that is no HTTP ({error})"
        if isinstance(error, trio.BrokenResourceError):
            return "the connection was lost"
        if isinstance(error, OSError):
            return _os_reason(error)
        raise error

    async def _get_perhaps_again(self, target: str) -> bytes:
        was_kept = self._stream is not None
        try:
            return await self._get_once(target)
        except (trio.BrokenResourceError, _ClosedEarlyError):
            # A server may close a connection that it kept open just when it is used again; that is
            # known only now, and a page that is only read may be asked for twice.
            if not was_kept:
                raise
            await self.aclose()
            return await self._get_once(target)

    async def _get_once(self, target: str) -> bytes:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(self.address.host, self.address.port)
            self._http = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method="GET",
            target=f"{self.address.prefix}{target}",
            headers=[("Host", str(self.address)), ("Accept", "*/*")],
        )
        asked = self._http.send(request) + self._http.send(h11.EndOfMessage())
        await self._stream.send_all(asked)
        response, body = await self._receive(self._stream)
        if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is not h11.DONE:
            await self.aclose()
        else:
            self._http.start_next_cycle()
        if response.status_code == 200:
            return body
        refused = 400 <= response.status_code < 500
        raise (PageRefusedError if refused else SourceError)(
            f"http://{self.address} says {_status(response)} to {target}"
        )

    async def _receive(self, stream: trio.SocketStream) -> tuple[h11.Response, bytes]:
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await stream.receive_some(_CHUNK_BYTES)
                if not data and response is None:
                    raise _ClosedEarlyError(
                        f"http://{self.address} closed the connection without an HTTP answer"
                    )
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._max_page_bytes:
                    raise SourceError(
                        f"http://{self.address} sends more than {self._max_page_bytes:,} bytes: "
                        "that is no page of figures"
                    )
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None, "h11 ends no message that has not begun"
                return response, bytes(body)


class _ClosedEarlyError(SourceError):
    """The connection ended before an answer began."""


def _status(response: h11.Response) -> str:
    reason = response.reason.decode("latin-1", "replace")
    printable = "".join(character for character in reason if character.isprintable())
    return f"{response.status_code} {printable}".strip()


def _os_reason(error: OSError) -> str:
    """The reason in the system's words; trio wraps the refusals of several addresses."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    inner = cause if isinstance(cause, OSError) else error
    if inner.errno is not None and inner.errno in errno.errorcode:
        return os.strerror(inner.errno).lower()
    return (inner.strerror or str(inner)).lower()
