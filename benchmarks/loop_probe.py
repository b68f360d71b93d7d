"""How long an event loop is busy between two looks at its sockets.

Everybody else waits as long, so the longest of these turns is the worst that one task, or one
request, does to all others.
"""

from __future__ import annotations

import time

import trio

LONGEST_TURN_MS = 5
"""A pass of the event loop stays in the low milliseconds under any load."""


class LoopProbe(trio.abc.Instrument):
    """Notes every turn, by the clock on the wall and by the work of the loop's thread in it."""

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.turns_ns: list[int] = []
        self.cpu_ns: list[int] = []
        """What of each turn the event loop's thread worked; the rest it waited for a processor,
        or for a worker thread to give the interpreter back."""
        self._began = time.perf_counter_ns()
        self._began_cpu = time.thread_time_ns()

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins."""
        self._began = time.perf_counter_ns()
        self._began_cpu = time.thread_time_ns()

    def before_io_wait(self, timeout: float) -> None:
        """A turn is over."""
        self.turns_ns.append(time.perf_counter_ns() - self._began)
        self.cpu_ns.append(time.thread_time_ns() - self._began_cpu)

    def clear(self) -> None:
        """Forget what was measured."""
        self.turns_ns.clear()
        self.cpu_ns.clear()
