"""What happened between two snapshots: rates, means and quantiles.

A server counts; whoever reads two counts knows the rate. Rules:

* What is not known is ``None``, never 0: there is no second snapshot yet, or the server does not
  export it, or no series has these labels.
* A counter that went back was started anew: what it shows now is what happened since. A series
  that was not there before began at 0.
* A number that is none (NaN) counts as not exported.

Labels select series: ``rate(name, topic="orders")``; a value of None selects those that lack the
label, as Kafka's figures of all topics do beside those of each. What is selected is added up.

Everything that is asked for by label is computed for all values of the label at once and
remembered: a table asks for the same family once per row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import attrs

from .distribution import Distribution
from .page import Labels
from .snapshot import Snapshot

Key = tuple[str, ...]
"""Values of the labels that figures are grouped by; a label that a series lacks is ``""``."""

MAX_PLANS: Final = 500
"""Far more than all screens need; details of thousands of topics must not add up."""

_NO_SERIES: Final[Mapping[Labels, float]] = {}
_T = TypeVar("_T")


class Interval:
    """Two snapshots, and everything that can be said of the time between them."""

    def __init__(
        self,
        base: Snapshot | None,
        now: Snapshot | None,
        plans: dict[object, Plan] | None = None,
    ) -> None:
        """Of two snapshots.

        Args:
            base: the earlier one; None if there is none.
            now: the later one; None if nothing is known.
            plans: to be shared by intervals of the same server.
        """
        self.base = base
        """The beginning."""
        self.now = now
        """The end."""
        self._memory: dict[object, Any] = {}
        self._plans: dict[object, Plan] = {} if plans is None else plans

    @property
    def elapsed_s(self) -> float | None:
        """Length in seconds; None if there is no beginning, or it is not before the end."""
        if self.base is None or self.now is None:
            return None
        elapsed = self.now.taken - self.base.taken
        return elapsed if elapsed > 0 else None

    def exports(self, name: str) -> bool:
        """Whether the server exports ``name``, a histogram's without ``_bucket`` included."""
        samples = self.now.samples if self.now is not None else {}
        return name in samples or f"{name}_bucket" in samples or f"{name}_count" in samples

    def document(self, name: str) -> Any:
        """The JSON document ``name`` as it came with the last snapshot; None if it did not."""
        return None if self.now is None else self.now.documents.get(name)

    def label_values(self, name: str, *labels: str) -> list[Key]:
        """Every combination of values that ``labels`` have in the family, sorted."""
        return sorted(self.values(name, *labels))

    # -- gauges -----------------------------------------------------------------------------------

    def value(self, name: str, **labels: str | None) -> float | None:
        """The number now."""
        return self.values(name, **labels).get(())

    def values(self, name: str, *by: str, **labels: str | None) -> Mapping[Key, float]:
        """The numbers now, {values of the labels ``by``: number}."""
        return self._remembered(
            ("value", name, by, *labels.items()), self._values, by, name, labels
        )

    # -- counters ---------------------------------------------------------------------------------

    def rate(self, name: str, **labels: str | None) -> float | None:
        """How much it grew per second."""
        return self.rates(name, **labels).get(())

    def rates(self, name: str, *by: str, **labels: str | None) -> Mapping[Key, float]:
        """How much each grew per second, {values of the labels ``by``: rate}."""
        return self._remembered(("rate", name, by, *labels.items()), self._rates, by, name, labels)

    def increases(self, name: str, *by: str, **labels: str | None) -> Mapping[Key, float]:
        """How much each grew, {values of the labels ``by``: growth}."""
        return self._remembered(
            ("growth", name, by, *labels.items()), self._increases, by, name, labels
        )

    def increase(self, name: str, **labels: str | None) -> float | None:
        """How much it grew."""
        return self.increases(name, **labels).get(())

    def share(self, name: str, of: float | None = None, **labels: str | None) -> float | None:
        """The share of the time, 0 to 1, that a counter of seconds was running.

        Args:
            name: of the counter.
            of: how many could run at once; the number of series if None.
            labels: of the series; what is found is averaged.
        """
        rate = self.rate(name, **labels)
        if of is None and self.now is not None:
            family = self.now.samples.get(name, _NO_SERIES)
            of = float(len(self._plan((), name, labels, family).picked))
        return None if rate is None or not of else min(1.0, rate / of)

    # -- histograms -------------------------------------------------------------------------------

    def distribution(self, name: str, **labels: str | None) -> Distribution | None:
        """What a histogram counted; None if that is not known."""
        return self.distributions(name, **labels).get(())

    def distributions(
        self, name: str, *by: str, **labels: str | None
    ) -> Mapping[Key, Distribution]:
        """What each counted, {values of the labels ``by``: distribution}."""
        return self._remembered(
            ("histogram", name, by, *labels.items()), self._distributions, by, name, labels
        )

    def quantile(self, name: str, q: float, **labels: str | None) -> float | None:
        """The number that a share ``q`` of what was observed does not exceed."""
        found = self.distribution(name, **labels)
        return None if found is None else found.quantile(q)

    def mean(self, name: str, **labels: str | None) -> float | None:
        """The mean of what was observed."""
        return self.means(name, **labels).get(())

    def means(self, name: str, *by: str, **labels: str | None) -> Mapping[Key, float]:
        """The means of what was observed; who observed nothing has none."""
        sums = self.increases(f"{name}_sum", *by, **labels)
        counts = self.increases(f"{name}_count", *by, **labels)
        return {key: sums[key] / count for key, count in counts.items() if count and key in sums}

    # -- how --------------------------------------------------------------------------------------

    def _remembered(self, key: object, compute: Callable[..., _T], *args: Any) -> _T:
        if key not in self._memory:
            self._memory[key] = compute(*args)
        return cast("_T", self._memory[key])

    def _values(
        self, by: tuple[str, ...], name: str, labels: Mapping[str, str | None]
    ) -> Mapping[Key, float]:
        family = _NO_SERIES if self.now is None else self.now.samples.get(name, _NO_SERIES)
        if not family:
            return {}
        plan = self._plan(by, name, labels, family)
        return plan.added_up(list(family.values()))

    def _increases(
        self, by: tuple[str, ...], name: str, labels: Mapping[str, str | None]
    ) -> Mapping[Key, float]:
        if self.now is None or self.base is None or self.elapsed_s is None:
            return {}
        family = self.now.samples.get(name, _NO_SERIES)
        if not family:
            return {}
        before = self.base.samples.get(name, _NO_SERIES)
        plan = self._plan(by, name, labels, family)
        earlier: list[float | None]
        if plan.series == list(before):
            earlier = list(before.values())
        else:
            earlier = [before.get(series) for series in family]
        return plan.added_up(list(family.values()), earlier)

    def _plan(
        self,
        by: tuple[str, ...],
        name: str,
        labels: Mapping[str, str | None],
        family: Mapping[Labels, float],
    ) -> Plan:
        """How the family is grouped, as it was before if it has the same series."""
        key = (name, by, *labels.items())
        series = list(family)
        plan = self._plans.get(key)
        if plan is None or plan.series != series:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key] = Plan.of(series, by, labels)
        return plan

    def _rates(
        self, by: tuple[str, ...], name: str, labels: Mapping[str, str | None]
    ) -> Mapping[Key, float]:
        elapsed = self.elapsed_s
        if elapsed is None:
            return {}
        increases = self.increases(name, *by, **labels)
        return {key: increase / elapsed for key, increase in increases.items()}

    def _distributions(
        self, by: tuple[str, ...], name: str, labels: Mapping[str, str | None]
    ) -> Mapping[Key, Distribution]:
        buckets: dict[Key, dict[float, float]] = {}
        for (*key, bound), count in self.increases(f"{name}_bucket", *by, "le", **labels).items():
            upper = _bound(bound)
            if upper is not None:
                buckets.setdefault(tuple(key), {})[upper] = count
        sums = self.increases(f"{name}_sum", *by, **labels)
        return {
            key: Distribution.of_cumulative(counts, sums.get(key))
            for key, counts in buckets.items()
        }


