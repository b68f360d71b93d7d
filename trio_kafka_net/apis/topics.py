"""CreateTopics, DeleteTopics, CreatePartitions.

Versions: CreateTopics 2-7, DeleteTopics 1-6, CreatePartitions 0-3.
Behaviour:
    * every topic of a request succeeds or fails for itself
    * a topic named twice in a request fails, without being created, enlarged or deleted
    * a request that makes more than 10000 topics, settings and partitions fails as a whole
    * every description says what the topic will have, also when it is only validated; its id is
      zero then
    * partitions made and deleted count for controller_mutation_rate, checked ones too; when it is
      used up the rest of a request is refused with THROTTLING_QUOTA_EXCEEDED (CreateTopics v6,
      DeleteTopics v5), or for older versions done and waited for (KIP-599)
    * directories are made in a worker thread
    * the answer comes when the living brokers have heard of it, so that what was made can be used
      at once; REQUEST_TIMED_OUT if they have not within the request's timeout, and it is made
      all the same
    * there are no policies of one's own (create.topic.policy.class.name)
Version notes:
    DeleteTopics v3 TOPIC_DELETION_DISABLED, before it was INVALID_REQUEST
    CreateTopics v4 defaults for partitions and replicas (KIP-464) · v5 describes what was made
    (KIP-525) · v7 topic ids · DeleteTopics v5 error texts · v6 by topic id (KIP-516)
    CreatePartitions v2 flexible · v3 may be throttled (KIP-599)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trio_kafka_net.broker.client_quotas import MutationQuota
from trio_kafka_net.broker.cluster_state import DeliveryWait
from trio_kafka_net.broker.config_entries import TopicDescriber, wanted
from trio_kafka_net.broker.metadata_cache import TopicMetadata
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
)
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
_STRICT_ENLARGEMENT_SINCE = 3

DeletableTopicResult = DeleteTopicsResponse.DeletableTopicResult
_Results = list[DeletableTopicResult]
_Found = list[tuple[DeletableTopicResult, TopicMetadata]]


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(create_topics, key=CreateTopicsRequest.API_KEY, error_response=_create_topics_error)
    apis.add(delete_topics, key=DeleteTopicsRequest.API_KEY, error_response=_delete_topics_error)
    apis.add(
        create_partitions,
        key=CreatePartitionsRequest.API_KEY,
        error_response=_create_partitions_error,
    )


async def create_topics(ctx: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Create topics, or only check that they could be."""
    await ctx.in_turns(_check_size(ctx, request))
    times = Counter(topic.name for topic in request.topics)  # no more than _MAX_RECORDS
    breaks = ctx.breaks()
    quota = ctx.mutation_quota(strict_since=_STRICT_CREATION_SINCE)
    wait = ctx.delivery_wait(request.timeout_ms, "CreateTopics")
    describer = TopicDescriber(
        ctx.broker.dynamic_config, ctx.broker.controller.log_defaults, wanted(None)
    )
    results = []
    for name, asked in {topic.name: topic for topic in request.topics}.items():
        try:
            if times[name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            topic = await _create(ctx, asked, request.validate_only, quota, wait)
            results.append(_made(topic, describer, request.validate_only))
        except KafkaError as error:
            results.append(
                CreateTopicsResponse.CreatableTopicResult(
                    name=name, error_code=error.code, error_message=error.message
                )
            )
        if breaks.is_due():
            await breaks.take()
    return CreateTopicsResponse(topics=results)


def _check_size(ctx: RequestContext, request: CreateTopicsRequest) -> Steps[None]:
    """Refuse a request that would keep the controller busy for minutes.

    Raises:
        KafkaError: POLICY_VIOLATION.

    Source: Kafka ``ReplicationControlManager.createTopics`` and its bounded list of records.
    """
    default = ctx.broker.config.num_partitions
    partitions = records = 0
    for topic in request.topics:
        partitions += max(
            len(topic.assignments),
            default if topic.num_partitions == _DEFAULT else topic.num_partitions,
        )
        records += 1 + len(topic.configs)
        yield
    if partitions > _MAX_RECORDS:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request."
        )
    _check_records(partitions + records)


