"""ListOffsets.

Versions: ListOffsets 1-10.
Behaviour:
    * earliest, latest, the offset of the largest timestamp, and the first offset at or after a
      timestamp; a search that finds nothing answers offset -1 and timestamp -1
    * a partition named twice in a request is INVALID_REQUEST
    * without transactions read_committed sees what read_uncommitted sees
    * there is no tiered storage: earliest local is earliest, latest tiered and earliest pending
      upload are -1
Version notes:
    v2 isolation level · v4 leader epoch (KIP-320) · v7 largest timestamp (KIP-734)
    v8 earliest local (KIP-405) · v9 latest tiered (KIP-1005) · v10 timeout, for remote lookups
    v11, with ``unstable.api.versions.enable``, earliest pending upload (KIP-1023)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6

# {special timestamp: first version that may ask for it}
_SINCE = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}

_NEVER = 32767

_NOTHING = (-1, -1, -1)

PartitionResponse = ListOffsetsResponse.PartitionResponse


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(list_offsets, key=ListOffsetsRequest.API_KEY, error_response=_list_offsets_error)


def list_offsets(ctx: RequestContext, request: ListOffsetsRequest) -> Steps[ListOffsetsResponse]:
    """Find offsets by time, each for itself."""
    times: dict[tuple[str, int], int] = {}
    for topic in request.topics:
        for asked in topic.partitions:
            key = topic.name, asked.partition_index
            times[key] = times.get(key, 0) + 1
            yield
        yield
    response = ListOffsetsResponse()
    for topic in request.topics:
        answer = ListOffsetsResponse.TopicResponse(name=topic.name)
        response.topics.append(answer)
        for asked in topic.partitions:
            count = times[topic.name, asked.partition_index]
            answer.partitions.append(_list_one(ctx, topic.name, asked, count))
            yield
        yield
    return response


def _list_one(
    ctx: RequestContext, name: str, asked: ListOffsetsRequest.Partition, times: int
) -> PartitionResponse:
    answer = PartitionResponse(partition_index=asked.partition_index)
    try:
        if times > 1:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        if asked.timestamp < 0 and ctx.api_version < _SINCE.get(asked.timestamp, _NEVER):
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
        partition = ctx.broker.replicas.partition_or_raise(
            name, asked.partition_index, current_leader_epoch=asked.current_leader_epoch
        )
        answer.offset, answer.timestamp, answer.leader_epoch = _find(partition, asked.timestamp)
    except (KafkaError, StorageError) as error:
        answer.error_code = error_code_of(error)
    return answer


def _find(partition: Partition, timestamp: int) -> tuple[int, int, int]:
    """Offset, timestamp (ms since the epoch) and leader epoch; -1 where there is none.

    Source: Kafka ``Partition.fetchOffsetForTimestamp`` (4.0).
    """
    log = partition.log
    if timestamp == LATEST:
        return partition.high_watermark, -1, partition.leader_epoch
    if timestamp in {EARLIEST, EARLIEST_LOCAL}:
        return log.log_start_offset, -1, log.leader_epochs.epoch_at(log.log_start_offset)
    if timestamp in {LATEST_TIERED, EARLIEST_PENDING_UPLOAD}:
        return _NOTHING
    if timestamp == MAX_TIMESTAMP:
        found = partition.find_max_timestamp()
    else:
        found = partition.find_timestamp(timestamp)
    if found is None:
        return _NOTHING
    return found.offset, found.timestamp, found.leader_epoch


def _list_offsets_error(
    request: ListOffsetsRequest, code: ErrorCode, text: str | None
) -> ListOffsetsResponse:
    return ListOffsetsResponse(
        topics=[
            ListOffsetsResponse.TopicResponse(
                name=topic.name,
                partitions=[
                    PartitionResponse(partition_index=asked.partition_index, error_code=code)
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
