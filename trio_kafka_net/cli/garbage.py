"""Python's cyclic garbage collector, in a process that is nothing but a broker.

What a request leaves behind is freed by counting references: no path through this package ends in
a cycle (``tests/test_no_cycles.py``), so the collector has next to nothing to find. Yet a full
collection looks at every container there is, 0.3 µs each, and the event loop stands still for so
long: 15 ms for what a start leaves, 100 to 300 ms with ten thousand partitions.

So what has survived two collections is *frozen*: not looked at again. A full one then sees next to
nothing, even in the middle of a request that makes a hundred thousand objects, which is when it is
called; and it is called a little more often than Python would.

What is frozen and ends in a cycle later would stay for ever. Should that happen, in somebody's own
handler for instance, it is bounded: whenever twice as much is frozen as there was the last time,
the next full collection sees everything again. With 10,000 partitions that is one long pause.

These are settings of the whole process. So only the command line makes them; a program that has a
broker inside decides for itself.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Self

_FULL_AFTER = 4
"""Collections of the middle generation between two full ones; Python's own default is 10."""
LEAST_FROZEN = 500_000
"""Objects that may be frozen before everything is looked at again; a start leaves 40,000."""


class ShortCollections:
    """For the time of a block: no collections at first, short ones after ``settle``."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self.look_again_above = LEAST_FROZEN
        """Frozen objects, above which the next full collection sees everything."""
        self._sees_everything = False
        self._threshold = gc.get_threshold()

    def __enter__(self) -> Self:
        # Hardly anything dies while a program starts, and a lot is made.
        gc.disable()
        return self

    def settle(self) -> None:
        """Freeze what there is, which stays to the end, and begin to collect."""
        gc.freeze()
        self._look_again_later()
        gc.callbacks.append(self._collected)
        first, second, _ = self._threshold
        gc.set_threshold(first, second, _FULL_AFTER)
        gc.enable()

    def _collected(self, phase: str, info: Mapping[str, int]) -> None:
        """Called by the collector, in whatever thread it runs: so it uses nothing but ``gc``."""
        if phase != "stop" or info["generation"] == 0:
            return
        if not self._sees_everything:
            gc.freeze()
        if info["generation"] != 2:
            return
        if self._sees_everything:
            gc.freeze()
            self._sees_everything = False
            self._look_again_later()
        elif gc.get_freeze_count() > self.look_again_above:
            self._sees_everything = True
            gc.unfreeze()

    def _look_again_later(self) -> None:
        self.look_again_above = max(LEAST_FROZEN, 2 * gc.get_freeze_count())

    def __exit__(self, *_: object) -> None:
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)
        gc.set_threshold(*self._threshold)
        gc.enable()  # but nothing thaws: the process is about to end, and would only look once more
