from __future__ import annotations

import os
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.network.framing import (
    BytesSend,
    EndOfStream,
    FileRegion,
    FrameSend,
    Receive,
    Send,
    frame_of,
    frame_of_pieces,
)


class Wire:
    """A transport over bytes: gives what it has, in pieces; takes what it is allowed to."""

    def __init__(self, data: bytes = b"", chunks: list[int] | None = None) -> None:
        self.data = data
        self.chunks = chunks if chunks is not None else [len(data)]
        self.closed = False
        self.written = bytearray()

    def _chunk(self) -> int:
        if not self.chunks:
            raise BlockingIOError
        return self.chunks.pop(0)

    def recv_into(self, buffer) -> int:
        if not self.data and self.closed:
            return 0
        count = min(self._chunk(), len(self.data), len(buffer))
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def send(self, data) -> int:
        count = min(self._chunk(), len(data))
        self.written += data[:count]
        return count

    def sendmsg(self, buffers) -> int:
        return self.send(b"".join(buffers))

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        return self.send(os.pread(fd, count, offset))


def allocate(size: int) -> memoryview:
    return memoryview(bytearray(size))


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


@given(st.binary(max_size=200), st.lists(st.integers(1, 50)))
def test_receive_whatever_the_chunks_gives_the_frame(payload, chunks):
    """NR-01, NR-03, KC-02: resumable at every byte, and ready for the next frame."""
    wire = Wire(frame(payload), [*chunks, *([1] * 300)])
    receive = Receive(1000, allocate)
    while not receive.read_from(wire):
        assert wire.chunks
    assert payload == receive.take_payload()
    assert receive.is_empty


@pytest.mark.parametrize("size", [-1, -(2**31), 1001, 2**31 - 1, 0x16030100, 0x47455420])
def test_receive_of_a_bad_size_allocates_nothing(size):
    """NR-02: negative, too large, a TLS hello, an HTTP request."""

    def refuse(size: int) -> memoryview:
        raise AssertionError(f"allocated {size}")

    with pytest.raises(RemoteProtocolError, match=str(size)):
        Receive(1000, refuse).read_from(Wire(struct.pack(">i", size)))


def test_receive_of_an_empty_frame_is_whole_with_its_size():
    """NR-02: size 0 completes."""
    receive = Receive(1000, allocate)
    assert receive.read_from(Wire(frame(b"")))
    assert receive.take_payload() == b""


@pytest.mark.parametrize("cut", range(9))
def test_receive_at_the_end_of_the_stream_raises_wherever_it_is(cut):
    """NR-02: EOF in the size and in the payload."""
    wire = Wire(frame(b"hello")[:cut], [100] * 10)
    wire.closed = True
    receive = Receive(1000, allocate)
    with pytest.raises(EndOfStream):
        while not receive.read_from(wire):
            pass


def test_receive_without_memory_waits_and_goes_on():
    granted: list[memoryview | None] = [None, memoryview(bytearray(5))]
    receive = Receive(1000, lambda size: granted.pop(0))
    wire = Wire(frame(b"hello"), [100, 100])
    assert not receive.read_from(wire)
    assert receive.awaits_memory
    assert b"hello" == wire.data
    assert receive.read_from(wire)
    assert b"hello" == receive.take_payload()


def test_receive_discarded_tells_what_it_held():
    receive = Receive(1000, allocate)
    receive.read_from(Wire(frame(b"hello")[:6], [4, 2]))
    assert receive.discard() == 5
    assert receive.discard() == 0


@st.composite
def pieces(draw):
    return draw(st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), max_size=6))


@given(pieces(), st.lists(st.integers(1, 60)), st.integers(0, 20_000))
def test_send_whatever_the_chunks_writes_the_frame(parts, chunks, bulk):
    expected = b"".join(data for _, data in parts) + b"z" * bulk
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(data for _, data in parts))
        file.flush()
        position = 0
        unsent = []
        for in_file, data in parts:
            unsent.append(FileRegion(file.fileno(), position, len(data), file) if in_file else data)
            position += len(data)
        send = Send([*unsent, b"z" * bulk])
        wire = Wire(chunks=[*chunks, *([997] * 60)])
        while not send.write_to(wire):
            assert wire.chunks
    assert frame(expected) == wire.written
    assert len(wire.written) == send.size


