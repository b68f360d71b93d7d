"""The log of a partition: what is appended, answered, read and cut."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys

import attrs
import pytest

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment_file import SegmentFile
from trio_kafka_net.errors import (
    CorruptRecordError,
    KafkaError,
    LogDirFailedError,
    RecordTooLargeError,
)
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import Record, TimestampType, build_batch, iter_batches

SMALL = LogConfig(segment_bytes=200, index_interval_bytes=0, retention_ms=-1)


@pytest.fixture
def log(storage):
    return storage.open_log()


@pytest.fixture
def small_log(storage):
    """Two batches of one record fill a segment."""
    return storage.open_log(SMALL)


def files(storage, suffix):
    return sorted(path.name for path in storage.path.iterdir() if path.suffix == suffix)


def code_of(function, *args, **options):
    with pytest.raises(KafkaError) as caught:
        function(*args, **options)
    return caught.value.code


# Appending


def test_append_numbers_records_from_the_log_end(log, storage, read_log):
    first = storage.append(log, b"a", b"b")
    second = storage.append(log, b"c")

    assert (first.first_offset, first.last_offset) == (0, 1)
    assert (second.first_offset, second.last_offset, second.log_start_offset) == (2, 2, 0)
    assert log.log_end_offset == 3
    assert read_log(log) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_append_writes_exactly_the_stamped_batch(log, storage):
    batch = storage.batch(b"a")

    log.append(batch, leader_epoch=5)

    assert (storage.path / "00000000000000000000.log").read_bytes() == bytes(batch)
    assert next(iter_batches(batch)).partition_leader_epoch == 5


def test_append_of_read_only_bytes_works_on_a_copy(log, storage, read_log):
    batch = bytes(storage.batch(b"a"))
    storage.append(log, b"first")

    log.append(memoryview(batch), leader_epoch=0)

    assert read_log(log) == [(0, b"first"), (1, b"a")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda b: b[:-1], KafkaError),
        (lambda b: b[:-1] + b"x", CorruptRecordError),
        (lambda b: b + b, KafkaError),
    ],
)
def test_refused_batch_leaves_the_log_as_it_was(log, storage, read_log, change, error):
    storage.append(log, b"a")

    with pytest.raises(error):
        log.append(memoryview(bytearray(change(bytes(storage.batch(b"b"))))), leader_epoch=0)

    assert read_log(log) == [(0, b"a")]
    assert storage.append(log, b"c").first_offset == 1


def test_append_refuses_a_batch_above_max_message_bytes(storage):
    log = storage.open_log(LogConfig(max_message_bytes=100))

    with pytest.raises(RecordTooLargeError):
        storage.append(log, bytes(100))


def test_append_refuses_a_batch_above_segment_bytes(small_log, storage):
    code = code_of(storage.append, small_log, bytes(200))

    assert code is ErrorCode.RECORD_LIST_TOO_LARGE


def test_append_time_is_the_brokers_when_the_topic_says_so(storage, clock):
    log = storage.open_log(LogConfig(message_timestamp_type=TimestampType.LOG_APPEND_TIME))

    info = storage.append(log, b"a", timestamp=5)

    assert info.log_append_time_ms == clock.now_ms
    assert log.find_max_timestamp().timestamp == clock.now_ms


def test_append_time_is_not_reported_for_create_time(log, storage):
    assert storage.append(log, b"a").log_append_time_ms == -1


@pytest.mark.parametrize(
    ("distance_ms", "accepted"),
    [(3_600_000, True), (3_600_001, False), (-5000, True), (-5001, False)],
)
def test_append_checks_how_far_timestamps_are_off(storage, clock, distance_ms, accepted):
    log = storage.open_log(LogConfig(message_timestamp_before_max_ms=5000))
    timestamp = clock.now_ms + distance_ms

    if accepted:
        storage.append(log, b"a", timestamp=timestamp)
    else:
        code = code_of(storage.append, log, b"a", timestamp=timestamp)
        assert code is ErrorCode.INVALID_TIMESTAMP


def test_append_refuses_a_producer_that_sets_the_append_time(log, storage):
    code = code_of(storage.append, log, b"a", timestamp_type=TimestampType.LOG_APPEND_TIME)

    assert code is ErrorCode.INVALID_TIMESTAMP


def test_compacted_topic_demands_keys(storage):
    log = storage.open_log(LogConfig(cleanup_policy=frozenset({"compact"})))
    keyed = build_batch([Record(timestamp=storage.clock.now_ms, key=b"k")], compression=1)

    log.append(memoryview(keyed), leader_epoch=0)
    assert code_of(storage.append, log, b"no key") is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("is_clean", [True, False])
def test_nothing_is_said_where_nothing_is_wrong(storage, caplog, is_clean):
    for _ in range(2):
        log = storage.open_log(SMALL, is_clean=is_clean)
        for _ in range(5):
            storage.append(log, b"x")
        log.truncate_to(log.log_end_offset - 3)
        log.close()

    assert caplog.messages == []


# Idempotent producers


def idempotent(sequence, epoch=0):
    return {"producer_id": 7, "producer_epoch": epoch, "base_sequence": sequence}


def test_retry_is_answered_with_the_offsets_of_the_first_time(log, storage, read_log):
    storage.append(log, b"a", b"b", **idempotent(0))
    storage.append(log, b"c", **idempotent(2))

    retry = storage.append(log, b"a", b"b", **idempotent(0))

    assert (retry.first_offset, retry.last_offset, retry.is_duplicate) == (0, 1, True)
    assert len(read_log(log)) == 3


def test_gap_and_old_epoch_are_refused(log, storage, read_log):
    storage.append(log, b"a", **idempotent(0, epoch=1))

    gap = code_of(storage.append, log, b"b", **idempotent(2, epoch=1))
    old = code_of(storage.append, log, b"b", **idempotent(1, epoch=0))

    assert gap is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert old is ErrorCode.INVALID_PRODUCER_EPOCH
    assert len(read_log(log)) == 1


@pytest.mark.parametrize("is_clean", [True, False])
def test_producers_are_known_after_a_restart(storage, is_clean):
    log = storage.open_log(SMALL)
    for number in range(7):
        storage.append(log, b"a", **idempotent(number))
    if is_clean:
        log.close()

    log = storage.open_log(SMALL, is_clean=is_clean)

    assert storage.append(log, b"a", **idempotent(6)).is_duplicate
    assert not storage.append(log, b"a", **idempotent(7)).is_duplicate


def test_producers_are_known_without_any_snapshot(storage):
    log = storage.open_log(SMALL)
    for number in range(7):
        storage.append(log, b"a", **idempotent(number))
    log.close()
    for path in storage.path.glob("*.snapshot"):
        path.write_bytes(b"damaged")

    log = storage.open_log(SMALL, is_clean=True)

    assert storage.append(log, b"a", **idempotent(3)).first_offset == 3


def test_producers_forget_what_was_truncated(storage):
    log = storage.open_log(SMALL)
    for number in range(7):
        storage.append(log, b"a", **idempotent(number))

    log.truncate_to(3)

    new = storage.append(log, b"b", **idempotent(3))
    assert (new.first_offset, new.is_duplicate) == (3, False)
    assert storage.append(log, b"a", **idempotent(2)).is_duplicate


# Segments


def test_log_rolls_when_a_segment_is_full(small_log, storage, read_log):
    for number in range(5):
        storage.append(small_log, b"%d" % number)

    assert small_log.segment_count == 3
    assert files(storage, ".log") == [f"{offset:020d}.log" for offset in (0, 2, 4)]
    assert [value for _, value in read_log(small_log)] == [b"0", b"1", b"2", b"3", b"4"]


def test_rolled_segments_have_index_files_and_a_snapshot_where_the_next_begins(small_log, storage):
    for _ in range(3):
        storage.append(small_log, b"x")

    assert files(storage, ".index") == ["00000000000000000000.index"]
    assert files(storage, ".timeindex") == ["00000000000000000000.timeindex"]
    assert files(storage, ".snapshot") == ["00000000000000000002.snapshot"]


def test_roll_of_an_empty_segment_changes_nothing(log):
    log.roll()

    assert log.segment_count == 1


def open_log_files(storage):
    """The names of the log's files that this process has open."""
    names = {path.stat().st_ino: path.name for path in storage.path.iterdir()}
    found = []
    for fd in range(300):
        try:
            found.append(names.get(os.fstat(fd).st_ino))
        except OSError:
            continue
    return {name for name in found if name is not None}


