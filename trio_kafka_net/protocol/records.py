"""Record batches, format v2 (magic 2): a view over bytes, and the one way to make them.

Layout of a batch, big-endian; everything from ``attributes`` on is under the CRC-32C::

     0  base offset             int64     23  last offset delta   int32
     8  length after this field int32     27  base timestamp      int64, ms
    12  partition leader epoch  int32     35  max timestamp       int64, ms
    16  magic                   int8      43  producer id         int64
    17  CRC-32C                 uint32    51  producer epoch      int16
    21  attributes              int16     53  base sequence       int32
                                          57  record count        int32
                                          61  records, perhaps compressed as a whole

Base offset and leader epoch stand outside the CRC, which is what lets a broker stamp both into
the bytes that a producer sent, in place, and write them to the log without another look.

What a broker believes: the header, once the CRC fits and its counts agree with each other. It
does not walk the records of a produced batch on the plain path (Kafka does), so a client
that lies about its own records can store a batch that its consumers will refuse; whoever
iterates records here is strict and bounded, and fails with ``CorruptRecordError`` only.

Source: Kafka ``DefaultRecordBatch``, ``LogValidator`` (4.0); KIP-98.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator

import attrs

from trio_kafka_net.errors import CorruptRecordError, KafkaError, RecordTooLargeError
from trio_kafka_net.protocol.checksum import crc32c
from trio_kafka_net.protocol.compression import Buffer, Compression, compress, decompress
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.record_codec import Record as Record
from trio_kafka_net.protocol.record_codec import decode_record, encode_record

HEADER_BYTES = 61
"""Size of a batch header, bytes."""
LENGTH_OVERHEAD_BYTES = 12
"""What the length field does not count: base offset and the length itself, bytes."""
MAGIC = 2
NO_PRODUCER_ID = -1
MAX_DECOMPRESSED_BYTES = 100 * 1024 * 1024
"""What the records of one batch may decompress to, unless the caller says otherwise, bytes."""

_HEADER = struct.Struct(">qiibIhiqqqhii")
_USUAL = struct.Struct(">qi4xbIHi8xqqhii")
"""The header without leader epoch and base timestamp, and with attributes without a sign."""
_LENGTH = struct.Struct(">i")
STAMPED = struct.Struct(">qii")
"""How a header begins, with base offset, length, leader epoch: what an append writes, and what
stands between."""
_ATTRIBUTES = struct.Struct(">h")
_CRC = struct.Struct(">I")
_MAX_TIMESTAMP = struct.Struct(">q")
_LENGTH_AT, _CRC_AT = 8, 17
_ATTRIBUTES_AT, _MAX_TIMESTAMP_AT = 21, 35

_COMPRESSION_MASK = 0x07
LOG_APPEND_TIME_BIT = 0x08
"""Of a batch's attributes: the broker set the timestamps."""
_TRANSACTIONAL_BIT = 0x10
_CONTROL_BIT = 0x20
_DELETE_HORIZON_BIT = 0x40
_KNOWN_COMPRESSION = len(Compression)

_SEQUENCE_MASK = 2**31 - 1


