"""CreateTopics, DeleteTopics.

Versions: CreateTopics 2-7, DeleteTopics 1-6.
Behaviour:
    * every topic of a request succeeds or fails for itself
    * a topic named twice in a request fails, without being created
    * directories are made and removed in a worker thread
Version notes:
    CreateTopics v4 defaults for partitions and replicas (KIP-464) · v5 describes what was made
    (KIP-525) · v7 topic ids · DeleteTopics v5 error texts · v6 by topic id (KIP-516)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from trio_kafka_net.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from trio_kafka_net.protocol.primitives import ZERO_UUID

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_DEFAULT = -1

# Where a value comes from, as Kafka's ConfigSource has it.
_TOPIC_CONFIG = 1
_DEFAULT_CONFIG = 5


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(create_topics, key=CreateTopicsRequest.API_KEY, error_response=_create_topics_error)
    apis.add(delete_topics, key=DeleteTopicsRequest.API_KEY, error_response=_delete_topics_error)


async def create_topics(ctx: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Create topics, or only check that they could be."""
    times = Counter(topic.name for topic in request.topics)
    results = []
    for name in times:
        asked = next(topic for topic in request.topics if topic.name == name)
        try:
            if times[name] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, f"{name!r} is in the request {times[name]} times"
                )
            results.append(await _create(ctx, asked, request.validate_only))
        except KafkaError as error:
            results.append(
                CreateTopicsResponse.CreatableTopicResult(
                    name=name, error_code=error.code, error_message=error.message
                )
            )
    return CreateTopicsResponse(topics=results)


async def _create(
    ctx: RequestContext, asked: CreateTopicsRequest.CreatableTopic, validate_only: bool
) -> CreateTopicsResponse.CreatableTopicResult:
    replicas = asked.replication_factor
    partitions = asked.num_partitions
    if asked.assignments:
        partitions, replicas = _assigned(ctx, asked)
    topic = await ctx.broker.controller.create_topic(
        asked.name,
        partitions=None if partitions == _DEFAULT else partitions,
        replication_factor=None if replicas == _DEFAULT else replicas,
        configs={config.name: config.value for config in asked.configs},
        validate_only=validate_only,
    )
    return CreateTopicsResponse.CreatableTopicResult(
        name=asked.name,
        topic_id=ZERO_UUID if validate_only else topic.topic_id,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=[
            CreateTopicsResponse.CreatableTopicConfigs(
                name=name,
                value=value,
                read_only=False,
                config_source=_TOPIC_CONFIG if is_set else _DEFAULT_CONFIG,
                is_sensitive=False,
            )
            for name, value, is_set in ctx.broker.controller.describe_configs(topic)
        ],
    )


def _assigned(ctx: RequestContext, asked: CreateTopicsRequest.CreatableTopic) -> tuple[int, int]:
    """Partition count and replication factor of a manual assignment, after checking it.

    Source: Kafka ``ReplicationControlManager.createTopic``.
    """
    if asked.num_partitions != _DEFAULT or asked.replication_factor != _DEFAULT:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "with an assignment, partitions and replication factor must both be -1",
        )
    indexes = sorted(each.partition_index for each in asked.assignments)
    if indexes != list(range(len(indexes))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"partitions {indexes} are not 0 to {len(indexes) - 1}, each once",
        )
    for each in asked.assignments:
        if each.broker_ids != [ctx.broker.node_id]:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"partition {each.partition_index} is assigned to brokers {each.broker_ids}, "
                f"only [{ctx.broker.node_id}] is there",
            )
    return len(indexes), 1


def _create_topics_error(
    request: CreateTopicsRequest, code: ErrorCode, text: str | None
) -> CreateTopicsResponse:
    return CreateTopicsResponse(
        topics=[
            CreateTopicsResponse.CreatableTopicResult(
                name=topic.name, error_code=code, error_message=text
            )
            for topic in request.topics
        ]
    )


async def delete_topics(ctx: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Delete topics by name, or (v6) by id."""
    asked = request.topics or [
        DeleteTopicsRequest.DeleteTopicState(name=name) for name in request.topic_names
    ]
    times = Counter((each.name, each.topic_id) for each in asked)
    results = []
    for name, topic_id in times:
        result = DeleteTopicsResponse.DeletableTopicResult(name=name, topic_id=topic_id)
        try:
            if times[name, topic_id] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "the topic is in the request twice")
            result.name, result.topic_id = await _delete(ctx, name, topic_id)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        results.append(result)
    return DeleteTopicsResponse(responses=results)


async def _delete(ctx: RequestContext, name: str | None, topic_id: bytes) -> tuple[str, bytes]:
    broker = ctx.broker
    if not broker.config.delete_topic_enable:
        raise KafkaError(ErrorCode.TOPIC_DELETION_DISABLED, "delete.topic.enable is false")
    if (name is None) == (topic_id == ZERO_UUID):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a topic needs a name or an id, not both")
    if name is not None:
        topic = broker.metadata.get_topic(name)
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    else:
        topic = broker.metadata.get_topic_by_id(topic_id)
        missing = ErrorCode.UNKNOWN_TOPIC_ID
    if topic is None:
        raise KafkaError(missing, "there is no such topic")
    await broker.controller.delete_topic(topic.name)
    return topic.name, topic.topic_id


def _delete_topics_error(
    request: DeleteTopicsRequest, code: ErrorCode, text: str | None
) -> DeleteTopicsResponse:
    asked = request.topics or [
        DeleteTopicsRequest.DeleteTopicState(name=name) for name in request.topic_names
    ]
    return DeleteTopicsResponse(
        responses=[
            DeleteTopicsResponse.DeletableTopicResult(
                name=each.name, topic_id=each.topic_id, error_code=code, error_message=text
            )
            for each in asked
        ]
    )
