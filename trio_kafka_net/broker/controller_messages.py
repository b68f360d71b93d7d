"""The requests that tell one broker what the controller has decided.

A broker hears of leadership only where it has a replica (LeaderAndIsr), and of everything else as
news about the cluster (UpdateMetadata). A request carries a bounded number of partitions, so that
no broker is held up by one of them.

Source: Kafka ``AbstractControllerBrokerRequestBatch`` (3.9).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, TypeAlias, TypeVar

import attrs

from trio_kafka_net.protocol.messages.leader_and_isr import LeaderAndIsrRequest
from trio_kafka_net.protocol.messages.stop_replica import StopReplicaRequest
from trio_kafka_net.protocol.messages.update_metadata import UpdateMetadataRequest

from .metadata_cache import BrokerMetadata, TopicMetadata

EPOCH_DURING_DELETE: Final = -2
"""Leader epoch of partitions that go with their topic: above every other; Kafka's sentinel."""
LEADER_DURING_DELETE: Final = -2
"""Leader of partitions that go with their topic; Kafka's sentinel."""

_PARTITIONS_PER_REQUEST = 500
"""About 5 ms of a broker's time."""
_PARTITION_ELEMENTS = 40_000
"""What the partitions of one request may have in arrays: brokers refuse requests with more than
50,000 elements, and would refuse them whenever they came again."""
_PLAINTEXT = 0
_INCREMENTAL, _FULL = 1, 2

ControllerRequest: TypeAlias = LeaderAndIsrRequest | UpdateMetadataRequest | StopReplicaRequest
"""What a controller sends."""

_T = TypeVar("_T")


@attrs.frozen
class Change:
    """Partitions of one topic that are to be told of."""

    topic: TopicMetadata
    indexes: Sequence[int]
    is_new: bool = False
    """Whether they were made just now."""


def leader_and_isr(
    changes: Iterable[Change], node_id: int, *, controller_id: int, is_full: bool = False
) -> Iterator[LeaderAndIsrRequest]:
    """Tell a broker what leads the partitions that it has replicas of.

    Args:
        changes: partitions.
        node_id: of the broker.
        controller_id: node id that stands for the controller.
        is_full: whether these are all partitions that the broker has.
    """
    rows = (
        (change, index, change.topic.partitions[index])
        for change in changes
        for index in change.indexes
        if node_id in change.topic.partitions[index].replicas
    )
    for piece in _pieces(rows):
        request = LeaderAndIsrRequest(
            controller_id=controller_id,
            is_kraft_controller=True,
            type=_FULL if is_full else _INCREMENTAL,
        )
        states: dict[bytes, LeaderAndIsrRequest.TopicState] = {}
        for change, index, state in piece:
            topic = change.topic
            into = states.get(topic.topic_id)
            if into is None:
                into = LeaderAndIsrRequest.TopicState(
                    topic_name=topic.name, topic_id=topic.topic_id
                )
                states[topic.topic_id] = into
            into.partition_states.append(
                LeaderAndIsrRequest.PartitionState(
                    partition_index=index,
                    leader=state.leader_id,
                    leader_epoch=state.leader_epoch,
                    isr=list(state.isr),
                    partition_epoch=state.partition_epoch,
                    replicas=list(state.replicas),
                    is_new=change.is_new,
                )
            )
        request.topic_states = list(states.values())
        yield request


def update_metadata(
    changes: Iterable[Change],
    living: Sequence[BrokerMetadata],
    *,
    controller_id: int,
    is_deletion: bool = False,
) -> Iterator[UpdateMetadataRequest]:
    """Tell a broker of partitions and of all brokers that are alive; at least one request.

    The partitions of a topic are told together, so that a topic is not known by half; unless it has
    more than go into one request.

    Args:
        changes: partitions.
        living: the brokers.
        controller_id: node id that stands for the controller.
        is_deletion: whether the partitions go with their topics.
    """
    nodes = {broker.node_id for broker in living}
    piece: list[Change] = []
    count = 0
    is_empty = True
    for change in chain.from_iterable(map(_together, changes)):
        piece.append(change)
        count += len(change.indexes)
        if count >= _PARTITIONS_PER_REQUEST:
            yield _about(piece, living, nodes, controller_id, is_deletion)
            piece, count, is_empty = [], 0, False
    if piece or is_empty:
        yield _about(piece, living, nodes, controller_id, is_deletion)


