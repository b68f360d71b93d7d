"""Configuration of one partition's log: Kafka's topic settings, by Kafka's names.

A topic's settings are strings, on the wire and in ``topics.json``; ``LogConfig.with_topic_configs``
turns them into numbers once, and refuses what Kafka would refuse. What a topic may carry in Kafka
but the log does not honour (a ``compression.type`` other than ``producer``, say) is refused too:
accepted settings do what they say.

Source: Kafka ``LogConfig``, ``TopicConfig`` (4.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import TimestampType

INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_MIN_SEGMENT_BYTES = 14
"""What Kafka demands at least: the size of an empty record of the oldest format."""


def _integer(low: int, high: int) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise _invalid(name, text, "a whole number") from None
        if not low <= value <= high:
            raise _invalid(name, text, f"between {low} and {high}")
        return value

    return parse


def _ratio(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _invalid(name, text, "a number") from None
    if not 0 <= value <= 1:
        raise _invalid(name, text, "between 0 and 1")
    return value


def _timestamp_type(name: str, text: str) -> TimestampType:
    kinds = {
        "CreateTime": TimestampType.CREATE_TIME,
        "LogAppendTime": TimestampType.LOG_APPEND_TIME,
    }
    if text not in kinds:
        raise _invalid(name, text, " or ".join(kinds))
    return kinds[text]


def _cleanup_policy(name: str, text: str) -> frozenset[str]:
    policies = frozenset(part.strip() for part in text.split(","))
    if not policies <= {"delete", "compact"}:
        raise _invalid(name, text, "delete, compact, or both with a comma")
    return policies


def _producer_compression(name: str, text: str) -> str:
    if text != "producer":
        raise _invalid(name, text, "producer: batches are stored as they come")
    return text


def _invalid(name: str, text: str, allowed: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_CONFIG,
        f"Invalid value {text} for configuration {name}: allowed is {allowed}",
    )


def _setting(kafka_name: str, default: Any, parse: Callable[[str, str], Any]) -> Any:
    return attrs.field(default=default, metadata={"kafka_name": kafka_name, "parse": parse})


@attrs.frozen(kw_only=True)
class LogConfig:
    """Settings of a log; every number in the unit of its name."""

    segment_bytes: int = _setting("segment.bytes", 1024**3, _integer(_MIN_SEGMENT_BYTES, INT32_MAX))
    """A segment is rolled before it grows beyond this."""
    segment_ms: int = _setting("segment.ms", 7 * _DAY_MS, _integer(1, INT64_MAX))
    """A segment is rolled when its records span more than this."""
    segment_index_bytes: int = _setting("segment.index.bytes", 10 * 1024**2, _integer(4, INT32_MAX))
    """A segment is rolled when one of its indexes is so large."""
    index_interval_bytes: int = _setting("index.interval.bytes", 4096, _integer(0, INT32_MAX))
    """Bytes of log between two index entries."""
    max_message_bytes: int = _setting("max.message.bytes", 1_048_588, _integer(0, INT32_MAX))
    """Largest batch that a client may append."""
    flush_messages: int = _setting("flush.messages", INT64_MAX, _integer(1, INT64_MAX))
    """Records that may be acknowledged without fsync; 1 makes every append durable."""
    message_timestamp_type: TimestampType = attrs.field(
        default=TimestampType.CREATE_TIME,
        metadata={"kafka_name": "message.timestamp.type", "parse": _timestamp_type},
    )
    """Who sets the timestamps of records."""
    message_timestamp_before_max_ms: int = _setting(
        "message.timestamp.before.max.ms", INT64_MAX, _integer(0, INT64_MAX)
    )
    """How far a producer's timestamp may lie in the past."""
    message_timestamp_after_max_ms: int = _setting(
        "message.timestamp.after.max.ms", _HOUR_MS, _integer(0, INT64_MAX)
    )
    """How far a producer's timestamp may lie in the future."""
    cleanup_policy: frozenset[str] = _setting(
        "cleanup.policy", frozenset({"delete"}), _cleanup_policy
    )
    """``delete`` removes old segments; ``compact`` keeps the last record of each key."""
    min_cleanable_dirty_ratio: float = _setting("min.cleanable.dirty.ratio", 0.5, _ratio)
    """Share of a compacted log's bytes that is not compacted yet at which it is worth a pass."""
    min_compaction_lag_ms: int = _setting("min.compaction.lag.ms", 0, _integer(0, INT64_MAX))
    """A record younger than this is not compacted away."""
    max_compaction_lag_ms: int = _setting(
        "max.compaction.lag.ms", INT64_MAX, _integer(1, INT64_MAX)
    )
    """A record older than this is compacted, however little there is to compact."""
    delete_retention_ms: int = _setting("delete.retention.ms", _DAY_MS, _integer(0, INT64_MAX))
    """How long a record without a value stays after the pass that found it, so that consumers of
    a compacted topic see that the key is gone."""
    retention_ms: int = _setting("retention.ms", 7 * _DAY_MS, _integer(-1, INT64_MAX))
    """Segments whose newest record is older are deleted; -1 is never."""
    retention_bytes: int = _setting("retention.bytes", -1, _integer(-1, INT64_MAX))
    """The oldest segments are deleted while the log is larger; -1 is never."""
    producer_id_expiration_ms: int = attrs.field(default=_DAY_MS)
    """An idempotent producer silent for so long is forgotten; a setting of the broker."""
    min_insync_replicas: int = _setting("min.insync.replicas", 1, _integer(1, INT32_MAX))
    """Replicas in sync that an append with acks=all needs."""
    compression_type: str = _setting("compression.type", "producer", _producer_compression)
    """Codec of stored batches; only ``producer``, as they come."""

    # What follows from the settings above is worked out once, for every append asks for it.
    compact: bool = attrs.field(init=False)
    """Whether the topic is compacted, and every record needs a key."""
    delete: bool = attrs.field(init=False)
    """Whether old segments are deleted."""
    max_segment_ms: int = attrs.field(init=False)
    """What records of one segment may span: it must be sealed before it can be compacted."""
    usual_batch_bytes: int = attrs.field(init=False)
    """Largest batch of which the log needs to know no more than ``check_usual`` tells; -1 if it
    always does: for the keys, for the first timestamp, or to set the timestamps."""

    @compact.default
    def _is_compacted(self) -> bool:
        return "compact" in self.cleanup_policy

    @delete.default
    def _is_deleted(self) -> bool:
        return "delete" in self.cleanup_policy

    @max_segment_ms.default
    def _longest_span_ms(self) -> int:
        if self.compact:
            return min(self.segment_ms, self.max_compaction_lag_ms)
        return self.segment_ms

    @usual_batch_bytes.default
    def _most_bytes_without_a_second_look(self) -> int:
        if (
            self.compact
            or self.message_timestamp_type is not TimestampType.CREATE_TIME
            or self.message_timestamp_before_max_ms != INT64_MAX
        ):
            return -1
        return min(self.max_message_bytes, self.segment_bytes)

    def with_topic_configs(self, configs: Mapping[str, str]) -> LogConfig:
        """This configuration with a topic's own settings on top.

        Args:
            configs: {Kafka's name: value, as text}.

        Returns:
            A new configuration.

        Raises:
            KafkaError: INVALID_CONFIG for an unknown name or a value that is not allowed.
        """
        fields = {
            field.metadata["kafka_name"]: field
            for field in attrs.fields(LogConfig)
            if "kafka_name" in field.metadata
        }
        changes = {}
        for name, text in configs.items():
            field = fields.get(name)
            if field is None:
                raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
            changes[field.name] = field.metadata["parse"](name, text)
        config = attrs.evolve(self, **changes)
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                "conflict topic config setting "
                f"min.compaction.lag.ms ({config.min_compaction_lag_ms}) > "
                f"max.compaction.lag.ms ({config.max_compaction_lag_ms})",
            )
        return config

    def to_texts(self) -> list[tuple[str, str]]:
        """Every setting as text: (Kafka's name, value)."""
        return [
            (field.metadata["kafka_name"], _to_text(getattr(self, field.name)))
            for field in attrs.fields(LogConfig)
            if "kafka_name" in field.metadata
        ]


def _to_text(value: object) -> str:
    if isinstance(value, TimestampType):
        return "LogAppendTime" if value is TimestampType.LOG_APPEND_TIME else "CreateTime"
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return str(value)
