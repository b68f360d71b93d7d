"""A segment: one log file, its two indexes, and the search for a batch.

A segment takes batches at its end and hands out regions of its file; record bytes never pass
through here on the way to a client. Offsets lead to bytes in two steps: a binary search in the
sparse index, then a walk over at most ``index.interval.bytes`` of batch headers.

What is kept in memory is small, because a broker has thousands of segments: the descriptor is
opened by the first use and given back by ``release``, and so are the indexes.

Source: Kafka ``LogSegment``, ``FileRecords`` (4.0).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from trio_kafka_net.broker.log.index import MAX_RELATIVE_OFFSET, TimestampOffset
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment_file import OpenFile, SegmentFile
from trio_kafka_net.broker.log.segment_indexes import SegmentIndexes
from trio_kafka_net.broker.log.segment_scan import Location, read_batches, walk_headers
from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.record_codec import NO_TIMESTAMP
from trio_kafka_net.protocol.records import (
    HEADER_BYTES,
    RecordBatch,
    parse_header,
)

logger = logging.getLogger(__name__)

LOG_SUFFIX = ".log"
OFFSET_INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
CLEANED_STAGE = ".cleaned"
"""Behind the names of a segment that is being written to replace others; worth nothing yet."""
SWAP_STAGE = ".swap"
"""Behind the names of a segment that replaces others, whatever happens."""


_NEVER = -1
"""Where no batch ends."""
_UNREAD = NO_TIMESTAMP - 1


@attrs.frozen
class FoundRecord:
    """A record that a search by timestamp found."""

    offset: int
    timestamp: int
    """ms since the epoch."""
    leader_epoch: int
    """Epoch of the leader that appended it."""


def segment_path(directory: Path, offset: int, suffix: str) -> Path:
    """The file of the segment at ``offset``: twenty digits, so that names sort as numbers."""
    return directory / f"{offset:020d}{suffix}"


class LogSegment:
    """A stretch of a log, from its base offset to where the next segment begins."""

    def __init__(
        self,
        directory: Path,
        base_offset: int,
        config: LogConfig,
        now_ms: Callable[[], int],
        open_file: OpenFile = SegmentFile,
        *,
        stage: str = "",
    ) -> None:
        """Describe the segment at ``base_offset``; no file is opened yet.

        Args:
            directory: the partition's directory.
            base_offset: offset that its first record has or will have.
            config: settings of the log.
            now_ms: the clock, ms since the epoch.
            open_file: opens (and creates) the log file.
            stage: what stands behind the names of its files as long as they are not in use.
        """
        self.base_offset = base_offset
        self.config = config
        self.directory = directory
        self.stage = stage
        self._now_ms = now_ms
        self._open_file = open_file
        self._file: SegmentFile | None = None
        self._indexes: SegmentIndexes | None = None
        # Whether the device may have other index files than this.
        self._must_sync_indexes = False
        # Largest timestamp, _UNREAD as long as nobody asked, and the last offset of its batch.
        self._max_timestamp = _UNREAD
        self._max_timestamp_offset = base_offset
        self._first_timestamp: int | None = None
        self._created_ms = now_ms()
        self.is_deleted = False
        """Whether its files are gone, or about to be."""
        # Where a batch may begin and end, how late its records and how high its offsets may be, if
        # nothing is due but the write: no index entry, no new segment. See ``_set_usual_limits``.
        self._usual_position = 0
        self._usual_end = _NEVER
        self._usual_timestamp = 0
        self._usual_last_offset = base_offset + MAX_RELATIVE_OFFSET
        # The batch appended last, where most consumers read: it needs no search.
        self._last_batch: Location | None = None
        try:
            self.size = self.path(LOG_SUFFIX).stat().st_size
        except FileNotFoundError:
            self.size = 0
        # Where the bytes begin that count for the next index entry.
        self._unindexed_from = self.size

    def path(self, suffix: str) -> Path:
        """The segment's file with this suffix."""
        return segment_path(self.directory, self.base_offset, suffix + self.stage)

    @property
    def file(self) -> SegmentFile:
        """The log file, opened if need be.

        Raises:
            OSError: it cannot be opened.
        """
        file = self._file
        if file is None:
            file = self._file = self._open_file(self.path(LOG_SUFFIX), create=False)
        return file

    def create(self) -> None:
        """Make the log file: its name alone says where the log goes on.

        Raises:
            OSError: it could not be made.
        """
        self._file = self._open_file(self.path(LOG_SUFFIX), create=True)

    def enter_stage(self, stage: str) -> None:
        """Rename the files, the log file last: where it is, the others are.

        Regions that were handed out stay readable.

        Args:
            stage: what stands behind the names from now on; empty for files in use.

        Raises:
            OSError: a file could not be renamed; those before it are, and the segment is not to be
                used any more.
        """
        self.release()
        for suffix in (OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            with contextlib.suppress(FileNotFoundError):  # they can be rebuilt
                self._rename(suffix, stage)
        self._rename(LOG_SUFFIX, stage)
        self.stage = stage
        self._indexes = None

    def _rename(self, suffix: str, stage: str) -> None:
        self.path(suffix).rename(segment_path(self.directory, self.base_offset, suffix + stage))

    def release(self) -> None:
        """Give back descriptor and mapped indexes; the next use opens them again."""
        self._file = None
        if self._indexes is not None and self._indexes.written:
            self._indexes = None

    @property
    def max_timestamp(self) -> TimestampOffset:
        """Largest timestamp so far and the last offset of the batch that has it.

        The timestamp is -1 as long as there is none.
        """
        return TimestampOffset(self._known_max_timestamp(), self._max_timestamp_offset)

    def _known_max_timestamp(self) -> int:
        if self._max_timestamp == _UNREAD:
            self._max_timestamp, self._max_timestamp_offset = self._read_max_timestamp()
        return self._max_timestamp

    @property
    def first_timestamp(self) -> int:
        """Largest timestamp of the first batch, ms since the epoch; -1 if there is none.

        Raises:
            CorruptRecordError: the file does not begin with a batch.
            OSError: it could not be read.
        """
        if self._first_timestamp is None:
            if self.size < HEADER_BYTES:
                return NO_TIMESTAMP
            self._first_timestamp = parse_header(self.file.read(HEADER_BYTES, 0)).max_timestamp
        return self._first_timestamp

    def newest_ms(self) -> int:
        """Age of the newest record, ms since the epoch: by its timestamp, else by the file's.

        Raises:
            OSError: the file could not be asked.
        """
        timestamp = self.max_timestamp.timestamp
        if timestamp > NO_TIMESTAMP:
            return timestamp
        return int(self.path(LOG_SUFFIX).stat().st_mtime * 1000)

    def should_roll(self, size: int, last_offset: int, max_timestamp: int) -> bool:
        """Whether a batch belongs into a new segment.

        Args:
            size: its bytes.
            last_offset: its last offset.
            max_timestamp: its largest timestamp, ms since the epoch.
        """
        if self.size == 0:
            return last_offset - self.base_offset > MAX_RELATIVE_OFFSET
        config = self.config
        first = self._first_timestamp
        if first is None:
            first = self.first_timestamp
        # How long the first batch waits: by the clock of the records where they have one, so that
        # copied old data makes segments that retention can tell apart.
        waited_ms = (
            max_timestamp - first if first > NO_TIMESTAMP else self._now_ms() - self._created_ms
        )
        return (
            self.size + size > config.segment_bytes
            or last_offset - self.base_offset > MAX_RELATIVE_OFFSET
            or waited_ms > config.max_segment_ms
            # An index can only be too full for an entry that is about to be added.
            or (
                self.size - self._unindexed_from > config.index_interval_bytes
                and self._loaded_indexes().is_full(config.segment_index_bytes)
            )
        )

    def append_usual(
        self, view: memoryview, base_offset: int, last_offset: int, max_timestamp: int
    ) -> bool:
        """Write one stamped batch at the end, if there is nothing else to do for it.

        That is so for all batches between two index entries, unless they are to begin a new
        segment. What is left is what ``should_roll`` and ``append`` would do with them.

        Args:
            view: the batch.
            base_offset: its first offset.
            last_offset: its last offset.
            max_timestamp: its largest timestamp, ms since the epoch.

        Returns:
            Whether it was written; if not, nothing has changed.

        Raises:
            OSError: it could not be written; the file ends where it ended before.
        """
        position = self.size
        size = len(view)
        end = position + size
        file = self._file
        if (
            end > self._usual_end
            or position > self._usual_position
            or last_offset > self._usual_last_offset
            or max_timestamp > self._usual_timestamp
            or file is None
        ):
            return False
        file.append(view, position)
        if max_timestamp > self._max_timestamp:
            self._max_timestamp = max_timestamp
            self._max_timestamp_offset = last_offset
        self.size = end
        self._last_batch = (base_offset, last_offset, position, size)
        return True

    def append(self, batch: RecordBatch) -> None:
        """Write one stamped batch at the end.

        Raises:
            OSError: it could not be written; the file ends where it ended before.

        Cost: one ``write``; no copy of the batch.
        """
        position = self.size
        view = batch.view
        (self._file or self.file).append(view, position)
        if position == 0:
            self._empty_indexes()
        base_offset = batch.base_offset
        last_offset = base_offset + batch.last_offset_delta
        size = len(view)
        self._note_batch(position, size, last_offset, batch.max_timestamp)
        self.size = position + size
        self._last_batch = (base_offset, last_offset, position, size)
        self._set_usual_limits()

    def use_config(self, config: LogConfig) -> None:
        """Take over new settings of the log."""
        self.config = config
        self._usual_end = _NEVER

    def _set_usual_limits(self) -> None:
        """Work out, after an append, how far the next ones are usual ones."""
        config = self.config
        first = self._first_timestamp
        if first is None or first <= NO_TIMESTAMP:
            # The clock says when the segment is full.
            self._usual_end = _NEVER
            return
        self._usual_timestamp = first + config.max_segment_ms
        self._usual_position = self._unindexed_from + config.index_interval_bytes
        self._usual_end = config.segment_bytes

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        max_position: int | None = None,
        min_one_batch: bool = False,
    ) -> FileRegion | None:
        """Find the bytes from the batch that holds ``offset`` on.

        Args:
            offset: the first offset wanted; the region may begin with earlier ones.
            max_bytes: longest region, bytes; its last batch may be cut off.
            max_position: where the region ends at the latest, byte of the file.
            min_one_batch: whether the first batch is given whole even if it exceeds ``max_bytes``.

        Returns:
            The region, or None if there is nothing at or after ``offset`` within the limits.

        Raises:
            CorruptRecordError: the file is damaged where it was searched.
            OSError: it could not be read.
        """
        found = self._find_batch(offset)
        if found is None:
            return None
        _, _, position, size = found
        limit = self.size
        if max_position is not None and max_position < limit:
            limit = max_position
        count = limit - position
        if count > max_bytes:
            count = min(count, size) if min_one_batch and size > max_bytes else max_bytes
        if count <= 0:
            return None
        file = self._file or self.file
        return FileRegion(file.fd, position, count, file)

    def position_of(self, offset: int) -> int:
        """Where the batch that holds ``offset`` begins, or the end of the file."""
        found = self._find_batch(offset)
        return self.size if found is None else found[2]

    def find_timestamp(self, timestamp: int, first_offset: int) -> FoundRecord | None:
        """Find the first record at or after ``first_offset`` that is not earlier than a timestamp.

        Args:
            timestamp: ms since the epoch.
            first_offset: where to begin.

        Raises:
            CorruptRecordError: a batch that had to be read is damaged.

        Cost: two binary searches, then the batches from there on until one has the record, which is
            decompressed.
        """
        indexes = self._loaded_indexes()
        start = max(indexes.time.lookup(timestamp).offset, first_offset)
        for _, batch in self.batches(indexes.offset.lookup(start).position):
            if batch.max_timestamp < timestamp or batch.last_offset < first_offset:
                continue
            for record in batch.records():
                if record.timestamp >= timestamp and record.offset >= first_offset:
                    return FoundRecord(
                        record.offset, record.timestamp, batch.partition_leader_epoch
                    )
        return None

    def read_next_offset(self) -> int:
        """The offset after the last batch, read from the file.

        Raises:
            CorruptRecordError: the file does not end with a whole batch.
        """
        last_offset = self.base_offset - 1
        for found in self._walk(self._loaded_indexes().offset.last().position):
            last_offset = found[1]
        return last_offset + 1

    def scan_next_offset(self) -> int:
        """The offset after the last batch, without the help of an index.

        Raises:
            CorruptRecordError: the file does not consist of whole batches.
        """
        last_offsets = [found[1] for found in self._walk(0)]
        return max(last_offsets, default=self.base_offset - 1) + 1

    def batches(self, position: int = 0) -> Iterator[tuple[int, RecordBatch]]:
        """Read the batches from ``position`` on, whole.

        Yields:
            Position and batch; the CRC is not checked.

        Raises:
            CorruptRecordError: a batch breaks the format or is cut off.
        """
        if position < self.size:
            yield from read_batches(self.file, position, self.size)

    def recover(self, on_batch: Callable[[RecordBatch], None]) -> int:
        """Check every batch, cut off what is not whole, and rebuild the indexes; blocks.

        Args:
            on_batch: called with every good batch, in order.

        Returns:
            How many bytes were cut off.

        Raises:
            OSError: the files could not be read or written.
        """
        indexes = self._empty_indexes()
        valid_bytes = 0
        next_offset = self.base_offset
        try:
            for position, batch in self.batches():
                batch.ensure_valid()
                if not next_offset <= batch.base_offset <= self.base_offset + MAX_RELATIVE_OFFSET:
                    raise CorruptRecordError(
                        f"batch at offset {batch.base_offset} where {next_offset} is next"
                    )
                self._note_batch(
                    position, batch.size_in_bytes, batch.last_offset, batch.max_timestamp
                )
                on_batch(batch)
                next_offset = batch.next_offset
                valid_bytes = position + batch.size_in_bytes
        except CorruptRecordError as exc:
            logger.warning("%s: at byte %d: %s", self.path(LOG_SUFFIX), valid_bytes, exc)
        truncated = self.size - valid_bytes
        if truncated:
            self.file.truncate(valid_bytes)
            # What is good may be before the recovery point: then nobody flushes this segment again.
            self.file.sync()
            self.size = valid_bytes
        if self._max_timestamp != _UNREAD:
            indexes.time.maybe_append(self._max_timestamp, self._max_timestamp_offset)
        # Whatever was there: who wrote it last had no time to wait for the device.
        self._must_sync_indexes = True
        indexes.write()
        return truncated

    def truncate_to(self, offset: int) -> None:
        """Drop the batch that holds ``offset`` and everything after it.

        Raises:
            OSError: a file could not be cut; the log file is cut last.
        """
        position = self.position_of(offset)
        self._must_sync_indexes = True
        self._loaded_indexes().truncate_to(offset)
        self.file.truncate(position)
        self.size = position
        self._last_batch = None
        self._max_timestamp = _UNREAD
        self._unindexed_from = position
        self._usual_end = _NEVER
        if position == 0:
            self._first_timestamp = None
            self._created_ms = self._now_ms()

    def seal(self) -> None:
        """Complete the index files: nothing will be appended any more, or not for long.

        Raises:
            OSError: an index could not be written.
        """
        largest = self.max_timestamp
        if largest.timestamp > NO_TIMESTAMP:
            self._loaded_indexes().time.maybe_append(*largest)
        self._write_indexes()

    def _write_indexes(self) -> None:
        if self._loaded_indexes().write():
            self._must_sync_indexes = True

    def flush(self) -> None:
        """Wait until log and indexes are on the device; blocks, for a worker thread.

        Raises:
            OSError: a file could not be written, unless the segment is deleted meanwhile.
        """
        if self.is_deleted:
            return
        was_open = self._file is not None
        try:
            self._write_indexes()
            self.file.sync()
            if self._must_sync_indexes:
                self._must_sync_indexes = False
                self._loaded_indexes().sync()
        except FileNotFoundError:
            if not self.is_deleted:
                raise
        if not was_open:
            self.release()

    def delete(self) -> None:
        """Remove the files; regions that were handed out stay readable.

        Raises:
            OSError: a file could not be removed.
        """
        self.is_deleted = True
        for suffix in (LOG_SUFFIX, OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            self.path(suffix).unlink(missing_ok=True)

    def _find_batch(self, offset: int) -> Location | None:
        """The first batch that ends at or after ``offset``."""
        last = self._last_batch
        if last is not None and last[0] <= offset:
            return last if offset <= last[1] else None
        indexes = self._indexes or self._loaded_indexes()
        for found in self._walk(indexes.offset.position_before(offset)):
            if found[1] >= offset:
                return found
        return None

    def _walk(self, position: int) -> Iterator[Location]:
        # An empty file is not opened for it: a broker has thousands.
        return walk_headers(self.file, position, self.size) if position < self.size else iter(())

    def _note_batch(self, position: int, size: int, last_offset: int, max_timestamp: int) -> None:
        """Bring timestamps and indexes up to date with a batch at ``position``."""
        if position == 0:
            self._first_timestamp = max_timestamp
            if self._indexes is None:
                # A new file: there is nothing to load, and nothing is missing.
                self._empty_indexes()
        if max_timestamp > self._known_max_timestamp():
            self._max_timestamp = max_timestamp
            self._max_timestamp_offset = last_offset
        if position - self._unindexed_from > self.config.index_interval_bytes:
            self._loaded_indexes().append(
                last_offset, position, self._max_timestamp, self._max_timestamp_offset
            )
            self._unindexed_from = position

    def _read_max_timestamp(self) -> TimestampOffset:
        """The last entry of the time index, or a later timestamp in the batches after it."""
        indexes = self._loaded_indexes()
        largest = indexes.time.last()
        for _, batch in self.batches(indexes.offset.lookup(largest.offset).position):
            if batch.max_timestamp > largest.timestamp:
                largest = TimestampOffset(batch.max_timestamp, batch.last_offset)
        return largest

    def _loaded_indexes(self) -> SegmentIndexes:
        if self._indexes is not None:
            return self._indexes
        if self.size == 0:
            return self._empty_indexes()
        indexes = self._new_indexes()
        if indexes.open(self.size):
            self._indexes = indexes
            return indexes
        logger.warning("%s: rebuilding missing or damaged indexes", self.path(LOG_SUFFIX))
        indexes = self._empty_indexes()
        for position, batch in self.batches():
            self._note_batch(position, batch.size_in_bytes, batch.last_offset, batch.max_timestamp)
        return indexes

    def _empty_indexes(self) -> SegmentIndexes:
        """Forget everything that is derived from the log file."""
        indexes = self._indexes = self._new_indexes()
        self._max_timestamp = NO_TIMESTAMP
        self._max_timestamp_offset = self.base_offset
        self._unindexed_from = 0
        self._last_batch = None
        return indexes

    def _new_indexes(self) -> SegmentIndexes:
        return SegmentIndexes(
            self.base_offset, self.path(OFFSET_INDEX_SUFFIX), self.path(TIME_INDEX_SUFFIX)
        )
