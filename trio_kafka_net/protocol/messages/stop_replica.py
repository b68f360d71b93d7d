"""Messages with which a controller stops and deletes replicas; Kafka 4 retired them.

Source: Kafka 3.9 ``StopReplicaRequest.json`` and ``StopReplicaResponse.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.message import Message, Struct, field, message, struct


@message(versions=(0, 4), flexible_since=2, api_key=ApiKey.STOP_REPLICA, kind="request")
class StopReplicaRequest(Message):
    """Partitions to stop: version 0 lists them, 1 and 2 group them, 3 says per partition what to do."""

    @struct
    class PartitionV0(Struct):
        """Kafka's ``StopReplicaPartitionV0``."""

        topic_name: str = field("string")
        partition_index: int = field("int32")

    @struct
    class TopicV1(Struct):
        """Kafka's ``StopReplicaTopicV1``."""

        name: str = field("string")
        partition_indexes: list[int] = field("[]int32")

    @struct
    class PartitionState(Struct):
        """Kafka's ``StopReplicaPartitionState``."""

        partition_index: int = field("int32")
        leader_epoch: int = field("int32", default=-1)
        delete_partition: bool = field("bool")

    @struct
    class TopicState(Struct):
        """Kafka's ``StopReplicaTopicState``."""

        topic_name: str = field("string")
        partition_states: list[StopReplicaRequest.PartitionState] = field("[]PartitionState")

    controller_id: int = field("int32")
    is_kraft_controller: bool = field("bool", versions=(4, None))
    controller_epoch: int = field("int32")
    broker_epoch: int = field("int64", versions=(1, None), default=-1)
    delete_partitions: bool = field("bool", versions=(0, 2))
    ungrouped_partitions: list[StopReplicaRequest.PartitionV0] = field(
        "[]PartitionV0", versions=(0, 0)
    )
    topics: list[StopReplicaRequest.TopicV1] = field("[]TopicV1", versions=(1, 2))
    topic_states: list[StopReplicaRequest.TopicState] = field("[]TopicState", versions=(3, None))


@message(versions=(0, 4), flexible_since=2, api_key=ApiKey.STOP_REPLICA, kind="response")
class StopReplicaResponse(Message):
    """Errors per partition."""

    @struct
    class PartitionError(Struct):
        """Kafka's ``StopReplicaPartitionError``."""

        topic_name: str = field("string")
        partition_index: int = field("int32")
        error_code: int = field("int16")

    error_code: int = field("int16")
    partition_errors: list[StopReplicaResponse.PartitionError] = field("[]PartitionError")
