"""CreateTopics, DeleteTopics.

Versions: CreateTopics 2-7, DeleteTopics 1-6.
Behaviour:
    * every topic of a request succeeds or fails for itself
    * a topic named twice in a request fails, without being created or deleted
    * a request that makes more than 10000 topics, settings and partitions fails as a whole
    * every description says what the topic will have, also when it is only validated; its id is
      zero then
    * partitions made and deleted count for controller_mutation_rate, checked ones too; when it is
      used up the rest of a request is refused with THROTTLING_QUOTA_EXCEEDED (CreateTopics v6,
      DeleteTopics v5), or for older versions done and waited for (KIP-599)
    * directories are made and removed in a worker thread
Version notes:
    DeleteTopics v3 TOPIC_DELETION_DISABLED, before it was INVALID_REQUEST
    CreateTopics v4 defaults for partitions and replicas (KIP-464) · v5 describes what was made
    (KIP-525) · v7 topic ids · DeleteTopics v5 error texts · v6 by topic id (KIP-516)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trio_kafka_net.broker.client_quotas import MutationQuota
from trio_kafka_net.broker.controller import ConfigSource
from trio_kafka_net.broker.metadata_cache import TopicMetadata
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from trio_kafka_net.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from trio_kafka_net.protocol.primitives import ZERO_UUID

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_DEFAULT = -1
_MAX_RECORDS = 10_000
"""What one request may make; Kafka's ``MAX_RECORDS_PER_USER_OP``."""
_CLUSTER_METADATA = "__cluster_metadata"
_DELETION_DISABLED_SINCE = 3
_STRICT_CREATION_SINCE = 6
_STRICT_DELETION_SINCE = 5

# {where a value comes from: number of Kafka's ConfigSource}
_SOURCES = {
    ConfigSource.TOPIC: 1,
    ConfigSource.BROKER: 4,
    ConfigSource.DEFAULT: 5,
}

DeletableTopicResult = DeleteTopicsResponse.DeletableTopicResult


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(create_topics, key=CreateTopicsRequest.API_KEY, error_response=_create_topics_error)
    apis.add(delete_topics, key=DeleteTopicsRequest.API_KEY, error_response=_delete_topics_error)


async def create_topics(ctx: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Create topics, or only check that they could be."""
    _check_size(ctx, request)
    times = Counter(topic.name for topic in request.topics)
    quota = ctx.mutation_quota(strict_since=_STRICT_CREATION_SINCE)
    results = []
    for name, asked in {topic.name: topic for topic in request.topics}.items():
        try:
            if times[name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            results.append(await _create(ctx, asked, request.validate_only, quota))
        except KafkaError as error:
            results.append(
                CreateTopicsResponse.CreatableTopicResult(
                    name=name, error_code=error.code, error_message=error.message
                )
            )
    return CreateTopicsResponse(topics=results)


def _check_size(ctx: RequestContext, request: CreateTopicsRequest) -> None:
    """Refuse a request that would keep the controller busy for minutes.

    Raises:
        KafkaError: POLICY_VIOLATION.

    Source: Kafka ``ReplicationControlManager.createTopics`` and its bounded list of records.
    """
    default = ctx.broker.config.num_partitions
    records = sum(
        1
        + len(topic.configs)
        + max(
            len(topic.assignments),
            default if topic.num_partitions == _DEFAULT else topic.num_partitions,
        )
        for topic in request.topics
    )
    if records > _MAX_RECORDS:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation."
        )


async def _create(
    ctx: RequestContext,
    asked: CreateTopicsRequest.CreatableTopic,
    validate_only: bool,
    quota: MutationQuota,
) -> CreateTopicsResponse.CreatableTopicResult:
    if asked.name == _CLUSTER_METADATA:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Creation of internal topic {asked.name} is prohibited."
        )
    # Whoever makes a topic in case it is missing wants to hear that it is there, whatever else.
    ctx.broker.metadata.check_new_topic(asked.name)
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
        admit=quota.record,
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
                config_source=_SOURCES[source],
                is_sensitive=False,
            )
            for name, value, source in sorted(ctx.broker.controller.describe_configs(topic))
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
    """Delete topics by name, or (v6) by id.

    Source: Kafka ``ControllerApis.deleteTopics``.
    """
    if not ctx.broker.config.delete_topic_enable:
        raise KafkaError(
            ErrorCode.TOPIC_DELETION_DISABLED
            if ctx.api_version >= _DELETION_DISABLED_SINCE
            else ErrorCode.INVALID_REQUEST,
            "Topic deletion is disabled.",
        )
    asked = _topics_to_delete(request)
    times = Counter((each.name, each.topic_id) for each in asked)
    results = []
    found: list[tuple[DeletableTopicResult, TopicMetadata]] = []
    for name, topic_id in times:
        result = DeletableTopicResult(name=name, topic_id=topic_id)
        results.append(result)
        try:
            if times[name, topic_id] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name or id.")
            found.append((result, _find(ctx, name, topic_id)))
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
    await _delete(ctx, found, ctx.mutation_quota(strict_since=_STRICT_DELETION_SINCE))
    return DeleteTopicsResponse(responses=results)


def _topics_to_delete(request: DeleteTopicsRequest) -> list[DeleteTopicsRequest.DeleteTopicState]:
    return request.topics or [
        DeleteTopicsRequest.DeleteTopicState(name=name) for name in request.topic_names
    ]


def _find(ctx: RequestContext, name: str | None, topic_id: bytes) -> TopicMetadata:
    if (name is None) == (topic_id == ZERO_UUID):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a topic needs a name or an id, not both")
    metadata = ctx.broker.metadata
    if name is not None:
        return metadata.topic_or_raise(name)
    topic = metadata.get_topic_by_id(topic_id)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, "there is no topic with that id")
    return topic


async def _delete(
    ctx: RequestContext,
    found: list[tuple[DeletableTopicResult, TopicMetadata]],
    quota: MutationQuota,
) -> None:
    times = Counter(topic.topic_id for _, topic in found)
    for result, topic in found:
        result.name, result.topic_id = topic.name, topic.topic_id
        try:
            if times[topic.topic_id] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "The topic is there by its name and by its id."
                )
            quota.record(len(topic.partitions))
            await ctx.broker.controller.delete_topic(topic.name, topic_id=topic.topic_id)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message


def _delete_topics_error(
    request: DeleteTopicsRequest, code: ErrorCode, text: str | None
) -> DeleteTopicsResponse:
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=each.name, topic_id=each.topic_id, error_code=code, error_message=text
            )
            for each in _topics_to_delete(request)
        ]
    )
