"""A clock that stands still, and short ways to make batches and read them back."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.log_manager import LogManager, LogManagerConfig
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.records import Record, build_batch, iter_batches

START_MS = 1_700_000_000_000


@attrs.define
class Clock:
    """Milliseconds that move when a test says so."""

    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms


class Storage:
    """What most tests of the log need, over one directory."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self._uuids = itertools.count(1)

    def new_uuid(self) -> bytes:
        return next(self._uuids).to_bytes(16, "big")

    def open_log(self, config: LogConfig | None = None, **options) -> UnifiedLog:
        return UnifiedLog.open(
            self.path, ("topic", 0), config or LogConfig(), now_ms=self.clock, **options
        )

    def open_manager(self, topic_configs=None, **options) -> LogManager:
        config = LogManagerConfig(data_dir=self.path, node_id=1, **options)
        return LogManager.open(config, topic_configs, now_ms=self.clock, new_uuid=self.new_uuid)

    def batch(self, *values: bytes, timestamp: int | None = None, **options) -> memoryview:
        """A produced batch of these values, writable as it comes from a socket."""
        timestamp = self.clock.now_ms if timestamp is None else timestamp
        records = [Record(timestamp=timestamp, value=value) for value in values]
        return memoryview(bytearray(build_batch(records, **options)))

    def append(self, log: UnifiedLog, *values: bytes, leader_epoch: int = 0, **options):
        return log.append(self.batch(*values, **options), leader_epoch=leader_epoch)


def region_bytes(region: FileRegion | None) -> bytes:
    """What a region would send."""
    return b"" if region is None else os.pread(region.fd, region.count, region.position)


def read_values(log: UnifiedLog, offset: int | None = None) -> list[tuple[int, bytes]]:
    """(offset, value) of every record from an offset to the end, by reading region after region."""
    offset = log.log_start_offset if offset is None else offset
    return list(_read_values(log.read, offset))


def _read_values(
    read: Callable[..., FileRegion | None], offset: int
) -> Iterator[tuple[int, bytes]]:
    while (region := read(offset, 300, min_one_batch=True)) is not None:
        for batch in iter_batches(memoryview(region_bytes(region)), partial_tail=True):
            batch.ensure_valid()
            for record in batch.records():
                if record.offset >= offset:
                    yield record.offset, record.value
            offset = batch.next_offset
