"""Delays end in order, once, not before their time, and leave nothing behind."""

from types import SimpleNamespace

import pytest
import trio.testing

from trio_kafka_net.broker.throttler import Throttler


class FakeRequest:
    """Remembers what it was told, and when."""

    def __init__(self, told=None):
        self.connection = SimpleNamespace(is_open=True)
        self.told = [] if told is None else told

    def start_throttling(self):
        self.told.append(("start", self))

    def end_throttling(self):
        self.told.append(("end", self))


@pytest.fixture
async def throttler(nursery, mock_clock):
    made = Throttler()
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    return made


async def jump(mock_clock, seconds):
    mock_clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_connection_is_held_back_for_its_delay(throttler, mock_clock):
    """TQ-01, TQ-02."""
    request = FakeRequest()
    throttler.throttle(request, 1000, "Produce")
    await jump(mock_clock, 0.999)
    assert request.told == [("start", request)]
    assert throttler.waiting == {"Produce": 1}
    await jump(mock_clock, 0.001)
    assert request.told == [("start", request), ("end", request)]
    assert throttler.waiting == {}
    await jump(mock_clock, 60)
    assert len(request.told) == 2


async def test_delays_end_in_the_order_of_their_deadlines(throttler, mock_clock):
    """TQ-01, TQ-02."""
    told = []
    requests = {delay: FakeRequest(told) for delay in (300, 100, 200)}
    for delay, request in requests.items():
        throttler.throttle(request, delay, "Fetch" if delay == 300 else "Request")
    assert throttler.waiting == {"Fetch": 1, "Request": 2}
    await jump(mock_clock, 0.1)
    assert throttler.waiting == {"Fetch": 1, "Request": 1}
    await jump(mock_clock, 1)

    assert [request for what, request in told if what == "end"] == [
        requests[100],
        requests[200],
        requests[300],
    ]


async def test_sooner_deadline_is_not_waited_behind_a_later_one(throttler, mock_clock):
    long, short = FakeRequest(), FakeRequest()
    throttler.throttle(long, 10**15, "Produce")
    await trio.testing.wait_all_tasks_blocked()
    throttler.throttle(short, 10, "Produce")
    await jump(mock_clock, 0.01)

    assert [what for what, _ in short.told] == ["start", "end"]
    assert [what for what, _ in long.told] == ["start"]


async def test_connection_that_is_gone_is_not_told(throttler, mock_clock):
    gone, leaving = FakeRequest(), FakeRequest()
    gone.connection.is_open = False
    throttler.throttle(gone, 10, "Produce")
    throttler.throttle(leaving, 10, "Produce")
    leaving.connection.is_open = False
    assert throttler.waiting == {}
    await jump(mock_clock, 1)

    assert gone.told == []
    assert leaving.told == [("start", leaving)]


async def test_connections_that_are_gone_are_not_kept(throttler):
    """Delays may be days; whoever reconnects all the time must not fill the memory with them."""
    staying = [FakeRequest() for _ in range(10)]
    for request in staying:
        throttler.throttle(request, 10**9, "Produce")
    for _ in range(10_000):
        request = FakeRequest()
        throttler.throttle(request, 10**9, "Produce")
        request.connection.is_open = False

    assert throttler.waiting == {"Produce": 10}
    assert len(throttler._heap) <= 64


async def test_many_delays_end(throttler, mock_clock):
    requests = [FakeRequest() for _ in range(1000)]
    for number, request in enumerate(requests):
        throttler.throttle(request, 1 + number % 7, "Produce")
    await jump(mock_clock, 0.1)

    assert all([what for what, _ in request.told] == ["start", "end"] for request in requests)
