"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the life of a member of a classic group.

Versions: JoinGroup 0-9, SyncGroup 0-5, Heartbeat 0-4, LeaveGroup 0-5.
Behaviour:
    * a join waits for the others, a sync for the leader's assignment; both parked, so they hold
      no handler, and both forgotten when their client goes away
    * a stop of the broker answers them with NOT_COORDINATOR
    * metadata and assignments are passed on as they are
    * a heartbeat is answered without an event-loop checkpoint
    * more than 100 protocols in a join are INCONSISTENT_GROUP_PROTOCOL; Kafka has no limit
Version notes:
    JoinGroup v1 rebalance timeout (KIP-62); before, it is the session timeout · v4
    MEMBER_ID_REQUIRED (KIP-394) · v5 group instance ids (KIP-345) · v7 protocol type (KIP-559) · v8
    reason (KIP-800), for the log · v9 skip assignment (KIP-814)
    SyncGroup v3 group instance ids · v5 protocol type and name are mandatory (KIP-559)
    Heartbeat v3 group instance ids
    LeaveGroup v3 several members, each with its own error · v5 reason, for the log
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from trio_kafka_net.broker.coordinator.classic_member import JoinCall, JoinResult, SyncResult
from trio_kafka_net.broker.coordinator.pending_answer import PendingAnswer
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from trio_kafka_net.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from trio_kafka_net.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from trio_kafka_net.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

log = logging.getLogger(__name__)

_REBALANCE_TIMEOUT_SINCE = 1
_MEMBER_ID_REQUIRED_SINCE = 4
_NULL_PROTOCOL_SINCE = 7
_SKIP_ASSIGNMENT_SINCE = 9
_PROTOCOL_MANDATORY_SINCE = 5
_SEVERAL_MEMBERS_SINCE = 3
_MAX_PROTOCOLS = 100
"""Protocols of one member: each is a look-up per join and a vote per generation."""

Result = TypeVar("Result", JoinResult, SyncResult)
Response = TypeVar("Response", JoinGroupResponse, SyncGroupResponse)


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(join_group, key=JoinGroupRequest.API_KEY)
    apis.add(sync_group, key=SyncGroupRequest.API_KEY)
    apis.add(heartbeat, key=HeartbeatRequest.API_KEY)
    apis.add(leave_group, key=LeaveGroupRequest.API_KEY)


def join_group(
    ctx: RequestContext, request: JoinGroupRequest
) -> JoinGroupResponse | Awaitable[JoinGroupResponse]:
    """Let a member into its group, when everybody is there."""
    if request.group_id and ctx.broker.groups.lacks_topic(request.group_id):
        return _join_with_topic(ctx, request)
    return _answer(ctx, _join(ctx, request), _join_response)


