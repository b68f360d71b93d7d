"""Where requests wait for something to happen: a fetch for bytes, a produce for replicas, a join.

Requests wait for *keys*, and whoever makes things happen calls ``notify(key)``, which costs one
dictionary lookup when nobody waits. A notification says "look again", not what happened. There are
two ways to wait:

*A task watches* its keys, looks, and waits if there is not enough. The watch begins before the
first look, and a notification between a look and the wait makes the wait return at once: nothing
is missed, and any number of notifications between two looks count as one::

    with purgatory.watch(keys) as watch:
        while not enough(result := read()):
            await watch.wait()

*An operation is added*, which is no task but a record that is told (``DelayedOperation``), as in
Kafka. That is for what waits by the thousand. Looking and adding happen without a checkpoint in
between, so nothing is missed here either. The purgatory knows the deadlines of all operations, and
one task tells each when its own has come; deadlines of operations that left earlier stay in that
heap until they outnumber the others, but they are numbers: of the operation, and of the request
behind it, nothing is kept. Being told must be cheap (an operation queues its request): a single
append may tell thousands.

Source: Kafka ``DelayedOperationPurgatory`` and ``DelayedOperation`` (4.0), for roles and keys.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

import attrs
import trio

_COMPACT_ABOVE: Final = 64
"""Deadlines below which looking for those of operations that left is not worth it."""
_EXPIRED_PER_TURN: Final = 500
"""Operations that are told the end of their time between two checkpoints."""


@attrs.frozen
class PurgatoryStatistics:
    """What is parked right now."""

    watches: int
    """Requests that wait: ``PurgatorySize``."""
    keys: int
    """Keys that somebody waits for."""


class Watch:
    """One task's wait for any of its keys; made by ``Purgatory.watch``."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        """Begin without a notification."""
        self._event = trio.Event()

    def notify(self, key: Hashable) -> None:
        """Make the current ``wait``, or the next one, return."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for a notification since the watch began or the last wait returned.

        Cancellation: safe; a notification that came meanwhile is kept for the next wait.
        Checkpoints: always one, even if the notification was there already.
        """
        await self._event.wait()
        self._event = trio.Event()


class DelayedOperation:
    """What waits without a task, between ``Purgatory.add`` and ``discard``."""

    __slots__ = ("_keys", "_number", "is_due", "is_told", "wake")

    wake: Callable[[], None]
    """Has it look again some time; set by whoever adds it. It must be cheap, must not raise, and is
    called more often than there is something to see."""
    is_told: bool
    """Whether one of its keys has moved; it takes that back when it looks."""
    is_due: bool
    """Whether it shall wait no longer: its time is over, or the broker stops."""
    _keys: Sequence[Hashable]
    _number: int

    def notify(self, key: Hashable) -> None:
        """One of its keys has moved: ``key``."""
        self.is_told = True
        self.wake()


def _nobody() -> None:
    """Told instead of an operation that does not wait."""


class Purgatory:
    """Who waits, by key; one per kind of request."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        # {key: who waits for it, as the keys of a dict, in the order of their arrival}
        self._watches: dict[Hashable, dict[Watch | DelayedOperation, None]] = {}
        self._count = 0
        # {number: operation that waits}, in the order of their arrival
        self._operations: dict[int, DelayedOperation] = {}
        # (deadline, number), the operation perhaps gone already
        self._deadlines: list[tuple[float, int]] = []
        self._numbers = 0
        self._awaited = math.inf
        self._sooner = trio.Event()
        self._is_closed = False

    @contextlib.contextmanager
    def watch(self, keys: Iterable[Hashable]) -> Iterator[Watch]:
        """Watch keys for the length of a ``with`` block."""
        watch = Watch()
        watched = list(keys)
        self._enter(watch, watched)
        try:
            yield watch
        finally:
            self._leave(watch, watched)

    def add(self, operation: DelayedOperation, keys: Sequence[Hashable], deadline: float) -> None:
        """Tell an operation whenever one of ``keys`` moves, and once when its time is over.

        Args:
            operation: was in no purgatory before.
            keys: what it waits for, at least one; kept.
            deadline: seconds on trio's clock; it ``is_due`` from then on.
        """
        operation._keys = keys
        operation.is_told = operation.is_due = False
        self._enter(operation, keys)
        if self._is_closed:
            operation.is_due = True
            operation.wake()
        if len(self._deadlines) > 2 * len(self._operations) + _COMPACT_ABOVE:
            self._compact()
        self._numbers = operation._number = number = self._numbers + 1
        self._operations[number] = operation
        heappush(self._deadlines, (deadline, number))
        if deadline < self._awaited:
            self._awaited = deadline
            self._sooner.set()

    def discard(self, operation: DelayedOperation) -> None:
        """Tell an operation nothing more; nothing happens if it is not there."""
        keys, operation._keys = operation._keys, ()
        if keys:
            del self._operations[operation._number]
            self._leave(operation, keys)
            # It mostly leads back to the operation, and cycles are work for the garbage collector.
            operation.wake = _nobody

    def notify(self, key: Hashable) -> None:
        """Tell whoever waits for ``key``, in the order of their arrival.

        Cost: one dictionary lookup when nobody does.
        """
        watches = self._watches.get(key)
        if watches is not None:
            for watch in watches:
                watch.notify(key)

    def end_waits(self) -> None:
        """Have no operation wait any longer, from now on."""
        self._is_closed = True
        for operation in list(self._operations.values()):
            operation.is_due = True
            operation.wake()

    async def run(self) -> None:
        """Tell operations when their time is over, until cancelled.

        Cancellation: whoever waits goes on waiting.
        """
        heap, operations = self._deadlines, self._operations
        while True:
            now = trio.current_time()
            told = 0
            while (
                heap
                and (heap[0][0] <= now or heap[0][1] not in operations)
                and told < _EXPIRED_PER_TURN
            ):
                operation = operations.get(heappop(heap)[1])
                told += 1
                if operation is not None:
                    operation.is_due = True
                    operation.wake()
            if told == _EXPIRED_PER_TURN:
                await trio.lowlevel.checkpoint()
                continue
            self._sooner = trio.Event()
            self._awaited = heap[0][0] if heap else math.inf
            with trio.move_on_at(self._awaited):
                await self._sooner.wait()

    def watchers(self, key: Hashable) -> int:
        """How many wait for ``key``."""
        return len(self._watches.get(key, ()))

    def statistics(self) -> PurgatoryStatistics:
        """Count what is parked."""
        return PurgatoryStatistics(watches=self._count, keys=len(self._watches))

    def _compact(self) -> None:
        """Forget the deadlines of operations that are gone."""
        heap = self._deadlines
        heap[:] = [each for each in heap if each[1] in self._operations]
        heapify(heap)

    def _enter(self, watch: Watch | DelayedOperation, keys: Iterable[Hashable]) -> None:
        for key in keys:
            watches = self._watches.get(key)
            if watches is None:
                self._watches[key] = {watch: None}
            else:
                watches[watch] = None
        self._count += 1

    def _leave(self, watch: Watch | DelayedOperation, keys: Iterable[Hashable]) -> None:
        self._count -= 1
        for key in keys:
            watches = self._watches.get(key)
            if watches is not None:
                watches.pop(watch, None)
                if not watches:
                    del self._watches[key]