def test_few_files_stay_open_whatever_is_done(small_log, storage, read_log):
    """The active segment, and the sealed one read last with its two indexes."""
    for _ in range(20):
        storage.append(small_log, b"x")
    small_log.high_watermark = 20

    for use in (
        small_log.flush,
        lambda: read_log(small_log),
        lambda: small_log.find_timestamp(2**62),
        small_log.find_max_timestamp,
        small_log.take_old_segments,
    ):
        use()
        assert len(open_log_files(storage)) <= 4

    small_log.close()
    assert open_log_files(storage) == set()


def test_an_opened_log_has_no_file_open_until_it_is_used(storage):
    log = storage.open_log(SMALL)
    for _ in range(5):
        storage.append(log, b"x")
    log.close()

    for is_clean in (True, False):
        log = storage.open_log(SMALL, is_clean=is_clean)
        assert open_log_files(storage) == set()


# Reading


@pytest.mark.parametrize("offset", [-1, 4])
def test_read_out_of_range_is_refused(log, storage, offset):
    storage.append(log, b"a", b"b", b"c")

    assert code_of(log.read, offset, 1000) is ErrorCode.OFFSET_OUT_OF_RANGE


def test_read_at_the_end_gives_nothing(log, storage):
    assert log.read(0, 1000) is None
    storage.append(log, b"a")
    assert log.read(1, 1000) is None


