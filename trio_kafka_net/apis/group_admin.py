"""ListGroups, DescribeGroups, DeleteGroups.

Versions: ListGroups 0-5, DescribeGroups 0-6, DeleteGroups 0-2.
Behaviour:
    * groups are classic groups; there are no others
    * members are described with their metadata only while the group is Stable
    * a group that is asked for twice is answered once; Kafka describes it twice
Version notes:
    ListGroups v4 filter by state (KIP-518) · v5 filter by type (KIP-848)
    DescribeGroups v3 authorized operations: all of them, there is no authorizer · v4 group instance
    ids · v6 GROUP_ID_NOT_FOUND (KIP-1043); before, a group that nobody knows is Dead
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trio_kafka_net.broker.coordinator.classic_group import ClassicGroup
from trio_kafka_net.broker.coordinator.classic_member import GroupState, Member
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.delete_groups import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)
from trio_kafka_net.protocol.messages.describe_groups import (
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from trio_kafka_net.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_NOT_FOUND_SINCE = 6
_CLASSIC = "classic"
# Bits of AclOperation: READ 3, DELETE 6, DESCRIBE 8, DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
_GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
_NOT_ASKED = -(2**31)

DescribedGroup = DescribeGroupsResponse.DescribedGroup


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(list_groups, key=ListGroupsRequest.API_KEY)
    apis.add(
        describe_groups,
        key=DescribeGroupsRequest.API_KEY,
        error_response=_describe_groups_error,
    )
    apis.add(delete_groups, key=DeleteGroupsRequest.API_KEY, error_response=_delete_groups_error)


def list_groups(ctx: RequestContext, request: ListGroupsRequest) -> Steps[ListGroupsResponse]:
    """Name the groups of this broker.

    Source: Kafka ``GroupMetadataManager.listGroups``.
    """
    states = yield from _lower(request.states_filter)
    types = yield from _lower(request.types_filter)
    if types and _CLASSIC not in types:
        return ListGroupsResponse()
    response = ListGroupsResponse()
    for group in list(ctx.broker.groups.all()):
        if not states or group.state.value.lower() in states:
            response.groups.append(
                ListGroupsResponse.ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type or "",
                    group_state=group.state.value,
                    group_type=_CLASSIC,
                )
            )
        yield
    return response


def _lower(texts: Iterable[str]) -> Steps[set[str]]:
    lower = set()
    for text in texts:
        lower.add(text.strip().lower())
        yield
    return lower


def describe_groups(
    ctx: RequestContext, request: DescribeGroupsRequest
) -> Steps[DescribeGroupsResponse]:
    """Tell who is in groups, and what each member was assigned.

    Source: Kafka ``GroupMetadataManager.describeGroups``.
    """
    wants_operations = request.include_authorized_operations
    # Once each: a group may be large, and a name is short.
    response = DescribeGroupsResponse()
    for group_id in dict.fromkeys(request.groups):
        described = _described(ctx, group_id)
        if wants_operations and not described.error_code:
            described.authorized_operations = _GROUP_OPERATIONS
        response.groups.append(described)
        yield
    return response


def _described(ctx: RequestContext, group_id: str) -> DescribedGroup:
    try:
        group = ctx.broker.groups.get(group_id)
    except KafkaError as error:
        return DescribedGroup(error_code=error_code_of(error), group_id=group_id)
    if group is not None:
        return _described_group(group)
    answer = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
    if ctx.api_version >= _NOT_FOUND_SINCE:
        answer.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        answer.error_message = f"Group {group_id} not found."
    return answer


def _described_group(group: ClassicGroup) -> DescribedGroup:
    is_stable = group.state is GroupState.STABLE
    protocol_name = group.protocol_name if is_stable else None
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=protocol_name or "",
        members=[_described_member(each, protocol_name) for each in group.roster.members.values()],
        authorized_operations=_NOT_ASKED,
    )


def _described_member(
    member: Member, protocol_name: str | None
) -> DescribeGroupsResponse.DescribedGroupMember:
    return DescribeGroupsResponse.DescribedGroupMember(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        member_metadata=b"" if protocol_name is None else member.metadata(protocol_name),
        member_assignment=member.assignment,
    )


async def delete_groups(ctx: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    """Delete groups without members, with their offsets.

    Cancellation: not delivered to a handler; a broker that stops answers the rest with an error.
    """
    results = []
    breaks = ctx.breaks()
    for group_id in dict.fromkeys(request.groups_names):
        code = ErrorCode.NONE
        try:
            ctx.broker.groups.delete(group_id)
        except KafkaError as error:
            code = error_code_of(error)
        results.append(
            DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=code)
        )
        if breaks.is_due():
            await breaks.take()
    return DeleteGroupsResponse(results=results)


def _describe_groups_error(
    request: DescribeGroupsRequest, code: ErrorCode, text: str | None
) -> DescribeGroupsResponse:
    return DescribeGroupsResponse(
        groups=[
            DescribedGroup(group_id=group_id, error_code=code, error_message=text)
            for group_id in request.groups
        ]
    )


def _delete_groups_error(
    request: DeleteGroupsRequest, code: ErrorCode, text: str | None
) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[
            DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=code)
            for group_id in request.groups_names
        ]
    )
