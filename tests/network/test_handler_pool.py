from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
import trio.testing

from trio_kafka_net.errors import CloseConnection, FatalExitError
from trio_kafka_net.network.connection import DisconnectCause
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.request_channel import (
    CloseConnectionResponse,
    Request,
    RequestChannel,
    SendResponse,
)


def request(payload: bytes = b"") -> tuple[Request, list]:
    """A request of a connection that only collects responses."""
    responses: list = []
    processor = SimpleNamespace(enqueue_response=responses.append)
    connection = SimpleNamespace(
        connection_id="a", processor=processor, peer_gone=False, is_open=True
    )
    return Request(connection, memoryview(payload)), responses


def answer(item: Request) -> None:
    item.respond(BytesSend(b"ok"))


async def test_parked_handlers_do_not_hold_up_others(nursery, autojump_clock):
    """Eight long polls in a pool of eight, and a trivial request is answered at once."""
    channel = RequestChannel(500)

    def handle(item: Request):
        if item.payload == b"poll":
            return poll(item)
        return answer(item)

    async def poll(item: Request) -> None:
        async with pool.parked(item, "Fetch"):
            await trio.sleep(30)
        answer(item)

    pool = RequestHandlerPool(channel, handle, 8)
    await nursery.start(pool.run)
    polls = [request(b"poll") for _ in range(50)]
    for item, _ in polls:
        channel.put(item)
    quick, responses = request(b"quick")
    channel.put(quick)
    await trio.testing.wait_all_tasks_blocked()
    assert 1 == len(responses)
    assert {"Fetch": 50} == pool.statistics().parked
    assert 8 == pool.statistics().idle
    await trio.sleep(31)
    assert all(len(responses) == 1 for _, responses in polls)
    assert {} == pool.statistics().parked

    for _ in range(60):  # surplus handlers leave as they come to a request
        channel.put(request()[0])
    await trio.testing.wait_all_tasks_blocked()
    assert 8 == pool.statistics().idle


@pytest.mark.parametrize(
    ("handle", "cause"),
    [
        (lambda item: 1 / 0, DisconnectCause.HANDLER_FAILED),
        (lambda item: None, DisconnectCause.HANDLER_FAILED),
        (lambda item: raise_(CloseConnection("enough")), DisconnectCause.HANDLER),
    ],
    ids=["raises", "answers nothing", "closes"],
)
async def test_a_request_ends_once_whatever_its_handler_does(nursery, handle, cause):
    """RH-06: the handler survives, the payload's memory is released."""
    channel = RequestChannel(10)
    pool = RequestHandlerPool(channel, handle, 1)
    await nursery.start(pool.run)
    released = []
    for _ in range(2):
        item, responses = request()
        item.pool, item.pool_bytes = SimpleNamespace(release=released.append), 7
        channel.put(item)
        await trio.testing.wait_all_tasks_blocked()
        (response,) = responses
        assert isinstance(response, CloseConnectionResponse)
        assert cause is response.cause
    assert [7, 7] == released


def raise_(error: BaseException) -> None:
    raise error


async def test_a_handler_that_fails_after_its_answer_changes_nothing(nursery):
    def handle(item: Request) -> None:
        answer(item)
        raise ValueError

    channel = RequestChannel(10)
    await nursery.start(RequestHandlerPool(channel, handle, 1).run)
    item, responses = request()
    channel.put(item)
    await trio.testing.wait_all_tasks_blocked()
    assert [SendResponse] == [type(response) for response in responses]


async def test_fatal_exit_error_stops_the_pool():
    """RH-07."""
    channel = RequestChannel(10)
    pool = RequestHandlerPool(channel, lambda item: raise_(FatalExitError("broken")), 2)
    channel.put(request()[0])
    with pytest.RaisesGroup(FatalExitError):
        await pool.run()


async def test_a_parked_request_of_a_vanished_client_is_cancelled(nursery):
    channel = RequestChannel(10)

    async def poll(item: Request) -> None:
        async with pool.parked(item, "Fetch"):
            await trio.sleep_forever()

    pool = RequestHandlerPool(channel, poll, 1)
    await nursery.start(pool.run)
    item, responses = request()
    channel.put(item)
    await trio.testing.wait_all_tasks_blocked()
    item.parked_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert [CloseConnectionResponse] == [type(response) for response in responses]
    assert {} == pool.statistics().parked


async def test_parking_for_a_client_that_is_gone_already_does_not_wait(nursery):
    channel = RequestChannel(10)

    async def poll(item: Request) -> None:
        item.connection.peer_gone = True
        async with pool.parked(item, "Fetch"):
            await trio.sleep_forever()

    pool = RequestHandlerPool(channel, poll, 1)
    await nursery.start(pool.run)
    item, responses = request()
    channel.put(item)
    await trio.testing.wait_all_tasks_blocked()
    assert [CloseConnectionResponse] == [type(response) for response in responses]


async def test_one_handler_does_not_take_requests_it_cannot_run_yet(nursery):
    """Two handlers, the first one waits (without parking): the second runs everything else."""
    gate = trio.Event()

    async def wait(item: Request) -> None:
        await gate.wait()
        answer(item)

    def handle(item: Request):
        return wait(item) if item.payload == b"wait" else answer(item)

    channel = RequestChannel(100)
    await nursery.start(RequestHandlerPool(channel, handle, 2).run)
    channel.put(request(b"wait")[0])
    others = [request() for _ in range(50)]
    for item, _ in others:
        channel.put(item)
    await trio.testing.wait_all_tasks_blocked()
    assert all(responses for _, responses in others)
    gate.set()


async def test_one_handler_is_woken_for_many_requests_and_calls_others_when_it_waits(nursery):
    """All that came before it ran, in their order, and none is left to a handler that waits."""
    channel = RequestChannel(2)
    ran: list[tuple[bytes, object]] = []
    gate = trio.Event()

    def handle(item: Request):
        ran.append((bytes(item.payload), trio.lowlevel.current_task()))
        return wait(item) if item.payload == b"wait" else answer(item)

    async def wait(item: Request) -> None:
        await gate.wait()
        answer(item)

    pool = RequestHandlerPool(channel, handle, 4)
    await nursery.start(pool.run)
    await trio.testing.wait_all_tasks_blocked()
    for payload in (b"1", b"2", b"wait", b"3", b"wait", b"4"):
        channel.put(request(payload)[0])
    await trio.testing.wait_all_tasks_blocked()
    assert [b"1", b"2", b"wait", b"3", b"wait", b"4"] == [payload for payload, _ in ran]
    first, second, third = dict.fromkeys(task for _, task in ran)
    assert [first, first, first, second, second, third] == [task for _, task in ran]
    assert (2, 2) == (pool.statistics().idle, pool.statistics().running)
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert 4 == pool.statistics().idle
