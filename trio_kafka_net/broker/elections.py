"""Who leads a partition, and who counts as in sync: decisions without a clock or a network.

Every function takes the state of a partition and who is alive, and returns the new state, or None
if nothing changes. A new leader is a new leader epoch; every change is a new partition epoch.

All brokers of a process share one store, so a replica has every record by construction: the in-sync
replicas are those that are alive. Only when the last of them goes it stays in the list, as in
Kafka: it alone may lead again without losing anything, as far as those know who read the list.

Source: Kafka ``PartitionChangeBuilder``, ``ReplicationControlManager`` (4.1),
``PartitionStateMachine`` (3.9).
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

import attrs

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .metadata_cache import NO_LEADER, PartitionMetadata

_MAX_EPOCH: Final = 2**31 - 1
"""What fits into a request. A log that has seen it (nobody counts that far, but a request can say
so) keeps that epoch: its partition epoch still tells one decision from the next."""


class ElectionType(enum.IntEnum):
    """What a client may ask for (KIP-460)."""

    PREFERRED = 0
    UNCLEAN = 1


def settled(
    state: PartitionMetadata, living: Collection[int], *, known_epoch: int = -1
) -> PartitionMetadata | None:
    """What becomes of a partition when brokers came or went.

    Args:
        state: as it is.
        living: node ids of brokers that may lead.
        known_epoch: largest leader epoch that the log has seen; a new one is above it.
    """
    isr = tuple(node for node in state.isr if node in living)
    leader = state.leader_id
    if leader not in isr:
        leader = next((node for node in state.replicas if node in isr), NO_LEADER)
    if leader == NO_LEADER:
        isr = state.isr
    else:
        isr += tuple(node for node in state.replicas if node in living and node not in isr)
    return _changed(state, leader, isr, known_epoch)


def elected(
    state: PartitionMetadata, living: Collection[int], election: ElectionType
) -> PartitionMetadata:
    """The outcome of an election that somebody asked for.

    Raises:
        KafkaError: ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE,
            ELIGIBLE_LEADERS_NOT_AVAILABLE.

    Source: Kafka ``ReplicationControlManager.electLeader`` (4.1).
    """
    preferred = state.replicas[0]
    is_preferred = election is ElectionType.PREFERRED
    leader = state.leader_id
    if leader == preferred if is_preferred else leader != NO_LEADER:
        raise KafkaError(
            ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."
        )
    if is_preferred:
        if preferred not in state.isr or preferred not in living:
            raise KafkaError(
                ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available."
            )
        leader, isr = preferred, state.isr
    else:
        isr = tuple(node for node in state.replicas if node in living)
        if not isr:
            raise KafkaError(
                ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
                "Eligible topic partition leaders are not available.",
            )
        leader = isr[0]
    result = _changed(state, leader, isr)
    assert result is not None
    return result


def reassigned(
    state: PartitionMetadata, replicas: tuple[int, ...], living: Collection[int]
) -> PartitionMetadata | None:
    """What becomes of a partition that gets other replicas.

    The leader stays if it is one of them.
    """
    isr = tuple(node for node in replicas if node in living)
    leader = state.leader_id
    if leader not in isr:
        leader = isr[0] if isr else NO_LEADER
    return _changed(state, leader, isr or replicas, replicas=replicas)


def _changed(
    state: PartitionMetadata,
    leader: int,
    isr: tuple[int, ...],
    known_epoch: int = -1,
    replicas: tuple[int, ...] | None = None,
) -> PartitionMetadata | None:
    replicas = state.replicas if replicas is None else replicas
    if (leader, isr, replicas) == (state.leader_id, state.isr, state.replicas):
        return None
    epoch = state.leader_epoch
    if leader != state.leader_id:
        epoch = min(max(epoch, known_epoch) + 1, _MAX_EPOCH)
    return attrs.evolve(
        state,
        replicas=replicas,
        leader_id=leader,
        isr=isr,
        leader_epoch=epoch,
        partition_epoch=state.partition_epoch + 1,
    )
