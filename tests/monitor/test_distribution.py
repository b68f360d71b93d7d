import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.monitor.distribution import Distribution

BOUNDS = (0.1, 0.5, 1.0, 5.0, math.inf)
counts = st.lists(st.integers(0, 50), min_size=5, max_size=5)


def spread_out(found):
    """Observations as the buckets have them: evenly spread, the last ones at the last bound."""
    numbers, lower = [], 0.0
    for bound, count in zip(BOUNDS, found, strict=True):
        upper = lower if bound == math.inf else bound
        numbers += [lower + (upper - lower) * (at + 1) / count for at in range(count)]
        lower = upper
    return numbers


@given(found=counts, q=st.floats(0, 1))
def test_quantiles_are_those_of_evenly_spread_observations(found, q):
    distribution = Distribution(BOUNDS, tuple(map(float, found)))
    numbers = spread_out(found)
    if not numbers:
        assert distribution.quantile(q) is None
        return
    rank = q * len(numbers)
    above = numbers[min(len(numbers) - 1, max(0, math.ceil(rank) - 1))]
    below = numbers[math.floor(rank) - 1] if rank >= 1 else 0.0

    quantile = distribution.quantile(q)

    assert quantile <= above + 1e-9
    assert quantile >= below - 1e-9


@given(found=counts, one=st.floats(0, 1), other=st.floats(0, 1))
def test_quantiles_ascend(found, one, other):
    distribution = Distribution(BOUNDS, tuple(map(float, found)))
    less, more = sorted((one, other))

    if sum(found):
        assert distribution.quantile(less) <= distribution.quantile(more) + 1e-12


def test_what_adds_up_to_nothing_was_nothing_each_time():
    found = Distribution.of_cumulative({0.1: 5.0, 0.5: 5.0, math.inf: 5.0}, 0.0)

    assert (0.0, 0.0, 0.0) == (found.quantile(0.5), found.maximum, found.mean)


def test_counts_that_fall_are_no_observations():
    found = Distribution.of_cumulative({0.1: 5.0, 0.5: 3.0, math.inf: 6.0}, 1.2)

    assert ((5.0, 0.0, 1.0), 6.0) == (found.counts, found.count)
    assert pytest.approx(0.2) == found.mean


@pytest.mark.parametrize(
    "found", [Distribution((), ()), Distribution((math.inf,), (3.0,)), Distribution((1.0,), (0.0,))]
)
def test_nothing_known_is_none(found):
    assert found.quantile(0.5) is None
    assert found.maximum is None
    assert found.mean is None
