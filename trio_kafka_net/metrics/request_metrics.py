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

Why ``record`` does the work of ``Histogram.observe`` itself: it runs once per request, 1.2 to
1.4 µs as it is (benchmarks/request_metrics.py), and eight calls would come on top.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, Protocol

from . import names
from .registry import Counter, MetricsRegistry

PHASES: Final = ("queue", "local", "remote", "throttle", "response_queue", "send", "total")
"""Values of the label ``phase``."""

CLIENT_LABELS: Final = 100
"""Combinations of labels that clients choose, per metric; Kafka's limit."""

_NS_PER_MS = 1_000_000


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
        self._phases = [metrics.phases.labels(plane, request, phase) for phase in PHASES]
        self._sizes = metrics.sizes.labels(plane, request)
        self._response_bytes = metrics.response_bytes.labels(plane, request)
        # {version: its counter}, {error code: its counter}
        self._versions: dict[int, Counter] = {}
        self._errors: dict[int, Counter] = {}

    def record(self, request: RequestTimes, version: int, request_bytes: int) -> None:
        """Count one finished request.

        Args:
            request: its times.
            version: of the API; one that is served, or the label would be the client's choice.
            request_bytes: size of its body.

        Source: Kafka ``RequestChannel.Request.updateRequestMetrics``.
        """
        start, end = request.start_time_ns, request.end_time_ns
        dequeued = request.dequeue_time_ns or end
        local = request.local_complete_time_ns or end
        answered = request.response_complete_time_ns or end
        taken = request.response_dequeue_time_ns or end
        parked = request.parked_time_ns
        times = (
            dequeued - start,
            local - dequeued - parked,
            parked + answered - local,
            request.throttle_time_ms * _NS_PER_MS,
            taken - answered,
            end - taken,
            end - start,
        )
        bounds = names.PHASE_BOUNDS_NS
        for histogram, time in zip(self._phases, times, strict=True):
            if time > 0:
                histogram.counts[bisect_left(bounds, time)] += 1
                histogram.sum += time
            else:
                histogram.counts[0] += 1
        sizes = self._sizes
        sizes.counts[bisect_left(names.SIZE_BOUNDS, request_bytes)] += 1
        sizes.sum += request_bytes
        self._response_bytes.value += request.response_bytes
        counter = self._versions.get(version)
        if counter is None:
            counter = self._versions[version] = self._metrics.requests.labels(
                self._metrics.plane, self._request, str(version)
            )
        counter.value += 1

    def record_errors(self, errors: Mapping[int, int]) -> None:
        """Count error codes of a response: {code: how often}, 0 (success) included."""
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
        self._apis: dict[str, ApiMetrics] = {}

    def api(self, request: str) -> ApiMetrics:
        """The figures of one API, by its name in the labels (``Produce``, ``FetchConsumer``)."""
        found = self._apis.get(request)
        if found is None:
            found = self._apis[request] = ApiMetrics(self, request)
        return found
