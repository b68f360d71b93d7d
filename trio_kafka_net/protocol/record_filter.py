"""Leaving records out of a batch: what compaction does to it.

Whoever compacts asks of every record one thing, whether it stays, and needs its offset, its key and
whether it has a value for that. So records are skimmed, not decoded, and those that stay are copied
as the bytes they are: offsets and timestamps are relative to the batch, whose base offset, last
offset and base timestamp stay what they were, gaps included.

There is one exception. A batch in which records without a value stay gets a *delete horizon*, the
time from which on they may go. The format keeps it in place of the base timestamp, so the
timestamps of the records are written anew.

Source: Kafka ``MemoryRecords.filterTo``, ``DefaultRecordBatch.writeEmptyHeader`` (4.1); KIP-534.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from trio_kafka_net.protocol.compression import Compression, compress, decompress
from trio_kafka_net.protocol.record_codec import (
    NO_TIMESTAMP,
    SkimmedRecord,
    encode_varint,
    read_timestamp_delta,
    skim_records,
)
from trio_kafka_net.protocol.records import (
    HEADER_BYTES,
    MAX_DECOMPRESSED_BYTES,
    RecordBatch,
    TimestampType,
    rewrite_batch,
)

Retain = Callable[[int, "bytes | None", bool], bool]
"""Whether a record stays: offset, key, and whether it has a value."""


def iter_keys(
    batch: RecordBatch, *, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> Iterator[tuple[int, bytes | None]]:
    """Skim a batch for the keys of its records.

    Args:
        batch: its CRC is not checked.
        max_bytes: the most that its records may decompress to, bytes.

    Yields:
        Offset and key, in order; None for a record without a key.

    Raises:
        CorruptRecordError: the records break the format; those before it were yielded.
    """
    base_offset = batch.base_offset
    body = _body(batch, max_bytes)
    for record in skim_records(body, batch.record_count, batch.last_offset_delta):
        _, _, _, offset_delta, key, _ = record
        yield base_offset + offset_delta, key


@attrs.define(eq=False)
class FilteredBatch:
    """A batch and the records of it that stay; made by ``filter_batch``."""

    batch: RecordBatch
    has_tombstones: bool = False
    """Whether a record without a value stays."""
    _body: bytes = b""
    _retained: list[SkimmedRecord] = attrs.field(factory=list)

    @property
    def count(self) -> int:
        """How many records stay."""
        return len(self._retained)

    def rewrite(self, delete_horizon_ms: int | None = None) -> RecordBatch:
        """Make the batch with the records that stay, in its own codec.

        Args:
            delete_horizon_ms: a delete horizon to give to a batch that has none, ms since the
                epoch; None keeps what it has.

        Returns:
            The batch; a header alone if no record stays.
        """
        batch = self.batch
        if not self._retained:
            # Kafka says "no timestamp" here, and nobody needs one.
            return rewrite_batch(
                batch,
                b"",
                record_count=0,
                compression=Compression.NONE,
                base_timestamp=NO_TIMESTAMP,
                has_delete_horizon=False,
            )
        body = self._body
        if delete_horizon_ms is None:
            payload = b"".join([body[record[0] : record[2]] for record in self._retained])
        else:
            shift = batch.base_timestamp - delete_horizon_ms
            payload = b"".join([_with_timestamp(body, each, shift) for each in self._retained])
        if batch.compression:
            payload = compress(batch.compression, payload)
        max_timestamp = batch.max_timestamp
        if batch.timestamp_type is TimestampType.CREATE_TIME:
            latest = max(
                read_timestamp_delta(body, content)[0] for _, content, *_ in self._retained
            )
            max_timestamp = batch.base_timestamp + latest
        return rewrite_batch(
            batch,
            payload,
            record_count=len(self._retained),
            compression=batch.compression,
            base_timestamp=batch.base_timestamp if delete_horizon_ms is None else delete_horizon_ms,
            max_timestamp=max_timestamp,
            has_delete_horizon=delete_horizon_ms is not None or batch.delete_horizon_ms is not None,
        )


def filter_batch(
    batch: RecordBatch, retain: Retain, *, max_bytes: int = MAX_DECOMPRESSED_BYTES
) -> FilteredBatch:
    """Ask of every record of a batch whether it stays.

    Args:
        batch: its CRC is not checked.
        retain: asked once per record, in order.
        max_bytes: the most that the records may decompress to, bytes.

    Raises:
        CorruptRecordError: the records break the format.
    """
    body = _body(batch, max_bytes)
    base_offset = batch.base_offset
    retained: list[SkimmedRecord] = []
    has_tombstones = False
    for record in skim_records(body, batch.record_count, batch.last_offset_delta):
        _, _, _, offset_delta, key, has_value = record
        if retain(base_offset + offset_delta, key, has_value):
            retained.append(record)
            has_tombstones |= not has_value
    return FilteredBatch(batch, has_tombstones, body, retained)


def _body(batch: RecordBatch, max_bytes: int) -> bytes:
    # Bytes, because they are indexed several times faster than a view of them.
    return bytes(decompress(batch.compression, batch.view[HEADER_BYTES:], max_bytes=max_bytes))


def _with_timestamp(body: bytes, record: SkimmedRecord, shift: int) -> bytes:
    """The record with its timestamp relative to another time."""
    _, content_at, end, *_ = record
    timestamp_delta, after_timestamp = read_timestamp_delta(body, content_at)
    content = (
        body[content_at : content_at + 1]
        + encode_varint(timestamp_delta + shift)
        + body[after_timestamp:end]
    )
    return encode_varint(len(content)) + content
