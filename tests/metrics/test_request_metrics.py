from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import OTHER, Histogram, MetricsRegistry
from trio_kafka_net.metrics.request_metrics import PHASES, RequestMetrics

MS = 1_000_000
ERRORS = {0: "NONE", 2: "CORRUPT_MESSAGE"}

TIMES = (
    "start_time_ns",
    "dequeue_time_ns",
    "local_complete_time_ns",
    "response_complete_time_ns",
    "response_dequeue_time_ns",
    "end_time_ns",
)


def finished(**times: int) -> SimpleNamespace:
    """A request with times in ms; it began at 100 ms."""
    defaults = dict.fromkeys(
        (
            "dequeue_time_ns",
            "local_complete_time_ns",
            "parked_time_ns",
            "response_complete_time_ns",
            "response_dequeue_time_ns",
            "end_time_ns",
        ),
        0,
    )
    given = {f"{name}_time_ns": value * MS for name, value in times.items()}
    return SimpleNamespace(
        **{**defaults, "start_time_ns": 100 * MS, **given}, throttle_time_ms=0, response_bytes=0
    )


ANSWERED = {
    "dequeue": 101,
    "local_complete": 103,
    "response_complete": 103,
    "response_dequeue": 107,
    "end": 115,
}


def phases(registry: MetricsRegistry, request: str) -> dict[str, float]:
    """{phase: observed ms}, checked to have been observed once each."""
    family = registry.collect()[names.REQUEST_PHASE.name]
    found = {
        sample.labels[2]: sample.value
        for sample in family.samples
        if sample.labels[:2] == ("data", request)
    }
    assert dict.fromkeys(PHASES, 1) == {phase: value.count for phase, value in found.items()}
    return {phase: round(value.sum * 1000, 6) for phase, value in found.items() if value.sum}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (
            ANSWERED,
            {"queue": 1, "local": 2, "response_queue": 4, "send": 8, "total": 15},
        ),
        (
            {**ANSWERED, "parked": 1},
            {"queue": 1, "local": 1, "remote": 1, "response_queue": 4, "send": 8, "total": 15},
        ),
        (
            {**ANSWERED, "response_dequeue": 0},
            {"queue": 1, "local": 2, "response_queue": 12, "total": 15},
        ),
        (
            {"dequeue": 101, "parked": 5, "end": 110},
            {"queue": 1, "local": 4, "remote": 5, "total": 10},
        ),
        ({"end": 110}, {"queue": 10, "total": 10}),
        ({"end": 100}, {}),
    ],
    ids=["sent", "parked", "dropped response", "cut in its handler", "never handled", "at once"],
)
def test_the_phases_add_up_to_the_total(times, expected):
    """Unlike Kafka's, also when a request is cut off: no phase is negative or lost."""
    registry = MetricsRegistry()
    RequestMetrics(registry, "data", ERRORS).rows(9, "Produce").record(finished(**times), 0)
    observed = phases(registry, "Produce")
    assert expected == observed
    total = observed.pop("total", 0)
    assert total == sum(observed.values())


def test_throttling_is_not_part_of_the_total():
    registry = MetricsRegistry()
    request = finished(**ANSWERED)
    request.throttle_time_ms = 250
    RequestMetrics(registry, "data", ERRORS).rows(9, "Produce").record(request, 0)
    observed = phases(registry, "Produce")
    assert (250, 15) == (observed["throttle"], observed["total"])


def numbers(registry: MetricsRegistry, metric) -> dict:
    return {sample.labels: sample.value for sample in registry.collect()[metric.name].samples}


def test_requests_are_counted_by_plane_api_and_version():
    """SS-04; difference 25: planes do not share a figure."""
    registry = MetricsRegistry()
    data, control = (
        RequestMetrics(registry, "data", ERRORS),
        RequestMetrics(registry, "control", ERRORS),
    )
    for metrics, request, version in (
        (data, "Metadata", 12),
        (data, "Metadata", 12),
        (data, "Metadata", 13),
        (control, "Metadata", 12),
    ):
        metrics.rows(version, request).record(finished(**ANSWERED), 0)
    assert {
        ("data", "Metadata", "12"): 2,
        ("data", "Metadata", "13"): 1,
        ("control", "Metadata", "12"): 1,
    } == numbers(registry, names.REQUESTS)
    assert names.DEPRECATED_REQUESTS.name not in registry.collect()


