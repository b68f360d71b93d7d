"""The controller: makes and deletes topics, remembers them, and tells the brokers.

Changes happen one at a time, and what the process leaves behind if it dies between two steps is
always something that the next start completes, never old data under a new topic:

* made: ``topics.json`` first, then the logs, then the brokers hear of the topic. The next start
  makes the logs that are missing.
* enlarged: as made, for the partitions that are new.
* settings changed: ``topics.json``, then the logs. Several topics of a request are one step.
* deleted: first ``topics.json`` says that the topic has no partitions, which is how a deletion
  shows; then the brokers let go of it and its directories are renamed for removal. Until then
  nobody can have the name. With the next decision that is saved it leaves ``topics.json``; the next
  start renames what is left.

A directory whose topic id is not the one in ``topics.json`` belongs to a topic that we do not know:
nobody serves it, nobody removes it, and a topic of that name cannot be made.

A leader epoch begins at 0, as in Kafka, and every start leads with a new one, saved before
anything can be appended under it.

A change is done when it is saved. That the brokers alive have heard of it is waited for afterwards,
so that a client that got its answer can use the topic at once; if that takes too long the answer is
REQUEST_TIMED_OUT, and the change holds all the same.

Who leads what is decided in ``leaderships``.

Source: Kafka ``ReplicationControlManager`` (4.1), ``TopicDeletionManager`` (3.9).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .cluster_state import ClusterState, DeliveryWait
from .controller_channel import Transport
from .controller_messages import Change as Announcement
from .leaderships import Leaderships
from .log.log_config import LogConfig
from .log.log_manager import LogManager
from .metadata_cache import (
    NO_LEADER,
    MetadataCache,
    PartitionMetadata,
    TopicMetadata,
    validate_topic_name,
)
from .replica_manager import to_kafka_error
from .replica_placement import Assignments, check_assignments, place

log = logging.getLogger(__name__)

MAX_NEW_PARTITIONS = 10_000
"""Partitions that one call may add; Kafka's limit on what one request may make."""

_CHANGES_PER_TURN = 8

Change: TypeAlias = Callable[[dict[str, str]], dict[str, str]]
"""What a topic sets before a change → what it sets after it; raises KafkaError to refuse."""


@attrs.frozen(kw_only=True)
class TopicDefaults:
    """What a new topic gets when nobody says otherwise."""

    partitions: int
    replication_factor: int