@pytest.mark.parametrize("max_offset", range(8))
def test_read_ends_before_max_offset(small_log, storage, read_region, max_offset):
    for number in range(7):
        storage.append(small_log, b"%d" % number)

    read = []
    for offset in range(7):
        region = small_log.read(offset, 1, max_offset=max_offset, min_one_batch=True)
        whole = small_log.read(offset, 1000, max_offset=max_offset)
        read += [batch.base_offset for batch in iter_batches(memoryview(read_region(region)))]
        for batch in iter_batches(memoryview(read_region(whole))):
            assert offset <= batch.base_offset < max_offset
    assert read == list(range(min(7, max_offset)))


def test_regions_survive_truncation_of_what_comes_after(small_log, storage, read_region):
    for number in range(4):
        storage.append(small_log, b"%d" % number)
    region = small_log.read(2, 1000)
    content = read_region(region)

    small_log.truncate_to(2)

    assert len(content) > 0
    assert read_region(region) in {content, b""}


# Offsets


def test_find_timestamp_over_several_segments(small_log, storage):
    for number, timestamp in enumerate([10, 50, 30, 40, 70]):
        storage.append(small_log, b"%d" % number, timestamp=timestamp)

    found = [small_log.find_timestamp(t) for t in (0, 11, 51, 71)]

    assert [f and (f.offset, f.timestamp) for f in found] == [(0, 10), (1, 50), (4, 70), None]
    assert small_log.find_max_timestamp().offset == 4


def test_find_timestamp_ignores_deleted_records(small_log, storage):
    for timestamp in (10, 20, 30, 40):
        storage.append(small_log, b"x", timestamp=timestamp)
    small_log.high_watermark = 4
    small_log.delete_records(1)

    assert small_log.find_timestamp(0).offset == 1


def test_an_empty_log_has_no_timestamps(log):
    assert log.find_timestamp(0) is None
    assert log.find_max_timestamp() is None


def test_leader_epochs_survive_a_restart(storage):
    log = storage.open_log()
    storage.append(log, b"a", leader_epoch=1)
    storage.append(log, b"b", b"c", leader_epoch=4)
    log.close()

    for is_clean in (True, False):
        again = storage.open_log(is_clean=is_clean)
        assert again.end_offset_for_epoch(1) == (1, 1)
        assert again.end_offset_for_epoch(4) == (4, 3)


def test_leader_epochs_are_found_in_the_log_if_the_file_is_lost(storage):
    log = storage.open_log(SMALL)
    for epoch in range(5):
        storage.append(log, b"a", leader_epoch=epoch)
    log.close()
    (storage.path / "leader-epoch-checkpoint").write_text("damaged")

    again = storage.open_log(SMALL, is_clean=True, recovery_point=5)

    assert again.leader_epochs.entries == tuple((n, n) for n in range(5))


# Cutting


@pytest.mark.parametrize("offset", range(8))
def test_truncate_to_keeps_what_is_before(small_log, storage, read_log, offset):
    for number in range(7):
        storage.append(small_log, b"%d" % number, leader_epoch=number)

    small_log.truncate_to(offset)

    kept = min(offset, 7)
    assert small_log.log_end_offset == kept
    assert len(read_log(small_log)) == kept
    assert len(small_log.leader_epochs.entries) == kept
    assert storage.append(small_log, b"new", leader_epoch=9).first_offset == kept
    small_log.close()
    again = storage.open_log(SMALL, is_clean=True)
    assert read_log(again)[-1] == (kept, b"new")
    assert len(read_log(again)) == kept + 1


def test_truncate_before_the_log_start_begins_anew(small_log, storage, read_log):
    for _ in range(4):
        storage.append(small_log, b"x")
    small_log.high_watermark = 4
    small_log.delete_records(3)
    small_log.delete_segments(small_log.take_old_segments())

    small_log.truncate_to(1)

    assert (small_log.log_start_offset, small_log.log_end_offset) == (1, 1)
    assert storage.append(small_log, b"new").first_offset == 1
    assert read_log(small_log) == [(1, b"new")]


