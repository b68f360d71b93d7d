"""Figures as the text that Prometheus reads.

``prometheus_client`` writes the format; our numbers reach it through its interface for collectors.
It is imported by the first page, in the thread that renders it: a broker that nobody asks need not
have it in memory (5 MB, 17 ms).

Rendering is Python at work, and the event loop waits while another thread has the interpreter: for
5 ms each time that it wants it back. So the thread rests for a moment every hundred samples, which
is half a millisecond; to let go of the interpreter and take it again at once would give it to
nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from .registry import Family, HistogramSnapshot

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as PrometheusMetric
    from prometheus_client.samples import Sample as PrometheusSample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of a page."""

_SAMPLES_PER_SLICE = 100
_REST_SECONDS = 0.0001


def render(families: Iterable[Family], *, rests: bool = False) -> bytes:
    """A page with all samples of ``families``; blocks, for some 6 µs a sample.

    Args:
        families: consumed once, as they are rendered.
        rests: whether others shall have the interpreter now and then, for a worker thread.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families, rests=rests))
    return generate_latest(registry)


class _Collector:
    """Gives families of ours as ``prometheus_client`` knows them."""

    def __init__(self, families: Iterable[Family], *, rests: bool) -> None:
        self._families = families
        self._rests = rests
        self._rendered = 0

    def describe(self) -> list[PrometheusMetric]:
        """Nothing is known beforehand; asked when it is registered."""
        return []

    def collect(self) -> Iterator[PrometheusMetric]:
        """Every family, one after the other."""
        from prometheus_client.metrics_core import Metric

        for family in self._families:
            metric = family.metric
            known = Metric(metric.name.removesuffix("_total"), metric.help, metric.kind)
            samples = self._paced(_samples(family))
            known.samples = samples  # type: ignore[assignment]  # read once, sample by sample
            yield known

    def _paced(self, samples: Iterator[PrometheusSample]) -> Iterator[PrometheusSample]:
        for sample in samples:
            yield sample
            self._rendered += 1
            if self._rests and self._rendered % _SAMPLES_PER_SLICE == 0:
                time.sleep(_REST_SECONDS)


def _samples(family: Family) -> Iterator[PrometheusSample]:
    from prometheus_client.samples import Sample

    name = family.metric.name
    label_names = family.metric.labels
    for values, value in family.samples:
        labels = dict(zip(label_names, values, strict=True))
        if isinstance(value, HistogramSnapshot):
            bounds = [f"{bound:g}" for bound in value.bounds]
            for bound, count in zip([*bounds, "+Inf"], value.cumulative, strict=True):
                yield Sample(f"{name}_bucket", {**labels, "le": bound}, count)
            yield Sample(f"{name}_sum", labels, value.sum)
            yield Sample(f"{name}_count", labels, value.count)
        else:
            yield Sample(name, labels, value)
