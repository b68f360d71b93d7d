"""What Prometheus' own parser makes of our pages."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.exposition import render
from trio_kafka_net.metrics.process import process_families
from trio_kafka_net.metrics.registry import Family, MetricsRegistry, Sample


def parsed(page: bytes) -> dict[tuple, float]:
    """{(name, labels): value} of every sample."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_counters_and_gauges_keep_their_names():
    page = render(
        [
            Family(names.MESSAGES_IN, (Sample(("t",), 3),)),
            Family(names.LOG_SIZE, (Sample(("t", "0"), 10.0),)),
            Family(names.MEMORY_POOL_AVAILABLE, (Sample(("data",), math.inf),)),
        ]
    )
    assert {
        (names.MESSAGES_IN.name, (("topic", "t"),)): 3,
        (names.LOG_SIZE.name, (("partition", "0"), ("topic", "t"))): 10,
        (names.MEMORY_POOL_AVAILABLE.name, (("plane", "data"),)): math.inf,
    } == parsed(page)
    assert f"# HELP {names.MESSAGES_IN.name} {names.MESSAGES_IN.help}".encode() in page
    assert f"# TYPE {names.MESSAGES_IN.name} counter".encode() in page


def test_a_histogram_has_cumulative_buckets_sum_and_count():
    registry = MetricsRegistry()
    histogram = registry.histogram(names.LOOP_LAG).labels()
    for milliseconds in (0.05, 0.2, 3, 5000):
        histogram.observe(int(milliseconds * 1_000_000))
    found = parsed(render(registry.collect().values()))
    name = names.LOOP_LAG.name
    assert 1 == found[f"{name}_bucket", (("le", "0.0001"),)]
    assert 3 == found[f"{name}_bucket", (("le", "0.005"),)]
    assert 4 == found[f"{name}_bucket", (("le", "+Inf"),)]
    assert 4 == found[f"{name}_count", ()]
    assert 5.00325 == round(found[f"{name}_sum", ()], 6)


@given(st.lists(st.text(), unique=True, max_size=5))
def test_any_label_value_survives(values):
    samples = tuple(Sample((value,), number) for number, value in enumerate(values))
    page = render([Family(names.GROUP_MEMBERS, samples)])
    expected = {
        (names.GROUP_MEMBERS.name, (("group", value),)): n for n, value in enumerate(values)
    }
    assert expected == parsed(page)


def test_many_samples_are_all_there():
    samples = tuple(Sample(("t", str(number)), number) for number in range(1001))
    assert 1001 == len(parsed(render([Family(names.LOG_SIZE, samples)])))


def test_the_process_is_told_about():
    found = parsed(render(process_families()))
    assert 1_000_000 < found[names.PROCESS_MEMORY.name, ()]
    assert 3 <= found[names.PROCESS_OPEN_FDS.name, ()] <= found[names.PROCESS_MAX_FDS.name, ()]
    assert 1_500_000_000 < found[names.PROCESS_START_TIME.name, ()]
    assert 0 < found[names.PROCESS_CPU.name, ()]
