"""Produce.

Versions: 3-13.
Behaviour:
    * the batches go from the request's memory to the file, uncopied; offsets are stamped in place
    * acks=1 answers after the append, acks=all after every replica in sync has it; with one
      replica that is the same moment
    * acks=0 answers nothing; if anything failed, the connection is closed so that the client
      notices
    * a large request lets the event loop turn between partitions
    * transactional batches are refused with INVALID_TXN_STATE: there are no transactions here
Version notes:
    v3 record batch v2 (KIP-98) · v5 log start offset · v7 zstd (KIP-110) · v8 error texts (KIP-467)
    v10 current leader (KIP-951) · v12 transactions v2 (KIP-890) · v13 topic ids (KIP-516)
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

import attrs
import trio

from trio_kafka_net.errors import CloseConnection, KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.produce import ProduceRequest, ProduceResponse

from .context import NO_RESPONSE, RequestContext

if TYPE_CHECKING:
    from trio_kafka_net.broker.partition import Partition

    from .registry import Answer, KafkaApis

_ZSTD_SINCE = 7
_TOPIC_IDS_SINCE = 13
_ALL = -1

_INLINE_BYTES = 2 * 1024 * 1024
"""Appended without a checkpoint; some 3 ms at worst (benchmarks/log_append.py)."""

PartitionData = ProduceRequest.PartitionProduceData
PartitionResponse = ProduceResponse.PartitionProduceResponse


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(produce, key=ProduceRequest.API_KEY, error_response=_produce_error)


def produce(ctx: RequestContext, request: ProduceRequest) -> Answer | Awaitable[Answer]:
    """Append to partitions, each for itself."""
    if request.acks not in (_ALL, 0, 1):
        raise KafkaError(
            ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {request.acks}, allowed are -1, 0 and 1"
        )
    production = _Production(ctx, request)
    steps = production.append()
    if len(ctx.request.payload) > _INLINE_BYTES:
        return _produce_large(production, steps)
    for _ in steps:
        pass
    if production.unfinished:
        return _produce_and_wait(production)
    return production.answer()


async def _produce_large(production: _Production, steps: Iterator[None]) -> Answer:
    for _ in steps:
        await trio.lowlevel.checkpoint()
    return await _produce_and_wait(production)


async def _produce_and_wait(production: _Production) -> Answer:
    if production.unfinished:
        await production.wait_until_replicated()
    return production.answer()


@attrs.define(eq=False)
class _Production:
    """One Produce request on its way."""

    ctx: RequestContext
    request: ProduceRequest
    response: ProduceResponse = attrs.field(factory=ProduceResponse)
    has_failed: bool = False
    unfinished: list[tuple[Partition, int, PartitionResponse]] = attrs.field(factory=list)
    """Appends that are not on every replica yet: partition, offset after the last record, answer."""

    def append(self) -> Iterator[None]:
        """Append to one partition after the other; may be paused after each."""
        by_id = self.ctx.api_version >= _TOPIC_IDS_SINCE
        for topic in self.request.topic_data:
            answer = ProduceResponse.TopicProduceResponse(name=topic.name, topic_id=topic.topic_id)
            self.response.responses.append(answer)
            name: str | None = topic.name
            if by_id:
                known = self.ctx.broker.metadata.topic_by_id(topic.topic_id)
                name = None if known is None else known.name
            for data in topic.partition_data:
                answer.partition_responses.append(self._append_to(name, data))
                yield

    def _append_to(self, name: str | None, data: PartitionData) -> PartitionResponse:
        answer = PartitionResponse(index=data.index, base_offset=-1)
        try:
            partition = self._partition(name, data.index)
            info = partition.append_records(self._batch(data), required_acks=self.request.acks)
        except (KafkaError, StorageError) as error:
            self._refuse(answer, error, name)
            return answer
        answer.base_offset = info.first_offset
        answer.log_append_time_ms = info.log_append_time_ms
        answer.log_start_offset = info.log_start_offset
        if self.request.acks == _ALL and not partition.is_acknowledged(info.last_offset):
            self.unfinished.append((partition, info.last_offset, answer))
        elif self.request.acks and partition.log.needs_flush:
            self.unfinished.append((partition, info.last_offset, answer))
        return answer

    def _partition(self, name: str | None, index: int) -> Partition:
        if name is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        return self.ctx.broker.replicas.partition_or_raise(name, index)
