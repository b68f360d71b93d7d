"""The controller of a single node: makes and deletes topics, and remembers them.

Changes happen one at a time, and what the process leaves behind if it dies between two steps is
always something that the next start completes, never old data under a new topic:

* made: ``topics.json`` first, then the partitions, then clients see the topic. The next start makes
  the partitions that are missing.
* enlarged: as made, for the partitions that are new.
* settings changed: ``topics.json``, then the logs. Several topics of a request are one step.
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

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

import attrs
import trio

from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .log.log_config import LogConfig
from .log.log_manager import LogManager
from .metadata_cache import (
    MetadataCache,
    TopicMetadata,
    new_partitions,
    save_topics,
    validate_topic_name,
)
from .replica_manager import ReplicaManager, to_kafka_error

log = logging.getLogger(__name__)

MAX_NEW_PARTITIONS = 10_000
"""Partitions that one call may add; Kafka's limit on what one request may make."""

Assignments: TypeAlias = Sequence[Sequence[int]]
"""Node ids of every partition's replicas, in the order of the partitions."""
Change: TypeAlias = Callable[[dict[str, str]], dict[str, str]]
"""What a topic sets before a change → what it sets after it; raises KafkaError to refuse."""


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

    @property
    def log_defaults(self) -> LogConfig:
        """What topics do not set themselves."""
        return self._logs.config.log

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
            await self._save()
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
        assignments: Assignments | None = None,
        configs: Mapping[str, str | None] | None = None,
        validate_only: bool = False,
        admit: Callable[[int], None] | None = None,
    ) -> TopicMetadata:
        """Make a topic whose partitions this node leads.

        Args:
            name: a name by Kafka's rules that is not taken.
            partitions: how many; None is ``num.partitions``.
            replication_factor: None is ``default.replication.factor``.
            assignments: says both in their place.
            configs: {Kafka's name: value}, what the topic sets itself.
            validate_only: check, and make nothing.
            admit: called with the number of partitions when all is checked and nothing made; it
                may raise.

        Returns:
            The topic, or what it would be.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS,
                INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG; or
                KAFKA_STORAGE_ERROR. Nothing was made.

        Cancellation: the topic exists as a whole or not at all; one that could not be made may come
            with the next start.
        """
        async with self._changing:
            self._metadata.check_new_topic(name)
            settings = self._check_configs(configs or {})
            if assignments is None:
                count = self._check_counts(partitions, replication_factor)
                assignments = [(self._node_id,)] * count
            self._check_assignments(assignments)
            if admit is not None:
                admit(len(assignments))
            planned = MetadataCache(self._metadata)
            if validate_only:
                return planned.add_topic(name, bytes(16), assignments, settings)
            topic = planned.add_topic(name, self._new_uuid(), assignments, settings)
            try:
                await trio.to_thread.run_sync(self._make, list(planned), topic)
            except (KafkaError, StorageError, OSError) as error:
                await self._unmake(topic)
                raise error if isinstance(error, KafkaError) else to_kafka_error(error) from error
            topic = self._metadata.add_topic(name, topic.topic_id, assignments, settings)
            self._set_leadership(topic)
            log.info("made topic %s with %d partitions", name, len(assignments))
            return topic

    async def create_partitions(
        self,
        name: str,
        count: int,
        *,
        assignments: Assignments | None = None,
        validate_only: bool = False,
        admit: Callable[[int], None] | None = None,
    ) -> None:
        """Give a topic more partitions, after those it has.

        Args:
            name: of the topic.
            count: of partitions that it shall have.
            assignments: of the new partitions; None leaves them to us.
            validate_only: check, and make nothing.
            admit: called with the number of new partitions when all is checked and nothing made; it
                may raise.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT;
                or KAFKA_STORAGE_ERROR. The topic is as it was.

        Cancellation: the partitions exist all or none; those that could not be made may come with
            the next start.
        Source: Kafka ``ReplicationControlManager.createPartitions``.
        """
        async with self._changing:
            topic = self._metadata.topic_or_raise(name)
            present = len(topic.partitions)
            _check_increase(topic, count)
            new = [(self._node_id,)] * (count - present) if assignments is None else assignments
            if len(new) != count - present:
                raise KafkaError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    f"Attempted to add {count - present} additional partition(s), but only "
                    f"{len(new)} assignment(s) were specified.",
                )
            self._check_assignments(new)
            if admit is not None:
                admit(len(new))
            if validate_only:
                return
            larger = attrs.evolve(topic, partitions=[*topic.partitions, *new_partitions(new)])
            topics = self._metadata.with_changed({name: larger})
            try:
                await trio.to_thread.run_sync(self._make, topics, larger)
            except (KafkaError, StorageError, OSError) as error:
                await self._unmake(larger, from_index=present)
                raise error if isinstance(error, KafkaError) else to_kafka_error(error) from error
            self._metadata.add_partitions(name, new)
            self._set_leadership(topic, from_index=present)
            log.info("topic %s has %d partitions now, %d before", name, count, present)

    async def alter_topic_configs(
        self, changes: Mapping[str, Change], *, validate_only: bool = False
    ) -> dict[str, KafkaError]:
        """Change what topics set themselves, each as a whole, all that can be in one step.

        Args:
            changes: {topic: what becomes of its settings}.
            validate_only: check, and change nothing.

        Returns:
            {topic: why it is as it was}: INVALID_REQUEST, INVALID_TOPIC_EXCEPTION,
            UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG, KAFKA_STORAGE_ERROR, and what its change
            raised.

        Cancellation: all of it is written down or nothing.
        Source: Kafka ``ConfigurationControlManager``.
        """
        failures: dict[str, KafkaError] = {}
        changed: dict[str, TopicMetadata] = {}
        async with self._changing:
            for name, change in changes.items():
                await trio.lowlevel.checkpoint()  # there may be thousands
                try:
                    changed[name] = self._altered(name, change)
                except KafkaError as error:
                    failures[name] = error
            if validate_only or not changed:
                return failures
            try:
                await self._save(changed)
            except OSError as error:
                failures.update(dict.fromkeys(changed, to_kafka_error(error)))
                return failures
            for name, altered in changed.items():
                topic = self._metadata.topic_or_raise(name)
                topic.configs = altered.configs
                self._configure_logs(topic)
                log.info("topic %s sets %s", name, ", ".join(sorted(topic.configs)) or "nothing")
        return failures

    async def use_log_defaults(self, defaults: LogConfig) -> None:
        """Let what topics do not set themselves be ``defaults`` from now on, in every log.

        Cancellation: nothing is changed.
        """
        async with self._changing:
            self._logs.config = attrs.evolve(self._logs.config, log=defaults)
            for topic in self._metadata:
                self._configure_logs(topic)

    def _altered(self, name: str, change: Change) -> TopicMetadata:
        """The topic with its new settings; the order of the checks is Kafka's."""
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
        validate_topic_name(name)
        topic = self._metadata.get_topic(name)
        configs = change({} if topic is None else dict(topic.configs))
        self._logs.config.log.with_topic_configs(configs)
        if topic is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist."
            )
        return attrs.evolve(topic, configs=configs)

    def _configure_logs(self, topic: TopicMetadata) -> None:
        config = self._logs.config.log.with_topic_configs(topic.configs)
        for index in range(len(topic.partitions)):
            partition_log = self._logs.get_log(topic.name, index)
            if partition_log is not None:
                partition_log.update_config(config)

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
            try:
                await self._save({name: attrs.evolve(topic, partitions=[])})
            except OSError as error:
                raise to_kafka_error(error) from error
            self._metadata.remove_topic(name)
            failure = self._delete_partitions(topic)
            try:
                await self._save()
            except OSError as error:
                log.warning("topic %s is deleted, the next start completes it: %s", name, error)
            for forget in self.on_topic_deleted:
                await forget(name)
            if failure is not None:
                raise failure
            log.info("deleted topic %s", name)

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
        if count < 1:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                "Number of partitions was set to an invalid non-positive value.",
            )
        _check_new(count)
        if replicas > 1:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"Unable to replicate the partition {replicas} time(s): The target replication "
                f"factor of {replicas} cannot be reached because only 1 broker(s) are registered.",
            )
        return count

    def _check_assignments(self, assignments: Assignments) -> None:
        """Refuse replicas anywhere but here.

        Source: Kafka ``ReplicationControlManager.validateManualPartitionAssignment``.
        """
        for nodes in assignments:
            if list(nodes) != [self._node_id]:
                raise KafkaError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    f"The manual partition assignment includes {self._what_is_wrong(nodes)}.",
                )

    def _what_is_wrong(self, nodes: Sequence[int]) -> str:
        if not nodes:
            return "an empty replica list"
        unknown = [node for node in nodes if node != self._node_id]
        if unknown:
            return f"broker {unknown[0]}, but no such broker is registered"
        return f"the broker {self._node_id} more than once"

    def _check_configs(self, configs: Mapping[str, str | None]) -> dict[str, str]:
        settings = {name: text for name, text in configs.items() if text is not None}
        if len(settings) < len(configs):
            without = ",".join(name for name, text in configs.items() if text is None)
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {without}"
            )
        self._logs.config.log.with_topic_configs(settings)
        return settings

    def _make(self, topics: Sequence[TopicMetadata], topic: TopicMetadata) -> None:
        """Write all topics down and make the partitions of one; blocks, for a worker thread."""
        save_topics(self._logs.path, topics)
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

    async def _unmake(self, topic: TopicMetadata, *, from_index: int = 0) -> None:
        """Take back what was made of a topic that could not be completed, or enlarged."""
        self._delete_partitions(topic, from_index=from_index)
        for index in range(from_index, len(topic.partitions)):
            if self._logs.get_log(topic.name, index) is None:
                self._remove_unfinished(topic, index)
        try:
            await self._save()
        except OSError as error:
            log.error("topics.json still has what was added to %s: %s", topic.name, error)

    def _remove_unfinished(self, topic: TopicMetadata, index: int) -> None:
        """Remove a directory that got no log, so that the name can be used again."""
        try:
            if self._logs.topic_id(topic.name, index) in {None, topic.topic_id}:
                self._logs.delete_log(topic.name, index)
        except (StorageError, OSError) as error:
            log.error("%s-%d: %s", topic.name, index, error)

    def _delete_partitions(self, topic: TopicMetadata, *, from_index: int = 0) -> KafkaError | None:
        """Take partitions out of service; the last failure, if a directory stays."""
        failure = None
        for index in range(from_index, len(topic.partitions)):
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

    def _set_leadership(self, topic: TopicMetadata, *, from_index: int = 0) -> None:
        for index, state in islice(enumerate(topic.partitions), from_index, None):
            partition = self._replicas.get_partition(topic.name, index)
            assert partition is not None
            partition.set_leadership(
                leader_id=state.leader_id,
                leader_epoch=state.leader_epoch,
                isr=state.isr,
                replicas=state.replicas,
            )

    async def _save(self, changed: Mapping[str, TopicMetadata] | None = None) -> None:
        """Write all topics down; the lock keeps them from changing meanwhile."""
        topics = self._metadata.with_changed(changed or {})
        await trio.to_thread.run_sync(save_topics, self._logs.path, topics)


def _check_increase(topic: TopicMetadata, count: int) -> None:
    present = len(topic.partitions)
    if count == present:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {present} partition(s).")
    if count < present:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {present} partition(s); {count} would not be "
            "an increase.",
        )
    _check_new(count - present)


def _check_new(count: int) -> None:
    if count > MAX_NEW_PARTITIONS:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"{count} new partitions; 1 to {MAX_NEW_PARTITIONS} are allowed",
        )
