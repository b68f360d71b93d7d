"""DeleteRecords, DescribeProducers, OffsetForLeaderEpoch: a partition's log beside its records.

Versions: DeleteRecords 0-2, DescribeProducers 0-0, OffsetForLeaderEpoch 2-4.
Behaviour:
    * every partition of a request succeeds or fails for itself
    * records are deleted up to an offset, at most the high watermark (-1); what was deleted cannot
      be read from then on, its files go with the next check of retention
    * nobody deletes from internal topics, nor from topics that are compacted and nothing else
    * a partition named twice in DeleteRecords counts once, with the offset named last; in
      DescribeProducers it is described once, and a topic named twice as it is named last
    * with one replica nothing has to be waited for: DeleteRecords answers at once, whatever its
      timeout
    * the end of a leader epoch is told to consumers and to whoever says that it is a replica
    * without transactions no producer has one open, and no coordinator an epoch
Version notes:
    OffsetForLeaderEpoch v2 leader epoch of the client (KIP-320) · v3 replica id: unused
    DescribeProducers KIP-664 · DeleteRecords KIP-107
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_kafka_net.broker.log.producer_state import ProducerEntry
from trio_kafka_net.broker.metadata_cache import validate_topic_name
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsResponse,
)
from trio_kafka_net.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
)
from trio_kafka_net.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_NO_OFFSET = -1

DeletedPartition = DeleteRecordsResponse.PartitionResult
ProducersOfPartition = DescribeProducersResponse.PartitionResponse
EpochEndOffset = OffsetForLeaderEpochResponse.EpochEndOffset


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(delete_records, key=DeleteRecordsRequest.API_KEY, error_response=_delete_records_error)
    apis.add(
        describe_producers,
        key=DescribeProducersRequest.API_KEY,
        error_response=_describe_producers_error,
    )
    apis.add(
        offset_for_leader_epoch,
        key=OffsetForLeaderEpochRequest.API_KEY,
        error_response=_offset_for_leader_epoch_error,
    )


def delete_records(
    ctx: RequestContext, request: DeleteRecordsRequest
) -> Steps[DeleteRecordsResponse]:
    """Move the beginning of partitions forward, each for itself.

    Source: Kafka ``KafkaApis.handleDeleteRecordsRequest`` (4.1).
    """
    offsets: dict[tuple[str, int], int] = {}
    for topic in request.topics:
        for asked in topic.partitions:
            offsets[topic.name, asked.partition_index] = asked.offset
            yield
        yield
    results: dict[str, list[DeletedPartition]] = {}
    for (name, index), offset in offsets.items():
        results.setdefault(name, []).append(_delete_from(ctx, name, index, offset))
        yield
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsResponse.TopicResult(name=name, partitions=partitions)
            for name, partitions in results.items()
        ]
    )


def _delete_from(ctx: RequestContext, name: str, index: int, offset: int) -> DeletedPartition:
    answer = DeletedPartition(partition_index=index, low_watermark=_NO_OFFSET)
    try:
        topic = ctx.broker.metadata.get_topic(name)
        if topic is not None and topic.is_internal:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION)
        partition = ctx.broker.replicas.partition_or_raise(name, index)
        answer.low_watermark = partition.delete_records(offset)
    except (KafkaError, StorageError) as error:
        answer.error_code = error_code_of(error)
    return answer


def _delete_records_error(
    request: DeleteRecordsRequest, code: ErrorCode, text: str | None
) -> DeleteRecordsResponse:
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsResponse.TopicResult(
                name=topic.name,
                partitions=[
                    DeletedPartition(
                        partition_index=asked.partition_index,
                        low_watermark=_NO_OFFSET,
                        error_code=code,
                    )
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def describe_producers(
    ctx: RequestContext, request: DescribeProducersRequest
) -> Steps[DescribeProducersResponse]:
    """List the idempotent producers that partitions know.

    Source: Kafka ``KafkaApis.handleDescribeProducersRequest`` (4.1).
    """
    # A partition may know thousands of producers: naming it a thousand times must not pay.
    asked: dict[str, dict[int, None]] = {}
    for topic in request.topics:
        asked[topic.name] = dict.fromkeys(topic.partition_indexes)
        yield
    response = DescribeProducersResponse()
    for name, indexes in asked.items():
        described = DescribeProducersResponse.TopicResponse(name=name)
        response.topics.append(described)
        for index in indexes:
            described.partitions.append(_producers_of(ctx, name, index))
            yield
        yield
    return response


def _producers_of(ctx: RequestContext, name: str, index: int) -> ProducersOfPartition:
    answer = ProducersOfPartition(partition_index=index)
    try:
        validate_topic_name(name)
        if ctx.broker.metadata.get_topic(name) is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.",
            )
    except KafkaError as error:
        answer.error_code, answer.error_message = error_code_of(error), error.message
        return answer
    try:
        log = ctx.broker.replicas.partition_or_raise(name, index).log
    except KafkaError as error:
        answer.error_code = error_code_of(error)
    else:
        answer.active_producers = [_producer_state(entry) for entry in log.producers]
    return answer


def _producer_state(entry: ProducerEntry) -> DescribeProducersResponse.ProducerState:
    return DescribeProducersResponse.ProducerState(
        producer_id=entry.producer_id,
        producer_epoch=entry.epoch,
        last_sequence=entry.last_sequence,
        last_timestamp=entry.last_timestamp,
        coordinator_epoch=entry.coordinator_epoch,
        current_txn_start_offset=entry.current_txn_first_offset,
    )


def _describe_producers_error(
    request: DescribeProducersRequest, code: ErrorCode, text: str | None
) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            DescribeProducersResponse.TopicResponse(
                name=topic.name,
                partitions=[
                    ProducersOfPartition(partition_index=index, error_code=code, error_message=text)
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
    )


def offset_for_leader_epoch(
    ctx: RequestContext, request: OffsetForLeaderEpochRequest
) -> Steps[OffsetForLeaderEpochResponse]:
    """Tell where leader epochs ended, so that a reader notices that a log was cut.

    Source: Kafka ``ReplicaManager.lastOffsetForLeaderEpoch`` (4.1).
    """
    response = OffsetForLeaderEpochResponse()
    for topic in request.topics:
        answer = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(topic=topic.topic)
        response.topics.append(answer)
        for asked in topic.partitions:
            answer.partitions.append(_end_of_epoch(ctx, topic.topic, asked))
            yield
        yield
    return response


def _end_of_epoch(
    ctx: RequestContext, name: str, asked: OffsetForLeaderEpochRequest.OffsetForLeaderPartition
) -> EpochEndOffset:
    answer = EpochEndOffset(partition=asked.partition)
    try:
        partition = ctx.broker.replicas.partition_or_raise(
            name, asked.partition, current_leader_epoch=asked.current_leader_epoch
        )
    except KafkaError as error:
        answer.error_code = error_code_of(error)
    else:
        answer.leader_epoch, answer.end_offset = partition.end_offset_for_epoch(asked.leader_epoch)
    return answer


def _offset_for_leader_epoch_error(
    request: OffsetForLeaderEpochRequest, code: ErrorCode, text: str | None
) -> OffsetForLeaderEpochResponse:
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    EpochEndOffset(partition=asked.partition, error_code=code)
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
