from __future__ import annotations

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import Metric


def test_every_metric_of_the_catalogue_is_named_once_and_explained():
    """One list of names, each with its unit in a sentence."""
    metrics = [value for value in vars(names).values() if isinstance(value, Metric)]
    assert len(metrics) == len({metric.name for metric in metrics})
    for metric in metrics:
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.bounds) == (metric.kind == "histogram")
