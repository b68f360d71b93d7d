"""Which topics a consumer says it reads, out of the bytes that it hands to its group.

A coordinator passes members' metadata on without looking into it, with one exception: offsets of
a topic that somebody is subscribed to must neither expire nor be deleted. Only the list of topics
at the front is read; it is the same in every version. What cannot be read is not an error: the
topics are then unknown, and whoever asks must be careful.

Source: Kafka ``ClassicGroup.computeSubscribedTopics`` (4.1).
"""

from __future__ import annotations

import struct
from typing import Final

from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.protocol.codec import decode
from trio_kafka_net.protocol.messages.consumer_protocol_assignment import (
    ConsumerProtocolAssignment,
)
from trio_kafka_net.protocol.messages.consumer_protocol_subscription import (
    ConsumerProtocolSubscription,
)

CONSUMER_PROTOCOL_TYPE: Final = "consumer"
"""Protocol type of groups whose members are Kafka consumers."""

_FRONT = struct.Struct(">hi")  # version, number of topics
_MAX_TOPICS = 10_000
"""More topics than any consumer has; reading more would hold the event loop."""
_MAX_ASSIGNMENT = 64 * 1024
"""Bytes of the longest assignment that is looked into; some 15,000 partitions."""


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """Topics of one member of a group of consumers; None if they cannot be told.

    Args:
        metadata: what the member sent for its protocol: a version (int16, big-endian), and a
            ``ConsumerProtocolSubscription`` of that version.
    """
    if len(metadata) < _FRONT.size:
        return None
    version, count = _FRONT.unpack_from(metadata)
    if version < 0 or not 0 <= count <= _MAX_TOPICS:
        return None
    try:
        found = decode(ConsumerProtocolSubscription, 0, memoryview(metadata)[2:], strict=False)
    except RemoteProtocolError:
        return None
    return frozenset(found.topics)


def assigned_partitions(assignment: bytes) -> list[tuple[str, int]]:
    """Partitions of one member of a group of consumers; empty if they cannot be told.

    Args:
        assignment: what the leader sent for it: a version (int16, big-endian), and a
            ``ConsumerProtocolAssignment`` of that version.
    """
    if len(assignment) < _FRONT.size:
        return []
    version, count = _FRONT.unpack_from(assignment)
    if version < 0 or not 0 <= count <= _MAX_TOPICS or len(assignment) > _MAX_ASSIGNMENT:
        return []
    try:
        found = decode(ConsumerProtocolAssignment, 0, memoryview(assignment)[2:], strict=False)
    except RemoteProtocolError:
        return []
    return [(each.topic, index) for each in found.assigned_partitions for index in each.partitions]
