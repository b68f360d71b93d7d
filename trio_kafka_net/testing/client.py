"""RawClient: a connection that does what it is told, for tests of servers.

A real client hides what a test wants to see: it retries, negotiates versions, reconnects, and sends
when it sees fit. This one sends the request it is given in the version it is given, keeps to the
order of responses, and reports the end of a connection as what it is. Several requests may be
under way (``send_request`` … ``receive_response``), because a server must cope with that.

A client belongs to one task at a time per direction: one may send while another receives.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import trio

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.protocol.api_keys import response_class
from trio_kafka_net.protocol.headers import decode_response, encode_request
from trio_kafka_net.protocol.message import Message

_SIZE = struct.Struct(">i")
_CHUNK_BYTES = 64 * 1024

Buffer = bytes | bytearray | memoryview
"""What can be sent."""


class ConnectionClosedError(RemoteProtocolError):
    """The server closed the connection; ``received`` bytes of a frame had come before that."""

    def __init__(self, received: int) -> None:
        """Keep how many bytes of the frame had come."""
        super().__init__(f"the server closed the connection after {received} bytes of a frame")
        self.received = received


class RawClient:
    """One connection to a server of size-prefixed frames, or of the Kafka protocol.

    ::

        async with await RawClient.connect("127.0.0.1", 9092) as client:
            response = await client.request(MetadataRequest(topics=None), version=12)
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        client_id: str | None = "raw-client",
        max_frame_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        """Talk over ``stream``, which the client owns from now on.

        Args:
            stream: a connected stream.
            client_id: goes into every request header.
            max_frame_bytes: larger frames are refused before memory is spent on them.
        """
        self.stream = stream
        """The connection itself, for tests that misbehave on it."""
        self._client_id = client_id
        self._max_frame_bytes = max_frame_bytes
        self._received = bytearray()
        self._next_correlation_id = 0
        # (correlation id, class of the response, version), in the order of the requests
        self._expected: deque[tuple[int, type[Message], int]] = deque()

    @classmethod
    async def connect(cls, host: str, port: int, *, client_id: str | None = "raw-client") -> Self:
        """Connect over TCP.

        Raises:
            OSError: nobody listens there, or the name does not resolve.

        Cancellation: no connection is left behind.
        """
        return cls(await trio.open_tcp_stream(host, port), client_id=client_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection.

        Cancellation: the connection is closed all the same.
        """
        await self.stream.aclose()

    async def send_frame(self, payload: Buffer | Iterable[Buffer]) -> None:
        """Send one frame; its size is put in front.

        Args:
            payload: the frame's body, in one buffer or in several.

        Raises:
            trio.BrokenResourceError: the connection is gone.

        Cancellation: the frame may be torn; the connection is good for nothing but closing.
        """
        pieces = [payload] if isinstance(payload, Buffer) else list(payload)
        size = sum(len(piece) for piece in pieces)
        await self.stream.send_all(b"".join([_SIZE.pack(size), *pieces]))

    async def receive_frame(self) -> bytes:
        """Receive one frame, without its size.

        Raises:
            ConnectionClosedError: the server closed or reset the connection.
            RemoteProtocolError: the announced size is negative or above the limit.

        Cancellation: loses nothing; the next call goes on where this one stopped.
        """
        await self._fill(_SIZE.size)
        (size,) = _SIZE.unpack_from(self._received)
        if not 0 <= size <= self._max_frame_bytes:
            raise RemoteProtocolError(
                f"frame of {size} bytes announced; 0 to {self._max_frame_bytes} are allowed"
            )
        await self._fill(_SIZE.size + size)
        frame = bytes(memoryview(self._received)[_SIZE.size : _SIZE.size + size])
        del self._received[: _SIZE.size + size]
        return frame

    async def _fill(self, wanted: int) -> None:
        received = self._received
        if len(received) >= wanted:
            await trio.lowlevel.checkpoint()
        while len(received) < wanted:
            try:
                chunk = await self.stream.receive_some(max(_CHUNK_BYTES, wanted - len(received)))
            except trio.BrokenResourceError:
                chunk = b""
            if not chunk:
                raise ConnectionClosedError(len(received))
            received += chunk

    async def send_request(self, message: Message, version: int, *, answered: bool = True) -> int:
        """Send a request without waiting for its response.

        Args:
            message: the request.
            version: its version.
            answered: False for a request that gets no response (Produce with acks=0).

        Returns:
            The correlation id.

        Raises:
            LocalProtocolError: not a request, or no such version; nothing was sent.
            trio.BrokenResourceError: the connection is gone.

        Cancellation: as for ``send_frame``.
        """
        correlation_id = self._next_correlation_id
        pieces = encode_request(message, version, correlation_id, self._client_id)
        assert message.API_KEY is not None, "encode_request refuses what is no request"
        self._next_correlation_id += 1
        if answered:
            self._expected.append((correlation_id, response_class(message.API_KEY), version))
        await self.send_frame(pieces)
        return correlation_id

    async def receive_response(self) -> Any:
        """Receive the response to the oldest request that has none yet.

        Returns:
            The response, of the class that belongs to its request.

        Raises:
            LocalProtocolError: every request has been answered.
            ConnectionClosedError: the server closed the connection.
            RemoteProtocolError: bad bytes, or the response to another request.

        Cancellation: loses nothing; the next call receives the same response.
        """
        if not self._expected:
            raise LocalProtocolError("no response is expected")
        frame = await self.receive_frame()
        expected, cls, version = self._expected.popleft()
        correlation_id, response = decode_response(cls, version, frame)
        if correlation_id != expected:
            raise RemoteProtocolError(
                f"response to request {correlation_id} in place of the one to {expected}"
            )
        return response

    async def request(self, message: Message, version: int) -> Any:
        """Send a request and wait for its response.

        Args:
            message: the request.
            version: its version.

        Returns:
            The response.

        Raises:
            LocalProtocolError: not a request, no such version, or others are under way.
            ConnectionClosedError: the server closed the connection.
            RemoteProtocolError: bad bytes.

        Cancellation: the response is still to come; ``receive_response`` gets it.
        """
        if self._expected:
            raise LocalProtocolError(f"{len(self._expected)} responses are still to come")
        await self.send_request(message, version)
        return await self.receive_response()
