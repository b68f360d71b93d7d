"""Keys and values of committed offsets in ``__consumer_offsets``.

In a record each is preceded by its version, an int16, which also tells the kinds of key apart.

Source: Kafka ``OffsetCommitKey.json`` and ``OffsetCommitValue.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.message import Message, field, message


@message(versions=(0, 1))
class OffsetCommitKey(Message):
    """Whose offset of which partition."""

    group: str = field("string")
    topic: str = field("string")
    partition: int = field("int32")


@message(versions=(0, 4), flexible_since=4)
class OffsetCommitValue(Message):
    """A committed offset; timestamps are ms since the epoch."""

    offset: int = field("int64")
    leader_epoch: int = field("int32", versions=(3, None), default=-1)
    metadata: str = field("string")
    commit_timestamp: int = field("int64")
    expire_timestamp: int = field("int64", versions=(1, 1), default=-1)
    topic_id: bytes = field("uuid", versions=(4, None), tag=0)
