"""What somebody should look at: conditions, and for how long they must hold.

Every alert is a function of the window that returns an ``Alert`` or None. What has to last is
looked up in the history of the window, so that there is nothing to remember here. What is not
known is no alert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, Literal

import attrs

from ..metrics import names
from .figures import errors, queue_fill, requests
from .numbers import duration, percent, written
from .rings import POINTS, Points
from .widgets import clean
from .window import Window

IDLE_WARN: Final = 0.30
"""Share of the time below which idleness is low. Source: Kafka's operations guide."""
IDLE_BAD: Final = 0.10
IDLE_HELD_S: Final = 30

LAG_WARN_S: Final = 0.050
"""Above this, heartbeats and TLS handshakes suffer."""
LAG_BAD_S: Final = 0.250

QUEUE_WARN: Final = 0.5
QUEUE_HELD_S: Final = 10

ERRORS_WARN: Final = 0.01
"""Errors per request."""

REBALANCE_HELD_S: Final = 30
LAG_GROWS: Final = 6
"""Spans of ten seconds, each with more lag than the one before it."""

DISK_BAD: Final = 0.10
"""Share of the file system that is free."""

_UNSETTLED: Final = frozenset(
    {
        "PreparingRebalance",
        "CompletingRebalance",
        "Assigning",
        "Reconciling",
        "Rebalancing",
    }
)


@attrs.frozen
class Alert:
    """Something to look at."""

    level: Literal["warn", "bad"]
    """How urgent it is."""
    text: str
    """What it is, in a few words."""
    held_s: float | None = None
    """For how long, as far as that is known."""

    @property
    def in_words(self) -> str:
        """With how long it holds."""
        return self.text if self.held_s is None else f"{self.text} for {self.held_s:.0f} s"

    @property
    def in_short(self) -> str:
        """The same, where there is little room."""
        return self.text if self.held_s is None else f"{self.text} ({self.held_s:.0f} s)"


def network_idle(window: Window) -> Alert | None:
    """Processors are busy nearly all the time."""
    return _low(window.history("processors_idle"), "network idle")


def handlers_idle(window: Window) -> Alert | None:
    """Request handlers are busy nearly all the time."""
    return _low(window.history("handlers_idle"), "handler idle")


def loop_lag(window: Window) -> Alert | None:
    """The event loop comes too late to what it has to do."""
    lag = window.quantile(names.LOOP_LAG.name, 0.99)
    if lag is None or lag <= LAG_WARN_S:
        return None
    level: Literal["warn", "bad"] = "bad" if lag > LAG_BAD_S else "warn"
    limit = LAG_BAD_S if level == "bad" else LAG_WARN_S
    shown = f"{written(lag * 1e3, lambda ms: f'{ms:.0f}')} ms > {limit * 1e3:.0f} ms"
    return Alert(level, f"event loop lag p99 {shown}")


def request_queue(window: Window) -> Alert | None:
    """Requests wait for handlers; once the queue is full, Processors wait as well."""
    fill = queue_fill(window)
    if fill is not None and fill >= 1:
        held = held_s(window.history("queue_fill"), lambda share: share >= 1)
        return Alert("bad", "request queue full", held or None)
    points = window.history("queue_fill")
    held = held_s(points, lambda share: share > QUEUE_WARN)
    if held < QUEUE_HELD_S:
        return None
    return Alert("warn", f"request queue {written(points[-1], percent)} full", held)


def memory_pool(window: Window) -> Alert | None:
    """Connections were refused memory."""
    depleted = window.increase(names.MEMORY_POOL_DEPLETED.name)
    return Alert("warn", "memory pool depleted") if depleted else None


def server_errors(window: Window) -> Alert | None:
    """The server failed at something, which is a bug or a broken disk."""
    found = window.increases(names.ERRORS.name, "request", error="UNKNOWN_SERVER_ERROR")
    apis = sorted(clean(api) for (api,), number in found.items() if number > 0)
    return Alert("bad", f"UNKNOWN_SERVER_ERROR in {_named(apis)}") if apis else None


def error_rate(window: Window) -> Alert | None:
    """Many requests fail."""
    failed, every = errors(window), requests(window)
    if not failed or not every or failed <= ERRORS_WARN * every:
        return None
    return Alert("warn", f"errors {written(failed / every, percent)} of requests")


def failed_authentication(window: Window) -> Alert | None:
    """Somebody has no, or wrong, credentials."""
    return _closed(window, ("auth",), "authentication failures")


def quota_closes(window: Window) -> Alert | None:
    """Connections were closed because there were too many."""
    return _closed(window, ("quota", "evicted", "too many"), "connections closed by limits")