async def _join_with_topic(ctx: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse:
    try:
        async with ctx.parked("JoinGroup"):
            await ctx.broker.groups.ensure_topic()
    except KafkaError as error:
        return _join_response(ctx, JoinResult(error_code_of(error), request.member_id))
    response = _answer(ctx, _join(ctx, request), _join_response)
    return response if isinstance(response, JoinGroupResponse) else await response


def _join(ctx: RequestContext, request: JoinGroupRequest) -> PendingAnswer[JoinResult]:
    groups = ctx.broker.groups
    version = ctx.api_version
    has_timeout = version >= _REBALANCE_TIMEOUT_SINCE
    is_new = not request.member_id
    instance_id = request.group_instance_id
    if request.reason:
        words = request.group_id, ctx.client_id, request.reason
        log.info("group %.255r: %.255r joins: %.255r", *words)
    return groups.join(
        request.group_id,
        JoinCall(
            member_id=request.member_id,
            new_member_id=groups.new_member_id(instance_id or ctx.client_id) if is_new else "",
            group_instance_id=instance_id,
            client_id=ctx.client_id,
            client_host=f"/{ctx.request.connection.remote_address[0]}",
            session_timeout_ms=request.session_timeout_ms,
            rebalance_timeout_ms=(
                request.rebalance_timeout_ms if has_timeout else request.session_timeout_ms
            ),
            protocol_type=request.protocol_type,
            protocols=_protocols(request.protocols),
            requires_known_member_id=version >= _MEMBER_ID_REQUIRED_SINCE,
            can_skip_assignment=version >= _SKIP_ASSIGNMENT_SINCE,
        ),
    )


def _protocols(asked: list[JoinGroupRequest.Protocol]) -> dict[str, bytes]:
    """Protocols by name, the first of each; none if there are too many."""
    if len(asked) > _MAX_PROTOCOLS:
        return {}
    protocols: dict[str, bytes] = {}
    for each in asked:
        # A copy, in the request as well: both stay longer than the memory of its frame.
        each.metadata = bytes(each.metadata)
        protocols.setdefault(each.name, each.metadata)
    return protocols


def _join_response(ctx: RequestContext, result: JoinResult) -> JoinGroupResponse:
    protocol_name = result.protocol_name
    if protocol_name is None and ctx.api_version < _NULL_PROTOCOL_SINCE:
        protocol_name = ""
    return JoinGroupResponse(
        error_code=result.code,
        generation_id=result.generation,
        protocol_type=result.protocol_type,
        protocol_name=protocol_name,
        leader=result.leader,
        skip_assignment=result.skip_assignment,
        member_id=result.member_id,
        members=[
            JoinGroupResponse.Member(
                member_id=each.member_id,
                group_instance_id=each.group_instance_id,
                metadata=each.metadata,
            )
            for each in result.members
        ],
    )


def sync_group(
    ctx: RequestContext, request: SyncGroupRequest
) -> SyncGroupResponse | Awaitable[SyncGroupResponse]:
    """Tell a member what it was assigned, when the leader has told us."""
    names = (request.protocol_type, request.protocol_name)
    if ctx.api_version >= _PROTOCOL_MANDATORY_SINCE and None in names:
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    assignments: dict[str, bytes] = {}
    for each in request.assignments:
        each.assignment = assignments[each.member_id] = bytes(each.assignment)
    answer = ctx.broker.groups.sync(
        request.group_id,
        request.member_id,
        request.group_instance_id,
        request.generation_id,
        assignments,
        protocol_type=request.protocol_type,
        protocol_name=request.protocol_name,
    )
    return _answer(ctx, answer, _sync_response)


def _sync_response(_ctx: RequestContext, result: SyncResult) -> SyncGroupResponse:
    return SyncGroupResponse(
        error_code=result.code,
        protocol_type=result.protocol_type,
        protocol_name=result.protocol_name,
        assignment=result.assignment,
    )


def _answer(
    ctx: RequestContext,
    pending: PendingAnswer[Result],
    respond: Callable[[RequestContext, Result], Response],
) -> Response | Awaitable[Response]:
    if pending.result is not None:
        return respond(ctx, pending.result)
    return _answer_later(ctx, pending, respond)


async def _answer_later(
    ctx: RequestContext,
    pending: PendingAnswer[Result],
    respond: Callable[[RequestContext, Result], Response],
) -> Response:
    # Who waits for members must not keep their requests from being read.
    ctx.request.forget_payload()
    async with ctx.parked("Rebalance"):
        try:
            await pending.wait()
        finally:
            if pending.result is None:
                ctx.broker.groups.abandon(pending)
    assert pending.result is not None
    return respond(ctx, pending.result)


def heartbeat(ctx: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
    """Note that a member is alive."""
    code = ctx.broker.groups.heartbeat(
        request.group_id, request.member_id, request.group_instance_id, request.generation_id
    )
    return HeartbeatResponse(error_code=code)


def leave_group(
    ctx: RequestContext, request: LeaveGroupRequest
) -> LeaveGroupResponse | Steps[LeaveGroupResponse]:
    """Remove members from their group."""
    if ctx.api_version < _SEVERAL_MEMBERS_SINCE:
        codes = ctx.broker.groups.leave(request.group_id, [(request.member_id, None)])
        return LeaveGroupResponse(error_code=codes[0])
    members = request.members
    _log_reasons(request.group_id, members)
    codes = ctx.broker.groups.leave(
        request.group_id, [(each.member_id, each.group_instance_id) for each in members]
    )
    return _members_left(members, codes)


def _members_left(
    members: Iterable[LeaveGroupRequest.MemberIdentity], codes: Iterable[int]
) -> Steps[LeaveGroupResponse]:
    response = LeaveGroupResponse()
    for each, code in zip(members, codes, strict=True):
        response.members.append(
            LeaveGroupResponse.MemberResponse(
                member_id=each.member_id, group_instance_id=each.group_instance_id, error_code=code
            )
        )
        yield
    return response


def _log_reasons(group_id: str, members: Iterable[LeaveGroupRequest.MemberIdentity]) -> None:
    for each in members:
        if each.reason:
            log.info("group %.255r: %.255r leaves: %.255r", group_id, each.member_id, each.reason)
