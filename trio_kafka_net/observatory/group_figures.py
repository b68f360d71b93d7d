"""How far groups have come: lags, members, and what each member has.

The lag of a partition is what lies between the committed offset and the high watermark; it is not
known of a partition that this broker has no replica of. Work is bounded by the number of committed
partitions of the groups that are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import attrs
import trio

from trio_kafka_net.broker.coordinator.classic_group import ClassicGroup
from trio_kafka_net.broker.coordinator.subscription import assigned_partitions
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.errors import KafkaError

MAX_PARTITIONS: Final = 1_000
"""Partitions of a group's document; committed ones come first."""
MAX_MEMBERS: Final = 1_000
_MAX_LOOKED_AT: Final = 20_000
"""Committed partitions that a list of groups looks at in all; later groups come without lag."""


@attrs.frozen
class CommittedPartition:
    """A partition of which a group has committed an offset."""

    topic: str
    partition: int
    committed: int
    log_end: int | None
    """High watermark; None if there is no replica here."""

    @property
    def lag(self) -> int | None:
        """Records that are left; None if it is not known."""
        return None if self.log_end is None else max(self.log_end - self.committed, 0)


def committed_partitions(broker: LocalBroker, group_id: str) -> Iterator[CommittedPartition]:
    """Everything that a group has committed and that is here; nothing while it is loading."""
    try:
        offsets = broker.offsets.committed(group_id)
    except KafkaError:
        return
    for topic, partitions in list(offsets.items()):
        for index, committed in list(partitions.items()):
            replica = broker.replicas.get_partition(topic, index)
            is_here = replica is not None and not replica.is_offline
            end = replica.high_watermark if replica is not None and is_here else None
            yield CommittedPartition(topic, index, committed.offset, end)


def groups_document(broker: LocalBroker, limit: int) -> dict[str, Any]:
    """The groups of this broker, those with the largest lag first."""
    found = broker.groups.all()
    left = _MAX_LOOKED_AT
    rows = []
    for group in found:
        partitions = list(islice(committed_partitions(broker, group.group_id), left))
        left -= len(partitions)
        rows.append(_row(broker, group, partitions))
    rows.sort(key=lambda row: (-(row["lag"] or 0), row["group"]))
    return {"total": len(found), "groups": rows[:limit]}


def group_document(broker: LocalBroker, group_id: str) -> dict[str, Any] | None:
    """One group with its members and partitions; None if there is none of that name."""
    group = next((each for each in broker.groups.all() if each.group_id == group_id), None)
    if group is None:
        return None
    partitions = list(islice(committed_partitions(broker, group_id), MAX_PARTITIONS))
    members = list(islice(group.roster.members.values(), MAX_MEMBERS))
    assigned: dict[str, list[tuple[str, int]]] = {
        member.member_id: assigned_partitions(member.assignment) for member in members
    }
    owners = {key: member_id for member_id, keys in assigned.items() for key in keys}
    rows: list[dict[str, Any]] = [
        {
            "topic": each.topic,
            "partition": each.partition,
            "committed": each.committed,
            "log_end": each.log_end,
            "lag": each.lag,
            "member_id": owners.get((each.topic, each.partition)),
        }
        for each in partitions
    ]
    committed = {(each.topic, each.partition) for each in partitions}
    uncommitted = (key for key in sorted(owners) if key not in committed)
    rows += [
        {
            "topic": topic,
            "partition": index,
            "committed": None,
            "log_end": _end(broker, topic, index),
            "lag": None,
            "member_id": owners[topic, index],
        }
        for topic, index in islice(uncommitted, MAX_PARTITIONS - len(rows))
    ]
    return {
        **_row(broker, group, partitions),
        "member_list": [
            {
                "member_id": member.member_id,
                "client_id": member.client_id,
                "host": member.client_host,
                "instance_id": member.group_instance_id,
                "partitions": len(assigned[member.member_id]),
            }
            for member in members
        ],
        "partitions": rows,
    }


def _end(broker: LocalBroker, topic: str, index: int) -> int | None:
    replica = broker.replicas.get_partition(topic, index)
    return None if replica is None or replica.is_offline else replica.high_watermark


def _row(
    broker: LocalBroker, group: ClassicGroup, partitions: list[CommittedPartition]
) -> dict[str, Any]:
    lags = [each.lag for each in partitions if each.lag is not None]
    since = group.state_since
    return {
        "group": group.group_id,
        "protocol": "classic",
        "state": group.state.value,
        "members": len(group.roster),
        "generation": group.generation,
        "assignor": group.protocol_name,
        "state_s": 0.0 if since is None else max(trio.current_time() - since, 0.0),
        "lag": sum(lags) if lags else None,
        "max_lag": max(lags) if lags else None,
        "commits": broker.groups.commits(group.group_id),
    }