def test_errors_are_counted_by_name():
    registry = MetricsRegistry()
    api = RequestMetrics(registry, "data", ERRORS).api("Produce")
    api.record_errors({0: 3, 2: 1})
    api.record_errors({0: 1, 12345: 1})
    assert {
        ("data", "Produce", "NONE"): 4,
        ("data", "Produce", "CORRUPT_MESSAGE"): 1,
        ("data", "Produce", "UNKNOWN"): 1,
    } == numbers(registry, names.ERRORS)


def test_sizes_of_requests_and_responses():
    registry = MetricsRegistry()
    rows = RequestMetrics(registry, "data", ERRORS).rows(9, "Produce")
    for size in (64, 65):
        request = finished(**ANSWERED)
        request.response_bytes = 1000
        rows.record(request, size)
    assert {("data", "Produce"): 2000} == numbers(registry, names.RESPONSE_BYTES)
    histogram = numbers(registry, names.REQUEST_BYTES)["data", "Produce"]
    assert (1, 2, 129) == (*histogram.cumulative[:2], histogram.sum)


def test_client_names_in_labels_are_bounded():
    """SS-05: a hundred combinations, then one for all others."""
    registry = MetricsRegistry()
    api = RequestMetrics(registry, "data", ERRORS).api("Produce")
    for number in range(150):
        api.record_deprecated(3, f"client-{number}", "1.0")
    counted = numbers(registry, names.DEPRECATED_REQUESTS)
    assert 101 == len(counted)
    assert 50 == counted[(OTHER,) * 5]
    assert 1 == counted["data", "Produce", "3", "client-99", "1.0"]


@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.integers(0, 10**11), min_size=8, max_size=8),
            st.integers(0, 3),
            st.sampled_from([0, 0, 2]),
            st.integers(0, 10**6),
        ),
        max_size=12,
    ),
    repeated=st.sampled_from([1, 40]),
    data=st.data(),
)
def test_figures_do_not_depend_on_when_somebody_looks(requests, repeated, data):
    """Counted together or one by one, every figure is that of all requests so far."""
    seldom, often = MetricsRegistry(), MetricsRegistry()
    rows = [RequestMetrics(each, "data", ERRORS).rows(9, "Fetch", "FetchConsumer")
            for each in (seldom, often)]  # fmt: skip
    for steps, came_to, code, size in requests * repeated:
        request = SimpleNamespace(
            **dict(zip(TIMES, accumulate(steps), strict=False)),
            parked_time_ns=steps[2] // 2,
            throttle_time_ms=steps[-1] % 1000 if code else 0,
            response_bytes=size,
        )
        for name in TIMES[1 + came_to : 5] if came_to < 3 else ():
            setattr(request, name, 0)
        for each in rows:
            each.record(request, size)
            each.error_codes.append(code)
        often.collect()
        if data.draw(st.booleans()) if repeated == 1 else False:
            assert seldom.collect() == often.collect()
    assert seldom.collect() == often.collect()


def test_one_by_one_is_what_each_histogram_observes():
    """Against ``Histogram.observe``, over all buckets and beyond the last."""
    registry = MetricsRegistry()
    rows = RequestMetrics(registry, "data", ERRORS).rows(9, "Produce")
    expected = Histogram(names.REQUEST_PHASE)
    sends = [0, 1, *names.PHASE_BOUNDS_NS, *(bound + 1 for bound in names.PHASE_BOUNDS_NS)]
    for send in [*sends, *reversed(sends)]:
        request = finished(**ANSWERED)
        request.end_time_ns = request.response_dequeue_time_ns + send
        rows.record(request, 0)
        expected.observe(send)
    assert expected.read() == numbers(registry, names.REQUEST_PHASE)["data", "Produce", "send"]


def test_what_waits_to_be_counted_is_bounded():
    registry = MetricsRegistry()
    metrics = RequestMetrics(registry, "data", ERRORS)
    rows = metrics.rows(9, "Produce")
    counted = metrics.api("Produce").sizes
    for _ in range(900):
        rows.record(finished(**ANSWERED), 1)
    assert 900 - counted.count <= 150
    rows.error_codes.extend([0] * 2000)
    rows.record(finished(**ANSWERED), 1)
    assert (901, []) == (counted.count, rows.error_codes)
