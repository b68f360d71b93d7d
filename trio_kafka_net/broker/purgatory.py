"""Where requests wait for something to happen: a fetch for bytes, a produce for replicas, a join.

Kafka parks a callback under several keys and completes it when one of them moves. Here the request
is a task that awaits: it *watches* its keys, looks, and waits if there is not enough::

    with purgatory.watch(keys) as watch:
        while not enough(result := read()):
            await watch.wait()

The watch begins before the first look, and a notification between a look and the wait makes the
wait return at once: nothing is missed. A notification says "look again", not what happened, so any
number of them between two looks count as one.

Whoever makes things happen calls ``notify(key)``, which costs one dictionary lookup when nobody
waits. Deadlines belong to the waiting task: a cancel scope around the loop.

Source: Kafka ``DelayedOperationPurgatory`` (4.0), for the role and the keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator

import attrs
import trio


@attrs.frozen
class PurgatoryStatistics:
    """What is parked right now."""

    watches: int
    """Requests that wait: ``PurgatorySize``."""
    keys: int
    """Keys that somebody waits for."""


class Watch:
    """One request's wait for any of its keys; made by ``Purgatory.watch``."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        """Begin without a notification."""
        self._event = trio.Event()

    def notify(self) -> None:
        """Make the current ``wait``, or the next one, return."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for a notification since the watch began or the last wait returned.

        Cancellation: safe; a notification that came meanwhile is kept for the next wait.
        Checkpoints: always one, even if the notification was there already.
        """
        await self._event.wait()
        self._event = trio.Event()


class Purgatory:
    """Watches by key; one per kind of request."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        # {key: watches, as the keys of a dict, in the order of their arrival}
        self._watches: dict[Hashable, dict[Watch, None]] = {}
        self._count = 0

    @contextlib.contextmanager
    def watch(self, keys: Iterable[Hashable]) -> Iterator[Watch]:
        """Watch keys for the length of a ``with`` block."""
        watch = Watch()
        watched = list(keys)
        for key in watched:
            self._watches.setdefault(key, {})[watch] = None
        self._count += 1
        try:
            yield watch
        finally:
            self._count -= 1
            for key in watched:
                self._forget(key, watch)

    def notify(self, key: Hashable) -> None:
        """Wake whoever watches ``key``, in the order of their arrival.

        Cost: one dictionary lookup when nobody does.
        """
        watches = self._watches.get(key)
        if watches is not None:
            for watch in watches:
                watch.notify()

    def watchers(self, key: Hashable) -> int:
        """How many wait for ``key``."""
        return len(self._watches.get(key, ()))

    def statistics(self) -> PurgatoryStatistics:
        """Count what is parked."""
        return PurgatoryStatistics(watches=self._count, keys=len(self._watches))

    def _forget(self, key: Hashable, watch: Watch) -> None:
        watches = self._watches.get(key)
        if watches is not None:
            watches.pop(watch, None)
            if not watches:
                del self._watches[key]