class TimestampType(enum.IntEnum):
    """Who set the timestamps of a batch: its producer, or the broker that appended it."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


_CREATE_TIME, _LOG_APPEND_TIME = TimestampType


UsualHeader = tuple[int, int, int, int, int, int]
"""Length field, last offset delta, largest timestamp (ms since the epoch), producer's id, its epoch
and base sequence, as they stand in a ``BatchHeader``."""


@attrs.define(eq=False)
class BatchHeader:
    """The 61 bytes before the records, decoded."""

    base_offset: int
    """Offset of the first record; 0 in what a producer sends."""
    batch_length: int
    """Bytes after the length field."""
    partition_leader_epoch: int
    """Epoch of the leader that appended the batch; -1 in what a producer sends."""
    magic: int
    crc: int
    """CRC-32C of everything from the attributes on."""
    attributes: int
    last_offset_delta: int
    """Last offset, relative to the base offset."""
    base_timestamp: int
    """What the timestamps of the records are relative to, ms since the epoch: that of the first
    one, or the delete horizon."""
    max_timestamp: int
    """Largest timestamp, ms since the epoch; the append time if the broker sets it."""
    producer_id: int
    """-1 when the producer is not idempotent."""
    producer_epoch: int
    base_sequence: int
    """Sequence number of the first record, -1 when the producer is not idempotent."""
    record_count: int

    @property
    def size_in_bytes(self) -> int:
        """The whole batch, header included."""
        return self.batch_length + LENGTH_OVERHEAD_BYTES

    @property
    def last_offset(self) -> int:
        """Offset of the last record (inclusive)."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Offset after the last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record; numbers wrap from 2**31 - 1 to 0."""
        if self.base_sequence < 0:
            return self.base_sequence
        return (self.base_sequence + self.last_offset_delta) & _SEQUENCE_MASK

    @property
    def has_producer_id(self) -> bool:
        """Whether an idempotent or transactional producer made it."""
        return self.producer_id > NO_PRODUCER_ID

    @property
    def is_transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self.attributes & _TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        """Whether it holds transaction markers instead of a client's records."""
        return bool(self.attributes & _CONTROL_BIT)

    @property
    def delete_horizon_ms(self) -> int | None:
        """From when on compaction may remove records without a value, ms since the epoch.

        None as long as no pass has found any in the batch (KIP-534).
        """
        return self.base_timestamp if self.attributes & _DELETE_HORIZON_BIT else None

    @property
    def timestamp_type(self) -> TimestampType:
        """Who set the timestamps."""
        # Asked on every append, where calling the enum would cost as much as all other checks.
        return _LOG_APPEND_TIME if self.attributes & LOG_APPEND_TIME_BIT else _CREATE_TIME

    @property
    def compression(self) -> Compression:
        """The codec of the records.

        Raises:
            CorruptRecordError: the attributes name a codec that does not exist.
        """
        codec = self.attributes & _COMPRESSION_MASK
        if codec >= _KNOWN_COMPRESSION:
            raise CorruptRecordError(f"batch names compression codec {codec}; known are 0 to 4")
        return Compression(codec)


