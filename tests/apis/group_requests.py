"""Requests of members of a group, with what a test does not care about filled in."""

from __future__ import annotations

from trio_kafka_net.protocol.messages import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)


def a_join(member_id="", *, group="g", protocols=("range",), metadata=b"m", **settings):
    """A consumer that asks to be let in."""
    return JoinGroupRequest(
        **{
            "group_id": group,
            "member_id": member_id,
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 30_000,
            "protocol_type": "consumer",
            "protocols": [
                JoinGroupRequest.Protocol(name=name, metadata=metadata) for name in protocols
            ],
            **settings,
        }
    )


def a_sync(member_id, generation=1, assignments=None, *, group="g", **settings):
    """A member that asks for its assignment; the leader has some: {member id: bytes}."""
    return SyncGroupRequest(
        **{
            "group_id": group,
            "generation_id": generation,
            "member_id": member_id,
            "protocol_type": "consumer",
            "protocol_name": "range",
            "assignments": [
                SyncGroupRequest.Assignment(member_id=name, assignment=assignment)
                for name, assignment in (assignments or {}).items()
            ],
            **settings,
        }
    )


def a_heartbeat(member_id, generation=1, *, group="g", **settings):
    return HeartbeatRequest(
        group_id=group, generation_id=generation, member_id=member_id, **settings
    )


def a_leave(*members, group="g"):
    """Members leave, each a member id or (member id, group instance id); one before version 3."""
    pairs = [each if isinstance(each, tuple) else (each, None) for each in members]
    return LeaveGroupRequest(
        group_id=group,
        member_id=pairs[0][0],
        members=[
            LeaveGroupRequest.MemberIdentity(member_id=member, group_instance_id=instance)
            for member, instance in pairs
        ],
    )


async def join_alone(client, *, version=9, assignment=b"!", **settings) -> str:
    """Become the only member of a group that had none; returns the member id."""
    first = await client.request(a_join(**settings), version)
    joined = first
    if first.error_code:
        joined = await client.request(a_join(first.member_id, **settings), version)
    member_id, generation = joined.member_id, joined.generation_id
    group = settings.get("group", "g")
    sync = a_sync(member_id, generation, {member_id: assignment}, group=group)
    assert (joined.error_code, (await client.request(sync, 4)).error_code) == (0, 0)
    return member_id
