"""A turn of the event loop, and when a plane has had enough of it.

A turn is what the event loop does between two looks at its sockets: every task that can run runs
once, to its next checkpoint. A request takes three turns from its socket to the answer (Processor,
handler, Processor) and waits for the one that is going on when it comes. So on an event loop that
two planes share, the control plane is as fast as the data plane's turns are short; that its queue
is empty does not help it.

Counting pieces of work does not make turns short: a request costs 20 µs or 1 ms, and what each of
a dozen tasks may do adds up (benchmarks/control_plane.py saw turns of 60 ms with bounds by number
in every one of them). So the bound is a time of day: from then on nobody in the plane begins
another piece, whoever has used the time up. What was begun is finished; and so that nobody starves,
every Processor serves one connection and one response, and the handlers together run one request,
in every turn.

The control plane may go on when the data plane has stopped, so administration is not held to one
piece per turn while data is waiting. And as long as it has a request in hand the data plane rests:
it begins nothing at all but in every eighth turn. A change of a topic takes a dozen turns and more;
so most of them cost next to nothing. What it costs the data plane is bounded, also if a request of
the control plane waits for long: an eighth of the turns is three fifths of the time, since turns of
rest are that short.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter_ns

import trio

DATA_PLANE_TURN_NS = 1_000_000
"""What the data plane may use of a turn, ns. With twice as much the control plane waits nearly
twice as long beside a full data plane, and the smallest requests on 50 or 500 connections cost up
to a tenth less, for a turn has costs of its own."""

CONTROL_PLANE_TURN_NS = 2_000_000
"""Until when, after the beginning of a turn, the control plane may begin something, ns."""


TURNS_PER_WORK = 8
"""How many turns pass for one in which the data plane works, while the control plane is busy."""


class Turn(trio.abc.Instrument):
    """The current turn, as one plane sees it; add it to the event loop as an instrument."""

    def __init__(
        self, budget_ns: float = math.inf, must_give_way: Callable[[], bool] | None = None
    ) -> None:
        """End a turn ``budget_ns`` after its beginning; never as long as it is not added.

        ``must_give_way`` says whether somebody more urgent is at work; nobody is if not given.
        """
        self._budget_ns = budget_ns
        self._must_give_way = must_give_way
        self.number = 0
        """Counts turns."""
        self.ends_ns: float = math.inf
        """``perf_counter_ns`` from which on nothing more shall be begun in this turn."""
        self.is_rest = False
        """Whether nothing at all shall be begun in this turn."""

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins; the event loop calls this."""
        self.number += 1
        budget_ns = self._budget_ns
        if self._must_give_way is not None and self._must_give_way():
            budget_ns = 0
            self.is_rest = self.number % TURNS_PER_WORK != 0
        else:
            self.is_rest = False
        self.ends_ns = perf_counter_ns() + budget_ns
