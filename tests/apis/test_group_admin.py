"""ListGroups, DescribeGroups and DeleteGroups, in every version."""

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    FindCoordinatorRequest,
    ListGroupsRequest,
)

from .group_requests import a_join, a_leave, join_alone
from .lab import Lab

E = ErrorCode
NOT_ASKED = -(2**31)
EVERYTHING = 3400
"""READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, as bits."""


@pytest.fixture
async def lab(open_lab) -> Lab:
    """A broker with a Stable group "s", a joined one "c" and an Empty one "e"."""
    lab = await open_lab(group_initial_rebalance_delay_ms=0)
    client = await lab.connect()
    await join_alone(client, group="s")
    await client.request(a_join(group="c", protocol_type="connect"), 3)
    await client.request(a_leave(await join_alone(client, group="e"), group="e"), 5)
    return lab


@pytest.mark.parametrize("version", range(6))
async def test_list_groups(lab, version):
    listed = (await lab.ask(ListGroupsRequest(), version)).groups

    assert [
        (each.group_id, each.protocol_type, each.group_state, each.group_type) for each in listed
    ] == [
        ("s", "consumer", "Stable" * (version >= 4), "classic" * (version >= 5)),
        ("c", "connect", "CompletingRebalance" * (version >= 4), "classic" * (version >= 5)),
        ("e", "consumer", "Empty" * (version >= 4), "classic" * (version >= 5)),
    ]


@pytest.mark.parametrize(
    ("states", "types", "found"),
    [
        (["Stable"], [], "s"),
        (["stable", " EMPTY "], [], "se"),
        (["CompletingRebalance", "Dead"], [], "c"),
        (["nonsense"], [], ""),
        ([], ["classic"], "sce"),
        ([], ["Classic", "nonsense"], "sce"),
        ([], ["consumer"], ""),
        ([], ["nonsense"], ""),
        (["Empty"], ["CLASSIC"], "e"),
    ],
)
async def test_list_groups_with_filters(lab, states, types, found):
    request = ListGroupsRequest(states_filter=states, types_filter=types)

    assert [each.group_id for each in (await lab.ask(request, 5)).groups] == list(found)


@pytest.mark.parametrize("version", range(7))
async def test_describe_groups(lab, version):
    """Metadata and protocol are told of a Stable group only."""
    request = DescribeGroupsRequest(groups=["s", "c", "e", "s"])

    described = (await lab.ask(request, version)).groups

    assert [
        (each.group_id, each.group_state, each.protocol_type, each.protocol_data)
        for each in described
    ] == [
        ("s", "Stable", "consumer", "range"),
        ("c", "CompletingRebalance", "connect", ""),
        ("e", "Empty", "consumer", ""),
    ]
    assert [
        [(member.member_metadata, member.member_assignment) for member in each.members]
        for each in described
    ] == [[(b"m", b"!")], [(b"", b"")], []]
    assert {each.authorized_operations for each in described} == {NOT_ASKED}


@pytest.mark.parametrize("version", range(7))
async def test_describe_a_group_that_nobody_knows(lab, version):
    """It is Dead; since version 6 that is an error."""
    request = DescribeGroupsRequest(groups=["x", ""], include_authorized_operations=version >= 3)

    described = (await lab.ask(request, version)).groups

    expected = [("x", "Group x not found."), ("", "Group  not found.")]
    if version < 6:
        expected = [("x", None), ("", None)]
    assert [(each.group_id, each.error_message) for each in described] == expected
    codes = {(each.error_code, each.group_state) for each in described}
    assert codes == {(E.GROUP_ID_NOT_FOUND if version >= 6 else 0, "Dead")}


@pytest.mark.parametrize("version", range(3, 7))
async def test_authorized_operations_are_told_if_asked_for(lab, version):
    request = DescribeGroupsRequest(groups=["s"], include_authorized_operations=True)

    (described,) = (await lab.ask(request, version)).groups

    assert described.authorized_operations == EVERYTHING


async def test_static_members_are_described_with_their_names_since_version_4(lab):
    await join_alone(await lab.connect(), group="i", group_instance_id="name")
    request = DescribeGroupsRequest(groups=["i"])

    named = [(await lab.ask(request, version)).groups[0].members[0] for version in (3, 4)]

    assert [each.group_instance_id for each in named] == [None, "name"]


@pytest.mark.parametrize("version", range(3))
async def test_delete_groups(lab, version):
    request = DeleteGroupsRequest(groups_names=["s", "e", "x", "", "e"])

    results = (await lab.ask(request, version)).results

    assert [(each.group_id, each.error_code) for each in results] == [
        ("s", E.NON_EMPTY_GROUP),
        ("e", 0),
        ("x", E.GROUP_ID_NOT_FOUND),
        ("", E.GROUP_ID_NOT_FOUND),
    ]
    assert [each.group_id for each in (await lab.ask(ListGroupsRequest(), 0)).groups] == ["s", "c"]


async def test_many_groups_are_deleted(lab):
    request = DeleteGroupsRequest(groups_names=[f"x{number}" for number in range(100)])

    assert len((await lab.ask(request, 2)).results) == 100


async def test_groups_are_not_told_before_there_is_a_place_for_them(open_lab):
    lab = await open_lab()
    describe = DescribeGroupsRequest(groups=["g"])
    delete = DeleteGroupsRequest(groups_names=["g"])

    assert (await lab.ask(describe, 6)).groups[0].error_code == E.COORDINATOR_NOT_AVAILABLE
    assert (await lab.ask(delete, 2)).results[0].error_code == E.COORDINATOR_NOT_AVAILABLE

    assert (await lab.ask(FindCoordinatorRequest(coordinator_keys=["g"]), 4)).error_code == 0

    assert (await lab.ask(describe, 6)).groups[0].error_code == E.GROUP_ID_NOT_FOUND
