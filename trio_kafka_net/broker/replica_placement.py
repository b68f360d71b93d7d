"""Which brokers get the replicas of new partitions.

Leaders go round the brokers, beginning somewhere; followers are shifted by one more with every
round, so that the partitions of a broker that fails do not all move to the same other one.

Source: Kafka ``AdminUtils.assignReplicasToBrokersRackUnaware`` (3.9);
``ReplicationControlManager.validateManualPartitionAssignment`` (4.1).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

Assignments: TypeAlias = Sequence[Sequence[int]]
"""Node ids of every partition's replicas, in the order of the partitions."""


def place(
    count: int,
    replication_factor: int,
    *,
    living: Sequence[int],
    registered: Sequence[int],
    start: int = 0,
    first_index: int = 0,
) -> list[tuple[int, ...]]:
    """Spread partitions over brokers, over those that are alive as far as they suffice.

    Args:
        count: of partitions.
        replication_factor: replicas of each.
        living: node ids of brokers that can lead.
        registered: node ids of all brokers.
        start: where to begin; any number.
        first_index: index of the first partition in its topic.

    Raises:
        KafkaError: INVALID_REPLICATION_FACTOR, there are not as many brokers, or none is alive.
    """
    if replication_factor > len(registered):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {replication_factor} time(s): The target "
            f"replication factor of {replication_factor} cannot be reached because only "
            f"{len(registered)} broker(s) are registered.",
        )
    if not living:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {replication_factor} time(s): All brokers are "
            "currently fenced.",
        )
    near = min(replication_factor, len(living))
    far = [node for node in registered if node not in living][: replication_factor - near]
    return [
        (*_round_robin(index, near, living, start), *far)
        for index in range(first_index, first_index + count)
    ]


def _round_robin(index: int, replicas: int, nodes: Sequence[int], start: int) -> list[int]:
    count = len(nodes)
    first = index + start
    rounds = first // count
    chosen = [nodes[first % count]]
    chosen += [
        nodes[(first + 1 + (rounds + number) % (count - 1)) % count]
        for number in range(replicas - 1)
    ]
    return chosen


def check_assignments(
    assignments: Assignments, *, living: Collection[int], registered: Collection[int]
) -> None:
    """Refuse replicas where there are no brokers.

    Raises:
        KafkaError: INVALID_REPLICA_ASSIGNMENT.
    """
    for index, nodes in enumerate(assignments):
        check_replicas(nodes, registered)
        if len(nodes) != len(assignments[0]):
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes a partition with {len(nodes)} "
                "replica(s), but this is not consistent with previous partitions, which have "
                f"{len(assignments[0])} replica(s).",
            )
        if not any(node in living for node in nodes):
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                "All brokers specified in the manual partition assignment for partition "
                f"{index} are fenced or in controlled shutdown.",
            )


def check_replicas(nodes: Sequence[int], registered: Collection[int]) -> None:
    """Refuse replicas of one partition that cannot be.

    Raises:
        KafkaError: INVALID_REPLICA_ASSIGNMENT.
    """
    reason = None if nodes else "an empty replica list"
    before = None
    for node in sorted(nodes):
        if node not in registered:
            reason = f"broker {node}, but no such broker is registered"
        elif node == before:
            reason = f"the broker {node} more than once"
        if reason is not None:
            break
        before = node
    if reason is not None:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"The manual partition assignment includes {reason}.",
        )
