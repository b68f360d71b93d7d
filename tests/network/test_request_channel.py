from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import pytest
import trio

from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.memory_pool import MemoryPool
from trio_kafka_net.network.request_channel import Request, RequestChannel


def request(number: int = 0) -> Request:
    processor = SimpleNamespace(enqueue_response=lambda response: None)
    connection = SimpleNamespace(connection_id=str(number), processor=processor)
    return Request(connection, memoryview(b""))


async def test_a_full_channel_keeps_the_order_of_arrival():
    """GX-01: nobody blocks, and whoever found no room is queued first when there is."""
    channel = RequestChannel(3)
    requests = [request(n) for n in range(10)]
    for item in requests[:8]:
        channel.put(item)
    statistics = channel.statistics()
    assert (3, 5) == (statistics.queued, statistics.waiting)
    taken = [channel.get_nowait() for _ in range(4)]
    for item in requests[8:]:
        channel.put(item)
    taken += [channel.get_nowait() for _ in range(6)]
    assert requests == taken
    with pytest.raises(trio.WouldBlock):
        channel.get_nowait()
    assert 0 == channel.statistics().waiting


@pytest.mark.parametrize("first", ["respond", "respond_nothing", "close_connection"])
@pytest.mark.parametrize("second", ["respond", "respond_nothing", "close_connection"])
def test_a_request_is_answered_once(first, second):
    """KC-01, SEL-02: a second send for the same request is an error of the caller."""
    subject = request()
    finish = {
        "respond": lambda: subject.respond(BytesSend(b"")),
        "respond_nothing": subject.respond_nothing,
        "close_connection": subject.close_connection,
    }
    finish[first]()
    assert subject.is_answered
    with pytest.raises(LocalProtocolError, match="answered already"):
        finish[second]()


STEPS = ("answer", "leave_handlers", "leave_connection")


@pytest.mark.parametrize("is_queued", [True, False])
@pytest.mark.parametrize("order", sorted(set(permutations(STEPS * 2, 4))), ids=" ".join)
async def test_a_request_finishes_once_in_whatever_order_it_is_let_go(order, is_queued):
    """GX-10: when handlers and connection are both done with it, and never again."""
    finished: list[Request] = []
    channel = RequestChannel(1, finished.append)
    subject = request()
    if is_queued:
        channel.put(subject)
    for number, step in enumerate(order, 1):
        if step == "answer":
            if not subject.is_answered:
                subject.respond_nothing()
        else:
            getattr(subject, step)()
        is_over = is_queued and {"leave_handlers", "leave_connection"} <= set(order[:number])
        assert [subject] * is_over == finished


async def test_clearing_the_channel_finishes_what_is_in_it_and_beside_it():
    """Difference 15: requests that nobody will handle are reported all the same."""
    finished: list[Request] = []
    channel = RequestChannel(2, finished.append)
    requests = [request(number) for number in range(5)]
    for item in requests:
        channel.put(item)
        item.leave_connection()
    channel.clear()
    assert requests == finished
    assert (0, 0) == (channel.statistics().queued, channel.statistics().waiting)


@pytest.mark.parametrize("is_queued", [True, False])
async def test_memory_is_given_back_once_also_by_a_request_that_was_never_queued(is_queued):
    """GX-06."""
    pool = MemoryPool(100)
    subject = request()
    assert pool.try_allocate(60) is not None
    subject.pool, subject.pool_bytes = pool, 60
    if is_queued:
        RequestChannel(1).put(subject)
        subject.leave_connection()
        assert 60 == pool.used  # its handler still reads it
        subject.leave_handlers()
    subject.leave_connection()
    subject.leave_handlers()
    assert 0 == pool.used
