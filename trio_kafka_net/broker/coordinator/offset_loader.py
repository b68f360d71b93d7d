"""Reads one partition of ``__consumer_offsets`` from its start to its end, in bounded pieces.

Reading, checking and decoding happen in a worker thread; the event loop gets lists of changes
and does the rest. A piece is small, for the sake of the memory that its decoded form takes, and so
that a broker can be stopped meanwhile.

What cannot be understood is left out and named in one line of the log: a batch whose checksum is
wrong, a record of a kind that nothing here knows. A log that cannot be read on, because it does not
say where the next batch begins or because the disk fails, is an error: to go on would be to tell
consumers that they never committed anything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import attrs
import trio

from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.errors import CorruptRecordError, LogDirFailedError
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import RecordBatch, iter_batches

from .group_records import Change, OffsetChange, partition_for, read_record

log = logging.getLogger(__name__)

_NAMED = 10
"""How many of the things left out are named."""


@attrs.define(eq=False)
class OffsetLoader:
    """Reads one partition once."""

    partition: Partition
    """A partition of ``__consumer_offsets``; nobody else appends to it meanwhile."""
    partition_count: int
    """How many the topic has."""
    chunk_bytes: int
    """Bytes read at once; a larger batch is read as a whole."""
    topics: dict[str, str] = attrs.field(factory=dict)
    """Topics that offsets were committed for: {name: the one object that stands for it}."""
    _homes: dict[str, tuple[str, bool]] = attrs.field(factory=dict)
    # {group: (the one object that stands for its id, whether it belongs into this partition)}
    _skipped: list[str] = attrs.field(factory=list)
    _skipped_count: int = 0
    _next_offset: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next_offset = self.partition.log_start_offset

    async def next_changes(self) -> list[Change] | None:
        """What the next piece of the log says, in its order; None at its end.

        Raises:
            StorageError: the log is offline, could not be read, or is damaged in a way that hides
                what follows.

        Cancellation: the piece is read again by the next call.
        """
        partition_log = self.partition.log
        region = partition_log.read(self._next_offset, self.chunk_bytes, min_one_batch=True)
        if region is None:
            return None
        changes, self._next_offset = await trio.to_thread.run_sync(
            self._decode, region, self._next_offset
        )
        return changes

    def report(self) -> None:
        """Say in one line what was left out, if anything was."""
        if self._skipped_count:
            log.warning(
                "%s-%d: left out %d: %s",
                *self.partition.key,
                self._skipped_count,
                "; ".join(self._skipped),
            )

    def _decode(self, region: FileRegion, offset: int) -> tuple[list[Change], int]:
        """The changes in a region, and the offset after it; blocks, for a worker thread."""
        try:
            data = os.pread(region.fd, region.count, region.position)
        except OSError as exc:
            raise LogDirFailedError(str(exc)) from exc
        changes: list[Change] = []
        begun = offset
        for batch in iter_batches(memoryview(data), partial_tail=True):
            changes += self._changes_in(batch)
            offset = batch.next_offset
        if offset <= begun:
            raise CorruptRecordError(f"no whole batch at offset {begun}")
        return changes, offset

    def _changes_in(self, batch: RecordBatch) -> Iterator[Change]:
        if batch.is_control:
            return
        if batch.is_transactional:
            self._skip(f"offsets {batch.base_offset}-{batch.last_offset}: a transaction")
            return
        try:
            batch.ensure_valid()
            for record in batch.records():
                yield from self._change_of(record)
        except CorruptRecordError as exc:
            self._skip(f"offsets {batch.base_offset}-{batch.last_offset}: {exc}")

    def _change_of(self, record: Record) -> Iterator[Change]:
        try:
            change = read_record(record.key, record.value)
        except CorruptRecordError as exc:
            self._skip(f"offset {record.offset}: {exc}")
            return
        group_id, is_here = self._home(change.group_id)
        if not is_here:
            self._skip(f"offset {record.offset}: group {group_id!r} is of another partition")
            return
        change.group_id = group_id
        if isinstance(change, OffsetChange):
            change.topic = self.topics.setdefault(change.topic, change.topic)
        yield change

    def _home(self, group_id: str) -> tuple[str, bool]:
        home = self._homes.get(group_id)
        if home is None:
            is_here = partition_for(group_id, self.partition_count) == self.partition.index
            home = self._homes[group_id] = (group_id, is_here)
        return home

    def _skip(self, what: str) -> None:
        self._skipped_count += 1
        if len(self._skipped) < _NAMED:
            self._skipped.append(what)
