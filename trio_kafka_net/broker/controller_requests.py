"""What a broker does when the controller tells it something.

The one place where a broker changes what it leads and what it knows of the cluster. The requests
come over the control plane, or directly from a controller in the same process; they are the same
objects and go the same way from here on.

A request is refused as a whole if its controller has been replaced (STALE_CONTROLLER_EPOCH) or if
it was meant for this broker before its last start (STALE_BROKER_EPOCH). Partitions are refused
one by one: an older leader epoch (STALE_CONTROLLER_EPOCH, FENCED_LEADER_EPOCH), another topic of
that name (INCONSISTENT_TOPIC_ID), no replica here (UNKNOWN_TOPIC_OR_PARTITION), no log in the store
(KAFKA_STORAGE_ERROR). What was applied already may be applied again.

Logs belong to the store that all brokers of a process share, so they are neither made nor deleted
here: the controller has made them before it sends LeaderAndIsr, and deletes them when StopReplica
is answered.

Source: Kafka ``ReplicaManager.becomeLeaderOrFollower``, ``stopReplicas``,
``KafkaApis.handleUpdateMetadataRequest``, ``RequestHandlerHelper.onLeadershipChange`` (3.9).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from trio_kafka_net.errors import KafkaError, LocalProtocolError
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.leader_and_isr import (
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
)
from trio_kafka_net.protocol.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from trio_kafka_net.protocol.messages.update_metadata import (
    UpdateMetadataRequest,
    UpdateMetadataResponse,
)

from .controller_messages import EPOCH_DURING_DELETE, LEADER_DURING_DELETE, ControllerRequest
from .metadata_cache import BrokerMetadata, Endpoint, MetadataCache, PartitionMetadata
from .replica_manager import ReplicaManager

log = logging.getLogger(__name__)

_NO_EPOCH = -1
_PROTOCOL_NAMES = {0: "PLAINTEXT", 1: "SSL", 2: "SASL_PLAINTEXT", 3: "SASL_SSL"}


class LeadershipListener(Protocol):
    """Whoever must know which partitions of a topic are led here."""

    topic: str
    """The topic."""

    def lead(self, index: int) -> None:
        """This broker leads a partition now, or still."""

    def resign(self, index: int) -> None:
        """This broker does not lead a partition, or not any more."""

    def topic_known(self, partitions: int) -> None:
        """The topic has so many partitions."""


class ControllerRequests:
    """Carries out what the controller tells one broker."""

    def __init__(
        self,
        metadata: MetadataCache,
        replicas: ReplicaManager,
        listener: LeadershipListener | None = None,
    ) -> None:
        """Begin as a broker that has heard nothing.

        Args:
            metadata: what the broker knows of the cluster.
            replicas: its partitions.
            listener: told of the partitions of one topic.
        """
        self.broker_epoch = _NO_EPOCH
        """Of this broker's registration; requests for an older one are refused."""
        self.controller_epoch = 0
        """The highest that was heard of."""
        self.on_topic_deleted: list[Callable[[str], Awaitable[None]]] = []
        """Awaited with the name of every topic that is gone, before the request is answered."""
        self._metadata = metadata
        self._replicas = replicas
        self._listener = listener

    async def handle(self, request: Message) -> Message:
        """Carry out any of the controller's requests.

        Cancellation: some offsets of deleted topics may be left; the rest is done.
        """
        if isinstance(request, LeaderAndIsrRequest):
            return self.leader_and_isr(request)
        if isinstance(request, StopReplicaRequest):
            return self.stop_replica(request)
        if isinstance(request, UpdateMetadataRequest):
            return await self.update_metadata(request)
        raise LocalProtocolError(f"{type(request).__name__} is no request of a controller")

    def _refusal(self, request: ControllerRequest) -> ErrorCode:
        """Why a request is refused as a whole; if it is not, its controller is the newest."""
        if request.broker_epoch != _NO_EPOCH and request.broker_epoch < self.broker_epoch:
            code = ErrorCode.STALE_BROKER_EPOCH
        elif request.controller_epoch < self.controller_epoch:
            code = ErrorCode.STALE_CONTROLLER_EPOCH
        else:
            self.controller_epoch = request.controller_epoch
            return ErrorCode.NONE
        log.warning(
            "%s of controller epoch %d, broker epoch %d refused: %s; here they are %d, %d",
            type(request).__name__,
            request.controller_epoch,
            request.broker_epoch,
            code.name,
            self.controller_epoch,
            self.broker_epoch,
        )
        return code

    # Leadership

    def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Become leader or follower of partitions; wakes whoever waits at them."""
        refusal = self._refusal(request)
        if refusal:
            return LeaderAndIsrResponse(error_code=refusal)
        response = LeaderAndIsrResponse()
        # Up to version 1 partitions come one by one, up to 4 topics have no id.
        for each in request.ungrouped_partition_states:
            code = self._take_leadership(each.topic_name, None, each, request)
            response.partition_errors.append(
                _leadership_error(each.partition_index, code, each.topic_name)
            )
        for topic in request.topic_states:
            has_id = any(topic.topic_id)
            errors = []
            for each in topic.partition_states:
                topic_id = topic.topic_id if has_id else None
                code = self._take_leadership(topic.topic_name, topic_id, each, request)
                errors.append(_leadership_error(each.partition_index, code, topic.topic_name))
            response.topics.append(
                LeaderAndIsrResponse.TopicError(topic_id=topic.topic_id, partition_errors=errors)
            )
            response.partition_errors += errors
        return response

    def _take_leadership(
        self,
        name: str,
        topic_id: bytes | None,
        state: LeaderAndIsrRequest.PartitionState,
        request: LeaderAndIsrRequest,
    ) -> ErrorCode:
        index = state.partition_index
        try:
            partition = self._replicas.get_partition(name, index)
            if partition is not None:
                partition.check_topic_id(topic_id)
                known = partition.leader_epoch
                if state.leader_epoch < known or (
                    state.leader_epoch == known and not request.is_kraft_controller
                ):
                    return ErrorCode.STALE_CONTROLLER_EPOCH
            if self._replicas.node_id not in state.replicas:
                return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if partition is None:
                partition = self._replicas.add_partition(name, index, topic_id)
        except KafkaError as error:
            return error_code_of(error)
        partition.set_leadership(
            leader_id=state.leader,
            leader_epoch=state.leader_epoch,
            isr=state.isr,
            replicas=state.replicas,
            partition_epoch=state.partition_epoch,
        )
        self._tell_listener(name, index, partition.is_leader)
        return ErrorCode.KAFKA_STORAGE_ERROR if partition.is_offline else ErrorCode.NONE

    def _tell_listener(self, name: str, index: int, is_leader: bool) -> None:
        if self._listener is not None and name == self._listener.topic:
            (self._listener.lead if is_leader else self._listener.resign)(index)

    # Ends

    def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Let go of partitions; whoever waits at them is answered."""
        refusal = self._refusal(request)
        if refusal:
            return StopReplicaResponse(error_code=refusal)
        return StopReplicaResponse(
            partition_errors=[
                StopReplicaResponse.PartitionError(
                    topic_name=name,
                    partition_index=index,
                    error_code=self._stop(name, index, leader_epoch, is_final),
                )
                for name, index, leader_epoch, is_final in _stopped(request)
            ]
        )

    def _stop(self, name: str, index: int, leader_epoch: int, is_final: bool) -> ErrorCode:
        partition = self._replicas.get_partition(name, index)
        if partition is not None:
            if (
                leader_epoch not in {EPOCH_DURING_DELETE, _NO_EPOCH}
                and leader_epoch < partition.leader_epoch
            ):
                return ErrorCode.FENCED_LEADER_EPOCH
            if is_final:
                self._replicas.remove_partition(name, index)
            else:
                partition.resign()
        self._tell_listener(name, index, False)
        return ErrorCode.NONE

    # Metadata

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        """Take over what is told of brokers and partitions.

        Cancellation: offsets of deleted topics may be left; the rest is done.
        """
        refusal = self._refusal(request)
        if refusal:
            return UpdateMetadataResponse(error_code=refusal)
        self._metadata.controller_id = request.controller_id
        self._metadata.set_brokers(map(_broker, request.live_brokers))
        deleted = [topic.topic_name for topic in _told_topics(request) if self._is_end_of(topic)]
        for name in deleted:
            for forget in self.on_topic_deleted:
                await forget(name)
        return UpdateMetadataResponse()

    def _is_end_of(self, told: UpdateMetadataRequest.TopicState) -> bool:
        """Take over what is told of a topic; whether that was its end."""
        name, states = told.topic_name, told.partition_states
        known = self._metadata.get_topic(name)
        topic_id = told.topic_id
        if known is not None and not any(topic_id):
            topic_id = known.topic_id  # nobody said: it is the one that we know
        living = [state for state in states if state.leader != LEADER_DURING_DELETE]
        if living:
            self._metadata.set_partitions(
                name, topic_id, {state.partition_index: _partition(state) for state in living}
            )
            self._tell_topic(name)
            return False
        # With a whole topic all of its partitions go, in as many requests as it takes.
        is_known = known is not None and known.topic_id == topic_id
        if states and is_known:
            self._metadata.remove_topic(name)
        return bool(states) and is_known

    def _tell_topic(self, name: str) -> None:
        if self._listener is not None and name == self._listener.topic:
            topic = self._metadata.get_topic(name)
            self._listener.topic_known(0 if topic is None else len(topic.partitions))


