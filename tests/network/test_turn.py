"""Work is bounded per turn of the event loop, and goes on in the next one."""

from __future__ import annotations

import itertools
import math
import struct
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from trio_kafka_net.network import turn as turn_module
from trio_kafka_net.network.connection import NewConnection
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.memory_pool import MemoryPool
from trio_kafka_net.network.processor import Processor
from trio_kafka_net.network.request_channel import Request, RequestChannel, SendResponse
from trio_kafka_net.network.selector import READABLE, Selector
from trio_kafka_net.network.turn import (
    CONTROL_PLANE_TURN_NS,
    DATA_PLANE_TURN_NS,
    REST_NS,
    REST_TURNS,
    Turn,
)

from .test_interleavings import FakePoller, Wire

OVER = 0
"""A budget with which every turn is over when it begins."""


@pytest.fixture
async def turn():
    """A turn that is over at once, on the event loop of the test."""
    ended = Turn(OVER)
    trio.lowlevel.add_instrument(ended)
    yield ended
    trio.lowlevel.remove_instrument(ended)


def requests(count: int, processor) -> list[Request]:
    connection = SimpleNamespace(
        connection_id="a", processor=processor, peer_gone=False, is_open=True
    )
    return [Request(connection, memoryview(b"%d" % number)) for number in range(count)]


def test_a_turn_that_is_not_added_never_ends():
    assert math.inf == Turn(OVER).ends_ns


async def test_every_look_at_the_sockets_begins_a_turn(turn):
    first, ends_ns = turn.number, turn.ends_ns
    await trio.lowlevel.checkpoint()
    assert first + 1 == turn.number
    assert ends_ns < turn.ends_ns


async def test_handlers_together_run_one_request_in_a_turn_that_is_over(turn, nursery):
    """However many there are, and none of them starves: the queue is emptied in its order."""
    ran: list[tuple[int, bytes]] = []

    def handle(request: Request) -> None:
        ran.append((turn.number, bytes(request.payload)))
        request.respond(BytesSend(b""))

    channel = RequestChannel(100)
    processor = SimpleNamespace(enqueue_response=lambda response: None)
    for request in requests(20, processor):
        channel.put(request)
    pool = RequestHandlerPool(channel, handle, 4, turn)
    await nursery.start(pool.run)
    await trio.testing.wait_all_tasks_blocked()
    assert [b"%d" % number for number in range(20)] == [payload for _, payload in ran]
    assert 20 == len({number for number, _ in ran})
    assert 4 == pool.statistics().idle


async def test_a_handler_that_waits_for_another_turn_can_be_cancelled(turn):
    """It has no request in its hands then: all but the first are still in the queue."""
    channel = RequestChannel(100)
    processor = SimpleNamespace(enqueue_response=lambda response: None)
    for request in requests(3, processor):
        channel.put(request)

    def handle(request: Request) -> None:
        request.respond(BytesSend(b""))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(RequestHandlerPool(channel, handle, 2, turn).run)
    assert 2 == channel.statistics().queued


def a_processor(queued: list, turn: Turn) -> Processor:
    return Processor(
        0,
        listener_name="PLAINTEXT",
        is_privileged=False,
        request_channel=SimpleNamespace(hand_over=queued.append, put=queued.append),
        memory_pool=MemoryPool(-1),
        max_frame_bytes=1000,
        turn=turn,
        selector=Selector(FakePoller()),
    )


def test_a_pass_ends_with_the_turn_and_leaves_the_rest_for_the_next():
    queued: list[Request] = []
    turn = Turn()
    processor = a_processor(queued, turn)
    for fd in (1, 2, 3):
        wire = Wire()
        wire.fd = fd
        wire.inbound += struct.pack(">i", 60) + bytes([fd]) * 60
        slot = SimpleNamespace(release=lambda: None)
        processor._register_at(NewConnection(wire, slot, ("a", 1), ("b", 2)), now=0.0)
    turn.ends_ns, turn.share_ns = OVER, 0
    processor._serve_ready([(fd, READABLE) for fd in (1, 2, 3)])
    assert [1] == [request.payload[0] for request in queued]
    assert [2, 3] == [fd for fd, _ in processor._unserved]
    turn.ends_ns = math.inf
    processor._serve_ready(processor._unserved)
    assert [1, 2, 3] == [request.payload[0] for request in queued]