def throttled(window: Window) -> Alert | None:
    """Clients are told to wait; the one that is told most often is named."""
    told = window.increases(names.QUOTA_THROTTLES.name, "clientId", "user", "resource")
    worst = max(((number, key) for key, number in told.items() if number > 0), default=None)
    if worst is None:
        return None
    client, user, resource = worst[1]
    who, what = clean(client or user or "a client"), clean(resource).lower()
    return Alert("warn", f"{who} throttled ({what} quota)")


def group_rebalancing(window: Window) -> Alert | None:
    """A group does not get to its work."""
    since = window.values(names.GROUP_STATE_SECONDS.name, "group", "state")
    late = sorted(
        (-seconds, group)
        for (group, state), seconds in since.items()
        if state in _UNSETTLED and seconds > REBALANCE_HELD_S
    )
    if not late:
        return None
    return Alert("warn", f"{_named([clean(group) for _, group in late])} rebalancing", -late[0][0])


def lag_growing(window: Window) -> Alert | None:
    """A group falls behind."""
    lags = window.values(names.GROUP_LAG.name, "consumergroup")
    growing = sorted(
        (-lag, group)
        for (group,), lag in lags.items()
        if is_growing(window.history(names.GROUP_LAG.name, group))
    )
    if not growing:
        return None
    return Alert("warn", f"{_named([clean(group) for _, group in growing])} lag growing", POINTS)


def offline(window: Window) -> Alert | None:
    """Data that cannot be reached."""
    for name, one, many in (
        (names.OFFLINE_LOG_DIRS.name, "log directory", "log directories"),
        (names.OFFLINE_REPLICAS.name, "replica", "replicas"),
        (names.OFFLINE_PARTITIONS.name, "partition", "partitions"),
    ):
        number = window.value(name)
        if number:
            return Alert("bad", f"{number:.0f} {one if number == 1 else many} offline")
    return None


def disk_free(window: Window) -> Alert | None:
    """The disk is nearly full."""
    free, every = window.value(names.LOG_DIR_FREE.name), window.value(names.LOG_DIR_SIZE.name)
    if free is None or not every or free >= DISK_BAD * every:
        return None
    return Alert("bad", f"disk free {written(free / every, percent)} < 10%")


def stale(window: Window) -> Alert | None:
    """The server does not answer: everything on the screen is old."""
    seconds = window.stale_s
    return None if seconds is None else Alert("bad", f"no answer since {duration(seconds)}")


def restarted(window: Window) -> Alert | None:
    """The server was started anew a moment ago."""
    return Alert("warn", "server restarted") if window.is_restarted else None


ALERTS: Final[tuple[Callable[[Window], Alert | None], ...]] = (
    stale,
    offline,
    server_errors,
    disk_free,
    request_queue,
    loop_lag,
    handlers_idle,
    network_idle,
    memory_pool,
    group_rebalancing,
    lag_growing,
    error_rate,
    throttled,
    failed_authentication,
    quota_closes,
    restarted,
)
"""Every alert, what matters most first."""


def active(window: Window) -> list[Alert]:
    """What holds now, the worst first, and what holds longest before the rest."""
    if window.now is None:
        return []
    found = [alert for alert in (condition(window) for condition in ALERTS) if alert is not None]
    return sorted(found, key=lambda alert: (alert.level != "bad", -(alert.held_s or 0)))


def held_s(points: Points, condition: Callable[[float], bool]) -> int:
    """Seconds up to now, a minute at most, that ``condition`` has been true."""
    held = 0
    for point in reversed(points):
        if point is None or not condition(point):
            break
        held += 1
    return held


def is_growing(points: Points) -> bool:
    """Whether every ten seconds of a whole minute had more than those before them."""
    known = [point for point in points if point is not None]
    if len(known) < POINTS:
        return False
    length = POINTS // LAG_GROWS
    sums = [sum(known[at : at + length]) for at in range(0, POINTS, length)]
    return all(earlier < later for earlier, later in pairwise(sums))


def _low(points: Points, what: str) -> Alert | None:
    levels: tuple[tuple[Literal["warn", "bad"], float], ...] = (
        ("bad", IDLE_BAD),
        ("warn", IDLE_WARN),
    )
    for level, limit in levels:
        held = held_s(points, limit.__gt__)
        if held >= IDLE_HELD_S:
            return Alert(level, f"{what} {written(points[-1], percent)} < {limit:.0%}", held)
    return None


def _closed(window: Window, words: Sequence[str], what: str) -> Alert | None:
    found = window.increases(names.DISCONNECTS.name, "cause")
    number = sum(
        count for (cause,), count in found.items() if any(word in cause.lower() for word in words)
    )
    return Alert("warn", f"{number:.0f} {what}") if number > 0 else None


def _named(found: Sequence[str]) -> str:
    """The first one by name, the others as a number."""
    return found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"
