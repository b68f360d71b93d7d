"""The request handlers of a plane: a fixed number of tasks that take requests and run them.

While one of them waits for a request, its place may be taken: whoever hands a request over calls
``handle`` for it (``request_channel`` says when). What comes of that is the same: it counts for the
turn, the place is not idle meanwhile, failures are the handler's. If ``handle`` returns an
awaitable, the handler is called and goes on with it (``_begun``), so there are never more requests
in the middle than there are handlers.

A handler may simply ``await``, but a handler that waits for something that only another request
can bring (data for a long poll, members of a group) would hold its place in the pool: eight
consumers would stop the broker. Kafka answers with callbacks and a purgatory; here the handler
parks::

    async with pool.parked(request, "Fetch"):
        await partition.wait_for_data()

While it is parked a substitute takes its place, so the number of *runnable* handlers never drops
below the configured one. Coming back it makes one handler too many; that one leaves after its
request.

Parked is also the only state in which a request may be cancelled when its client goes away: it
has nothing half done.

A request may also wait without any task (``set_aside``); it comes back through the queue, and its
handler runs what is left of it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import TypeVar

import attrs
import trio

from trio_kafka_net.errors import CloseConnection, FatalExitError

from .connection import DisconnectCause
from .request_channel import Request, RequestChannel
from .set_aside import Resume, SetAside
from .turn import Breaks, Steps, Turn

log = logging.getLogger(__name__)

_T = TypeVar("_T")

Handle = Callable[[Request], Awaitable[None] | SetAside | None]
"""Runs one request and answers it; returns an awaitable if it has to wait, and what ``set_aside``
returned if it waits without a handler."""


@attrs.frozen
class HandlerPoolStatistics:
    """A snapshot of a handler pool."""

    size: int
    """Handlers that shall be runnable."""
    running: int
    """Handlers in the middle of a request, parked ones not counted."""
    idle: int
    """Handlers waiting for a request."""
    parked: dict[str, int]
    """{reason: requests parked for it}; Kafka's purgatory sizes."""
    idle_time_ns: int
    """Time that handlers spent idle, added up over handlers, to this moment."""


