"""One segment: where batches are found, when it is rolled, what its files hold."""

from __future__ import annotations

import attrs
import pytest

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment import LogSegment
from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.records import Record, build_batch, iter_batches

BASE = 100
CONFIG = LogConfig(index_interval_bytes=0)


@pytest.fixture
def new_segment(tmp_path, clock):
    def make(config=CONFIG):
        segment = LogSegment(tmp_path, BASE, config, clock)
        segment.create()
        return segment

    return make


def fill(segment, count, *, records=2, timestamps=None):
    """Append ``count`` batches; they are numbered from the base offset on."""
    for number in range(count):
        timestamp = timestamps[number] if timestamps else 1000 + number
        data = build_batch(
            [Record(timestamp=timestamp, value=b"%d" % number)] * records,
            base_offset=BASE + records * number,
            partition_leader_epoch=4,
        )
        (batch,) = iter_batches(memoryview(data))
        segment.append(batch)
    return batch.size_in_bytes


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("interval", [0, 200, 10_000])
def test_read_begins_with_the_batch_that_holds_the_offset(new_segment, interval, reopened):
    segment = new_segment(attrs.evolve(CONFIG, index_interval_bytes=interval))
    size = fill(segment, 9)
    if reopened:
        segment.seal()
        segment = new_segment()

    for offset in range(BASE, BASE + 18):
        region = segment.read(offset, 10_000)
        assert (region.position, region.count) == (
            (offset - BASE) // 2 * size,
            9 * size - (offset - BASE) // 2 * size,
        )
    assert segment.read(BASE + 18, 10_000) is None


def test_read_before_the_first_offset_begins_with_the_first_batch(new_segment):
    segment = new_segment()
    fill(segment, 2)

    assert segment.read(BASE - 50, 10_000).position == 0


def test_read_stays_within_its_limits(new_segment):
    segment = new_segment()
    size = fill(segment, 3)

    assert segment.read(BASE, 10).count == 10
    assert segment.read(BASE, 10, min_one_batch=True).count == size
    assert segment.read(BASE, 0) is None
    assert segment.read(BASE, 0, min_one_batch=True).count == size
    assert segment.read(BASE, 9999, max_position=2 * size).count == 2 * size
    assert segment.read(BASE + 2, 9999, max_position=size) is None


def test_regions_outlive_the_segments_files(new_segment, read_region):
    segment = new_segment()
    fill(segment, 2)
    region = segment.read(BASE, 10_000)
    content = read_region(region)

    segment.delete()
    segment.release()

    assert read_region(region) == content
    assert len(content) == segment.size


def test_find_timestamp_returns_the_first_record_not_earlier(new_segment):
    segment = new_segment()
    fill(segment, 5, timestamps=[10, 30, 20, 40, 40])

    found = {t: segment.find_timestamp(t, BASE) for t in (0, 10, 11, 31, 41)}

    assert [(t, f and (f.offset, f.timestamp)) for t, f in found.items()] == [
        (0, (BASE, 10)),
        (10, (BASE, 10)),
        (11, (BASE + 2, 30)),
        (31, (BASE + 6, 40)),
        (41, None),
    ]
    assert found[0].leader_epoch == 4
    assert segment.find_timestamp(0, BASE + 3).offset == BASE + 3


def test_find_timestamp_looks_inside_the_batch(new_segment):
    segment = new_segment()
    data = build_batch(
        [Record(timestamp=t, value=b"") for t in (10, 50, 20)], base_offset=BASE, compression=3
    )
    segment.append(next(iter_batches(memoryview(data))))

    assert segment.find_timestamp(15, BASE).offset == BASE + 1


def test_max_timestamp_survives_reopening(new_segment):
    segment = new_segment()
    fill(segment, 4, timestamps=[10, 90, 20, 30])
    segment.seal()

    assert new_segment().max_timestamp == (90, BASE + 3)


def test_max_timestamp_of_an_unsealed_segment_is_found_in_the_log(new_segment):
    segment = new_segment(attrs.evolve(CONFIG, index_interval_bytes=10_000))
    fill(segment, 4, timestamps=[10, 90, 20, 30])

    assert new_segment().max_timestamp == (90, BASE + 3)


