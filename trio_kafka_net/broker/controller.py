"""The controller of a single node: makes and deletes topics, and remembers them.

Changes happen one at a time. What a change leaves behind if the process dies in the middle:

* made, not finished: the topic is in ``topics.json``; the next start makes the missing partitions;
* deleted, not finished: it is not in ``topics.json``; its directories are renamed for removal, or
  are strays that the next start reports and leaves alone.

A topic that is being made shows in metadata without leaders, as in Kafka, so that clients wait for
it instead of running into a partition that is not there yet.

Source: Kafka ``ReplicationControlManager``, as far as one node goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import attrs
import trio

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .log.log_config import LogConfig
from .log.log_manager import LogManager
from .metadata_cache import MetadataCache, PartitionMetadata, TopicMetadata, save_topics
from .partition import NO_LEADER
from .replica_manager import ReplicaManager, to_kafka_error

log = logging.getLogger(__name__)

_MAX_PARTITIONS = 10_000
"""Partitions of one request's topic; Kafka's limit on what one call may create."""


@attrs.frozen(kw_only=True)
class TopicDefaults:
    """What a new topic gets when nobody says otherwise."""

    partitions: int
    replication_factor: int


class Controller:
    """Owns the topics of this node."""

    def __init__(
        self,
        node_id: int,
        metadata: MetadataCache,
        replicas: ReplicaManager,
        *,
        defaults: TopicDefaults,
        new_uuid: Callable[[], bytes],
    ) -> None:
        """Take over the topics of ``metadata``; ``start`` makes their partitions serve."""
        self._node_id = node_id
        self._metadata = metadata
        self._replicas = replicas
        self._defaults = defaults
        self._new_uuid = new_uuid
        self._changing = trio.Lock()

    @property
    def _logs(self) -> LogManager:
        return self._replicas.log_manager

    async def start(self) -> None:
        """Lead every partition of every topic, with a new leader epoch.

        Raises:
            OSError: ``topics.json`` could not be written.
        """
        async with self._changing:
            for topic in self._metadata:
                await trio.to_thread.run_sync(self._make_partitions, topic)
                self._lead(topic)
            await self._save()
        for partition_log in self._logs:
            name, index = partition_log.topic_partition
            if self._replicas.get_partition(name, index) is None:
                log.warning("%s belongs to no topic: left alone", partition_log.directory)

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int | None = None,
        replication_factor: int | None = None,
        configs: Mapping[str, str | None] | None = None,
        validate_only: bool = False,
    ) -> TopicMetadata:
        """Make a topic whose partitions this node leads.

        Args:
            name: a name by Kafka's rules that is not taken.
            partitions: how many; None is ``num.partitions``.
            replication_factor: None is ``default.replication.factor``.
            configs: {Kafka's name: value}, what the topic sets itself.
            validate_only: check, and make nothing.

        Returns:
            The topic, or what it would be.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS,
                INVALID_REPLICATION_FACTOR, INVALID_CONFIG; or KAFKA_STORAGE_ERROR. Nothing was
                made.

        Cancellation: the topic exists as a whole or not at all, perhaps only after a restart.
        """
        async with self._changing:
            count = self._check_counts(partitions, replication_factor)
            settings = self._check_configs(configs or {})
            self._metadata.check_new_topic(name)
            assignments = [(self._node_id,)] * count
            if validate_only:
                return TopicMetadata(
                    name,
                    bytes(16),
                    [PartitionMetadata(nodes, nodes, nodes[0]) for nodes in assignments],
                    settings,
                )
            topic = self._metadata.add_topic(name, self._new_uuid(), assignments, settings)
            for partition in topic.partitions:
                partition.leader_id = NO_LEADER
            try:
                await self._save()
                await trio.to_thread.run_sync(self._make_partitions, topic)
            except (KafkaError, OSError) as error:
                await self._forget(topic)
                raise to_kafka_error(error) if isinstance(error, OSError) else error from error
            self._lead(topic)
            log.info("made topic %s with %d partitions", name, count)
            return topic

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and its data; whoever waits for it is woken.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION; or KAFKA_STORAGE_ERROR, and the topic is gone
                but some of its files are not.

        Cancellation: the topic is gone; its files may wait for the next start.
        """
        async with self._changing:
            await self._forget(self._metadata.topic_or_raise(name))
            log.info("deleted topic %s", name)

    def describe_configs(self, topic: TopicMetadata) -> list[tuple[str, str, bool]]:
        """The settings in force for a topic: (Kafka's name, value, whether the topic sets it)."""
        effective = self._logs.config.log.with_topic_configs(topic.configs)
        return [(name, text, name in topic.configs) for name, text in effective.to_texts()]

    def _check_counts(self, partitions: int | None, replication_factor: int | None) -> int:
        count = self._defaults.partitions if partitions is None else partitions
        if not 1 <= count <= _MAX_PARTITIONS:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                f"{count} partitions; 1 to {_MAX_PARTITIONS} are allowed",
            )
        replicas = replication_factor
        if replicas is None:
            replicas = self._defaults.replication_factor
        brokers = 1
        if not 1 <= replicas <= brokers:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"replication factor {replicas}; 1 to {brokers} are allowed, one per broker",
            )
        return count

    def _check_configs(self, configs: Mapping[str, str | None]) -> dict[str, str]:
        settings: dict[str, str] = {}
        for name, text in configs.items():
            if text is None:
                raise KafkaError(ErrorCode.INVALID_CONFIG, f"Null value for topic config {name}")
            settings[name] = text
        self._default_log_config.with_topic_configs(settings)
        return settings

    @property
    def _default_log_config(self) -> LogConfig:
        return self._logs.config.log

    def _make_partitions(self, topic: TopicMetadata) -> None:
        """Make the partitions that are not there yet; blocks, for a worker thread."""
        for index in range(len(topic.partitions)):
            self._replicas.create_partition(topic.name, index, topic.topic_id, topic.configs)

    def _lead(self, topic: TopicMetadata) -> None:
        for index, state in enumerate(topic.partitions):
            state.leader_id = self._node_id
            state.leader_epoch += 1
            partition = self._replicas.get_partition(topic.name, index)
            assert partition is not None
            partition.set_leadership(
                leader_id=state.leader_id,
                leader_epoch=state.leader_epoch,
                isr=state.isr,
                replicas=state.replicas,
            )

    async def _forget(self, topic: TopicMetadata) -> None:
        self._metadata.remove_topic(topic.name)
        await self._save()
        for index in range(len(topic.partitions)):
            self._replicas.delete_partition(topic.name, index)
        await trio.to_thread.run_sync(self._logs.remove_deleted)

    async def _save(self) -> None:
        content = self._metadata.to_file_content()
        await trio.to_thread.run_sync(save_topics, self._logs.path, content)
