from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.metrics.registry import (
    OTHER,
    Family,
    Histogram,
    Metric,
    MetricsRegistry,
    Sample,
)

COUNTER = Metric("requests_total", "counter", ("plane",), "Requests.")
HISTOGRAM = Metric("seconds", "histogram", (), "Times.", bounds=(10, 100), scale=0.5)
GAUGE = Metric("size", "gauge", (), "Entries.")


def values(registry: MetricsRegistry, name: str) -> dict:
    return {sample.labels: sample.value for sample in registry.collect()[name].samples}


def test_a_counter_has_one_number_per_label_value():
    registry = MetricsRegistry()
    requests = registry.counter(COUNTER)
    requests.labels("data").value += 2
    requests.labels("control").value += 1
    requests.labels("data").value += 1
    assert {("data",): 3, ("control",): 1} == values(registry, "requests_total")


def test_a_histogram_counts_its_bounds_inclusively_and_scales_them():
    registry = MetricsRegistry()
    histogram = registry.histogram(HISTOGRAM).labels()
    for value in (0, 10, 11, 100, 101):
        histogram.observe(value)
    snapshot = values(registry, "seconds")[()]
    assert (5.0, 50.0) == snapshot.bounds
    assert (2, 4, 5) == snapshot.cumulative
    assert (5, 111.0) == (snapshot.count, snapshot.sum)


@given(st.lists(st.integers(0, 200)))
def test_a_histogram_loses_nothing(observed):
    histogram = Histogram(HISTOGRAM)
    for value in observed:
        histogram.observe(value)
    snapshot = histogram.read()
    assert [sum(v <= bound for v in observed) for bound in (10, 100)] == list(
        snapshot.cumulative[:-1]
    )
    assert (len(observed), sum(observed) * 0.5) == (snapshot.count, snapshot.sum)


def test_a_snapshot_does_not_change_afterwards():
    registry = MetricsRegistry()
    requests, times = registry.counter(COUNTER).labels("data"), registry.histogram(HISTOGRAM)
    times.labels().observe(1)
    before = registry.collect()
    requests.value += 1
    times.labels().observe(1)
    assert 0 == before["requests_total"].samples[0].value
    assert 1 == before["seconds"].samples[0].value.count


def test_label_values_beyond_the_limit_share_one_number():
    """a client cannot make label values without end."""
    registry = MetricsRegistry()
    requests = registry.counter(COUNTER, limit=3)
    for number in range(10):
        requests.labels(f"client {number}").value += 1
    requests.labels("client 0").value += 1
    assert {("client 0",): 2, ("client 1",): 1, ("client 2",): 1, (OTHER,): 7} == values(
        registry, "requests_total"
    )


def test_a_gauge_is_read_when_somebody_looks():
    registry = MetricsRegistry()
    entries: list[int] = []
    registry.gauge(GAUGE, lambda: len(entries))
    assert {(): 0} == values(registry, "size")
    entries.append(1)
    assert {(): 1} == values(registry, "size")


def test_families_of_several_sources_become_one_and_empty_ones_are_left_out():
    registry = MetricsRegistry()
    for plane in ("data", "control"):
        registry.add_source(
            lambda plane=plane: [
                Family(COUNTER, (Sample((plane,), 1),)),
                Family(GAUGE, ()),
            ]
        )
    assert {("data",): 1, ("control",): 1} == values(registry, "requests_total")
    assert ["requests_total"] == list(registry.collect())


def test_registries_share_nothing():
    """Difference 25: two brokers in one process."""
    first, second = MetricsRegistry(), MetricsRegistry()
    first.counter(COUNTER).labels("data").value += 1
    second.counter(COUNTER).labels("data")
    assert {("data",): 0} == values(second, "requests_total")


def test_after_clear_nothing_is_known():
    """SS-41."""
    registry = MetricsRegistry()
    registry.counter(COUNTER).labels("data").value += 1
    registry.clear()
    assert {} == registry.collect()


def test_labels_must_be_as_many_as_the_metric_has():
    with pytest.raises(AssertionError, match="requests_total"):
        MetricsRegistry().counter(COUNTER).labels("data", "more")
