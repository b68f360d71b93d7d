"""Figures that several views and alerts need, each defined once.

All of them are None where the server does not export what they are made of. Where a server of
ours counts seconds, shares are computed from the counters; of a plain Kafka there are the
percentages that its exporter publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ..metrics import names
from ..metrics.registry import Metric
from .distribution import Distribution
from .interval import Interval, Key

Figure = Callable[[Interval], float | None]


def loop_busy(interval: Interval) -> float | None:
    """The share of the time, 0 to 1, that the event loop had something to do."""
    waited = interval.rate(names.IO_WAIT.name)
    return None if waited is None else min(1.0, max(0.0, 1.0 - waited))


def processors_idle(interval: Interval) -> float | None:
    """The share of the time, 0 to 1, that the average Processor had nothing to do of its own."""
    busy = interval.share(names.PROCESSOR_BUSY.name, **_data_plane(interval, names.PROCESSOR_BUSY))
    if busy is not None:
        return 1.0 - busy
    return _average(interval, names.PROCESSORS_IDLE_PERCENT.name)


def handlers_idle(interval: Interval) -> float | None:
    """The share of the time, 0 to 1, that handlers that are not parked waited for a request."""
    plane = _data_plane(interval, names.HANDLERS)
    ready = _sum(
        interval.value(names.HANDLERS.name, state=state, **plane) for state in ("idle", "running")
    )
    idle = interval.share(names.HANDLER_IDLE.name, ready, **plane)
    return _average(interval, names.HANDLER_IDLE_PERCENT.name) if idle is None else idle


def fullest_queue(interval: Interval) -> tuple[float | None, float | None]:
    """Requests in the fullest request queue, and how many it holds."""
    sizes = interval.values(names.REQUEST_QUEUE_SIZE.name, "plane")
    room = interval.values(names.REQUEST_QUEUE_CAPACITY.name, "plane")
    known = [
        (size / room[plane], room[plane], size) for plane, size in sizes.items() if room.get(plane)
    ]
    if known:
        _, capacity, size = max(known)
        return size, capacity
    return max(sizes.values(), default=None), None


def queue_fill(interval: Interval) -> float | None:
    """The share of the fullest request queue that is taken."""
    size, capacity = fullest_queue(interval)
    return size / capacity if size is not None and capacity else None


def bytes_in(interval: Interval) -> float | None:
    """Bytes per second that came from clients."""
    return _first(
        interval.rate(names.BYTES_IN.name), _all_topics(interval, names.TOPIC_BYTES_IN.name)
    )


def bytes_out(interval: Interval) -> float | None:
    """Bytes per second that went to clients."""
    return _first(
        interval.rate(names.BYTES_OUT.name), _all_topics(interval, names.TOPIC_BYTES_OUT.name)
    )


def messages_in(interval: Interval) -> float | None:
    """Records per second that were appended."""
    return _all_topics(interval, names.MESSAGES_IN.name)


def requests(interval: Interval) -> float | None:
    """Requests per second."""
    return interval.rate(names.REQUESTS.name)


def errors(interval: Interval) -> float | None:
    """Error codes per second, success not included."""
    return errors_by(interval).get(())


def errors_by(interval: Interval, *by: str) -> dict[Key, float]:
    """Error codes per second, success not included, {values of the labels ``by``: rate}."""
    name = names.ERRORS.name
    every = interval.rates(name, *by)
    fine = interval.rates(name, *by, error="NONE")
    return {key: max(0.0, rate - fine.get(key, 0.0)) for key, rate in every.items()}


def total_time(interval: Interval) -> Distribution | None:
    """What requests of all APIs took, from first to last."""
    found = interval.distributions(names.REQUEST_PHASE.name, "request", phase="total")
    return Distribution.merged(list(found.values()))


def connections(interval: Interval) -> float | None:
    """Connections that are open."""
    return interval.value(names.CONNECTION_COUNT.name)


def loop_lag_p99(interval: Interval) -> float | None:
    """How late, in seconds, the event loop was once in a hundred times."""
    return interval.quantile(names.LOOP_LAG.name, 0.99)


def _all_topics(interval: Interval, name: str) -> float | None:
    """A rate of Kafka's: that of all topics where there is one, else those of each, added up."""
    return _first(interval.rate(name, topic=None), interval.rate(name))


def _data_plane(interval: Interval, metric: Metric) -> dict[str, Any]:
    """The label to select the data plane by; none where a server knows no planes."""
    return {"plane": "data"} if ("data",) in interval.values(metric.name, "plane") else {}


def _average(interval: Interval, name: str) -> float | None:
    found = interval.values(name, "plane", "listener", "networkProcessor").values()
    return sum(found) / len(found) if found else None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# -- what is drawn over time ----------------------------------------------------------------------


def _requests_by_api(interval: Interval) -> Mapping[Key, float]:
    return interval.rates(names.REQUESTS.name, "request")


def _latency_by_api(interval: Interval) -> Mapping[Key, float | None]:
    found = interval.distributions(names.REQUEST_PHASE.name, "request", phase="total")
    return {key: distribution.quantile(0.99) for key, distribution in found.items()}


def _lag_by_group(interval: Interval) -> Mapping[Key, float]:
    return interval.values(names.GROUP_LAG.name, "consumergroup")


def _parked_by_operation(interval: Interval) -> Mapping[Key, float]:
    return interval.values(names.PURGATORY_SIZE.name, "delayedOperation")


def _latency(interval: Interval) -> float | None:
    found = total_time(interval)
    return None if found is None else found.quantile(0.99)


TRACKED: Final[Mapping[str, Figure]] = {
    figure.__name__: figure
    for figure in (
        loop_busy,
        processors_idle,
        handlers_idle,
        queue_fill,
        bytes_in,
        bytes_out,
        messages_in,
        requests,
        errors,
        connections,
        loop_lag_p99,
    )
} | {"latency": _latency}
"""{name in a ``Window.history``: figure of one moment}."""

TRACKED_BY_LABEL: Final[
    Mapping[str, tuple[str, Callable[[Interval], Mapping[Key, float | None]]]]
] = {
    names.REQUESTS.name: ("request", _requests_by_api),
    names.REQUEST_PHASE.name: ("request", _latency_by_api),
    names.GROUP_LAG.name: ("consumergroup", _lag_by_group),
    names.PURGATORY_SIZE.name: ("delayedOperation", _parked_by_operation),
}
"""{name in a ``Window.history``: (its label, {value of the label: figure of one moment})}."""
