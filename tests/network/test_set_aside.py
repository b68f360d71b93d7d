"""Requests that wait without a handler: each comes back when it is called, and ends once."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_kafka_net.errors import CloseConnection
from trio_kafka_net.network.connection import DisconnectCause
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.request_channel import (
    CloseConnectionResponse,
    Request,
    RequestChannel,
    SendResponse,
)


class Waiting:
    """A pool whose requests are set aside, and answered when it is said so."""

    def __init__(self, size=1):
        self.finished = Counter()
        self.channel = RequestChannel(500, lambda request: self.finished.update([request]))
        self.pool = RequestHandlerPool(self.channel, self._handle, size)
        self.asides = {}
        self.ready = set()
        self.looks = Counter()
        self.released = []

    def put(self, **connection):
        """Queue a request; returns it, and the list of its responses."""
        responses = []
        processor = SimpleNamespace(enqueue_response=responses.append)
        connection = SimpleNamespace(
            **{
                "connection_id": "a",
                "processor": processor,
                "peer_gone": False,
                "is_open": True,
                **connection,
            }
        )
        request = Request(connection, memoryview(b""))
        request.pool, request.pool_bytes = SimpleNamespace(release=self.released.append), 7
        self.channel.put(request)
        return request, responses

    def _handle(self, request):
        aside = self.pool.set_aside(request, "Fetch", lambda: self._resume(request))
        self.asides[request] = aside
        return aside

    def _resume(self, request):
        self.looks[request] += 1
        if request.connection.peer_gone:
            raise CloseConnection("gone")
        if request in self.ready:
            request.respond(BytesSend(b"ok"))
            return True
        return "forgets" in self.ready


@pytest.fixture
async def waiting(nursery):
    waiting = Waiting()
    await nursery.start(waiting.pool.run)
    return waiting


def parked(waiting):
    return waiting.pool.statistics().parked


async def test_a_request_waits_without_a_handler_until_it_is_called_and_ready(waiting):
    request, responses = waiting.put()
    await wait_all_tasks_blocked()
    assert parked(waiting) == {"Fetch": 1}
    assert (waiting.pool.statistics().idle, waiting.pool.statistics().running) == (1, 0)

    waiting.asides[request].call()
    await wait_all_tasks_blocked()
    assert (waiting.looks[request], responses, parked(waiting)) == (1, [], {"Fetch": 1})

    waiting.ready.add(request)
    for _ in range(3):
        waiting.asides[request].call()
    await wait_all_tasks_blocked()
    assert waiting.looks[request] == 2
    assert [type(response) for response in responses] == [SendResponse]
    assert parked(waiting) == {}
    assert request.parked_scope is None
    assert waiting.released == [7]
    request.leave_connection()
    assert waiting.finished == {request: 1}


async def test_a_late_call_does_nothing(waiting):
    request, responses = waiting.put()
    await wait_all_tasks_blocked()
    waiting.ready.add(request)
    aside = waiting.asides[request]
    aside.call()
    await wait_all_tasks_blocked()
    request.leave_connection()

    aside.call()
    await wait_all_tasks_blocked()

    assert waiting.looks[request] == 1
    assert len(responses) == 1
    assert waiting.finished == {request: 1}
    assert waiting.asides[request] is aside, "its handler was not run again"
    assert parked(waiting) == {}


async def test_a_call_in_the_middle_of_the_answer_does_nothing(waiting):
    """As when what is looked at closes the connection: the request is over, and not run again."""
    request, responses = waiting.put()
    await wait_all_tasks_blocked()
    aside = waiting.asides[request]

    def resume():
        aside.call()
        request.respond(BytesSend(b"ok"))
        return True

    aside.resume = resume
    aside.call()
    await wait_all_tasks_blocked()

    assert waiting.asides[request] is aside
    assert parked(waiting) == {}
    assert len(responses) == 1


async def test_a_call_in_the_middle_of_a_look_is_not_lost(waiting):
    request, _ = waiting.put()
    await wait_all_tasks_blocked()
    aside = waiting.asides[request]
    looks = []

    def resume():
        looks.append(aside)
        if len(looks) == 1:
            aside.call()
        return False

    aside.resume = resume
    aside.call()
    await wait_all_tasks_blocked()

    assert len(looks) == 2
    assert parked(waiting) == {"Fetch": 1}


@pytest.mark.parametrize("gone_before", [True, False])
async def test_a_client_that_goes_away_ends_the_wait(waiting, gone_before):
    request, responses = waiting.put(peer_gone=gone_before)
    await wait_all_tasks_blocked()
    if not gone_before:
        request.connection.peer_gone = True
        request.parked_scope.cancel()
        await wait_all_tasks_blocked()

    (response,) = responses
    assert isinstance(response, CloseConnectionResponse)
    assert response.cause is DisconnectCause.HANDLER
    assert parked(waiting) == {}
    assert waiting.released == [7]


async def test_a_request_that_is_over_without_an_answer_is_closed(waiting):
    request, responses = waiting.put()
    await wait_all_tasks_blocked()
    waiting.ready.add("forgets")

    waiting.asides[request].call()
    await wait_all_tasks_blocked()

    assert [response.cause for response in responses] == [DisconnectCause.HANDLER_FAILED]
    assert parked(waiting) == {}


async def test_a_failure_closes_the_connection_and_spares_the_handler(waiting):
    request, responses = waiting.put()
    await wait_all_tasks_blocked()
    waiting.asides[request].resume = lambda: 1 / 0

    waiting.asides[request].call()
    await wait_all_tasks_blocked()

    assert [response.cause for response in responses] == [DisconnectCause.HANDLER_FAILED]
    assert waiting.pool.statistics().idle == 1


async def test_requests_are_called_in_the_order_of_calls_behind_those_in_the_queue(waiting):
    requests = [waiting.put()[0] for _ in range(3)]
    await wait_all_tasks_blocked()
    resumed = []
    for request in requests:
        waiting.asides[request].resume = lambda request=request: resumed.append(request) or False

    new = waiting.put()[0]
    for request in reversed(requests):
        waiting.asides[request].call()
    await wait_all_tasks_blocked()

    assert resumed == requests[::-1]
    assert new in waiting.asides


async def test_waiting_is_not_the_handlers_time(waiting):
    request, _ = waiting.put()
    await wait_all_tasks_blocked()
    assert request.parked_time_ns == 0

    waiting.ready.add(request)
    waiting.asides[request].call()
    await wait_all_tasks_blocked()

    between = request.local_complete_time_ns - request.dequeue_time_ns
    assert 0 < request.parked_time_ns <= between


async def test_the_end_of_the_plane_ends_whoever_waits():
    """As a plane ends: handlers first, then connections, then what is left in the queue."""
    waiting = Waiting()
    async with trio.open_nursery() as nursery:
        await nursery.start(waiting.pool.run)
        requests = [waiting.put()[0] for _ in range(3)]
        await wait_all_tasks_blocked()
        waiting.asides[requests[0]].call()
        nursery.cancel_scope.cancel()
    for request in requests:
        request.parked_scope.cancel()
        request.leave_connection()
    waiting.channel.clear()

    assert waiting.finished == dict.fromkeys(requests, 1)
    assert waiting.released == [7] * 3


async def test_no_second_handler_is_called_for_what_the_first_comes_back_for(nursery):
    """One request calls a thousand others, and the handler that ran it resumes them."""
    waiting = Waiting(size=2)
    await nursery.start(waiting.pool.run)
    requests = [waiting.put()[0] for _ in range(1000)]
    await wait_all_tasks_blocked()
    tasks = set()
    for request in requests:
        waiting.asides[request].resume = lambda: bool(tasks.add(trio.lowlevel.current_task()))
    caller, _ = waiting.put()
    waiting._resume = lambda request: [waiting.asides[each].call() for each in requests] == []
    await wait_all_tasks_blocked()

    waiting.asides[caller].call()
    await wait_all_tasks_blocked()

    assert len(tasks) == 1
    nursery.cancel_scope.cancel()