class RequestHandlerPool:
    """Runs the requests of one plane.

    Source: Kafka ``KafkaRequestHandlerPool``.
    """

    def __init__(
        self,
        request_channel: RequestChannel,
        handle: Handle,
        size: int,
        turn: Turn | None = None,
    ) -> None:
        """Run ``size`` handlers on ``request_channel``, each calling ``handle``.

        ``turn`` says when to let others work; if it is not given, a handler does so when there
        is no request left.
        """
        self._channel = request_channel
        self._handle = handle
        self._size = size
        self._turn = Turn() if turn is None else turn
        # The last turn in which anybody looked for a request, and until when that turn is ours.
        self._turn_number = -1
        self._turn_ends_ns: float = 0
        self._nursery: trio.Nursery | None = None
        self._runnable = 0
        self._idle = 0
        self._idle_time_ns = 0
        # The moments at which the idle handlers became so, added up: what lets a look in the
        # middle of their idleness count it, without knowing them one by one.
        self._idle_since_ns = 0
        # Since when an idle handler's place is taken by somebody who runs a request, 0 if none is
        self._lent_since_ns = 0
        self._parked: Counter[str] = Counter()
        # Requests that were begun in the place of a handler, and what is left of each
        self._begun: deque[tuple[Request, Awaitable[None]]] = deque()
        request_channel.may_run, request_channel.run = self._may_run, self._run_for_another

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run handlers until cancelled.

        Cancellation: requests in the middle of a handler are cut short and not answered.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for _ in range(self._size):
                    self._start_handler()
                task_status.started()
                await trio.sleep_forever()
        finally:
            while self._begun:  # cancelled before its handler came
                self._abandon(*self._begun.popleft())

    def resize(self, size: int) -> None:
        """Have ``size`` runnable handlers from now on.

        New ones start at once; surplus ones leave when they have run their next request.
        """
        self._size = size
        while self._runnable < size:
            self._start_handler()

    def statistics(self) -> HandlerPoolStatistics:
        """Who does what at this moment."""
        idle, now = self._idle, perf_counter_ns()
        idle_time_ns = self._idle_time_ns + idle * now - self._idle_since_ns
        if self._lent_since_ns:
            idle -= 1
            idle_time_ns -= now - self._lent_since_ns
        return HandlerPoolStatistics(
            size=self._size,
            running=self._runnable - idle,
            idle=idle,
            parked=dict(self._parked),
            idle_time_ns=idle_time_ns - self._channel.run_time_ns,
        )

    @asynccontextmanager
    async def parked(self, request: Request, reason: str) -> AsyncIterator[None]:
        """Give the place in the pool to others for as long as the block runs.

        Args:
            request: the request that this handler runs.
            reason: what for; the label of the count.

        Raises:
            CloseConnection: the client went away, the block was cancelled.

        Cancellation: the block is also cancelled when the client goes away.
        """
        started = perf_counter_ns()
        self._parked[reason] += 1
        self._runnable -= 1
        if self._runnable < self._size:
            self._start_handler()
        try:
            with trio.CancelScope() as scope:
                request.parked_scope = scope
                if request.connection.peer_gone or not request.connection.is_open:
                    scope.cancel()
                yield
        finally:
            request.parked_scope = None
            request.parked_time_ns += perf_counter_ns() - started
            self._runnable += 1
            self._parked[reason] -= 1
            if not self._parked[reason]:
                del self._parked[reason]
        if scope.cancelled_caught:
            raise CloseConnection("the client went away while its request was parked")

    def set_aside(self, request: Request, reason: str, resume: Resume) -> SetAside:
        """Let the request that is being handled wait without a handler; see ``set_aside.py``.

        Args:
            request: the request; the handler of it returns at once, with what this returns.
            reason: what for; the label of the count.
            resume: goes on with it when it was called, answers it, and returns True; or returns
                False to wait on.

        Returns:
            What to ``call`` when it may be time; done for it when the client goes away.
        """
        aside = SetAside(request, reason, resume, self._channel, self._parked)
        request.parked_scope = aside
        if request.connection.peer_gone or not request.connection.is_open:
            aside.call()
        return aside

    async def in_turns(self, steps: Steps[_T]) -> _T:
        """Do a handler's work that is made of steps; see ``Turn.run``."""
        return await self._turn.run(steps)

    def breaks(self) -> Breaks:
        """When a handler that works for long shall let the event loop turn."""
        return Breaks(self._turn)

    def _start_handler(self) -> None:
        assert self._nursery is not None
        self._runnable += 1
        self._nursery.start_soon(self._run_handler, name="request handler")

    # -- requests of the queue ----------------------------------------------------------------

    async def _run_handler(self) -> None:
        channel = self._channel
        try:
            while self._runnable <= self._size:
                if not self._may_begin(perf_counter_ns()):
                    await self._wait_for_turn()
                while not self._begun and channel.is_empty:
                    await self._be_idle()
                request, rest = self._begun.popleft() if self._begun else self._run_next()
                if rest is not None:
                    channel.pass_on()
                    await self._finish_request(request, rest)
        finally:
            self._runnable -= 1
            channel.pass_on()

    def _run_next(self) -> tuple[Request, Awaitable[None] | None]:
        request = self._channel.get_nowait()
        aside = request.parked_scope
        if aside is None:
            return request, self._run_request(request, perf_counter_ns())
        assert isinstance(aside, SetAside)  # what is parked is in no queue
        self._resume(request, aside)
        return request, None

    # -- requests that are handed over --------------------------------------------------------

    def _may_run(self, now_ns: int) -> bool:
        """Whether a handler that waits may have its place taken for a request."""
        if self._runnable > self._size:
            return False  # one too many shall leave, and only does so after a request of its own
        if self._turn_number == self._turn.number:  # as in most cases
            return now_ns < self._turn_ends_ns
        return self._may_begin(now_ns)

    def _run_for_another(self, request: Request) -> None:
        """Run a request in the place of a handler that waits; it is called if that has to wait."""
        self._lent_since_ns = started = request.start_time_ns
        try:
            rest = self._run_request(request, started)
            if rest is not None:
                # One call for each: a handler that was called for a queued request may come first,
                # and takes this one, for it is earlier.
                self._begun.append((request, rest))
                self._channel.call_one()
                request.let_answer_go()
        finally:
            self._lent_since_ns = 0
            self._channel.run_time_ns += perf_counter_ns() - started

    @staticmethod
    def _abandon(request: Request, rest: Awaitable[None]) -> None:
        if isinstance(rest, Coroutine):
            rest.close()
        request.leave_handlers()

    # -- turns and idleness -------------------------------------------------------------------

    def _may_begin(self, now_ns: int) -> bool:
        """Whether a request may be run in this turn; the first one that is asked for may."""
        turn = self._turn
        if self._turn_number == turn.number:
            return now_ns < self._turn_ends_ns
        self._turn_number, self._turn_ends_ns = turn.number, turn.end_for(now_ns)
        return not turn.is_rest

    async def _wait_for_turn(self) -> None:
        # With empty hands: a request that a handler had meanwhile could wait for long, if others
        # always were faster. One waits for all, or each turn would have to ask everybody.
        while not self._begun and not self._may_begin(perf_counter_ns()):
            if self._channel.is_awaited:
                await self._be_idle()
            else:
                with self._channel.awaited():
                    await trio.lowlevel.checkpoint()

    async def _be_idle(self) -> None:
        idle_since = perf_counter_ns()
        self._idle += 1
        self._idle_since_ns += idle_since
        try:
            await self._channel.wait_to_be_called()
        finally:
            self._idle -= 1
            self._idle_since_ns -= idle_since
            self._idle_time_ns += perf_counter_ns() - idle_since

    # -- one request --------------------------------------------------------------------------

    def _run_request(self, request: Request, now_ns: int) -> Awaitable[None] | None:
        """Run a request as far as it goes without waiting; returns the rest, if it is a task's."""
        request.dequeue_time_ns = now_ns
        request.holds_answer = True
        rest, handle = None, self._handle
        try:
            rest = handle(request)
            if rest is None and not request.is_answered:
                self._close_unanswered(request)
        except Exception as error:
            self._close_failed(request, error)
        finally:
            if rest is None:
                request.leave_handlers()
        return None if rest is None or isinstance(rest, SetAside) else rest

    def _resume(self, request: Request, aside: SetAside) -> None:
        """Go on with a request that was set aside and is called."""
        aside.begin()
        is_over = True
        try:
            is_over = aside.resume()
            if is_over and not request.is_answered:
                self._close_unanswered(request)
        except Exception as error:
            self._close_failed(request, error)
        finally:
            if is_over:
                aside.end()
                request.leave_handlers()
            else:
                aside.wait_on()

    async def _finish_request(self, request: Request, rest: Awaitable[None]) -> None:
        try:
            request.let_answer_go()
            await rest
            if not request.is_answered:
                self._close_unanswered(request)
        except Exception as error:
            self._close_failed(request, error)
        finally:
            request.leave_handlers()

    def _close_unanswered(self, request: Request) -> None:
        log.error("%r: its handler returned without an answer", request)
        self._close(request, DisconnectCause.HANDLER_FAILED)

    def _close_failed(self, request: Request, error: Exception) -> None:
        if isinstance(error, FatalExitError | MemoryError):
            raise error
        if isinstance(error, CloseConnection):
            log.debug("%s: closing: %s", request.connection.connection_id, error)
            self._close(request, DisconnectCause.HANDLER)
        else:
            log.error("%r: its handler failed", request, exc_info=error)
            self._close(request, DisconnectCause.HANDLER_FAILED)

    @staticmethod
    def _close(request: Request, cause: DisconnectCause) -> None:
        if not request.is_answered:
            request.close_connection(cause)
