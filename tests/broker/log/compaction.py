"""Keyed records in, tables out: what tests of compaction have in common."""

from __future__ import annotations

import os
from contextlib import contextmanager
from unittest import mock

import trio

from tests.broker.storage_helpers import Storage, region_bytes
from trio_kafka_net.broker.log.log_cleaner import LogCleaner
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.config import LogCleanerConfig
from trio_kafka_net.protocol.records import Record, RecordBatch, build_batch, iter_batches

OPERATIONS = (
    "open", "write", "pwrite", "rename", "replace", "unlink", "fsync", "fdatasync", "utime",
)  # fmt: skip

SYNCS = (os.fsync, os.fdatasync)

COMPACT = frozenset({"compact"})


def compacted(**settings) -> LogConfig:
    """Segments of about three small batches, cleaned whenever something is dirty."""
    return LogConfig(
        **{
            "cleanup_policy": COMPACT,
            "segment_bytes": 250,
            "index_interval_bytes": 0,
            "min_cleanable_dirty_ratio": 0.0,
            **settings,
        }
    )


def put(
    storage: Storage,
    log: UnifiedLog,
    *records: tuple[bytes, bytes | None],
    timestamp: int | None = None,
    **options,
) -> int:
    """Append one batch of (key, value) pairs, all acknowledged; returns its first offset."""
    timestamp = storage.clock.now_ms if timestamp is None else timestamp
    listed = [Record(timestamp=timestamp, key=key, value=value) for key, value in records]
    batch = memoryview(bytearray(build_batch(listed, **options)))
    info = log.append(batch, leader_epoch=0)
    log.high_watermark = log.log_end_offset
    return info.first_offset


def seal(log: UnifiedLog) -> None:
    """Begin a new segment, so that everything before it can be compacted."""
    log.roll()


def read_batches(log: UnifiedLog, offset: int | None = None) -> list[RecordBatch]:
    """Every batch, by reading region after region as a consumer does."""
    offset = log.log_start_offset if offset is None else offset
    found: list[RecordBatch] = []
    while (region := log.read(offset, 300, min_one_batch=True)) is not None:
        for batch in iter_batches(memoryview(region_bytes(region)), partial_tail=True):
            batch.ensure_valid()
            found.append(batch)
            offset = batch.next_offset
    return found


def read_pairs(log: UnifiedLog, offset: int | None = None):
    """(offset, key, value) of every record from an offset to the end."""
    first = log.log_start_offset if offset is None else offset
    return [
        (record.offset, record.key, record.value)
        for batch in read_batches(log, offset)
        for record in batch.records()
        if record.offset >= first
    ]


def read_table(log: UnifiedLog) -> dict[bytes, bytes]:
    """What a consumer knows that reads everything from the beginning."""
    table: dict[bytes, bytes] = {}
    for _, key, value in read_pairs(log):
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    return table


def cleaner_of(storage: Storage, *logs: UnifiedLog, checkpoint=lambda: None, **settings):
    """A log cleaner for these logs."""
    return LogCleaner(
        logs, LogCleanerConfig(**settings), checkpoint=checkpoint, now_ms=storage.clock
    )


def clean(storage: Storage, log: UnifiedLog, **settings) -> bool:
    """Make one pass, from synchronous code."""
    return trio.run(cleaner_of(storage, log, **settings).clean_filthiest)


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_after(count):
    """Die instead of the operation after the next ``count`` ones; None is never."""
    left = float("inf") if count is None else count

    def counting(operation):
        def counted(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            # A killed process leaves the page cache behind, so waiting for the disk shows nothing.
            return None if operation in SYNCS else operation(*args, **kwargs)

        return counted

    with mock.patch.multiple(os, **{name: counting(getattr(os, name)) for name in OPERATIONS}):
        yield
