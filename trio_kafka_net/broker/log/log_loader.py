"""Opening a log: after a clean stop nothing is scanned, after a crash whatever may be torn is.

The *recovery point* is the offset up to which the log was known to be on the device. Before it, the
files are believed. From the segment that holds it on, every batch is checked; the first one that
is not whole ends the log, and says so in the broker's log with names and numbers.

What is derived from batches follows: indexes are rebuilt, leader epochs noted, and producers
reloaded from the newest snapshot and the batches after it.

Source: Kafka ``LogLoader``, ``UnifiedLog.rebuildProducerState`` (4.0).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from trio_kafka_net.broker.log.checkpoints import (
    LEADER_EPOCH_FILE,
    read_leader_epochs,
    sync_directory,
)
from trio_kafka_net.broker.log.leader_epochs import LeaderEpochCache
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.producer_state import ProducerStateManager
from trio_kafka_net.broker.log.segment import (
    CLEANED_STAGE,
    LOG_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    SWAP_STAGE,
    TIME_INDEX_SUFFIX,
    LogSegment,
    segment_path,
)
from trio_kafka_net.broker.log.segment_file import OpenFile
from trio_kafka_net.errors import CorruptRecordError, StorageError
from trio_kafka_net.protocol.records import RecordBatch

logger = logging.getLogger(__name__)

SNAPSHOT_SUFFIX = ".snapshot"
# Kafka renames files to ".deleted" that it is about to remove.
_STAGES = frozenset({CLEANED_STAGE, SWAP_STAGE, ".deleted"})


@attrs.define(kw_only=True)
class LogLoader:
    """Loads one partition's directory, once."""

    directory: Path
    config: LogConfig
    now_ms: Callable[[], int]
    """The clock, ms since the epoch."""
    open_file: OpenFile
    """Opens log files."""
    producers: ProducerStateManager
    """Filled by ``load``."""
    is_clean: bool
    """Whether the last stop was clean."""
    recovery_point: int
    """Offset from which on the files are not believed."""
    log_start_offset: int
    """First offset that was not deleted, as the checkpoint has it."""
    segments: list[LogSegment] = attrs.field(init=False, factory=list)
    """Set by ``load``: at least one, in order; the log goes on to work on this very list."""
    leader_epochs: LeaderEpochCache = attrs.field(init=False, factory=LeaderEpochCache)
    """Set by ``load``."""
    log_end_offset: int = attrs.field(init=False, default=0)
    """Set by ``load``."""
    recovered: tuple[LogSegment, ...] = attrs.field(init=False, default=())
    """Set by ``load``: what had to be checked, and is not known to be on the device."""

    def load(self) -> None:
        """Load the directory, repairing what a crash left; blocks, for a worker thread.

        Raises:
            OSError: a file could not be read or written.
            CorruptRecordError: a batch before the recovery point is damaged, and had to be read.
        """
        self._load_leader_epochs()
        self._complete_swaps()
        self.segments = [self.new_segment(offset) for offset in self._offsets_of_files(LOG_SUFFIX)]
        self._remove_orphaned_indexes()
        if not self.segments:
            self._add_first_segment()
        self.log_end_offset = self._read_end() if self.is_clean else self._recover()
        self.log_start_offset = max(self.log_start_offset, self.segments[0].base_offset)
        if self.log_start_offset > self.log_end_offset:
            self._start_anew()
        self.recovery_point = min(self.recovery_point, self.log_end_offset)
        self.leader_epochs.truncate_from_end(self.log_end_offset)
        self.leader_epochs.truncate_from_start(self.log_start_offset)
        self.load_producers()
        for segment in self.segments:
            segment.release()

    def new_segment(self, base_offset: int, *, stage: str = "") -> LogSegment:
        """Describe the segment at ``base_offset``; see ``LogSegment``."""
        return LogSegment(
            self.directory, base_offset, self.config, self.now_ms, self.open_file, stage=stage
        )

    def load_producers(self) -> None:
        """Bring the producers to where the log ends: newest snapshot, then the batches after it."""
        replay_from = self._load_newest_snapshot()
        if replay_from >= self.log_end_offset:
            return
        for number, segment in enumerate(self.segments):
            if segment.size and not self._is_before(number, replay_from):
                for _, batch in segment.batches(segment.position_of(replay_from)):
                    self.producers.update(batch)

    def _load_newest_snapshot(self) -> int:
        """Load the newest snapshot that fits; the offset from which on to replay."""
        for offset in reversed(self._offsets_of_files(SNAPSHOT_SUFFIX)):
            path = segment_path(self.directory, offset, SNAPSHOT_SUFFIX)
            if self.log_start_offset <= offset <= self.log_end_offset:
                try:
                    self.producers.load_snapshot(path)
                except StorageError as exc:
                    logger.warning("%s: ignored and removed: %s", path, exc)
                else:
                    return offset
            path.unlink()
        self.producers.clear()
        return self.log_start_offset

    def _load_leader_epochs(self) -> None:
        try:
            entries = read_leader_epochs(self.directory / LEADER_EPOCH_FILE)
        except StorageError as exc:
            # The batches know the epochs as well: read them all.
            logger.warning("leader epochs are read from the log again: %s", exc)
            self.is_clean = False
            self.recovery_point = 0
            return
        self.leader_epochs = LeaderEpochCache(entries)

    def _read_end(self) -> int:
        try:
            return self.segments[-1].read_next_offset()
        except CorruptRecordError as exc:
            logger.warning("recovering although the last stop was clean: %s", exc)
            return self._recover()

    def _recover(self) -> int:
        """Check the segments from the recovery point on; the offset where the log ends now."""
        end_offset = 0

        def note(batch: RecordBatch) -> None:
            nonlocal end_offset
            end_offset = batch.next_offset
            self.leader_epochs.assign(batch.partition_leader_epoch, batch.base_offset)

        for number, segment in enumerate(self.segments):
            end_offset = segment.base_offset
            if self._is_before(number, self.recovery_point):
                continue
            truncated_bytes = segment.recover(note)
            self.recovered += (segment,)
            if truncated_bytes:
                self._end_log_after(number, truncated_bytes, end_offset)
                break
        return end_offset

    def _is_before(self, number: int, offset: int) -> bool:
        """Whether a segment ends at or before ``offset``; the last one never does."""
        return number + 1 < len(self.segments) and self.segments[number + 1].base_offset <= offset

    def _end_log_after(self, number: int, truncated_bytes: int, end_offset: int) -> None:
        segment = self.segments[number]
        lost = self.segments[number + 1 :]
        logger.warning(
            "%s: cut off %d bytes at byte %d; the log ends at offset %d; %d later segments removed",
            segment.path(LOG_SUFFIX),
            truncated_bytes,
            segment.size,
            end_offset,
            len(lost),
        )
        del self.segments[number + 1 :]
        for later in lost:
            later.delete()

    def _start_anew(self) -> None:
        """Everything in the files lies before the log start offset."""
        for segment in self.segments:
            segment.delete()
        self.segments = []
        self._add_first_segment()
        self.log_end_offset = self.log_start_offset

    def _complete_swaps(self) -> None:
        """Finish or forget what compaction was doing when the process stopped.

        A log file with ``.swap`` takes the place of all segments that begin where it reaches; it is
        whole, and on the device. Everything else with such a name is worth nothing.

        Source: Kafka ``LogLoader.removeTempFilesAndCollectSwapFiles``, ``load`` (4.1).
        """
        staged = [path for path in self.directory.iterdir() if path.suffix in _STAGES]
        for offset in offsets_of_files(staged, LOG_SUFFIX, SWAP_STAGE):
            swapped = self.new_segment(offset, stage=SWAP_STAGE)
            end_offset = swapped.scan_next_offset()
            for other in self._offsets_of_files(LOG_SUFFIX):
                if offset <= other < end_offset:
                    self.new_segment(other).delete()
            sync_directory(self.directory)
            swapped.enter_stage("")
            logger.info(
                "%s: completed the compaction of offsets %d to %d",
                self.directory,
                offset,
                end_offset - 1,
            )
        for path in staged:
            path.unlink(missing_ok=True)

    def _add_first_segment(self) -> None:
        segment = self.new_segment(self.log_start_offset)
        segment.create()
        self.segments.append(segment)

    def _remove_orphaned_indexes(self) -> None:
        known = {segment.base_offset for segment in self.segments}
        for suffix in (OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            for offset in self._offsets_of_files(suffix):
                if offset not in known:
                    segment_path(self.directory, offset, suffix).unlink()

    def _offsets_of_files(self, suffix: str) -> list[int]:
        return offsets_of_files(self.directory.iterdir(), suffix)


def offsets_of_files(paths: Iterable[Path], suffix: str, stage: str = "") -> list[int]:
    """The offsets in the names of the files with a suffix, in order.

    Args:
        paths: the content of a partition's directory.
        suffix: of a kind of file.
        stage: what stands behind it.
    """
    names = (path.name for path in paths)
    offsets = (name.removesuffix(suffix + stage) for name in names if name.endswith(suffix + stage))
    return sorted(int(offset) for offset in offsets if offset.isdigit())
