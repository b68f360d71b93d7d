"""A turn of the event loop, and when a plane has had enough of it.

A turn is what the event loop does between two looks at its sockets: every task that can run runs
once, to its next checkpoint. A request takes one turn from its socket to the answer, or three if it
is queued on the way (Processor, handler, Processor), and waits for the one that is going on when it
comes. So on an event loop that two planes share, the control plane is as fast as the data plane's
turns are short; that its queue is empty does not help it.

Counting pieces of work does not make turns short: a request costs 20 µs or 1 ms, and what each of
a dozen tasks may do adds up (benchmarks/control_plane.py saw turns of 60 ms with bounds by number
in every one of them). So the bound is a time of day: from then on nobody in the plane begins
another piece, whoever has used the time up. What was begun is finished. So that nobody starves who
always comes late in a turn (with three Processors the one in the middle never comes first), every
task may work for a share of it all the same, and does one piece whatever the time.

The control plane may go on when the data plane has stopped, so administration is not held to one
piece per turn while data is waiting. And while it is at work the data plane rests: for some turns
it begins nothing at all, then it works for one, as little as it can. A change of a topic takes a
dozen turns, so most of them cost next to nothing. What that costs the data plane is bounded three
times: in turns and in time between two that it works in, and in how long the control plane counts
as being at work without a request that begins or ends there. If it were at work all the time, the
data plane would do a little more than half of its work.

A piece of work that is longer than a turn is made of steps (``Steps``): a generator that yields
wherever it may be interrupted, and returns what comes of it. ``Turn.run`` lets the event loop turn
between two steps whenever the turn is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from time import perf_counter_ns
from typing import TypeAlias, TypeVar

import trio

_T = TypeVar("_T")

Steps: TypeAlias = Generator[None, None, _T]
"""Work in steps of a fraction of a millisecond each; what it returns is the result."""


def finish(steps: Steps[_T]) -> _T:
    """Do all of the work at once; for what cannot be much."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: _T = end.value
        return result


DATA_PLANE_TURN_NS = 1_000_000
"""What the data plane may use of a turn, ns. With half as much, small requests on 500 connections
cost a tenth more, for a turn has costs of its own; with twice as much the control plane's first
turn, in which nobody knows of its request yet, is twice as long."""

CONTROL_PLANE_TURN_NS = 1_250_000
"""Until when, after the beginning of a turn, the control plane may begin something, ns."""

_SHARES = 8
"""What part of a turn a task has for itself, whatever others have used."""

REST_TURNS = 7
"""Turns that the data plane rests for before it works in one."""
REST_NS = 500_000
"""For how long it rests, if the control plane makes these turns long."""


class Turn(trio.abc.Instrument):
    """The current turn, as one plane sees it; add it to the event loop as an instrument."""

    def __init__(
        self, budget_ns: float = math.inf, must_give_way: Callable[[], bool] | None = None
    ) -> None:
        """End a turn ``budget_ns`` after its beginning; never as long as it is not added.

        ``must_give_way`` says whether somebody more urgent is at work, asked once a turn; nobody is
        if it is not given. It must not raise.
        """
        self._budget_ns = budget_ns
        self._must_give_way = must_give_way
        self._rested = 0
        self._worked_ns = 0
        self.number = 0
        """Counts turns."""
        self.ends_ns: float = math.inf
        """``perf_counter_ns`` from which on nothing more shall be begun in this turn."""
        self.share_ns: float = math.inf
        """For how long a task may begin more although the turn is over when it runs, ns."""
        self.is_rest = False
        """Whether nothing at all shall be begun in this turn."""

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins; the event loop calls this."""
        self.number += 1
        now = perf_counter_ns()
        self.ends_ns = now + self._budget_ns
        self.share_ns = self._budget_ns / _SHARES
        if self._must_give_way is not None:
            self._give_way(now)

    def _give_way(self, now: int) -> None:
        if not self.is_rest:
            self._rested, self._worked_ns = 0, now
        assert self._must_give_way is not None
        is_urgent = self._must_give_way()
        self.is_rest = is_urgent and self._rested < REST_TURNS and now < self._worked_ns + REST_NS
        self._rested += 1
        if is_urgent:
            self.ends_ns, self.share_ns = now, 0

    def end_for(self, started_ns: int) -> float:
        """Until when a task that runs since ``started_ns`` may begin something in this turn."""
        return max(self.ends_ns, started_ns + self.share_ns)

    async def run(self, steps: Steps[_T]) -> _T:
        """Do work that is made of steps, as many in a turn as a task may.

        Returns:
            What the steps return.

        Raises:
            Exception: what the steps raise.

        Cancellation: between two steps; the others are not done.
        """
        try:
            breaks = Breaks(self)
            while True:
                next(steps)
                if breaks.is_due():
                    await breaks.take()
        except StopIteration as end:
            result: _T = end.value
            return result
        finally:
            steps.close()


class Breaks:
    """The same for work that is done by an ``async`` function, to be asked after each piece."""

    __slots__ = ("_ends_ns", "_turn")

    def __init__(self, turn: Turn) -> None:
        """Work begins now."""
        self._turn = turn
        self._ends_ns = turn.end_for(perf_counter_ns())

    def is_due(self) -> bool:
        """Whether the turn is over."""
        return perf_counter_ns() >= self._ends_ns

    async def take(self) -> None:
        """Let the event loop turn, and wait for a turn in which work may go on."""
        await trio.lowlevel.checkpoint()
        while self._turn.is_rest:
            await trio.lowlevel.checkpoint()
        self._ends_ns = self._turn.end_for(perf_counter_ns())
