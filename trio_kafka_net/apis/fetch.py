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

from collections.abc import Awaitable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

import trio

from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.network.turn import Steps
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

_PARTITIONS_PER_STEP = 50
"""Answered before others may get a turn."""

PartitionData = FetchResponse.PartitionData


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(fetch, key=FetchRequest.API_KEY, error_response=_fetch_error)


def fetch(
    ctx: RequestContext, request: FetchRequest
) -> FetchResponse | DelayedFetch | Awaitable[FetchResponse]:
    """Read from partitions, at once if there is enough."""
    if request.session_epoch not in _FULL_FETCH_EPOCHS:
        # Nobody was given a session here; the client starts over with a full request.
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    reader = DelayedFetch(ctx, request)
    if ctx.is_large:
        return _fetch_in_turns(ctx, reader)
    reader.read(request.topics)
    if reader.is_enough or request.max_wait_ms <= 0 or not reader.found:
        return reader.answer()
    return reader


async def _fetch_in_turns(ctx: RequestContext, reader: DelayedFetch) -> FetchResponse:
    """The same for so many partitions that others get turns in between."""
    await ctx.in_turns(reader.read_in_steps())
    if reader.must_wait:
        return await reader.wait_in_turns()
    return await ctx.in_turns(reader.answer_in_steps())


_Found = tuple[
    Partition | None, FileRegion | None, "FetchResponse.EpochEndOffset | ErrorCode | None"
]
"""What a look at a partition found: who it is and records, if there are any, or what stands in the
way of them."""