def _check_records(records: int) -> None:
    if records > _MAX_RECORDS:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation."
        )


async def _create(
    ctx: RequestContext,
    asked: CreateTopicsRequest.CreatableTopic,
    validate_only: bool,
    quota: MutationQuota,
    wait: DeliveryWait,
) -> TopicMetadata:
    if asked.name == _CLUSTER_METADATA:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Creation of internal topic {asked.name} is prohibited."
        )
    # Whoever makes a topic in case it is missing wants to hear that it is there, whatever else.
    ctx.broker.controller.check_new_topic(asked.name)
    return await ctx.broker.controller.create_topic(
        asked.name,
        partitions=None if asked.num_partitions == _DEFAULT else asked.num_partitions,
        replication_factor=(
            None if asked.replication_factor == _DEFAULT else asked.replication_factor
        ),
        assignments=_assigned(asked) if asked.assignments else None,
        configs={config.name: config.value for config in asked.configs},
        validate_only=validate_only,
        admit=quota.record,
        wait=wait,
    )


def _made(
    topic: TopicMetadata, describer: TopicDescriber, validate_only: bool
) -> CreateTopicsResponse.CreatableTopicResult:
    return CreateTopicsResponse.CreatableTopicResult(
        name=topic.name,
        topic_id=ZERO_UUID if validate_only else topic.topic_id,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=[
            CreateTopicsResponse.CreatableTopicConfigs(
                name=entry.name,
                value=entry.value,
                read_only=False,
                config_source=entry.source,
                is_sensitive=False,
            )
            for entry in describer.entries(topic.configs)
        ],
    )


def _assigned(asked: CreateTopicsRequest.CreatableTopic) -> list[list[int]]:
    """The replicas of a manual assignment, by partition.

    Source: Kafka ``ReplicationControlManager.createTopic``.
    """
    for name, value in (
        ("replication factor", asked.replication_factor),
        ("numPartitions", asked.num_partitions),
    ):
        if value != _DEFAULT:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"A manual partition assignment was specified, but {name} was not set to -1.",
            )
    replicas = {each.partition_index: each.broker_ids for each in asked.assignments}
    if len(replicas) < len(asked.assignments):
        times = Counter(each.partition_index for each in asked.assignments)
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Found multiple manual partition assignments for partition "
            f"{times.most_common(1)[0][0]}",
        )
    if sorted(replicas) != list(range(len(replicas))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based integer sequence",
        )
    return [replicas[index] for index in range(len(replicas))]


def _create_topics_error(
    request: CreateTopicsRequest, code: ErrorCode, text: str | None
) -> Steps[CreateTopicsResponse]:
    response = CreateTopicsResponse()
    for topic in request.topics:
        response.topics.append(
            CreateTopicsResponse.CreatableTopicResult(
                name=topic.name, error_code=code, error_message=text
            )
        )
        yield
    return response


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
    results, found = await ctx.in_turns(_found(ctx, request))
    quota = ctx.mutation_quota(strict_since=_STRICT_DELETION_SINCE)
    wait = ctx.delivery_wait(request.timeout_ms, "DeleteTopics")
    again = await _delete(ctx, found, quota, wait)
    if again:
        results = [each for each in results if id(each) not in again]
    return DeleteTopicsResponse(responses=results)


def _found(ctx: RequestContext, request: DeleteTopicsRequest) -> Steps[tuple[_Results, _Found]]:
    """The results of a deletion, and those of them that are about a topic that there is."""
    times: dict[tuple[str | None, bytes], int] = {}
    for name, topic_id in _topics_to_delete(request):
        times[name, topic_id] = times.get((name, topic_id), 0) + 1
        yield
    results: _Results = []
    found: _Found = []
    for name, topic_id in times:
        result = DeletableTopicResult(name=name, topic_id=topic_id)
        results.append(result)
        try:
            if times[name, topic_id] > 1:
                what = "id" if name is None else "name"
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"Duplicate topic {what}.")
            found.append((result, _find(ctx, name, topic_id)))
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        yield
    return results, found


def _topics_to_delete(request: DeleteTopicsRequest) -> Iterator[tuple[str | None, bytes]]:
    if request.topics:
        return ((each.name, each.topic_id) for each in request.topics)
    return ((name, ZERO_UUID) for name in request.topic_names)


