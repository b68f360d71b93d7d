"""A request is run where it is read, in the place of a handler that waits, or it is queued."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_kafka_net import ListenerConfig, SocketServer, SocketServerConfig
from trio_kafka_net.errors import FatalExitError
from trio_kafka_net.network.connection import DisconnectCause, NewConnection
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.memory_pool import MemoryPool
from trio_kafka_net.network.processor import Processor
from trio_kafka_net.network.request_channel import Request, RequestChannel
from trio_kafka_net.network.selector import READABLE, Selector
from trio_kafka_net.network.socket_server import answering
from trio_kafka_net.network.turn import Turn

from .test_custom_framing import LineReceive
from .test_interleavings import FakePoller, Wire

WAITS = b"waits"


class Plane:
    """A pool of handlers and its channel; requests named ``WAITS`` wait for ``gate``."""

    def __init__(self, size: int, turn: Turn | None = None) -> None:
        self.finished: list[bytes] = []
        self.ran: list[tuple[bytes, trio.lowlevel.Task]] = []
        self.gate = trio.Event()
        self.released: list[int] = []
        self.responses: list[object] = []
        self.channel = RequestChannel(2, lambda item: self.finished.append(bytes(item.payload)))
        self.pool = RequestHandlerPool(self.channel, self.handle, size, turn)

    def handle(self, item: Request):
        if item.payload == WAITS:
            return self.wait(item)
        self.note(item)
        item.respond(BytesSend(b"ok"))
        return None

    async def wait(self, item: Request) -> None:
        self.note(item)
        await self.gate.wait()
        item.respond(BytesSend(b"ok"))

    def note(self, item: Request) -> None:
        self.ran.append((bytes(item.payload), trio.lowlevel.current_task()))

    def request(self, payload: bytes) -> Request:
        processor = SimpleNamespace(enqueue_response=self.responses.append)
        connection = SimpleNamespace(
            connection_id="a", processor=processor, peer_gone=False, is_open=True
        )
        item = Request(connection, memoryview(payload))
        item.pool, item.pool_bytes = SimpleNamespace(release=self.released.append), 7
        item.start_time_ns = 1
        return item

    def hand_over(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.channel.hand_over(self.request(payload))

    @property
    def names(self) -> list[bytes]:
        return [payload for payload, _ in self.ran]


@pytest.fixture
async def start(nursery):
    """Start a plane: ``await start(handlers)``."""

    async def begin(size: int, turn: Turn | None = None) -> Plane:
        plane = Plane(size, turn)
        await nursery.start(plane.pool.run)
        await trio.testing.wait_all_tasks_blocked()
        return plane

    return begin


# When it is run at once, and when not


async def test_it_is_run_at_once_while_a_handler_waits(start):
    plane = await start(1)
    item = plane.request(b"x")
    item.leave_connection()
    plane.channel.hand_over(item)
    assert [(b"x", trio.lowlevel.current_task())] == plane.ran
    assert ([7], [b"x"]) == (plane.released, plane.finished)
    assert item.start_time_ns == item.dequeue_time_ns, "it was never queued"
    assert (1, 0) == (plane.channel.received, plane.channel.statistics().queued)


async def test_its_answer_goes_when_the_handler_has_returned(start):
    plane = await start(1)
    before: list[int] = []

    def handle(item: Request) -> None:
        item.respond(BytesSend(b"ok"))
        before.append(len(plane.responses))

    plane.pool._handle = handle
    plane.hand_over(b"x")
    assert ([0], 1) == (before, len(plane.responses))


async def test_it_is_queued_while_every_handler_is_busy(start):
    plane = await start(1)
    plane.hand_over(WAITS)
    await trio.testing.wait_all_tasks_blocked()
    plane.hand_over(b"x")
    assert [WAITS] == plane.names
    assert plane.channel.statistics().queued == 1
    plane.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [WAITS, b"x"] == plane.names


async def test_it_is_queued_behind_others(start):
    plane = await start(2)
    plane.channel.put(plane.request(b"1"))
    plane.hand_over(b"2")
    assert [] == plane.names
    await trio.testing.wait_all_tasks_blocked()
    assert [b"1", b"2"] == plane.names


async def test_it_is_queued_when_the_turn_is_over(start):
    """One request is begun in every turn, whatever the time: the first that asks."""
    turn = Turn()
    plane = await start(2, turn)
    turn.number, turn.ends_ns, turn.share_ns = 1, 0, 0
    plane.hand_over(b"1", b"2")
    assert [b"1"] == plane.names
    turn.number = 2
    await trio.testing.wait_all_tasks_blocked()
    assert [b"1", b"2"] == plane.names


async def test_it_is_queued_in_a_rest(start):
    turn = Turn()
    plane = await start(2, turn)
    turn.number, turn.is_rest = 1, True
    plane.hand_over(b"1")
    assert [] == plane.names


async def test_it_is_queued_while_nobody_handles_requests():
    plane = Plane(1)
    plane.hand_over(b"1")
    assert [] == plane.names
    assert plane.channel.statistics().queued == 1


async def test_handlers_that_are_too_many_leave_all_the_same(start):
    """They do so after a request of their own, which nobody must take from them for ever."""
    plane = await start(4)
    plane.pool.resize(1)
    for _ in range(4):
        plane.hand_over(b"x")
        await trio.testing.wait_all_tasks_blocked()
    assert plane.pool.statistics().idle == 1
    plane.hand_over(WAITS, WAITS)
    await trio.testing.wait_all_tasks_blocked()
    assert [WAITS] == plane.names[4:]


# What has to wait


async def test_a_handler_goes_on_with_what_has_to_wait(start):
    plane = await start(2)
    plane.hand_over(WAITS)
    assert [] == plane.names
    await trio.testing.wait_all_tasks_blocked()
    ((_, task),) = plane.ran
    assert task.name == "request handler"
    assert (1, 1) == (plane.pool.statistics().idle, plane.pool.statistics().running)
    assert [] == plane.released
    plane.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [7] == plane.released
    assert plane.pool.statistics().idle == 2


async def test_no_more_wait_than_there_are_handlers(start):
    plane = await start(2)
    plane.hand_over(WAITS, WAITS, WAITS, WAITS, WAITS)
    assert plane.channel.statistics().queued + plane.channel.statistics().waiting == 3
    await trio.testing.wait_all_tasks_blocked()
    assert [WAITS] * 2 == plane.names
    plane.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [WAITS] * 5 == plane.names


async def test_a_handler_called_for_a_queued_request_goes_on_with_the_earlier_one(start):
    """A single handler, which is called while its place is taken, and then has two to do."""
    plane = await start(1)
    usual = plane.handle

    def handle(item: Request):
        if item.payload == WAITS:
            plane.channel.put(plane.request(b"later"))
        return usual(item)

    plane.pool._handle = handle
    plane.hand_over(WAITS)
    await trio.testing.wait_all_tasks_blocked()
    assert [WAITS] == plane.names
    plane.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [WAITS, b"later"] == plane.names


async def test_what_was_begun_goes_on_although_the_turn_is_over(start):
    """Also if the handler that is called was waiting for another turn."""
    turn = Turn()
    plane = await start(2, turn)
    plane.hand_over(WAITS)
    await trio.testing.wait_all_tasks_blocked()
    turn.number, turn.ends_ns, turn.share_ns = 1, 0, 0
    for payload in (b"x", b"y"):
        plane.channel.put(plane.request(payload))
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    assert plane.channel.is_awaited, "one handler waits for the next turn"
    plane.gate.set()
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    assert plane.pool.statistics().idle == 1, "and the other for being called"
    plane.gate = trio.Event()
    turn.number = 2
    await trio.testing.wait_all_tasks_blocked()
    assert plane.pool.statistics().idle == 2
    turn.number = 3
    plane.hand_over(WAITS)
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    assert [WAITS, b"x", b"y", WAITS] == plane.names
    turn.number = 4


async def test_an_answer_before_the_wait_goes_at_once(start):
    plane = await start(1)
    usual = plane.handle

    def handle(item: Request):
        rest = usual(item)
        item.respond_nothing()
        return rest

    plane.pool._handle = handle
    plane.hand_over(WAITS)
    assert len(plane.responses) == 1


async def test_a_handler_that_is_cancelled_waits_no_more_although_it_has_not_run_yet():
    plane = Plane(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.pool.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        plane.hand_over(b"x")
        assert not plane.channel.is_empty
    assert [] == plane.ran


async def test_what_nobody_goes_on_with_is_closed():
    """The plane is cancelled by the very handler: no coroutine is left that was never awaited."""
    plane = Plane(1)
    item = plane.request(WAITS)
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.pool.run)
        await trio.testing.wait_all_tasks_blocked()
        usual = plane.handle

        def handle(item: Request):
            nursery.cancel_scope.cancel()
            return usual(item)

        plane.pool._handle = handle
        item.leave_connection()
        plane.channel.hand_over(item)
        assert [] == plane.finished
    assert [] == plane.names
    assert ([7], [WAITS]) == (plane.released, plane.finished)


# Failures


async def test_a_failure_of_the_handler_closes_its_connection_and_nothing_else(start):
    plane = await start(1)
    plane.pool._handle = lambda item: 1 / 0
    plane.hand_over(b"1", b"2")
    causes = [response.cause for response in plane.responses]
    assert [DisconnectCause.HANDLER_FAILED] * 2 == causes
    assert plane.pool.statistics().idle == 1


async def test_what_must_stop_the_server_comes_out_where_it_was_handed_over(start):
    plane = await start(1)

    def handle(item: Request) -> None:
        raise FatalExitError("broken")

    plane.pool._handle = handle
    with pytest.raises(FatalExitError):
        plane.hand_over(b"1")
    assert plane.pool.statistics().idle == 1


async def test_a_fatal_error_in_a_request_that_was_handed_over_stops_the_server(connect):
    def handle(item: Request) -> bytes:
        raise FatalExitError("broken")

    server = SocketServer(
        [ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)],
        handle=answering(handle),
        config=SocketServerConfig(num_network_threads=1),
    )
    with pytest.RaisesGroup(FatalExitError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            client = await connect(server.bound_port())
            await client.send(b"x")


# Whose time it is


async def test_the_place_is_not_idle_while_it_is_taken(start, monkeypatch):
    clock = [1000]
    monkeypatch.setattr("trio_kafka_net.network.handler_pool.perf_counter_ns", lambda: clock[0])
    plane = await start(3)
    during: list[object] = []

    def handle(item: Request) -> None:
        clock[0] += 300
        during.append(plane.pool.statistics())
        item.respond(BytesSend(b""))

    plane.pool._handle = handle
    before = plane.pool.statistics()
    item = plane.request(b"x")
    clock[0] += 50
    item.start_time_ns = clock[0]
    plane.channel.hand_over(item)
    after = plane.pool.statistics()
    assert [(2, 1)] == [(then.idle, then.running) for then in during]
    assert (3, 0) == (after.idle, after.running)
    assert 3 * 50 + 2 * 300 == during[0].idle_time_ns - before.idle_time_ns
    assert 3 * 50 + 2 * 300 == after.idle_time_ns - before.idle_time_ns
    plane.gate.set()


async def test_a_handlers_time_is_not_the_processors(serve, connect, monkeypatch):
    clock = [1]
    for module in ("processor", "responder", "request_channel", "handler_pool"):
        monkeypatch.setattr(f"trio_kafka_net.network.{module}.perf_counter_ns", lambda: clock[0])

    def handle(item: Request) -> bytes:
        clock[0] += 1_000_000
        return b""

    server = await serve(handle)
    client = await connect(server.bound_port())
    await client.ask(b"x")
    await trio.testing.wait_all_tasks_blocked()
    (processor,) = server.data_plane.processors
    assert processor.statistics().busy_time_ns == 0
    assert server.data_plane.request_channel.run_time_ns == 1_000_000


# In the middle of a pass


async def test_no_request_is_run_inside_of_another(serve, dial):
    """Memory that a handler gives back lets a connection read; what it reads has to wait."""
    depths: list[int] = []
    open_handlers: list[Request] = []

    def handle(item: Request) -> bytes:
        open_handlers.append(item)
        depths.append(len(open_handlers))
        item.release_memory()
        open_handlers.pop()
        return b"done"

    server = await serve(handle, num_io_threads=1, queued_max_request_bytes=100)
    first, second = dial(server.bound_port()), dial(server.bound_port())
    first.socket.send(struct.pack(">i", 100) + b"x")
    await trio.testing.wait_all_tasks_blocked()
    second.ask(b"y" * 100)
    await trio.testing.wait_all_tasks_blocked()
    assert server.data_plane.memory_pool.waiting == 1
    first.socket.send(b"x" * 99)
    await trio.testing.wait_all_tasks_blocked()
    assert [b"done"] * 2 == [first.answer(), second.answer()]
    assert [1, 1] == depths


async def test_a_handler_may_close_connections_of_the_same_pass(serve, dial, caplog):
    """Its own, and one that is reported but not served yet."""
    connections: list[object] = []

    def handle(item: Request) -> bytes:
        if item.payload == b"hello":
            connections.append(item.connection)
            return b"hello"
        for connection in connections:
            connection.evict()
        return b"gone"

    server = await serve(handle)
    clients = [dial(server.bound_port()) for _ in range(3)]
    for client in clients:
        client.ask(b"hello")
        await trio.testing.wait_all_tasks_blocked()
        assert client.answer() == b"hello"
    stranger = dial(server.bound_port())
    await trio.testing.wait_all_tasks_blocked()
    for client in clients:
        client.ask(b"close")
    stranger.ask(b"hello")
    await trio.testing.wait_all_tasks_blocked()
    assert stranger.answer() == b"hello"
    (processor,) = server.data_plane.processors
    assert processor.connection_count == 1
    assert server.data_plane.request_channel.received == 5
    assert "failed" not in caplog.text


async def test_a_peer_that_pipelines_neither_recurses_nor_holds_up_others(serve, dial, monkeypatch):
    """Each request that is in its buffer already takes its turn in the queue."""
    order: list[bytes] = []

    def handle(item: Request) -> bytes:
        order.append(bytes(item.payload))
        return b"."

    server = await serve(handle, num_io_threads=1)
    plane = server.data_plane
    (processor,) = plane.processors
    allocate = plane.memory_pool.try_allocate
    monkeypatch.setattr(processor, "_new_receive", lambda: LineReceive(100, allocate))
    greedy, modest = dial(server.bound_port()), dial(server.bound_port())
    await trio.testing.wait_all_tasks_blocked()
    greedy.socket.send(b"x\n" * 2000)
    modest.socket.send(b"y\n")
    await trio.testing.wait_all_tasks_blocked()
    assert 2001 == len(order)
    assert b"y" in order[:3]


# Both ways give the same bytes


def converse(kinds: list[list[str]], *, may_run: bool) -> list[bytes]:
    """What connections get that ask for ``kinds``, with requests run at once or queued."""

    async def wait(item: Request) -> None:
        await trio.lowlevel.checkpoint()
        item.respond(BytesSend(b"late" + bytes(item.payload)))

    def handle(item: Request):
        kind = bytes(item.payload).partition(b" ")[0].decode()
        if kind == "wait":
            return wait(item)
        if kind == "fail":
            raise ValueError
        if kind == "close":
            item.close_connection()
        elif kind == "nothing":
            item.respond_nothing()
        elif kind == "answer":
            item.respond(BytesSend(item.payload))
        return None

    async def main() -> list[bytes]:
        channel = RequestChannel(2)
        pool = RequestHandlerPool(channel, handle, 2)
        if not may_run:
            channel.may_run = lambda now_ns: False
        processor = Processor(
            0,
            listener_name="PLAINTEXT",
            is_privileged=False,
            request_channel=channel,
            memory_pool=MemoryPool(-1),
            max_frame_bytes=1000,
            selector=Selector(FakePoller()),
        )
        wires = []
        for fd, asked in enumerate(kinds):
            wire = Wire()
            wire.fd, wire.room = fd, 10_000
            for number, kind in enumerate(asked):
                payload = b"%s %d" % (kind.encode(), number)
                wire.inbound += struct.pack(">i", len(payload)) + payload
            wires.append(wire)
            slot = SimpleNamespace(release=lambda: None)
            processor._register_at(NewConnection(wire, slot, ("a", 1), ("b", 2)), now=0.0)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            while True:
                await trio.testing.wait_all_tasks_blocked()
                interest = processor._set.selector._poller.registered
                ready = [
                    (wire.fd, READABLE)
                    for wire in wires
                    if wire.inbound and interest.get(wire.fd, 0) & READABLE
                ]
                if not ready:
                    break
                processor._serve_ready(ready)
            nursery.cancel_scope.cancel()
        return [bytes(wire.outbound) for wire in wires]

    return trio.run(main)


KINDS = st.sampled_from(["answer", "answer", "wait", "nothing", "close", "fail", "silent"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(KINDS, max_size=5), min_size=1, max_size=4))
def test_requests_that_are_run_at_once_get_what_queued_ones_get(kinds):
    assert converse(kinds, may_run=False) == converse(kinds, may_run=True)
