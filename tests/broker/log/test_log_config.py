"""Topic settings: text to numbers, and what is refused."""

from __future__ import annotations

import pytest

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import TimestampType


def test_topic_settings_go_on_top_of_the_brokers():
    config = LogConfig(segment_bytes=5000).with_topic_configs(
        {
            "retention.ms": "-1",
            "cleanup.policy": "compact,delete",
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "producer",
        }
    )

    assert config.segment_bytes == 5000
    assert config.retention_ms == -1
    assert config.compact
    assert config.delete
    assert config.message_timestamp_type is TimestampType.LOG_APPEND_TIME


@pytest.mark.parametrize(
    ("policy", "span"), [("delete", 1000), ("compact", 300), ("compact,delete", 300)]
)
def test_what_follows_from_settings_follows_a_change_of_them(policy, span):
    before = LogConfig(segment_ms=1000, max_compaction_lag_ms=300)

    config = before.with_topic_configs({"cleanup.policy": policy})

    assert (config.compact, config.delete) == ("compact" in policy, "delete" in policy)
    assert config.max_segment_ms == span
    assert before.max_segment_ms == 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("retention.ms", str(2**63)),
        ("segment.bytes", "13"),
        ("cleanup.policy", "burn"),
        ("cleanup.policy", ""),
        ("message.timestamp.type", "createtime"),
        ("compression.type", "zstd"),
        ("no.such.setting", "1"),
        ("producer.id.expiration.ms", "1"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(name, value):
    with pytest.raises(KafkaError, match=name) as caught:
        LogConfig().with_topic_configs({name: value})
    assert caught.value.code is ErrorCode.INVALID_CONFIG


def test_defaults_are_kafkas():
    config = LogConfig()

    assert (config.segment_bytes, config.max_message_bytes) == (1_073_741_824, 1_048_588)
    assert (config.retention_ms, config.retention_bytes) == (604_800_000, -1)
    assert (config.index_interval_bytes, config.segment_index_bytes) == (4096, 10_485_760)
