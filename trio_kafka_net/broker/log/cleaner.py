"""Rewriting a compacted log: of every key the last record stays, with its offset; blocks.

A *pass* has two parts. First the records between the *first dirty offset* (where the last pass
ended) and the *end* (what may be compacted) are read, and the last offset of every key goes into an
``OffsetMap``. If that is full, the pass ends where it was full. Then every segment from the
beginning of the log to the end of the pass is written anew without the records that have a later
one with the same key. Small neighbours become one segment.

What a batch keeps, whatever is left of it: base and last offset, epoch, codec, and its producer
with sequence numbers. A batch of which nothing is left goes as a whole, except for

* the last batch of each producer, from which a restart knows its sequence numbers, and
* the last batch of the pass, which says how far the log goes before the next one,

of which the header stays. A record without a value (a *tombstone*) deletes its key, and must be
seen by consumers that saw the value: the first pass that meets it gives its batch a delete horizon,
and the first one after that removes it.

A new segment is written beside the log under names with ``.cleaned``. Once it is on the device it
is renamed to ``.swap``, which decides: from then on, whatever stops the process, the next start
puts it in the place of those it was made of (``log_loader``).

All of this runs in a worker thread, on segments that nobody appends to, through files of its own.
Python's threads share one interpreter: ``Pace`` keeps this one from holding it for long.

Source: Kafka ``Cleaner`` (4.1); KIP-534.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from trio_kafka_net.broker.log.checkpoints import sync_directory
from trio_kafka_net.broker.log.index import MAX_RELATIVE_OFFSET
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.log_loader import SNAPSHOT_SUFFIX
from trio_kafka_net.broker.log.offset_map import OffsetMap
from trio_kafka_net.broker.log.pace import Pace
from trio_kafka_net.broker.log.segment import (
    CLEANED_STAGE,
    LOG_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    SWAP_STAGE,
    TIME_INDEX_SUFFIX,
    LogSegment,
    segment_path,
)
from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.record_filter import filter_batch, iter_keys
from trio_kafka_net.protocol.records import RecordBatch

_ABORT = b"\0\0"
"""Type in the key of a transaction marker, after the version."""


@attrs.frozen
class SegmentFiles:
    """A sealed segment as the cleaner sees it: facts that do not change."""

    base_offset: int
    size: int
    """Bytes of the log file."""
    next_base_offset: int
    """Where the segment after it begins."""


@attrs.frozen(kw_only=True)
class LogToClean:
    """What one pass is about; made on the event loop, read in the worker thread."""

    directory: Path
    config: LogConfig
    segments: tuple[SegmentFiles, ...]
    """From the beginning of the log to the end of what may be compacted, in order."""
    first_dirty_offset: int
    """Offset before which no key occurs twice."""
    last_offsets: Mapping[int, int]
    """{id of an active producer: offset of its last record}."""
    now_ms: int
    """When the pass began, ms since the epoch."""


@attrs.define
class CleanerStatistics:
    """What a pass did."""

    bytes_read: int = 0
    """Of log files, by the second part."""
    bytes_written: int = 0
    records_read: int = 0
    """By the second part, in batches that had to be looked into."""
    records_removed: int = 0


class Cleaner:
    """One pass over one log; every method blocks, for a worker thread."""

    def __init__(self, log: LogToClean, *, max_map_bytes: int, pace: Pace) -> None:
        """Begin a pass.

        Args:
            log: what to clean.
            max_map_bytes: what the offset map may take.
            pace: decides when to rest, and whether to go on.
        """
        self._log = log
        self._pace = pace
        self._map = OffsetMap(max_map_bytes)
        # {producer id: offsets and keys of the transaction that it has open}
        self._open_transactions: dict[int, list[tuple[int, bytes]]] = {}
        self.statistics = CleanerStatistics()

    @property
    def end_offset(self) -> int:
        """Offset before which the log is clean after the pass; set by ``build_offset_map``."""
        return self._map.end_offset

    def build_offset_map(self) -> None:
        """Read the keys of the dirty part, until the end or until the map is full.

        Raises:
            CorruptRecordError: a batch is damaged.
            OSError: a file could not be read.
        """
        log = self._log
        self._map.end_offset = log.first_dirty_offset
        for files in log.segments:
            if files.next_base_offset <= log.first_dirty_offset:
                continue
            with self._naming(files):
                for batch in self._batches(files):
                    if batch.next_offset > log.first_dirty_offset and not self._add_keys(batch):
                        return
            self._map.end_offset = files.next_base_offset

    def _add_keys(self, batch: RecordBatch) -> bool:
        """Note the keys of a batch; False if there was no room for one.

        A transaction that was aborted supersedes nothing, so its keys wait for the marker.
        """
        for offset, key in self._keys_to_add(batch):
            if not self._map.put(key, offset):
                self._map.end_offset = offset
                return False
        self._map.end_offset = batch.next_offset
        return True

    def _keys_to_add(self, batch: RecordBatch) -> Iterable[tuple[int, bytes]]:
        if batch.is_control:
            waiting = self._open_transactions.pop(batch.producer_id, [])
            self._map.reserve(-len(waiting))
            return [] if _is_abort(batch) else waiting
        if not batch.is_transactional:
            return self._keys_of(batch)
        keys = list(self._keys_of(batch))
        if not self._map.reserve(len(keys)):
            return keys  # the first one finds no room
        self._open_transactions.setdefault(batch.producer_id, []).extend(keys)
        return []

    def _keys_of(self, batch: RecordBatch) -> Iterator[tuple[int, bytes]]:
        for offset, key in iter_keys(batch):
            self._pace.record()
            if key is not None and offset >= self._log.first_dirty_offset:
                yield offset, key

    def groups(self) -> list[tuple[SegmentFiles, ...]]:
        """The segments that the pass writes anew, those together that become one."""
        cleaned = [each for each in self._log.segments if each.base_offset < self.end_offset]
        return group_segments(cleaned, self._log.config, self._index_bytes)

    def _index_bytes(self, files: SegmentFiles) -> int:
        """Size of the larger index; one that is missing is rebuilt when it is needed."""
        segment = self._segment(files.base_offset)
        sizes = [0]
        for suffix in (OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                sizes.append(segment.path(suffix).stat().st_size)
        return max(sizes)

    def write(self, group: Sequence[SegmentFiles]) -> None:
        """Write the segment that takes the place of a group's, under names with ``.swap``.

        Raises:
            CorruptRecordError: a batch is damaged; the log is as it was.
            OSError: a file could not be read or written; the log is as it was, or the next start
                makes use of the segment.
        """
        base_offset = group[0].base_offset
        self._segment(base_offset, CLEANED_STAGE).delete()  # what an interrupted pass left
        cleaned = self._segment(base_offset, CLEANED_STAGE)
        cleaned.create()
        for files in group:
            with self._naming(files):
                self._write_into(cleaned, files)
        cleaned.seal()
        cleaned.flush()
        last = self._segment(group[-1].base_offset)
        modified_ns = last.path(LOG_SUFFIX).stat().st_mtime_ns
        os.utime(cleaned.path(LOG_SUFFIX), ns=(modified_ns, modified_ns))
        cleaned.enter_stage(SWAP_STAGE)
        sync_directory(self._log.directory)

    def _write_into(self, cleaned: LogSegment, files: SegmentFiles) -> None:
        for batch in self._batches(files):
            self.statistics.bytes_read += batch.size_in_bytes
            kept = self._clean(batch)
            if kept is not None:
                cleaned.append(kept)
                self.statistics.bytes_written += kept.size_in_bytes
                self._pace.bytes(kept.size_in_bytes)

    def remove_swap(self, group: Sequence[SegmentFiles]) -> None:
        """Take back what ``write`` made, because the segments of the group are not there any more.

        Raises:
            OSError: a file could not be removed.
        """
        self._segment(group[0].base_offset, SWAP_STAGE).delete()

    def remove_replaced(self, group: Sequence[SegmentFiles]) -> None:
        """Remove the files of a group that was replaced.

        Raises:
            OSError: a file could not be removed; the next start removes it.
        """
        for files in group:
            self._segment(files.base_offset).delete()
        for files in group[1:]:
            snapshot = segment_path(self._log.directory, files.base_offset, SNAPSHOT_SUFFIX)
            snapshot.unlink(missing_ok=True)
        sync_directory(self._log.directory)

    def _clean(self, batch: RecordBatch) -> RecordBatch | None:
        """What stays of a batch."""
        if batch.is_control or batch.base_offset >= self.end_offset:
            return batch
        filtered = filter_batch(batch, _Question(self._log.now_ms, self._map, batch, self._pace))
        self.statistics.records_read += batch.record_count
        self.statistics.records_removed += batch.record_count - filtered.count
        if filtered.count == 0:
            if not self._must_keep_header(batch):
                return None
            return batch if batch.record_count == 0 else filtered.rewrite()
        horizon_ms = None
        if filtered.has_tombstones and batch.delete_horizon_ms is None:
            horizon_ms = self._log.now_ms + self._log.config.delete_retention_ms
        if filtered.count == batch.record_count and horizon_ms is None:
            return batch
        return filtered.rewrite(horizon_ms)

    def _must_keep_header(self, batch: RecordBatch) -> bool:
        """Source: Kafka ``Cleaner.cleanInto``, ``checkBatchRetention`` (4.1)."""
        if batch.next_offset == self.end_offset:
            return True
        return (
            batch.has_producer_id
            and self._log.last_offsets.get(batch.producer_id) == batch.last_offset
        )

    def _batches(self, files: SegmentFiles) -> Iterator[RecordBatch]:
        for _, batch in self._segment(files.base_offset).batches():
            self._pace.bytes(batch.size_in_bytes)
            # A damaged batch must not be written again under a CRC that fits.
            batch.ensure_valid()
            yield batch

    @contextlib.contextmanager
    def _naming(self, files: SegmentFiles) -> Iterator[None]:
        """Say in which file a damaged batch is."""
        try:
            yield
        except CorruptRecordError as exc:
            path = self._segment(files.base_offset).path(LOG_SUFFIX)
            raise CorruptRecordError(f"{path}: {exc}") from exc

    def _segment(self, base_offset: int, stage: str = "") -> LogSegment:
        log = self._log
        return LogSegment(log.directory, base_offset, log.config, lambda: log.now_ms, stage=stage)


def _is_abort(batch: RecordBatch) -> bool:
    """Whether a control batch is the marker of an aborted transaction."""
    return any(key is not None and key[2:4] == _ABORT for _, key in iter_keys(batch))


@attrs.frozen(eq=False)
class _Question:
    """Whether a record stays.

    Source: Kafka ``Cleaner.shouldRetainRecord`` (4.1).
    """

    _now_ms: int
    _map: OffsetMap
    _batch: RecordBatch
    _pace: Pace

    def __call__(self, offset: int, key: bytes | None, has_value: bool) -> bool:
        self._pace.record()
        if offset >= self._map.end_offset:
            return True
        if key is None or not self._map.is_last(key, offset):
            return False
        horizon_ms = self._batch.delete_horizon_ms
        return has_value or horizon_ms is None or self._now_ms < horizon_ms


def group_segments(
    segments: Iterable[SegmentFiles],
    config: LogConfig,
    index_bytes_of: Callable[[SegmentFiles], int],
) -> list[tuple[SegmentFiles, ...]]:
    """Put neighbours together that fit into one segment, indexes and offsets included.

    Args:
        segments: in order.
        config: says how large a segment and its indexes become.
        index_bytes_of: size of the larger index of a segment.

    Source: Kafka ``Cleaner.groupSegmentsBySize`` (4.1).
    """
    groups: list[list[SegmentFiles]] = []
    size = index_bytes = 0
    for each in segments:
        added = index_bytes_of(each)
        size += each.size
        index_bytes += added
        if (
            groups
            and size <= config.segment_bytes
            and index_bytes <= config.segment_index_bytes
            and each.next_base_offset - 1 - groups[-1][0].base_offset <= MAX_RELATIVE_OFFSET
        ):
            groups[-1].append(each)
        else:
            groups.append([each])
            size, index_bytes = each.size, added
    return [tuple(group) for group in groups]
