"""Counters, gauges and histograms, and the registry that knows all of one broker.

Rules: a number is changed where the work is done, by a plain attribute or list access, and is
given its name and labels once, beforehand. Nothing is computed before somebody looks: a gauge is
a callable, and figures that a component keeps for itself come through a *source*, a callable that
makes families of the component's statistics.

Nothing here is global: several brokers in a process have a registry each. Nothing here is locked
either: everything happens on the event loop, and ``collect`` makes a copy that may leave it.

Labels are tuples of texts. A family whose label values come from clients is given a limit: beyond
it every new combination is counted under ``OTHER``, so that nobody can fill our memory, or the
one of the system that scrapes us, with names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from time import perf_counter_ns
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import attrs
import trio

Labels = tuple[str, ...]
"""Values, in the order of the metric's label names."""

_TURN_NS = 1_000_000
"""How long collecting goes on before others get a turn."""

OTHER: Final = "other"
"""Stands for every label value beyond a limit."""


@attrs.frozen
class Metric:
    """The definition of a metric: what it is called and what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    """Names of the labels."""
    help: str
    """One sentence, with the unit."""
    bounds: tuple[int, ...] = ()
    """Upper bounds (inclusive) of a histogram's buckets, in the unit that is observed."""
    scale: float = 1.0
    """What an observed number is multiplied by to be in the unit of the name."""
    origin: str = ""
    """Kafka's name of it, empty if Kafka has none."""


@attrs.frozen
class HistogramSnapshot:
    """A histogram at one moment, in the unit of its metric's name."""

    bounds: tuple[float, ...]
    """Upper bounds (inclusive); one more bucket, without a bound, follows."""
    cumulative: tuple[int, ...]
    """Observations up to each bound, and all of them at the end."""
    sum: float
    """All observed numbers added up."""

    @property
    def count(self) -> int:
        """How many were observed."""
        return self.cumulative[-1]


class Sample(NamedTuple):
    """One number, or one histogram, of a family."""

    labels: Labels
    value: float | HistogramSnapshot


@attrs.frozen
class Family:
    """A metric with all its samples at one moment."""

    metric: Metric
    samples: tuple[Sample, ...]


class Counter:
    """A number that only grows; whoever counts adds to ``value``."""

    __slots__ = ("value",)

    def __init__(self, metric: Metric) -> None:
        """Start at 0."""
        self.value = 0

    def read(self) -> float:
        """The number."""
        return self.value


class Histogram:
    """How often numbers fell into each of a few fixed buckets.

    The hot path may do what ``observe`` does in its own lines: ``counts`` and ``sum`` are public.
    """

    __slots__ = ("_scale", "bounds", "counts", "sum")

    def __init__(self, metric: Metric) -> None:
        """Start empty, with the bounds of ``metric``."""
        self.bounds = metric.bounds
        """Upper bounds (inclusive), ascending."""
        self.counts = [0] * (len(metric.bounds) + 1)
        """Observations per bucket; the last one is beyond every bound."""
        self.sum = 0
        """Everything observed, added up."""
        self._scale = metric.scale

    def observe(self, value: int) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def read(self) -> HistogramSnapshot:
        """A copy, in the unit of the metric's name."""
        scale = self._scale
        return HistogramSnapshot(
            tuple(bound * scale for bound in self.bounds),
            tuple(accumulate(self.counts)),
            self.sum * scale,
        )


_Child = TypeVar("_Child", bound=Counter | Histogram)


class Children(Generic[_Child]):
    """The counters or histograms of one metric, one per combination of label values."""

    def __init__(
        self, metric: Metric, make: Callable[[Metric], _Child], limit: int | None = None
    ) -> None:
        """Have none yet; ``make`` makes one, and no more than ``limit`` of them if given."""
        self.metric = metric
        self._make: Callable[[Metric], _Child] = make
        self._limit = limit
        self._children: dict[Labels, _Child] = {}

    def labels(self, *values: str) -> _Child:
        """The child with these label values; keep it where it is used often.

        Beyond the limit, it is the one whose labels are all ``OTHER``.
        """
        child = self._children.get(values)
        if child is not None:
            return child
        assert len(values) == len(self.metric.labels), (self.metric.name, values)
        if self._limit is not None and len(self._children) >= self._limit:
            values = (OTHER,) * len(values)
            if values in self._children:
                return self._children[values]
        child = self._children[values] = self._make(self.metric)
        return child

    def collect(self) -> Family:
        """Every child at this moment."""
        samples = (Sample(labels, child.read()) for labels, child in self._children.items())
        return Family(self.metric, tuple(samples))


Source = Callable[[], Iterable[Family]]
"""Makes families of figures that somebody else keeps; many samples come in several pieces."""


class _Collection:
    """Families as they come in, those of one name together."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._samples: dict[str, list[Sample]] = {}

    def add(self, family: Family) -> None:
        if family.samples:
            name = family.metric.name
            self._metrics[name] = family.metric
            self._samples.setdefault(name, []).extend(family.samples)

    def families(self) -> dict[str, Family]:
        return {
            name: Family(metric, tuple(self._samples[name]))
            for name, metric in self._metrics.items()
        }


class MetricsRegistry:
    """Every metric of one broker."""

    def __init__(self) -> None:
        """Know none."""
        self._sources: list[Source] = []

    def counter(self, metric: Metric, *, limit: int | None = None) -> Children[Counter]:
        """Register a counter; ``limit`` bounds its label combinations."""
        children = Children(metric, Counter, limit)
        self.add_source(lambda: (children.collect(),))
        return children

    def histogram(self, metric: Metric, *, limit: int | None = None) -> Children[Histogram]:
        """Register a histogram; ``limit`` bounds its label combinations."""
        children = Children(metric, Histogram, limit)
        self.add_source(lambda: (children.collect(),))
        return children

    def gauge(self, metric: Metric, read: Callable[[], float], labels: Labels = ()) -> None:
        """Register a number that is read when somebody looks."""
        self.add_source(lambda: (Family(metric, (Sample(labels, read()),)),))

    def add_source(self, source: Source) -> None:
        """Have ``source`` asked in every ``collect``."""
        self._sources.append(source)

    def collect(self) -> dict[str, Family]:
        """Everything at this moment: {name: family}; families without samples are left out.

        Families of the same name, from several sources, become one.
        """
        collection = _Collection()
        for source in self._sources:
            for family in source():
                collection.add(family)
        return collection.families()

    async def collect_in_turns(self) -> dict[str, Family]:
        """As ``collect``, but others get a turn every millisecond: not all of one moment.

        Cancellation: safe.
        """
        collection = _Collection()
        turn_ends_ns = perf_counter_ns() + _TURN_NS
        for source in list(self._sources):
            for family in source():
                collection.add(family)
                if perf_counter_ns() >= turn_ends_ns:
                    await trio.lowlevel.checkpoint()
                    turn_ends_ns = perf_counter_ns() + _TURN_NS
        return collection.families()

    def clear(self) -> None:
        """Forget every metric, because what they tell about has ended.

        Source: Kafka ``RequestChannel.Metrics.close``, ``Processor.closeAll``.
        """
        self._sources.clear()
