"""OffsetCommit, OffsetFetch, OffsetDelete.

Versions: OffsetCommit 2-10, OffsetFetch 1-10, OffsetDelete 0-0.
Behaviour:
    * a commit is one batch of ``__consumer_offsets``: all of its offsets are there, or none; with
      flush.messages the answer waits for the disk
    * topics and partitions that do not exist fail for themselves; the rest fails or succeeds
      together, but for metadata that is too long
    * in an answer the refused partitions of a topic stand before the others, as Kafka puts them
    * group and offset may be anything, an empty group id and negative offsets included; only
      OffsetDelete asks for a group id
    * a partition without an offset, or that does not exist, has offset -1
    * there are no transactions: every offset is stable
    * a topic id stays with the offset that was committed by it; asked for by another id of a
      topic of the same name, there is none
Version notes:
    OffsetCommit v2-v4 say how long an offset is kept; a time beyond the 64-bit clock is its end,
    where Kafka's overflows · v6 leader epoch (KIP-320) · v7 static members (KIP-345) · v9 member
    epochs, and GROUP_ID_NOT_FOUND, which was ILLEGAL_GENERATION (KIP-848) · v10 topic ids
    OffsetFetch v2 all topics, and an error of the whole; v1 has it in every partition · v5 leader
    epoch · v7 require stable (KIP-447) · v8 several groups, each with its own error (KIP-709)
    v9 member epochs (KIP-848) · v10 topic ids
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from trio_kafka_net.broker.coordinator.group_records import (
    NO_EXPIRY,
    CommittedOffset,
    OffsetChange,
)
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.message import Struct
from trio_kafka_net.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from trio_kafka_net.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from trio_kafka_net.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from trio_kafka_net.protocol.primitives import ZERO_UUID

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_NO_OFFSET = -1
_NO_EPOCH = -1
_DEFAULT_RETENTION = -1
_INT64_MAX = 2**63 - 1
_TOPIC_IDS_SINCE = 10
_GROUP_ID_NOT_FOUND_SINCE = 9
_SEVERAL_GROUPS_SINCE = 8
_TOP_LEVEL_ERROR_SINCE = 2

CommitPartition = OffsetCommitResponse.Partition
CommitTopic = OffsetCommitResponse.Topic
DeleteTopic = OffsetDeleteResponse.Topic
Partition = OffsetFetchResponse.Partition
Partitions = OffsetFetchResponse.Partitions
Topics = OffsetFetchResponse.Topics

Committed = Mapping[str, Mapping[int, CommittedOffset]]
"""{topic: {partition: committed}}"""

_T = TypeVar("_T")
_Data = TypeVar("_Data", Partition, Partitions)
_Answer = TypeVar("_Answer", bound=Struct)


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(offset_commit, key=OffsetCommitRequest.API_KEY, error_response=_offset_commit_error)
    apis.add(offset_fetch, key=OffsetFetchRequest.API_KEY, error_response=_offset_fetch_error)
    apis.add(offset_delete, key=OffsetDeleteRequest.API_KEY)


# OffsetCommit


@attrs.frozen
class _Asked:
    """The partitions of one topic of a commit that exist."""

    topic: OffsetCommitRequest.Topic
    name: str
    partitions: list[OffsetCommitRequest.Partition]


def offset_commit(
    ctx: RequestContext, request: OffsetCommitRequest
) -> OffsetCommitResponse | Awaitable[OffsetCommitResponse]:
    """Commit the offsets of a group.

    Source: Kafka ``KafkaApis.handleOffsetCommitRequest``, ``OffsetMetadataManager.commitOffset``.
    """
    asked, refused = _existing(ctx, request)
    if not asked:
        return OffsetCommitResponse(topics=_merged(refused, []))
    try:
        answers = _commit(ctx, request, asked)
    except KafkaError as error:
        code = error_code_of(error)
        if code == ErrorCode.GROUP_ID_NOT_FOUND and ctx.api_version < _GROUP_ID_NOT_FOUND_SINCE:
            code = ErrorCode.ILLEGAL_GENERATION
        answers = [_commit_answer(each.topic, each.partitions, code) for each in asked]
        return OffsetCommitResponse(topics=_merged(refused, answers))
    response = OffsetCommitResponse(topics=_merged(refused, answers))
    if ctx.broker.offsets.needs_flush(request.group_id):
        return _when_flushed(ctx, request.group_id, "OffsetCommit", response)
    return response


def _existing(
    ctx: RequestContext, request: OffsetCommitRequest
) -> tuple[list[_Asked], list[CommitTopic]]:
    """What exists of a commit, and the answer to the rest of it."""
    metadata = ctx.broker.metadata
    by_id = ctx.api_version >= _TOPIC_IDS_SINCE
    asked = []
    refused = []
    for topic in request.topics:
        known = (
            metadata.get_topic_by_id(topic.topic_id) if by_id else metadata.get_topic(topic.name)
        )
        count = 0 if known is None else len(known.partitions)
        here = [each for each in topic.partitions if 0 <= each.partition_index < count]
        if known is not None and here:
            asked.append(_Asked(topic, known.name, here))
        if len(here) < len(topic.partitions):
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if by_id and known is None:
                code = ErrorCode.UNKNOWN_TOPIC_ID
            missing = [each for each in topic.partitions if not 0 <= each.partition_index < count]
            refused.append(_commit_answer(topic, missing, code))
    return asked, refused


def _commit(
    ctx: RequestContext, request: OffsetCommitRequest, asked: Sequence[_Asked]
) -> list[CommitTopic]:
    """Commit what exists, and answer for it.

    Raises:
        KafkaError: the group or the append; nothing was committed.
    """
    store, group_id = ctx.broker.offsets, request.group_id
    store.check_ready(group_id)
    ctx.broker.groups.check_commit(
        group_id,
        request.member_id,
        request.group_instance_id,
        request.generation_id_or_member_epoch,
    )
    now = ctx.broker.now_ms()
    expires = _expiry(now, request.retention_time_ms)
    longest = ctx.broker.config.offset_metadata_max_bytes
    offsets: list[OffsetChange] = []
    answers = []
    for each in asked:
        answer = CommitTopic(name=each.topic.name, topic_id=each.topic.topic_id)
        answers.append(answer)
        for partition in each.partitions:
            index, text = partition.partition_index, partition.committed_metadata or ""
            if _is_longer(text, longest):
                code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                answer.partitions.append(CommitPartition(partition_index=index, error_code=code))
                continue
            answer.partitions.append(CommitPartition(partition_index=index))
            committed = CommittedOffset(
                partition.committed_offset,
                partition.committed_leader_epoch,
                text,
                now,
                expires,
                each.topic.topic_id,
            )
            offsets.append(OffsetChange(group_id, each.name, index, committed))
    if offsets:
        store.commit(group_id, offsets)
    return answers


def _expiry(now_ms: int, retention_ms: int) -> int:
    if retention_ms == _DEFAULT_RETENTION:
        return NO_EXPIRY
    return min(now_ms + retention_ms, _INT64_MAX)


def _is_longer(text: str, limit: int) -> bool:
    """Whether a text has more UTF-16 units than that."""
    # Looked at closely only if the answer depends on how many characters take two units.
    return len(text) * 2 > limit and len(text.encode("utf-16-le")) > limit * 2


def _commit_answer(
    topic: OffsetCommitRequest.Topic,
    partitions: Iterable[OffsetCommitRequest.Partition],
    code: ErrorCode,
) -> CommitTopic:
    return CommitTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            CommitPartition(partition_index=each.partition_index, error_code=code)
            for each in partitions
        ],
    )


def _offset_commit_error(
    request: OffsetCommitRequest, code: ErrorCode, text: str | None
) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        topics=[_commit_answer(topic, topic.partitions, code) for topic in request.topics]
    )


async def _when_flushed(ctx: RequestContext, group_id: str, reason: str, answer: _T) -> _T:
    """Answer when what the group wrote is on the disk."""
    async with ctx.parked(reason):
        await ctx.broker.offsets.flush(group_id)
    return answer


def _merged(refused: list[_Answer], answers: list[_Answer]) -> list[_Answer]:
    """One list of topics, in which each is once if anything was refused.

    Source: Kafka ``OffsetCommitResponse.Builder``, ``OffsetDeleteResponse.Builder``.
    """
    if not refused:
        return answers
    # {name and id: answer}; OffsetDelete knows no ids
    topics: dict[tuple[str, bytes], Any] = {}
    for answer in [*refused, *answers]:
        named: Any = answer
        key = (named.name, getattr(named, "topic_id", ZERO_UUID))
        first = topics.setdefault(key, named)
        if first is not named:
            first.partitions += named.partitions
    return list(topics.values())


# OffsetFetch


def offset_fetch(ctx: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse:
    """Tell what groups have committed.

    Source: Kafka ``KafkaApis.handleOffsetFetchRequest``, ``OffsetMetadataManager.fetchOffsets``.
    """
    if ctx.api_version >= _SEVERAL_GROUPS_SINCE:
        return OffsetFetchResponse(groups=[_fetch_group(ctx, each) for each in request.groups])
    try:
        committed = _committed(ctx, request.group_id, None, _NO_EPOCH)
    except KafkaError as error:
        code = error_code_of(error)
        if ctx.api_version >= _TOP_LEVEL_ERROR_SINCE:
            return OffsetFetchResponse(error_code=code)
        return OffsetFetchResponse(topics=_failed_topics(request, code))
    asked: Iterable[tuple[str, Iterable[int]]] = (
        committed.items()
        if request.topics is None
        else [(topic.name, topic.partition_indexes) for topic in request.topics]
    )
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponse.Topic(
                name=name, partitions=_data(Partition, committed.get(name, {}), indexes)
            )
            for name, indexes in asked
        ]
    )


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


def _fetch_group(ctx: RequestContext, group: OffsetFetchRequest.Group) -> OffsetFetchResponse.Group:
    try:
        committed = _committed(ctx, group.group_id, group.member_id, group.member_epoch)
    except KafkaError as error:
        return OffsetFetchResponse.Group(group_id=group.group_id, error_code=error_code_of(error))
    if group.topics is None:
        topics = _all_topics(ctx, committed)
    elif ctx.api_version >= _TOPIC_IDS_SINCE:
        topics = _topics_by_id(ctx, committed, group.topics)
    else:
        topics = [
            Topics(
                name=topic.name,
                partitions=_data(
                    Partitions, committed.get(topic.name, {}), topic.partition_indexes
                ),
            )
            for topic in group.topics
        ]
    return OffsetFetchResponse.Group(group_id=group.group_id, topics=topics)


def _all_topics(ctx: RequestContext, committed: Committed) -> list[Topics]:
    topics = []
    for name, offsets in committed.items():
        known = ctx.broker.metadata.get_topic(name)
        # One that is just being deleted has no id any more.
        if known is not None:
            data = _data(Partitions, offsets, offsets)
            topics.append(Topics(name=name, topic_id=known.topic_id, partitions=data))
    return topics


def _topics_by_id(
    ctx: RequestContext, committed: Committed, asked: Iterable[OffsetFetchRequest.Topics]
) -> list[Topics]:
    """The topics with these ids; those that do not exist come last, as in Kafka."""
    topics = []
    unknown = []
    for topic in asked:
        known = ctx.broker.metadata.get_topic_by_id(topic.topic_id)
        if known is None:
            data = _failed(Partitions, topic.partition_indexes, ErrorCode.UNKNOWN_TOPIC_ID)
            unknown.append(Topics(topic_id=topic.topic_id, partitions=data))
        else:
            offsets = committed.get(known.name, {})
            data = _data(Partitions, offsets, topic.partition_indexes, known.topic_id)
            topics.append(Topics(topic_id=topic.topic_id, partitions=data))
    return topics + unknown


def _data(
    cls: type[_Data],
    offsets: Mapping[int, CommittedOffset],
    indexes: Iterable[int],
    topic_id: bytes = ZERO_UUID,
) -> list[_Data]:
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
    return data


def _failed(cls: type[_Data], indexes: Iterable[int], code: ErrorCode) -> list[_Data]:
    return [
        cls(partition_index=index, committed_offset=_NO_OFFSET, metadata="", error_code=code)
        for index in indexes
    ]


def _failed_topics(request: OffsetFetchRequest, code: ErrorCode) -> list[OffsetFetchResponse.Topic]:
    return [
        OffsetFetchResponse.Topic(
            name=topic.name, partitions=_failed(Partition, topic.partition_indexes, code)
        )
        for topic in request.topics or ()
    ]


def _offset_fetch_error(
    request: OffsetFetchRequest, code: ErrorCode, text: str | None
) -> OffsetFetchResponse:
    return OffsetFetchResponse(
        error_code=code,
        topics=_failed_topics(request, code),
        groups=[
            OffsetFetchResponse.Group(group_id=group.group_id, error_code=code)
            for group in request.groups
        ],
    )


# OffsetDelete


def offset_delete(
    ctx: RequestContext, request: OffsetDeleteRequest
) -> OffsetDeleteResponse | Awaitable[OffsetDeleteResponse]:
    """Remove offsets of a group, unless its members read the topic.

    Raises:
        KafkaError: the group's error; nothing was removed.

    Source: Kafka ``KafkaApis.handleOffsetDeleteRequest``, ``OffsetMetadataManager.deleteOffsets``.
    """
    store, group_id = ctx.broker.offsets, request.group_id
    if not group_id:
        raise KafkaError(ErrorCode.INVALID_GROUP_ID)
    store.check_ready(group_id)
    subscribed = ctx.broker.groups.subscribed_topics(group_id)
    answers: list[DeleteTopic] = []
    refused: list[DeleteTopic] = []
    removed: list[tuple[str, int]] = []
    for topic in request.topics:
        known = ctx.broker.metadata.get_topic(topic.name)
        count = 0 if known is None else len(known.partitions)
        indexes = [each.partition_index for each in topic.partitions]
        here = [index for index in indexes if 0 <= index < count]
        if len(here) < len(indexes):
            missing = [index for index in indexes if not 0 <= index < count]
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            refused.append(_delete_answer(topic.name, missing, code))
        if topic.name in subscribed:
            code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        else:
            code = ErrorCode.NONE
            removed += [(topic.name, index) for index in here]
        if here:
            answers.append(_delete_answer(topic.name, here, code))
    store.remove(group_id, removed)
    response = OffsetDeleteResponse(topics=_merged(refused, answers))
    if store.needs_flush(group_id):
        return _when_flushed(ctx, group_id, "OffsetDelete", response)
    return response


def _delete_answer(name: str, indexes: Iterable[int], code: ErrorCode) -> DeleteTopic:
    return DeleteTopic(
        name=name,
        partitions=[
            OffsetDeleteResponse.Partition(partition_index=index, error_code=code)
            for index in indexes
        ],
    )