class Controller:
    """Owns the topics of a cluster whose brokers share one store."""

    def __init__(
        self, state: ClusterState, *, defaults: TopicDefaults, new_uuid: Callable[[], bytes]
    ) -> None:
        """Take over the topics of ``state``; ``start`` makes them ready to be led."""
        self._state = state
        self._defaults = defaults
        self._new_uuid = new_uuid
        self.leaderships = Leaderships(state)
        """Which broker leads what."""

    @property
    def topics(self) -> MetadataCache:
        """The truth about topics, their settings included; not to be changed."""
        return self._state.topics

    @property
    def epoch(self) -> int:
        """Of this controller; brokers obey none with a smaller one."""
        return self._state.epoch

    @property
    def registered(self) -> list[int]:
        """Node ids of all brokers, alive or not."""
        return self._state.registered

    @property
    def _logs(self) -> LogManager:
        return self._state.logs

    @property
    def log_defaults(self) -> LogConfig:
        """What topics do not set themselves."""
        return self._logs.config.log

    async def start(self) -> None:
        """Complete what was interrupted, under a new controller epoch; nobody leads anything yet.

        It is saved when the first broker registers, before anything can be appended.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR, a directory of another topic is in the way, or a
                log could not be made.
            OSError: a directory could not be renamed.
        """
        state = self._state
        async with state.changing:
            state.epoch += 1
            for topic in list(state.topics):
                if not topic.partitions:
                    self._complete_deletion(topic)
                    continue
                await trio.to_thread.run_sync(self._make_logs, topic)
                for partition in topic.partitions:
                    partition.leader_id = NO_LEADER
        for partition_log in self._logs:
            name, index = partition_log.topic_partition
            found = state.topics.get_topic(name)
            if found is None or index >= len(found.partitions):
                log.warning("%s belongs to no topic: left alone", partition_log.directory)

    def transport(self) -> Transport:
        """How a broker asks the controller, for one who uses and closes it."""
        return self._state.transport_to_controller()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver decisions to brokers that are reached over connections, until cancelled.

        Cancellation: what was not delivered is told when its broker registers anew.
        """
        await self._state.run(task_status=task_status)

    def _complete_deletion(self, topic: TopicMetadata) -> None:
        self.topics.remove_topic(topic.name)
        keys = {partition_log.topic_partition for partition_log in self._logs}
        for name, index in keys | set(self._logs.failures):
            if name == topic.name and self._logs.topic_id(name, index) == topic.topic_id:
                self._logs.delete_log(name, index)
                log.info("completed the deletion of %s-%d", name, index)

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
        wait: DeliveryWait | None = None,
    ) -> TopicMetadata:
        """Make a topic, and return when the brokers have heard of it.

        Args:
            name: a name by Kafka's rules that is not taken.
            partitions: how many; None is ``num.partitions``.
            replication_factor: None is ``default.replication.factor``.
            assignments: says both in their place.
            configs: {Kafka's name: value}, what the topic sets itself.
            validate_only: check, and make nothing.
            admit: called with the number of partitions when all is checked and nothing made; it
                may raise.
            wait: how to wait for the brokers.

        Returns:
            The topic, or what it would be.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS,
                INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG; or
                KAFKA_STORAGE_ERROR. Nothing was made. REQUEST_TIMED_OUT: it was made, and not
                every broker has heard of it.

        Cancellation: the topic exists as a whole or not at all; one that could not be made may come
            with the next start.
        """
        async with self._state.changing:
            self.check_new_topic(name)
            settings = self._check_configs(configs or {})
            topic_id = bytes(16) if validate_only else b""
            if assignments is None:
                count = self._check_counts(partitions, replication_factor)
                topic_id = topic_id or self._new_uuid()
                assignments = self._place(count, replication_factor, start=topic_id[-1])
            self._check_assignments(assignments)
            if admit is not None:
                admit(len(assignments))
            planned = MetadataCache(self.topics)
            topic = planned.add_topic(name, topic_id or self._new_uuid(), assignments, settings)
            topic.partitions = self._led(assignments)
            if validate_only:
                return topic
            try:
                await self._make(list(planned), topic)
            except (KafkaError, StorageError, OSError) as error:
                await self._unmake(topic)
                raise error if isinstance(error, KafkaError) else to_kafka_error(error) from error
            self.topics.add(topic)
            self._announce(topic)
            log.info("made topic %s with %d partitions", name, len(assignments))
        await self._state.delivered(wait or DeliveryWait())
        return topic

    def check_new_topic(self, name: str) -> None:
        """Refuse the name of a topic that cannot be made.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS.
        """
        if name in self._state.deleting:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' is being deleted.")
        self.topics.check_new_topic(name)

    async def create_partitions(
        self,
        name: str,
        count: int,
        *,
        assignments: Assignments | None = None,
        validate_only: bool = False,
        admit: Callable[[int], None] | None = None,
        wait: DeliveryWait | None = None,
    ) -> None:
        """Give a topic more partitions, after those it has.

        Args:
            name: of the topic.
            count: of partitions that it shall have.
            assignments: of the new partitions; None leaves them to us.
            validate_only: check, and make nothing.
            admit: called with the number of new partitions when all is checked and nothing made; it
                may raise.
            wait: how to wait for the brokers.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT,
                INVALID_REPLICATION_FACTOR; or KAFKA_STORAGE_ERROR. The topic is as it was.
                REQUEST_TIMED_OUT: it is larger, and not every broker has heard of it.

        Cancellation: the partitions exist all or none; those that could not be made may come with
            the next start.
        Source: Kafka ``ReplicationControlManager.createPartitions``.
        """
        async with self._state.changing:
            topic = self.topics.get_topic(name)
            if topic is None:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)  # as Kafka: without a text
            present = len(topic.partitions)
            _check_increase(topic, count)
            new = self._new_replicas(topic, count - present, assignments)
            if admit is not None:
                admit(len(new))
            if validate_only:
                return
            larger = attrs.evolve(topic, partitions=[*topic.partitions, *self._led(new)])
            topics = self.topics.with_changed({name: larger})
            try:
                await self._make(topics, larger, from_index=present)
            except (KafkaError, StorageError, OSError) as error:
                await self._unmake(larger, from_index=present)
                raise error if isinstance(error, KafkaError) else to_kafka_error(error) from error
            topic.partitions = larger.partitions
            self._announce(topic, from_index=present)
            log.info("topic %s has %d partitions now, %d before", name, count, present)
        await self._state.delivered(wait or DeliveryWait())

    def _new_replicas(
        self, topic: TopicMetadata, count: int, assignments: Assignments | None
    ) -> Assignments:
        """Where the replicas of more partitions go."""
        first = topic.partitions[0].replicas
        if assignments is None:
            return self._place(
                count, len(first), start=topic.topic_id[-1], first_index=len(topic.partitions)
            )
        if len(assignments) != count:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {count} additional partition(s), but only "
                f"{len(assignments)} assignment(s) were specified.",
            )
        self._check_assignments(assignments)
        return assignments

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
        async with self._state.changing:
            for number, (name, change) in enumerate(changes.items(), start=1):
                if number % _CHANGES_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()  # there may be thousands
                try:
                    changed[name] = self._altered(name, change)
                except KafkaError as error:
                    failures[name] = error
            if validate_only or not changed:
                return failures
            try:
                await self._state.save(changed)
            except OSError as error:
                failures.update(dict.fromkeys(changed, to_kafka_error(error)))
                return failures
            for name, altered in changed.items():
                topic = self.topics.topic_or_raise(name)
                topic.configs = altered.configs
                self._configure_logs(topic)
                log.info("topic %s sets %s", name, ", ".join(sorted(topic.configs)) or "nothing")
        return failures

    async def use_log_defaults(self, defaults: LogConfig) -> None:
        """Let what topics do not set themselves be ``defaults`` from now on, in every log.

        Cancellation: nothing is changed.
        """
        async with self._state.changing:
            self._logs.config = attrs.evolve(self._logs.config, log=defaults)
            for topic in self.topics:
                self._configure_logs(topic)

    def _altered(self, name: str, change: Change) -> TopicMetadata:
        """The topic with its new settings; the order of the checks is Kafka's."""
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
        validate_topic_name(name)
        topic = self.topics.get_topic(name)
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

    async def delete_topic(
        self, name: str, *, topic_id: bytes | None = None, wait: DeliveryWait | None = None
    ) -> None:
        """Delete a topic and its data; whoever waits for it is woken.

        The files are removed a little later, with those of other deleted logs.

        Args:
            name: of the topic.
            topic_id: of the topic, if it must be that one and not a newer one of the same name.
            wait: how to wait for the brokers.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION; or KAFKA_STORAGE_ERROR, and either the topic is
                as it was, or it is gone but some of its directories are not. REQUEST_TIMED_OUT: it
                is gone, and not every broker has heard of it.

        Cancellation: the topic is as it was, or gone; the next start completes it.
        """
        state = self._state
        async with state.changing:
            topic = self.topics.topic_or_raise(name)
            if topic_id not in {None, topic.topic_id}:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{name} is another topic")
            gone = attrs.evolve(topic, partitions=[])
            try:
                await state.save({name: gone})
            except OSError as error:
                raise to_kafka_error(error) from error
            self.topics.remove_topic(name)
            state.deleting = {**state.deleting, name: gone}
            state.announce_deletion(topic)
        try:
            # Nobody shall find a log gone from under a partition that it still serves.
            await state.delivered(wait or DeliveryWait())
        finally:
            failure = self._delete_logs(topic)
            state.deleting = {key: each for key, each in state.deleting.items() if key != name}
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback keeps this frame, which must not keep it in turn
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
        return count

    def _place(
        self, count: int, replication_factor: int | None, *, start: int, first_index: int = 0
    ) -> list[tuple[int, ...]]:
        if replication_factor is None:
            replication_factor = self._defaults.replication_factor
        return place(
            count,
            replication_factor,
            living=self._state.living,
            registered=self._state.registered,
            start=start,
            first_index=first_index,
        )

    def _check_assignments(self, assignments: Assignments) -> None:
        check_assignments(assignments, living=self._state.living, registered=self._state.registered)

    def _led(self, assignments: Assignments) -> list[PartitionMetadata]:
        """New partitions, led with epoch 0 by the first of their replicas that is alive."""
        living = self._state.living
        partitions = []
        for nodes in assignments:
            isr = tuple(node for node in nodes if node in living)
            partitions.append(PartitionMetadata(tuple(nodes), isr, isr[0]))
        return partitions

    def _announce(self, topic: TopicMetadata, *, from_index: int = 0) -> None:
        indexes = range(from_index, len(topic.partitions))
        self._state.announce([Announcement(topic, indexes, is_new=True)])

    def _check_configs(self, configs: Mapping[str, str | None]) -> dict[str, str]:
        settings = {name: text for name, text in configs.items() if text is not None}
        if len(settings) < len(configs):
            without = ",".join(name for name, text in configs.items() if text is None)
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {without}"
            )
        self._logs.config.log.with_topic_configs(settings)
        return settings

    async def _make(
        self, topics: Sequence[TopicMetadata], topic: TopicMetadata, *, from_index: int = 0
    ) -> None:
        """Write all topics down and make the new logs of one."""
        is_quick = self._logs.is_quick(topic.name, range(from_index, len(topic.partitions)))
        await self._state.work_on_files(self._save_and_make, topics, topic, is_quick=is_quick)

    def _save_and_make(self, topics: Sequence[TopicMetadata], topic: TopicMetadata) -> None:
        self._state.write(topics)
        self._make_logs(topic)

    def _make_logs(self, topic: TopicMetadata) -> None:
        """Make the logs that are not there yet; blocks, for a worker thread."""
        logs = self._logs
        for index in range(len(topic.partitions)):
            if logs.topic_id(topic.name, index) not in {None, topic.topic_id}:
                raise KafkaError(
                    ErrorCode.KAFKA_STORAGE_ERROR,
                    f"{logs.path / topic.name}-{index} holds another topic of that name",
                )
            if logs.get_log(topic.name, index) is not None or (topic.name, index) in logs.failures:
                continue  # one that could not be opened makes a partition that refuses every use
            try:
                logs.create_log(topic.name, index, topic.topic_id, topic.configs)
            except (StorageError, OSError) as error:
                raise to_kafka_error(error) from error

    async def _unmake(self, topic: TopicMetadata, *, from_index: int = 0) -> None:
        """Take back what was made of a topic that could not be completed, or enlarged."""
        for index in range(from_index, len(topic.partitions)):
            try:
                # Not what another topic of the name has left there.
                if self._logs.topic_id(topic.name, index) in {None, topic.topic_id}:
                    self._logs.delete_log(topic.name, index)
            except (StorageError, OSError) as error:
                log.error("%s-%d: %s", topic.name, index, error)
        try:
            await self._state.save()
        except OSError as error:
            log.error("topics.json still has what was added to %s: %s", topic.name, error)

    def _delete_logs(self, topic: TopicMetadata) -> KafkaError | None:
        """Take logs out of the store; the last failure, if a directory stays."""
        failure = None
        for index in range(len(topic.partitions)):
            try:
                self._logs.delete_log(topic.name, index)
            except OSError as error:
                log.error("%s-%d: %s", topic.name, index, error)
                failure = to_kafka_error(error)
        return failure


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