@pytest.mark.parametrize(
    ("change", "rolls"),
    [
        ({}, False),
        ({"segment_bytes": 1000}, True),
        ({"segment_ms": 500}, True),
        ({"segment_ms": 2000}, False),
        ({"segment_index_bytes": 40}, True),
    ],
)
def test_should_roll(new_segment, change, rolls):
    segment = new_segment(attrs.evolve(CONFIG, **change))
    fill(segment, 4, timestamps=[1000] * 4)

    assert segment.should_roll(900, BASE + 50, 2000) is rolls


def test_should_roll_when_an_offset_is_out_of_reach(new_segment):
    segment = new_segment()

    assert not segment.should_roll(10, BASE + 2**31 - 1, 0)
    assert segment.should_roll(10, BASE + 2**31, 0)


def test_should_roll_by_the_clock_where_records_have_no_time(new_segment, clock):
    segment = new_segment(attrs.evolve(CONFIG, segment_ms=500))
    fill(segment, 1, timestamps=[-1])

    assert not segment.should_roll(10, BASE + 2, -1)
    clock.now_ms += 501
    assert segment.should_roll(10, BASE + 2, -1)


def test_an_empty_segment_is_not_rolled_for_a_batch_larger_than_segment_bytes(new_segment):
    segment = new_segment(attrs.evolve(CONFIG, segment_bytes=14))

    assert not segment.should_roll(10_000, BASE, 0)


@pytest.mark.parametrize("damage", ["missing", "odd size", "beyond the log", "empty"])
def test_damaged_indexes_are_rebuilt(new_segment, damage):
    segment = new_segment()
    size = fill(segment, 5)
    segment.seal()
    path = segment.path(".index")
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "odd size":
        path.write_bytes(good + b"x")
    elif damage == "beyond the log":
        path.write_bytes(good + b"\x7f\0\0\0\x7f\0\0\0")
    else:
        path.write_bytes(b"")

    again = new_segment()

    assert again.read(BASE + 8, 10_000).position == 4 * size
    again.seal()
    assert path.read_bytes() == (b"" if damage == "empty" else good)


@pytest.mark.parametrize("kept", range(6))
def test_truncate_to_drops_the_batch_that_holds_the_offset(new_segment, kept):
    segment = new_segment()
    size = fill(segment, 5)
    segment.seal()

    segment.truncate_to(BASE + 2 * kept + 1)

    for again in (segment, new_segment()):
        assert again.size == size * min(kept, 5)
        assert again.read_next_offset() == BASE + 2 * min(kept, 5)
        assert again.max_timestamp.timestamp == (999 + min(kept, 5) if kept else -1)
        assert again.read(BASE + 2 * min(kept, 5), 1000) is None


def test_truncate_cuts_the_index_files_too(new_segment):
    segment = new_segment()
    fill(segment, 5)
    segment.seal()

    segment.truncate_to(BASE + 2)

    # Nothing before the first index entry was kept.
    assert segment.path(".index").read_bytes() == b""
    assert segment.path(".timeindex").read_bytes() == b""


def test_append_after_truncate_is_indexed_again(new_segment):
    segment = new_segment()
    size = fill(segment, 5)
    segment.truncate_to(BASE)
    fill(segment, 5)
    segment.seal()

    assert new_segment().read(BASE + 8, 10_000).position == 4 * size


@pytest.mark.parametrize(
    ("position", "damage"),
    [(8, b"\x7f\xff\xff\xff"), (8, b"\xff\xff\xff\xff"), (8, b"\0\0\0\0"), (16, b"\1")],
)
def test_reading_over_damage_raises_corrupt_record(new_segment, position, damage):
    segment = new_segment(attrs.evolve(CONFIG, index_interval_bytes=10_000))
    size = fill(segment, 3)
    segment.seal()
    content = bytearray(segment.path(".log").read_bytes())
    content[size + position : size + position + len(damage)] = damage
    segment.path(".log").write_bytes(content)

    with pytest.raises(CorruptRecordError):
        list(new_segment().batches())


def test_file_shorter_than_believed_is_reported(new_segment):
    segment = new_segment()
    fill(segment, 3)
    segment.file.truncate(100)

    with pytest.raises(CorruptRecordError):
        list(segment.batches())
