"""Another framing: lines, in buffers that may hold more than one of them."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net import ListenerConfig, RemoteProtocolError, Request, SocketServer
from trio_kafka_net.network.framing import Allocate, EndOfStream, FrameTransport, Receive, Send

from .test_framing import Wire, allocate


class LineReceive(Receive):
    """A frame is a line; the newline is not part of it."""

    __slots__ = ("_allocate_line", "_buffer", "_line", "_longest")

    def __init__(self, max_size: int, allocate: Allocate) -> None:
        """Accept lines of up to ``max_size`` bytes."""
        super().__init__(max_size, allocate)
        self._allocate_line = allocate
        self._longest = max_size
        self._buffer = bytearray()
        self._line: memoryview | None = None

    @property
    def has_buffered(self) -> bool:
        """Whether there is more than the line that was taken."""
        return bool(self._buffer)

    def read_from(self, transport: FrameTransport) -> bool:
        """Read until there is a whole line."""
        if b"\n" not in self._buffer:
            chunk = bytearray(4096)
            received = transport.recv_into(chunk)
            if not received:
                raise EndOfStream
            self._buffer += chunk[:received]
        end = self._buffer.find(b"\n")
        if max(end, len(self._buffer) if end < 0 else 0) > self._longest:
            raise RemoteProtocolError(f"a line has at most {self._longest} bytes")
        if end < 0:
            return False
        line = self._allocate_line(end)
        assert line is not None, "this framing is for a server without a bounded memory pool"
        line[:] = self._buffer[:end]
        del self._buffer[: end + 1]
        self._line = line
        return True

    def take_payload(self) -> memoryview:
        """The line."""
        line, self._line = self._line, None
        assert line is not None
        return line

    def discard(self) -> int:
        """Nothing of the pool is held between frames."""
        self._buffer.clear()
        return 0


class LineSend(Send):
    """A reply and its newline."""

    __slots__ = ()

    def __init__(self, line: bytes) -> None:
        """Send ``line``."""
        super().__init__([])
        self.size = len(line) + 1
        self._pieces = [line, b"\n"]


@given(
    st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)),
    st.lists(st.integers(1, 40)),
)
def test_lines_come_out_whatever_the_chunks(lines, chunks):
    wire = Wire(b"".join(line + b"\n" for line in lines), [*chunks, *([7] * 500)])
    receive = LineReceive(100, allocate)
    found = []
    while len(found) < len(lines):
        if receive.read_from(wire):
            found.append(bytes(receive.take_payload()))
    assert lines == found


@pytest.fixture
async def line_server(nursery):
    def handle(request: Request) -> None:
        request.respond(LineSend(bytes(request.payload).upper()))

    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=handle, receive_type=LineReceive)
    await nursery.start(server.run)
    yield server
    await server.stop()


async def test_pipelined_lines_in_one_segment_are_all_answered_in_order(line_server, connect):
    client = await connect(line_server.bound_port())
    await client.stream.send_all(b"one\ntwo\nthree\nfo")
    assert b"ONE\nTWO\nTHREE\n" == await client._exactly(14)
    await client.stream.send_all(b"ur\n")
    assert b"FOUR\n" == await client._exactly(5)
    await client.stream.send_all(b"five\nsix\n")
    await client.stream.send_eof()
    assert b"FIVE\nSIX\n" == await client.wait_closed()


async def test_a_stop_drops_buffered_lines_and_finishes_the_one_in_hand(line_server, connect):
    client = await connect(line_server.bound_port())
    await client.stream.send_all(b"one\n")
    assert b"ONE\n" == await client._exactly(4)
    await trio.testing.wait_all_tasks_blocked(0.005)
    await line_server.stop()
    assert b"" == await client.wait_closed()
