"""A Produce that says what the last one of its connection said, but for the records.

The usual small request has one batch for one partition, and but for the partition's number, the
batch and its length it is the same bytes each time. A connection remembers such a request as a
``ProduceHabit``: its bytes, what they mean, and its answer with gaps for the numbers. A request
with the same bytes around a batch needs no decoding and its answer no encoding: the batch goes
from the request to the partition, and six numbers into the answer.

What keeps that honest:

* Both are made by the codec. The bytes are what it writes for the decoded request without its
  batch, the answer is what it writes for an answer of minus ones, which are where the numbers go.
* A request is only known if every byte of it is: those before the partition's number, the length,
  which must lead to those behind the batch, and those.
* Nothing is remembered of topics and partitions but their names. They are looked up each time.
* Whatever is unusual is left to the handler of Produce: before the append by doing nothing, after
  it, if it failed or may not be acknowledged yet, by handing over what became of it.

A request is remembered when it comes for the fourth time in a row, because that costs as much as
decoding three. What comes in between costs a comparison.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trio_kafka_net.broker.log.unified_log import LogAppendInfo
from trio_kafka_net.broker.metadata_cache import INTERNAL_TOPICS
from trio_kafka_net.broker.partition import ACKS_ALL, Partition
from trio_kafka_net.errors import CloseConnection, FatalExitError, KafkaError, StorageError
from trio_kafka_net.protocol.codec import encode
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import encode_response
from trio_kafka_net.protocol.messages.produce import ProduceRequest, ProduceResponse
from trio_kafka_net.protocol.primitives import MalformedError, finish_uvarint
from trio_kafka_net.protocol.records import HEADER_BYTES

from .habits import Habits

if TYPE_CHECKING:
    from trio_kafka_net.broker.local_broker import LocalBroker

    from .dispatch import KafkaRequest
    from .registry import Answer, Handler

log = logging.getLogger(__name__)

INLINE_BYTES: Final = 2 * 1024 * 1024
"""Appended without a checkpoint; about a millisecond (benchmarks/log_append.py)."""
SMALL_BYTES: Final = 7_000
"""A batch that is not compressed has at most 1,000 records in so many bytes."""
ATTRIBUTES_AT: Final = 22
"""Of their two bytes the one that has all bits."""
COMPRESSION_MASK: Final = 0x07
TRANSACTIONAL_BIT: Final = 0x10
LOOKED_AT_BITS: Final = COMPRESSION_MASK | TRANSACTIONAL_BIT
ZSTD_SINCE: Final = 7
TOPIC_IDS_SINCE: Final = 13

TIMES: Final = 4
"""So many times in a row makes a habit."""

_FLEXIBLE_SINCE: Final = 9
_LOG_START_SINCE: Final = 5
_ACKS: Final = frozenset({ACKS_ALL, 1})
_LONGEST_HABIT: Final = 512
"""Bytes of a request beside its batch; they are kept as long as their connection."""
_NO_TAGS: Final = 3
"""Zero bytes behind the batch in a flexible version: partition, topic and request have no tags."""

Outcome = LogAppendInfo | KafkaError | StorageError
"""What became of an append."""

GoOn = Callable[[Partition, Outcome, Any, Any], "Answer"]
"""Answers a request whose append is done: (where, what became of it, context, request)."""


class ProduceHabit:
    """How a client produces: what its requests have in common, and their answers."""

    __slots__ = (
        "_after",
        "_answer_size",
        "_before",
        "_cut",
        "_head",
        "_pack",
        "_records_at",
        "_tail",
        "acks",
        "name",
        "topic_id",
        "version",
    )

    def __init__(self, request: ProduceRequest, version: int) -> None:
        """Remember a request for one partition."""
        (topic,) = request.topic_data
        self.version = version
        self.acks = request.acks
        self.name = topic.name
        self.topic_id = topic.topic_id
        self._learn_request(request, topic)
        self._learn_answer(topic)

    def _learn_request(
        self, request: ProduceRequest, topic: ProduceRequest.TopicProduceData
    ) -> None:
        no_batch = ProduceRequest.PartitionProduceData(index=0, records=None)
        empty = ProduceRequest(
            transactional_id=request.transactional_id,
            acks=request.acks,
            timeout_ms=request.timeout_ms,
            topic_data=[
                ProduceRequest.TopicProduceData(
                    name=topic.name, topic_id=topic.topic_id, partition_data=[no_batch]
                )
            ],
        )
        body = b"".join(encode(empty, self.version))
        # Behind ``before``: the number, four bytes; no batch, one byte and the tags or four bytes.
        is_flexible = self.version >= _FLEXIBLE_SINCE
        self._before = body[:-8]
        self._after = bytes(_NO_TAGS if is_flexible else 0)
        cut = struct.Struct(f">{len(self._before)}si{'B' if is_flexible else 'i'}")
        self._cut = cut.unpack_from
        self._records_at = cut.size

    def _learn_answer(self, topic: ProduceRequest.TopicProduceData) -> None:
        minus_ones = ProduceResponse.PartitionProduceResponse(
            index=-1, error_code=-1, base_offset=-1, log_append_time_ms=-1, log_start_offset=-1
        )
        response = ProduceResponse(
            responses=[
                ProduceResponse.TopicProduceResponse(
                    name=topic.name, topic_id=topic.topic_id, partition_responses=[minus_ones]
                )
            ]
        )
        payload = b"".join(encode_response(response, self.version, 0))
        numbers = "ihqqq" if self.version >= _LOG_START_SINCE else "ihqq"
        width = struct.calcsize(f">{numbers}")
        # Behind them there is hardly anything, and less than that of other minus ones.
        at = payload.rindex(b"\xff" * width)
        self._head, self._tail = payload[4:at], payload[at + width :]
        self._pack = struct.Struct(f">ii{len(self._head)}s{numbers}{len(self._tail)}s").pack
        self._answer_size = len(payload)

    def batch_of(self, payload: memoryview, position: int) -> tuple[int, memoryview] | None:
        """Partition number and batch of a request, if it is like those that are remembered.

        Args:
            payload: a request of the same version.
            position: where its body begins.
        """
        cut = self._cut
        try:
            before, index, length = cut(payload, position)
            if before != self._before:
                return None
            position += self._records_at
            if self._after:
                if length > 127:
                    length, position = finish_uvarint(payload, position, length)
                length -= 1
        except (struct.error, IndexError, MalformedError):
            return None
        stop = position + length
        if length < 0 or payload[stop:] != self._after or stop > len(payload):
            return None
        return index, payload[position:stop]

    def answer(self, correlation_id: int, index: int, info: LogAppendInfo) -> bytes:
        """The whole frame that tells of a successful append to a partition."""
        pack, size, head, tail = self._pack, self._answer_size, self._head, self._tail
        first, time_ms = info.first_offset, info.log_append_time_ms
        if self.version < _LOG_START_SINCE:
            return pack(size, correlation_id, head, index, 0, first, time_ms, tail)
        start = info.log_start_offset
        return pack(size, correlation_id, head, index, 0, first, time_ms, start, tail)


def _what_is_said(request: ProduceRequest, version: int) -> tuple[object, ...] | None:
    """What decides on the bytes of a request, but for number and batch; None if there are more."""
    if len(request.topic_data) != 1 or request.acks not in _ACKS:
        return None
    (topic,) = request.topic_data
    if len(topic.partition_data) != 1 or topic.name in INTERNAL_TOPICS:
        return None
    return (
        version,
        request.transactional_id,
        request.acks,
        request.timeout_ms,
        topic.name,
        topic.topic_id,
    )


def _batch_bytes(request: ProduceRequest) -> int:
    """Size of the only batch of a request."""
    return len(request.topic_data[0].partition_data[0].records or b"")


class ProduceShortcut:
    """Answers requests that their clients have the habit of making; see the top of this file."""

    def __init__(self, go_on: GoOn) -> None:
        """``go_on`` answers a request whose append did not end as it usually does."""
        self._go_on = go_on

    def learn(self, request: KafkaRequest) -> None:
        """Look at a request that was decoded; what is repeated often enough becomes a habit."""
        habits, message = request.connection.attachment, request.message
        assert isinstance(habits, Habits)
        assert isinstance(message, ProduceRequest)
        version = request.api_version
        said = _what_is_said(message, version)
        if said is None or len(request.payload) - _batch_bytes(message) > _LONGEST_HABIT:
            return
        if habits.produced != said:
            habits.produced, habits.times_produced = said, 0
        habits.times_produced += 1
        # More often means that it is known and unusual, or encoded as nobody does.
        if habits.times_produced == TIMES:
            habits.produce = ProduceHabit(message, version)

    def take(self, request: KafkaRequest, broker: LocalBroker) -> bytes | Handler | None:
        """Do what a request asks for, if its client has the habit of asking for it.

        Returns:
            The answer's frame; or what answers in place of the handler, the append being done; or
            None, nothing being done.
        """
        habits: Habits = request.connection.attachment
        habit = habits.produce
        if (
            habit is None
            or habit.version != request.api_version
            or len(request.payload) > INLINE_BYTES
        ):
            return None
        known = habit.batch_of(request.payload, request.body_position)
        if known is None:
            return None
        habits.produced = None
        index, records = known
        partition = _partition_for(habit, index, records, broker)
        if partition is None:
            return None
        try:
            info = partition.append_records(records, required_acks=habit.acks)
            if partition.may_acknowledge(info.last_offset + 1, required_acks=habit.acks):
                return habit.answer(request.correlation_id, index, info)
        except (KafkaError, StorageError) as error:
            return partial(self._go_on, partition, _without_frames(error))
        except (CloseConnection, FatalExitError, MemoryError):
            raise
        except Exception:
            log.exception("%r: its append failed", request)
            return partial(self._go_on, partition, KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR))
        return partial(self._go_on, partition, info)


def _without_frames(error: KafkaError | StorageError) -> KafkaError | StorageError:
    """An error that may be handed on: it leads to no frame, for those would lead back to it."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _partition_for(
    habit: ProduceHabit, index: int, records: memoryview, broker: LocalBroker
) -> Partition | None:
    """Where the records may be appended without a second look; None if they need one."""
    if len(records) < HEADER_BYTES:
        return None
    name = habit.name
    if habit.version >= TOPIC_IDS_SINCE:
        topic = broker.metadata.get_topic_by_id(habit.topic_id)
        if topic is None or topic.name in INTERNAL_TOPICS:
            return None
        name = topic.name
    try:
        partition = broker.replicas.partition_or_raise(name, index)
    except KafkaError:
        return None
    bits = records[ATTRIBUTES_AT] & LOOKED_AT_BITS
    if bits or len(records) > SMALL_BYTES:
        if bits & TRANSACTIONAL_BIT or (bits and habit.version < ZSTD_SINCE):
            return None
        if partition.log.config.compact:
            return None
    return partition
