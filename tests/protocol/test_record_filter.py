"""Leaving records out of batches, and what a hostile batch does to whoever skims it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.record_filter import filter_batch, iter_keys
from trio_kafka_net.protocol.records import (
    HEADER_BYTES,
    Record,
    TimestampType,
    build_batch,
    iter_batches,
)

RECORDS = st.lists(
    st.builds(
        Record,
        timestamp=st.integers(0, 2**45),
        key=st.none() | st.binary(max_size=300),
        value=st.none() | st.binary(max_size=300),
        headers=st.lists(
            st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2
        ).map(tuple),
    ),
    min_size=1,
    max_size=20,
)


def a_batch(records, **settings):
    return next(iter_batches(memoryview(build_batch(records, **settings))))


def parts(batch):
    return [
        (record.offset, record.timestamp, record.key, record.value, record.headers)
        for record in batch.records()
    ]


@given(records=RECORDS, data=st.data())
def test_what_stays_is_what_it_was(records, data):
    settings = {
        "base_offset": data.draw(st.integers(0, 2**40)),
        "compression": data.draw(st.sampled_from(Compression)),
        "timestamp_type": data.draw(st.sampled_from(TimestampType)),
        "producer_id": 4,
        "producer_epoch": 1,
        "base_sequence": 9,
        "partition_leader_epoch": 3,
        "is_transactional": data.draw(st.booleans()),
    }
    batch = a_batch(records, **settings)
    kept = data.draw(st.sets(st.integers(0, len(records) - 1)))
    horizon = data.draw(st.none() | st.integers(0, 2**45))

    filtered = filter_batch(batch, lambda offset, *_: offset - batch.base_offset in kept)
    result = filtered.rewrite(horizon)

    result.ensure_valid()
    assert filtered.count == result.record_count == len(kept)
    assert filtered.has_tombstones == any(records[number].value is None for number in kept)
    assert parts(result) == [part for part in parts(batch) if part[0] - batch.base_offset in kept]
    assert (result.base_offset, result.last_offset) == (batch.base_offset, batch.last_offset)
    assert result.delete_horizon_ms == (horizon if kept else None)
    for same in ("producer_id", "producer_epoch", "base_sequence", "partition_leader_epoch"):
        assert getattr(result, same) == getattr(batch, same)
    assert result.is_transactional == batch.is_transactional
    assert result.timestamp_type == batch.timestamp_type


def test_retain_is_asked_offset_key_and_whether_there_is_a_value():
    asked = []
    batch = a_batch([Record(timestamp=1, key=b"a"), Record(timestamp=1, value=b"")], base_offset=7)

    filter_batch(batch, lambda *record: asked.append(record))

    assert asked == [(7, b"a", False), (8, None, True)]
    assert list(iter_keys(batch)) == [(7, b"a"), (8, None)]


def test_the_horizon_stays_when_more_is_left_out():
    batch = a_batch([Record(timestamp=5, key=b"a"), Record(timestamp=9, key=b"b")])
    once = filter_batch(batch, lambda *_: True).rewrite(1000)

    twice = filter_batch(once, lambda offset, *_: offset == 0).rewrite()

    assert (twice.delete_horizon_ms, twice.max_timestamp) == (1000, 5)
    assert parts(twice) == [(0, 5, b"a", None, ())]


@given(records=RECORDS, data=st.data())
def test_a_damaged_body_is_refused_in_one_way(records, data):
    body = bytearray(build_batch(records)[HEADER_BYTES:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(1, len(body))) :]
    header = build_batch(records)[:8] + (49 + len(body)).to_bytes(4, "big")
    batch = next(iter_batches(memoryview(header + build_batch(records)[12:61] + body)))

    for walk in (iter_keys, lambda batch: filter_batch(batch, lambda *_: True).rewrite().records()):
        try:
            for _ in walk(batch):
                pass
        except CorruptRecordError:
            pass


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_count_is_refused(change):
    batch = a_batch([Record(timestamp=1, key=b"a")] * 3)
    batch.record_count += change

    with pytest.raises(CorruptRecordError):
        list(iter_keys(batch))


def test_an_offset_after_the_end_of_the_batch_is_refused():
    batch = a_batch([Record(timestamp=1, key=b"a")] * 3)
    batch.last_offset_delta = 1

    with pytest.raises(CorruptRecordError):
        list(iter_keys(batch))


def test_what_decompresses_to_too_much_is_refused():
    batch = a_batch([Record(timestamp=1, key=b"a", value=bytes(5000))], compression=1)

    with pytest.raises(CorruptRecordError):
        list(iter_keys(batch, max_bytes=5000))
