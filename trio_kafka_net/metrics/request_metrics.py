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
tenth of a small request. So a request leaves a row of numbers behind, and when there are enough
rows of one kind, or somebody looks, they are counted together: column by column, sorted, in calls
that do their work in C. That is half the time (benchmarks/request_metrics.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter as CountOf
from collections.abc import Iterable, Mapping
from operator import sub
from typing import Final, Protocol

from . import names
from .names import CLIENT_LABELS
from .registry import Counter, Family, Histogram, MetricsRegistry

PHASES: Final = ("queue", "local", "remote", "throttle", "response_queue", "send", "total")
"""Values of the label ``phase``."""

_NS_PER_MS = 1_000_000
_ROWS = 64
"""Rows that are counted together; some 50 µs of work, and 30 KB of memory."""
_CODES = 1_000
"""Error codes above which rows are counted earlier."""

_Row = tuple[int, int, int, int, int, int, int, int, int, int]
"""Times: start, dequeue, local complete, parked, response complete, response dequeue, end (ns);
throttle (ms); bytes of request and response."""


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

    __slots__ = ("_apis", "_errors_of", "_rows", "_versions", "error_codes")

    def __init__(self, apis: list[ApiMetrics], version: int, errors_of: ApiMetrics) -> None:
        """Made by ``RequestMetrics.rows``."""
        self._apis = apis
        self._errors_of = errors_of
        self._versions = [api.version(version) for api in apis]
        self._rows: list[_Row] = []
        self.error_codes: list[int] = []
        """Codes of their responses, 0 (success) included; whoever has some adds them."""

    def record(self, request: RequestTimes, request_bytes: int) -> None:
        """Count one finished request.

        Args:
            request: its times.
            request_bytes: size of its body.

        Source: Kafka ``RequestChannel.Request.updateRequestMetrics``.
        """
        end = request.end_time_ns
        taken = request.response_dequeue_time_ns
        if taken:
            row = (
                request.start_time_ns,
                request.dequeue_time_ns,
                request.local_complete_time_ns,
                request.parked_time_ns,
                request.response_complete_time_ns,
                taken,
                end,
                request.throttle_time_ms,
                request_bytes,
                request.response_bytes,
            )
        else:
            row = (
                request.start_time_ns,
                request.dequeue_time_ns or end,
                request.local_complete_time_ns or end,
                request.parked_time_ns,
                request.response_complete_time_ns or end,
                end,
                end,
                request.throttle_time_ms,
                request_bytes,
                request.response_bytes,
            )
        rows = self._rows
        rows.append(row)
        if len(rows) >= _ROWS or len(self.error_codes) > _CODES:
            self.flush()

    def flush(self) -> None:
        """Bring the figures up to date."""
        if self.error_codes:
            self._errors_of.record_errors(CountOf(self.error_codes))
            self.error_codes.clear()
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        start, dequeued, local, parked, answered, taken, end, throttle, sizes, answers = columns
        self._rows = []
        count = len(start)
        times: tuple[Iterable[int], ...] = (
            map(sub, dequeued, start),
            map(sub, map(sub, local, dequeued), parked),
            # Mostly there is none of it, which is cheaper to see than to count.
            map(sum, zip(parked, map(sub, answered, local), strict=True))
            if any(parked) or answered != local
            else (),
            [ms * _NS_PER_MS for ms in throttle] if any(throttle) else (),
            map(sub, taken, answered),
            map(sub, end, taken),
            map(sub, end, start),
        )
        apis = self._apis
        for phase, values in enumerate(times):
            _observe([api.phases[phase] for api in apis], values, count)
        _observe([api.sizes for api in apis], sizes, count)
        answer_bytes = sum(answers)
        for api, version in zip(apis, self._versions, strict=True):
            api.response_bytes.value += answer_bytes
            version.value += count


def _observe(histograms: list[Histogram], values: Iterable[int], count: int) -> None:
    """Count values in every histogram, and as many zeros as are missing to ``count``."""
    ordered = sorted(values)
    if ordered and ordered[0] < 0:
        ordered = [max(value, 0) for value in ordered]
    total = sum(ordered)
    for histogram in histograms:
        histogram.sum += total
        histogram.counts[0] += count - len(ordered)
    counted = 0
    for bucket, bound in enumerate(histograms[0].bounds):
        if counted == len(ordered):
            return
        up_to = bisect_right(ordered, bound, counted)
        if up_to != counted:
            for histogram in histograms:
                histogram.counts[bucket] += up_to - counted
            counted = up_to
    for histogram in histograms:
        histogram.counts[-1] += len(ordered) - counted


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