@attrs.frozen
class Plan:
    """Which series of a family belong together.

    Pages have the same series for hours, and taking labels apart is what costs; a list of
    thousands of objects that are the same ones is compared in microseconds.
    """

    series: list[Labels]
    """All series of the family, in their order."""
    groups: list[Key]
    """The values that some of them share."""
    picked: list[tuple[int, int]]
    """Those that are selected: (place in ``series``, place in ``groups``)."""

    @classmethod
    def of(
        cls, series: list[Labels], by: tuple[str, ...], labels: Mapping[str, str | None]
    ) -> Plan:
        """Grouped by the values of ``by``, of those that have ``labels``."""
        groups: dict[Key, int] = {}
        picked = []
        for place, pairs in enumerate(series):
            values = dict(pairs)
            if all(values.get(name) == value for name, value in labels.items()):
                key = tuple(values.get(name, "") for name in by)
                picked.append((place, groups.setdefault(key, len(groups))))
        return cls(series, list(groups), picked)

    def added_up(
        self, numbers: list[float], earlier: list[float | None] | None = None
    ) -> dict[Key, float]:
        """What belongs together, added up; groups of nothing but NaN are left out.

        Args:
            numbers: of all series.
            earlier: the same, some time before; then it is growth that is added up.
        """
        totals: list[float | None] = [None] * len(self.groups)
        isnan = math.isnan
        for place, group in self.picked:
            number = numbers[place]
            if earlier is not None:
                number = _growth(earlier[place], number)
            if not isnan(number):
                total = totals[group]
                totals[group] = number if total is None else total + number
        return {
            key: total
            for key, total in zip(self.groups, totals, strict=True)
            if total is not None and not isnan(total)
        }


@lru_cache(maxsize=1_000)
def _bound(text: str) -> float | None:
    """The upper bound of a bucket; None if that is none."""
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def _growth(before: float | None, now: float) -> float:
    """How much a counter grew; NaN if that cannot be said."""
    if before is None or before > now:
        return max(0.0, now)
    return now - before
