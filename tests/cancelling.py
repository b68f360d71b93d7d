"""Cancel something at its first, second, ... step, to see what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Canceller(trio.abc.Instrument):
    """Cancels a scope before the n-th step that any task takes."""

    def __init__(self, scope: trio.CancelScope, at: int) -> None:
        self.scope = scope
        self.at = at
        self.steps = 0

    @property
    def has_fired(self) -> bool:
        return self.steps >= self.at > 0

    def disarm(self) -> None:
        """Let it not happen any more."""
        self.at = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.scope.cancel()


@contextmanager
def cancelled_at(at: int) -> Iterator[Canceller]:
    """Cancel the block before the ``at``-th step that any task takes in it."""
    with trio.CancelScope() as scope:
        canceller = Canceller(scope, at)
        trio.lowlevel.add_instrument(canceller)
        try:
            yield canceller
        finally:
            trio.lowlevel.remove_instrument(canceller)
