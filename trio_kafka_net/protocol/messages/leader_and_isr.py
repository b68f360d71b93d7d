"""Messages with which a controller makes brokers leaders and followers; Kafka 4 retired them.

Source: Kafka 3.9 ``LeaderAndIsrRequest.json`` and ``LeaderAndIsrResponse.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.message import Message, Struct, field, message, struct


@message(versions=(0, 7), flexible_since=4, api_key=ApiKey.LEADER_AND_ISR, kind="request")
class LeaderAndIsrRequest(Message):
    """The state of partitions: one by one up to version 1, by topic since version 2."""

    @struct
    class PartitionState(Struct):
        """Kafka's ``LeaderAndIsrPartitionState``."""

        topic_name: str = field("string", versions=(0, 1))
        partition_index: int = field("int32")
        controller_epoch: int = field("int32")
        leader: int = field("int32")
        leader_epoch: int = field("int32")
        isr: list[int] = field("[]int32")
        partition_epoch: int = field("int32")
        replicas: list[int] = field("[]int32")
        adding_replicas: list[int] = field("[]int32", versions=(3, None))
        removing_replicas: list[int] = field("[]int32", versions=(3, None))
        is_new: bool = field("bool", versions=(1, None))
        leader_recovery_state: int = field("int8", versions=(6, None))

    @struct
    class TopicState(Struct):
        """Kafka's ``LeaderAndIsrTopicState``."""

        topic_name: str = field("string")
        topic_id: bytes = field("uuid", versions=(5, None))
        partition_states: list[LeaderAndIsrRequest.PartitionState] = field("[]PartitionState")

    @struct
    class LiveLeader(Struct):
        """Kafka's ``LeaderAndIsrLiveLeader``."""

        broker_id: int = field("int32")
        host_name: str = field("string")
        port: int = field("int32")

    controller_id: int = field("int32")
    is_kraft_controller: bool = field("bool", versions=(7, None))
    controller_epoch: int = field("int32")
    broker_epoch: int = field("int64", versions=(2, None), default=-1)
    type: int = field("int8", versions=(5, None))
    ungrouped_partition_states: list[LeaderAndIsrRequest.PartitionState] = field(
        "[]PartitionState", versions=(0, 1)
    )
    topic_states: list[LeaderAndIsrRequest.TopicState] = field("[]TopicState", versions=(2, None))
    live_leaders: list[LeaderAndIsrRequest.LiveLeader] = field("[]LiveLeader")


@message(versions=(0, 7), flexible_since=4, api_key=ApiKey.LEADER_AND_ISR, kind="response")
class LeaderAndIsrResponse(Message):
    """Errors per partition, by topic id since version 5."""

    @struct
    class PartitionError(Struct):
        """Kafka's ``LeaderAndIsrPartitionError``."""

        topic_name: str = field("string", versions=(0, 4))
        partition_index: int = field("int32")
        error_code: int = field("int16")

    @struct
    class TopicError(Struct):
        """Kafka's ``LeaderAndIsrTopicError``."""

        topic_id: bytes = field("uuid")
        partition_errors: list[LeaderAndIsrResponse.PartitionError] = field("[]PartitionError")

    error_code: int = field("int16")
    partition_errors: list[LeaderAndIsrResponse.PartitionError] = field(
        "[]PartitionError", versions=(0, 4)
    )
    topics: list[LeaderAndIsrResponse.TopicError] = field("[]TopicError", versions=(5, None))
