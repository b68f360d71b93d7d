"""Small frames by one call, and never a byte lost, doubled or uncounted."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.network.framing import EndOfStream
from trio_kafka_net.network.memory_pool import MemoryPool
from trio_kafka_net.network.receive_ahead import LONGEST_LIKELY, ReceiveAhead

from .test_framing import Wire, frame


class CountingWire(Wire):
    """Counts its calls, and what was taken from it."""

    calls = taken = 0

    def recv_into(self, buffer) -> int:
        self.calls += 1
        before = len(self.data)
        count = super().recv_into(buffer)
        self.taken += before - len(self.data)
        return count


def a_receive(pool: MemoryPool | None = None, max_size: int = 5000) -> ReceiveAhead:
    pool = MemoryPool(-1) if pool is None else pool
    return ReceiveAhead(max_size, pool.try_allocate, pool.try_reserve)


def receive_all(receive: ReceiveAhead, wire: Wire, count: int) -> list[bytes]:
    """So many frames, one after the other, as a Processor reads them."""
    found = []
    while len(found) < count:
        try:
            if receive.read_from(wire):
                found.append(bytes(receive.take_payload()))
        except BlockingIOError:
            assert wire.chunks
    return found


def ask(receive: ReceiveAhead, *payloads: bytes) -> int:
    """Calls for frames that come one by one, each whole."""
    wire = CountingWire(chunks=[10_000] * 20)
    for payload in payloads:
        wire.data = frame(payload)
        while not receive.read_from(wire):
            pass
        assert payload == receive.take_payload()
        assert receive.is_empty
    return wire.calls


PAYLOADS = st.lists(st.binary(max_size=40) | st.binary(min_size=1000, max_size=1100), max_size=6)


@given(PAYLOADS, st.lists(st.integers(1, 60)), st.booleans())
def test_frames_come_out_whatever_the_chunks_and_however_they_are_pipelined(
    payloads, chunks, is_pipelined
):
    pool = MemoryPool(-1)
    receive = a_receive(pool)
    wire = CountingWire(chunks=[*chunks, *([7] * 1200)])
    found = []
    for data in [b"".join(map(frame, payloads))] if is_pipelined else map(frame, payloads):
        wire.data += data
        while len(found) < len(payloads) and (wire.data or receive.has_buffered):
            try:
                is_whole = receive.read_from(wire)
            except BlockingIOError:
                is_whole = False
            whole = sum(len(frame(payload)) for payload in found)
            if is_whole:
                found.append(bytes(receive.take_payload()))
                whole += len(frame(found[-1]))
            assert wire.taken == whole + receive.partial_bytes
            assert wire.chunks
    assert payloads == found
    assert receive.is_empty
    assert pool.used == sum(map(len, payloads))


def test_a_frame_as_long_as_the_last_one_costs_one_call():
    receive = a_receive()
    assert ask(receive, b"hello") == 2
    assert ask(receive, b"world", b"again") == 2


def test_a_shorter_frame_costs_one_call_and_the_longer_one_is_remembered():
    receive = a_receive()
    ask(receive, b"longest", b"short")
    assert ask(receive, b"", b"short", b"longest") == 3


def test_a_longer_frame_costs_two_calls_once():
    receive = a_receive()
    ask(receive, b"short")
    assert ask(receive, b"longer") == 2
    assert ask(receive, b"longer") == 1


def test_nothing_is_read_beyond_the_size_after_a_large_frame():
    receive = a_receive()
    ask(receive, b"small", bytes(LONGEST_LIKELY + 1))
    assert ask(receive, b"small") == 2


def test_of_a_peer_that_pipelines_bytes_are_read_ahead_only_once():
    receive = a_receive()
    ask(receive, bytes(20))
    wire = CountingWire(b"".join(map(frame, [b"a", b"b", b"c", b"d"])), [100] * 20)
    ahead = []
    for _ in range(4):
        while not receive.read_from(wire):
            pass
        receive.take_payload()
        ahead.append((receive.has_buffered, receive.partial_bytes))
    assert [(True, 15), (True, 10), (True, 5), (False, 0)] == ahead, "5 bytes each, 24 at first"
    wire.data = frame(b"e") + frame(b"f")
    assert [b"e"] == receive_all(receive, wire, 1)
    assert frame(b"f") == wire.data


@pytest.mark.parametrize("cut", range(5, 14))
def test_what_was_read_ahead_ends_anywhere_in_the_next_frame(cut):
    receive = a_receive()
    ask(receive, bytes(cut - 4))
    wire = Wire(frame(b"a") + frame(b"hello"), [100] * 10)
    assert [b"a", b"hello"] == receive_all(receive, wire, 2)
    assert not receive.has_buffered


def test_a_part_that_was_read_ahead_is_progress_although_nothing_more_is_there():
    """Whoever watches for frames that take too long must hear of this one."""
    receive = a_receive()
    ask(receive, b"sixteen bytes...")
    wire = Wire(frame(b"a") + frame(b"hello")[:6], [100])
    assert receive.read_from(wire)
    receive.take_payload()
    assert receive.has_buffered
    assert receive.read_from(wire) is False
    assert not receive.has_buffered
    assert (5, 6) == (receive.announced_size, receive.partial_bytes)
    with pytest.raises(BlockingIOError):
        receive.read_from(wire)


@pytest.mark.parametrize("cut", range(9))
def test_the_end_of_the_stream_is_seen_wherever_it_is(cut):
    receive = a_receive()
    ask(receive, b"hello")
    wire = Wire(frame(b"hello")[:cut], [100] * 10)
    wire.closed = True
    with pytest.raises(EndOfStream):
        while not receive.read_from(wire):
            pass
    assert cut == receive.partial_bytes


@pytest.mark.parametrize("size", [-1, -(2**31), 5001, 2**31 - 1])
@pytest.mark.parametrize("behind", [b"", b"12345", b"1234567"])
def test_a_bad_size_is_refused_and_takes_no_memory(size, behind):
    pool = MemoryPool(-1)
    receive = a_receive(pool)
    ask(receive, b"hello")
    used = pool.used
    data = size.to_bytes(4, "big", signed=True) + behind
    with pytest.raises(RemoteProtocolError, match=str(size)):
        receive.read_from(Wire(data, [100, 100]))
    assert used == pool.used


@pytest.mark.parametrize("payload", [b"hello", b"hi", b"longer than that"])
def test_a_frame_waits_for_memory_with_what_has_come_of_it(payload):
    pool = MemoryPool(10)
    receive = a_receive(pool)
    ask(receive, b"hello")
    assert pool.try_allocate(5) is not None  # the last of it
    wire = Wire(frame(payload), [100] * 4)
    for _ in range(2):
        assert not receive.read_from(wire)
        assert receive.awaits_memory
        assert len(payload) == receive.announced_size
    assert pool.used == 10
    pool.release(5)
    assert [payload] == receive_all(receive, wire, 1)
    assert pool.used == 5 + len(payload)


def test_discarded_is_what_the_pool_has_to_get_back():
    pool = MemoryPool(-1)
    receive = a_receive(pool)
    ask(receive, b"hello")
    pool.release(5)
    wire = Wire(frame(b"a") + frame(b"b"), [100] * 3)
    receive_all(receive, wire, 1)
    pool.release(1)
    assert not receive.is_empty
    assert (0, 0) == (receive.discard(), pool.used)
    assert receive.is_empty
    receive.read_from(Wire(frame(b"hello")[:6], [4, 2]))
    pool.release(receive.discard())
    assert pool.used == 0


async def test_frames_of_all_lengths_in_one_segment_are_answered_in_order(serve, connect):
    server = await serve(lambda request: request.payload)
    client = await connect(server.bound_port())
    payloads = [b"x" * length for length in (30, 3, 9, 30, 0, 2000, 5, 30, 1)]
    for _ in range(2):
        await client.stream.send_all(b"".join(map(frame, payloads)))
        assert payloads == [await client.receive() for _ in payloads]
    await trio.testing.wait_all_tasks_blocked()
    assert server.data_plane.memory_pool.used == 0
    (processor,) = server.data_plane.processors
    assert processor.statistics().bytes_in == 2 * sum(len(frame(payload)) for payload in payloads)


async def test_a_stop_answers_the_request_in_hand_and_drops_what_was_read_ahead(
    serve, connect, nursery
):
    gate = trio.Event()

    async def handle(request):
        if request.payload == b"a":
            await gate.wait()
        return request.payload

    server = await serve(handle)
    client = await connect(server.bound_port())
    assert await client.ask(bytes(20)) == bytes(20)
    await client.stream.send_all(frame(b"a") + frame(b"b"))
    await trio.testing.wait_all_tasks_blocked(0.005)
    nursery.start_soon(server.stop)
    await trio.testing.wait_all_tasks_blocked(0.005)
    gate.set()
    assert await client.receive() == b"a"
    assert await client.wait_closed() == b""
    await client.stream.aclose()


async def test_what_was_read_ahead_moves_with_its_connection(serve, connect):
    gate = trio.Event()

    async def handle(request):
        if request.payload == b"a":
            await gate.wait()
        return request.payload

    server = await serve(handle, num_network_threads=2)
    clients = [await connect(server.bound_port()) for _ in range(2)]
    for client in clients:  # one of them is the removed Processor's
        assert await client.ask(bytes(20)) == bytes(20)
        await client.stream.send_all(frame(b"a") + frame(b"b") + frame(b"c")[:2])
    await trio.testing.wait_all_tasks_blocked(0.005)
    await server.resize_network_threads(1)
    gate.set()
    for client in clients:
        assert [b"a", b"b"] == [await client.receive() for _ in range(2)]
        await client.stream.send_all(frame(b"c")[2:])
        assert await client.receive() == b"c"
