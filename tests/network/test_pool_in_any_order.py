"""Handlers and their queue, whatever comes in whatever order: nobody is forgotten, nobody twice.

Requests are queued, handed over, set aside and called, parked, begun by one and ended by another,
while handlers become more and fewer, and turns end early or are rests.
"""

from __future__ import annotations

import math
from collections import Counter
from time import perf_counter_ns
from types import SimpleNamespace

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_kafka_net.errors import CloseConnection
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.request_channel import Request, RequestChannel
from trio_kafka_net.network.turn import Turn

KINDS = ["at once", "waits", "answers, then waits", "parks", "aside", "calls", "fails", "puts"]


class ScriptedTurn(Turn):
    """Turns that are over, or rests, as the script says; usual ones when it is at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[str] = []

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1
        kind = self.script.pop(0) if self.script else "usual"
        self.ends_ns, self.share_ns = (math.inf, math.inf) if kind == "usual" else (0, 0)
        self.is_rest = kind == "rest"


class Plane:
    def __init__(self, size: int, turn: Turn) -> None:
        self.channel = RequestChannel(3, lambda request: self.finished.update([request]))
        self.pool = RequestHandlerPool(self.channel, self.handle, size, turn)
        self.requests: list[Request] = []
        self.kinds: dict[Request, str] = {}
        self.asides: dict[Request, object] = {}
        self.finished: Counter[Request] = Counter()
        self.handled: Counter[Request] = Counter()
        self.answers: Counter[Request] = Counter()
        self.gate = trio.Event()
        self.is_ready = False
        self.in_the_middle = 0
        self.depth = 0

    def request(self, kind: str) -> Request:
        connection = SimpleNamespace(connection_id="a", peer_gone=False, is_open=True)
        connection.processor = SimpleNamespace(enqueue_response=self.answered)
        request = Request(connection, memoryview(b""))
        request.start_time_ns = perf_counter_ns()
        self.requests.append(request)
        self.kinds[request] = kind
        return request

    def answered(self, response) -> None:
        self.answers[response.request] += 1
        response.request.leave_connection()

    def handle(self, request: Request):
        assert not self.depth, "one runs inside of another"
        self.depth += 1
        try:
            return self.run(request)
        finally:
            self.depth -= 1

    def run(self, request: Request):
        self.handled[request] += 1
        kind = self.kinds[request]
        if kind == "fails":
            raise CloseConnection
        if kind == "aside":
            aside = self.pool.set_aside(request, kind, lambda: self.resume(request))
            self.asides[request] = aside
            return aside
        if kind == "calls":
            self.call_all()
        elif kind == "puts":
            self.channel.put(self.request("waits"))
        if kind in {"at once", "answers, then waits"}:
            request.respond(BytesSend(b""))
        return None if kind == "at once" else self.wait(request, kind)

    async def wait(self, request: Request, kind: str) -> None:
        if kind == "parks":
            async with self.pool.parked(request, kind):
                await self.gate.wait()
        else:
            self.in_the_middle += 1
            await self.gate.wait()
            self.in_the_middle -= 1
        if not request.is_answered:
            request.respond(BytesSend(b""))

    def resume(self, request: Request) -> bool:
        assert not self.depth
        if request.connection.peer_gone:
            raise CloseConnection
        if self.is_ready:
            request.respond(BytesSend(b""))
        return self.is_ready

    def call_all(self) -> None:
        for aside in self.asides.values():
            aside.call()

    def go_away(self, number: int) -> None:
        if number < len(self.requests):
            request = self.requests[number]
            request.connection.peer_gone = True
            if request.parked_scope is not None:
                request.parked_scope.cancel()

    def check(self) -> None:
        """Nobody waits for a handler that waits, and no figure is impossible."""
        figures, queue = self.pool.statistics(), self.channel.statistics()
        assert not self.pool._begun
        assert figures.idle == 0 or queue.queued == 0
        assert figures.idle >= 0
        assert figures.running == self.in_the_middle
        assert figures.running + figures.idle >= figures.size
        assert figures.idle_time_ns >= 0


actions = st.one_of(
    st.tuples(st.sampled_from(["put", "hand over"]), st.sampled_from(KINDS)),
    st.tuples(st.sampled_from(["put", "hand over"]), st.just("waits")),
    st.tuples(st.just("call")),
    st.tuples(st.just("gate")),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.just("go away"), st.integers(0, 8)),
    st.tuples(st.just("pass"), st.integers(1, 3)),
    st.tuples(st.just("settle")),
)


async def act(plane: Plane, kind: str, *details) -> None:
    if kind == "put":
        plane.channel.put(plane.request(*details))
    elif kind == "hand over":
        plane.channel.hand_over(plane.request(*details))
    elif kind == "call":
        plane.call_all()
    elif kind == "gate":
        plane.gate.set()
        plane.gate = trio.Event()
    elif kind == "resize":
        plane.pool.resize(*details)
    elif kind == "go away":
        plane.go_away(*details)
    elif kind == "pass":
        for _ in range(*details):
            await trio.lowlevel.checkpoint()
    else:
        await wait_all_tasks_blocked()
        plane.check()


@settings(max_examples=150)
@given(
    script=st.lists(actions, min_size=3, max_size=30),
    size=st.integers(1, 3),
    turns=st.lists(st.sampled_from(["usual", "over", "rest"]), max_size=30),
)
def test_whatever_comes_each_is_handled_and_ended_once(script, size, turns):
    turn = ScriptedTurn()

    async def main() -> None:
        plane = Plane(size, turn)
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.pool.run)
            await wait_all_tasks_blocked()
            turn.script += turns
            for action in script:
                await act(plane, *action)
            await act(plane, "settle")
            plane.is_ready = True
            for _ in range(len(plane.requests) + 1):
                plane.gate.set()
                plane.call_all()
                await wait_all_tasks_blocked()
            plane.check()
            each_once = dict.fromkeys(plane.requests, 1)
            assert plane.handled == plane.answers == plane.finished == each_once
            assert plane.pool.statistics().parked == {}
            # What became too many leaves with a request of its own.
            for _ in range(6):
                plane.channel.put(plane.request("at once"))
                await wait_all_tasks_blocked()
            assert plane.pool.statistics().idle == plane.pool.statistics().size
            nursery.cancel_scope.cancel()

    trio.run(main, instruments=[turn])
