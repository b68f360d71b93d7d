"""The segments of one log, in order: which one to read, where to cut, which ones are too old.

Descriptors are scarce and partitions many: besides the segment in use, only the sealed one read
last stays open.

Source: Kafka ``LogSegments``, ``LocalLog`` (4.0).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment import FoundRecord, LogSegment
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.record_codec import NO_TIMESTAMP

_base_offset = attrgetter("base_offset")


class LogSegments:
    """At least one segment; the last one is active, that is appended to."""

    def __init__(
        self, segments: list[LogSegment], new_segment: Callable[[int], LogSegment]
    ) -> None:
        """Take over what was found on disk.

        Args:
            segments: in order, at least one; kept and changed.
            new_segment: describes the segment at a base offset.
        """
        self._segments = segments
        self._new_segment = new_segment
        self._read_last: LogSegment | None = None
        self.active = segments[-1]
        """The segment that is appended to."""

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[LogSegment]:
        return iter(self._segments)

    @property
    def size_in_bytes(self) -> int:
        """Bytes of all log files."""
        return sum(segment.size for segment in self._segments)

    def roll(self, base_offset: int) -> LogSegment:
        """Begin a new segment; returns the one that was active.

        Raises:
            OSError: its file could not be made; the old one stays active.
        """
        segment = self._new_segment(base_offset)
        segment.create()
        sealed, self.active = self.active, segment
        self._segments.append(segment)
        sealed.release()
        return sealed

    def find_region(
        self,
        offset: int,
        end_offset: int,
        is_log_end: bool,
        max_bytes: int,
        min_one_batch: bool,
    ) -> FileRegion | None:
        """Find the bytes from the batch that holds ``offset`` on, within one segment.

        Args:
            offset: first offset wanted.
            end_offset: first offset not to give.
            is_log_end: whether ``end_offset`` is where the log ends, which saves a search.
            max_bytes: longest region, bytes.
            min_one_batch: whether the first batch is given whole even if it is longer.

        Raises:
            CorruptRecordError: the log is damaged where it was searched.
            OSError: it could not be read.
        """
        for number in range(self._number_of(offset), len(self._segments)):
            segment = self._segments[number]
            if segment.base_offset >= end_offset:
                return None
            max_position = None
            if not is_log_end and self._ends_after(number, end_offset):
                max_position = segment.position_of(end_offset)
            region = segment.read(
                offset, max_bytes, max_position=max_position, min_one_batch=min_one_batch
            )
            if segment is not self.active:
                self._keep_few_open(segment)
            # Compaction may have left nothing at or after the offset in this segment.
            if region is not None:
                return region
        return None

    def find_timestamp(self, timestamp: int, first_offset: int) -> FoundRecord | None:
        """Find the first record at or after an offset that is not earlier than a timestamp.

        Raises:
            CorruptRecordError: a batch that had to be read is damaged.
            OSError: it could not be read.
        """
        for segment in self._segments[self._number_of(first_offset) :]:
            found = None
            if segment.max_timestamp.timestamp >= timestamp:
                found = segment.find_timestamp(timestamp, first_offset)
            self._keep_few_open(segment)
            if found is not None:
                return found
        return None

    def max_timestamp(self) -> int:
        """Largest timestamp of all records, ms since the epoch; -1 if there is none."""
        largest = NO_TIMESTAMP
        for segment in self._segments:
            largest = max(largest, segment.max_timestamp.timestamp)
            self._keep_few_open(segment)
        return largest

    def truncate_to(self, offset: int) -> int:
        """Drop the batch that holds ``offset`` and everything after it.

        Returns:
            Where the log ends now; at or before ``offset``.

        Raises:
            OSError: a file could not be cut or removed.
        """
        kept = bisect_right(self._segments, offset, key=_base_offset)
        dropped = self._segments[kept:]
        del self._segments[kept:]
        for segment in dropped:
            segment.delete()
        self._read_last = None
        if not kept:
            self.active = self._new_segment(offset)
            self.active.create()
            self._segments.append(self.active)
            return offset
        self.active = self._segments[-1]
        self.active.truncate_to(offset)
        return self.active.read_next_offset()

    def count_old(
        self,
        config: LogConfig,
        *,
        now_ms: int,
        log_start_offset: int,
        log_end_offset: int,
        high_watermark: int,
    ) -> int:
        """How many segments, from the first one on, nobody should read any more.

        Args:
            config: what is kept.
            now_ms: ms since the epoch.
            log_start_offset: segments before it are old in any case.
            log_end_offset: where the active segment ends.
            high_watermark: segments that end after it stay in any case.
        """
        is_limited = config.delete and config.retention_ms >= 0
        oldest_ms = now_ms - config.retention_ms if is_limited else None
        spare_bytes = -1
        if config.delete and config.retention_bytes >= 0:
            spare_bytes = self.size_in_bytes - config.retention_bytes
        for number, segment in enumerate(self._segments):
            end_offset = self._end_offset(number, log_end_offset)
            spare_bytes -= segment.size
            if end_offset > high_watermark or (segment.size == 0 and segment is self.active):
                return number
            is_old = oldest_ms is not None and segment.newest_ms() < oldest_ms
            self._keep_few_open(segment)
            if not (is_old or spare_bytes >= 0 or end_offset <= log_start_offset):
                return number
        return len(self._segments)

    def drop_first(self, count: int) -> list[LogSegment]:
        """Drop segments from the beginning; at least one must stay."""
        dropped = self._segments[:count]
        del self._segments[:count]
        for segment in dropped:
            segment.is_deleted = True
        self._read_last = None
        return dropped

    def replace(self, old: Sequence[LogSegment], new: LogSegment) -> bool:
        """Put one segment in the place of several neighbours that were sealed.

        Returns:
            Whether they were all there; if not, nothing was changed.
        """
        number = self._number_of(old[0].base_offset)
        there = self._segments[number : number + len(old)]
        if len(there) != len(old) or any(a is not b for a, b in zip(there, old, strict=True)):
            return False
        if old[-1] is self.active:
            return False
        self._segments[number : number + len(old)] = [new]
        for segment in old:
            segment.is_deleted = True
        self._read_last = None
        return True

    def _keep_few_open(self, segment: LogSegment) -> None:
        if segment is self.active or segment is self._read_last:
            return
        if self._read_last is not None:
            self._read_last.release()
        self._read_last = segment

    def _number_of(self, offset: int) -> int:
        """Which segment holds ``offset``."""
        if offset >= self.active.base_offset:
            return len(self._segments) - 1
        return max(0, bisect_right(self._segments, offset, key=_base_offset) - 1)

    def _end_offset(self, number: int, log_end_offset: int) -> int:
        if number == len(self._segments) - 1:
            return log_end_offset
        return self._segments[number + 1].base_offset

    def _ends_after(self, number: int, offset: int) -> bool:
        return number == len(self._segments) - 1 or self._segments[number + 1].base_offset > offset
