"""How the event loop feels: how busy it is, and how late.

*Busy* is what is not waiting for sockets and timers: the time between two waits of the loop, by an
instrument with two hooks per turn. *Late* is how much later than asked a sleeper wakes; whatever
is runnable waits about as long. One task measures that ten times a second, and once a second
it tells others to take their readings, for shares of the last second.

It looks once in every tenth of a second, each time at another moment of it. At equal distances it
would fall into step with whatever holds the loop up at intervals, always wake at the end of that,
and find the loop in time.

All brokers of a process share the loop, and each may look at it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

import attrs
import trio

from . import names
from .registry import Family, Histogram, MetricsRegistry, Sample

PROBE_SECONDS: Final = 0.1
"""In each of which there is a look at how late the loop is."""
_PROBES_PER_SECOND = 10
_STEP = 0.618033988749895
"""The golden section: multiples of it, without their whole parts, are spread evenly over 0 to 1."""
_RECENT_PROBES = 10 * _PROBES_PER_SECOND


class IoWait(trio.abc.Instrument):
    """Adds up the time that the event loop waits for sockets and timers."""

    def __init__(self) -> None:
        """Begin with nothing; add it to the event loop as an instrument."""
        self.total_ns = 0
        self._since_ns = 0

    def before_io_wait(self, timeout: float) -> None:
        """The loop has nothing to run; it calls this."""
        self._since_ns = perf_counter_ns()

    def after_io_wait(self, timeout: float) -> None:
        """The loop goes on; it calls this."""
        # Added in the middle of a turn, it sees an end without a beginning.
        if self._since_ns:
            self.total_ns += perf_counter_ns() - self._since_ns
            self._since_ns = 0


class Share:
    """What share of the time something took, between the last two readings of its total."""

    def __init__(self) -> None:
        """Know nothing before the second reading."""
        self.value: float | None = None
        """0 to 1; None as long as nothing is known."""
        self._last: tuple[int, int] | None = None

    def read(self, total_ns: int, now_ns: int) -> None:
        """Take a reading: the total so far, and when that is."""
        if self._last is not None:
            last_total, last = self._last
            if now_ns > last:
                self.value = min(max((total_ns - last_total) / (now_ns - last), 0.0), 1.0)
        self._last = (total_ns, now_ns)


@attrs.frozen
class LoopStatistics:
    """The event loop over the last seconds; None where nothing is known yet."""

    busy: float | None
    """Share of the last second that was not waiting, 0 to 1."""
    lag_p50_s: float | None
    """Half of the probes of the last ten seconds were later."""
    lag_p99_s: float | None
    lag_max_s: float | None


class LoopProbe:
    """Looks at the event loop while it runs."""

    def __init__(self, registry: MetricsRegistry, *, watches_io: bool = True) -> None:
        """Register the loop's figures; ``run`` makes them.

        Args:
            registry: of the broker.
            watches_io: whether waiting is measured, which costs two calls per turn of the loop.
        """
        self.every_second: list[Callable[[], None]] = []
        """Called once a second; must be quick."""
        self._watches_io = watches_io
        self._io_wait = IoWait()
        self._waiting = Share()
        self._lag: Histogram = registry.histogram(names.LOOP_LAG).labels()
        self._recent: deque[int] = deque(maxlen=_RECENT_PROBES)
        registry.add_source(self._families)

    def _families(self) -> list[Family]:
        if not self._watches_io:
            return []
        return [Family(names.IO_WAIT, (Sample((), self._io_wait.total_ns * names.NS),))]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the loop until cancelled.

        Cancellation: safe.
        """
        if self._watches_io:
            trio.lowlevel.add_instrument(self._io_wait)
        try:
            task_status.started()
            moment = 0.0
            while True:
                self._read_shares()
                begin = trio.current_time()
                for probe in range(_PROBES_PER_SECOND):
                    moment = (moment + _STEP) % 1
                    await self._look(begin + (probe + moment) * PROBE_SECONDS)
                await trio.sleep_until(begin + _PROBES_PER_SECOND * PROBE_SECONDS)
        finally:
            if self._watches_io:
                trio.lowlevel.remove_instrument(self._io_wait)

    async def _look(self, due: float) -> None:
        await trio.sleep_until(due)
        late_ns = round(max(trio.current_time() - due, 0.0) * 1e9)
        self._lag.observe(late_ns)
        self._recent.append(late_ns)

    def _read_shares(self) -> None:
        if self._watches_io:
            self._waiting.read(self._io_wait.total_ns, perf_counter_ns())
        for read in self.every_second:
            read()

    def statistics(self) -> LoopStatistics:
        """The last seconds."""
        waiting = self._waiting.value
        busy = None if waiting is None else 1 - waiting
        lags = sorted(self._recent)
        if not lags:
            return LoopStatistics(busy, None, None, None)
        return LoopStatistics(
            busy,
            lags[len(lags) // 2] * names.NS,
            lags[min(len(lags) - 1, len(lags) * 99 // 100)] * names.NS,
            lags[-1] * names.NS,
        )
