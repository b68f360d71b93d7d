"""Idempotent producers: windows, epochs, snapshots.

Cases follow Kafka's ProducerStateManagerTest.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.log.producer_state import BATCHES_RETAINED, ProducerStateManager
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import Record, build_batch, parse_header


def batch(sequence, *, count=1, producer=7, epoch=0, offset=0, timestamp=1000):
    return parse_header(
        build_batch(
            [Record(timestamp=timestamp)] * count,
            base_offset=offset,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=sequence,
        )
    )


@pytest.fixture
def producers():
    return ProducerStateManager()


def code_of(producers, new):
    with pytest.raises(KafkaError) as caught:
        producers.check(new)
    return caught.value.code


@pytest.mark.parametrize("sequence", [0, 5, 2**31 - 1])
def test_unknown_producer_may_begin_anywhere(producers, sequence):
    assert producers.check(batch(sequence)) is None


def test_next_sequence_is_accepted_and_any_other_refused(producers):
    producers.update(batch(0, count=3))

    assert producers.check(batch(3)) is None
    assert code_of(producers, batch(4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code_of(producers, batch(2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_sequence_wraps_around(producers):
    producers.update(batch(2**31 - 2, count=2))

    assert producers.check(batch(0)) is None
    assert code_of(producers, batch(1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_batch_across_the_wrap_is_recognised_as_duplicate(producers):
    producers.update(batch(2**31 - 1, count=3, offset=50))

    duplicate = producers.check(batch(2**31 - 1, count=3))

    assert (duplicate.first_offset, duplicate.last_offset) == (50, 52)
    assert producers.check(batch(2)) is None


def test_duplicate_of_one_of_the_last_five_returns_the_offsets_of_then(producers):
    for number in range(BATCHES_RETAINED + 1):
        producers.update(batch(2 * number, count=2, offset=100 + 2 * number))

    for number in range(1, BATCHES_RETAINED + 1):
        duplicate = producers.check(batch(2 * number, count=2))
        assert duplicate.first_offset == 100 + 2 * number
    assert code_of(producers, batch(0, count=2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_same_first_sequence_with_another_count_is_no_duplicate(producers):
    producers.update(batch(0, count=2))

    assert code_of(producers, batch(0, count=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_older_epoch_is_fenced(producers):
    producers.update(batch(0, epoch=3))

    assert code_of(producers, batch(1, epoch=2)) is ErrorCode.INVALID_PRODUCER_EPOCH


def test_newer_epoch_begins_at_zero(producers):
    producers.update(batch(0, epoch=3))

    assert code_of(producers, batch(1, epoch=4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert producers.check(batch(0, epoch=4)) is None
    producers.update(batch(0, epoch=4))
    assert code_of(producers, batch(0, epoch=3)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert producers.check(batch(1, epoch=4)) is None


def test_batches_without_producer_leave_no_trace(producers):
    producers.update(batch(-1, producer=-1, epoch=-1))

    assert len(producers) == 0


def test_producers_silent_for_too_long_are_forgotten():
    producers = ProducerStateManager(expiration_ms=100)
    producers.update(batch(0, producer=1, timestamp=1000))
    producers.update(batch(0, producer=2, timestamp=1050))

    producers.expire(1100)

    assert [entry.producer_id for entry in producers] == [2]


def test_table_is_bounded_and_forgets_who_was_silent_longest():
    producers = ProducerStateManager(max_producers=2)
    producers.update(batch(0, producer=1))
    producers.update(batch(0, producer=2))
    producers.update(batch(1, producer=1))

    producers.update(batch(0, producer=3))

    assert [entry.producer_id for entry in producers] == [1, 3]


def test_snapshot_has_kafkas_format(producers, tmp_path):
    producers.update(batch(4, count=2, producer=7, epoch=3, offset=10, timestamp=1000))

    snapshot = producers.to_snapshot()

    assert snapshot[:2] == b"\x00\x01"
    assert snapshot[6:] == bytes.fromhex(
        "00000001"
        "0000000000000007 0003 00000005 000000000000000b 00000001 00000000000003e8 ffffffff"
        "ffffffffffffffff"
    )


@given(
    batches=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(1, 4)), max_size=20
    )
)
def test_snapshot_round_trip_keeps_the_last_batch_of_everybody(batches, tmp_path_factory):
    producers = ProducerStateManager()
    for number, (producer, epoch, count) in enumerate(batches):
        producers.update(batch(0, producer=producer, epoch=epoch, count=count, offset=number * 10))
    path = tmp_path_factory.mktemp("snapshot") / "s"
    path.write_bytes(producers.to_snapshot())

    loaded = ProducerStateManager()
    loaded.load_snapshot(path)

    assert loaded.to_snapshot() == producers.to_snapshot()
    for entry in producers:
        again = next(e for e in loaded if e.producer_id == entry.producer_id)
        assert again.batches[-1] == entry.batches[-1]


def test_damaged_snapshot_is_refused_at_every_byte(producers, tmp_path):
    producers.update(batch(0))
    snapshot = producers.to_snapshot()
    path = tmp_path / "s"
    for position in range(len(snapshot)):
        damaged = bytearray(snapshot)
        damaged[position] ^= 1
        for content in (damaged, snapshot[:position]):
            path.write_bytes(content)
            with pytest.raises(StorageError):
                producers.load_snapshot(path)
    assert len(producers) == 0
