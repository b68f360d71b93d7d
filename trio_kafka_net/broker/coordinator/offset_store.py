"""Committed offsets and groups, in memory and in ``__consumer_offsets``.

The topic is the truth and memory is what reading it gives: every change is appended first and then
made in memory, in one go without a checkpoint, so that what is answered is what a restart finds.
A commit is one batch: it is there as a whole or not at all.

A group lives in the partition of the topic that its id hashes to. Each partition is a *shard* of
its own: it is loaded when this broker begins to lead the partition, and dropped when it ceases
to; until it is loaded, its groups are told to wait. How many partitions there are is settled when
this broker hears of the topic: more of them would move groups to other shards.

The topic is made on first need, by whoever looks for a coordinator. Clients read it, nobody but
this broker writes to it.

Offsets of a topic that is deleted go with it. If the process dies in between, loading completes
it: an offset of a topic that does not exist is removed.

Source: Kafka ``GroupCoordinatorShard``, ``OffsetMetadataManager``, ``CoordinatorRuntime`` (4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import trio

from trio_kafka_net.broker.controller import Controller
from trio_kafka_net.broker.partition import ACKS_ALL
from trio_kafka_net.broker.replica_manager import ReplicaManager
from trio_kafka_net.config.offsets import OffsetsConfig
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch

from .group_contracts import GroupMembership
from .group_records import (
    Change,
    CommittedOffset,
    GroupChange,
    OffsetChange,
    group_key,
    group_value,
    offset_key,
    offset_value,
    partition_for,
)
from .offset_loader import OffsetLoader
from .offset_shard import OffsetShard, ShardState

log = logging.getLogger(__name__)

OFFSETS_TOPIC = "__consumer_offsets"

_SLICE = 500
"""Changes made in memory between two checkpoints; well below a millisecond."""
_PIECE_BYTES = 65_536
"""Size of a batch of tombstones, about; far below the smallest sensible ``message.max.bytes``."""
_TOMBSTONE_BYTES = 320
"""More than a tombstone has beside the id of the group."""
_MAX_HOMES = 10_000
"""How many groups' partitions are remembered."""

_NOTHING: Mapping[str, Mapping[int, CommittedOffset]] = MappingProxyType({})


# {state that refuses: (code, text)}
_REFUSALS = {
    ShardState.LOADING: (
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        "the offsets of the group are being loaded",
    ),
    ShardState.UNLOADED: (ErrorCode.NOT_COORDINATOR, "the group's partition is not served here"),
}

# {what an append failed with: what a group's client is told}
_APPEND_ERRORS: Mapping[int, int] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