def test_whoever_comes_late_in_a_turn_still_has_a_share_of_it(monkeypatch):
    """Or what always runs second would serve one connection per turn, and its clients wait."""
    clock = [0]
    monkeypatch.setattr(turn_module, "perf_counter_ns", lambda: clock[0])
    turn = Turn(800)
    turn.after_io_wait(0)
    assert 800 == turn.end_for(0) == turn.end_for(700)
    assert 1000 == turn.end_for(900)
    clock[0] = 5000
    turn.after_io_wait(0)
    assert 5800 == turn.end_for(5000)


def test_nobody_has_a_share_while_others_are_more_urgent():
    turn = Turn(800, lambda: True)
    turn.after_io_wait(0)
    assert turn.ends_ns == turn.end_for(0)
    assert turn.ends_ns + 5 == turn.end_for(int(turn.ends_ns) + 5), "no longer than it takes to ask"


async def test_one_handler_waits_for_the_next_turn_and_the_others_sleep(turn, nursery):
    ran: list[int] = []
    channel = RequestChannel(100)

    def handle(request: Request) -> None:
        ran.append(pool.statistics().idle)
        request.respond(BytesSend(b""))

    pool = RequestHandlerPool(channel, handle, 4, turn)
    await nursery.start(pool.run)
    await trio.testing.wait_all_tasks_blocked()
    for request in requests(10, SimpleNamespace(enqueue_response=lambda response: None)):
        channel.put(request)
    await trio.testing.wait_all_tasks_blocked()
    assert [3] * 10 == ran


async def test_a_handler_that_waits_in_the_middle_leaves_the_next_turn_to_another(turn, nursery):
    gate = trio.Event()
    ran: list[bytes] = []
    channel = RequestChannel(100)

    async def wait(request: Request) -> None:
        await gate.wait()
        request.respond(BytesSend(b""))

    def handle(request: Request):
        ran.append(bytes(request.payload))
        if len(ran) % 2:
            return wait(request)
        request.respond(BytesSend(b""))
        return None

    await nursery.start(RequestHandlerPool(channel, handle, 4, turn).run)
    for request in requests(6, SimpleNamespace(enqueue_response=lambda response: None)):
        channel.put(request)
    await trio.testing.wait_all_tasks_blocked()
    assert [b"%d" % number for number in range(6)] == ran
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert 0 == channel.statistics().queued


async def test_a_processor_takes_one_response_in_a_turn_that_is_over(turn, nursery, monkeypatch):
    taken: list[tuple[int, bytes]] = []
    processor = a_processor([], turn)
    monkeypatch.setattr(
        processor,
        "_apply",
        lambda response, now_ns: taken.append((turn.number, bytes(response.request.payload))),
    )
    for request in requests(10, processor):
        processor.enqueue_response(SendResponse(request, BytesSend(b"")))
    nursery.start_soon(processor._take_responses)
    await trio.testing.wait_all_tasks_blocked()
    assert [b"%d" % number for number in range(10)] == [payload for _, payload in taken]
    assert 10 == len({number for number, _ in taken})
    nursery.cancel_scope.cancel()


# While somebody more urgent is at work


@pytest.fixture
async def giving_way(monkeypatch):
    """A turn that somebody else always needs, whatever the time of day."""
    monkeypatch.setattr(turn_module, "REST_NS", math.inf)
    turn = Turn(OVER, lambda: True)
    trio.lowlevel.add_instrument(turn)
    yield turn
    trio.lowlevel.remove_instrument(turn)


def distances(numbers: list[int]) -> set[int]:
    return {later - earlier for earlier, later in itertools.pairwise(numbers)}


async def test_handlers_rest_for_seven_turns_and_run_one_request(giving_way, nursery):
    ran: list[int] = []

    def handle(request: Request) -> None:
        ran.append(giving_way.number)
        request.respond(BytesSend(b""))

    channel = RequestChannel(100)
    for request in requests(5, SimpleNamespace(enqueue_response=lambda response: None)):
        channel.put(request)
    await nursery.start(RequestHandlerPool(channel, handle, 4, giving_way).run)
    await trio.testing.wait_all_tasks_blocked()
    assert (5, {REST_TURNS + 1}) == (len(ran), distances(ran))


async def test_a_processor_rests_for_seven_turns_and_takes_one_response(
    giving_way, nursery, monkeypatch
):
    taken: list[int] = []
    processor = a_processor([], giving_way)
    monkeypatch.setattr(processor, "_apply", lambda response, _: taken.append(giving_way.number))
    for request in requests(5, processor):
        processor.enqueue_response(SendResponse(request, BytesSend(b"")))
    nursery.start_soon(processor._take_responses)
    await trio.testing.wait_all_tasks_blocked()
    assert (5, {REST_TURNS + 1}) == (len(taken), distances(taken))
    nursery.cancel_scope.cancel()


