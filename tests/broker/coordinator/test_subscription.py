"""Topics in the metadata of consumers, and bytes that are no metadata."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.coordinator.subscription import subscribed_topics
from trio_kafka_net.protocol.codec import encode
from trio_kafka_net.protocol.messages.consumer_protocol_subscription import (
    ConsumerProtocolSubscription,
)


def metadata(version, *topics):
    written = ConsumerProtocolSubscription(
        topics=list(topics),
        user_data=b"sticky",
        owned_partitions=[
            ConsumerProtocolSubscription.TopicPartition(topic="owned", partitions=[1])
        ],
        generation_id=7,
        rack_id="rack",
    )
    return version.to_bytes(2, "big") + b"".join(bytes(p) for p in encode(written, min(version, 3)))


@pytest.mark.parametrize("version", [0, 1, 2, 3, 9])
def test_topics_stand_in_front_in_every_version(version):
    assert subscribed_topics(metadata(version, "a", "b", "a")) == {"a", "b"}


def test_nothing_subscribed():
    assert subscribed_topics(metadata(0)) == frozenset()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0\0",
        b"\xff\xff\0\0\0\0\0\0\0\0",
        b"\0\0\xff\xff\xff\xff",
        b"\0\0\0\0\0\2\0\1a",
        b"\0\0\0\0\0\1\0\1\xff\0\0\0\0",
        b"\0\0" + (10_001).to_bytes(4, "big") + b"\0\0" * 10_001 + b"\xff" * 4,
    ],
    ids=["nothing", "a version", "no version", "a negative count", "cut", "no text", "too many"],
)
def test_topics_of_anything_else_are_unknown(damaged):
    assert subscribed_topics(damaged) is None


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_not(anything):
    subscribed_topics(b"\0\0" + anything)
