"""A client that speaks frames and nothing else."""

from __future__ import annotations

import socket
import struct

import attrs
import trio


@attrs.define
class FrameClient:
    stream: trio.SocketStream

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> FrameClient:
        return cls(await trio.open_tcp_stream(host, port))

    async def send(self, *payloads: bytes) -> None:
        await self.stream.send_all(b"".join(struct.pack(">i", len(p)) + p for p in payloads))

    async def receive(self) -> bytes:
        (size,) = struct.unpack(">i", await self._exactly(4))
        return await self._exactly(size)

    async def ask(self, payload: bytes) -> bytes:
        await self.send(payload)
        return await self.receive()

    async def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            data = await self.stream.receive_some(size - len(received))
            if not data:
                raise EOFError(bytes(received))
            received += data
        return bytes(received)

    async def wait_closed(self) -> bytes:
        """What the server still sends until it closes."""
        received = bytearray()
        try:
            while data := await self.stream.receive_some(65536):
                received += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return bytes(received)

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


@attrs.define
class PlainClient:
    """A client's socket without checkpoints: on loopback the kernel does everything at once."""

    socket: socket.socket

    @property
    def is_open(self) -> bool:
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def ask(self, payload: bytes) -> None:
        self.socket.send(struct.pack(">i", len(payload)) + payload)

    def answer(self) -> bytes | None:
        """What has been answered, None if nothing."""
        try:
            return self.socket.recv(65536)[4:]
        except BlockingIOError:
            return None
