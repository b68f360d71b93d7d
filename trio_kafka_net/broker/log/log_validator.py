"""What a log demands of a produced batch beyond its being sound: timestamps, keys, size.

Source: Kafka ``LogValidator`` (4.0).
"""

from __future__ import annotations

from collections.abc import Callable

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.errors import InvalidRecordsError, KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.record_codec import NO_TIMESTAMP
from trio_kafka_net.protocol.record_filter import iter_keys
from trio_kafka_net.protocol.records import RecordBatch, TimestampType

MAX_RECORD_ERRORS = 100
"""Refused records that are named one by one; Kafka names all of them."""


def append_time(batch: RecordBatch, config: LogConfig, now_ms: int) -> int | None:
    """Check what the producer set; the append time if the broker sets it instead.

    Kafka checks every record. The header gives the largest timestamp and the first, which is what
    the two limits are about, without walking the records.

    Args:
        batch: sound as such.
        config: of the log.
        now_ms: ms since the epoch.

    Raises:
        KafkaError: INVALID_TIMESTAMP.
    """
    if config.message_timestamp_type is TimestampType.LOG_APPEND_TIME:
        return now_ms
    if batch.timestamp_type is TimestampType.LOG_APPEND_TIME:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP, "a producer does not set the type LogAppendTime"
        )
    largest = now_ms + config.message_timestamp_after_max_ms
    smallest = now_ms - config.message_timestamp_before_max_ms
    first = batch.base_timestamp
    if batch.max_timestamp > largest or NO_TIMESTAMP != first < smallest:
        raise KafkaError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamps {first} to {batch.max_timestamp} are not between {smallest} and {largest}",
        )
    return None


def check_keys(
    batch: RecordBatch, partition: str, *, on_record: Callable[[], None] | None = None
) -> None:
    """In a compacted topic every record has a key; only a walk over the records tells.

    Args:
        batch: its CRC is not checked.
        partition: named in the error.
        on_record: called after every record.

    Raises:
        CorruptRecordError: the records break the format.
        InvalidRecordsError: INVALID_RECORD, with at most ``MAX_RECORD_ERRORS`` of them.

    Cost: about 1 µs a record; decompresses the batch if need be.
    """
    if batch.is_control:
        return
    without = []
    for number, (_, key) in enumerate(iter_keys(batch)):
        if key is None:
            without.append(number)
        if on_record is not None:
            on_record()
    if not without:
        return
    text = f"Compacted topic cannot accept message without key in topic partition {partition}"
    errors = [(number, text) for number in without[:MAX_RECORD_ERRORS]]
    shown = ", ".join(f"RecordError(batchIndex={each}, message='{text}')" for each in without[:3])
    raise InvalidRecordsError(
        ErrorCode.INVALID_RECORD,
        f"One or more records have been rejected due to {len(without)} record errors in total, "
        f"and only showing the first three errors at most: [{shown}]",
        errors,
    )


def check_fits(batch: RecordBatch, config: LogConfig) -> None:
    """A batch does not span segments.

    Raises:
        KafkaError: RECORD_LIST_TOO_LARGE.
    """
    if batch.size_in_bytes > config.segment_bytes:
        raise KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"batch of {batch.size_in_bytes} bytes, a segment has {config.segment_bytes}",
        )
