"""Fetch.

Versions: Fetch 4-18.
Behaviour:
    * record bytes go from the segment file to the socket as they were produced, few of them
      in one piece with the rest of the answer, many by sendfile
    * waits until min_bytes are there or max_wait is over; set aside, without a task or a handler
    * the first batch of the first partition that has one is whole, however large; everything else
      keeps to the limits of partition and request, and may end in the middle of a batch, but never
      of its first
    * an error of any partition is answered at once; Kafka lets unknown topics wait with the others
    * a stop of the broker ends the wait: the answer is what is there
    * sessions (KIP-227) are declined: every answer has session id 0, which tells the client to go
      on with full requests, as a broker does whose session cache is full
    * replicas that fetch are refused with NOT_LEADER_OR_FOLLOWER: there are none here
Version notes:
    v5 log start offset · v7 sessions · v9 leader epoch fencing (KIP-320) · v11 rack: every replica
    is here · v12 diverging epochs (KIP-595) · v13 topic ids (KIP-516) · v15 replica state
    (KIP-903) · v16 current leader and its endpoint (KIP-951) · v17, v18 fields for replicas only
    before v6 KAFKA_STORAGE_ERROR is NOT_LEADER_OR_FOLLOWER, which those clients know
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.broker.topic_traffic import TopicTraffic
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.fetch import FetchRequest, FetchResponse

from .context import RequestContext
from .delayed_answer import DelayedAnswer

if TYPE_CHECKING:
    from .registry import KafkaApis

_TOPIC_IDS_SINCE = 13
_REPLICA_STATE_SINCE = 15
_CURRENT_LEADER_SINCE = 16
_STORAGE_ERROR_SINCE = 6
_READ_COMMITTED = 1
_FULL_FETCH_EPOCHS = frozenset({-1, 0})
"""Session epochs of a request that carries everything: without a session, or to begin one."""

_LEADER_ERRORS = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})

PartitionData = FetchResponse.PartitionData


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(fetch, key=FetchRequest.API_KEY, error_response=_fetch_error)


def fetch(ctx: RequestContext, request: FetchRequest) -> FetchResponse | DelayedFetch:
    """Read from partitions, at once if there is enough."""
    if request.session_epoch not in _FULL_FETCH_EPOCHS:
        # Nobody was given a session here; the client starts over with a full request.
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    reader = _Reader(ctx, request)
    response = reader.read()
    if reader.is_enough or request.max_wait_ms <= 0 or not reader.keys:
        reader.count_bytes_out()
        return response
    return DelayedFetch(ctx, reader, response)


class DelayedFetch(DelayedAnswer):
    """Waits for a partition to move, reads again, and answers if it is enough or time is over.

    Source: Kafka ``DelayedFetch`` (4.0).
    """

    __slots__ = ("_reader", "_response")

    reason = "Fetch"

    def __init__(self, ctx: RequestContext, reader: _Reader, response: FetchResponse) -> None:
        """Wait for more than ``reader`` has found, which is in ``response``."""
        super().__init__(ctx)
        self._reader = reader
        self._response = response

    def begin(self) -> None:
        """Wait for any partition that was read."""
        reader = self._reader
        deadline = trio.current_time() + reader.request.max_wait_ms / 1000
        self.ctx.broker.replicas.purgatory.add(self, reader.keys, deadline)

    def look(self) -> FetchResponse | None:
        """Read again; the answer if that is enough, or the time is over."""
        reader = self._reader
        response = self._response = reader.read()
        if not (reader.is_enough or self.is_due):
            return None
        reader.count_bytes_out()
        return response

    def end(self) -> None:
        """Wait for nothing."""
        self.ctx.broker.replicas.purgatory.discard(self)


@attrs.define(eq=False)
class _Reader:
    """Reads what a Fetch asks for, as often as it takes."""

    ctx: RequestContext
    request: FetchRequest
    keys: list[tuple[str, int]] = attrs.field(factory=list)
    """Partitions that more may come from."""
    is_enough: bool = False
    """Whether the last read is to be answered: enough bytes, or an error."""
    _response: FetchResponse = attrs.field(init=False)
    """What the last read gave."""
    _sent: list[tuple[TopicTraffic, int]] = attrs.field(factory=list)
    """Bytes that the last read gave, with the figures of their topics."""
    _bytes_left: int = 0
    _bytes_read: int = 0

    def read(self) -> FetchResponse:
        """Read every partition once, within the limits.

        Source: Kafka ``ReplicaManager.readFromLog`` (4.0).
        """
        self.keys = []
        self._sent = []
        self.is_enough = False
        ctx = self.ctx
        max_bytes = min(self.request.max_bytes, ctx.broker.config.fetch_max_bytes)
        if ctx.broker.quotas.is_enforced:
            most = ctx.broker.quotas.most_fetch_bytes(ctx.principal.name, ctx.client_id)
            max_bytes = int(min(max_bytes, most))
        self._bytes_left = max_bytes
        self._bytes_read = 0
        response = self._response = FetchResponse()
        for topic in self.request.topics:
            name = self._name_of(topic)
            response.responses.append(
                FetchResponse.FetchableTopicResponse(
                    topic=topic.topic,
                    topic_id=topic.topic_id,
                    partitions=[self._read_partition(name, asked) for asked in topic.partitions],
                )
            )
        if self._bytes_read >= min(self.request.min_bytes, max_bytes):
            self.is_enough = True
        return response

    def count_bytes_out(self) -> None:
        """Count what the last read gave: that is what the client gets."""
        for traffic, count in self._sent:
            traffic.bytes_out += count

    def _name_of(self, topic: FetchRequest.Topic) -> str | None:
        if self.ctx.api_version < _TOPIC_IDS_SINCE:
            return topic.topic
        known = self.ctx.broker.metadata.get_topic_by_id(topic.topic_id)
        return None if known is None else known.name

    def _read_partition(self, name: str | None, asked: FetchRequest.Partition) -> PartitionData:
        answer = PartitionData(
            partition_index=asked.partition,
            high_watermark=-1,
            aborted_transactions=[] if self.request.isolation_level == _READ_COMMITTED else None,
            records=b"",
        )
        try:
            partition = self._partition(name, asked)
            self._read_into(answer, partition, asked)
        except (KafkaError, StorageError) as error:
            self._refuse(answer, error_code_of(error), name)
            self.is_enough = True
        else:
            self.keys.append(partition.key)
        return answer

    def _refuse(self, answer: PartitionData, code: ErrorCode, name: str | None) -> None:
        version = self.ctx.api_version
        if code is ErrorCode.KAFKA_STORAGE_ERROR and version < _STORAGE_ERROR_SINCE:
            code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        answer.error_code = code
        answer.high_watermark = answer.last_stable_offset = answer.log_start_offset = -1
        answer.aborted_transactions = None
        if code in _LEADER_ERRORS and version >= _CURRENT_LEADER_SINCE and name is not None:
            self._name_leader(answer, name)

    def _name_leader(self, answer: PartitionData, name: str) -> None:
        """Tell the client where to go instead (KIP-951)."""
        leader = self.ctx.broker.leader(name, answer.partition_index, self.ctx.listener_name)
        if leader is None:
            return
        answer.current_leader = FetchResponse.LeaderIdAndEpoch(
            leader_id=leader.node_id, leader_epoch=leader.epoch
        )
        told = self._response.node_endpoints
        if leader.endpoint is not None and all(each.node_id != leader.node_id for each in told):
            told.append(
                FetchResponse.NodeEndpoint(
                    node_id=leader.node_id, host=leader.endpoint.host, port=leader.endpoint.port
                )
            )

    def _partition(self, name: str | None, asked: FetchRequest.Partition) -> Partition:
        if name is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        request = self.request
        replica_id = request.replica_id
        if self.ctx.api_version >= _REPLICA_STATE_SINCE:
            state = request.replica_state
            replica_id = -1 if state is None else state.replica_id
        if replica_id >= 0:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return self.ctx.broker.replicas.partition_or_raise(
            name, asked.partition, current_leader_epoch=asked.current_leader_epoch
        )

    def _read_into(
        self, answer: PartitionData, partition: Partition, asked: FetchRequest.Partition
    ) -> None:
        if self._has_diverged(answer, partition, asked):
            self.is_enough = True
        else:
            region = partition.read_records(
                asked.fetch_offset,
                max(0, min(asked.partition_max_bytes, self._bytes_left)),
                min_one_batch=not self._bytes_read,
            )
            if region is not None:
                answer.records = region
                self._sent.append((partition.traffic, region.count))
                self._bytes_read += region.count
                self._bytes_left -= region.count
                if asked.fetch_offset < partition.log.active_base_offset:
                    # A region ends with its segment; more is there, it only takes another request.
                    self.is_enough = True
        answer.high_watermark = answer.last_stable_offset = partition.high_watermark
        answer.log_start_offset = partition.log_start_offset

    @staticmethod
    def _has_diverged(
        answer: PartitionData, partition: Partition, asked: FetchRequest.Partition
    ) -> bool:
        """Whether the client read records that this log no longer has (KIP-595)."""
        if asked.last_fetched_epoch < 0:
            return False
        epoch, end_offset = partition.end_offset_for_epoch(asked.last_fetched_epoch)
        if epoch < 0 or end_offset < 0:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        if epoch >= asked.last_fetched_epoch and end_offset >= asked.fetch_offset:
            return False
        answer.diverging_epoch = FetchResponse.EpochEndOffset(epoch=epoch, end_offset=end_offset)
        return True


def _fetch_error(request: FetchRequest, code: ErrorCode, text: str | None) -> FetchResponse:
    # Version 4 to 6 have no top-level code: there the partitions carry it.
    return FetchResponse(
        error_code=code,
        responses=[
            FetchResponse.FetchableTopicResponse(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[
                    PartitionData(
                        partition_index=asked.partition,
                        error_code=code,
                        high_watermark=-1,
                        records=b"",
                    )
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )
