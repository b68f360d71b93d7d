"""Idempotent producers: which batches are new, which are retries, and which lie.

A producer numbers its records per partition; the log knows the last five batches of every producer.
A batch with the numbers of one of them is a retry of what was appended already, and gets the
offsets of then. Any other batch must follow the last one.

The state is a function of the log: it is rebuilt by replaying batches, from the newest snapshot
file on. A snapshot says what was known *before* the offset in its name.

Peers choose producer ids, so the table is bounded: beyond ``max_producers`` the one that has been
silent longest is forgotten, as Kafka forgets it after ``producer.id.expiration.ms``. Its next batch
is taken with any sequence number.

Source: Kafka ``ProducerStateManager``, ``ProducerAppendInfo``, ``ProducerStateEntry`` (4.0);
KIP-98, KIP-360. Snapshot format: ``ProducerSnapshot.json``.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import attrs

from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.checksum import crc32c
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import BatchHeader

BATCHES_RETAINED = 5
"""A producer has at most so many requests under way, so a retry is one of the last five."""
DEFAULT_EXPIRATION_MS = 86_400_000
"""``producer.id.expiration.ms``."""
DEFAULT_MAX_PRODUCERS = 10_000

_NO_EPOCH = -1
_SEQUENCE_MASK = 2**31 - 1
_SNAPSHOT_VERSION = 1
_SNAPSHOT_HEADER = struct.Struct(">hIi")  # version, CRC-32C of what follows it, count of entries
_CRC_FROM = 6
_SNAPSHOT_ENTRY = struct.Struct(">qhiqiqiq")


class AppendedBatch(NamedTuple):
    """What is remembered of a batch, to recognise its retry."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    """Count of records minus one."""
    timestamp: int
    """Largest timestamp, ms since the epoch."""

    @property
    def first_sequence(self) -> int:
        """Sequence number of its first record."""
        return (self.last_sequence - self.offset_delta) & _SEQUENCE_MASK

    @property
    def first_offset(self) -> int:
        """Offset of its first record."""
        return self.last_offset - self.offset_delta


@attrs.define
class ProducerEntry:
    """One producer, as one partition knows it."""

    producer_id: int
    epoch: int = _NO_EPOCH
    last_timestamp: int = -1
    """ms since the epoch."""
    coordinator_epoch: int = -1
    """Of the transaction coordinator; kept for the snapshot."""
    current_txn_first_offset: int = -1
    """Kept for the snapshot."""
    next_sequence: int | None = None
    """Where the last batch of this epoch ended; None if none is remembered."""
    # Fields of an AppendedBatch, which is made when somebody asks.
    _batches: deque[tuple[int, int, int, int]] = attrs.field(
        init=False, factory=lambda: deque(maxlen=BATCHES_RETAINED)
    )

    @property
    def batches(self) -> list[AppendedBatch]:
        """The last five, oldest first."""
        return [AppendedBatch(*fields) for fields in self._batches]

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record, or -1."""
        return self._batches[-1][0] if self._batches else -1

    def find_duplicate(self, batch: BatchHeader) -> AppendedBatch | None:
        """The batch with the very same epoch and sequence numbers, if it is remembered."""
        if batch.producer_epoch != self.epoch:
            return None
        last_sequence = batch.last_sequence
        for appended in self.batches:
            if (
                appended.last_sequence == last_sequence
                and appended.first_sequence == batch.base_sequence
            ):
                return appended
        return None

    def check(self, batch: BatchHeader) -> None:
        """Check that a batch comes next.

        Raises:
            KafkaError: INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER.
        """
        if batch.producer_epoch < self.epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {self.producer_id} has epoch {self.epoch}, "
                f"the batch has {batch.producer_epoch}",
            )
        if self.epoch == _NO_EPOCH:
            # Unknown, or forgotten with the records that it wrote: it may go on anywhere.
            return
        expected = (
            (self.last_sequence + 1) & _SEQUENCE_MASK if batch.producer_epoch == self.epoch else 0
        )
        if batch.base_sequence != expected:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {self.producer_id} sends sequence number {batch.base_sequence} "
                f"where {expected} is next",
            )

    def add(self, batch: BatchHeader) -> None:
        """Remember an appended batch."""
        if batch.producer_epoch != self.epoch:
            self._batches.clear()
            self.next_sequence = None
            self.epoch = batch.producer_epoch
        self.last_timestamp = batch.max_timestamp
        if not batch.is_control:
            self.remember(
                batch.last_sequence,
                batch.last_offset,
                batch.last_offset_delta,
                batch.max_timestamp,
            )

    def remember(
        self, last_sequence: int, last_offset: int, offset_delta: int, timestamp: int
    ) -> None:
        """Remember the fields of an ``AppendedBatch`` of this epoch."""
        self.next_sequence = (last_sequence + 1) & _SEQUENCE_MASK
        self._batches.append((last_sequence, last_offset, offset_delta, timestamp))


class ProducerStateManager:
    """All idempotent producers of one partition."""

    def __init__(
        self,
        *,
        expiration_ms: int = DEFAULT_EXPIRATION_MS,
        max_producers: int = DEFAULT_MAX_PRODUCERS,
    ) -> None:
        """Begin knowing nobody.

        Args:
            expiration_ms: a producer silent for so long is forgotten.
            max_producers: beyond so many, the one silent longest is forgotten.
        """
        self._expiration_ms = expiration_ms
        self._max_producers = max_producers
        # {producer id: entry}, in the order of their last batch.
        self._entries: dict[int, ProducerEntry] = {}
        # The one at the end of that order, if it is known.
        self._latest: ProducerEntry | None = None

    def __len__(self) -> int:
        """Count of producers."""
        return len(self._entries)

    def __iter__(self) -> Iterator[ProducerEntry]:
        """The producers, the one silent longest first."""
        return iter(self._entries.values())

    def find_next(self, producer_id: int, epoch: int, sequence: int) -> ProducerEntry | None:
        """The producer whose batch goes on where its last one ended, as almost all do.

        None of the remembered batches can have its numbers then: they wrap after 2**31 records.

        Args:
            producer_id: of a batch.
            epoch: its producer epoch.
            sequence: its base sequence.

        Returns:
            The producer, for ``go_on``; None if the batch has to be looked at with ``check``.
        """
        entry = self._entries.get(producer_id)
        if entry is not None and entry.epoch == epoch and entry.next_sequence == sequence:
            return entry
        return None

    def go_on(
        self, entry: ProducerEntry, offset_delta: int, last_offset: int, timestamp: int
    ) -> None:
        """Remember the batch that was appended for what ``find_next`` found.

        Args:
            entry: what it found; nobody else was asked or told anything meanwhile.
            offset_delta: count of records minus one.
            last_offset: offset of the last record.
            timestamp: largest timestamp, ms since the epoch.
        """
        sequence = entry.next_sequence
        assert sequence is not None
        last_sequence = (sequence + offset_delta) & _SEQUENCE_MASK
        entry.last_timestamp = timestamp
        entry.remember(last_sequence, last_offset, offset_delta, timestamp)
        if entry is not self._latest:
            del self._entries[entry.producer_id]
            self._entries[entry.producer_id] = self._latest = entry

    def check(self, batch: BatchHeader) -> AppendedBatch | None:
        """Check a batch that a client wants to append.

        Returns:
            None if the batch is new and comes next; what it was when it is a retry.

        Raises:
            KafkaError: INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER.
        """
        entry = self._entries.get(batch.producer_id)
        if entry is None or self.find_next(
            batch.producer_id, batch.producer_epoch, batch.base_sequence
        ):
            return None
        duplicate = entry.find_duplicate(batch)
        if duplicate is None:
            entry.check(batch)
        return duplicate

    def update(self, batch: BatchHeader) -> None:
        """Remember a batch that was appended, or is replayed, with its final offsets."""
        if not batch.has_producer_id:
            return
        entry = self._entries.pop(batch.producer_id, None) or ProducerEntry(batch.producer_id)
        entry.add(batch)
        self._entries[batch.producer_id] = self._latest = entry
        if len(self._entries) > self._max_producers:
            del self._entries[next(iter(self._entries))]

    def expire(self, now_ms: int) -> None:
        """Forget the producers that were silent for too long; ms since the epoch."""
        oldest = now_ms - self._expiration_ms
        for entry in list(self._entries.values()):
            if entry.last_timestamp <= oldest and entry.current_txn_first_offset < 0:
                del self._entries[entry.producer_id]

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()
        self._latest = None

    def to_snapshot(self) -> bytes:
        """The content of a snapshot file."""
        entries = b"".join(_encode_entry(entry) for entry in self._entries.values())
        snapshot = bytearray(
            _SNAPSHOT_HEADER.pack(_SNAPSHOT_VERSION, 0, len(self._entries)) + entries
        )
        crc = crc32c(memoryview(snapshot)[_CRC_FROM:])
        _SNAPSHOT_HEADER.pack_into(snapshot, 0, _SNAPSHOT_VERSION, crc, len(self._entries))
        return bytes(snapshot)

    def load_snapshot(self, path: Path) -> None:
        """Forget everybody and remember who is in a snapshot file.

        Raises:
            StorageError: the file breaks the format; nobody is remembered.
            OSError: it could not be read.
        """
        self.clear()
        content = path.read_bytes()
        if len(content) < _SNAPSHOT_HEADER.size:
            raise StorageError(f"{path}: {len(content)} bytes are no snapshot")
        version, crc, count = _SNAPSHOT_HEADER.unpack_from(content)
        entries = memoryview(content)[_SNAPSHOT_HEADER.size :]
        if (
            version != _SNAPSHOT_VERSION
            or crc32c(memoryview(content)[_CRC_FROM:]) != crc
            or len(entries) != count * _SNAPSHOT_ENTRY.size
        ):
            raise StorageError(f"{path}: not a snapshot of version {_SNAPSHOT_VERSION}, or damaged")
        for fields in _SNAPSHOT_ENTRY.iter_unpack(entries):
            entry = _decode_entry(*fields)
            self._entries[entry.producer_id] = entry


def _encode_entry(entry: ProducerEntry) -> bytes:
    last = entry.batches[-1] if entry.next_sequence is not None else AppendedBatch(-1, -1, 0, -1)
    return _SNAPSHOT_ENTRY.pack(
        entry.producer_id,
        entry.epoch,
        last.last_sequence,
        last.last_offset,
        last.offset_delta,
        entry.last_timestamp,
        entry.coordinator_epoch,
        entry.current_txn_first_offset,
    )


def _decode_entry(
    producer_id: int,
    epoch: int,
    last_sequence: int,
    last_offset: int,
    offset_delta: int,
    timestamp: int,
    coordinator_epoch: int,
    current_txn_first_offset: int,
) -> ProducerEntry:
    entry = ProducerEntry(
        producer_id, epoch, timestamp, coordinator_epoch, current_txn_first_offset
    )
    if last_offset >= 0:
        entry.remember(last_sequence, last_offset, offset_delta, timestamp)
    return entry
