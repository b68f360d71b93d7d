"""When to look at which group again.

A heap of (deadline, number, group). A group's entry is only ever replaced by an earlier one: a
deadline that moves away is found out when the entry comes up, so heartbeats cost nothing here.
Entries that were replaced, or whose group is gone, stay until they come up or are the majority.
"""

from __future__ import annotations

import heapq
import math
from typing import Generic, Protocol, TypeVar


class Scheduled(Protocol):
    """Something with a deadline."""

    scheduled: float
    """Deadline of its entry, seconds; infinite without one. Written here only."""


T = TypeVar("T", bound=Scheduled)


class GroupDeadlines(Generic[T]):
    """Groups by deadline; seconds, of any clock."""

    def __init__(self) -> None:
        """Begin without any."""
        self._heap: list[tuple[float, int, T]] = []
        self._pushes = 0
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap)

    def next(self) -> float:
        """The earliest deadline; infinite without one."""
        return self._heap[0][0] if self._heap else math.inf

    def schedule(self, group: T, deadline: float) -> bool:
        """Look at ``group`` at ``deadline``, if not earlier.

        Returns:
            Whether that is before everything else.
        """
        if deadline >= group.scheduled:
            return False
        self.forget(group)
        comes_first = deadline < self.next()
        group.scheduled = deadline
        self._pushes += 1
        heapq.heappush(self._heap, (deadline, self._pushes, group))
        return comes_first

    def forget(self, group: T) -> None:
        """Do not look at ``group``."""
        if group.scheduled == math.inf:
            return
        group.scheduled = math.inf
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[0] == entry[2].scheduled]
            heapq.heapify(self._heap)
            self._stale = 0

    def take_due(self, now: float) -> T | None:
        """Take out a group whose deadline has come; None if there is none."""
        while self._heap and self._heap[0][0] <= now:
            deadline, _, group = heapq.heappop(self._heap)
            if deadline == group.scheduled:
                group.scheduled = math.inf
                return group
            self._stale -= 1
        return None
