"""OffsetCommit, OffsetDelete.

Versions: OffsetCommit 2-9, OffsetDelete 0-0.
Behaviour:
    * a commit is one batch of ``__consumer_offsets``: all of its offsets are there, or none; with
      flush.messages the answer waits for the disk
    * topics and partitions that do not exist fail for themselves; the rest fails or succeeds
      together, but for metadata that is too long
    * in an answer the refused partitions of a topic stand before the others, as Kafka puts them
    * a commit of more than 500 partitions is encoded in a worker thread
    * group and offset may be anything, an empty group id and negative offsets included; only
      OffsetDelete asks for a group id
Version notes:
    OffsetCommit v2-v4 say how long an offset is kept; a time beyond the 64-bit clock is its end,
    where Kafka's overflows · v6 leader epoch (KIP-320) · v7 static members (KIP-345) · v9 member
    epochs, and GROUP_ID_NOT_FOUND, which was ILLEGAL_GENERATION (KIP-848) · v10 topic ids, which
    stay with the offset; with ``unstable.api.versions.enable``
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from trio_kafka_net.broker.coordinator.group_records import (
    NO_EXPIRY,
    CommittedOffset,
    OffsetChange,
)
from trio_kafka_net.broker.metadata_cache import TopicMetadata
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps, finish
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.message import Struct
from trio_kafka_net.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from trio_kafka_net.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from trio_kafka_net.protocol.primitives import ZERO_UUID

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_DEFAULT_RETENTION = -1
_INT64_MAX = 2**63 - 1
_TOPIC_IDS_SINCE = 10
_GROUP_ID_NOT_FOUND_SINCE = 9
_PARTITIONS_PER_STEP = 100
"""Looked up before others may get a turn."""
_MANY = 500
"""Partitions above which a commit is encoded in a worker thread; about 5 ms of work
(benchmarks/offsets.py)."""

CommitPartition = OffsetCommitResponse.Partition
CommitTopic = OffsetCommitResponse.Topic
DeleteTopic = OffsetDeleteResponse.Topic

_T = TypeVar("_T")
_Answer = TypeVar("_Answer", bound=Struct)


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(offset_commit, key=OffsetCommitRequest.API_KEY, error_response=_offset_commit_error)
    apis.add(offset_delete, key=OffsetDeleteRequest.API_KEY)


# OffsetCommit


@attrs.frozen
class _Asked:
    """The partitions of one topic of a commit that exist."""

    asked: OffsetCommitRequest.Topic
    topic: TopicMetadata
    partitions: list[OffsetCommitRequest.Partition]


def offset_commit(
    ctx: RequestContext, request: OffsetCommitRequest
) -> OffsetCommitResponse | Awaitable[OffsetCommitResponse]:
    """Commit the offsets of a group.

    Source: Kafka ``KafkaApis.handleOffsetCommitRequest``, ``OffsetMetadataManager.commitOffset``.
    """
    if ctx.is_large:
        return _commit_in_turns(ctx, request)
    asked, refused = _existing(ctx, request.topics)
    if not asked:
        return OffsetCommitResponse(topics=_merged(refused, []))
    commit = _Commit(ctx, request, asked, refused)
    if sum(len(each.partitions) for each in asked) > _MANY:
        return commit.run_many()
    return commit.run()


async def _commit_in_turns(
    ctx: RequestContext, request: OffsetCommitRequest
) -> OffsetCommitResponse:
    """The same for so many partitions that others get turns in between."""
    asked, refused = await ctx.in_turns(_existing_in_steps(ctx, request.topics))
    if not asked:
        return OffsetCommitResponse(topics=_merged(refused, []))
    return await _Commit(ctx, request, asked, refused).run_many()


def _existing_in_steps(
    ctx: RequestContext, topics: Iterable[OffsetCommitRequest.Topic]
) -> Steps[tuple[list[_Asked], list[CommitTopic]]]:
    asked: list[_Asked] = []
    refused: list[CommitTopic] = []
    for topic in topics:
        here: list[_Asked] = []
        missing: list[CommitTopic] = []
        for first in range(0, len(topic.partitions) or 1, _PARTITIONS_PER_STEP):
            part = OffsetCommitRequest.Topic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=topic.partitions[first : first + _PARTITIONS_PER_STEP],
            )
            some_asked, some_refused = _existing(ctx, [part])
            if here and some_asked and here[0].topic is some_asked[0].topic:
                here[0].partitions.extend(some_asked[0].partitions)
            else:
                here += some_asked
            if missing and some_refused:
                missing[0].partitions += some_refused[0].partitions
            else:
                missing += some_refused
            yield
        asked += here
        refused += missing
    return asked, refused


def _existing(
    ctx: RequestContext, topics: Iterable[OffsetCommitRequest.Topic]
) -> tuple[list[_Asked], list[CommitTopic]]:
    """What exists of a commit, and the answer to the rest of it."""
    metadata = ctx.broker.metadata
    by_id = ctx.api_version >= _TOPIC_IDS_SINCE
    asked = []
    refused = []
    for topic in topics:
        known = (
            metadata.get_topic_by_id(topic.topic_id) if by_id else metadata.get_topic(topic.name)
        )
        count = 0 if known is None else len(known.partitions)
        here = [each for each in topic.partitions if 0 <= each.partition_index < count]
        if known is not None and here:
            asked.append(_Asked(topic, known, here))
        if len(here) < len(topic.partitions):
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if by_id and known is None:
                code = ErrorCode.UNKNOWN_TOPIC_ID
            missing = [each for each in topic.partitions if not 0 <= each.partition_index < count]
            refused.append(_commit_answer(topic, missing, code))
    return asked, refused


@attrs.frozen
class _Commit:
    """The commit of what exists."""

    ctx: RequestContext
    request: OffsetCommitRequest
    asked: list[_Asked]
    refused: list[CommitTopic]
    """The answer to what does not."""

    def run(self) -> OffsetCommitResponse | Awaitable[OffsetCommitResponse]:
        """Commit without a checkpoint, unless the disk is to be waited for."""
        try:
            self._check()
            offsets, answers = finish(self._prepare())
            if offsets:
                self.ctx.broker.offsets.commit(self.request.group_id, offsets)
        except KafkaError as error:
            return self._refuse(error)
        response = OffsetCommitResponse(topics=_merged(self.refused, answers))
        if self.ctx.broker.offsets.needs_flush(self.request.group_id):
            return _when_flushed(self.ctx, self.request.group_id, "OffsetCommit", response)
        return response

    async def run_many(self) -> OffsetCommitResponse:
        """Commit so much that others would have to wait."""
        store, group_id = self.ctx.broker.offsets, self.request.group_id
        try:
            self._check()
            offsets, answers = await self.ctx.in_turns(self._prepare())
            if offsets:
                await store.commit_many(group_id, offsets, self._check)
        except KafkaError as error:
            return self._refuse(error)
        response = OffsetCommitResponse(topics=_merged(self.refused, answers))
        if store.needs_flush(group_id):
            return await _when_flushed(self.ctx, group_id, "OffsetCommit", response)
        return response

    def _check(self) -> None:
        """Whether the group may commit to these topics, now.

        Raises:
            KafkaError: it may not.
        """
        request, broker = self.request, self.ctx.broker
        broker.offsets.check_ready(request.group_id)
        broker.groups.check_commit(
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
        )
        for each in self.asked:
            if broker.metadata.get_topic(each.topic.name) is not each.topic:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "it was deleted meanwhile")

    def _prepare(self) -> Steps[tuple[list[OffsetChange], list[CommitTopic]]]:
        """What is to be committed, and the answer if that succeeds."""
        group_id, broker = self.request.group_id, self.ctx.broker
        now = broker.now_ms()
        expires = _expiry(now, self.request.retention_time_ms)
        longest = broker.config.offset_metadata_max_bytes
        offsets: list[OffsetChange] = []
        answers = []
        for each in self.asked:
            topic_id = each.asked.topic_id
            results: list[CommitPartition] = []
            for partition in each.partitions:
                index, text = partition.partition_index, partition.committed_metadata or ""
                if _is_longer(text, longest):
                    code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                    results.append(CommitPartition(partition_index=index, error_code=code))
                    continue
                results.append(CommitPartition(partition_index=index))
                committed = CommittedOffset(
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    text,
                    now,
                    expires,
                    topic_id,
                )
                offsets.append(OffsetChange(group_id, each.topic.name, index, committed))
                yield
            answers.append(CommitTopic(name=each.asked.name, topic_id=topic_id, partitions=results))
        return offsets, answers

    def _refuse(self, error: KafkaError) -> OffsetCommitResponse:
        code = error_code_of(error)
        if (
            code == ErrorCode.GROUP_ID_NOT_FOUND
            and self.ctx.api_version < _GROUP_ID_NOT_FOUND_SINCE
        ):
            code = ErrorCode.ILLEGAL_GENERATION
        answers = [_commit_answer(each.asked, each.partitions, code) for each in self.asked]
        return OffsetCommitResponse(topics=_merged(self.refused, answers))


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
    is_subscribed = _subscription(ctx, group_id)
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
        if is_subscribed(topic.name):
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


def _subscription(ctx: RequestContext, group_id: str) -> Callable[[str], bool]:
    """Tells whether members of a group read a topic.

    Raises:
        KafkaError: the group's error.
    """
    try:
        return ctx.broker.groups.subscribed_topics(group_id).__contains__
    except KafkaError as error:
        if error.code != ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC:
            raise
        # They do not say what they read, so it may be anything.
        return lambda topic: True


def _delete_answer(name: str, indexes: Iterable[int], code: ErrorCode) -> DeleteTopic:
    return DeleteTopic(
        name=name,
        partitions=[
            OffsetDeleteResponse.Partition(partition_index=index, error_code=code)
            for index in indexes
        ],
    )
