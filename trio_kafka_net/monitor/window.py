"""The last seconds of a server, as one snapshot after the other comes in.

Rates and quantiles are those of the last ``span_s`` seconds: long enough that an API that is
called now and then has some, and that figures can be read. What is drawn over time is put down
from one snapshot to the next.

A server that was started anew has nothing to do with its past: everything is forgotten.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ..metrics import names
from .figures import TRACKED, TRACKED_BY_LABEL
from .interval import Interval
from .rings import History, Points
from .snapshot import Snapshot

SPAN_S: Final = 5.0
"""Seconds that rates and quantiles are about."""

RESTART_SHOWN_S: Final = 60.0
"""Seconds that a restart is worth mentioning."""


class Window(Interval):
    """An interval that moves on, and figures over time; not for use by several threads at once."""

    def __init__(
        self, *, source: str = "", span_s: float = SPAN_S, utc_offset_s: float = 0.0
    ) -> None:
        """Know nothing yet.

        Args:
            source: where snapshots come from, as the header tells it.
            span_s: seconds that rates and quantiles are about.
            utc_offset_s: of the clock that the header shows, seconds east of UTC.
        """
        super().__init__(None, None)
        self.source = source
        """Where snapshots come from."""
        self.utc_offset_s = utc_offset_s
        """Of the clock that the header shows."""
        self.stale_s: float | None = None
        """Seconds since the last snapshot, set by whoever fetches them while fetching fails;
        None: the last attempt succeeded."""
        self._span_s = span_s
        self._snapshots: deque[Snapshot] = deque()
        self._restarted_at: float | None = None
        # {(name, value of the label or ""): its history}
        self._histories: dict[tuple[str, str], History] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Take in what was seen last; one that is older than the last one begins anew."""
        last = self.now
        if last is not None and _is_restart(last, snapshot):
            self._forget()
            self._restarted_at = snapshot.taken
        elif last is not None and snapshot.taken <= last.taken:
            self._forget()
        snapshots = self._snapshots
        snapshots.append(snapshot)
        while len(snapshots) > 2 and snapshot.taken - snapshots[1].taken >= self._span_s:
            snapshots.popleft()
        self.base = snapshots[0] if len(snapshots) > 1 else None
        self.now = snapshot
        self._memory.clear()
        if len(snapshots) > 1:
            self._put_down(Interval(snapshots[-2], snapshot, self._plans))

    @property
    def is_restarted(self) -> bool:
        """Whether the server was started anew within the last minute."""
        since = self._restarted_at
        return (
            since is not None
            and self.now is not None
            and 0 <= self.now.taken - since < RESTART_SHOWN_S
        )

    def history(self, name: str, label: str = "", *, slow: bool = False) -> Points:
        """A figure over time.

        Args:
            name: of a figure in ``figures.TRACKED`` or a metric in ``TRACKED_BY_LABEL``.
            label: value of the metric's label.
            slow: the last ten minutes instead of the last one.

        Returns:
            Points, oldest first; none if nothing was put down.
        """
        history = self._histories.get((name, label))
        return () if history is None else history.points(slow=slow)

    def copy(self) -> Window:
        """What is known now, for a screen that stands still while this window moves on."""
        window = Window(source=self.source, span_s=self._span_s, utc_offset_s=self.utc_offset_s)
        window.base, window.now, window.stale_s = self.base, self.now, self.stale_s
        window._snapshots = self._snapshots.copy()
        window._restarted_at = self._restarted_at
        window._histories = {key: history.copy() for key, history in self._histories.items()}
        return window

    def _forget(self) -> None:
        self._snapshots.clear()
        self._histories.clear()
        self._plans.clear()

    def _put_down(self, moment: Interval) -> None:
        at = moment.now.taken if moment.now is not None else 0.0
        found = {(name, ""): figure(moment) for name, figure in TRACKED.items()}
        for name, (_, figures) in TRACKED_BY_LABEL.items():
            found |= {(name, key[0]): value for key, value in figures(moment).items()}
        histories = self._histories
        for key, value in found.items():
            history = histories.get(key)
            if history is None:
                history = histories[key] = History()
            history.add(at, value)
        for key in histories.keys() - found.keys():
            histories[key].add(at, None)
            if not any(point is not None for point in histories[key].points(slow=True)):
                del histories[key]


def _is_restart(before: Snapshot, after: Snapshot) -> bool:
    """Whether the server began anew, as its start time says or else its count of requests."""
    began = Interval(before, after)
    start = began.value(names.PROCESS_START_TIME.name)
    earlier = Interval(None, before).value(names.PROCESS_START_TIME.name)
    if start is not None and earlier is not None:
        return start != earlier
    counted = began.value(names.REQUESTS.name)
    earlier_count = Interval(None, before).value(names.REQUESTS.name)
    return counted is not None and earlier_count is not None and counted < earlier_count