def _together(change: Change) -> Iterator[Change]:
    """What is told of a topic, in as few parts as go into requests."""
    indexes = change.indexes
    if len(indexes) <= _PARTITIONS_PER_REQUEST:
        yield change
        return
    # Each has its replicas, those in sync and those offline.
    replicas = max(len(change.topic.partitions[index].replicas) for index in indexes)
    most = max(1, _PARTITION_ELEMENTS // (1 + 3 * replicas))
    for first in range(0, len(indexes), most):
        yield attrs.evolve(change, indexes=indexes[first : first + most])


def _about(
    changes: Sequence[Change],
    living: Sequence[BrokerMetadata],
    nodes: set[int],
    controller_id: int,
    is_deletion: bool,
) -> UpdateMetadataRequest:
    request = _about_brokers(living, controller_id)
    request.topic_states = [_topic_state(change, nodes, is_deletion) for change in changes]
    return request


def _about_brokers(living: Sequence[BrokerMetadata], controller_id: int) -> UpdateMetadataRequest:
    return UpdateMetadataRequest(
        controller_id=controller_id,
        is_kraft_controller=True,
        type=_INCREMENTAL,
        live_brokers=[
            UpdateMetadataRequest.Broker(
                id=broker.node_id,
                rack=broker.rack,
                endpoints=[
                    UpdateMetadataRequest.Endpoint(
                        port=endpoint.port,
                        host=endpoint.host,
                        listener=name,
                        security_protocol=_PLAINTEXT,
                    )
                    for name, endpoint in broker.endpoints.items()
                ],
            )
            for broker in living
        ],
    )


def _topic_state(
    change: Change, living: set[int], is_deletion: bool
) -> UpdateMetadataRequest.TopicState:
    topic = change.topic
    told = UpdateMetadataRequest.TopicState(topic_name=topic.name, topic_id=topic.topic_id)
    for index in change.indexes:
        state = topic.partitions[index]
        told.partition_states.append(
            UpdateMetadataRequest.PartitionState(
                partition_index=index,
                leader=LEADER_DURING_DELETE if is_deletion else state.leader_id,
                leader_epoch=state.leader_epoch,
                isr=list(state.isr),
                zk_version=state.partition_epoch,
                replicas=list(state.replicas),
                offline_replicas=[node for node in state.replicas if node not in living],
            )
        )
    return told


def stop_replica(
    topic: TopicMetadata, indexes: Iterable[int], *, controller_id: int, leader_epoch: int | None
) -> Iterator[StopReplicaRequest]:
    """Tell a broker to let go of replicas.

    Args:
        topic: whose partitions.
        indexes: of the partitions.
        controller_id: node id that stands for the controller.
        leader_epoch: above which the broker must not have heard; None is that of each partition.
    """
    for piece in _pieces(iter(indexes)):
        yield StopReplicaRequest(
            controller_id=controller_id,
            is_kraft_controller=True,
            topic_states=[
                StopReplicaRequest.TopicState(
                    topic_name=topic.name,
                    partition_states=[
                        StopReplicaRequest.PartitionState(
                            partition_index=index,
                            leader_epoch=topic.partitions[index].leader_epoch
                            if leader_epoch is None
                            else leader_epoch,
                            delete_partition=True,
                        )
                        for index in piece
                    ],
                )
            ],
        )


def _pieces(rows: Iterator[_T]) -> Iterator[list[_T]]:
    while piece := list(islice(rows, _PARTITIONS_PER_REQUEST)):
        yield piece
