"""Whose quota counts, who shares a budget, and how many budgets there can be."""

import itertools

import pytest

from trio_kafka_net.broker.client_quotas import now_ms
from trio_kafka_net.broker.quota_entities import DEFAULT
from trio_kafka_net.broker.quota_manager import EXPIRES_MS, MAX_SENSORS, QuotaManager
from trio_kafka_net.broker.quota_rates import SampledRate
from trio_kafka_net.metrics.registry import OTHER

START = 1_000

# Every level, the most special first: (user, client id), and who shares it.
LEVELS = {
    "user and client": (("alice", "app"), ("alice", "app")),
    "user and default client": (("alice", DEFAULT), ("alice", "app")),
    "user": (("alice", None), ("alice", "")),
    "default user and client": ((DEFAULT, "app"), ("alice", "app")),
    "default user and default client": ((DEFAULT, DEFAULT), ("alice", "app")),
    "default user": ((DEFAULT, None), ("alice", "")),
    "client": ((None, "app"), ("", "app")),
    "default client": ((None, DEFAULT), ("", "app")),
}


def a_rate(quota, now_ms):
    return SampledRate(quota, samples=11, window_ms=1000, now_ms=now_ms)


@pytest.fixture
def manager():
    return QuotaManager("Produce", a_rate)


def labels(sensor):
    return sensor.user, sensor.client_id


def test_without_quotas_there_is_nothing_to_count(manager):
    assert not manager.is_enforced
    assert manager.sensor("alice", "app", START) is None
    assert manager.quota("alice", "app") is None


def test_the_most_special_quota_counts(manager):
    """TQ-04: set from the most general to the most special, and taken away again."""
    numbered = list(enumerate(LEVELS.values(), 1))
    for number, (level, shared_by) in reversed(numbered):
        manager.set_quota(*level, number)
        assert manager.quota("alice", "app") == number
        assert labels(manager.sensor("alice", "app", START)) == shared_by
    for (number, (level, shared_by)), (next_number, _) in itertools.pairwise(numbered):
        assert manager.quota("alice", "app") == number
        assert labels(manager.sensor("alice", "app", START)) == shared_by
        manager.set_quota(*level, None)
        assert manager.quota("alice", "app") == next_number
    manager.set_quota(None, DEFAULT, None)
    assert manager.quota("alice", "app") is None
    assert not manager.is_enforced


@pytest.mark.parametrize("level", LEVELS)
def test_quota_is_for_whom_it_is_for(manager, level):
    (user, client_id), shared_by = LEVELS[level]
    manager.set_quota(user, client_id, 7)
    for_any_user = user in (DEFAULT, None)
    for_any_client = client_id in (DEFAULT, None)

    assert manager.quota("alice", "app") == 7
    assert manager.quota("bob", "app") == (7 if for_any_user else None)
    assert manager.quota("alice", "tool") == (7 if for_any_client else None)
    # Who shares the budget
    budget = manager.sensor("alice", "app", START)
    assert manager.sensor("alice", "app", START) is budget
    assert (manager.sensor("bob", "app", START) is budget) == (shared_by[0] == "")
    assert (manager.sensor("alice", "tool", START) is budget) == (shared_by[1] == "")


def test_client_that_does_not_say_its_name_has_the_default(manager):
    """Kafka knows no quota for an empty client id; leaving it out would be a way around."""
    manager.set_quota(None, DEFAULT, 7)
    manager.set_quota(None, "app", 9)

    assert manager.quota("alice", "") == 7


def test_budget_follows_the_quota_but_keeps_what_was_used(manager):
    manager.set_quota("alice", None, 2000)
    sensor = manager.sensor("alice", "app", START)
    sensor.usage.record(27_500, START)
    assert sensor.usage.delay_ms(START) > 0
    manager.set_quota("alice", None, 3000)

    assert manager.sensor("alice", "app", START) is sensor
    assert sensor.usage.delay_ms(START) == 0


def test_quota_is_converted_to_what_is_recorded():
    manager = QuotaManager("Request", a_rate, unit=10_000_000)
    manager.set_quota("alice", None, 2.5)

    assert manager.quota("alice", "app") == 2.5
    assert manager.sensor("alice", "app", START).usage.quota == 25_000_000


@pytest.mark.parametrize("name", ["client@#$%", "user:a:b", "ö", "other", "<default>", "a\nb"])
def test_names_are_taken_as_they_are(manager, name):
    """TQ-07."""
    manager.set_quota(name, name, 7)

    assert manager.quota(name, name) == 7
    assert labels(manager.sensor(name, name, START)) == (name, name)
    assert manager.quota(name, name + "x") is None


# How many there can be


def test_idle_budgets_are_forgotten_and_made_again(manager):
    """TQ-06."""
    manager.set_quota(None, DEFAULT, 10)
    first = manager.sensor("alice", "app", START)
    first.usage.record(1, START)
    assert manager.sensors(START + EXPIRES_MS - 1) == [first]
    assert manager.sensors(START + EXPIRES_MS) == []
    again = manager.sensor("alice", "app", START + EXPIRES_MS)
    again.usage.record(1000, START + EXPIRES_MS)

    assert again is not first
    assert again.usage.delay_ms(START + EXPIRES_MS) > 0


def test_strangers_beyond_the_bound_share_one_budget(manager):
    manager.set_quota(None, DEFAULT, 10)
    manager.set_quota(None, "named", 10)
    for number in range(MAX_SENSORS):
        manager.sensor("eve", f"client-{number}", START).usage.record(5, START)
    shared = manager.sensor("eve", "one more", START)

    assert labels(shared) == (OTHER, OTHER)
    assert manager.sensor("eve", "and another", START) is shared
    # Who was there keeps its own, and so does who is named.
    assert labels(manager.sensor("eve", "client-7", START)) == ("", "client-7")
    assert labels(manager.sensor("eve", "named", START)) == ("", "named")
    assert len(manager.sensors(START)) == MAX_SENSORS + 2


def test_budgets_that_say_nothing_any_more_make_room(manager):
    manager.set_quota(None, DEFAULT, 10)
    for number in range(MAX_SENSORS):
        manager.sensor("eve", f"client-{number}", START).usage.record(5, START)
    later = START + 12_000
    manager.sensor("eve", "client-7", later).usage.record(5, later)

    assert labels(manager.sensor("eve", "new", later)) == ("", "new")
    assert len(manager.sensors(later)) == 2


def test_overlong_names_share_one_budget(manager):
    """A client id may have 32767 bytes, and be another one with every request."""
    manager.set_quota(None, DEFAULT, 10)
    long = manager.sensor("eve", "x" * 257, START)

    assert labels(long) == (OTHER, OTHER)
    assert manager.sensor("eve", "y" * 30_000, START) is long
    manager.set_quota(None, "x" * 257, 10)
    assert labels(manager.sensor("eve", "x" * 257, START)) == ("", "x" * 257)


def test_nothing_is_kept_without_quotas(manager):
    manager.set_quota(None, DEFAULT, 10)
    manager.sensor("alice", "app", START).usage.record(5, START)
    manager.set_quota(None, DEFAULT, None)

    assert manager.sensors(START) == []


async def test_time_is_that_of_the_event_loop(mock_clock):
    before = now_ms()
    mock_clock.jump(1.5)

    assert now_ms() - before == 1500
