"""The controller of a single node: makes and deletes topics, and remembers them.

Changes happen one at a time, and what the process leaves behind if it dies between two steps is
always something that the next start completes, never old data under a new topic:

* made: ``topics.json`` first, then the partitions, then clients see the topic. The next start makes
  the partitions that are missing.
* deleted: first ``topics.json`` says that the topic has no partitions, which is how a deletion
  shows; then clients lose it and its directories are renamed for removal; then it leaves
  ``topics.json``. The next start renames what is left.

A directory whose topic id is not the one in ``topics.json`` belongs to a topic that we do not know:
nobody serves it, nobody removes it, and a topic of that name cannot be made.

A leader epoch begins at 0, as in Kafka, and every start leads with a new one, saved before
anything can be appended under it.

Source: Kafka ``ReplicationControlManager``, as far as one node goes.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .log.log_config import LogConfig
from .log.log_manager import LogManager
from .metadata_cache import MetadataCache, TopicMetadata, save_topics
from .replica_manager import ReplicaManager, to_kafka_error

log = logging.getLogger(__name__)

_MAX_PARTITIONS = 10_000
"""Partitions of one request's topic; Kafka's limit on what one call may create."""


class ConfigSource(enum.IntEnum):
    """Who says what a setting of a topic is."""

    TOPIC = 1
    BROKER = 2
    DEFAULT = 3


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
        self.on_topic_deleted: list[Callable[[str], Awaitable[None]]] = []
        """Awaited with the name of every topic that is gone, before another one can have it."""
        self._changing = trio.Lock()

    @property
    def _logs(self) -> LogManager:
        return self._replicas.log_manager

    async def start(self) -> None:
        """Complete what was interrupted, and lead every partition with a new leader epoch.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR, a directory of another topic is in the way, or a
                partition could not be made.
            OSError: ``topics.json`` could not be written.
        """
        async with self._changing:
            for topic in list(self._metadata):
                if topic.partitions:
                    await trio.to_thread.run_sync(self._make_partitions, topic)
                    self._lead(topic)
                else:
                    self._complete_deletion(topic)
            await self._save(self._metadata)
        for partition_log in self._logs:
            name, index = partition_log.topic_partition
            if self._replicas.get_partition(name, index) is None:
                log.warning("%s belongs to no topic: left alone", partition_log.directory)

    def _complete_deletion(self, topic: TopicMetadata) -> None:
        self._metadata.remove_topic(topic.name)
        keys = {partition_log.topic_partition for partition_log in self._logs}
        for name, index in keys | set(self._logs.failures):
            if name == topic.name and self._logs.topic_id(name, index) == topic.topic_id:
                self._logs.delete_log(name, index)
        log.info("completed the deletion of topic %s", topic.name)

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int | None = None,
        replication_factor: int | None = None,
        configs: Mapping[str, str | None] | None = None,
        validate_only: bool = False,
        admit: Callable[[int], None] | None = None,
    ) -> TopicMetadata:
        """Make a topic whose partitions this node leads.

        Args:
            name: a name by Kafka's rules that is not taken.
            partitions: how many; None is ``num.partitions``.
            replication_factor: None is ``default.replication.factor``.
            configs: {Kafka's name: value}, what the topic sets itself.
            validate_only: check, and make nothing.
            admit: called with the number of partitions when all is checked and nothing made; it
                may raise.

        Returns:
            The topic, or what it would be.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS,
                INVALID_REPLICATION_FACTOR, INVALID_CONFIG; or KAFKA_STORAGE_ERROR. Nothing was
                made.

        Cancellation: the topic exists as a whole or not at all; one that could not be made may come
            with the next start.
        """
        async with self._changing:
            self._metadata.check_new_topic(name)
            settings = self._check_configs(configs or {})
            count = self._check_counts(partitions, replication_factor)
            if admit is not None:
                admit(count)
            assignments = [(self._node_id,)] * count
            planned = MetadataCache(self._metadata)
            if validate_only:
                return planned.add_topic(name, bytes(16), assignments, settings)
            topic = planned.add_topic(name, self._new_uuid(), assignments, settings)
            try:
                await trio.to_thread.run_sync(self._make, planned.to_file_content(), topic)
            except (KafkaError, StorageError, OSError) as error:
                await self._unmake(topic)
                raise error if isinstance(error, KafkaError) else to_kafka_error(error) from error
            topic = self._metadata.add_topic(name, topic.topic_id, assignments, settings)
            self._set_leadership(topic)
            log.info("made topic %s with %d partitions", name, count)
            return topic

    async def delete_topic(self, name: str, *, topic_id: bytes | None = None) -> None:
        """Delete a topic and its data; whoever waits for it is woken.

        The files are removed a little later, with those of other deleted logs.

        Args:
            name: of the topic.
            topic_id: of the topic, if it must be that one and not a newer one of the same name.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION; or KAFKA_STORAGE_ERROR, and either the topic is
                as it was, or it is gone but some of its directories are not.

        Cancellation: the topic is as it was, or gone; the next start completes it.
        """
        async with self._changing:
            topic = self._metadata.topic_or_raise(name)
            if topic_id not in {None, topic.topic_id}:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{name} is another topic")
            remaining = [other for other in self._metadata if other is not topic]
            try:
                await self._save(MetadataCache([*remaining, attrs.evolve(topic, partitions=[])]))
            except OSError as error:
                raise to_kafka_error(error) from error
            self._metadata.remove_topic(name)
            failure = self._delete_partitions(topic)
            try:
                await self._save(self._metadata)
            except OSError as error:
                log.warning("topic %s is deleted, the next start completes it: %s", name, error)
            for forget in self.on_topic_deleted:
                await forget(name)
            if failure is not None:
                raise failure
            log.info("deleted topic %s", name)

    def describe_configs(self, topic: TopicMetadata) -> list[tuple[str, str, ConfigSource]]:
        """The settings in force for a topic: (Kafka's name, value, where it is from)."""
        built_in = dict(LogConfig().to_texts())
        of_broker = dict(self._logs.config.log.to_texts())
        described = []
        for name, text in self._logs.config.log.with_topic_configs(topic.configs).to_texts():
            source = (
                ConfigSource.DEFAULT if of_broker[name] == built_in[name] else ConfigSource.BROKER
            )
            if name in topic.configs:
                source = ConfigSource.TOPIC
            described.append((name, text, source))
        return described

    def _check_counts(self, partitions: int | None, replication_factor: int | None) -> int:
        """The number of partitions; the order of the checks is Kafka's."""
        replicas = replication_factor
        if replicas is None:
            replicas = self._defaults.replication_factor
        if replicas < 1:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        count = self._defaults.partitions if partitions is None else partitions
        if not 1 <= count <= _MAX_PARTITIONS:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                f"{count} partitions; 1 to {_MAX_PARTITIONS} are allowed",
            )
        if replicas > 1:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"replication factor {replicas}, but there is one broker",
            )
        return count

    def _check_configs(self, configs: Mapping[str, str | None]) -> dict[str, str]:
        settings: dict[str, str] = {}
        for name, text in configs.items():
            if text is None:
                raise KafkaError(ErrorCode.INVALID_CONFIG, f"Null value for topic config {name}")
            settings[name] = text
        self._logs.config.log.with_topic_configs(settings)
        return settings

    def _make(self, content: bytes, topic: TopicMetadata) -> None:
        """Write down a new topic and make its partitions; blocks, for a worker thread."""
        save_topics(self._logs.path, content)
        self._make_partitions(topic)

    def _make_partitions(self, topic: TopicMetadata) -> None:
        """Make the partitions that are not there yet; blocks, for a worker thread."""
        for index in range(len(topic.partitions)):
            if self._logs.topic_id(topic.name, index) not in {None, topic.topic_id}:
                raise KafkaError(
                    ErrorCode.KAFKA_STORAGE_ERROR,
                    f"{self._logs.path / topic.name}-{index} holds another topic of that name",
                )
            self._replicas.create_partition(topic.name, index, topic.topic_id, topic.configs)

    async def _unmake(self, topic: TopicMetadata) -> None:
        """Take back what was made of a topic that could not be completed."""
        self._delete_partitions(topic)
        for index in range(len(topic.partitions)):
            if self._logs.get_log(topic.name, index) is None:
                self._remove_unfinished(topic, index)
        try:
            await self._save(self._metadata)
        except OSError as error:
            log.error("topics.json still has topic %s: %s", topic.name, error)

    def _remove_unfinished(self, topic: TopicMetadata, index: int) -> None:
        """Remove a directory that got no log, so that the name can be used again."""
        try:
            if self._logs.topic_id(topic.name, index) in {None, topic.topic_id}:
                self._logs.delete_log(topic.name, index)
        except (StorageError, OSError) as error:
            log.error("%s-%d: %s", topic.name, index, error)

    def _delete_partitions(self, topic: TopicMetadata) -> KafkaError | None:
        """Take every partition out of service; the last failure, if a directory stays."""
        failure = None
        for index in range(len(topic.partitions)):
            try:
                self._replicas.delete_partition(topic.name, index)
            except KafkaError as error:
                log.error("%s-%d: %s", topic.name, index, error)
                failure = error
        return failure

    def _lead(self, topic: TopicMetadata) -> None:
        """Lead with an epoch that is new, whatever ``topics.json`` may have forgotten."""
        for index, state in enumerate(topic.partitions):
            found = self._logs.get_log(topic.name, index)
            known = -1 if found is None else found.leader_epochs.latest_epoch
            state.leader_id = self._node_id
            state.leader_epoch = max(state.leader_epoch, known) + 1
        self._set_leadership(topic)

    def _set_leadership(self, topic: TopicMetadata) -> None:
        for index, state in enumerate(topic.partitions):
            partition = self._replicas.get_partition(topic.name, index)
            assert partition is not None
            partition.set_leadership(
                leader_id=state.leader_id,
                leader_epoch=state.leader_epoch,
                isr=state.isr,
                replicas=state.replicas,
            )

    async def _save(self, topics: MetadataCache) -> None:
        await trio.to_thread.run_sync(save_topics, self._logs.path, topics.to_file_content())