def test_delete_records_hides_and_then_removes(small_log, storage, read_log):
    for number in range(5):
        storage.append(small_log, b"%d" % number)
    small_log.high_watermark = 5

    assert small_log.delete_records(3) == 3
    assert code_of(small_log.read, 2, 100) is ErrorCode.OFFSET_OUT_OF_RANGE
    small_log.delete_segments(small_log.take_old_segments())

    assert files(storage, ".log") == [f"{offset:020d}.log" for offset in (2, 4)]
    assert files(storage, ".index") == [f"{offset:020d}.index" for offset in (2,)]
    assert [offset for offset, _ in read_log(small_log)] == [3, 4]


def test_delete_records_never_goes_back(log, storage):
    storage.append(log, b"a", b"b")
    log.high_watermark = 2

    assert log.delete_records(1) == 1
    assert log.delete_records(0) == 1


@pytest.mark.parametrize("offset", [-1, 2])
def test_delete_records_stays_within_the_high_watermark(log, storage, offset):
    storage.append(log, b"a", b"b")
    log.high_watermark = 1

    assert code_of(log.delete_records, offset) is ErrorCode.OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"retention_ms": -1}, 5),
        ({"retention_ms": 20_000}, 3),
        ({"retention_ms": 10_000}, 1),
        ({"retention_ms": 5_000}, 0),
        ({"retention_bytes": 330}, 5),
        ({"retention_bytes": 150}, 3),
        ({"retention_ms": 5_000, "cleanup_policy": frozenset({"compact"})}, 5),
    ],
)
def test_retention_drops_whole_segments_from_the_beginning(storage, clock, config, kept):
    log = storage.open_log(SMALL)
    for number in range(5):
        storage.append(log, b"x", timestamp=clock.now_ms - 30_000 + number * 6_000)
    log.high_watermark = 5
    log.update_config(attrs.evolve(SMALL, **config))

    log.delete_segments(log.take_old_segments())

    assert log.log_start_offset == 5 - kept
    assert log.log_end_offset == 5


def test_a_log_that_retention_emptied_goes_on_where_it_ended(small_log, storage, read_log):
    for _ in range(5):
        storage.append(small_log, b"x")
    small_log.high_watermark = 5
    small_log.update_config(attrs.evolve(SMALL, retention_bytes=0))
    small_log.delete_segments(small_log.take_old_segments())

    storage.append(small_log, b"new")

    assert read_log(small_log) == [(5, b"new")]
    small_log.close()
    assert read_log(storage.open_log(SMALL, is_clean=True)) == [(5, b"new")]


def test_retention_keeps_what_is_not_replicated(small_log, storage):
    for _ in range(5):
        storage.append(small_log, b"x")
    small_log.update_config(attrs.evolve(SMALL, retention_bytes=0))
    small_log.high_watermark = 2

    assert len(small_log.take_old_segments()) == 1


# Durability


def test_needs_flush_counts_records_since_the_last_flush(storage):
    log = storage.open_log(LogConfig(flush_messages=2))
    storage.append(log, b"a")
    assert not log.needs_flush
    storage.append(log, b"b")
    assert log.needs_flush

    log.flush()

    assert not log.needs_flush
    assert log.recovery_point == 2


def test_flush_of_what_is_flushed_does_nothing(storage):
    synced = []

    class Counting(SegmentFile):
        def sync(self):
            synced.append(self.path.name)
            super().sync()

    log = storage.open_log(open_file=Counting)
    storage.append(log, b"a")
    log.flush(1)
    log.flush(1)

    assert len(synced) == 1


def test_flush_reaches_every_segment_once(storage):
    synced = []

    class Counting(SegmentFile):
        def sync(self):
            synced.append(self.path.name)
            super().sync()

    log = storage.open_log(SMALL, open_file=Counting)
    for _ in range(5):
        storage.append(log, b"x")

    log.flush()

    assert sorted(synced) == files(storage, ".log")
    assert files(storage, ".index") == [f"{offset:020d}.index" for offset in (0, 2)]


def test_flush_of_deleted_segments_does_not_bring_them_back(small_log, storage):
    for _ in range(5):
        storage.append(small_log, b"x")
    small_log.high_watermark = 5
    small_log.delete_records(4)
    small_log.delete_segments(small_log.take_old_segments())

    small_log.flush()

    assert files(storage, ".log") == ["00000000000000000004.log"]


# Failing disks


