"""Messages of controlled shutdown, which Kafka 4 retired.

Source: Kafka 3.9 ``ControlledShutdownRequest.json`` and ``ControlledShutdownResponse.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.message import Message, Struct, field, message, struct


@message(versions=(0, 3), flexible_since=3, api_key=ApiKey.CONTROLLED_SHUTDOWN, kind="request")
class ControlledShutdownRequest(Message):
    """A broker asks to be relieved of its leaderships; version 0 has a header of its own."""

    broker_id: int = field("int32")
    broker_epoch: int = field("int64", versions=(2, None), default=-1)


@message(versions=(0, 3), flexible_since=3, api_key=ApiKey.CONTROLLED_SHUTDOWN, kind="response")
class ControlledShutdownResponse(Message):
    """The partitions that the broker still leads; it asks again until there are none."""

    @struct
    class RemainingPartition(Struct):
        """Kafka's ``RemainingPartition``."""

        topic_name: str = field("string")
        partition_index: int = field("int32")

    error_code: int = field("int16")
    remaining_partitions: list[ControlledShutdownResponse.RemainingPartition] = field(
        "[]RemainingPartition"
    )