@given(st.integers(0, 40_000), st.lists(st.integers(1, 60)))
def test_bytes_send_is_a_send_of_one_piece(size, chunks):
    """KC-01: complete only when nothing remains."""
    payload = os.urandom(1) * size
    send = BytesSend(payload)
    wire = Wire(chunks=[*chunks, *([997] * 60)])
    while not send.write_to(wire):
        assert len(wire.written) < send.size
    assert frame(payload) == wire.written


def test_send_that_would_block_keeps_what_it_wrote():
    send = BytesSend(b"hello world")
    wire = Wire(chunks=[6])
    assert not send.write_to(wire)
    with pytest.raises(BlockingIOError):
        send.write_to(wire)
    wire.chunks.append(100)
    assert send.write_to(wire)
    assert frame(b"hello world") == wire.written


@pytest.mark.parametrize("count", [10, 10_000_000])
def test_send_of_a_file_that_ends_too_early_fails_instead_of_stalling(count):
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        send = Send([FileRegion(file.fileno(), 0, count, file)])
        wire = Wire(chunks=[100, 100, 100])
        with pytest.raises(OSError, match="file ended"):
            while not send.write_to(wire):
                pass


def test_header_and_small_regions_go_out_in_one_piece():
    """A Fetch response of some small partitions wakes its client once."""
    with tempfile.TemporaryFile() as file:
        file.write(b"abcdef")
        file.flush()
        regions = [FileRegion(file.fileno(), position, 2, file) for position in (0, 2, 4)]
        send = Send([b"<", regions[0], b"|", regions[1], b"|", regions[2], b">"])
        wire = Wire(chunks=[1000])
        assert send.write_to(wire)
    assert frame(b"<ab|cd|ef>") == wire.written
    assert send.file_bytes == 0  # they were copied


def test_regions_together_are_read_only_up_to_a_limit():
    with tempfile.TemporaryFile() as file:
        file.truncate(1_000_000)
        send = Send([FileRegion(file.fileno(), 0, 50_000, file) for _ in range(20)])
        wire = Wire(chunks=[1_000_000] * 4)
        assert send.write_to(wire)
    assert not wire.chunks  # five of them in each call
    assert send.size == len(wire.written) == 1_000_004


def test_what_a_slow_peer_did_not_take_of_a_small_region_is_read_again():
    with tempfile.TemporaryFile() as file:
        file.write(b"abcdef")
        file.flush()
        send = Send([b"<", FileRegion(file.fileno(), 0, 6, file), b">"])
        wire = Wire(chunks=[8])
        assert not send.write_to(wire)
        assert send.unsent_bytes == 4
        os.pwrite(file.fileno(), b"DEF", 3)
        wire.chunks.append(1000)
        assert send.write_to(wire)
    assert frame(b"<abcDEF>") == wire.written


@pytest.mark.parametrize("sent", [0, 1, 8, 9])
def test_frame_send_goes_on_where_a_part_is_out(sent):
    """What is left is told, for those who count bytes."""
    send = FrameSend(frame(b"hello"), sent)
    assert (9, 9 - sent) == (send.size, send.unsent_bytes)
    wire = Wire(chunks=[2] * 10)
    while send.unsent_bytes and not send.write_to(wire):
        assert wire.chunks
    assert frame(b"hello")[sent:] == wire.written


@pytest.mark.parametrize("size", [0, 16 * 1024])
def test_frame_of_a_payload_is_what_a_send_writes(size):
    assert frame(bytes(size)) == frame_of(bytes(size)) == frame_of_pieces([bytes(size)])


def test_a_frame_that_would_copy_much_is_not_made():
    too_long = bytes(16 * 1024 + 1)
    assert frame_of(too_long) is None
    assert frame_of_pieces([b"head", too_long]) is None


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=5))
def test_a_frame_of_pieces_is_what_a_send_writes(parts):
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + b"".join(data for _, data in parts))
        file.flush()
        position, pieces = 6, []
        for in_file, data in parts:
            region = FileRegion(file.fileno(), position, len(data), file)
            pieces.append(region if in_file else data)
            position += len(data)
        assert frame(b"".join(data for _, data in parts)) == frame_of_pieces(pieces)


def test_a_frame_of_a_file_that_is_too_short_is_left_to_the_send():
    with tempfile.TemporaryFile() as file:
        pieces = [b"head", FileRegion(file.fileno(), 0, 10, file)]
        assert frame_of_pieces(pieces) is None
        with pytest.raises(OSError, match="ended before"):
            Send(pieces).write_to(Wire(chunks=[100]))
