"""One compacted log under the cleaner: what stays of it, and what becomes of its files."""

from __future__ import annotations

import logging
import os
import shutil

import pytest
import trio

from tests.broker.storage_helpers import Storage
from trio_kafka_net.broker.log.log_cleaner import cleanable
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.record_codec import NO_TIMESTAMP, Record
from trio_kafka_net.protocol.records import build_batch

from .compaction import (
    Killed,
    clean,
    cleaner_of,
    compacted,
    killed_after,
    put,
    read_batches,
    read_pairs,
    read_table,
    seal,
)

SUFFIXES = ["", ".tmp", ".log", ".index", ".timeindex", ".snapshot"]


@pytest.fixture
def log(storage):
    return storage.open_log(compacted())


def names(storage, suffix=".log"):
    return sorted(int(path.name.split(".")[0]) for path in storage.path.glob(f"*{suffix}"))


def test_the_last_record_of_each_key_stays_with_its_offset(storage, log):
    for number in range(6):
        put(storage, log, (b"a", b"%d" % number), (b"b%d" % number, b"x"))
    seal(log)

    assert clean(storage, log)

    assert read_pairs(log) == [
        (1, b"b0", b"x"),
        (3, b"b1", b"x"),
        (5, b"b2", b"x"),
        (7, b"b3", b"x"),
        (9, b"b4", b"x"),
        (10, b"a", b"5"),
        (11, b"b5", b"x"),
    ]
    assert (log.log_start_offset, log.log_end_offset, log.first_dirty_offset) == (0, 12, 12)


def test_a_batch_keeps_what_identifies_it(storage, log):
    put(
        storage,
        log,
        (b"a", b"1"),
        (b"b", b"1"),
        (b"c", b"1"),
        producer_id=7,
        producer_epoch=2,
        base_sequence=40,
    )
    put(storage, log, (b"a", b"2"), (b"c", b"2"))
    seal(log)

    clean(storage, log)

    batch = read_batches(log)[0]
    assert (batch.base_offset, batch.last_offset, batch.record_count) == (0, 2, 1)
    assert (batch.producer_id, batch.producer_epoch) == (7, 2)
    assert (batch.base_sequence, batch.last_sequence) == (40, 42)
    assert batch.delete_horizon_ms is None


@pytest.mark.parametrize("codec", list(Compression))
def test_a_batch_keeps_its_codec(storage, log, codec):
    put(storage, log, (b"a", b"1"), (b"b", b"1" * 60), compression=codec)
    put(storage, log, (b"a", b"2"))
    seal(log)

    clean(storage, log)

    batch = read_batches(log)[0]
    assert batch.compression is codec
    assert [(record.offset, record.value) for record in batch.records()] == [(1, b"1" * 60)]


def test_timestamps_and_headers_survive(storage, log):
    headers = (("h", b"v"), ("n", None))
    records = [
        Record(timestamp=storage.clock.now_ms + 5, key=b"a", value=b"1"),
        Record(timestamp=storage.clock.now_ms - 7, key=b"b", value=b"2", headers=headers),
        Record(timestamp=storage.clock.now_ms + 2, key=b"c", value=None),
    ]
    log.append(memoryview(bytearray(build_batch(records))), leader_epoch=3)
    put(storage, log, (b"a", b"2"))
    seal(log)

    clean(storage, log)

    batch = read_batches(log)[0]
    (first, second) = batch.records()
    assert (first.timestamp, first.headers) == (records[1].timestamp, headers)
    assert (second.timestamp, second.value) == (records[2].timestamp, None)
    assert batch.max_timestamp == records[2].timestamp
    assert batch.partition_leader_epoch == 3


def test_the_active_segment_is_left_alone(storage, log):
    for _ in range(2):
        put(storage, log, (b"a", b"x"))

    assert not clean(storage, log)
    assert [offset for offset, *_ in read_pairs(log)] == [0, 1]


def test_nothing_above_the_high_watermark_is_touched(storage, log):
    for _ in range(2):
        put(storage, log, (b"a", b"x"))
        seal(log)
    log.high_watermark = 1

    assert clean(storage, log)

    assert log.first_dirty_offset == 1
    assert [offset for offset, *_ in read_pairs(log)] == [0, 1]


