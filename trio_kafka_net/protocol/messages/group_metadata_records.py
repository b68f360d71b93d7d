"""Keys and values of classic groups in ``__consumer_offsets``.

In a record each is preceded by its version, an int16, which also tells the kinds of key apart.

Source: Kafka ``GroupMetadataKey.json`` and ``GroupMetadataValue.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.message import Bytes, Message, Struct, field, message, struct


@message(versions=(2, 2))
class GroupMetadataKey(Message):
    """Which group."""

    group: str = field("string")


@message(versions=(0, 4), flexible_since=4)
class GroupMetadataValue(Message):
    """A group's generation and members; times are ms, timestamps ms since the epoch."""

    @struct
    class MemberMetadata(Struct):
        """Kafka's ``MemberMetadata``."""

        member_id: str = field("string")
        group_instance_id: str | None = field(
            "string", versions=(3, None), nullable=(3, None), default=None
        )
        client_id: str = field("string")
        client_host: str = field("string")
        rebalance_timeout: int = field("int32", versions=(1, None), default=-1)
        session_timeout: int = field("int32")
        subscription: Bytes = field("bytes")
        assignment: Bytes = field("bytes")

    protocol_type: str = field("string")
    generation: int = field("int32")
    protocol: str | None = field("string", nullable=(0, None))
    leader: str | None = field("string", nullable=(0, None))
    current_state_timestamp: int = field("int64", versions=(2, None), default=-1)
    members: list[GroupMetadataValue.MemberMetadata] = field("[]MemberMetadata")
