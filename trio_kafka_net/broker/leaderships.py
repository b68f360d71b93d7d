"""The part of the controller that decides who leads: brokers come, go, and are relieved.

Whoever comes gets everything told; the others only what changes. A broker that stops in an orderly
way asks to be relieved first (ControlledShutdown), and its leaderships move while it still serves;
one that dies loses them at once. Leaderships go back to the preferred leaders when somebody asks.

Source: Kafka ``KafkaController`` (3.9), ``ReplicationControlManager`` (4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .cluster_state import ClusterState, DeliveryWait
from .controller_channel import Transport
from .controller_messages import Change
from .elections import ElectionType, elected, reassigned, settled
from .metadata_cache import NO_LEADER, Endpoint, PartitionMetadata, TopicMetadata
from .replica_manager import to_kafka_error
from .replica_placement import check_replicas

log = logging.getLogger(__name__)

PartitionKey: TypeAlias = tuple[str, int]
"""Topic name and partition index."""

_DECISIONS_PER_TURN = 100
"""Partitions decided on between two checkpoints; a fraction of a millisecond."""


@attrs.frozen
class Registration:
    """A broker that wants to take part."""

    node_id: int
    endpoints: Mapping[str, Endpoint]
    """{listener name: where to connect}"""
    transport: Transport
    """How the controller reaches it."""
    rack: str | None = None


class Leaderships:
    """Decides which broker leads what."""

    def __init__(self, state: ClusterState) -> None:
        """Decide over ``state``."""
        self._state = state

    async def register(self, *joining: Registration) -> list[int]:
        """Let brokers take part, and return when all have heard of it.

        Brokers that start together should register together, or the first one leads everything.
        One that is there already and does not answer is waited for, but keeps nobody out.

        Returns:
            Their broker epochs.

        Raises:
            OSError: it could not be saved; nobody was told.
            KafkaError: REQUEST_TIMED_OUT, one of these brokers did not answer in time.

        Cancellation: the brokers are registered or not; call ``unregister``.
        """
        state = self._state
        async with state.changing:
            brokers = [
                state.add_broker(each.node_id, each.endpoints, each.transport, each.rack)
                for each in joining
            ]
            changes = self._settle()
            await state.save()
            others = [broker for broker in state.alive if broker not in brokers]
            if others:
                news = self._replicas_of({broker.node_id for broker in brokers})
                state.announce(changes, others, news=news)
            for broker in brokers:
                state.announce_everything(broker)
        log.info("brokers %s registered", ", ".join(str(each.node_id) for each in joining))
        self._report_leaderless()
        await state.delivered(DeliveryWait(), brokers)
        await self._wait_for_others()
        return [broker.epoch for broker in brokers]

    async def unregister(self, node_id: int) -> None:
        """Note that a broker is gone; others lead what it led.

        Nothing happens if it is not registered. Returns when the others have heard of it, or do not
        answer.

        Cancellation: the others may not have heard of it yet.
        """
        state = self._state
        broker = state.brokers.get(node_id)
        if broker is None or not broker.is_alive:
            return
        broker.is_alive = False
        broker.channel.close()
        # It may be cancelled together with the broker, and who should lead then? What is waited
        # for here is the disk, never a broker.
        with trio.CancelScope(shield=True):
            async with state.changing:
                changes = self._settle()
                await self._save_if_possible(changes)
                state.announce(changes, news=self._replicas_of({node_id}))
        log.info("broker %d is gone", node_id)
        await self._wait_for_others()

    async def _wait_for_others(self) -> None:
        """Wait until all have heard who is there; that somebody does not answer stops nobody."""
        try:
            await self._state.delivered(DeliveryWait())
        except KafkaError as error:
            log.warning("brokers came or went: %s", error.message)

    async def controlled_shutdown(
        self, node_id: int, broker_epoch: int, wait: DeliveryWait
    ) -> list[PartitionKey]:
        """Relieve a broker of its leaderships, as far as others can take over.

        Returns:
            Replicated partitions that it still leads.

        Raises:
            KafkaError: BROKER_NOT_AVAILABLE, STALE_BROKER_EPOCH; REQUEST_TIMED_OUT, the decision
                is made and not everybody has heard of it.

        Cancellation: as for the latter.
        """
        state = self._state
        broker = state.broker_or_raise(node_id, broker_epoch)
        async with state.changing:
            broker.is_stopping = True
            changes = self._settle()
            await self._save_if_possible(changes)
            state.announce(changes)
        await state.delivered(wait)
        return [
            (topic.name, index)
            for topic in state.topics
            for index, partition in enumerate(topic.partitions)
            if partition.leader_id == node_id and len(partition.replicas) > 1
        ]

    async def elect(
        self, partitions: Iterable[PartitionKey] | None, election: ElectionType, wait: DeliveryWait
    ) -> dict[PartitionKey, KafkaError | None]:
        """Have partitions led by their preferred leader, or by anybody at all.

        Args:
            partitions: which ones; None is all.
            election: what kind.
            wait: how to wait for the brokers.

        Returns:
            {partition: why it is led as it was}, None if it is not.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR, nothing was changed; REQUEST_TIMED_OUT, it was, and not
                everybody has heard of it.

        Cancellation: as for the latter.
        Source: Kafka ``ReplicationControlManager.electLeaders`` (4.1).
        """
        state = self._state
        outcomes: dict[PartitionKey, KafkaError | None] = {}
        decided: dict[PartitionKey, PartitionMetadata] = {}
        async with state.changing:
            if partitions is None:
                partitions = [
                    (topic.name, index)
                    for topic in state.topics
                    for index in range(len(topic.partitions))
                ]
            living = state.living
            for number, key in enumerate(partitions, start=1):
                if number % _DECISIONS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()  # nobody else decides meanwhile
                outcomes[key] = None
                try:
                    decided[key] = elected(self._partition(key), living, election)
                except KafkaError as error:
                    outcomes[key] = error
            await self._decide(decided)
        await state.delivered(wait)
        return outcomes

    async def reassign(
        self, moves: Mapping[PartitionKey, Sequence[int]], wait: DeliveryWait
    ) -> dict[PartitionKey, KafkaError | None]:
        """Give partitions other replicas; at once, as there is nothing to copy.

        Args:
            moves: {partition: node ids, the preferred leader first}.
            wait: how to wait for the brokers.

        Returns:
            {partition: why it is as it was}, None if it is not.

        Raises:
            KafkaError: as ``elect``.

        Cancellation: as there.
        Source: Kafka ``ReplicationControlManager.alterPartitionReassignments`` (4.1).
        """
        state = self._state
        outcomes: dict[PartitionKey, KafkaError | None] = {}
        decided: dict[PartitionKey, PartitionMetadata] = {}
        async with state.changing:
            living, registered = state.living, state.registered
            for number, (key, replicas) in enumerate(moves.items(), start=1):
                if number % _DECISIONS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()  # nobody else decides meanwhile
                outcomes[key] = None
                try:
                    before = self._partition(key, "Unable to find a topic named {}.")
                    check_replicas(replicas, registered)
                    after = reassigned(before, tuple(replicas), living)
                    if after is not None:
                        decided[key] = after
                except KafkaError as error:
                    outcomes[key] = error
            removed = {
                key: set(self._partition(key).replicas).difference(after.replicas)
                for key, after in decided.items()
            }
            await self._decide(decided)
            for (name, index), nodes in removed.items():
                state.announce_removal(state.topics.topic_or_raise(name), index, nodes)
        await state.delivered(wait)
        return outcomes

    def _partition(
        self, key: PartitionKey, no_topic: str = "No such topic as {}"
    ) -> PartitionMetadata:
        name, index = key
        topic = self._state.topics.get_topic(name)
        if topic is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, no_topic.format(name))
        if not 0 <= index < len(topic.partitions):
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}"
            )
        return topic.partitions[index]

    async def _decide(self, decided: Mapping[PartitionKey, PartitionMetadata]) -> None:
        """Save decisions, then make them and tell of them."""
        if not decided:
            return
        state = self._state
        changed: dict[str, TopicMetadata] = {}
        indexes: dict[str, list[int]] = {}
        for (name, index), after in decided.items():
            if name not in changed:
                topic = state.topics.topic_or_raise(name)
                changed[name] = attrs.evolve(topic, partitions=list(topic.partitions))
                indexes[name] = []
            changed[name].partitions[index] = after
            indexes[name].append(index)
        try:
            await state.save(changed)
        except OSError as error:
            raise to_kafka_error(error) from error
        for name, topic in changed.items():
            state.topics.topic_or_raise(name).partitions = topic.partitions
        state.announce(
            [Change(state.topics.topic_or_raise(name), sorted(indexes[name])) for name in changed]
        )

    def _settle(self) -> list[Change]:
        """Give every partition the leader that it should have among those alive."""
        state = self._state
        living = set(state.living)
        alive = {broker.node_id for broker in state.alive}
        changes = []
        for topic in state.topics:
            indexes = []
            for index, before in enumerate(topic.partitions):
                partition_log = state.logs.get_log(topic.name, index)
                known = -1 if partition_log is None else partition_log.leader_epochs.latest_epoch
                after = settled(before, living, known_epoch=known)
                if after is None:
                    continue
                if after.leader_id == NO_LEADER and before.leader_id in alive:
                    continue  # it stops, and nobody can take over: it leads to the end
                topic.partitions[index] = after
                indexes.append(index)
            if indexes:
                changes.append(Change(topic, indexes))
        return changes

    def _report_leaderless(self) -> None:
        """Say what cannot be used: of a store that more brokers had before, for example."""
        leaderless = [
            f"{topic.name}-{index} of brokers {', '.join(map(str, partition.replicas))}"
            for topic in self._state.topics
            for index, partition in enumerate(topic.partitions)
            if partition.leader_id == NO_LEADER
        ]
        if leaderless:
            log.warning(
                "%d partitions have no leader, as no replica in sync is alive; first %s",
                len(leaderless),
                leaderless[0],
            )

    def _replicas_of(self, nodes: set[int]) -> list[Change]:
        """Partitions of which some brokers have replicas: whether they are offline is news."""
        changes = []
        for topic in self._state.topics:
            indexes = [
                index
                for index, partition in enumerate(topic.partitions)
                if not nodes.isdisjoint(partition.replicas)
            ]
            if indexes:
                changes.append(Change(topic, indexes))
        return changes

    async def _save_if_possible(self, changes: Sequence[Change]) -> None:
        """Save what happened to us rather than was decided: it is so even if the disk is full.

        The next start finds the leader epochs that were used in the logs.
        """
        if not changes:
            return
        try:
            await self._state.save()
        except OSError as error:
            log.error("topics.json is older than the leaderships: %s", error)
