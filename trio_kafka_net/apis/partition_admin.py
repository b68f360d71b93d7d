"""Leaders and replicas of partitions: elections, reassignments, and their description.

Versions: ElectLeaders 0-2, AlterPartitionReassignments 0-1, ListPartitionReassignments 0-0,
    DescribeTopicPartitions 0-0.
Behaviour:
    * asked about all partitions, ElectLeaders does not list those that need no election
    * a reassignment is done at once, as the brokers share one store: none is ever in progress
    * elections and reassignments are answered when the living brokers have heard of them
    * DescribeTopicPartitions lists topics by name, from a cursor on, and not more partitions than
      the request and max.request.partition.size.limit allow; a topic asked for twice comes once
    * more than 50000 partitions or replicas in one request close the connection
Version notes:
    ElectLeaders v1 unclean elections, error code of the whole (KIP-460) · v2 flexible
    AlterPartitionReassignments v1 can forbid that the number of replicas changes (KIP-860)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from trio_kafka_net.broker.elections import ElectionType
from trio_kafka_net.broker.leaderships import PartitionKey
from trio_kafka_net.broker.metadata_cache import NO_LEADER, TopicMetadata, validate_topic_name
from trio_kafka_net.broker.replica_placement import check_replicas
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from trio_kafka_net.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)
from trio_kafka_net.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
)
from trio_kafka_net.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

from .cluster import TOPIC_OPERATIONS, UnreachableLeaders
from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_SORTED_AT_ONCE: Final = 1000
"""Names sorted in one step: a fifth of a millisecond."""

PartitionResult = ElectLeadersResponse.PartitionResult
ReassignedPartition = AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
DescribedTopic = DescribeTopicPartitionsResponse.Topic
Cursor = DescribeTopicPartitionsResponse.Cursor


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(elect_leaders, key=ElectLeadersRequest.API_KEY, error_response=_elect_leaders_error)
    apis.add(
        alter_partition_reassignments,
        key=AlterPartitionReassignmentsRequest.API_KEY,
    )
    apis.add(
        list_partition_reassignments,
        key=ListPartitionReassignmentsRequest.API_KEY,
    )
    apis.add(
        describe_topic_partitions,
        key=DescribeTopicPartitionsRequest.API_KEY,
        error_response=_describe_topic_partitions_error,
    )


# -- elections ------------------------------------------------------------------------------------


async def elect_leaders(ctx: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse:
    """Have partitions led by their preferred leaders, or by any replica.

    Source: Kafka ``ReplicationControlManager.electLeaders`` (4.1).
    """
    asked = request.topic_partitions
    if asked is not None and not asked:
        return ElectLeadersResponse()
    if request.election_type not in set(ElectionType):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}"
        )
    election = ElectionType(request.election_type)
    partitions = None
    if asked is not None:
        partitions = [(each.topic, index) for each in asked for index in each.partitions]
    outcomes = await ctx.broker.controller.leaderships.elect(
        partitions, election, ctx.delivery_wait(request.timeout_ms, "ElectLeaders")
    )
    breaks = ctx.breaks()
    names = (
        [topic.name for topic in ctx.broker.controller.topics]
        if asked is None
        else [each.topic for each in asked]
    )
    results: dict[str, list[PartitionResult]] = {name: [] for name in names}
    for topic, index in outcomes if partitions is None else partitions:
        error = outcomes[topic, index]
        into = results[topic]
        if error is None:
            into.append(PartitionResult(partition_id=index, error_message=None))
        elif asked is not None or error.code != ErrorCode.ELECTION_NOT_NEEDED:
            into.append(
                PartitionResult(
                    partition_id=index, error_code=error.code, error_message=error.message
                )
            )
        if breaks.is_due():
            await breaks.take()
    response = ElectLeadersResponse()
    for topic, elected in results.items():
        response.replica_election_results.append(
            ElectLeadersResponse.ReplicaElectionResult(topic=topic, partition_result=elected)
        )
        if breaks.is_due():
            await breaks.take()
    return response


def _elect_leaders_error(
    request: ElectLeadersRequest, code: ErrorCode, text: str | None
) -> Steps[ElectLeadersResponse]:
    response = ElectLeadersResponse(error_code=code)
    for topic in request.topic_partitions or ():
        refused = ElectLeadersResponse.ReplicaElectionResult(topic=topic.topic)
        response.replica_election_results.append(refused)
        for index in topic.partitions:
            refused.partition_result.append(
                PartitionResult(partition_id=index, error_code=code, error_message=text)
            )
            yield
        yield
    return response


# -- reassignments --------------------------------------------------------------------------------


async def alter_partition_reassignments(
    ctx: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    """Give partitions other replicas.

    Source: Kafka ``ReplicationControlManager.alterPartitionReassignments`` (4.1).
    """
    moves, results = await ctx.in_turns(_moves(ctx, request))
    results |= await ctx.broker.controller.leaderships.reassign(
        moves, ctx.delivery_wait(request.timeout_ms, "AlterPartitionReassignments")
    )
    return await ctx.in_turns(_reassignments(request, results))


def _moves(
    ctx: RequestContext, request: AlterPartitionReassignmentsRequest
) -> Steps[tuple[dict[PartitionKey, list[int]], dict[PartitionKey, KafkaError | None]]]:
    """What is to be moved where, and why the others are not."""
    asked: dict[PartitionKey, list[int] | None] = {}
    for topic in request.topics:
        for each in topic.partitions:
            asked[topic.name, each.partition_index] = each.replicas
            yield
        yield
    moves = {}
    refused: dict[PartitionKey, KafkaError | None] = {}
    for key, replicas in asked.items():
        error = _refusal(ctx, key, replicas, request)
        if error is not None:
            refused[key] = error
        elif replicas is not None:
            moves[key] = replicas
        yield
    return moves, refused


def _reassignments(
    request: AlterPartitionReassignmentsRequest,
    results: Mapping[PartitionKey, KafkaError | None],
) -> Steps[AlterPartitionReassignmentsResponse]:
    response = AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_message=None,
    )
    for topic in request.topics:
        answer = AlterPartitionReassignmentsResponse.ReassignableTopicResponse(name=topic.name)
        response.responses.append(answer)
        for each in topic.partitions:
            error = results[topic.name, each.partition_index]
            answer.partitions.append(_reassigned(each.partition_index, error))
            yield
        yield
    return response


def _refusal(
    ctx: RequestContext,
    key: tuple[str, int],
    replicas: list[int] | None,
    request: AlterPartitionReassignmentsRequest,
) -> KafkaError | None:
    """Why a partition cannot be reassigned, as far as can be said without changing anything."""
    name, index = key
    found = ctx.broker.controller.topics.get_topic(name)
    if found is None:
        return KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}."
        )
    if not 0 <= index < len(found.partitions):
        return KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}."
        )
    if replicas is None:
        return KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
    try:
        check_replicas(replicas, ctx.broker.controller.registered)
    except KafkaError as error:
        return error
    present = len(found.partitions[index].replicas)
    if len(replicas) != present and not request.allow_replication_factor_change:
        return KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor is changed from {present} to {len(replicas)}",
        )
    return None


def _reassigned(index: int, error: KafkaError | None) -> ReassignedPartition:
    if error is None:
        return ReassignedPartition(partition_index=index, error_message=None)
    return ReassignedPartition(
        partition_index=index, error_code=error.code, error_message=error.message
    )


def list_partition_reassignments(
    ctx: RequestContext, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """List the reassignments in progress: none."""
    return ListPartitionReassignmentsResponse(error_message=None)


# -- description ----------------------------------------------------------------------------------


async def describe_topic_partitions(
    ctx: RequestContext, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    """Describe topics page by page (KIP-966).

    Source: Kafka ``DescribeTopicPartitionsRequestHandler`` (4.1).
    """
    cursor = request.cursor
    begin = "" if cursor is None else cursor.topic_name
    if request.topics:
        asked = await ctx.in_turns(_names_from(request.topics, begin))
        if cursor is not None and begin not in asked:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        names = await ctx.in_turns(_in_order(asked))
    else:
        names = [topic.name for topic in ctx.broker.metadata if topic.name >= begin]
    if cursor is not None and cursor.partition_index < 0:
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    most = ctx.broker.config.max_request_partition_size_limit
    room = max(1, min(most, request.response_partition_limit))
    unreachable = UnreachableLeaders(ctx.broker, ctx.listener_name)
    response = DescribeTopicPartitionsResponse()
    breaks = ctx.breaks()
    for name in names:
        if breaks.is_due():
            await breaks.take()
        if not room:
            response.next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        first = cursor.partition_index if cursor is not None and name == begin else 0
        topic = ctx.broker.metadata.get_topic(name)
        if topic is None:
            if request.topics:  # or else it was deleted since
                response.topics.append(_unknown_topic(name))
            continue
        end = min(first + room, len(topic.partitions))
        response.topics.append(_topic(topic, first, end, unreachable))
        room -= max(0, end - first)
        if end < len(topic.partitions):
            response.next_cursor = Cursor(topic_name=name, partition_index=end)
            break
    return response


def _names_from(
    topics: Iterable[DescribeTopicPartitionsRequest.TopicRequest], begin: str
) -> Steps[dict[str, None]]:
    names: dict[str, None] = {}
    for topic in topics:
        if topic.name >= begin:
            names[topic.name] = None
        yield
    return names


def _in_order(names: Iterable[str]) -> Steps[list[str]]:
    """Sorted, piece by piece."""
    unsorted = iter(names)
    pieces = []
    while piece := sorted(islice(unsorted, _SORTED_AT_ONCE)):
        pieces.append(piece)
        yield
    if len(pieces) == 1:
        return pieces[0]
    merged = []
    for name in heapq.merge(*pieces):
        merged.append(name)
        yield
    return merged


def _unknown_topic(name: str) -> DescribedTopic:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    try:
        validate_topic_name(name)
    except KafkaError:
        code = ErrorCode.INVALID_TOPIC_EXCEPTION
    return DescribedTopic(error_code=code, name=name, topic_authorized_operations=TOPIC_OPERATIONS)


def _topic(
    topic: TopicMetadata, first: int, end: int, unreachable: UnreachableLeaders
) -> DescribedTopic:
    reachable = unreachable.reachable
    return DescribedTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[
            DescribeTopicPartitionsResponse.Partition(
                error_code=ErrorCode.NONE
                if state.leader_id in reachable
                else unreachable.code(state.leader_id),
                partition_index=index,
                leader_id=state.leader_id if state.leader_id in reachable else NO_LEADER,
                leader_epoch=state.leader_epoch,
                replica_nodes=list(state.replicas),
                isr_nodes=list(state.isr),
                eligible_leader_replicas=[],
                last_known_elr=[],
                offline_replicas=list(state.offline_replicas),
            )
            for index, state in enumerate(topic.partitions[first:end], first)
        ],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _describe_topic_partitions_error(
    request: DescribeTopicPartitionsRequest, code: ErrorCode, text: str | None
) -> DescribeTopicPartitionsResponse:
    return DescribeTopicPartitionsResponse(
        topics=[DescribedTopic(error_code=code, name=topic.name) for topic in request.topics]
    )
