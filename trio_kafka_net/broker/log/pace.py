"""How long work in a thread goes on at a stretch.

Python's threads share one interpreter, so a thread that computes keeps the event loop from running.
``Pace`` makes it rest as long as it worked, and keeps it to a rate of bytes if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SLICE_SECONDS = 0.001
"""How long the interpreter is held at a stretch; what the event loop may have to wait for it."""
_NAP_SECONDS = 0.1
"""Longest sleep; a stop waits for it."""
_RECORDS_PER_LOOK = 64
"""Records between two looks at the clock; together well below a slice."""


class Pace:
    """Lets the event loop have the interpreter, and keeps to a byte rate."""

    def __init__(
        self,
        check: Callable[[], None] = lambda: None,
        *,
        bytes_per_second: float = float("inf"),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin a slice.

        Args:
            check: called between slices; what it raises ends the work.
            bytes_per_second: how much may be read and written.
            sleep: takes seconds.
            clock: seconds.
        """
        self._check = check
        self._bytes_per_second = bytes_per_second
        self._sleep = sleep
        self._clock = clock
        self._slice_began = clock()
        self._records = 0
        self._bytes = 0

    def record(self) -> None:
        """Count one record that was looked at."""
        self._records += 1
        if self._records >= _RECORDS_PER_LOOK:
            self._records = 0
            self.bytes(0)

    def bytes(self, count: int) -> None:
        """Count bytes that were read or written; sleeps when a slice is over.

        Raises:
            whatever ``check`` raises.
        """
        self._bytes += count
        worked = self._clock() - self._slice_began
        due = self._bytes / self._bytes_per_second
        if worked < _SLICE_SECONDS and due - worked < _SLICE_SECONDS:
            return
        # As long as it worked, so that the event loop has at least half of the interpreter.
        rest = max(worked, due - worked)
        while rest > 0:
            self._check()
            self._sleep(min(rest, _NAP_SECONDS))
            rest -= _NAP_SECONDS
        self._bytes = 0
        self._slice_began = self._clock()
