"""The partitions of this broker, and the one place where their errors get Kafka's codes.

Handlers come here with a topic and an index; below, partitions and logs know nothing of requests.
Whatever a partition raises leaves here as ``KafkaError``: a damaged batch of a client as
CORRUPT_MESSAGE, one too large as MESSAGE_TOO_LARGE, a log that is offline as KAFKA_STORAGE_ERROR.

Source: Kafka ``ReplicaManager`` (4.0).
"""

from __future__ import annotations

from collections.abc import Iterator

from trio_kafka_net.broker.log.checkpoints import TopicPartition
from trio_kafka_net.broker.log.log_manager import LogManager
from trio_kafka_net.broker.log.unified_log import LogAppendInfo
from trio_kafka_net.broker.partition import ANY_EPOCH, Partition
from trio_kafka_net.broker.purgatory import Purgatory
from trio_kafka_net.errors import (
    CorruptRecordError,
    KafkaError,
    RecordTooLargeError,
    StorageError,
)
from trio_kafka_net.network.framing import FileRegion
from trio_kafka_net.protocol.error_codes import ErrorCode

from .followers import Followers
from .topic_traffic import Traffic


def to_kafka_error(exc: StorageError | OSError) -> KafkaError:
    """What storage raised, with the code that a client expects.

    The text of a disk failure names paths of this machine: it stays in our own log.

    Source: Kafka ``Errors.forException``.
    """
    if isinstance(exc, CorruptRecordError):
        return KafkaError(ErrorCode.CORRUPT_MESSAGE, str(exc))
    if isinstance(exc, RecordTooLargeError):
        return KafkaError(ErrorCode.MESSAGE_TOO_LARGE, str(exc))
    return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the log is offline")


class ReplicaManager:
    """{(topic, index): partition}, over one log manager."""

    def __init__(
        self, log_manager: LogManager, *, node_id: int, followers: Followers | None = None
    ) -> None:
        """Begin without partitions.

        Args:
            log_manager: where the logs are.
            node_id: of this broker.
            followers: how far other replicas have come; None if nobody knows.
        """
        self.log_manager = log_manager
        self.node_id = node_id
        self.purgatory = Purgatory()
        """Where fetch and produce requests wait; keys are (topic, index)."""
        self._followers = followers
        self.traffic = Traffic()
        """Figures of the topics that this broker has partitions of."""
        self._partitions: dict[TopicPartition, Partition] = {}
        self._offline_changes = 0

    @property
    def offline_version(self) -> int:
        """Grows whenever another partition is offline than before."""
        return self._offline_changes + self.log_manager.gone_offline

    def __iter__(self) -> Iterator[Partition]:
        return iter(list(self._partitions.values()))

    def __len__(self) -> int:
        """Count of partitions."""
        return len(self._partitions)

    def get_partition(self, topic: str, index: int) -> Partition | None:
        """A partition, if it is here."""
        return self._partitions.get((topic, index))

    def partition_or_raise(
        self,
        topic: str,
        index: int,
        *,
        current_leader_epoch: int = ANY_EPOCH,
        must_lead: bool = True,
    ) -> Partition:
        """A partition that may serve a request.

        Args:
            topic: name of the topic.
            index: number of the partition.
            current_leader_epoch: what the client believes, -1 if it does not say.
            must_lead: whether this broker has to lead it.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION, KAFKA_STORAGE_ERROR, and what
                ``Partition.check_leadership`` raises.
        """
        partition = self._partitions.get((topic, index))
        if partition is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic}-{index} is not on this broker"
            )
        if must_lead and (current_leader_epoch != ANY_EPOCH or partition.leader_id != self.node_id):
            partition.check_leadership(current_leader_epoch)
        if partition.log.failure is not None:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{topic}-{index} is offline")
        return partition

    def add_partition(self, topic: str, index: int, topic_id: bytes | None) -> Partition:
        """Have a partition whose log is in the store, without a leader yet.

        A log that could not be opened at the start makes a partition that refuses every use.

        Args:
            topic: name of the topic.
            index: number of the partition.
            topic_id: 16 bytes; None takes that of the log.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR, there is no such log.
        """
        key = (topic, index)
        log = self.log_manager.get_log(topic, index)
        if log is None and key not in self.log_manager.failures:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"there is no log of {topic}-{index}")
        replaced = self._partitions.get(key)
        if replaced is not None:
            self.traffic.release(topic)
            self._offline_changes += replaced.is_offline
        partition = self._partitions[key] = Partition(
            topic,
            index,
            topic_id or self.log_manager.topic_id(topic, index) or bytes(16),
            log,
            node_id=self.node_id,
            purgatory=self.purgatory,
            followers=self._followers,
            traffic=self.traffic.of(topic),
        )
        self._offline_changes += partition.is_offline
        return partition

    def remove_partition(self, topic: str, index: int) -> None:
        """Take a partition out of service; wakes whoever waits for it. Its log stays.

        Nothing happens if it is not here.
        """
        partition = self._partitions.pop((topic, index), None)
        if partition is not None:
            self._offline_changes += partition.is_offline
            partition.go_offline()
            self.traffic.release(topic)

    def advance(self) -> None:
        """Move every high watermark, because followers may have come further."""
        for partition in self:
            partition.advance()

    def append_records(
        self, topic: str, index: int, batches: memoryview, *, required_acks: int
    ) -> LogAppendInfo:
        """Append what a client produced; see ``Partition.append_records``.

        Raises:
            KafkaError: whatever is wrong, with its code; nothing was written.

        Checkpoints: none. With ``flush.messages`` set, ``partition.log.needs_flush`` says whether
            ``partition.log.flush`` must run (in a thread) before the answer.
        """
        partition = self.partition_or_raise(topic, index)
        try:
            return partition.append_records(batches, required_acks=required_acks)
        except (StorageError, OSError) as exc:
            raise to_kafka_error(exc) from exc

    def read(
        self,
        topic: str,
        index: int,
        offset: int,
        max_bytes: int,
        *,
        min_one_batch: bool = False,
        current_leader_epoch: int = ANY_EPOCH,
    ) -> FileRegion | None:
        """Find what a consumer may read; see ``Partition.read_records``.

        Raises:
            KafkaError: whatever is wrong, with its code.
        """
        partition = self.partition_or_raise(topic, index, current_leader_epoch=current_leader_epoch)
        try:
            return partition.read_records(offset, max_bytes, min_one_batch=min_one_batch)
        except (StorageError, OSError) as exc:
            raise to_kafka_error(exc) from exc