async def test_a_response_that_is_held_in_a_rest_is_not_lost_when_the_processor_ends(monkeypatch):
    taken: list[bytes] = []
    turn = Turn()
    turn.is_rest, turn.ends_ns = True, OVER
    processor = a_processor([], turn)
    monkeypatch.setattr(
        processor, "_apply", lambda response, _: taken.append(bytes(response.request.payload))
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(processor._take_responses)
        await trio.testing.wait_all_tasks_blocked()
        processor.enqueue_response(SendResponse(requests(1, processor)[0], BytesSend(b"")))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()
        assert [] == taken
        turn.is_rest = False
    assert [b"0"] == taken


def test_a_rest_ends_when_the_others_make_turns_long(monkeypatch):
    clock = [0]
    monkeypatch.setattr(turn_module, "perf_counter_ns", lambda: clock[0])
    turn = Turn(OVER, lambda: True)
    rests = []
    for _ in range(6):
        turn.after_io_wait(0)
        rests.append(turn.is_rest)
        clock[0] += REST_NS
    assert [True, False] * 3 == rests


def test_nobody_rests_for_nobody(monkeypatch):
    monkeypatch.setattr(turn_module, "REST_NS", math.inf)
    is_urgent = [False, False, True, True, False, False]
    turn = Turn(1, lambda: is_urgent.pop(0))
    rests = []
    while is_urgent:
        turn.after_io_wait(0)
        rests.append(turn.is_rest)
    assert [False, False, True, True, False, False] == rests


async def test_the_data_plane_gives_way_from_the_first_byte_to_the_end_of_a_request(serve, dial):
    gate = trio.Event()

    async def control(request: Request) -> bytes:
        await gate.wait()
        return b"done"

    server = await serve(lambda request: b"", control=control)
    plane = server.control_plane
    admin = dial(server.bound_port("CONTROLLER"))
    await trio.testing.wait_all_tasks_blocked()
    assert not plane.is_at_work()

    admin.ask(b"x")
    assert plane.is_at_work()  # before anybody has read it
    await trio.testing.wait_all_tasks_blocked()
    assert plane.is_at_work()

    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not plane.is_at_work()
    assert server.data_plane._turn._must_give_way == plane.is_at_work


async def test_the_data_plane_does_not_give_way_for_long_to_a_request_that_only_waits(serve, dial):
    async def control(request: Request) -> bytes:
        await trio.sleep_forever()

    server = await serve(lambda request: b"", control=control)
    plane = server.control_plane
    asks = 0
    for _ in range(2):
        dial(server.bound_port("CONTROLLER")).ask(b"x")
        await trio.testing.wait_all_tasks_blocked()
        while plane.is_at_work():
            asks += 1
            assert asks < 1000
    assert 0 < asks


async def test_a_server_bounds_turns_for_as_long_as_it_runs(serve):
    """The control plane may go on when the data plane has stopped."""
    server = await serve(lambda request: b"", control=lambda request: b"")
    turns = [plane._turn for plane in server.planes]
    await trio.lowlevel.checkpoint()
    assert DATA_PLANE_TURN_NS < CONTROL_PLANE_TURN_NS
    assert all(turn.number for turn in turns)
    assert turns[0].ends_ns > turns[1].ends_ns
    for plane, turn in zip(server.planes, turns, strict=True):
        users = [plane.handler_pool, *plane.processors]
        assert {turn} == {user._turn for user in users}
    await server.stop()
    await trio.testing.wait_all_tasks_blocked()
    for turn in turns:
        with pytest.raises(KeyError):
            trio.lowlevel.remove_instrument(turn)


@pytest.mark.parametrize("budget_ns", [OVER, math.inf])
async def test_pipelined_requests_are_served_whatever_a_turn_holds(
    serve, connect, monkeypatch, budget_ns
):
    """G5: in their order, from more connections than there are handlers."""
    monkeypatch.setattr("trio_kafka_net.network.socket_server.DATA_PLANE_TURN_NS", budget_ns)
    server = await serve(lambda request: request.payload, num_io_threads=2, num_network_threads=2)
    clients = [await connect(server.bound_port()) for _ in range(5)]
    for client in clients:
        await client.send(*(b"%d" % number for number in range(20)))
    for client in clients:
        assert [b"%d" % number for number in range(20)] == [
            await client.receive() for _ in range(20)
        ]