class DelayedFetch(DelayedAnswer):
    """A Fetch: reads its partitions, waits for one to move if that is not enough, reads again.

    To look and to answer are two things. A look keeps what it found, a tuple for each partition;
    the objects of an answer are made when it is clear that there will be one.

    Source: Kafka ``ReplicaManager.fetchMessages`` and ``DelayedFetch`` (4.0).
    """

    __slots__ = (
        "_bytes_left",
        "_bytes_read",
        "_ends",
        "_moved",
        "_readable",
        "_request",
        "found",
        "is_enough",
    )

    reason = "Fetch"

    def __init__(self, ctx: RequestContext, request: FetchRequest) -> None:
        """Read nothing yet."""
        self.ctx = ctx
        self._request = request
        self.is_enough = False
        """Whether what was found is to be answered: enough bytes, or something else to tell."""
        self.found: list[_Found] = []
        """What the last look found, partition by partition."""
        self._bytes_left = self._bytes_read = 0
        # {key of a partition: where it ended}, if that may save another look; once for each, as in
        # Kafka, however often it is asked for
        self._ends: dict[Hashable, _End] | None = None
        self._moved: set[Hashable] = set()  # those among them that have moved since
        self._readable = 0

    # -- waiting ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Wait for any partition that was read."""
        self._note_ends()
        # Whoever waits has no errors among them.
        keys = [partition.key for partition, _, _ in self.found if partition is not None]
        deadline = trio.current_time() + self._request.max_wait_ms / 1000
        self.ctx.broker.replicas.purgatory.add(self, keys, deadline)
        # Consumers that wait must not keep the record away that they wait for.
        self.ctx.request.forget_payload()

    def look(self) -> FetchResponse | None:
        """Read again if something moved; the answer if that is enough, or the time is over.

        If nothing moved, which is what most consumers wait for, the first look still holds.
        """
        if self.is_told and (self.is_due or self._may_be_enough()):
            self.is_told = False
            self.read(self._request.topics)
            self._note_ends()
        return self.answer() if self.is_enough or self.is_due else None

    def notify(self, key: Hashable) -> None:
        """A partition has moved: the only one to look at, though there may be thousands."""
        if self._ends is not None:
            self._moved.add(key)
        super().notify(key)

    def end(self) -> None:
        """Wait for nothing, and keep no file open."""
        self.ctx.broker.replicas.purgatory.discard(self)
        self.found = []

    @property
    def must_wait(self) -> bool:
        """Whether what was found is not to be answered yet."""
        return not self.is_enough and self._request.max_wait_ms > 0 and len(self.found) > 0

    async def wait_in_turns(self) -> FetchResponse:
        """Wait for a large answer; what moved in the middle of a look is looked at again."""
        ctx = self.ctx
        async with ctx.parked(self.reason):
            told = trio.Event()
            self.wake = told.set
            # Distinct ones: as many as the broker has, however often each is named.
            keys = await ctx.in_turns(self._keys_in_steps())
            deadline = trio.current_time() + self._request.max_wait_ms / 1000
            ctx.broker.replicas.purgatory.add(self, keys, deadline)
            ctx.request.forget_payload()
            try:
                while True:
                    await ctx.in_turns(self.read_in_steps())
                    if self.is_enough or self.is_due:
                        return await ctx.in_turns(self.answer_in_steps())
                    may_be_enough = False
                    while not may_be_enough:
                        await told.wait()
                        told = trio.Event()
                        self.wake = told.set
                        may_be_enough = self.is_due or self._may_be_enough()
            finally:
                self.end()

    def _keys_in_steps(self) -> Steps[list[tuple[str, int]]]:
        keys: dict[tuple[str, int], None] = {}
        for partition, _, _ in self.found:
            if partition is not None:
                keys[partition.key] = None
            yield
        return list(keys)

    def _note_ends(self) -> None:
        """Remember where each partition ended, if that may save another look."""
        if self._request.min_bytes > 1 and not self.is_enough:
            found = iter(self.found)
            self._ends = {
                partition.key: _End(partition, asked, region)
                for topic in self._request.topics
                for asked, (partition, region, _) in zip(topic.partitions, found, strict=False)
                if partition is not None
            }
            self._readable = 0
            self._moved = set(self._ends)

    def _note_end(self, ends: dict[Hashable, _End], asked: FetchRequest.Partition) -> None:
        """Remember where the partition ended that was looked at last, and count what it had."""
        partition, region, _ = self.found[-1]
        if partition is None:
            return
        key = partition.key
        if key in ends:
            self._readable -= ends[key].counted
        end = ends[key] = _End(partition, asked, region)
        readable = end.readable_bytes()
        if readable is None:
            self._moved.add(key)  # only a read can tell
        else:
            end.counted = readable
            self._readable += readable

    def _may_be_enough(self) -> bool:
        """Whether another look may find enough, as far as can be said without reading."""
        if self._ends is None:
            return True
        for key in self._moved:
            end = self._ends[key]
            readable = end.readable_bytes()
            if readable is None:
                return True
            self._readable += readable - end.counted
            end.counted = readable
        self._moved.clear()
        return self._readable >= min(self._request.min_bytes, self._bytes_read + self._bytes_left)

    # -- looking ------------------------------------------------------------------------------

    def read_in_steps(self) -> Steps[None]:
        """The same as ``read`` and ``_note_ends`` for all topics, in steps.

        A partition may move as soon as it was looked at, so where it ended is noted there and then.
        """
        self.read(())
        self._ends = {} if self._request.min_bytes > 1 else None
        self._moved, self._readable = set(), 0
        for topic in self._request.topics:
            name = self._name_of(topic)
            for asked in topic.partitions:
                self._read_partition(name, asked)
                if self._ends is not None:
                    self._note_end(self._ends, asked)
                yield
            yield
        if self._bytes_read >= self._request.min_bytes or self._bytes_left <= 0:
            self.is_enough = True

    def read(self, topics: Iterable[FetchRequest.Topic]) -> None:
        """Look at every partition once, within the limits.

        Source: Kafka ``ReplicaManager.readFromLog`` (4.0).
        """
        ctx, request = self.ctx, self._request
        broker = ctx.broker
        max_bytes = min(request.max_bytes, broker.config.fetch_max_bytes)
        if broker.quotas.is_enforced:
            most = broker.quotas.most_fetch_bytes(ctx.principal.name, ctx.client_id)
            max_bytes = int(min(max_bytes, most))
        self._bytes_left = max_bytes
        self._bytes_read = 0
        self.found = []
        self.is_enough = False
        has_names = ctx.request.api_version < _TOPIC_IDS_SINCE
        for topic in topics:
            name = topic.topic if has_names else self._name_of(topic)
            for asked in topic.partitions:
                self._read_partition(name, asked)
        if self._bytes_read >= request.min_bytes or self._bytes_left <= 0:
            self.is_enough = True

    def _name_of(self, topic: FetchRequest.Topic) -> str | None:
        if self.ctx.api_version < _TOPIC_IDS_SINCE:
            return topic.topic
        known = self.ctx.broker.metadata.get_topic_by_id(topic.topic_id)
        return None if known is None else known.name

    def _read_partition(self, name: str | None, asked: FetchRequest.Partition) -> None:
        try:
            partition = self._partition(name, asked)
            if asked.last_fetched_epoch >= 0:
                diverging = _diverging_epoch(partition, asked)
                if diverging is not None:
                    self.found.append((partition, None, diverging))
                    self.is_enough = True
                    return
            bytes_read, max_bytes = self._bytes_read, asked.partition_max_bytes
            if max_bytes > self._bytes_left:
                max_bytes = self._bytes_left
            region = partition.read_records(
                asked.fetch_offset, max(max_bytes, 0), min_one_batch=not bytes_read
            )
        except (KafkaError, StorageError) as error:
            self.found.append((None, None, error_code_of(error)))
            self.is_enough = True
            return
        self.found.append((partition, region, None))
        if region is not None:
            self._bytes_read = bytes_read + region.count
            self._bytes_left -= region.count
            if asked.fetch_offset < partition.log.active_base_offset:
                # A region ends with its segment; more is there, it only takes another request.
                self.is_enough = True

    def _partition(self, name: str | None, asked: FetchRequest.Partition) -> Partition:
        if name is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        ctx, request = self.ctx, self._request
        replica_id = request.replica_id
        if ctx.request.api_version >= _REPLICA_STATE_SINCE:
            state = request.replica_state
            replica_id = -1 if state is None else state.replica_id
        if replica_id >= 0:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return ctx.broker.replicas.partition_or_raise(
            name, asked.partition, current_leader_epoch=asked.current_leader_epoch
        )

    # -- answering ----------------------------------------------------------------------------

    def answer(self) -> FetchResponse:
        """What the last look found, which now counts as given to the client."""
        response = FetchResponse()
        found = iter(self.found)
        for topic in self._request.topics:
            answers: list[PartitionData] = []
            self._answer_into(answers, response, topic, topic.partitions, found)
            response.responses.append(
                FetchResponse.FetchableTopicResponse(
                    topic=topic.topic, topic_id=topic.topic_id, partitions=answers
                )
            )
        return response

    def answer_in_steps(self) -> Steps[FetchResponse]:
        """The same as ``answer``, in steps."""
        response = FetchResponse()
        found = iter(self.found)
        for topic in self._request.topics:
            answers: list[PartitionData] = []
            for first in range(0, len(topic.partitions), _PARTITIONS_PER_STEP):
                some = topic.partitions[first : first + _PARTITIONS_PER_STEP]
                self._answer_into(answers, response, topic, some, found)
                yield
            response.responses.append(
                FetchResponse.FetchableTopicResponse(
                    topic=topic.topic, topic_id=topic.topic_id, partitions=answers
                )
            )
            yield
        return response

    def _answer_into(
        self,
        answers: list[PartitionData],
        response: FetchResponse,
        topic: FetchRequest.Topic,
        partitions: Iterable[FetchRequest.Partition],
        found: Iterator[_Found],
    ) -> None:
        aborted = self._request.isolation_level == _READ_COMMITTED
        for asked in partitions:
            partition, region, other = next(found)
            if partition is None:
                assert isinstance(other, ErrorCode)
                answers.append(self._refused(response, topic, asked.partition, other))
                continue
            assert not isinstance(other, ErrorCode)
            log = partition.log
            high_watermark = log.high_watermark
            if region is not None:
                partition.traffic.bytes_out += region.count
            answers.append(
                PartitionData(
                    partition_index=asked.partition,
                    high_watermark=high_watermark,
                    last_stable_offset=high_watermark,
                    log_start_offset=log.log_start_offset,
                    diverging_epoch=other,
                    aborted_transactions=[] if aborted else None,
                    records=b"" if region is None else region,
                )
            )

    def _refused(
        self, response: FetchResponse, topic: FetchRequest.Topic, index: int, code: ErrorCode
    ) -> PartitionData:
        version = self.ctx.api_version
        if code is ErrorCode.KAFKA_STORAGE_ERROR and version < _STORAGE_ERROR_SINCE:
            code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        answer = PartitionData(
            partition_index=index,
            error_code=code,
            high_watermark=-1,
            aborted_transactions=None,
            records=b"",
        )
        if code in _LEADER_ERRORS and version >= _CURRENT_LEADER_SINCE:
            name = self._name_of(topic)
            if name is not None:
                self._name_leader(response, answer, name)
        return answer

    def _name_leader(self, response: FetchResponse, answer: PartitionData, name: str) -> None:
        """Tell the client where to go instead (KIP-951)."""
        leader = self.ctx.broker.leader(name, answer.partition_index, self.ctx.listener_name)
        if leader is None:
            return
        answer.current_leader = FetchResponse.LeaderIdAndEpoch(
            leader_id=leader.node_id, leader_epoch=leader.epoch
        )
        told = response.node_endpoints
        if leader.endpoint is not None and all(each.node_id != leader.node_id for each in told):
            told.append(
                FetchResponse.NodeEndpoint(
                    node_id=leader.node_id, host=leader.endpoint.host, port=leader.endpoint.port
                )
            )


class _End:
    """Where a partition ended when it was read, and what is there since, without a read.

    Source: Kafka ``DelayedFetch.tryComplete`` (4.0).
    """

    __slots__ = (
        "_active_base_offset",
        "_asked",
        "_epoch",
        "_log",
        "_partition",
        "_start",
        "counted",
    )

    def __init__(
        self, partition: Partition, asked: FetchRequest.Partition, region: FileRegion | None
    ) -> None:
        self._partition = partition
        self._asked = asked
        self._epoch = partition.leader_epoch
        self._log = log = partition.log
        self._active_base_offset = log.active_base_offset
        self._start = log.active_size if region is None else region.position
        self.counted = 0
        """What was there of it when that was last asked."""

    def readable_bytes(self) -> int | None:
        """How many bytes a read may find; None if only a read can tell, or tells something else."""
        partition, log, asked = self._partition, self._log, self._asked
        if (
            not partition.is_leader
            or partition.is_offline
            or partition.leader_epoch != self._epoch
            or log.active_base_offset != self._active_base_offset
            or log.log_start_offset > asked.fetch_offset
            or log.high_watermark != log.log_end_offset
        ):
            return None
        return min(log.active_size - self._start, asked.partition_max_bytes)


def _diverging_epoch(
    partition: Partition, asked: FetchRequest.Partition
) -> FetchResponse.EpochEndOffset | None:
    """Where this log left what the client read, if it has not all of that any more (KIP-595)."""
    epoch, end_offset = partition.end_offset_for_epoch(asked.last_fetched_epoch)
    if epoch < 0 or end_offset < 0:
        raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
    if epoch >= asked.last_fetched_epoch and end_offset >= asked.fetch_offset:
        return None
    return FetchResponse.EpochEndOffset(epoch=epoch, end_offset=end_offset)


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
