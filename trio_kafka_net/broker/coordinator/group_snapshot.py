"""A classic group as a record of ``__consumer_offsets``, and back.

A record holds what a group must remember over a restart: its generation, and the members with
their assignments, each with its metadata for the selected protocol only.

Source: Kafka ``GroupCoordinatorRecordHelpers.newGroupMetadataRecord`` and
``GroupMetadataManager.replay(GroupMetadataKey, GroupMetadataValue)`` (4.1).
"""

from __future__ import annotations

from trio_kafka_net.config.groups import GroupConfig
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue

from .classic_group import ClassicGroup
from .classic_member import Member
from .group_phases import Unsaved


def group_value(
    group: ClassicGroup, unsaved: Unsaved, state_timestamp_ms: int
) -> GroupMetadataValue:
    """What to store of a group.

    Args:
        group: the group.
        unsaved: what of it is new.
        state_timestamp_ms: when it came into its state, ms since the epoch; -1 if unknown.
    """
    return GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation,
        protocol=group.protocol_name,
        leader=group.roster.leader_id,
        current_state_timestamp=state_timestamp_ms,
        members=[
            GroupMetadataValue.MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.metadata(group.protocol_name),
                assignment=(
                    member.assignment
                    if unsaved.assignments is None
                    else unsaved.assignments[member.member_id]
                ),
            )
            for member in group.roster.members.values()
        ],
    )


def restored_group(
    group_id: str,
    value: GroupMetadataValue,
    config: GroupConfig,
    now: float,
    *,
    state_since: float | None,
) -> ClassicGroup:
    """The group of a record; its members have a session timeout from ``now`` to come back.

    Args:
        group_id: name of the group.
        value: what was stored of it.
        config: limits of groups.
        now: seconds, of the clock that the group will be asked with.
        state_since: when it came into its state, on that clock; None if unknown.
    """
    group = ClassicGroup(group_id, config, now)
    group.generation = value.generation
    group.protocol_type = value.protocol_type or None
    group.protocol_name = value.protocol
    for stored in value.members:
        member = _restored_member(stored, value.protocol)
        member.restart_session(now)
        group.roster.add(member)
    if value.leader in group.roster.members:
        group.roster.leader_id = value.leader
    group.become_restored(state_since, now)
    return group


def _restored_member(
    stored: GroupMetadataValue.MemberMetadata, protocol_name: str | None
) -> Member:
    has_none = stored.rebalance_timeout < 0  # records of version 0
    return Member(
        member_id=stored.member_id,
        group_instance_id=stored.group_instance_id,
        client_id=stored.client_id,
        client_host=stored.client_host,
        session_timeout_ms=stored.session_timeout,
        rebalance_timeout_ms=stored.session_timeout if has_none else stored.rebalance_timeout,
        protocols={protocol_name or "": bytes(stored.subscription)},
        assignment=bytes(stored.assignment),
    )
