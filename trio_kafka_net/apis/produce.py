"""Produce.

Versions: Produce 3-13.
Behaviour:
    * the batches go from the request's memory to the file, uncopied; offsets are stamped in place
    * acks=1 answers after the append, acks=all after every replica in sync has it; with one
      replica that is the same moment
    * with flush.messages the answer waits for the disk, however long that takes
    * acks=0 answers nothing; if anything failed, the connection is closed so that the client
      notices
    * every refusal has a text, where Kafka has one for invalid records only; records without a key
      in a compacted topic are named one by one, at most 100
    * nobody but this broker writes to internal topics
    * a large request lets the event loop turn between partitions; the keys of a large or
      compressed batch in a compacted topic are looked for in a worker thread
    * transactional batches are refused with INVALID_TXN_STATE: there are no transactions here
    * of several things that are wrong, the answer names what Kafka finds first: the topic or
      partition, the batch as such, acks
Version notes:
    v3 record batch v2 (KIP-98) · v5 log start offset · v7 zstd (KIP-110) · v8 error texts (KIP-467)
    v10 current leader (KIP-951) · v12 transactions v2 (KIP-890) · v13 topic ids (KIP-516)
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs
import trio

from trio_kafka_net.broker.log.log_validator import check_keys
from trio_kafka_net.broker.log.pace import Pace
from trio_kafka_net.broker.log.unified_log import LogAppendInfo
from trio_kafka_net.broker.metadata_cache import INTERNAL_TOPICS
from trio_kafka_net.broker.partition import ACKS_ALL, Partition
from trio_kafka_net.errors import (
    CloseConnection,
    CorruptRecordError,
    InvalidRecordsError,
    KafkaError,
    StorageError,
)
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.produce import ProduceRequest, ProduceResponse
from trio_kafka_net.protocol.records import HEADER_BYTES, iter_batches, parse_header

from .context import NO_RESPONSE, RequestContext
from .produce_again import (
    ATTRIBUTES_AT,
    COMPRESSION_MASK,
    INLINE_BYTES,
    LOOKED_AT_BITS,
    SMALL_BYTES,
    TOPIC_IDS_SINCE,
    TRANSACTIONAL_BIT,
    ZSTD_SINCE,
    Outcome,
    ProduceShortcut,
)

if TYPE_CHECKING:
    from .registry import Answer, KafkaApis

log = logging.getLogger(__name__)

_ACKS = frozenset({ACKS_ALL, 0, 1})

_INLINE_RECORDS = 1000
"""Looked at without a checkpoint for their keys; about a millisecond."""
_COUNT = struct.Struct(">i")
_COUNT_AT = 57
_NO_RECORDS = memoryview(b"")

TopicData = ProduceRequest.TopicProduceData
PartitionData = ProduceRequest.PartitionProduceData
PartitionResponse = ProduceResponse.PartitionProduceResponse

_Begun = tuple["str | None", list[PartitionResponse]]
"""A topic's name, None if there is none with the id that was given; and where its answers go."""


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        produce,
        key=ProduceRequest.API_KEY,
        error_response=_produce_error,
        shortcut=ProduceShortcut(_go_on),
    )


def produce(ctx: RequestContext, request: ProduceRequest) -> Answer | Awaitable[Answer]:
    """Append to partitions, each for itself."""
    production = _Production(ctx, request)
    if ctx.is_large or len(ctx.request.payload) > INLINE_BYTES:
        return _append_slowly(production)
    for topic in request.topic_data:
        name, answers = production.begin(topic)
        for data in topic.partition_data:
            if production.append(answers, name, data) is not None:
                return _append_slowly(production)
    return _wait(production) if production.unfinished else production.answer()


def _go_on(
    partition: Partition, outcome: Outcome, ctx: RequestContext, request: ProduceRequest
) -> Answer | Awaitable[Answer]:
    """Answer a request for one partition to which the append is done; see ``produce_again``."""
    production = _Production(ctx, request)
    (topic,) = request.topic_data
    _, answers = production.begin(topic)
    answers.append(production.answer_to(partition, outcome))
    return _wait(production) if production.unfinished else production.answer()


async def _append_slowly(production: _Production) -> Answer:
    """Append with checkpoints in between, from where the answers end."""
    breaks = production.ctx.breaks()
    for number, topic in enumerate(production.request.topic_data):
        name, answers = production.resume(number) or production.begin(topic)
        for data in topic.partition_data[len(answers) :]:
            check = production.append(answers, name, data)
            if check is not None:
                await trio.to_thread.run_sync(check.run)
                production.append(answers, name, data, check)
            if breaks.is_due():
                await breaks.take()
        if breaks.is_due():
            await breaks.take()
    return await _wait(production)


async def _wait(production: _Production) -> Answer:
    if production.unfinished:
        await production.wait_until_safe()
    return production.answer()


@attrs.frozen
class _Unfinished:
    """An append that may not be acknowledged yet."""

    partition: Partition
    end_offset: int
    """Offset after the last record."""
    answer: PartitionResponse


