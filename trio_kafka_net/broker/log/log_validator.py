"""What a log demands of a produced batch beyond its being sound: timestamps, keys, size.

Source: Kafka ``LogValidator`` (4.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_kafka_net.broker.log.checkpoints import TopicPartition
from trio_kafka_net.broker.log.log_config import INT64_MAX, LogConfig
from trio_kafka_net.errors import InvalidRecordsError, KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.record_codec import NO_TIMESTAMP
from trio_kafka_net.protocol.record_filter import iter_keys
from trio_kafka_net.protocol.records import LOG_APPEND_TIME_BIT, RecordBatch, TimestampType

MAX_RECORD_ERRORS = 100
"""Refused records that are named one by one; Kafka names all of them."""

INT64_MIN: Final = -(2**63)
"""No timestamp is earlier."""
_LOG_APPEND_TIME: Final = TimestampType.LOG_APPEND_TIME


def validate_for_log(
    batch: RecordBatch,
    config: LogConfig,
    now_ms: int,
    *,
    partition: TopicPartition,
    has_keys: bool = False,
) -> int | None:
    """Check whether a log takes a batch; the append time if the broker sets the timestamps.

    Kafka checks the timestamp of every record. The header gives the largest and the first, which
    is what the two limits are about, without walking the records.

    Args:
        batch: sound as such.
        config: of the log.
        now_ms: ms since the epoch.
        partition: named in errors.
        has_keys: whether it is known that every record has a key.

    Raises:
        CorruptRecordError: the records had to be looked at, and break the format.
        KafkaError: INVALID_TIMESTAMP, INVALID_RECORD (see ``check_keys``); RECORD_LIST_TOO_LARGE,
            for a batch does not span segments.
    """
    append_time_ms = None
    if config.message_timestamp_type is _LOG_APPEND_TIME:
        append_time_ms = now_ms
    else:
        largest = now_ms + config.message_timestamp_after_max_ms
        before_ms = config.message_timestamp_before_max_ms
        smallest = INT64_MIN if before_ms == INT64_MAX else now_ms - before_ms
        first = batch.base_timestamp
        if (
            batch.attributes & LOG_APPEND_TIME_BIT
            or batch.max_timestamp > largest
            or NO_TIMESTAMP != first < smallest
        ):
            raise _bad_timestamps(batch, smallest, largest)
    if config.compact and not has_keys:
        check_keys(batch, "{}-{}".format(*partition))
    if len(batch.view) > config.segment_bytes:
        raise KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"batch of {batch.size_in_bytes} bytes, a segment has {config.segment_bytes}",
        )
    return append_time_ms


def _bad_timestamps(batch: RecordBatch, smallest: int, largest: int) -> KafkaError:
    if batch.timestamp_type is _LOG_APPEND_TIME:
        return KafkaError(
            ErrorCode.INVALID_TIMESTAMP, "a producer does not set the type LogAppendTime"
        )
    return KafkaError(
        ErrorCode.INVALID_TIMESTAMP,
        f"timestamps {batch.base_timestamp} to {batch.max_timestamp} "
        f"are not between {smallest} and {largest}",
    )


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