@attrs.define(eq=False)
class RecordBatch(BatchHeader):
    """One whole batch: its decoded header, and a view of all its bytes."""

    view: memoryview = attrs.field(kw_only=True)
    """The batch, header included; borrowed from whoever owns the buffer."""

    def ensure_valid(self) -> None:
        """Check the CRC.

        Raises:
            CorruptRecordError: the CRC-32C does not fit the bytes.
        """
        computed = crc32c(self.view[_ATTRIBUTES_AT:])
        if computed != self.crc:
            raise CorruptRecordError(
                f"batch at offset {self.base_offset} has CRC {self.crc:#010x}, "
                f"its bytes have {computed:#010x}"
            )

    def records(self, *, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> Iterator[Record]:
        """Iterate over the records, decompressing them if need be.

        Args:
            max_bytes: the most that the records may decompress to, bytes.

        Yields:
            The records, in offset order.

        Raises:
            CorruptRecordError: the records break the format, their number is not the one that
                the header says, or they exceed ``max_bytes``; those before it were yielded.
        """
        body = decompress(self.compression, self.view[HEADER_BYTES:], max_bytes=max_bytes)
        append_time = (
            self.max_timestamp if self.timestamp_type is TimestampType.LOG_APPEND_TIME else None
        )
        position = 0
        last_delta = -1
        for _ in range(self.record_count):
            record, offset_delta, position = decode_record(body, position)
            if not last_delta < offset_delta <= self.last_offset_delta:
                raise CorruptRecordError(
                    f"record with offset delta {offset_delta} after {last_delta} "
                    f"in a batch that ends at {self.last_offset_delta}"
                )
            last_delta = offset_delta
            record.offset = self.base_offset + offset_delta
            record.timestamp = (
                record.timestamp + self.base_timestamp if append_time is None else append_time
            )
            yield record
        if position != len(body):
            raise CorruptRecordError(
                f"{len(body) - position} bytes after the last of {self.record_count} records"
            )


def parse_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Decode the header at ``position``; at least ``HEADER_BYTES`` must be there.

    Args:
        buffer: any bytes that begin a batch at ``position``; not kept.
        position: where the batch begins, bytes.

    Returns:
        The header, with magic, length and offsets that can be; its CRC is not checked.

    Raises:
        CorruptRecordError: not a batch of magic 2, or a length or offset that cannot be.
    """
    header = BatchHeader(*_HEADER.unpack_from(buffer, position))
    _check_header(header)
    return header


def _check_header(header: BatchHeader) -> None:
    if header.magic != MAGIC:
        raise CorruptRecordError(f"batch of magic {header.magic}; only {MAGIC} is supported")
    if header.batch_length < HEADER_BYTES - LENGTH_OVERHEAD_BYTES:
        raise CorruptRecordError(
            f"batch of {header.batch_length} bytes; "
            f"the header alone has {HEADER_BYTES - LENGTH_OVERHEAD_BYTES}"
        )
    if header.last_offset_delta < 0 or header.base_offset < 0:
        raise CorruptRecordError(
            f"batch with base offset {header.base_offset} "
            f"and last offset delta {header.last_offset_delta}"
        )


def iter_batches(view: memoryview, *, partial_tail: bool = False) -> Iterator[RecordBatch]:
    """Iterate over batches that stand back to back.

    Structure is checked, the CRC is not (``RecordBatch.ensure_valid``).

    Args:
        view: the batches; every yielded batch borrows its slice.
        partial_tail: whether the last batch may be cut off, as in the answer to a Fetch; it is
            left out then.

    Yields:
        The whole batches, in order.

    Raises:
        CorruptRecordError: a batch breaks the format, or is cut off.
    """
    position, end = 0, len(view)
    while position < end:
        left = end - position
        if left < HEADER_BYTES:
            if partial_tail:
                return
            raise CorruptRecordError(f"{left} bytes left, a batch header has {HEADER_BYTES}")
        size = _LENGTH.unpack_from(view, position + _LENGTH_AT)[0] + LENGTH_OVERHEAD_BYTES
        if size > left and partial_tail:
            return
        batch = RecordBatch(
            *_HEADER.unpack_from(view, position), view=view[position : position + size]
        )
        _check_header(batch)
        if size > left:
            raise CorruptRecordError(f"batch of {size} bytes cut off after {left}")
        yield batch
        position += size


def validate_produced(view: memoryview, *, max_batch_bytes: int) -> RecordBatch:
    """Check what a client wants to append to one partition: exactly one sound batch.

    Args:
        view: the ``records`` field of one partition in a Produce request.
        max_batch_bytes: ``max.message.bytes`` of the topic.

    Returns:
        The batch, sharing ``view``.

    Raises:
        CorruptRecordError: the batch breaks the format, or its CRC does not fit.
        RecordTooLargeError: larger than ``max_batch_bytes``.
        KafkaError: INVALID_RECORD for counts that disagree, for less or more than one batch, and
            for what clients may not write; UNSUPPORTED_COMPRESSION_TYPE for an unknown codec.

    Source: Kafka ``UnifiedLog.analyzeAndValidateRecords``, ``LogValidator.validateBatch``,
        ``ProduceRequest.validateRecords`` (4.0).
    """
    if len(view) < HEADER_BYTES:
        if not view:
            raise KafkaError(ErrorCode.INVALID_RECORD, "a produced partition has no batch")
        raise KafkaError(
            ErrorCode.INVALID_RECORD, f"{len(view)} bytes, a batch header has {HEADER_BYTES}"
        )
    batch = RecordBatch(*_HEADER.unpack_from(view, 0), view=view)
    size = batch.batch_length + LENGTH_OVERHEAD_BYTES
    if size > len(view):
        raise KafkaError(
            ErrorCode.INVALID_RECORD, f"batch of {size} bytes cut off after {len(view)}"
        )
    if size > max_batch_bytes:
        raise RecordTooLargeError(f"batch of {size} bytes, allowed are {max_batch_bytes}")
    if (
        size != len(view)
        or batch.magic != MAGIC
        or batch.last_offset_delta < 0
        or batch.last_offset_delta + 1 != batch.record_count
        or batch.base_offset != 0
        or batch.attributes & _CONTROL_BIT
        or batch.attributes & _COMPRESSION_MASK >= _KNOWN_COMPRESSION
        or (batch.producer_id >= 0 and batch.base_sequence < 0)
    ):
        _refuse(batch, view)
    batch.ensure_valid()
    return batch


def check_usual(view: memoryview, max_batch_bytes: int) -> UsualHeader | None:
    """Check what a client wants to append, if it is what nearly every client sends.

    That is one sound batch without any flag set, perhaps compressed. ``validate_produced`` would
    take it as well, at twice the cost: no object is made of the header here.

    Args:
        view: the ``records`` field of one partition in a Produce request.
        max_batch_bytes: a larger batch is not looked at.

    Returns:
        What the log needs to know of it; None for any other batch, be it sound or not.
    """
    size = len(view)
    if not HEADER_BYTES <= size <= max_batch_bytes:
        return None
    (
        base_offset,
        length,
        magic,
        crc,
        attributes,
        last_offset_delta,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    ) = _USUAL.unpack_from(view)
    if (
        length + LENGTH_OVERHEAD_BYTES != size
        or base_offset
        or magic != MAGIC
        or attributes >= _KNOWN_COMPRESSION
        or record_count <= 0
        or last_offset_delta + 1 != record_count
        or crc32c(view[_ATTRIBUTES_AT:]) != crc
    ):
        return None
    return length, last_offset_delta, max_timestamp, producer_id, producer_epoch, base_sequence


def _refuse(batch: RecordBatch, view: memoryview) -> None:
    """Say what is wrong with a batch that the checks of ``validate_produced`` refused."""
    if batch.magic != MAGIC:
        # Produce 3+ demands magic 2; whoever sends less speaks the wrong dialect.
        raise KafkaError(ErrorCode.INVALID_RECORD, f"magic {batch.magic}; only {MAGIC} is accepted")
    if batch.size_in_bytes != len(view):
        for _ in iter_batches(view):
            pass
        raise KafkaError(ErrorCode.INVALID_RECORD, "a partition takes one batch per request")
    if batch.attributes & _COMPRESSION_MASK >= _KNOWN_COMPRESSION:
        codec = batch.attributes & _COMPRESSION_MASK
        raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"unknown codec {codec}")
    if batch.is_control:
        raise KafkaError(ErrorCode.INVALID_RECORD, "clients do not write control batches")
    if batch.base_offset != 0:
        raise KafkaError(
            ErrorCode.INVALID_RECORD, f"base offset {batch.base_offset}; a producer sends 0"
        )
    if batch.record_count <= 0 or batch.last_offset_delta + 1 != batch.record_count:
        raise KafkaError(
            ErrorCode.INVALID_RECORD,
            f"{batch.record_count} records with last offset delta {batch.last_offset_delta}",
        )
    raise KafkaError(
        ErrorCode.INVALID_RECORD,
        f"sequence number {batch.base_sequence} of producer {batch.producer_id}",
    )


def stamp(
    batch: RecordBatch, *, base_offset: int, leader_epoch: int, append_time_ms: int | None = None
) -> None:
    """Write offset and epoch into the bytes of a batch, in place.

    Args:
        batch: a batch over a writable buffer; its fields are updated too.
        base_offset: offset of its first record.
        leader_epoch: epoch of the leader that appends it.
        append_time_ms: with a value, every record gets this timestamp, ms since the epoch
            (``message.timestamp.type=LogAppendTime``), which costs another CRC over the batch.

    Raises:
        TypeError: the buffer is read-only; nothing was written.
    """
    view = batch.view
    STAMPED.pack_into(view, 0, base_offset, batch.batch_length, leader_epoch)
    batch.base_offset = base_offset
    batch.partition_leader_epoch = leader_epoch
    if append_time_ms is not None:
        batch.attributes |= LOG_APPEND_TIME_BIT
        batch.max_timestamp = append_time_ms
        _ATTRIBUTES.pack_into(view, _ATTRIBUTES_AT, batch.attributes)
        _MAX_TIMESTAMP.pack_into(view, _MAX_TIMESTAMP_AT, append_time_ms)
        batch.crc = crc32c(view[_ATTRIBUTES_AT:])
        _CRC.pack_into(view, _CRC_AT, batch.crc)


def rewrite_batch(
    batch: RecordBatch,
    payload: bytes,
    *,
    record_count: int,
    compression: Compression,
    base_timestamp: int,
    has_delete_horizon: bool,
    max_timestamp: int | None = None,
) -> RecordBatch:
    """Make the batch that takes the place of another one, with the same offsets and producer.

    Args:
        batch: what it replaces.
        payload: the records, compressed.
        record_count: how many there are; may be none.
        compression: their codec.
        base_timestamp: what their timestamps are relative to, ms since the epoch.
        has_delete_horizon: whether that is a delete horizon.
        max_timestamp: ms since the epoch; None keeps the other batch's.
    """
    kept = LOG_APPEND_TIME_BIT | _TRANSACTIONAL_BIT | _CONTROL_BIT
    attributes = batch.attributes & kept | compression | _DELETE_HORIZON_BIT * has_delete_horizon
    header = bytearray(HEADER_BYTES)
    _HEADER.pack_into(
        header,
        0,
        batch.base_offset,
        HEADER_BYTES - LENGTH_OVERHEAD_BYTES + len(payload),
        batch.partition_leader_epoch,
        MAGIC,
        0,
        attributes,
        batch.last_offset_delta,
        base_timestamp,
        batch.max_timestamp if max_timestamp is None else max_timestamp,
        batch.producer_id,
        batch.producer_epoch,
        batch.base_sequence,
        record_count,
    )
    return next(iter_batches(memoryview(_with_crc(header, payload))))


def _with_crc(header: bytearray, payload: bytes) -> bytes:
    crc = crc32c(payload, crc32c(memoryview(header)[_ATTRIBUTES_AT:]))
    _CRC.pack_into(header, _CRC_AT, crc)
    return bytes(header) + payload


def build_batch(
    records: Iterable[Record],
    *,
    base_offset: int = 0,
    compression: Compression = Compression.NONE,
    partition_leader_epoch: int = -1,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    is_transactional: bool = False,
    is_control: bool = False,
    timestamp_type: TimestampType = TimestampType.CREATE_TIME,
) -> bytes:
    """Make a batch of records, numbered one after the other.

    Args:
        records: at least one; their own offsets are ignored.
        base_offset: offset of the first record.
        compression: codec of the records.
        partition_leader_epoch: stamped into the header; a broker stamps its own.
        producer_id: an idempotent producer's id, or -1.
        producer_epoch: its epoch.
        base_sequence: its sequence number of the first record.
        is_transactional: whether the batch belongs to a transaction.
        is_control: whether the records are transaction markers.
        timestamp_type: who set the timestamps.

    Returns:
        The batch, header and CRC included.

    Raises:
        ValueError: there are no records.
    """
    listed = list(records)
    if not listed:
        raise ValueError("a batch has at least one record")
    base_timestamp = listed[0].timestamp
    body = bytearray()
    for offset_delta, record in enumerate(listed):
        body += encode_record(
            record,
            offset_delta=offset_delta,
            timestamp_delta=record.timestamp - base_timestamp,
        )
    payload = compress(compression, body) if compression else bytes(body)
    attributes = compression | timestamp_type << 3
    attributes |= _TRANSACTIONAL_BIT * is_transactional | _CONTROL_BIT * is_control
    header = bytearray(HEADER_BYTES)
    _HEADER.pack_into(
        header,
        0,
        base_offset,
        HEADER_BYTES - LENGTH_OVERHEAD_BYTES + len(payload),
        partition_leader_epoch,
        MAGIC,
        0,
        attributes,
        len(listed) - 1,
        base_timestamp,
        max(record.timestamp for record in listed),
        producer_id,
        producer_epoch,
        base_sequence,
        len(listed),
    )
    return _with_crc(header, payload)