@attrs.define(eq=False)
class _KeyCheck:
    """Whether all records of a batch have keys, if that may take long: for a worker thread."""

    partition: str
    records: memoryview
    failure: KafkaError | StorageError | None = None
    """Why the batch is refused."""

    def run(self) -> None:
        """Look at every record; blocks.

        What is wrong with the batch as such is left for the log to say.
        """
        pace = Pace()
        try:
            batches = list(iter_batches(self.records))
        except CorruptRecordError:
            return
        try:
            for batch in batches:
                check_keys(batch, self.partition, on_record=pace.record)
        except (KafkaError, StorageError) as error:
            self.failure = error

    def raise_failure(self) -> None:
        """Refuse the batch if it has to be; once.

        Raises:
            KafkaError, StorageError: why.
        """
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback keeps this frame, which must not keep it in turn


def _key_check(partition: Partition, records: memoryview) -> _KeyCheck | None:
    """What a compacted topic makes of a batch that is too large to look into at once."""
    if len(records) < HEADER_BYTES or not partition.log.config.compact:
        return None
    # What a compressed batch comes to is not known before; a few bytes may be many.
    if not records[ATTRIBUTES_AT] & COMPRESSION_MASK:
        (count,) = _COUNT.unpack_from(records, _COUNT_AT)
        if count <= _INLINE_RECORDS:
            return None
    return _KeyCheck(f"{partition.topic}-{partition.index}", records)