def test_a_tombstone_stays_for_delete_retention_ms_after_the_first_pass(storage, clock):
    log = storage.open_log(compacted(delete_retention_ms=1000))
    put(storage, log, (b"a", b"1"))
    put(storage, log, (b"a", None))
    seal(log)
    clean(storage, log)
    assert read_pairs(log) == [(1, b"a", None)]
    (batch,) = read_batches(log)
    assert batch.delete_horizon_ms == batch.base_timestamp == clock.now_ms + 1000
    assert [record.timestamp for record in batch.records()] == [clock.now_ms]

    def pass_later():
        put(storage, log, (b"b", b"x"))
        seal(log)
        clean(storage, log)
        return [offset for offset, key, _ in read_pairs(log) if key == b"a"]

    clock.now_ms += 999
    assert pass_later() == [1]
    clock.now_ms += 1
    assert pass_later() == []


def test_the_horizon_is_set_once(storage, clock):
    log = storage.open_log(compacted())
    put(storage, log, (b"a", None))
    seal(log)
    clean(storage, log)
    first = read_batches(log)[0].delete_horizon_ms

    clock.now_ms += 5
    put(storage, log, (b"b", b"x"))
    seal(log)
    clean(storage, log)

    assert read_batches(log)[0].delete_horizon_ms == first


def test_a_key_that_came_back_needs_no_tombstone(storage, log):
    put(storage, log, (b"a", None))
    put(storage, log, (b"a", b"1"))
    seal(log)

    clean(storage, log)

    assert read_pairs(log) == [(1, b"a", b"1")]


def test_the_last_batch_of_a_pass_stays_even_if_nothing_is_left_of_it(storage, log, clock):
    log.update_config(compacted(delete_retention_ms=0))
    put(storage, log, (b"a", None))
    seal(log)
    clean(storage, log)  # sets the horizon
    clock.now_ms += 1
    log.first_dirty_offset = 0
    clean(storage, log)

    (batch,) = read_batches(log)
    assert (batch.base_offset, batch.last_offset, batch.record_count) == (0, 0, 0)
    assert list(batch.records()) == []


def test_the_last_batch_of_a_producer_stays_as_a_header(storage, log):
    producer = {"producer_id": 5, "producer_epoch": 0}
    put(storage, log, (b"a", b"1"), base_sequence=0, **producer)
    put(storage, log, (b"a", b"2"), (b"b", b"1"), base_sequence=1, **producer)
    put(storage, log, (b"a", b"3"), (b"b", b"2"))
    put(storage, log, (b"c", b"3"))
    seal(log)

    clean(storage, log)

    batches = read_batches(log)
    assert [(batch.base_offset, batch.record_count) for batch in batches] == [
        (1, 0),
        (3, 2),
        (5, 1),
    ]
    empty = batches[0]
    assert (empty.base_timestamp, empty.compression) == (NO_TIMESTAMP, Compression.NONE)
    assert empty.last_sequence == 2
    (storage.path / "00000000000000000006.snapshot").unlink()
    again = storage.open_log(compacted())
    (entry,) = again.producers
    assert (entry.last_sequence, entry.batches[-1].last_offset) == (2, 2)
    put(storage, again, (b"d", b"1"), base_sequence=3, **producer)


COMMIT, ABORT = b"\0\0\0\1", b"\0\0\0\0"


def write_transactions(storage, *batches):
    """A log as a broker with transactions leaves it, from (producer id, key, value or marker)s."""
    content = b""
    for offset, (producer_id, key, value) in enumerate(batches):
        content += build_batch(
            [Record(timestamp=1, key=key, value=value)],
            base_offset=offset,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=-1 if key in {COMMIT, ABORT} else offset,
            is_transactional=producer_id >= 0,
            is_control=key in {COMMIT, ABORT},
        )
    (storage.path / "00000000000000000000.log").write_bytes(content)
    log = storage.open_log(compacted())
    put(storage, log, (b"last", b"x"))
    seal(log)
    return log


@pytest.mark.parametrize(("marker", "survivor"), [(COMMIT, 1), (ABORT, 0)])
def test_only_committed_records_supersede_others(storage, marker, survivor):
    log = write_transactions(
        storage, (-1, b"a", b"0"), (7, b"a", b"1"), (7, b"b", b"2"), (7, marker, b"......")
    )

    clean(storage, log)

    stored = [offset for offset, key, _ in read_pairs(log) if key == b"a"]
    assert stored == ([1] if marker == COMMIT else [0, 1])
    assert survivor in stored
    assert [batch.is_control for batch in read_batches(log)][-2:] == [True, False]


def test_transactions_of_two_producers_are_told_apart(storage):
    log = write_transactions(
        storage,
        (-1, b"a", b"0"),
        (-1, b"b", b"1"),
        (7, b"a", b"2"),
        (8, b"b", b"3"),
        (7, ABORT, b"......"),
        (8, COMMIT, b"......"),
    )

    clean(storage, log)

    assert [(offset, key) for offset, key, _ in read_pairs(log) if key in {b"a", b"b"}] == [
        (0, b"a"),
        (2, b"a"),
        (3, b"b"),
    ]


def test_a_transaction_larger_than_the_map_only_ends_the_pass(storage):
    log = write_transactions(
        storage, *((7, b"%d" % number, b"x") for number in range(9)), (7, COMMIT, b"......")
    )
    cleaner = cleaner_of(storage, log, log_cleaner_dedupe_buffer_size=1024)

    assert trio.run(cleaner.clean_filthiest)
    assert log.first_dirty_offset == 5
    assert trio.run(cleaner.clean_filthiest)

    assert (log.first_dirty_offset, len(read_pairs(log))) == (11, 11)


def test_a_transactional_batch_larger_than_the_map_is_said_and_left_alone(storage, caplog):
    records = [Record(timestamp=1, key=b"%d" % number, value=b"x") for number in range(9)]
    batch = build_batch(
        records, producer_id=7, producer_epoch=0, base_sequence=0, is_transactional=True
    )
    (storage.path / "00000000000000000000.log").write_bytes(batch)
    log = storage.open_log(compacted())
    log.high_watermark = 9
    seal(log)
    cleaner = cleaner_of(storage, log, log_cleaner_dedupe_buffer_size=1024)

    assert not trio.run(cleaner.clean_filthiest)

    assert cleaner.uncleanable == {("topic", 0)}
    assert "log.cleaner.dedupe.buffer.size=1024" in caplog.text
    assert len(read_pairs(log)) == 9


def test_records_without_a_key_go(storage):
    log = storage.open_log(compacted(cleanup_policy=frozenset({"delete"})))
    put(storage, log, (None, b"1"), (b"a", b"1"))
    seal(log)
    assert not clean(storage, log)

    log.update_config(compacted())
    assert clean(storage, log)

    assert read_pairs(log) == [(1, b"a", b"1")]


def test_switched_off_compaction_ends_with_the_next_pass(storage, log):
    for _ in range(3):
        put(storage, log, (b"a", b"x"))
    seal(log)
    log.update_config(compacted(cleanup_policy=frozenset({"delete"})))

    assert not clean(storage, log)


def test_small_segments_become_one(storage, log):
    for number in range(12):
        put(storage, log, (b"key-%d" % (number % 2), b"x" * 20))
    seal(log)
    before = names(storage)
    assert len(before) == 7
    log.update_config(compacted(segment_bytes=10_000))

    clean(storage, log)

    assert names(storage) == [0, 12]
    assert names(storage, ".index") == names(storage, ".timeindex") == [0]
    assert names(storage, ".snapshot") == [12]
    assert list(storage.path.glob("*.swap")) == list(storage.path.glob("*.cleaned")) == []
    assert log.segment_count == 2


