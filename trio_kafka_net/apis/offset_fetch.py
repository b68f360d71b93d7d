"""OffsetFetch.

Versions: OffsetFetch 1-9.
Behaviour:
    * a group that nobody knows has no offsets
    * a partition without an offset, or that does not exist, has offset -1
    * there are no transactions: every offset is stable
    * an offset that was committed by topic id is not told to who asks by the id of another topic
      of that name
Version notes:
    v2 all topics, and an error of the whole, which v1 has in every partition · v5 leader epoch
    v7 require stable (KIP-447) · v8 several groups, each with its own error (KIP-709)
    v9 member epochs (KIP-848) · v10 topic ids, with ``unstable.api.versions.enable``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from trio_kafka_net.broker.coordinator.group_records import CommittedOffset
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from trio_kafka_net.protocol.primitives import ZERO_UUID

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_NO_OFFSET = -1
_NO_EPOCH = -1
_TOP_LEVEL_ERROR_SINCE = 2
_SEVERAL_GROUPS_SINCE = 8
_TOPIC_IDS_SINCE = 10

Partition = OffsetFetchResponse.Partition
Partitions = OffsetFetchResponse.Partitions
Topics = OffsetFetchResponse.Topics

Committed = Mapping[str, Mapping[int, CommittedOffset]]
"""{topic: {partition: committed}}"""

_Data = TypeVar("_Data", Partition, Partitions)


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(offset_fetch, key=OffsetFetchRequest.API_KEY, error_response=_offset_fetch_error)


def offset_fetch(ctx: RequestContext, request: OffsetFetchRequest) -> Steps[OffsetFetchResponse]:
    """Tell what groups have committed.

    Source: Kafka ``KafkaApis.handleOffsetFetchRequest``, ``OffsetMetadataManager.fetchOffsets``.
    """
    if ctx.api_version >= _SEVERAL_GROUPS_SINCE:
        response = OffsetFetchResponse()
        for group in request.groups:
            response.groups.append((yield from _fetch_group(ctx, group)))
            yield
        return response
    try:
        committed = _committed(ctx, request.group_id, None, _NO_EPOCH)
    except KafkaError as error:
        code = error_code_of(error)
        if ctx.api_version >= _TOP_LEVEL_ERROR_SINCE:
            return OffsetFetchResponse(error_code=code)
        return OffsetFetchResponse(topics=(yield from _failed_topics(request, code)))
    asked: Iterable[tuple[str, Iterable[int]]] = (
        list(committed.items())
        if request.topics is None
        else [(topic.name, topic.partition_indexes) for topic in request.topics]
    )
    response = OffsetFetchResponse()
    for name, indexes in asked:
        data = yield from _data(Partition, committed.get(name, {}), indexes)
        response.topics.append(OffsetFetchResponse.Topic(name=name, partitions=data))
        yield
    return response


def _committed(
    ctx: RequestContext, group_id: str, member_id: str | None, member_epoch: int
) -> Committed:
    """What a group has committed, if who asks may know it.

    Raises:
        KafkaError: the group's error.
    """
    committed = ctx.broker.offsets.committed(group_id)
    ctx.broker.groups.check_fetch(group_id, member_id, member_epoch)
    return committed


def _fetch_group(
    ctx: RequestContext, group: OffsetFetchRequest.Group
) -> Steps[OffsetFetchResponse.Group]:
    try:
        committed = _committed(ctx, group.group_id, group.member_id, group.member_epoch)
    except KafkaError as error:
        return OffsetFetchResponse.Group(group_id=group.group_id, error_code=error_code_of(error))
    if group.topics is None:
        topics = yield from _all_topics(ctx, committed)
    elif ctx.api_version >= _TOPIC_IDS_SINCE:
        topics = yield from _topics_by_id(ctx, committed, group.topics)
    else:
        topics = []
        for topic in group.topics:
            offsets = committed.get(topic.name, {})
            data = yield from _data(Partitions, offsets, topic.partition_indexes)
            topics.append(Topics(name=topic.name, partitions=data))
            yield
    return OffsetFetchResponse.Group(group_id=group.group_id, topics=topics)


def _all_topics(ctx: RequestContext, committed: Committed) -> Steps[list[Topics]]:
    topics = []
    for name, offsets in list(committed.items()):
        known = ctx.broker.metadata.get_topic(name)
        # One that is just being deleted has no id any more.
        if known is not None:
            data = yield from _data(Partitions, offsets, list(offsets))
            topics.append(Topics(name=name, topic_id=known.topic_id, partitions=data))
    return topics


def _topics_by_id(
    ctx: RequestContext, committed: Committed, asked: Iterable[OffsetFetchRequest.Topics]
) -> Steps[list[Topics]]:
    """The topics with these ids; those that do not exist come last, as in Kafka."""
    topics = []
    unknown = []
    for topic in asked:
        known = ctx.broker.metadata.get_topic_by_id(topic.topic_id)
        if known is None:
            data = yield from _failed(
                Partitions, topic.partition_indexes, ErrorCode.UNKNOWN_TOPIC_ID
            )
            unknown.append(Topics(topic_id=topic.topic_id, partitions=data))
        else:
            offsets = committed.get(known.name, {})
            data = yield from _data(Partitions, offsets, topic.partition_indexes, known.topic_id)
            topics.append(Topics(topic_id=topic.topic_id, partitions=data))
        yield
    return topics + unknown


def _data(
    cls: type[_Data],
    offsets: Mapping[int, CommittedOffset],
    indexes: Iterable[int],
    topic_id: bytes = ZERO_UUID,
) -> Steps[list[_Data]]:
    """Offset after offset; with a topic id, without those of another topic of that name."""
    data = []
    for index in indexes:
        found = offsets.get(index)
        if found is None or (topic_id != ZERO_UUID and found.topic_id not in {ZERO_UUID, topic_id}):
            data.append(cls(partition_index=index, committed_offset=_NO_OFFSET, metadata=""))
        else:
            data.append(
                cls(
                    partition_index=index,
                    committed_offset=found.offset,
                    committed_leader_epoch=found.leader_epoch,
                    metadata=found.metadata,
                )
            )
        yield
    return data


def _failed(cls: type[_Data], indexes: Iterable[int], code: ErrorCode) -> Steps[list[_Data]]:
    data = []
    for index in indexes:
        data.append(
            cls(partition_index=index, committed_offset=_NO_OFFSET, metadata="", error_code=code)
        )
        yield
    return data


def _failed_topics(
    request: OffsetFetchRequest, code: ErrorCode
) -> Steps[list[OffsetFetchResponse.Topic]]:
    topics = []
    for topic in request.topics or ():
        data = yield from _failed(Partition, topic.partition_indexes, code)
        topics.append(OffsetFetchResponse.Topic(name=topic.name, partitions=data))
        yield
    return topics


def _offset_fetch_error(
    request: OffsetFetchRequest, code: ErrorCode, text: str | None
) -> Steps[OffsetFetchResponse]:
    return OffsetFetchResponse(
        error_code=code,
        topics=(yield from _failed_topics(request, code)),
        groups=[
            OffsetFetchResponse.Group(group_id=group.group_id, error_code=code)
            for group in request.groups
        ],
    )
