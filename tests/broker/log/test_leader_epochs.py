"""Leader epochs. Cases follow Kafka's LeaderEpochFileCacheTest."""

from __future__ import annotations

import pytest

from trio_kafka_net.broker.log.leader_epochs import LeaderEpochCache


@pytest.fixture
def cache():
    return LeaderEpochCache([(2, 6), (5, 11), (7, 20)])


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (7, (7, 30)),  # the latest: the log end
        (5, (5, 20)),
        (6, (5, 20)),  # unknown, between known ones
        (2, (2, 11)),
        (1, (1, 6)),  # older than everything: where the known ones begin
        (8, (-1, -1)),
        (-1, (-1, -1)),
    ],
)
def test_end_offset_for(cache, epoch, expected):
    assert cache.end_offset_for(epoch, 30) == expected


def test_empty_cache_cannot_tell():
    assert LeaderEpochCache().end_offset_for(0, 10) == (-1, -1)


@pytest.mark.parametrize(("offset", "epoch"), [(5, -1), (6, 2), (10, 2), (11, 5), (99, 7)])
def test_epoch_at(cache, offset, epoch):
    assert cache.epoch_at(offset) == epoch


def test_assign_ignores_known_and_older_epochs(cache):
    cache.assign(7, 25)
    cache.assign(3, 26)

    assert cache.entries == ((2, 6), (5, 11), (7, 20))
    assert not cache.is_dirty


def test_assign_replaces_an_epoch_that_appended_nothing(cache):
    cache.assign(9, 20)

    assert cache.entries == ((2, 6), (5, 11), (9, 20))
    assert cache.is_dirty


def test_latest_epoch_follows_every_change(cache):
    seen = [LeaderEpochCache().latest_epoch, cache.latest_epoch]
    for change, argument in (
        (cache.truncate_from_start, 15),
        (cache.truncate_from_end, 20),
        (cache.truncate_from_end, 0),
    ):
        change(argument)
        seen.append(cache.latest_epoch)
    cache.assign(9, 20)

    assert [*seen, cache.latest_epoch] == [-1, 7, 7, 5, -1, 9]


@pytest.mark.parametrize(
    ("end", "expected"), [(30, 3), (21, 3), (20, 2), (11, 1), (7, 1), (6, 0), (0, 0)]
)
def test_truncate_from_end_forgets_what_began_there(cache, end, expected):
    cache.truncate_from_end(end)

    assert len(cache.entries) == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (0, ((2, 6), (5, 11), (7, 20))),
        (8, ((2, 8), (5, 11), (7, 20))),
        (11, ((5, 11), (7, 20))),
        (15, ((5, 15), (7, 20))),
        (40, ((7, 40),)),
    ],
)
def test_truncate_from_start_moves_the_epoch_that_holds_it(cache, start, expected):
    cache.truncate_from_start(start)

    assert cache.entries == expected


def test_take_entries_makes_it_clean(cache):
    cache.assign(9, 25)

    assert cache.take_entries()[-1] == (9, 25)
    assert not cache.is_dirty
