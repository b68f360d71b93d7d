"""The parts of a pass: the map of keys, groups of segments, and rests."""

from __future__ import annotations

import pytest

from trio_kafka_net.broker.log.cleaner import SegmentFiles, group_segments
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.offset_map import ENTRY_BYTES, OffsetMap
from trio_kafka_net.broker.log.pace import Pace


def test_the_map_knows_the_last_offset_of_each_key():
    offsets = OffsetMap(10_000)
    for offset, key in enumerate([b"a", b"b", b"a", b"", b"x" * 16]):
        assert offsets.put(key, offset)

    assert len(offsets) == 4
    assert not offsets.is_last(b"a", 0)
    assert offsets.is_last(b"a", 2)
    assert offsets.is_last(b"b", 1)
    assert offsets.is_last(b"", 3)
    assert offsets.is_last(b"unknown", 0)


def test_a_full_map_takes_known_keys_only():
    offsets = OffsetMap(2 * ENTRY_BYTES)
    assert offsets.put(b"a", 0)
    assert offsets.put(b"b", 1)

    assert not offsets.put(b"c", 2)
    assert offsets.put(b"a", 3)


def test_room_can_be_reserved_and_given_back():
    offsets = OffsetMap(3 * ENTRY_BYTES)
    assert offsets.reserve(2)
    assert offsets.put(b"a", 0)
    assert not offsets.put(b"b", 1)

    assert offsets.reserve(-2)
    assert offsets.put(b"b", 1)
    assert not offsets.reserve(2)
    assert not offsets.put(b"c", 2)


def test_an_earlier_offset_changes_nothing():
    offsets = OffsetMap(10_000)
    offsets.put(b"a", 5)
    offsets.put(b"a", 3)

    assert not offsets.is_last(b"a", 3)


def test_a_map_has_room_for_a_key_whatever_its_size():
    assert OffsetMap(0).put(b"a", 0)


def test_a_short_key_is_not_taken_for_the_digest_of_a_long_one():
    from hashlib import blake2b

    offsets = OffsetMap(10_000)
    long_key = b"k" * 100
    offsets.put(long_key, 5)

    assert offsets.is_last(blake2b(long_key, digest_size=16).digest(), 0)


def group(sizes, index_bytes=0, next_offsets=None, **settings):
    """Base offsets of the groups of segments of these sizes, ten offsets each."""
    bases = [10 * number for number in range(len(sizes))]
    ends = next_offsets or [*bases[1:], 10 * len(sizes)]
    segments = [SegmentFiles(*each) for each in zip(bases, sizes, ends, strict=True)]
    groups = group_segments(segments, LogConfig(**settings), lambda _: index_bytes)
    return [[each.base_offset for each in group] for group in groups]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100], [[0]]),
        ([50, 50], [[0, 10]]),
        ([50, 51], [[0], [10]]),
        ([200, 10, 10], [[0], [10, 20]]),
        ([40, 40, 40, 40, 40], [[0, 10], [20, 30], [40]]),
        ([0, 0, 100, 0], [[0, 10, 20, 30]]),
    ],
)
def test_a_group_is_as_large_as_a_segment_may_be(sizes, expected):
    assert group(sizes, segment_bytes=100) == expected


def test_the_indexes_of_a_group_fit_into_one():
    assert group([1] * 5, index_bytes=24, segment_index_bytes=48) == [[0, 10], [20, 30], [40]]


def test_the_offsets_of_a_group_fit_into_an_index():
    far = 2**31 + 9
    assert group([1, 1, 1], next_offsets=[10, 2**31, far]) == [[0, 10], [20]]


class Sleeper:
    """Time that passes when somebody works or sleeps."""

    def __init__(self):
        self.now = 0.0
        self.naps = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(round(seconds, 4))
        self.now += seconds


def test_work_rests_as_long_as_it_worked():
    sleeper = Sleeper()
    pace = Pace(sleep=sleeper.sleep, clock=sleeper.clock)
    for _ in range(10):
        sleeper.now += 0.0005
        pace.bytes(1000)

    assert sleeper.naps == [0.001] * 5


def test_records_look_at_the_clock_now_and_then():
    sleeper = Sleeper()
    pace = Pace(sleep=sleeper.sleep, clock=sleeper.clock)
    for _ in range(128):
        sleeper.now += 0.0001
        pace.record()

    assert sleeper.naps == [0.0064, 0.0064]


def test_a_rate_is_kept_in_short_naps():
    sleeper = Sleeper()
    checks = []
    pace = Pace(
        lambda: checks.append(sleeper.now),
        bytes_per_second=1000,
        sleep=sleeper.sleep,
        clock=sleeper.clock,
    )

    pace.bytes(250)

    assert sleeper.naps == [0.1, 0.1, 0.05]
    assert len(checks) == 3
    pace.bytes(1000)
    assert sleeper.now == pytest.approx(1.25)


def test_a_check_that_objects_ends_the_work():
    sleeper = Sleeper()

    def stop():
        raise InterruptedError

    pace = Pace(stop, sleep=sleeper.sleep, clock=sleeper.clock)
    sleeper.now += 1

    with pytest.raises(InterruptedError):
        pace.bytes(1)
    assert sleeper.naps == []
