"""Which log is compacted next, and how a segment that was written anew gets into its place.

Compacted logs (``cleanup.policy`` has ``compact``) are cleaned one at a time, the dirtiest first:
the one with the largest share of bytes after its first dirty offset. What is never touched is the
active segment, what lies above the high watermark, and what is younger than
``min.compaction.lag.ms``.

The work is done by ``Cleaner`` in a worker thread, group of segments by group; the event loop only
decides. For each group:

1. thread: write the new segment under names with ``.swap``; it is on the device;
2. event loop: read from it from now on, in place of the old ones;
3. thread: remove the files of the old ones;
4. event loop: rename the new one, now that its name is free.

Step 2 fails if retention took one of the old segments meanwhile; then the new one is thrown away.
A reader in the middle of an old segment holds its file. Only segments that are on the device are
cleaned, so a flush has nothing to do with any of this. A stop between two steps leaves what the
next start completes.

Source: Kafka ``LogCleaner``, ``LogCleanerManager`` (4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import attrs
import trio

from trio_kafka_net.broker.log.checkpoints import TopicPartition
from trio_kafka_net.broker.log.log_config import INT64_MAX
from trio_kafka_net.broker.log.pace import Pace
from trio_kafka_net.broker.log.segment import LogSegment
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.config import LogCleanerConfig
from trio_kafka_net.errors import StorageError

if TYPE_CHECKING:
    from trio_kafka_net.broker.log.cleaner import Cleaner, LogToClean, SegmentFiles

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


@attrs.frozen
class Cleanable:
    """What could be compacted of a log now."""

    log: UnifiedLog
    first_dirty_offset: int
    end_offset: int
    """Offset before which may be compacted; where a segment begins."""
    dirty_ratio: float
    """Share of the bytes before the end that is dirty."""
    is_overdue: bool
    """Whether something waits longer than ``max.compaction.lag.ms``."""

    @property
    def is_due(self) -> bool:
        """Whether it is worth a pass."""
        return self.end_offset > self.first_dirty_offset and (
            self.is_overdue or self.dirty_ratio > self.log.config.min_cleanable_dirty_ratio
        )


def cleanable(log: UnifiedLog, *, now_ms: int, before_offset: int) -> Cleanable:
    """Find out what could be compacted of a log.

    Args:
        log: one that is compacted, and online.
        now_ms: ms since the epoch.
        before_offset: what comes later is left alone.

    Raises:
        CorruptRecordError: a segment had to be read, and is damaged.
        OSError: a segment could not be read.

    Source: Kafka ``LogCleanerManager.cleanableOffsets``, ``maxCompactionDelay``,
        ``calculateCleanableBytes`` (4.1).
    """
    first_dirty_offset = log.first_dirty_offset
    if not log.log_start_offset <= first_dirty_offset <= log.log_end_offset:
        # Before the start: those records are gone. After the end: the checkpoint is another log's.
        first_dirty_offset = log.log_start_offset
    end_offset = first_dirty_offset
    dirty_bytes = clean_bytes = 0
    is_overdue = False
    for segment, following in pairwise(log.segments):
        if following.base_offset <= first_dirty_offset:
            clean_bytes += segment.size
            continue
        if following.base_offset > before_offset or _is_too_young(log, segment, now_ms):
            break
        end_offset = following.base_offset
        dirty_bytes += segment.size
        is_overdue = is_overdue or _is_overdue(log, segment, now_ms)
    total = clean_bytes + dirty_bytes
    ratio = dirty_bytes / total if total else 0.0
    return Cleanable(log, first_dirty_offset, end_offset, ratio, is_overdue)


def _is_too_young(log: UnifiedLog, segment: LogSegment, now_ms: int) -> bool:
    lag_ms = log.config.min_compaction_lag_ms
    if lag_ms <= 0:
        return False
    largest = segment.max_timestamp.timestamp
    segment.release()
    return largest > now_ms - lag_ms


def _is_overdue(log: UnifiedLog, segment: LogSegment, now_ms: int) -> bool:
    lag_ms = log.config.max_compaction_lag_ms
    if lag_ms == INT64_MAX:
        return False
    first = segment.first_timestamp
    segment.release()
    return 0 < first < now_ms - lag_ms


class LogCleaner:
    """Compacts the logs of one data directory."""

    def __init__(
        self,
        logs: Iterable[UnifiedLog],
        config: LogCleanerConfig,
        *,
        checkpoint: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        """Look after logs.

        Args:
            logs: iterated over before every pass.
            config: how often, how fast, with how much memory.
            checkpoint: writes down the first dirty offsets of all logs; called in a worker thread.
            now_ms: the clock, ms since the epoch.
        """
        self._logs = logs
        self.config = config
        """What it goes by; a pass that has begun keeps what it began with."""
        self._checkpoint = checkpoint
        self._now_ms = now_ms
        self._uncleanable: dict[TopicPartition, UnifiedLog] = {}

    @property
    def uncleanable(self) -> frozenset[TopicPartition]:
        """Partitions whose cleaning failed; they are left alone until a restart."""
        return frozenset(self._uncleanable)

    async def run(self) -> None:
        """Clean logs, until cancelled.

        Cancellation: prompt; what is half done is completed or forgotten by the next start.
        """
        while True:
            if not await self.clean_filthiest():
                await trio.sleep(self.config.log_cleaner_backoff_ms / 1000)

    async def clean_filthiest(self) -> bool:
        """Make one pass over the log that needs it most.

        Returns:
            Whether a pass was completed; there may be more to do then.

        Cancellation: as ``run``.

        Source: Kafka ``LogCleanerManager.grabFilthiestCompactedLog`` (4.1).
        """
        due = [found for found in map(self._look_at, self._candidates()) if found is not None]
        if not due:
            await trio.lowlevel.checkpoint()
            return False
        log = max(due, key=lambda each: each.dirty_ratio).log
        try:
            await self._clean(log)
        except (StorageError, OSError) as exc:
            self._give_up(log, exc)
            return False
        return True

    def _candidates(self) -> list[UnifiedLog]:
        return [
            log
            for log in self._logs
            if log.config.compact
            and log.failure is None
            and self._uncleanable.get(log.topic_partition) is not log
        ]

    def _look_at(self, log: UnifiedLog) -> Cleanable | None:
        try:
            found = cleanable(log, now_ms=self._now_ms(), before_offset=log.high_watermark)
        except (StorageError, OSError) as exc:
            self._give_up(log, exc)
            return None
        return found if found.is_due else None

    def _give_up(self, log: UnifiedLog, exc: Exception) -> None:
        if isinstance(exc, _AbortedError) or log.failure is not None:
            logger.info("%s: compaction stopped: %s", log.directory, exc)
            return
        self._uncleanable[log.topic_partition] = log
        topic, index = log.topic_partition
        logger.error("%s-%d is not compacted any more until a restart: %s", topic, index, exc)

    async def _clean(self, log: UnifiedLog) -> None:
        # Most brokers never compact anything.
        from trio_kafka_net.broker.log.cleaner import Cleaner

        await _in_thread(log, log.flush)
        flushed = min(log.high_watermark, log.recovery_point)
        found = cleanable(log, now_ms=self._now_ms(), before_offset=flushed)
        segments = [each for each in log.segments if each.base_offset < found.end_offset]
        cleaner = Cleaner(
            self._plan(found, segments),
            max_map_bytes=self.config.log_cleaner_dedupe_buffer_size,
            pace=Pace(
                _checking(log),
                bytes_per_second=self.config.log_cleaner_io_max_bytes_per_second,
            ),
        )
        try:
            await _in_thread(log, cleaner.build_offset_map)
            if cleaner.end_offset <= found.first_dirty_offset:
                raise StorageError(
                    f"{log.directory}: the keys of a transaction's batch do not fit into "
                    f"log.cleaner.dedupe.buffer.size={self.config.log_cleaner_dedupe_buffer_size}"
                )
            for group in await _in_thread(log, cleaner.groups):
                await self._clean_group(log, cleaner, group, segments)
        except OSError as exc:
            if any(segment.is_deleted for segment in segments):
                raise _AbortedError(f"its segments were removed: {exc}") from exc
            raise
        log.first_dirty_offset = cleaner.end_offset
        await trio.to_thread.run_sync(self._checkpoint)
        logger.info(
            "%s: compacted up to offset %d: %s",
            log.directory,
            cleaner.end_offset,
            cleaner.statistics,
        )

    async def _clean_group(
        self,
        log: UnifiedLog,
        cleaner: Cleaner,
        group: Sequence[SegmentFiles],
        segments: Iterable[LogSegment],
    ) -> None:
        base_offsets = {files.base_offset for files in group}
        old = [segment for segment in segments if segment.base_offset in base_offsets]
        await _in_thread(log, cleaner.write, group)
        new = log.replace_segments(old)
        if new is None:
            await _in_thread(log, cleaner.remove_swap, group)
            raise _AbortedError("its segments were removed")
        await _in_thread(log, cleaner.remove_replaced, group)
        if not new.is_deleted:
            new.enter_stage("")

    def _plan(self, found: Cleanable, segments: Sequence[LogSegment]) -> LogToClean:
        from trio_kafka_net.broker.log.cleaner import LogToClean, SegmentFiles

        log = found.log
        ends = [*(segment.base_offset for segment in segments[1:]), found.end_offset]
        return LogToClean(
            directory=log.directory,
            config=log.config,
            segments=tuple(
                SegmentFiles(segment.base_offset, segment.size, end_offset)
                for segment, end_offset in zip(segments, ends, strict=True)
            ),
            first_dirty_offset=found.first_dirty_offset,
            last_offsets={
                entry.producer_id: entry.batches[-1].last_offset
                for entry in log.producers
                if entry.batches
            },
            now_ms=self._now_ms(),
        )


class _AbortedError(StorageError):
    """The log changed under a pass; the next one will do."""


def _checking(log: UnifiedLog) -> Callable[[], None]:
    def check() -> None:
        log.check_online()
        trio.from_thread.check_cancelled()

    return check


async def _in_thread(
    log: UnifiedLog, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Work on the files of a log in a worker thread, unless it is gone.

    Raises:
        LogDirFailedError: it is.
    """

    def run() -> _T:
        with log.file_users:
            log.check_online()
            return work(*args, **kwargs)

    return await trio.to_thread.run_sync(run)