class DiskFull(SegmentFile):
    """Takes ``room`` more bytes, all files together, then fails like a full disk."""

    room = 0

    def _write(self, data):
        part = memoryview(data)[: type(self).room]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super()._write(part)
        type(self).room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 60, 61, 68])
def test_full_disk_takes_the_log_offline_and_nothing_half_written_stays(storage, read_log, room):
    class Disk(DiskFull):
        pass

    Disk.room = 10_000
    log = storage.open_log(open_file=Disk)
    storage.append(log, b"acknowledged")
    size = log.size_in_bytes
    Disk.room = room

    with pytest.raises(LogDirFailedError, match="No space left"):
        storage.append(log, b"x")

    assert (storage.path / "00000000000000000000.log").stat().st_size == size
    assert log.log_end_offset == 1
    for call in (lambda: storage.append(log, b"y"), lambda: log.read(0, 100), log.flush, log.close):
        with pytest.raises(LogDirFailedError):
            call()
    # Space was freed, the broker restarted:
    again = storage.open_log()
    storage.append(again, b"later")
    assert read_log(again) == [(0, b"acknowledged"), (1, b"later")]


@pytest.mark.parametrize("appended_before", [0, 2])
def test_a_log_that_went_offline_does_not_keep_the_batch(storage, appended_before):
    class Disk(DiskFull):
        room = 10_000

    log = storage.open_log(open_file=Disk)
    for _ in range(appended_before):
        storage.append(log, b"x")
    Disk.room = 0
    data = bytearray(storage.batch(b"last"))

    with contextlib.suppress(LogDirFailedError):
        log.append(memoryview(data), leader_epoch=0)

    data.append(0)  # not possible as long as there is a view of it
    assert log.failure is not None


def test_short_writes_are_completed(storage, read_log):
    class Slow(SegmentFile):
        def _write(self, data):
            return super()._write(memoryview(data)[:7])

    log = storage.open_log(open_file=Slow)
    storage.append(log, b"a" * 50)

    assert read_log(log) == [(0, b"a" * 50)]


def test_failed_sync_takes_the_log_offline(storage):
    class Unsyncable(SegmentFile):
        def sync(self):
            raise OSError(errno.EIO, "Input/output error")

    log = storage.open_log(open_file=Unsyncable)
    storage.append(log, b"a")

    with pytest.raises(LogDirFailedError):
        log.flush()
    with pytest.raises(LogDirFailedError):
        storage.append(log, b"b")


def test_unreadable_file_fails_the_read_only(storage, read_log):
    class Moody(SegmentFile):
        broken = False

        def read(self, count, position):
            if self.broken:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(count, position)

    log = storage.open_log(open_file=Moody)
    storage.append(log, b"a")
    storage.append(log, b"b")
    Moody.broken = True
    with pytest.raises(LogDirFailedError):
        log.read(0, 100)

    Moody.broken = False
    assert len(read_log(log)) == 2


# At the same time, and all of a sudden


def test_what_is_appended_during_a_flush_is_not_called_flushed(storage):
    class Racing(SegmentFile):
        log = None

        def sync(self):
            super().sync()
            if self.log is not None:
                log, Racing.log = self.log, None
                storage.append(log, b"meanwhile")

    log = storage.open_log(open_file=Racing)
    storage.append(log, b"a")
    Racing.log = log

    log.flush()

    assert (log.recovery_point, log.log_end_offset) == (1, 2)


def test_a_roll_during_a_flush_leaves_the_sealed_segment_to_the_next_flush(storage):
    synced = []

    class Racing(SegmentFile):
        log = None

        def sync(self):
            synced.append(self.path.name)
            super().sync()
            if self.log is not None:
                log, Racing.log = self.log, None
                for _ in range(3):
                    storage.append(log, b"meanwhile")

    log = storage.open_log(SMALL, open_file=Racing)
    storage.append(log, b"a")
    Racing.log = log
    log.flush()
    synced.clear()

    log.flush()

    assert log.recovery_point == 4
    assert synced == files(storage, ".log")


@pytest.mark.slow
def test_acknowledged_records_survive_a_killed_process(storage, read_log):
    script = """
import os, sys, pathlib
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.protocol.records import Record, build_batch
log = UnifiedLog.open(pathlib.Path(sys.argv[1]), ("topic", 0), LogConfig(segment_bytes=500),
                      now_ms=lambda: 1000)
for number in range(20):
    batch = memoryview(build_batch([Record(timestamp=1000, value=b"%d" % number)]))
    log.append(batch, leader_epoch=0)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(storage.path)], check=False)

    log = storage.open_log(LogConfig(segment_bytes=500))

    assert killed.returncode == -9
    assert read_log(log) == [(number, b"%d" % number) for number in range(20)]