class OffsetStore:
    """Keeps what groups have agreed on and how far they have come."""

    def __init__(
        self,
        config: OffsetsConfig,
        controller: Controller,
        replicas: ReplicaManager,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        """Begin without partitions; ``lead`` says which ones there are, ``load`` reads them.

        Args:
            config: of offsets.
            controller: makes the topic, and knows which topics there are.
            replicas: partitions that have their log here.
            now_ms: the clock, ms since the epoch.
        """
        self.config = config
        self.groups: GroupMembership
        """Who is in the groups; set once, before anything is loaded."""
        self._controller = controller
        self._replicas = replicas
        self._now_ms = now_ms
        self._codec = Compression(config.offsets_topic_compression_codec)
        self.topic = OFFSETS_TOPIC
        """The topic whose partitions are told to ``lead`` and ``resign``."""
        self._making_topic = trio.Lock()
        self._loading = trio.Lock()
        self._has_to_load = trio.Event()
        # 0 as long as there is no topic.
        self._partition_count = 0
        # {partition of the topic: its shard}, of those led here
        self._shards: dict[int, OffsetShard] = {}
        # {group: its shard's index}, of the groups asked for last
        self._homes: dict[str, int] = {}

    # Which shard

    def check_ready(self, group_id: str) -> None:
        """Refuse if nothing can be said of a group now.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE (there is no topic yet),
                COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR.
        """
        self._shard(group_id)

    def _shard(self, group_id: str) -> OffsetShard:
        """The shard of a group, ready to work with.

        Raises:
            KafkaError: as ``check_ready``.
        """
        shard = self._shards.get(self.partition_of(group_id))
        state = ShardState.UNLOADED if shard is None else shard.state
        if shard is None or state is not ShardState.READY:
            raise KafkaError(*_REFUSALS[state])
        return shard

    def partition_of(self, group_id: str) -> int:
        """The partition of the topic that a group lives in.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE, there is no topic yet.
        """
        if not self._partition_count:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"there is no {OFFSETS_TOPIC}")
        index = self._homes.get(group_id)
        if index is None:
            if len(self._homes) >= _MAX_HOMES:
                self._homes.clear()
            index = self._homes[group_id] = partition_for(group_id, self._partition_count)
        return index

    # Reading

    def has_offsets(self, group_id: str) -> bool:
        """Whether a group has committed anything that is still there.

        Raises:
            KafkaError: as ``check_ready``.
        """
        return group_id in self._shard(group_id).offsets

    def committed(self, group_id: str) -> Mapping[str, Mapping[int, CommittedOffset]]:
        """What a group has committed: {topic: {partition: committed}}, not to be changed.

        Raises:
            KafkaError: as ``check_ready``.
        """
        return self._shard(group_id).offsets.get(group_id, _NOTHING)

    def group_ids(self) -> set[str]:
        """Every group that has offsets or was saved, of all partitions that are loaded."""
        ids: set[str] = set()
        for shard in self._shards.values():
            if shard.state is ShardState.READY:
                ids.update(shard.offsets, shard.saved_groups)
        return ids

    # Changing

    def commit(self, group_id: str, offsets: Sequence[OffsetChange]) -> None:
        """Commit offsets of one group, all of them or none.

        Args:
            group_id: the group.
            offsets: at least one, each of that group.

        Raises:
            KafkaError: as ``check_ready``, or the append failed: COORDINATOR_NOT_AVAILABLE,
                NOT_COORDINATOR, UNKNOWN_SERVER_ERROR (too large); nothing has changed.

        Checkpoints: none. ``needs_flush`` says whether ``flush`` must be awaited before the answer.
        """
        self._write(self._shard(group_id), offsets)
        self.groups.count_commits(group_id, len(offsets))

    async def commit_many(
        self, group_id: str, offsets: Sequence[OffsetChange], check: Callable[[], None]
    ) -> None:
        """Commit so many offsets that others should not wait for it; see ``commit``.

        They are encoded in a worker thread.

        Args:
            group_id: the group.
            offsets: at least one, each of that group.
            check: called right before they are appended; raises if they must not be any more.

        Raises:
            KafkaError: as ``commit`` or ``check``; nothing has changed.

        Cancellation: nothing has changed.
        """
        batch = await trio.to_thread.run_sync(self._encode, offsets, self._now_ms())
        check()
        self._append(self._shard(group_id), offsets, batch)
        self.groups.count_commits(group_id, len(offsets))

    def save_group(self, group_id: str, value: GroupMetadataValue) -> None:
        """Remember the state of a group.

        Raises:
            KafkaError: as ``commit``; nothing has changed.

        Checkpoints: none.
        """
        self._write(self._shard(group_id), [GroupChange(group_id, value)])

    def forget_group(self, group_id: str) -> None:
        """Remove a group and all of its offsets.

        Raises:
            KafkaError: as ``commit``; the group is there, perhaps with fewer offsets.

        Checkpoints: none.
        """
        shard = self._shard(group_id)
        changes: list[Change] = [
            OffsetChange(group_id, topic, partition, None)
            for topic, partitions in shard.offsets.get(group_id, _NOTHING).items()
            for partition in partitions
        ]
        if group_id in shard.saved_groups:
            # The last one: a group that is gone must not have offsets.
            changes.append(GroupChange(group_id, None))
        self._write_pieces(shard, changes)

    def remove(self, group_id: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Remove offsets of a group; what is not there is left out.

        Args:
            group_id: the group.
            partitions: topic and partition of each.

        Raises:
            KafkaError: as ``commit``; some of them may be gone.

        Checkpoints: none.
        """
        shard = self._shard(group_id)
        offsets = shard.offsets.get(group_id, _NOTHING)
        self._write_pieces(
            shard,
            [
                OffsetChange(group_id, topic, partition, None)
                for topic, partition in dict.fromkeys(partitions)
                if partition in offsets.get(topic, ())
            ],
        )

    def _write_pieces(self, shard: OffsetShard, changes: Sequence[Change]) -> None:
        """Write tombstones in batches that the topic takes, however many there are."""
        piece: list[Change] = []
        size = 0
        for change in changes:
            piece.append(change)
            size += _TOMBSTONE_BYTES + 4 * len(change.group_id)
            if size >= _PIECE_BYTES:
                self._write(shard, piece)
                piece, size = [], 0
        if piece:
            self._write(shard, piece)

    def _write(self, shard: OffsetShard, changes: Sequence[Change]) -> None:
        """Append changes as one batch, then make them."""
        self._append(shard, changes, self._encode(changes, self._now_ms()))

    def _encode(self, changes: Sequence[Change], now_ms: int) -> bytearray:
        records = [_record(change, now_ms) for change in changes]
        return bytearray(build_batch(records, compression=self._codec))

    def _append(self, shard: OffsetShard, changes: Sequence[Change], batch: bytearray) -> None:
        try:
            self._replicas.append_records(
                OFFSETS_TOPIC, shard.index, memoryview(batch), required_acks=ACKS_ALL
            )
        except KafkaError as error:
            code = _APPEND_ERRORS.get(error.code, error.code)
            raise KafkaError(code, error.message) from error
        for change in changes:
            shard.apply(change)

    # Durability

    def needs_flush(self, group_id: str) -> bool:
        """Whether ``flush.messages`` demands a flush before the next acknowledgement.

        Raises:
            KafkaError: as ``check_ready``.
        """
        partition = self._replicas.get_partition(OFFSETS_TOPIC, self._shard(group_id).index)
        return partition is not None and partition.log.needs_flush

    async def flush(self, group_id: str) -> None:
        """Wait until everything that a group wrote is on the device.

        Raises:
            KafkaError: NOT_COORDINATOR, the disk failed: what was written may be lost; or as
                ``check_ready``.

        Cancellation: the flush is completed first.
        """
        index = self._shard(group_id).index
        partition = self._replicas.get_partition(OFFSETS_TOPIC, index)
        try:
            if partition is not None:
                await trio.to_thread.run_sync(partition.log.flush)
        except StorageError as exc:
            raise KafkaError(ErrorCode.NOT_COORDINATOR, "the log is offline") from exc

    # The topic and its partitions

    async def ensure_topic(self) -> None:
        """Make the topic if it is not there, and read what is led here of it.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE, it could not be made.

        Cancellation: the topic is there or not; the next call completes it.
        """
        if not self._partition_count:
            async with self._making_topic:
                if not self._partition_count:
                    await self._make_topic()
        await self.load()

    async def _make_topic(self) -> None:
        replicas = self.config.offsets_topic_replication_factor
        brokers = len(self._controller.registered)
        if replicas > brokers:
            log.warning(
                "offsets.topic.replication.factor=%d, but there are only %d brokers: "
                "%s gets as many replicas",
                replicas,
                brokers,
                OFFSETS_TOPIC,
            )
        try:
            await self._controller.create_topic(
                OFFSETS_TOPIC,
                partitions=self.config.offsets_topic_num_partitions,
                replication_factor=min(replicas, brokers),
                configs={
                    "cleanup.policy": "compact",
                    "compression.type": "producer",
                    "segment.bytes": str(self.config.offsets_topic_segment_bytes),
                },
            )
        except KafkaError as error:
            if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                log.error("%s cannot be made: %s", OFFSETS_TOPIC, error)
                raise KafkaError(
                    ErrorCode.COORDINATOR_NOT_AVAILABLE, f"{OFFSETS_TOPIC} cannot be made"
                ) from error

    def topic_known(self, partitions: int) -> None:
        """Settle how many partitions groups are spread over, if the topic is new."""
        if not self._partition_count:
            self._partition_count = partitions
            self._homes.clear()
            self._has_to_load.set()

    def lead(self, index: int) -> None:
        """Begin to serve a partition that this broker leads now, as soon as ``load`` has read it.

        Nothing happens to one that is served, or about to be.
        """
        shard = self._shards.get(index)
        if shard is None or shard.state is ShardState.UNLOADED:
            self._shards[index] = OffsetShard(index)
            self._has_to_load.set()

    def resign(self, index: int) -> None:
        """Cease to serve a partition that another broker leads now; whoever waits is sent away."""
        shard = self._shards.pop(index, None)
        if shard is not None:
            self._unload(shard)

    async def run(self) -> None:
        """Read partitions whenever this broker begins to lead some, until cancelled.

        Cancellation: as ``load``.
        """
        while True:
            await self._has_to_load.wait()
            self._has_to_load = trio.Event()
            await self.load()

    async def load(self) -> None:
        """Read the partitions that were not read yet, one after the other.

        A partition that cannot be read is not served, and the log says why.

        Cancellation: what was read is served; the next call reads the rest.
        """
        async with self._loading:
            if not self._partition_count:
                return  # what is led here was told first
            for shard in list(self._shards.values()):
                if shard.state is ShardState.LOADING:
                    await self._load(shard, self._partition_count)

    def _unload(self, shard: OffsetShard) -> None:
        group_ids = {*shard.offsets, *shard.saved_groups}
        was_ready = shard.state is ShardState.READY
        shard.state = ShardState.UNLOADED
        shard.offsets.clear()
        shard.saved_groups.clear()
        if was_ready:
            self.groups.unload(group_ids)

    async def _load(self, shard: OffsetShard, partition_count: int) -> None:
        # A load that was cut begins anew.
        shard.offsets.clear()
        shard.saved_groups.clear()
        partition = self._replicas.get_partition(OFFSETS_TOPIC, shard.index)
        if partition is None or not partition.is_leader:
            shard.state = ShardState.UNLOADED
            return
        chunk_bytes = self.config.offsets_load_buffer_size
        # {group: what was saved of it}
        groups: dict[str, GroupMetadataValue] = {}
        try:
            loader = OffsetLoader(partition, partition_count, chunk_bytes)
            while (changes := await loader.next_changes()) is not None:
                await self._apply_loaded(shard, changes, groups)
            loader.report()
            for topic in loader.topics:
                # This broker may not have heard of all topics yet; the controller knows.
                is_known = self._controller.topics.get_topic(topic) is not None
                if topic in shard.deleted_topics or not is_known:
                    await self._forget_topic_in(shard, topic)
        except (KafkaError, StorageError) as exc:
            log.error("%s-%d cannot be loaded: %s", OFFSETS_TOPIC, shard.index, exc)
            self._unload(shard)
            return
        # Unless leadership went elsewhere meanwhile.
        if shard.state is ShardState.LOADING:
            shard.state = ShardState.READY
            for group_id in shard.offsets:
                groups.setdefault(group_id, GroupMetadataValue())  # it never had members
            self.groups.restore(groups)

    async def _apply_loaded(
        self, shard: OffsetShard, changes: Sequence[Change], groups: dict[str, GroupMetadataValue]
    ) -> None:
        for start in range(0, len(changes), _SLICE):
            for change in changes[start : start + _SLICE]:
                shard.apply(change)
                if isinstance(change, GroupChange):
                    if change.value is None:
                        groups.pop(change.group_id, None)
                    else:
                        groups[change.group_id] = change.value
            await trio.lowlevel.checkpoint()

    async def forget_topic(self, name: str) -> None:
        """Remove every offset of a topic that is deleted.

        A failure is logged: the next start completes it.

        Cancellation: the same.
        Source: Kafka ``OffsetMetadataManager.onPartitionsDeleted``.
        """
        if name == OFFSETS_TOPIC:
            self._partition_count = 0
            for index in list(self._shards):
                self.resign(index)
            return
        for shard in list(self._shards.values()):
            if shard.state is not ShardState.READY:
                shard.deleted_topics.add(name)
                continue
            try:
                await self._forget_topic_in(shard, name)
            except KafkaError as error:
                log.error("%s-%d: offsets of %s: %s", OFFSETS_TOPIC, shard.index, name, error)

    async def _forget_topic_in(self, shard: OffsetShard, name: str) -> None:
        for group_id in [group for group, topics in shard.offsets.items() if name in topics]:
            # It may have changed at the last checkpoint.
            partitions = shard.offsets.get(group_id, _NOTHING).get(name, ())
            self._write_pieces(
                shard, [OffsetChange(group_id, name, index, None) for index in partitions]
            )
            await trio.lowlevel.checkpoint()


def _record(change: Change, now_ms: int) -> Record:
    if isinstance(change, OffsetChange):
        value = None if change.committed is None else offset_value(change.committed)
        key = offset_key(change.group_id, change.topic, change.partition)
    else:
        value = None if change.value is None else group_value(change.value)
        key = group_key(change.group_id)
    return Record(timestamp=now_ms, key=key, value=value)
