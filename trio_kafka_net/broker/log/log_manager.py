"""All logs of a data directory: what is in it, and when it reaches the device.

Each partition is a directory ``<topic>-<index>``. A deleted one is renamed
to ``<topic>-<index>.<uuid>-delete`` at once, so that its name is free, and removed later; a start
finishes what a stop interrupted.

A log that cannot be opened does not keep the others from serving: it is listed in ``failures``.

Source: Kafka ``LogManager`` (4.0).
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import trio

from trio_kafka_net.broker.log.checkpoints import (
    CLEANER_OFFSET_FILE,
    LOG_START_OFFSET_FILE,
    RECOVERY_POINT_FILE,
    TopicPartition,
    read_offsets,
    read_topic_id,
    sync_directory,
    take_clean_shutdown,
    write_clean_shutdown,
    write_offsets,
    write_topic_id,
)
from trio_kafka_net.broker.log.data_dir import DataDir, is_in_memory
from trio_kafka_net.broker.log.log_cleaner import LogCleaner
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment import LogSegment
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.config import LogCleanerConfig
from trio_kafka_net.errors import KafkaError, StorageError

logger = logging.getLogger(__name__)

_DELETE_SUFFIX = "-delete"
_FEW_LOGS = 3
_MAX_NAME_BYTES = 255
_PARTITION_DIRECTORY = re.compile(r"([a-zA-Z0-9._-]+)-(0|[1-9][0-9]*)")


@attrs.frozen(kw_only=True)
class LogManagerConfig:
    """Where the logs are and how often they are looked after."""

    data_dir: Path
    """Made if need be."""
    node_id: int
    """Of this broker; a data directory keeps the one it was made by."""
    cluster_id: str | None = None
    """None takes the one in the data directory, or makes one."""
    log: LogConfig = attrs.field(factory=LogConfig)
    """What topics do not set themselves."""
    flush_interval_ms: int = 60_000
    """How often logs are flushed and checkpoints written, so that recovery is short."""
    retention_check_interval_ms: int = 300_000
    """``log.retention.check.interval.ms``."""
    cleaner: LogCleanerConfig = attrs.field(factory=LogCleanerConfig)
    """Whether and how topics are compacted."""


class LogManager:
    """All logs of one data directory; made by ``LogManager.open``."""

    def __init__(
        self,
        config: LogManagerConfig,
        data_dir: DataDir,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
    ) -> None:
        """Use ``LogManager.open``, which opens the logs as well."""
        self.config = config
        self.cluster_id = data_dir.cluster_id
        """Of the cluster that the data directory belongs to."""
        self.failures: dict[TopicPartition, Exception] = {}
        """Why logs could not be opened."""
        self.gone_offline = 0
        """How often a log that was open went out of service; grows."""
        self._data_dir = data_dir
        self.path = data_dir.path
        """The data directory."""
        self.is_in_memory = is_in_memory(data_dir.path)
        """Whether nothing here ever waits for a device."""
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._logs: dict[TopicPartition, UnifiedLog] = {}
        self._to_remove: list[Path] = []
        # Deleted logs that a thread was at work on then.
        self._leaving: dict[TopicPartition, UnifiedLog] = {}
        self.cleaner = LogCleaner(
            self, config.cleaner, checkpoint=self.checkpoint_cleaner, now_ms=now_ms
        )
        """Compacts the logs."""
        # What the cleaner's checkpoint says, and whose turn it is to write it.
        self._compacted: dict[TopicPartition, int] = {}
        self._writing_compacted = threading.Lock()
        # Made once, and not for each log.
        self._on_failure = self._count_failure

    @classmethod
    def open(
        cls,
        config: LogManagerConfig,
        topic_configs: Mapping[str, Mapping[str, str]] | None = None,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
    ) -> LogManager:
        """Take possession of a data directory and open its logs; blocks, for a worker thread.

        Args:
            config: where the logs are.
            topic_configs: {topic: {Kafka's name: value}}, what topics set themselves.
            now_ms: the clock, ms since the epoch.
            new_uuid: makes 16 random bytes.

        Raises:
            StorageError: another process has the directory, or it is another node's; it is
                as it was.
            OSError: the directory could not be read or written.
        """
        data_dir = DataDir(
            config.data_dir,
            node_id=config.node_id,
            cluster_id=config.cluster_id,
            new_uuid=new_uuid,
        )
        manager = cls(config, data_dir, now_ms=now_ms, new_uuid=new_uuid)
        try:
            manager._load(topic_configs or {})
        except BaseException:
            data_dir.release()
            raise
        return manager

    def __iter__(self) -> Iterator[UnifiedLog]:
        return iter(list(self._logs.values()))

    def __len__(self) -> int:
        """Count of open logs."""
        return len(self._logs)

    def get_log(self, topic: str, index: int) -> UnifiedLog | None:
        """The log of a partition, if it is open here."""
        return self._logs.get((topic, index))

    def topic_id(self, topic: str, index: int) -> bytes | None:
        """The topic id in a partition's directory, 16 bytes, if there is one."""
        return read_topic_id(self._directory((topic, index)))

    def is_quick(self, topic: str, indexes: Sequence[int]) -> bool:
        """Whether logs can be made in less than about half a millisecond, without a worker thread.

        A log takes 120 µs in memory, some 700 µs on a disk.
        """
        keys = [(topic, index) for index in indexes[: _FEW_LOGS + 1]]
        return (
            self.is_in_memory
            and len(keys) <= _FEW_LOGS
            and not any(key in self._leaving or key in self._compacted for key in keys)
        )

    def create_log(
        self, topic: str, index: int, topic_id: bytes, configs: Mapping[str, str] | None = None
    ) -> UnifiedLog:
        """Make an empty log for a partition; what is open already is returned as it is.

        Args:
            topic: its name, valid.
            index: its number in the topic.
            topic_id: 16 bytes.
            configs: {Kafka's name: value}, what the topic sets itself.

        If a partition of that name was deleted just now, waits for threads that are at work on it.

        Raises:
            KafkaError: INVALID_CONFIG; nothing was made.
            StorageError: the directory of another topic of that name is in the way.
            OSError: the directory could not be made.

        Cost: a few small files and syncs; into a worker thread if there are many.
        """
        key = (topic, index)
        log = self._logs.get(key)
        if log is not None:
            return log
        config = self._config_of(topic, configs or {})
        leaving = self._leaving.pop(key, None)
        if leaving is not None:
            leaving.file_users.wait()
        if key in self._compacted:
            self.checkpoint_cleaner()
        directory = self._directory(key)
        is_new = not directory.exists()
        if is_new:
            directory.mkdir()
            write_topic_id(directory, topic_id)
            sync_directory(self.path)
        elif read_topic_id(directory) != topic_id:
            raise StorageError(f"{directory} holds another topic of that name")
        log = UnifiedLog.open(directory, key, config, now_ms=self._now_ms, is_clean=is_new)
        log.on_failure = self._on_failure
        self._logs[key] = log
        self.failures.pop(key, None)
        return log

    def _config_of(self, topic: str, configs: Mapping[str, str]) -> LogConfig:
        """The settings of a topic's logs: the same object for all of them.

        Raises:
            KafkaError: INVALID_CONFIG.
        """
        if not configs:
            return self.config.log
        made = self.config.log.with_topic_configs(configs)
        first = self._logs.get((topic, 0))
        return first.config if first is not None and first.config == made else made

    def _count_failure(self) -> None:
        self.gone_offline += 1

    def delete_log(self, topic: str, index: int) -> None:
        """Take a log out of service; its files are removed by ``remove_deleted``.

        Nothing happens if there is no such log.

        Raises:
            OSError: its directory could not be renamed; the log is out of service all the same.
        """
        key = (topic, index)
        log = self._logs.pop(key, None)
        self.failures.pop(key, None)
        directory = self._directory(key)
        if log is None and not directory.exists():
            return
        if log is not None:
            log.abandon()
            if log.file_users.is_busy:
                self._leaving[key] = log
        suffix = f"-{index}.{self._new_uuid().hex()}{_DELETE_SUFFIX}"
        renamed = self.path / (topic[: _MAX_NAME_BYTES - len(suffix)] + suffix)
        directory.rename(renamed)
        self._to_remove.append(renamed)

    def remove_deleted(self) -> None:
        """Remove the files of deleted logs; blocks, for a worker thread."""
        while True:
            try:
                path = self._to_remove.pop()
            except IndexError:  # empty, perhaps because another thread took the last one
                return
            shutil.rmtree(path, ignore_errors=True)

    def checkpoint(self) -> None:
        """Write down how far every log is flushed and where it starts; blocks.

        Raises:
            OSError: the old checkpoints are still there, one or both.
        """
        logs = list(self._logs.items())
        write_offsets(
            self.path / RECOVERY_POINT_FILE, {key: log.recovery_point for key, log in logs}
        )
        write_offsets(
            self.path / LOG_START_OFFSET_FILE,
            {key: log.log_start_offset for key, log in logs if log.log_start_offset > 0},
        )

    def checkpoint_cleaner(self) -> None:
        """Write down how far every log is compacted; blocks.

        Raises:
            OSError: the old checkpoint is still there.
        """
        with self._writing_compacted:
            compacted = {
                key: log.first_dirty_offset
                for key, log in list(self._logs.items())
                if log.first_dirty_offset > 0
            }
            write_offsets(self.path / CLEANER_OFFSET_FILE, compacted)
            self._compacted = compacted

    def flush(self) -> None:
        """Flush all logs that are online, then write the checkpoints; blocks.

        A log that fails goes offline by itself and does not keep the others from being flushed.

        Raises:
            OSError: the checkpoints could not be written.
        """
        for log in list(self._logs.values()):
            if log.failure is None:
                with contextlib.suppress(StorageError):
                    log.flush()
        self.checkpoint()

    def close(self) -> None:
        """Complete all logs and give the directory back; blocks, for a worker thread.

        The next start needs no recovery, unless a log is offline.

        Raises:
            OSError: the checkpoints could not be written; the directory is given back.
        """
        try:
            self.remove_deleted()
            is_clean = not self.failures
            for log in self._logs.values():
                try:
                    log.close()
                except StorageError as exc:
                    is_clean = False
                    logger.error("%s: not closed cleanly: %s", log.directory, exc)
            self.checkpoint()
            if is_clean:
                write_clean_shutdown(self.path)
        finally:
            self._logs.clear()
            self._data_dir.release()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush, drop old segments and compact every now and then, until cancelled.

        Cancellation: what a worker thread has begun is completed first; nothing is left half done.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_flushes)
            nursery.start_soon(self._run_retention)
            if self.config.cleaner.log_cleaner_enable:
                nursery.start_soon(self.cleaner.run)
            task_status.started()

    async def _run_flushes(self) -> None:
        while True:
            await trio.sleep(self.config.flush_interval_ms / 1000)
            try:
                await trio.to_thread.run_sync(self.flush)
            except OSError as exc:
                # The old checkpoints are still good: recovery only has more to check.
                logger.warning("%s: checkpoints not written: %s", self.path, exc)
            await trio.to_thread.run_sync(self.remove_deleted)

    async def _run_retention(self) -> None:
        while True:
            await trio.sleep(self.config.retention_check_interval_ms / 1000)
            await self.drop_old_segments()

    async def drop_old_segments(self) -> None:
        """Apply retention to all logs once.

        Cancellation: segments that were dropped but not yet removed are found by the next start.
        """
        for key, log in list(self._logs.items()):
            if self._logs.get(key) is not log:
                continue  # deleted while others were looked at
            try:
                old = log.take_old_segments()
            except StorageError as exc:
                logger.warning("%s: retention skipped: %s", log.directory, exc)
                continue
            if old:
                logger.info("%s: removing %d segments", log.directory, len(old))
                await trio.to_thread.run_sync(_delete_segments, log, old)
        await trio.lowlevel.checkpoint()

    def _load(self, topic_configs: Mapping[str, Mapping[str, str]]) -> None:
        is_clean = take_clean_shutdown(self.path)
        recovery_points, start_offsets = self._read_checkpoints()
        self._compacted = self._read_compacted()
        for directory in sorted(self.path.iterdir()):
            if not directory.is_dir():
                continue
            if directory.name.endswith(_DELETE_SUFFIX):
                self._to_remove.append(directory)
                continue
            match = _PARTITION_DIRECTORY.fullmatch(directory.name)
            if match is None:
                logger.warning("%s is not a partition's directory: left alone", directory)
                continue
            key = (match[1], int(match[2]))
            try:
                log = self._logs[key] = UnifiedLog.open(
                    directory,
                    key,
                    self._config_of(key[0], topic_configs.get(key[0], {})),
                    now_ms=self._now_ms,
                    is_clean=is_clean,
                    recovery_point=recovery_points.get(key, 0),
                    log_start_offset=start_offsets.get(key, 0),
                )
                log.on_failure = self._on_failure
                log.first_dirty_offset = self._compacted.get(key, 0)
            except (KafkaError, StorageError, OSError) as exc:
                logger.error("%s cannot be opened: %s", directory, exc)
                self.failures[key] = exc
        self.remove_deleted()

    def _read_checkpoints(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        recovery_points: dict[TopicPartition, int] = {}
        try:
            recovery_points = read_offsets(self.path / RECOVERY_POINT_FILE)
        except StorageError as exc:
            logger.warning("all logs are checked from their beginning: %s", exc)
        return recovery_points, read_offsets(self.path / LOG_START_OFFSET_FILE)

    def _read_compacted(self) -> dict[TopicPartition, int]:
        try:
            return read_offsets(self.path / CLEANER_OFFSET_FILE)
        except StorageError as exc:
            logger.warning("all logs are compacted from their beginning: %s", exc)
            return {}

    def _directory(self, key: TopicPartition) -> Path:
        return self.path / f"{key[0]}-{key[1]}"


def _delete_segments(log: UnifiedLog, segments: list[LogSegment]) -> None:
    try:
        log.delete_segments(segments)
    except OSError as exc:
        # They come back with the next start, and are dropped again.
        logger.warning("%s: old segments not removed: %s", log.directory, exc)