def _find(ctx: RequestContext, name: str | None, topic_id: bytes) -> TopicMetadata:
    if name is not None and topic_id != ZERO_UUID:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id."
        )
    if name is None and topic_id == ZERO_UUID:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
    topics = ctx.broker.controller.topics
    if name is not None:
        return topics.topic_or_raise(name)
    topic = topics.get_topic_by_id(topic_id)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
    return topic


async def _delete(
    ctx: RequestContext,
    found: _Found,
    quota: MutationQuota,
    wait: DeliveryWait,
) -> set[int]:
    """Delete what was found once; a topic found by name and by id has one result, and stays.

    Returns:
        Identities of the results beyond that one.
    """
    topics = {topic.topic_id: topic for _, topic in found}
    results: dict[bytes, list[DeletableTopicResult]] = {}
    for result, topic in found:
        result.name, result.topic_id = topic.name, topic.topic_id
        results.setdefault(topic.topic_id, []).append(result)
    breaks = ctx.breaks()
    for topic_id, (result, *more) in results.items():
        if breaks.is_due():
            await breaks.take()
        try:
            if more:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST,
                    "The provided topic name maps to an ID that was already supplied.",
                )
            topic = topics[topic_id]
            quota.record(len(topic.partitions))
            await ctx.broker.controller.delete_topic(topic.name, topic_id=topic_id, wait=wait)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
    return {id(each) for _, *more in results.values() for each in more}


def _delete_topics_error(
    request: DeleteTopicsRequest, code: ErrorCode, text: str | None
) -> Steps[DeleteTopicsResponse]:
    response = DeleteTopicsResponse()
    for name, topic_id in _topics_to_delete(request):
        response.responses.append(
            DeletableTopicResult(name=name, topic_id=topic_id, error_code=code, error_message=text)
        )
        yield
    return response


async def create_partitions(
    ctx: RequestContext, request: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    """Give topics more partitions, or only check that they could be given.

    Source: Kafka ``ControllerApis.createPartitions``.
    """
    _check_records(await ctx.in_turns(_all_new_partitions(ctx, request)))
    breaks = ctx.breaks()
    quota = ctx.mutation_quota(strict_since=_STRICT_ENLARGEMENT_SINCE)
    wait = ctx.delivery_wait(request.timeout_ms, "CreatePartitions")
    times = Counter([topic.name for topic in request.topics])
    results = []
    for name, asked in {topic.name: topic for topic in request.topics}.items():
        result = CreatePartitionsResponse.TopicResult(name=name)
        results.append(result)
        try:
            if times[name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            await _enlarge(ctx, asked, request.validate_only, quota, wait)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        if breaks.is_due():
            await breaks.take()
    return CreatePartitionsResponse(results=results)


def _all_new_partitions(ctx: RequestContext, request: CreatePartitionsRequest) -> Steps[int]:
    count = 0
    for topic in request.topics:
        count += _new_partitions(ctx, topic)
        yield
    return count


def _new_partitions(ctx: RequestContext, asked: CreatePartitionsRequest.Topic) -> int:
    topic = ctx.broker.controller.topics.get_topic(asked.name)
    return 0 if topic is None else max(0, asked.count - len(topic.partitions))


async def _enlarge(
    ctx: RequestContext,
    asked: CreatePartitionsRequest.Topic,
    validate_only: bool,
    quota: MutationQuota,
    wait: DeliveryWait,
) -> None:
    await ctx.broker.controller.create_partitions(
        asked.name,
        asked.count,
        assignments=(
            None
            if asked.assignments is None
            else [assignment.broker_ids for assignment in asked.assignments]
        ),
        validate_only=validate_only,
        admit=quota.record,
        wait=wait,
    )


def _create_partitions_error(
    request: CreatePartitionsRequest, code: ErrorCode, text: str | None
) -> Steps[CreatePartitionsResponse]:
    response = CreatePartitionsResponse()
    for topic in request.topics:
        response.results.append(
            CreatePartitionsResponse.TopicResult(
                name=topic.name, error_code=code, error_message=text
            )
        )
        yield
    return response