class _Production:
    """One Produce request on its way."""

    __slots__ = ("ctx", "has_failed", "request", "response", "unfinished")

    def __init__(self, ctx: RequestContext, request: ProduceRequest) -> None:
        self.ctx = ctx
        self.request = request
        self.response = ProduceResponse()
        self.has_failed = False
        self.unfinished: list[_Unfinished] = []

    def begin(self, topic: TopicData) -> _Begun:
        """Have a topic in the response."""
        answers: list[PartitionResponse] = []
        self.response.responses.append(
            ProduceResponse.TopicProduceResponse(
                name=topic.name, topic_id=topic.topic_id, partition_responses=answers
            )
        )
        return self._name(topic), answers

    def resume(self, number: int) -> _Begun | None:
        """What ``begin`` returned for a topic of the request; None if it has not begun."""
        if number >= len(self.response.responses):
            return None
        topic = self.request.topic_data[number]
        return self._name(topic), self.response.responses[number].partition_responses

    def _name(self, topic: TopicData) -> str | None:
        if self.ctx.request.api_version < TOPIC_IDS_SINCE:
            return topic.name
        known = self.ctx.broker.metadata.get_topic_by_id(topic.topic_id)
        return None if known is None else known.name

    def append(
        self,
        answers: list[PartitionResponse],
        name: str | None,
        data: PartitionData,
        check: _KeyCheck | None = None,
    ) -> _KeyCheck | None:
        """Append to one partition.

        Args:
            answers: gets the answer.
            name: of the topic; None if there is no topic with the id that was given.
            data: the partition and its batch.
            check: what this method asked for, done.

        Returns:
            None; or a check that is to run in a worker thread, before this is called again with
            it. Nothing was appended then.
        """
        acks = self.request.acks
        records = _NO_RECORDS if data.records is None else data.records
        size = len(records)
        try:
            if name is None or name in INTERNAL_TOPICS:
                name = self._checked_name(name)
            partition = self.ctx.broker.replicas.partition_or_raise(name, data.index)
            is_plain = size < HEADER_BYTES or not records[ATTRIBUTES_AT] & LOOKED_AT_BITS
            if not is_plain:
                self._check_attributes(records)
            if acks not in _ACKS:
                raise KafkaError(
                    ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {acks}, allowed are -1, 0 and 1"
                )
            if check is not None:
                check.raise_failure()
            elif size > SMALL_BYTES or not is_plain:
                check = _key_check(partition, records)
                if check is not None:
                    return check
            info = partition.append_records(records, required_acks=acks, has_keys=check is not None)
        except (KafkaError, StorageError) as error:
            answers.append(self._refusal(error, name, data.index))
        else:
            answers.append(self._success(info, partition))
        return None

    def answer_to(self, partition: Partition, outcome: Outcome) -> PartitionResponse:
        """The answer for a partition to which the append is done."""
        if isinstance(outcome, LogAppendInfo):
            return self._success(outcome, partition)
        return self._refusal(outcome, partition.topic, partition.index)

    def _success(self, info: LogAppendInfo, partition: Partition) -> PartitionResponse:
        answer = PartitionResponse(
            index=partition.index,
            base_offset=info.first_offset,
            log_append_time_ms=info.log_append_time_ms,
            log_start_offset=info.log_start_offset,
        )
        acks, end_offset = self.request.acks, info.last_offset + 1
        if acks and not partition.may_acknowledge(end_offset, required_acks=acks):
            self.unfinished.append(_Unfinished(partition, end_offset, answer))
        return answer

    def _refusal(
        self, error: KafkaError | StorageError, name: str | None, index: int
    ) -> PartitionResponse:
        answer = PartitionResponse(index=index, base_offset=-1)
        self._refuse(answer, error, name)
        return answer

    def _checked_name(self, name: str | None) -> str:
        if name is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        if self.ctx.broker.metadata.get_topic(name) is not None:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot append to internal topic {name}"
            )
        return name

    def _check_attributes(self, records: memoryview) -> None:
        try:
            attributes = parse_header(records).attributes
        except CorruptRecordError:
            return  # the log refuses it, and says why
        if attributes & TRANSACTIONAL_BIT:
            raise KafkaError(ErrorCode.INVALID_TXN_STATE, "transactions are not served here")
        codec = attributes & COMPRESSION_MASK
        if self.ctx.request.api_version < ZSTD_SINCE and codec == Compression.ZSTD:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
                f"zstd needs Produce version {ZSTD_SINCE}",
            )

    def _refuse(
        self, answer: PartitionResponse, error: KafkaError | StorageError, name: str | None
    ) -> None:
        self.has_failed = True
        code = error_code_of(error)
        answer.error_code = code
        answer.error_message = error.message if isinstance(error, KafkaError) else str(error)
        if isinstance(error, InvalidRecordsError):
            answer.record_errors = [
                ProduceResponse.BatchIndexAndErrorMessage(
                    batch_index=number, batch_index_error_message=text
                )
                for number, text in error.record_errors
            ]
        if code == ErrorCode.NOT_LEADER_OR_FOLLOWER and name is not None:
            self._name_leader(answer, name)

    def _name_leader(self, answer: PartitionResponse, name: str) -> None:
        """Tell the client where to go instead (KIP-951)."""
        leader = self.ctx.broker.leader(name, answer.index, self.ctx.listener_name)
        if leader is None:
            return
        answer.current_leader = ProduceResponse.LeaderIdAndEpoch(
            leader_id=leader.node_id, leader_epoch=leader.epoch
        )
        told = self.response.node_endpoints
        if leader.endpoint is not None and all(each.node_id != leader.node_id for each in told):
            told.append(
                ProduceResponse.NodeEndpoint(
                    node_id=leader.node_id, host=leader.endpoint.host, port=leader.endpoint.port
                )
            )

    async def wait_until_safe(self) -> None:
        """Wait until everything may be acknowledged.

        The client's timeout is about the other replicas. The disk takes the time that it takes,
        as it does in Kafka, for a record that is not flushed must not be acknowledged.
        """
        async with self.ctx.parked("Produce"):
            for each in self.unfinished:
                await self._or_refuse(each, self._flush)
            if self.request.acks != ACKS_ALL:
                return
            deadline = trio.current_time() + max(self.request.timeout_ms, 0) / 1000
            for each in self.unfinished:
                with trio.move_on_at(deadline) as waiting:
                    await self._or_refuse(each, self._wait_replicated)
                if waiting.cancelled_caught:
                    self._refuse_one(each, KafkaError(ErrorCode.REQUEST_TIMED_OUT))

    async def _or_refuse(
        self, unfinished: _Unfinished, step: Callable[[_Unfinished], Awaitable[None]]
    ) -> None:
        if unfinished.answer.error_code:
            return
        try:
            await step(unfinished)
        except (KafkaError, StorageError) as error:
            self._refuse_one(unfinished, error)

    def _refuse_one(self, unfinished: _Unfinished, error: KafkaError | StorageError) -> None:
        unfinished.answer.base_offset = -1
        self._refuse(unfinished.answer, error, unfinished.partition.topic)

    @staticmethod
    async def _flush(unfinished: _Unfinished) -> None:
        partition_log = unfinished.partition.log
        if partition_log.needs_flush:
            await trio.to_thread.run_sync(partition_log.flush, unfinished.end_offset)

    @staticmethod
    async def _wait_replicated(unfinished: _Unfinished) -> None:
        await unfinished.partition.wait_replicated(unfinished.end_offset)

    def answer(self) -> Answer:
        """The response, or none for acks=0.

        Raises:
            CloseConnection: acks=0 and something failed.

        Source: Kafka ``KafkaApis.handleProduceRequest``.
        """
        if self.request.acks:
            return self.response
        if self.has_failed:
            failed = next(
                partition
                for topic in self.response.responses
                for partition in topic.partition_responses
                if partition.error_code
            )
            name = ErrorCode(failed.error_code).name
            log.info(
                "%r: closing: acks=0 and partition %d failed: %s",
                self.ctx.request,
                failed.index,
                name,
            )
            raise CloseConnection(f"a Produce with acks=0 failed: {name}")
        return NO_RESPONSE


def _produce_error(request: ProduceRequest, code: ErrorCode, text: str | None) -> ProduceResponse:
    if request.acks == 0:
        raise CloseConnection(f"a Produce with acks=0 failed: {code.name}")
    return ProduceResponse(
        responses=[
            ProduceResponse.TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    PartitionResponse(
                        index=data.index, error_code=code, base_offset=-1, error_message=text
                    )
                    for data in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )
