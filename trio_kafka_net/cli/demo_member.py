"""A consumer of a classic group, for the demonstration: joins, fetches, commits, leaves.

One task, one connection: a heartbeat goes between two fetches. What the leader of a group does is
here as well, in its simplest form: partitions are dealt out in turn.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import attrs
import trio

from trio_kafka_net.cli.demo_figures import raise_for
from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    FetchRequest,
    FetchResponse,
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    SyncGroupRequest,
)
from trio_kafka_net.protocol.records import iter_batches
from trio_kafka_net.testing.client import RawClient

FETCH_VERSION = 12
"""The last one that names topics."""

_HEARTBEAT_SECONDS = 0.5
_COMMIT_SECONDS = 1.0
_VERSION = struct.Struct(">h")
_ASSIGNOR = "roundrobin"


def _versioned(message: Message) -> bytes:
    """The consumer protocol puts a version in front of what only consumers read."""
    return _VERSION.pack(0) + b"".join(encode(message, 0))


@attrs.define(eq=False)
class GroupMember:
    """One member of ``group``, which reads ``topic``."""

    client: RawClient
    """Its connection, to the coordinator and to the leader of every partition."""
    group: str
    topic: str
    partitions: int
    """How many the topic has."""
    on_records: Callable[[int], None]
    """Told how many records have come."""
    pause: Callable[[], float] = float
    """How many seconds it works on what it fetched."""
    fetch_bytes: int = 1024 * 1024
    """At most so many bytes a fetch."""
    member_id: str = ""
    """Given by the coordinator."""
    generation: int = -1
    """Of the group, when it last joined."""
    positions: dict[int, int] = attrs.Factory(dict)
    """{partition that is assigned to it: offset to fetch next}."""

    async def run(self, seconds: float = float("inf")) -> None:
        """Take part in the group for ``seconds``, then leave it.

        Raises:
            KafkaError: the coordinator or a leader refused what should be possible.
            RemoteProtocolError: the connection was lost.

        Cancellation: the group finds out when the session times out.
        """
        request = FindCoordinatorRequest(key=self.group)
        raise_for((await self.client.request(request, 3)).error_code)
        end_at = trio.current_time() + seconds
        await self._join()
        heartbeat_at = commit_at = trio.current_time()
        while trio.current_time() < end_at:
            await self._fetch()
            now = trio.current_time()
            if now >= commit_at:
                await self._commit()
                commit_at = now + _COMMIT_SECONDS
            if now >= heartbeat_at:
                if not await self._is_in_step():
                    await self._join()
                heartbeat_at = now + _HEARTBEAT_SECONDS
            await trio.sleep(self.pause())
        await self._leave()

    async def _join(self) -> None:
        """Join until every member has joined the same generation, and fetch what was committed."""
        while True:
            members = await self._ask_to_join()
            response = await self.client.request(self._sync_request(members), 5)
            if response.error_code == ErrorCode.REBALANCE_IN_PROGRESS:
                continue
            raise_for(response.error_code)
            assignment = decode(
                ConsumerProtocolAssignment, 0, response.assignment[_VERSION.size :], strict=False
            )
            assigned = assignment.assigned_partitions
            await self._begin_at([number for topic in assigned for number in topic.partitions])
            return

    async def _ask_to_join(self) -> list[str]:
        """Ids of every member if this one is to deal out the partitions, otherwise nothing."""
        subscription = _versioned(ConsumerProtocolSubscription(topics=[self.topic]))
        while True:
            response: JoinGroupResponse = await self.client.request(
                JoinGroupRequest(
                    group_id=self.group,
                    session_timeout_ms=10_000,
                    rebalance_timeout_ms=10_000,
                    member_id=self.member_id,
                    protocol_type="consumer",
                    protocols=[JoinGroupRequest.Protocol(name=_ASSIGNOR, metadata=subscription)],
                ),
                7,
            )
            if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                self.member_id = response.member_id
                continue
            raise_for(response.error_code)
            self.generation = response.generation_id
            return [each.member_id for each in response.members]

    def _sync_request(self, members: list[str]) -> SyncGroupRequest:
        assignments = []
        for turn, member_id in enumerate(members):
            numbers = list(range(turn, self.partitions, len(members)))
            topic = ConsumerProtocolAssignment.TopicPartition(topic=self.topic, partitions=numbers)
            assignment = _versioned(ConsumerProtocolAssignment(assigned_partitions=[topic]))
            assignments.append(
                SyncGroupRequest.Assignment(member_id=member_id, assignment=assignment)
            )
        return SyncGroupRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member_id,
            protocol_type="consumer",
            protocol_name=_ASSIGNOR,
            assignments=assignments,
        )

    async def _begin_at(self, partitions: list[int]) -> None:
        topic = OffsetFetchRequest.Topic(name=self.topic, partition_indexes=partitions)
        response = await self.client.request(
            OffsetFetchRequest(group_id=self.group, topics=[topic]), 7
        )
        raise_for(response.error_code)
        self.positions = {
            each.partition_index: max(0, each.committed_offset)
            for topic in response.topics
            for each in topic.partitions
        }

    async def _fetch(self) -> None:
        partitions = [
            FetchRequest.Partition(
                partition=number, fetch_offset=offset, partition_max_bytes=self.fetch_bytes
            )
            for number, offset in self.positions.items()
        ]
        response: FetchResponse = await self.client.request(
            FetchRequest(
                max_wait_ms=250,
                min_bytes=1,
                max_bytes=self.fetch_bytes,
                topics=[FetchRequest.Topic(topic=self.topic, partitions=partitions)],
            ),
            FETCH_VERSION,
        )
        for topic in response.responses:
            for fetched in topic.partitions:
                self._take(fetched)

    def _take(self, fetched: FetchResponse.PartitionData) -> None:
        if fetched.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            # Records that nobody fetched in time have been deleted.
            self.positions[fetched.partition_index] = max(0, fetched.log_start_offset)
            return
        raise_for(fetched.error_code)
        for batch in iter_batches(fetched.records or memoryview(b""), partial_tail=True):
            self.on_records(batch.record_count)
            self.positions[fetched.partition_index] = batch.next_offset

    async def _commit(self) -> None:
        partitions = [
            OffsetCommitRequest.Partition(
                partition_index=number, committed_offset=offset, committed_metadata=None
            )
            for number, offset in self.positions.items()
        ]
        # Whether it was still allowed is what the next heartbeat says.
        await self.client.request(
            OffsetCommitRequest(
                group_id=self.group,
                generation_id_or_member_epoch=self.generation,
                member_id=self.member_id,
                topics=[OffsetCommitRequest.Topic(name=self.topic, partitions=partitions)],
            ),
            8,
        )

    async def _is_in_step(self) -> bool:
        request = HeartbeatRequest(
            group_id=self.group, generation_id=self.generation, member_id=self.member_id
        )
        error_code = (await self.client.request(request, 4)).error_code
        if error_code == ErrorCode.REBALANCE_IN_PROGRESS:
            return False
        raise_for(error_code)
        return True

    async def _leave(self) -> None:
        member = LeaveGroupRequest.MemberIdentity(member_id=self.member_id)
        await self.client.request(LeaveGroupRequest(group_id=self.group, members=[member]), 4)
