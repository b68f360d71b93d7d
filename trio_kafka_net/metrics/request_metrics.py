"""What became of requests: how many, of which version, with which errors, and where the time went.

One ``RequestMetrics`` per plane; it is told about a request once, when the request is over, and
knows no more of it than its times. The phases are Kafka's::

    start ── queue ── dequeue ── local, remote ── response_complete ── response_queue ──
        response_dequeue ── send ── end

``remote`` is the time that the handler was parked, wherever in its run that was; ``local`` is the
rest of it. ``throttle`` is what the client was told to wait; it is not part of ``total``, the
others add up to it: a request that is cut off spends the rest of its time in the phase that it was
in. So every histogram of an API has the same count, the number of its requests, and the shares of
the phases mean something.

Why requests are not counted one by one: eight histograms and their counters cost 1.5 to 2 µs, a
tenth of a small request. So a request leaves a row of numbers behind, in one flat list, and when
there are enough rows of one kind, or somebody looks, they are counted together: column by column,
in calls that do their work in C (benchmarks/request_metrics.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter as CountOf
from collections.abc import Mapping
from typing import Final, Protocol

from . import names
from .names import CLIENT_LABELS
from .registry import Counter, Family, Histogram, MetricsRegistry

PHASES: Final = ("queue", "local", "remote", "throttle", "response_queue", "send", "total")
"""Values of the label ``phase``."""

_NS_PER_MS = 1_000_000
_COLUMNS = len(PHASES) + 2
"""A row: the phases in ns (but throttle in ms), bytes of the request, bytes of the response."""
_THROTTLE = PHASES.index("throttle")
_MOST_NUMBERS = 128 * (_COLUMNS + 1)
"""Numbers that wait to be counted: those of 128 rows, and an error code for each. Some 50 KB."""


class RequestTimes(Protocol):
    """What a finished request tells about itself; times in ns of one clock, 0 if it never came."""

    start_time_ns: int
    dequeue_time_ns: int
    local_complete_time_ns: int
    parked_time_ns: int
    response_complete_time_ns: int
    response_dequeue_time_ns: int
    end_time_ns: int
    throttle_time_ms: int
    response_bytes: int


class ApiMetrics:
    """The figures of one API on one plane.

    Source: Kafka ``RequestMetrics``.
    """

    def __init__(self, metrics: RequestMetrics, request: str) -> None:
        """Made by ``RequestMetrics.api``; ``request`` is the API's name in the labels."""
        self._metrics = metrics
        self._request = request
        plane = metrics.plane
        self.phases = [metrics.phases.labels(plane, request, phase) for phase in PHASES]
        """In the order of ``PHASES``."""
        self.sizes = metrics.sizes.labels(plane, request)
        self.response_bytes = metrics.response_bytes.labels(plane, request)
        # {error code: its counter}
        self._errors: dict[int, Counter] = {}

    def version(self, version: int) -> Counter:
        """How many requests there were of a version.

        It must be one that is served, or the label would be the client's choice.
        """
        metrics = self._metrics
        return metrics.requests.labels(metrics.plane, self._request, str(version))

    def record_errors(self, errors: Mapping[int, int]) -> None:
        """Count error codes of responses: {code: how often}, 0 (success) included."""
        for code, count in errors.items():
            counter = self._errors.get(code)
            if counter is None:
                metrics = self._metrics
                name = metrics.error_names.get(code, "UNKNOWN")
                counter = metrics.errors.labels(metrics.plane, self._request, name)
                self._errors[code] = counter
            counter.value += count

    def record_deprecated(self, version: int, client_name: str, client_version: str) -> None:
        """Count a request of a deprecated version, and who sent it."""
        self._metrics.deprecated.labels(
            self._metrics.plane, self._request, str(version), client_name, client_version
        ).value += 1


