"""Messages with which a controller tells brokers about the cluster; Kafka 4 retired them.

Source: Kafka 3.9 ``UpdateMetadataRequest.json`` and ``UpdateMetadataResponse.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.message import Message, Struct, field, message, struct


@message(versions=(0, 8), flexible_since=6, api_key=ApiKey.UPDATE_METADATA, kind="request")
class UpdateMetadataRequest(Message):
    """Partitions and live brokers: partitions one by one up to version 4, by topic since version 5."""

    @struct
    class PartitionState(Struct):
        """Kafka's ``UpdateMetadataPartitionState``."""

        topic_name: str = field("string", versions=(0, 4))
        partition_index: int = field("int32")
        controller_epoch: int = field("int32")
        leader: int = field("int32")
        leader_epoch: int = field("int32")
        isr: list[int] = field("[]int32")
        zk_version: int = field("int32")
        replicas: list[int] = field("[]int32")
        offline_replicas: list[int] = field("[]int32", versions=(4, None))

    @struct
    class TopicState(Struct):
        """Kafka's ``UpdateMetadataTopicState``."""

        topic_name: str = field("string")
        topic_id: bytes = field("uuid", versions=(7, None))
        partition_states: list[UpdateMetadataRequest.PartitionState] = field("[]PartitionState")

    @struct
    class Endpoint(Struct):
        """Kafka's ``UpdateMetadataEndpoint``."""

        port: int = field("int32")
        host: str = field("string")
        listener: str = field("string", versions=(3, None))
        security_protocol: int = field("int16")

    @struct
    class Broker(Struct):
        """Kafka's ``UpdateMetadataBroker``."""

        id: int = field("int32")
        v0_host: str = field("string", versions=(0, 0))
        v0_port: int = field("int32", versions=(0, 0))
        endpoints: list[UpdateMetadataRequest.Endpoint] = field("[]Endpoint", versions=(1, None))
        rack: str | None = field("string", versions=(2, None), nullable=(0, None))

    controller_id: int = field("int32")
    is_kraft_controller: bool = field("bool", versions=(8, None))
    type: int = field("int8", versions=(8, None), tag=0)
    controller_epoch: int = field("int32")
    broker_epoch: int = field("int64", versions=(5, None), default=-1)
    ungrouped_partition_states: list[UpdateMetadataRequest.PartitionState] = field(
        "[]PartitionState", versions=(0, 4)
    )
    topic_states: list[UpdateMetadataRequest.TopicState] = field("[]TopicState", versions=(5, None))
    live_brokers: list[UpdateMetadataRequest.Broker] = field("[]Broker")


@message(versions=(0, 8), flexible_since=6, api_key=ApiKey.UPDATE_METADATA, kind="response")
class UpdateMetadataResponse(Message):
    """One error code."""

    error_code: int = field("int16")
