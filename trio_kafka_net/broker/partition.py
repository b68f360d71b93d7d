"""One partition on this broker: who leads it, how far it is replicated, and who waits for it.

The partition stands between requests and log. It fences requests by leadership and leader epoch,
moves the high watermark, and wakes those who wait whenever something that they could wait for
changes: an append, the high watermark, leadership, deletion, a failure of the disk.

Source: Kafka ``Partition`` (4.0); fencing KIP-320.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from trio_kafka_net.broker.log.segment import FoundRecord
from trio_kafka_net.broker.log.unified_log import LogAppendInfo, UnifiedLog
from trio_kafka_net.broker.purgatory import Purgatory
from trio_kafka_net.errors import CorruptRecordError, KafkaError, LogDirFailedError, StorageError
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import HEADER_BYTES, parse_header

from .followers import Followers
from .metadata_cache import NO_LEADER
from .topic_traffic import TopicTraffic

ANY_EPOCH = -1
"""A request's leader epoch when the client does not know one."""
ACKS_ALL = -1


class Partition:
    """A partition that has its log here."""

    def __init__(
        self,
        topic: str,
        index: int,
        topic_id: bytes,
        log: UnifiedLog | None,
        *,
        node_id: int,
        purgatory: Purgatory,
        followers: Followers | None = None,
        traffic: TopicTraffic | None = None,
    ) -> None:
        """Begin without a leader.

        Args:
            topic: name of the topic.
            index: number of the partition in the topic.
            topic_id: 16 bytes.
            log: its log; None if it could not be opened, so that every use is refused.
            node_id: of this broker.
            purgatory: where requests wait; this partition's key is (topic, index).
            followers: how far other replicas have come; None if nobody knows.
            traffic: figures of its topic; its own if not given.
        """
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.key = (topic, index)
        """What to watch in the purgatory."""
        self.leader_id = NO_LEADER
        """Node id of the leader, -1 if there is none."""
        self.leader_epoch = 0
        """Counts leaderships."""
        self.partition_epoch = -1
        """Counts changes of any kind."""
        self.replicas: tuple[int, ...] = ()
        """Node ids that should have the log, the preferred leader first."""
        self.isr: tuple[int, ...] = ()
        """Node ids that have all that is acknowledged."""
        self.traffic = TopicTraffic() if traffic is None else traffic
        """Figures of its topic."""
        self._log = log
        self._node_id = node_id
        self._purgatory = purgatory
        self._followers = followers

    @property
    def log(self) -> UnifiedLog:
        """The log.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR, it could not be opened.
        """
        if self._log is None:
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"the log of {self.topic}-{self.index} is offline"
            )
        return self._log

    @property
    def is_offline(self) -> bool:
        """Whether the log cannot be used, for want of a disk that works."""
        return self._log is None or self._log.failure is not None

    @property
    def is_leader(self) -> bool:
        """Whether this broker leads the partition."""
        return self.leader_id == self._node_id

    @property
    def log_start_offset(self) -> int:
        """First offset that can be read."""
        return self.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        """Offset of the next record."""
        return self.log.log_end_offset

    @property
    def high_watermark(self) -> int:
        """Offset before which consumers may read."""
        return self.log.high_watermark

    def set_leadership(
        self,
        *,
        leader_id: int,
        leader_epoch: int,
        isr: Sequence[int],
        replicas: Sequence[int],
        partition_epoch: int = 0,
    ) -> bool:
        """Take over what the controller decided; wakes whoever waits.

        Returns:
            False if the decision is older than the known one, and nothing was changed.

        Source: Kafka ``Partition.makeLeader``, ``makeFollower``.
        """
        decision = leader_epoch, partition_epoch
        if decision < (self.leader_epoch, self.partition_epoch):
            return False
        self.leader_id = leader_id
        self.leader_epoch, self.partition_epoch = decision
        self.isr = tuple(isr)
        self.replicas = tuple(replicas)
        if self.is_leader and self._log is not None:
            # From here on an older leader, who may not have heard of it, can append no more.
            self._log.leader_epochs.assign(leader_epoch, self._log.log_end_offset)
            self._advance(self._log)
        self._purgatory.notify(self.key)
        return True

    def check_leadership(self, current_leader_epoch: int = ANY_EPOCH) -> None:
        """Refuse what a leader of this epoch may not do.

        Args:
            current_leader_epoch: what the client believes, -1 if it does not say.

        Raises:
            KafkaError: FENCED_LEADER_EPOCH (the client is behind), UNKNOWN_LEADER_EPOCH (we are),
                NOT_LEADER_OR_FOLLOWER.
        """
        if current_leader_epoch not in {ANY_EPOCH, self.leader_epoch}:
            behind = current_leader_epoch < self.leader_epoch
            raise KafkaError(
                ErrorCode.FENCED_LEADER_EPOCH if behind else ErrorCode.UNKNOWN_LEADER_EPOCH,
                f"{self.topic}-{self.index} has leader epoch {self.leader_epoch}, "
                f"the request has {current_leader_epoch}",
            )
        if not self.is_leader:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"{self.topic}-{self.index} is led by node {self.leader_id}",
            )

    def append_records(
        self, batches: memoryview, *, required_acks: int, has_keys: bool = False
    ) -> LogAppendInfo:
        """Append what a client produced, and wake whoever waits for it.

        Args:
            batches: exactly one record batch; offset and epoch are stamped into it in place.
            required_acks: -1 (all in-sync replicas), 0 or 1.
            has_keys: whether it is known that every record has a key.

        Raises:
            KafkaError: NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS, and what
                ``UnifiedLog.append`` raises; nothing was written.
            StorageError: as ``UnifiedLog.append``; nothing was written.

        Checkpoints: none.
        Source: Kafka ``Partition.appendRecordsToLeader`` (4.0).
        """
        traffic = self.traffic
        traffic.produce_requests += 1
        try:
            log = self._log_to_append_to(required_acks)
            info = log.append(batches, leader_epoch=self.leader_epoch, has_keys=has_keys)
        except (KafkaError, StorageError) as error:
            traffic.produce_failed(error, len(batches))
            if isinstance(error, LogDirFailedError):
                self._purgatory.notify(self.key)
            raise
        if not info.is_duplicate:
            traffic.messages_in += info.last_offset - info.first_offset + 1
            traffic.bytes_in += len(batches)
        self._advance(log)
        self._purgatory.notify(self.key)
        return info

    def _log_to_append_to(self, required_acks: int) -> UnifiedLog:
        if self.leader_id != self._node_id:
            self.check_leadership()
        log = self._log or self.log
        if self.leader_epoch < log.leader_epochs.latest_epoch:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"{self.topic}-{self.index} has a newer leader than this one",
            )
        if required_acks == ACKS_ALL and len(self.isr) < log.config.min_insync_replicas:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{len(self.isr)} replicas in sync, {log.config.min_insync_replicas} are needed",
            )
        return log

    def may_acknowledge(self, end_offset: int, *, required_acks: int) -> bool:
        """Whether what was appended before an offset is as safe as acks and settings demand.

        Args:
            end_offset: offset after the last record.
            required_acks: -1 (all in-sync replicas) or 1.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR, there is no log any more.
        """
        log = self._log or self.log
        return log.log_end_offset - log.recovery_point < log.config.flush_messages and (
            required_acks != ACKS_ALL or log.high_watermark >= end_offset
        )

    def read_records(
        self,
        offset: int,
        max_bytes: int,
        *,
        min_one_batch: bool = False,
        current_leader_epoch: int = ANY_EPOCH,
    ) -> FileRegion | None:
        """Find the bytes that a consumer may read from ``offset`` on.

        Args:
            offset: first offset wanted; the region may begin with earlier ones of the same batch.
            max_bytes: longest region, bytes; its last batch may be cut off.
            min_one_batch: whether the first batch is given whole even if it is longer.
            current_leader_epoch: what the client believes, -1 if it does not say.

        Returns:
            A region that begins with a whole batch and ends at the high watermark at the latest;
            None if there is nothing yet, or nothing that fits.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, and what ``check_leadership`` raises.
            StorageError: the log is offline or damaged.

        Source: Kafka ``Partition.fetchRecords`` (4.0).
        """
        self.traffic.fetch_requests += 1
        if current_leader_epoch != ANY_EPOCH or self.leader_id != self._node_id:
            self.check_leadership(current_leader_epoch)
        log = self._log or self.log
        try:
            region = log.read(
                offset, max_bytes, max_offset=log.high_watermark, min_one_batch=min_one_batch
            )
        except CorruptRecordError:
            self.traffic.failed_fetch_requests += 1
            raise
        if region is None or min_one_batch or region.count < max_bytes:
            return region
        return region if _begins_with_whole_batch(region) else None

    def find_timestamp(
        self, timestamp: int, *, current_leader_epoch: int = ANY_EPOCH
    ) -> FoundRecord | None:
        """Find the first record a consumer may read that is not earlier than a timestamp.

        Args:
            timestamp: ms since the epoch.
            current_leader_epoch: what the client believes, -1 if it does not say.

        Raises:
            KafkaError: what ``check_leadership`` raises.
            StorageError: the log is offline or damaged.
        """
        self.check_leadership(current_leader_epoch)
        return self._if_readable(self.log.find_timestamp(timestamp))

    def find_max_timestamp(self, *, current_leader_epoch: int = ANY_EPOCH) -> FoundRecord | None:
        """Find the record with the largest timestamp, if a consumer may read it.

        Raises:
            KafkaError: what ``check_leadership`` raises.
            StorageError: the log is offline or damaged.
        """
        self.check_leadership(current_leader_epoch)
        return self._if_readable(self.log.find_max_timestamp())

    def end_offset_for_epoch(
        self, epoch: int, *, current_leader_epoch: int = ANY_EPOCH
    ) -> tuple[int, int]:
        """Where a leader epoch ended; see ``LeaderEpochCache.end_offset_for``.

        Raises:
            KafkaError: what ``check_leadership`` raises.
        """
        self.check_leadership(current_leader_epoch)
        return self.log.end_offset_for_epoch(epoch)

    def delete_records(self, before_offset: int) -> int:
        """Make ``before_offset`` the first offset that can be read; wakes whoever waits.

        Args:
            before_offset: -1 is the high watermark.

        Returns:
            The log start offset.

        Raises:
            KafkaError: NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE; POLICY_VIOLATION, the
                topic is compacted and nothing else.
            StorageError: the log is offline.

        Source: Kafka ``Partition.deleteRecordsOnLeader`` (4.1).
        """
        self.check_leadership()
        log = self.log
        if not log.config.delete:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"Records of partition {self.topic}-{self.index} can not be deleted "
                "due to the configured policy",
            )
        start = log.delete_records(log.high_watermark if before_offset == -1 else before_offset)
        self._purgatory.notify(self.key)
        return start

    def advance_high_watermark(self, offset: int) -> bool:
        """Move the high watermark forward, at most to the log end; wakes whoever waits.

        Returns:
            Whether it moved.
        """
        log = self.log
        offset = min(offset, log.log_end_offset)
        if offset <= log.high_watermark:
            return False
        log.high_watermark = offset
        self._purgatory.notify(self.key)
        return True

    async def wait_replicated(self, offset: int) -> None:
        """Wait until everything before ``offset`` is replicated as far as acks=all asks.

        Raises:
            KafkaError: NOT_LEADER_OR_FOLLOWER, leadership went elsewhere or the partition was
                deleted; NOT_ENOUGH_REPLICAS_AFTER_APPEND, replicas went meanwhile. The records may
                or may not survive.

        Cancellation: safe; the records stay appended.
        Checkpoints: none if they are replicated already.
        """
        if self.log.high_watermark >= offset:
            return
        with self._purgatory.watch((self.key,)) as watch:
            while True:
                self.check_leadership()
                if self.log.high_watermark >= offset:
                    break
                await watch.wait()
        needed = self.log.config.min_insync_replicas
        if len(self.isr) < needed:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                f"{len(self.isr)} replicas in sync, {needed} are needed",
            )

    def go_offline(self) -> None:
        """Lose leadership and log, because the partition is deleted; wakes whoever waits."""
        self.leader_id = NO_LEADER
        self._log = None
        self._purgatory.notify(self.key)

    def check_topic_id(self, topic_id: bytes | None) -> None:
        """Refuse what is about another topic of that name.

        Args:
            topic_id: 16 bytes, or None if nobody said.

        Raises:
            KafkaError: INCONSISTENT_TOPIC_ID.
        """
        if topic_id not in {None, self.topic_id}:
            raise KafkaError(
                ErrorCode.INCONSISTENT_TOPIC_ID,
                f"{self.topic}-{self.index} belongs to another topic",
            )

    def resign(self) -> None:
        """Lead no more; wakes whoever waits."""
        self.leader_id = NO_LEADER
        self._purgatory.notify(self.key)

    def advance(self) -> None:
        """Move the high watermark, because followers may have come further; wakes whoever waits."""
        if self.is_leader and not self.is_offline:
            self._advance(self.log)
            self._purgatory.notify(self.key)

    def _advance(self, log: UnifiedLog) -> None:
        """Move the high watermark to where the last replica in sync has come."""
        end = log.log_end_offset
        if len(self.isr) == 1:
            log.high_watermark = end
        elif self._followers is not None:
            end = self._followers.slowest(self.isr, self._node_id, self.key, end)
            log.high_watermark = max(log.high_watermark, end)

    def _if_readable(self, found: FoundRecord | None) -> FoundRecord | None:
        if found is not None and found.offset < self.log.high_watermark:
            return found
        return None


def _begins_with_whole_batch(region: FileRegion) -> bool:
    """Whether a region that was cut off has at least one batch that was not.

    Consumers take a piece of a batch for a broker that cannot be read from, and give up.

    Raises:
        StorageError: the region could not be read, or does not begin with a batch.

    Source: Kafka ``ReplicaManager.readFromLog`` (``firstEntryIncomplete``); KIP-74.
    """
    if region.count < HEADER_BYTES:
        return False
    try:
        header = os.pread(region.fd, HEADER_BYTES, region.position)
    except OSError as exc:
        raise LogDirFailedError(str(exc)) from exc
    return parse_header(header).size_in_bytes <= region.count