class RequestRows:
    """Finished requests of one version of an API, until they are counted."""

    __slots__ = (
        "_apis",
        "_errors_of",
        "_histograms",
        "_numbers",
        "_versions",
        "error_codes",
    )

    def __init__(self, apis: list[ApiMetrics], version: int, errors_of: ApiMetrics) -> None:
        """Made by ``RequestMetrics.rows``."""
        self._apis = apis
        self._errors_of = errors_of
        self._versions = [api.version(version) for api in apis]
        # Of each column but the last, one for every name under which requests are counted.
        self._histograms = [
            *([api.phases[phase] for api in apis] for phase in range(len(PHASES))),
            [api.sizes for api in apis],
        ]
        self._numbers: list[int] = []
        self.error_codes: list[int] = []
        """Codes of their responses, 0 (success) included; whoever has some adds them."""

    def record(self, request: RequestTimes, request_bytes: int) -> None:
        """Count one finished request.

        Args:
            request: its times.
            request_bytes: size of its body.

        Source: Kafka ``RequestChannel.Request.updateRequestMetrics``.
        """
        start = request.start_time_ns
        dequeued = request.dequeue_time_ns
        done = request.local_complete_time_ns
        answered = request.response_complete_time_ns
        taken = request.response_dequeue_time_ns
        end = request.end_time_ns
        parked = request.parked_time_ns
        if not taken:  # cut off: what never came would have come at the end
            dequeued, done, answered, taken = dequeued or end, done or end, answered or end, end
        numbers = self._numbers
        numbers += (
            dequeued - start,
            done - dequeued - parked,
            answered - done + parked,
            request.throttle_time_ms,
            taken - answered,
            end - taken,
            end - start,
            request_bytes,
            request.response_bytes,
        )
        if len(numbers) + len(self.error_codes) >= _MOST_NUMBERS:
            self.flush()

    def flush(self) -> None:
        """Bring the figures up to date."""
        codes = self.error_codes
        if codes:
            fine = codes.count(0)
            self._errors_of.record_errors({0: fine} if fine == len(codes) else CountOf(codes))
            codes.clear()
        if not self._numbers:
            return
        columns = [self._numbers[column::_COLUMNS] for column in range(_COLUMNS)]
        self._numbers.clear()
        if any(columns[_THROTTLE]):
            columns[_THROTTLE] = [ms * _NS_PER_MS for ms in columns[_THROTTLE]]
        for histograms, values in zip(self._histograms, columns[:-1], strict=True):
            _observe(histograms, values)
        answer_bytes = sum(columns[-1])
        for api, version in zip(self._apis, self._versions, strict=True):
            api.response_bytes.value += answer_bytes
            version.value += len(columns[-1])


def _observe(histograms: list[Histogram], values: list[int]) -> None:
    """Count values in every histogram."""
    if not any(values):  # nobody waits for replicas, or is told to wait
        for histogram in histograms:
            histogram.counts[0] += len(values)
        return
    values.sort()
    if values[0] < 0:
        values = [max(value, 0) for value in values]
    total = sum(values)
    for histogram in histograms:
        histogram.sum += total
    bounds = histograms[0].bounds
    counted = 0
    while counted < len(values):  # from one bucket that has something to the next
        bucket = bisect_left(bounds, values[counted])
        is_last = bucket == len(bounds)
        up_to = len(values) if is_last else bisect_right(values, bounds[bucket], counted)
        for histogram in histograms:
            histogram.counts[bucket] += up_to - counted
        counted = up_to


class RequestMetrics:
    """The request figures of one plane.

    Source: Kafka ``RequestChannel.Metrics``; the ``plane`` label is what keeps two planes, or two
    servers of a process, from sharing a figure.
    """

    def __init__(
        self, registry: MetricsRegistry, plane: str, error_names: Mapping[int, str]
    ) -> None:
        """Register with ``registry``; an API has figures as soon as it was called.

        Args:
            registry: of the broker.
            plane: value of the label, "data" or "control".
            error_names: {error code: its name in the labels}.
        """
        self.plane = plane
        """Value of the label."""
        self.error_names = error_names
        """{error code: its name in the labels}."""
        self._apis: dict[str, ApiMetrics] = {}
        self._rows: list[RequestRows] = []
        registry.add_source(self._flush)  # before those that tell the figures
        self.requests = registry.counter(names.REQUESTS)
        """By API and version."""
        self.deprecated = registry.counter(names.DEPRECATED_REQUESTS, limit=CLIENT_LABELS)
        """By API, version and client software."""
        self.errors = registry.counter(names.ERRORS)
        """By API and error."""
        self.phases = registry.histogram(names.REQUEST_PHASE)
        """By API and phase, ns."""
        self.sizes = registry.histogram(names.REQUEST_BYTES)
        """By API, bytes."""
        self.response_bytes = registry.counter(names.RESPONSE_BYTES)
        """By API, bytes."""

    def _flush(self) -> tuple[Family, ...]:
        for rows in self._rows:
            rows.flush()
        return ()

    def api(self, request: str) -> ApiMetrics:
        """The figures of one API, by its name in the labels (``Produce``, ``FetchConsumer``)."""
        found = self._apis.get(request)
        if found is None:
            found = self._apis[request] = ApiMetrics(self, request)
        return found

    def rows(self, version: int, *requests: str, errors_of: str | None = None) -> RequestRows:
        """Where finished requests of one version go; keep it.

        Args:
            version: of the API; one that is served, or the label would be the client's choice.
            requests: the names under which each is counted.
            errors_of: the one name under which error codes are; the first if not given.
        """
        apis = [self.api(request) for request in requests]
        rows = RequestRows(apis, version, self.api(errors_of or requests[0]))
        self._rows.append(rows)
        return rows
