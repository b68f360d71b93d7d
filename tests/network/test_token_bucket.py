"""A rate with an explicit burst."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.network.token_bucket import TokenBucket


def test_a_fresh_bucket_gives_one_seconds_worth_at_once():
    bucket = TokenBucket(5)

    assert [100.0] * 5 == [bucket.take(100.0) for _ in range(5)]
    assert pytest.approx(100.2) == bucket.due(100.0)


def test_tokens_taken_in_advance_come_at_the_rate():
    bucket = TokenBucket(4)
    for _ in range(4):
        bucket.take(0.0)

    assert [0.25, 0.5, 0.75] == [pytest.approx(bucket.take(0.0), abs=1e-5) for _ in range(3)]


def test_a_bucket_fills_again_but_never_above_its_burst():
    bucket = TokenBucket(10)
    for _ in range(10):
        bucket.take(0.0)

    assert not bucket.is_as_new(0.9)
    assert bucket.is_as_new(1.1)
    assert [50.0] * 10 == [bucket.take(50.0) for _ in range(10)]
    assert 50.0 < bucket.due(50.0)


def test_a_rate_of_one_gives_one_at_once():
    bucket = TokenBucket(1)

    assert [7.0, pytest.approx(8.0)] == [bucket.take(7.0), bucket.take(7.0)]


def test_a_rate_of_zero_never_gives():
    bucket = TokenBucket(0)

    assert math.inf == bucket.due(1.0) == bucket.take(1.0)
    assert bucket.is_as_new(1.0)


@given(
    st.integers(1, 200),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_interval_sees_more_than_burst_and_rate_allow(rate, start, pauses):
    """Difference 23: at most ``rate * (t + 1)`` tokens in any ``t`` seconds."""
    bucket = TokenBucket(rate)
    now = start
    due = []
    for pause in pauses:
        now += pause
        due.append(bucket.take(now))

    for first in range(len(due)):
        for last in range(first, len(due), 7):
            assert last - first + 1 <= rate * (due[last] - due[first] + 1) + 1.001