def _leadership_error(
    index: int, code: ErrorCode, topic_name: str
) -> LeaderAndIsrResponse.PartitionError:
    return LeaderAndIsrResponse.PartitionError(
        topic_name=topic_name, partition_index=index, error_code=code
    )


def _stopped(request: StopReplicaRequest) -> list[tuple[str, int, int, bool]]:
    """(topic, partition, leader epoch, whether for ever), of whatever version."""
    is_final = request.delete_partitions
    stopped = [
        (each.topic_name, each.partition_index, _NO_EPOCH, is_final)
        for each in request.ungrouped_partitions
    ]
    stopped += [
        (topic.name, index, _NO_EPOCH, is_final)
        for topic in request.topics
        for index in topic.partition_indexes
    ]
    stopped += [
        (topic.topic_name, each.partition_index, each.leader_epoch, each.delete_partition)
        for topic in request.topic_states
        for each in topic.partition_states
    ]
    return stopped


def _told_topics(request: UpdateMetadataRequest) -> list[UpdateMetadataRequest.TopicState]:
    """Partitions by topic; up to version 4 they come one by one."""
    topics: dict[str, UpdateMetadataRequest.TopicState] = {}
    for state in request.ungrouped_partition_states:
        into = topics.get(state.topic_name)
        if into is None:
            into = UpdateMetadataRequest.TopicState(topic_name=state.topic_name)
            topics[state.topic_name] = into
        into.partition_states.append(state)
    return [*topics.values(), *request.topic_states]


def _broker(told: UpdateMetadataRequest.Broker) -> BrokerMetadata:
    """A broker; up to version 2 its listeners are called after their security protocols."""
    endpoints = {
        each.listener or _PROTOCOL_NAMES.get(each.security_protocol, ""): Endpoint(
            each.host, each.port
        )
        for each in told.endpoints
    }
    if told.v0_host:
        endpoints[_PROTOCOL_NAMES[0]] = Endpoint(told.v0_host, told.v0_port)
    return BrokerMetadata(told.id, endpoints, told.rack)


def _partition(told: UpdateMetadataRequest.PartitionState) -> PartitionMetadata:
    return PartitionMetadata(
        replicas=tuple(told.replicas),
        isr=tuple(told.isr),
        leader_id=told.leader,
        leader_epoch=told.leader_epoch,
        partition_epoch=told.zk_version,
        offline_replicas=tuple(told.offline_replicas),
    )
