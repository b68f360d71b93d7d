"""How numbers were spread, as far as a histogram's buckets tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Distribution:
    """What a histogram counted in an interval."""

    bounds: tuple[float, ...]
    """Upper bounds (inclusive) of the buckets, ascending; the last one may be infinite."""
    counts: tuple[float, ...]
    """Observations in each bucket, not added up."""
    sum: float | None = None
    """Everything observed, added up; None if that is not known."""

    @classmethod
    def of_cumulative(
        cls, buckets: Mapping[float, float], total: float | None = None
    ) -> Distribution:
        """From counts as they are exported.

        Args:
            buckets: {upper bound: observations up to it}; sets of buckets that do not belong
                together may make the counts fall, which counts as no observation.
            total: of everything observed.
        """
        bounds = tuple(sorted(buckets))
        counts = []
        before = 0.0
        for bound in bounds:
            counts.append(max(0.0, buckets[bound] - before))
            before = max(before, buckets[bound])
        return cls(bounds, tuple(counts), total)

    @classmethod
    def merged(cls, parts: Sequence[Distribution]) -> Distribution | None:
        """All of ``parts`` in one; None if there are none, or their buckets differ."""
        if not parts or any(part.bounds != parts[0].bounds for part in parts):
            return None
        counts = tuple(map(sum, zip(*(part.counts for part in parts), strict=True)))
        sums = [part.sum for part in parts if part.sum is not None]
        return cls(parts[0].bounds, counts, sum(sums) if len(sums) == len(parts) else None)

    @property
    def count(self) -> float:
        """How many were observed."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean; None if nothing was observed."""
        count = self.count
        return None if self.sum is None or count <= 0 else self.sum / count

    def quantile(self, q: float) -> float | None:
        """The number that a share ``q`` (0 to 1) of the observations does not exceed.

        Within a bucket the observations count as evenly spread, from 0 in the first one; unless
        they add up to 0. What is beyond the last finite bound is reported as that bound.

        Returns:
            None if nothing was observed, or nothing below infinity is known.

        Source: Prometheus ``histogram_quantile``.
        """
        count = self.count
        finite = [bound for bound in self.bounds if bound != float("inf")]
        if count <= 0 or not finite:
            return None
        if self.sum == 0 and finite[0] > 0:
            return 0.0
        rank = min(max(q, 0.0), 1.0) * count
        seen, lower = 0.0, min(0.0, finite[0])
        for bound, number in zip(finite, self.counts, strict=False):
            if number > 0 and seen + number >= rank:
                return lower + (bound - lower) * max(0.0, rank - seen) / number
            seen += number
            lower = bound
        return finite[-1]

    @property
    def maximum(self) -> float | None:
        """The bound that nothing exceeded; None as ``quantile``."""
        return self.quantile(1.0)
