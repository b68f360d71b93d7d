"""The files of one partition's log: the segment in use, those before it, and what is on the device.

``LocalLog`` is the lower half of ``UnifiedLog``, which knows what a record batch is allowed to be.
Here a log is a row of segments: it rolls, it is flushed, it loses its oldest segments and
exchanges others for compacted ones, and when a disk fails it goes out of service. What can wait
(fsync, index files, leader epochs, snapshots) waits for ``flush``, or for the next roll.

A broker has thousands of logs and stops within seconds, so ``close`` waits for the device only
where it must: a log that nothing happened to since a clean start is as that start found it, and
would be found so again. In any other, names are synced once, when all of them are there.

Threads: ``flush``, ``close`` and ``delete_segments`` block and belong into a worker thread;
``flush`` may run while the event loop appends and reads. The rest belongs to the event loop.

Source: Kafka ``LocalLog`` (4.0).
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from trio_kafka_net.broker.log.checkpoints import (
    LEADER_EPOCH_FILE,
    TopicPartition,
    replace_file,
    sync_directory,
    write_leader_epochs,
)
from trio_kafka_net.broker.log.file_users import FileUsers
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.log_loader import SNAPSHOT_SUFFIX, LogLoader, offsets_of_files
from trio_kafka_net.broker.log.log_segments import LogSegments
from trio_kafka_net.broker.log.segment import SWAP_STAGE, LogSegment, segment_path
from trio_kafka_net.errors import LogDirFailedError

logger = logging.getLogger(__name__)


class LocalLog:
    """Segments, in order, and how much of them is on the device."""

    def __init__(self, topic_partition: TopicPartition, loaded: LogLoader) -> None:
        """Take over what a loader found."""
        self.topic_partition = topic_partition
        """Topic name and partition index."""
        self.directory = loaded.directory
        self.config = loaded.config
        self.leader_epochs = loaded.leader_epochs
        self.producers = loaded.producers
        self.log_start_offset = loaded.log_start_offset
        """First offset that can be read."""
        self.log_end_offset = loaded.log_end_offset
        """Offset of the next record."""
        self.high_watermark = loaded.log_end_offset
        """Offset before which every replica in sync has everything; moved by the partition."""
        self.recovery_point = loaded.recovery_point
        """Offset before which everything is on the device."""
        self.first_dirty_offset = 0
        """Offset before which the log is compacted; moved by the cleaner."""
        self.failure: OSError | None = None
        """What took the log offline."""
        self.on_failure: Callable[[], None] | None = None
        """Called when it went offline, perhaps by a worker thread."""
        self.file_users = FileUsers()
        """Threads that are at work on its files."""
        self._loader = loaded
        self._now_ms = loaded.now_ms
        self._segments = LogSegments(loaded.segments, loaded.new_segment)
        # Sealed since the last flush: log and indexes are not on the device yet.
        self._unflushed = [
            segment for segment in loaded.recovered if segment is not self._segments.active
        ]
        self._names_changed = True
        # Whether the files are those that a clean stop left, or none; but for appends, which move
        # the end.
        self._is_untouched = loaded.is_clean and not loaded.recovered
        self._first_end_offset = loaded.log_end_offset
        self._flushing = threading.Lock()
        self.last_append_ms: int | None = None
        """When somebody last tried to append, ms since the epoch; None since the start."""

    @property
    def size_in_bytes(self) -> int:
        """Bytes of all segments."""
        return self._segments.size_in_bytes

    @property
    def active_base_offset(self) -> int:
        """First offset of the segment that is being written."""
        return self._segments.active.base_offset

    @property
    def active_size(self) -> int:
        """Bytes of that segment."""
        return self._segments.active.size

    @property
    def segment_count(self) -> int:
        """How many segments there are; at least one."""
        return len(self._segments)

    @property
    def needs_flush(self) -> bool:
        """Whether ``flush.messages`` demands a flush before the next acknowledgement."""
        return self.log_end_offset - self.recovery_point >= self.config.flush_messages

    def update_config(self, config: LogConfig) -> None:
        """Take over new settings; they hold from the next append on."""
        self.config = self._loader.config = config
        for segment in self._segments:
            segment.use_config(config)

    # Growing

    def roll(self) -> None:
        """Begin a new segment at the log end.

        Raises:
            OSError: the active segment could not be completed; it stays active.
        """
        if self._segments.active.base_offset == self.log_end_offset:
            return
        self._segments.active.seal()
        # Not synced: a torn snapshot is recognised, and only costs a longer replay.
        self._snapshot_path().write_bytes(self.producers.to_snapshot())
        sealed = self._segments.roll(self.log_end_offset)
        self._unflushed.append(sealed)
        self._note_new_names()

    def _note_new_names(self) -> None:
        self._is_untouched = False
        self._names_changed = True

    # Shrinking

    def delete_segments(self, segments: Sequence[LogSegment]) -> None:
        """Remove the files of dropped segments; blocks, for a worker thread.

        Raises:
            OSError: a file could not be removed.
        """
        with self.file_users:
            if self.failure is not None:
                return  # what is deleted goes with its directory
            self._is_untouched = False
            # The name of the first segment that stays must not be lost: it says where the log
            # begins.
            sync_directory(self.directory)
            for segment in segments:
                segment.delete()
                segment_path(self.directory, segment.base_offset, SNAPSHOT_SUFFIX).unlink(
                    missing_ok=True
                )

    # Compaction

    @property
    def segments(self) -> tuple[LogSegment, ...]:
        """All segments in order; the last one is active."""
        return tuple(self._segments)

    def replace_segments(self, old: Sequence[LogSegment]) -> LogSegment | None:
        """Read from a cleaned segment from now on, in place of those it was made of.

        Its files have their names with ``.swap`` and the base offset of the first of the old ones.
        Those are to be removed next, and only then may the new segment take
        over the name (``LogSegment.enter_stage``).

        Args:
            old: neighbours that were sealed.

        Returns:
            The new segment; None if the old ones are not all there any more, and nothing changed.

        Source: Kafka ``LocalLog.replaceSegments`` (4.1).
        """
        self._note_new_names()
        new = self._loader.new_segment(old[0].base_offset, stage=SWAP_STAGE)
        return new if self._segments.replace(old, new) else None

    # Durability

    def flush(self, up_to: int | None = None) -> None:
        """Wait until the log is on the device; blocks, for a worker thread.

        Calls from several threads share the work: who waited for another one's flush finds its own
        offsets flushed as well, most of the time.

        Args:
            up_to: offset before which everything must be on the device; None is the log end.

        Raises:
            LogDirFailedError: an I/O error; the log is offline.
        """
        wanted = self.log_end_offset if up_to is None else up_to
        with self.file_users, self._flushing:
            self.check_online()
            if self.recovery_point >= wanted and (
                not self.leader_epochs.is_dirty or self._is_as_found
            ):
                return
            try:
                self._sync()
            except OSError as exc:
                raise self._gone_offline(exc) from exc

    def _sync(self) -> None:
        # Read first: what is appended from here on may miss the sync.
        end_offset, active = self.log_end_offset, self._segments.active
        # One by one: the event loop may add another one at any moment.
        must_sync_active = active.size > 0
        while self._unflushed:
            segment = self._unflushed.pop(0)
            segment.flush()
            if segment is active:
                must_sync_active = False
        if must_sync_active:
            active.file.sync()
        if self.leader_epochs.is_dirty:
            self._names_changed = True
            write_leader_epochs(
                self.directory / LEADER_EPOCH_FILE, self.leader_epochs.take_entries()
            )
        if self._names_changed:
            self._names_changed = False
            sync_directory(self.directory)
        self.recovery_point = min(max(self.recovery_point, end_offset), self.log_end_offset)

    @property
    def _is_as_found(self) -> bool:
        """Whether the next start would find what this one found after a clean stop.

        Leader epochs that appended nothing make no difference: a start forgets them.
        """
        return self._is_untouched and self.log_end_offset == self._first_end_offset

    def close(self) -> None:
        """Complete and flush everything, so that the next ``open`` may be told that it is clean.

        Blocks, for a worker thread; the log is not to be used afterwards.

        Raises:
            LogDirFailedError: an I/O error, now or before; the log needs recovery.

        Cost: nothing if nothing happened to the log; else some four syncs.
        """
        self.check_online()
        if not self._is_as_found:
            try:
                self._complete()
            except OSError as exc:
                raise self._gone_offline(exc) from exc
        for segment in self._segments:
            segment.release()

    def _complete(self) -> None:
        self.producers.expire(self._now_ms())
        self._segments.active.seal()
        replace_file(self._snapshot_path(), self.producers.to_snapshot())
        self._remove_stray_snapshots()
        self._unflushed.append(self._segments.active)
        self._note_new_names()
        self._sync()

    def abandon(self) -> None:
        """Take the log out of service because its files are about to go.

        Every later call fails; a flush that is under way may fail, or not.
        """
        self.failure = FileNotFoundError(errno.ENOENT, "the partition was deleted")
        if self.on_failure is not None:
            self.on_failure()
        for segment in self._segments:
            segment.is_deleted = True

    def _snapshot_path(self) -> Path:
        return segment_path(self.directory, self.log_end_offset, SNAPSHOT_SUFFIX)

    def _remove_stray_snapshots(self) -> None:
        """Keep the newest snapshot and those where a segment begins."""
        kept = {segment.base_offset for segment in self._segments} | {self.log_end_offset}
        for offset in offsets_of_files(self.directory.iterdir(), SNAPSHOT_SUFFIX):
            if offset not in kept:
                segment_path(self.directory, offset, SNAPSHOT_SUFFIX).unlink()

    def check_online(self) -> None:
        """Refuse to work on a log that is out of service.

        Raises:
            LogDirFailedError: the log is offline, or its partition was deleted.
        """
        if self.failure is not None:
            raise LogDirFailedError(f"{self.directory} is offline: {self.failure}")

    def _gone_offline(self, exc: OSError) -> LogDirFailedError:
        if self.failure is None:
            # Without the frames that it passed: they have the batch, and this stays.
            self.failure = exc.with_traceback(None)
            logger.error(
                "%s goes offline at offset %d: %s", self.directory, self.log_end_offset, exc
            )
            if self.on_failure is not None:
                self.on_failure()
        return LogDirFailedError(f"{self.directory} goes offline: {exc}")
