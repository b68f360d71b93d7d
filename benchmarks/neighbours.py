"""Who else was at work on this machine while something was measured.

What the processors did comes from /proc/stat. What is our own of it is what this process and the
children it waited for used, which every contestant and client is in the end. The rest is somebody
else's, and if it is more than a little the figures of that time say less. Time that another
virtual machine took from this one is "steal"; the kernel's work for interrupts is nobody's.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import attrs

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MOST_OTHERS = 0.1
MOST_STEAL = 0.02


@attrs.frozen
class Moment:
    """Counters that only grow, in seconds of processor time."""

    wall: float
    busy: float
    """Of all processes."""
    steal: float
    own: float

    @classmethod
    def now(cls) -> Moment:
        """Read them."""
        user, nice, system, _, _, _, _, steal, *_ = map(
            int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
        )
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(
            time.monotonic(),
            (user + nice + system) / TICKS_PER_SECOND,
            steal / TICKS_PER_SECOND,
            sum(each.ru_utime + each.ru_stime for each in used),
        )


@attrs.frozen
class Neighbours:
    """What others did between two moments; shares are of all processors."""

    load: float
    """Average of the minute before."""
    others: float
    steal: float

    @classmethod
    def between(cls, before: Moment, after: Moment, processors: int, load: float) -> Neighbours:
        """Compare two moments."""
        capacity = max(after.wall - before.wall, 1 / TICKS_PER_SECOND) * processors
        foreign = (after.busy - before.busy) - (after.own - before.own)
        return cls(load, max(0.0, foreign / capacity), (after.steal - before.steal) / capacity)

    @property
    def are_quiet(self) -> bool:
        """Whether the figures of that time are worth something."""
        return self.others <= MOST_OTHERS and self.steal <= MOST_STEAL

    def __str__(self) -> str:
        told = f"load {self.load:.1f} before, others {self.others:.0%}, steal {self.steal:.0%}"
        return told if self.are_quiet else f"{told}: WARNING, something else was running"