@pytest.mark.slow
def test_a_pass_may_end_at_any_operation(storage, tmp_path, monkeypatch):
    """Six segments that become two: the next start finds old ones or new ones, never both."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    log = storage.open_log(compacted())
    for number in range(12):
        put(storage, log, (b"%d" % (number % 5), b"%d" % number * 5), (b"x%d" % number, b"y"))
    seal(log)
    log.close()
    table = read_table(storage.open_log(compacted(), is_clean=True))
    config = compacted(segment_bytes=500)
    were_swapped = 0
    for count in range(1000):
        path = tmp_path.parent / f"{tmp_path.name}-{count}"
        shutil.copytree(storage.path, path)
        copy = Storage(path, storage.clock)
        log = copy.open_log(config, is_clean=True, recovery_point=24)
        try:
            with killed_after(count):
                clean(copy, log)
            break
        except Killed:
            pass
        were_swapped += any(path.glob("*.log.swap"))

        log = copy.open_log(config, recovery_point=24)

        ends = [segment.scan_next_offset() for segment in log.segments]
        bases = [segment.base_offset for segment in log.segments]
        assert all(end <= base for end, base in zip(ends, bases[1:], strict=False))
        assert read_table(log) == table
        assert log.log_end_offset == 24
        assert {name.suffix for name in path.iterdir()} <= set(SUFFIXES)
    assert count > 30
    assert were_swapped > 6


def test_indexes_of_a_cleaned_segment_find_what_is_there(storage, clock):
    log = storage.open_log(compacted(segment_bytes=2000))
    for number in range(30):
        put(storage, log, (b"%d" % (number % 10), b"%d" % number), timestamp=1000 + number)
    seal(log)

    clean(storage, log)

    assert [offset for offset, *_ in read_pairs(log)] == list(range(20, 30))
    for offset in range(30):
        assert read_pairs(log, offset)[0][0] == max(offset, 20)
    assert log.find_timestamp(1000).offset == 20
    assert log.find_timestamp(1025).offset == 25
    assert log.find_max_timestamp().offset == 29


def test_an_old_region_is_read_to_its_end(storage, log, read_region):
    for number in range(3):
        put(storage, log, (b"a", b"%d" % number))
    seal(log)
    region = log.read(0, 10_000)
    before = read_region(region)

    clean(storage, log)

    assert read_region(region) == before


def test_a_pass_ends_where_the_map_is_full_and_the_next_one_goes_on(storage, log):
    for number in range(20):
        put(storage, log, (b"%d" % (number % 10), b"%d" % number))
    seal(log)
    ends = []

    while clean(storage, log, log_cleaner_dedupe_buffer_size=1024):
        ends.append(log.first_dirty_offset)

    assert ends == [5, 10, 15, 20]
    assert [offset for offset, *_ in read_pairs(log)] == list(range(10, 20))


def test_a_restart_knows_what_is_compacted(storage):
    manager = storage.open_manager(log=compacted())
    log = manager.create_log("t", 0, bytes(16))
    for _ in range(3):
        put(storage, log, (b"a", b"x"))
    seal(log)
    assert trio.run(manager.cleaner.clean_filthiest)
    assert (storage.path / "cleaner-offset-checkpoint").read_text() == "0\n1\nt 0 3\n"
    manager.close()

    manager = storage.open_manager(log=compacted())

    assert manager.get_log("t", 0).first_dirty_offset == 3
    assert not trio.run(manager.cleaner.clean_filthiest)
    manager.close()


def test_a_new_partition_of_the_same_name_is_not_taken_for_compacted(storage):
    manager = storage.open_manager(log=compacted())
    log = manager.create_log("t", 0, bytes(16))
    put(storage, log, (b"a", b"x"))
    seal(log)
    trio.run(manager.cleaner.clean_filthiest)
    manager.delete_log("t", 0)

    manager.create_log("t", 0, bytes(range(16)))

    assert (storage.path / "cleaner-offset-checkpoint").read_text() == "0\n0\n"
    assert manager.get_log("t", 0).first_dirty_offset == 0
    manager.close()


def test_a_checkpoint_of_another_log_is_not_believed(storage, log):
    put(storage, log, (b"a", b"1"))
    put(storage, log, (b"a", b"2"))
    seal(log)
    log.first_dirty_offset = 1000

    assert clean(storage, log)

    assert read_pairs(log) == [(1, b"a", b"2")]


def test_truncation_makes_what_comes_after_dirty(storage, log):
    for number in range(4):
        put(storage, log, (b"%d" % number, b"1"))
    seal(log)
    clean(storage, log)
    assert log.first_dirty_offset == 4

    log.truncate_to(2)

    assert log.first_dirty_offset == 2


def test_a_damaged_log_is_left_alone_and_the_others_go_on(storage, caplog, tmp_path_factory):
    manager = storage.open_manager(log=compacted())
    for topic in ("bad", "good"):
        log = manager.create_log(topic, 0, bytes(16))
        for _ in range(3):
            put(storage, log, (b"a", b"x"))
        seal(log)
    path = storage.path / "bad-0" / "00000000000000000000.log"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with caplog.at_level(logging.ERROR):
        done = [trio.run(manager.cleaner.clean_filthiest) for _ in range(3)]

    assert done == [False, True, False]
    assert manager.cleaner.uncleanable == {("bad", 0)}
    (message,) = caplog.messages
    assert message.startswith(f"bad-0 is not compacted any more until a restart: {path}: batch at")
    assert read_table(manager.get_log("good", 0)) == {b"a": b"x"}
    assert path.read_bytes() == content
    manager.close()


async def test_a_log_deleted_meanwhile_ends_the_pass(storage, log, monkeypatch, caplog):
    for _ in range(3):
        put(storage, log, (b"a", b"x"))
    seal(log)
    cleaner = cleaner_of(storage, log)
    flush = log.flush

    def flush_and_lose():
        flush()
        log.abandon()

    monkeypatch.setattr(log, "flush", flush_and_lose)

    assert not await cleaner.clean_filthiest()

    assert cleaner.uncleanable == frozenset()
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == []


async def test_segments_dropped_meanwhile_do_not_come_back(storage, clock):
    log = storage.open_log(
        compacted(cleanup_policy=frozenset({"compact", "delete"}), retention_ms=1000)
    )
    for _ in range(3):
        put(storage, log, (b"a", b"x"))
    seal(log)
    put(storage, log, (b"b", b"x"))
    replace = log.replace_segments

    def drop_then_replace(old):
        clock.now_ms += 5000
        put(storage, log, (b"c", b"x"))
        log.delete_segments(log.take_old_segments())
        return replace(old)

    log.replace_segments = drop_then_replace

    assert not await cleaner_of(storage, log).clean_filthiest()

    assert read_table(log) == {b"c": b"x", b"b": b"x"}
    assert list(storage.path.glob("*.swap")) == []
    assert log.log_start_offset == 3


async def test_a_stop_does_not_wait_for_a_pass(storage, log):
    for _ in range(3):
        put(storage, log, (b"a", b"x"))
    seal(log)
    check, calls, is_working = log.check_online, [], trio.Event()

    def check_and_tell():
        calls.append(1)
        if len(calls) == 5:
            trio.from_thread.run_sync(is_working.set)
        check()

    log.check_online = check_and_tell
    with trio.fail_after(5):
        async with trio.open_nursery() as cleaning:
            # At this rate the pass would take minutes.
            cleaner = cleaner_of(storage, log, log_cleaner_io_max_bytes_per_second=1)
            cleaning.start_soon(cleaner.run)
            await is_working.wait()
            cleaning.cancel_scope.cancel()

    del log.check_online
    assert log.first_dirty_offset == 0
    assert cleaner.uncleanable == frozenset()
    assert await cleaner_of(storage, log).clean_filthiest()
    assert read_pairs(log) == [(2, b"a", b"x")]


def test_empty_segments_do_not_stop_retention(storage, clock):
    config = compacted(
        cleanup_policy=frozenset({"compact", "delete"}), retention_ms=1000, segment_bytes=90
    )
    log = storage.open_log(config)
    for number in range(4):
        put(storage, log, (b"a", b"%d" % number * 10))
    seal(log)
    clean(storage, log)
    assert [segment.size > 0 for segment in log.segments] == [False, False, False, True, False]
    clock.now_ms += 10**12

    log.delete_segments(log.take_old_segments())

    assert (log.log_start_offset, log.segment_count) == (4, 1)


# What is cleaned, and when


def look(log, clock, before_offset=None):
    before = log.high_watermark if before_offset is None else before_offset
    return cleanable(log, now_ms=clock.now_ms, before_offset=before)


def test_the_ratio_counts_the_bytes_of_sealed_segments(storage, clock):
    log = storage.open_log(compacted(min_cleanable_dirty_ratio=0.5))
    for number in range(3):
        put(storage, log, (b"%d" % number, b"x"))
    seal(log)
    clean(storage, log, checkpoint=lambda: None)
    assert log.first_dirty_offset == 3
    for number in range(3, 6):
        put(storage, log, (b"%d" % number, b"x"))
    assert look(log, clock).dirty_ratio == 0.0
    assert not look(log, clock).is_due

    seal(log)

    found = look(log, clock)
    assert (found.first_dirty_offset, found.end_offset) == (3, 6)
    assert found.dirty_ratio == 0.5
    assert not found.is_due  # it has to be more
    log.update_config(compacted(min_cleanable_dirty_ratio=0.49))
    assert look(log, clock).is_due


def test_young_segments_wait_for_min_compaction_lag_ms(storage, clock):
    log = storage.open_log(compacted(min_compaction_lag_ms=1000))
    for _ in range(2):
        put(storage, log, (b"a", b"x"))
        seal(log)
        clock.now_ms += 600

    assert look(log, clock).end_offset == 1
    clock.now_ms += 400
    assert look(log, clock).end_offset == 2


def test_max_compaction_lag_ms_makes_a_pass_due(storage, clock):
    log = storage.open_log(compacted(max_compaction_lag_ms=1000, min_cleanable_dirty_ratio=1.0))
    put(storage, log, (b"a", b"x"))
    seal(log)
    clock.now_ms += 1000
    assert not look(log, clock).is_due

    clock.now_ms += 1

    assert look(log, clock).is_due


def test_max_compaction_lag_ms_seals_segments_in_time(storage, clock):
    log = storage.open_log(compacted(max_compaction_lag_ms=1000, segment_bytes=10_000))
    put(storage, log, (b"a", b"x"))
    clock.now_ms += 1001

    put(storage, log, (b"a", b"x"))

    assert log.segment_count == 2


async def test_the_dirtiest_log_is_cleaned_first(storage):
    manager = storage.open_manager(log=compacted())
    for topic, clean_records, dirty_records in (("a", 9, 3), ("b", 3, 9), ("c", 9, 9)):
        log = manager.create_log(topic, 0, bytes(16))
        for number in range(clean_records):
            put(storage, log, (b"%d" % number, b"x"))
        seal(log)
        log.first_dirty_offset = log.log_end_offset
        for number in range(dirty_records):
            put(storage, log, (b"%d" % number, b"x"))
        seal(log)
    order = []

    while await manager.cleaner.clean_filthiest():
        order += [
            log.topic_partition[0]
            for log in manager
            if log.first_dirty_offset == log.log_end_offset and log.topic_partition[0] not in order
        ]

    assert order == ["b", "c", "a"]
    manager.close()


async def test_the_manager_cleans_every_now_and_then(storage, nursery, mock_clock, monkeypatch):
    manager = storage.open_manager(log=compacted())
    log = manager.create_log("t", 0, bytes(16))
    cleaned = trio.Event()
    checkpoint = manager.checkpoint_cleaner

    def checkpoint_and_tell():
        checkpoint()
        trio.from_thread.run_sync(cleaned.set)

    monkeypatch.setattr(manager.cleaner, "_checkpoint", checkpoint_and_tell)
    await nursery.start(manager.run)
    await trio.testing.wait_all_tasks_blocked()
    put(storage, log, (b"a", b"1"))
    put(storage, log, (b"a", b"2"))
    seal(log)

    mock_clock.jump(15)
    await cleaned.wait()

    assert read_pairs(log) == [(1, b"a", b"2")]
    nursery.cancel_scope.cancel()
    manager.close()
