"""One partition's log: append at the end, read from anywhere, cut at either end.

An append is synchronous and does, in this order: check the batch, check its producer, stamp offset
and leader epoch into it, write it with one system call, and move the log end. It has no
checkpoint, so appends to a log cannot interleave. How the files are rolled, flushed and removed is
in ``local_log``.

An I/O error while writing takes the log offline: what was written of the batch is cut off again,
nothing is acknowledged, and every later call fails with ``LogDirFailedError`` until a restart has
recovered the log.

Threads: ``open``, ``flush``, ``close`` and ``delete_segments`` block and belong into a worker
thread; ``flush`` may run while the event loop appends and reads. The rest belongs to the event
loop.

Source: Kafka ``UnifiedLog`` (4.0).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from trio_kafka_net.broker.log.checkpoints import TopicPartition
from trio_kafka_net.broker.log.local_log import LocalLog
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.log_loader import LogLoader
from trio_kafka_net.broker.log.log_validator import validate_for_log
from trio_kafka_net.broker.log.producer_state import ProducerStateManager
from trio_kafka_net.broker.log.segment import FoundRecord, LogSegment
from trio_kafka_net.broker.log.segment_file import OpenFile, SegmentFile
from trio_kafka_net.errors import KafkaError, LogDirFailedError
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.record_codec import NO_TIMESTAMP
from trio_kafka_net.protocol.records import (
    NO_PRODUCER_ID,
    STAMPED,
    RecordBatch,
    check_usual,
    iter_batches,
    stamp,
    validate_produced,
)


@attrs.define
class LogAppendInfo:
    """What became of an append."""

    first_offset: int
    last_offset: int
    """Inclusive."""
    log_append_time_ms: int
    """ms since the epoch if the broker sets the timestamps, else -1."""
    log_start_offset: int
    is_duplicate: bool = False
    """Whether the batch was a retry; the offsets are those of the first time."""


class UnifiedLog(LocalLog):
    """The log of one partition; made by ``UnifiedLog.open``."""

    @classmethod
    def open(
        cls,
        directory: Path,
        topic_partition: TopicPartition,
        config: LogConfig,
        *,
        now_ms: Callable[[], int],
        is_clean: bool = False,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        open_file: OpenFile = SegmentFile,
    ) -> UnifiedLog:
        """Open the log in a directory that exists, empty or not; blocks, for a worker thread.

        Args:
            directory: the partition's.
            topic_partition: whose log it is.
            config: its settings.
            now_ms: the clock, ms since the epoch.
            is_clean: whether it was closed the last time; else it is recovered.
            recovery_point: offset before which the files are believed.
            log_start_offset: first offset that was not deleted, as the checkpoint has it.
            open_file: opens log files.

        Raises:
            OSError: a file could not be read or written.
            CorruptRecordError: a batch before the recovery point is damaged, and had to be read.
        """
        producers = ProducerStateManager(expiration_ms=config.producer_id_expiration_ms)
        loader = LogLoader(
            directory=directory,
            config=config,
            now_ms=now_ms,
            open_file=open_file,
            producers=producers,
            is_clean=is_clean,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
        )
        loader.load()
        return cls(topic_partition, loader)

    # Appending

    def append(
        self, batches: memoryview, *, leader_epoch: int, has_keys: bool = False
    ) -> LogAppendInfo:
        """Append what a client produced: exactly one record batch.

        Args:
            batches: the batch, big-endian; offset and epoch are stamped into it in place, unless
                it is read-only, which costs a copy. Borrowed for the duration of the call.
            leader_epoch: of this leadership.
            has_keys: whether it is known that every record has a key.

        Returns:
            The offsets that the records have now.

        Raises:
            CorruptRecordError: not a whole batch, or its CRC does not fit; nothing was written.
            RecordTooLargeError: above ``max.message.bytes``; nothing was written.
            KafkaError: INVALID_RECORD (naming the records, if it is some of them that are wrong),
                INVALID_TIMESTAMP, UNSUPPORTED_COMPRESSION_TYPE,
                RECORD_LIST_TOO_LARGE, INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER;
                nothing was written.
            LogDirFailedError: an I/O error, now or before; the log is offline, and ends where
                it ended before.

        Checkpoints: none.
        Cost: one CRC over the batch, one ``write``; no copy of the batch.
        Source: Kafka ``UnifiedLog.appendAsLeader`` (4.0); idempotence KIP-98.
        """
        config = self.config
        usual = check_usual(batches, config.usual_batch_bytes)
        if usual is None or self.failure or leader_epoch > self.leader_epochs.latest_epoch:
            return self._append_any(batches, leader_epoch, has_keys)
        length, last_delta, max_timestamp, producer_id, producer_epoch, sequence = usual
        now_ms = self._now_ms()
        if max_timestamp > now_ms + config.message_timestamp_after_max_ms:
            return self._append_any(batches, leader_epoch, has_keys)
        producer = None
        if producer_id > NO_PRODUCER_ID:
            producer = self.producers.find_next(producer_id, producer_epoch, sequence)
            if producer is None:
                return self._append_any(batches, leader_epoch, has_keys)
        first_offset = self.log_end_offset
        last_offset = first_offset + last_delta
        try:
            STAMPED.pack_into(batches, 0, first_offset, length, leader_epoch)
        except TypeError:  # it is read-only
            return self._append_any(batches, leader_epoch, has_keys)
        self.last_append_ms = now_ms
        try:
            is_written = self._segments.active.append_usual(
                batches, first_offset, last_offset, max_timestamp
            )
        except OSError as exc:
            raise self._gone_offline(exc) from exc
        if is_written:
            self.log_end_offset = last_offset + 1
            if producer is not None:
                self.producers.go_on(producer, last_delta, last_offset, max_timestamp)
        else:
            self._write(next(iter_batches(batches)))
        return LogAppendInfo(first_offset, last_offset, NO_TIMESTAMP, self.log_start_offset)

    def _append_any(self, batches: memoryview, leader_epoch: int, has_keys: bool) -> LogAppendInfo:
        """Append a batch, or refuse it and say why."""
        self.check_online()
        if batches.readonly:
            batches = memoryview(bytearray(batches))
        config = self.config
        batch = validate_produced(batches, max_batch_bytes=config.max_message_bytes)
        self.last_append_ms = now_ms = self._now_ms()
        append_time_ms = validate_for_log(
            batch, config, now_ms, partition=self.topic_partition, has_keys=has_keys
        )
        if batch.producer_id > NO_PRODUCER_ID:
            duplicate = self.producers.check(batch)
            if duplicate is not None:
                return LogAppendInfo(
                    duplicate.first_offset,
                    duplicate.last_offset,
                    NO_TIMESTAMP if append_time_ms is None else duplicate.timestamp,
                    self.log_start_offset,
                    is_duplicate=True,
                )
        first_offset = self.log_end_offset
        stamp(
            batch,
            base_offset=first_offset,
            leader_epoch=leader_epoch,
            append_time_ms=append_time_ms,
        )
        self._write(batch)
        return LogAppendInfo(
            first_offset,
            self.log_end_offset - 1,
            NO_TIMESTAMP if append_time_ms is None else append_time_ms,
            self.log_start_offset,
        )

    def _write(self, batch: RecordBatch) -> None:
        """Append a stamped batch to the active segment, or to a new one."""
        active = self._segments.active
        first_offset = batch.base_offset
        last_offset = first_offset + batch.last_offset_delta
        try:
            if active.should_roll(len(batch.view), last_offset, batch.max_timestamp):
                self.roll()
                active = self._segments.active
            active.append(batch)
        except OSError as exc:
            raise self._gone_offline(exc) from exc
        self.log_end_offset = last_offset + 1
        if batch.partition_leader_epoch > self.leader_epochs.latest_epoch:
            self.leader_epochs.assign(batch.partition_leader_epoch, first_offset)
        if batch.producer_id > NO_PRODUCER_ID:
            self.producers.update(batch)

    # Reading

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        max_offset: int | None = None,
        min_one_batch: bool = False,
    ) -> FileRegion | None:
        """Find the bytes of the batches from the one that holds ``offset`` on.

        Args:
            offset: first offset wanted; the region may begin with earlier ones of the same batch.
            max_bytes: longest region, bytes; its last batch may be cut off.
            max_offset: first offset not to read, the high watermark for instance; None reads
                to the log end.
            min_one_batch: whether the first batch is given whole even if it exceeds ``max_bytes``.

        Returns:
            A region within one segment, or None if there is nothing to read at ``offset``.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, before the log start or after the log end.
            CorruptRecordError: the log is damaged where it was searched.
            LogDirFailedError: the log is offline, or could not be read.

        Cost: nothing but arithmetic for the batch appended last; else a binary search and one or
            two small reads.
        """
        self.check_online()
        log_end = self.log_end_offset
        if not self.log_start_offset <= offset <= log_end:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} is not between {self.log_start_offset} and {log_end}",
            )
        end = log_end if max_offset is None else max_offset
        if offset >= end:
            return None
        try:
            return self._segments.find_region(offset, end, end >= log_end, max_bytes, min_one_batch)
        except OSError as exc:
            raise LogDirFailedError(f"{self.directory}: {exc}") from exc

    def find_timestamp(self, timestamp: int) -> FoundRecord | None:
        """Find the first record that is not earlier than ``timestamp``, ms since the epoch.

        Raises:
            CorruptRecordError: a batch that had to be read is damaged.
            LogDirFailedError: the log is offline, or could not be read.

        Cost: reads and decompresses about one batch.
        Source: Kafka ``UnifiedLog.fetchOffsetByTimestamp`` (4.0).
        """
        self.check_online()
        try:
            return self._segments.find_timestamp(timestamp, self.log_start_offset)
        except OSError as exc:
            raise LogDirFailedError(f"{self.directory}: {exc}") from exc

    def find_max_timestamp(self) -> FoundRecord | None:
        """Find the first record with the largest timestamp of the log.

        Raises:
            CorruptRecordError: a batch that had to be read is damaged.
            LogDirFailedError: the log is offline, or could not be read.

        Source: KIP-734.
        """
        self.check_online()
        try:
            largest = self._segments.max_timestamp()
        except OSError as exc:
            raise LogDirFailedError(f"{self.directory}: {exc}") from exc
        return None if largest <= NO_TIMESTAMP else self.find_timestamp(largest)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """Where a leader epoch ended; see ``LeaderEpochCache.end_offset_for``."""
        return self.leader_epochs.end_offset_for(epoch, self.log_end_offset)

    # Cutting

    def truncate_to(self, offset: int) -> None:
        """Drop the batch that holds ``offset`` and everything after it.

        Raises:
            CorruptRecordError: a batch that had to be read to reload the producers is damaged;
                the log is cut.
            LogDirFailedError: an I/O error; the log is offline.
        """
        self.check_online()
        if offset >= self.log_end_offset:
            return
        try:
            self.log_end_offset = self._segments.truncate_to(offset)
            self.log_start_offset = min(self.log_start_offset, self.log_end_offset)
        except OSError as exc:
            raise self._gone_offline(exc) from exc
        self._note_new_names()
        self.first_dirty_offset = min(self.first_dirty_offset, self.log_end_offset)
        self.leader_epochs.truncate_from_end(self.log_end_offset)
        self.high_watermark = min(self.high_watermark, self.log_end_offset)
        # The device still has what was cut off, and may give it back.
        self.recovery_point = min(self.recovery_point, self.active_base_offset)
        self._reload_producers()

    def _reload_producers(self) -> None:
        self._loader.log_end_offset = self.log_end_offset
        self._loader.log_start_offset = self.log_start_offset
        try:
            self._loader.load_producers()
        except OSError as exc:
            raise self._gone_offline(exc) from exc

    def delete_records(self, offset: int) -> int:
        """Make ``offset`` the first one that can be read.

        Whole segments before it are removed by the next ``take_old_segments``.

        Returns:
            The log start offset, never lower than it was.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, above the high watermark.
            LogDirFailedError: the log is offline.

        Source: Kafka ``UnifiedLog.maybeIncrementLogStartOffset`` (4.0); KIP-107.
        """
        self.check_online()
        if not 0 <= offset <= self.high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"records before {offset} cannot be deleted: "
                f"the high watermark is {self.high_watermark}",
            )
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            self.leader_epochs.truncate_from_start(offset)
        return self.log_start_offset

    def take_old_segments(self) -> list[LogSegment]:
        """Drop the segments that nobody should read any more: too old, too many, or deleted.

        Returns:
            The dropped segments, for ``delete_segments``.

        Raises:
            LogDirFailedError: the log is offline, or goes offline in a roll.

        Source: Kafka ``UnifiedLog.deleteOldSegments`` (4.0).
        """
        self.check_online()
        try:
            count = self._segments.count_old(
                self.config,
                now_ms=self._now_ms(),
                log_start_offset=self.log_start_offset,
                log_end_offset=self.log_end_offset,
                high_watermark=self.high_watermark,
            )
            if count == len(self._segments):
                self.roll()
        except OSError as exc:
            raise self._gone_offline(exc) from exc
        if count == 0:
            return []
        old = self._segments.drop_first(count)
        first_offset = next(iter(self._segments)).base_offset
        self.log_start_offset = max(self.log_start_offset, first_offset)
        self.leader_epochs.truncate_from_start(self.log_start_offset)
        return old
