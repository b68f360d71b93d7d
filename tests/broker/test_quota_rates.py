"""What a client has used up, and how long it must wait: Kafka's own numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.quota_rates import MutationBucket, SampledRate

MS = 1_000_000  # ns
START = 5_000  # any time, ms


def a_rate(quota, *, samples=11, window_ms=1000):
    return SampledRate(quota, samples=samples, window_ms=window_ms, now_ms=START)


def use(rate, amount, now_ms):
    rate.record(amount, now_ms)
    return rate.delay_ms(now_ms)


def ten_windows(rate, amount):
    """Use ``amount`` in each of ten windows; returns the time half a window later."""
    now = START
    for _ in range(10):
        assert use(rate, amount, now) == 0
        now += 1000
    return now + 500


# TQ-03


def test_spike_waits_until_the_average_is_the_quota_again():
    """TQ-03: 6300 bytes in 10.5 s are 600/s; at 500/s that takes 2.1 s longer."""
    rate = a_rate(500)
    now = ten_windows(rate, 400)

    assert use(rate, 2300, now) == 2100
    assert rate.per_second(now) == 600


def test_spike_is_forgotten_when_its_window_is_over():
    """TQ-03."""
    rate = a_rate(500)
    now = ten_windows(rate, 400)
    use(rate, 2300, now)
    for _ in range(10):
        now += 1000
        use(rate, 400, now)

    assert use(rate, 0, now + 1000) == 0


def test_all_windows_but_one_may_be_used_up_at_once():
    """TQ-05: after a quiet time."""
    assert use(a_rate(500), 5000, START) == 0
    assert use(a_rate(500), 5001, START) == 2
    assert use(a_rate(500, samples=2, window_ms=3000), 1500, START) == 0
    assert use(a_rate(500, samples=2, window_ms=3000), 1600, START) == 200


def test_one_window_is_enough():
    rate = a_rate(1000, samples=1)

    assert use(rate, 10, START) == 9
    assert rate.delay_ms(START + 10) == 0


def test_what_is_taken_back_was_never_used():
    rate = a_rate(500)
    assert use(rate, 50_000, START) > 0
    rate.record(-50_000, START)

    assert rate.total(START) == 0
    assert rate.delay_ms(START) == 0


def test_changed_quota_counts_for_what_was_used_before():
    rate = a_rate(2000)
    assert use(rate, 27_500, START) > 0
    rate.quota = 3000
    assert rate.delay_ms(START) == 0
    rate.quota = 500
    assert rate.delay_ms(START) == 45_000


def test_infinite_quota_never_waits():
    assert use(a_rate(math.inf), 10**18, START) == 0


# TQ-08


def test_request_time_of_a_spike():
    """TQ-08: 1 % is 10 ms a second; 107.1 ms in 10.5 s take 210 ms longer."""
    rate = a_rate(10 * MS)
    now = ten_windows(rate, 4 * MS)

    assert use(rate, int(67.1 * MS), now) == 210


# In general


steps = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 10_000)), min_size=1, max_size=40)


@given(steps, st.integers(1, 2_000), st.integers(1, 12))
def test_rate_is_that_of_the_windows_that_count(steps, quota, samples):
    """Compared with a list of everything that ever happened, grouped as windows are."""
    rate = a_rate(quota, samples=samples)
    windows = []  # [start, last, sum]
    now = START
    for pause, amount in steps:
        now += pause
        rate.record(amount, now)
        if not windows or now - windows[-1][0] >= 1000:
            windows.append([now, now, 0])
            del windows[: -samples - 1]
        windows[-1][1] = now
        windows[-1][2] += amount
        counting = [each for each in windows if now - each[1] < samples * 1000]
        elapsed = now - counting[0][0]
        covered = max(1, elapsed + max(0, samples - 1 - elapsed // 1000) * 1000)

        assert rate.total(now) == sum(each[2] for each in counting)
        assert rate.covered_ms(now) == covered
        observed = rate.total(now) * 1000 / covered
        assert rate.delay_ms(now) == max(0, round((observed - quota) / quota * covered))


@given(steps, st.integers(1, 2_000))
def test_rate_that_is_as_new_behaves_as_new(steps, quota):
    rate = a_rate(quota)
    now = START
    for pause, amount in steps:
        now += pause
        rate.record(amount, now)
    now += 11_000

    assert rate.is_as_new(now)
    assert rate.total(now) == 0
    fresh = a_rate(quota)
    assert use(rate, 50_000, now) == use(fresh, 50_000, now)


# MutationBucket


def a_bucket(quota, *, samples=10):
    return MutationBucket(quota, samples=samples, window_ms=1000, now_ms=START)


def test_bucket_begins_full_and_refills_at_the_quota():
    bucket = a_bucket(10)
    assert bucket.tokens(START) == 100
    bucket.record(60, START)
    assert bucket.tokens(START) == 40
    assert bucket.tokens(START + 1000) == 50
    assert bucket.tokens(START + 60_000) == 100


def test_overdrawn_bucket_says_when_it_is_not():
    """TQ-12: 110 of 100 tokens at 10/s: a second."""
    bucket = a_bucket(10)
    bucket.record(110, START)

    assert bucket.delay_ms(START) == 1000
    assert bucket.delay_ms(START + 400) == 600
    assert bucket.delay_ms(START + 1000) == 0


def test_lower_quota_takes_away_what_was_saved_up():
    bucket = a_bucket(10)
    assert bucket.tokens(START) == 100
    bucket.quota = 1
    assert bucket.tokens(START) == 10


@pytest.mark.parametrize("amount", [1, 99, 100, 5000])
def test_bucket_is_as_new_when_it_is_full_again(amount):
    bucket = a_bucket(10)
    assert bucket.is_as_new(START)
    bucket.record(amount, START)
    assert not bucket.is_as_new(START)
    assert not bucket.is_as_new(START + amount * 100 - 1)
    assert bucket.is_as_new(START + amount * 100)
