"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup over real sockets, in every version."""

import pytest
import trio

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import DescribeGroupsRequest, JoinGroupRequest

from .group_requests import a_heartbeat, a_join, a_leave, a_sync, join_alone
from .lab import Lab

E = ErrorCode
NONE = ErrorCode.NONE


@pytest.fixture
async def lab(open_lab) -> Lab:
    """A broker that is ready for groups, which do not wait for more members at first."""
    lab = await open_lab(group_initial_rebalance_delay_ms=0)
    await lab.local.groups.ensure_topic()
    return lab


async def state_of(lab, group="g"):
    described = (await lab.ask(DescribeGroupsRequest(groups=[group]), 5)).groups[0]
    return described.group_state, [each.member_id for each in described.members]


# Joining


@pytest.mark.parametrize("version", range(10))
async def test_a_new_member(lab, version):
    """It is given an id first since version 4, and told the protocol type since 7."""
    client = await lab.connect()
    joined = await client.request(a_join(), version)
    if version >= 4:
        assert joined.error_code == E.MEMBER_ID_REQUIRED
        assert joined.generation_id == -1
        assert joined.protocol_name == (None if version >= 7 else "")
        joined = await client.request(a_join(joined.member_id), version)

    assert joined.error_code == 0
    assert joined.member_id.startswith("raw-client-")
    assert len(joined.member_id) == len("raw-client-") + 36
    assert (joined.generation_id, joined.leader) == (1, joined.member_id)
    assert (joined.protocol_type, joined.protocol_name) == (
        "consumer" if version >= 7 else None,
        "range",
    )
    assert [(each.member_id, each.metadata) for each in joined.members] == [
        (joined.member_id, b"m")
    ]


@pytest.mark.parametrize("version", range(10))
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (a_join(group=""), E.INVALID_GROUP_ID),
        (a_join(session_timeout_ms=100), E.INVALID_SESSION_TIMEOUT),
        (a_join("stranger"), E.UNKNOWN_MEMBER_ID),
        (a_join(protocols=[]), E.INCONSISTENT_GROUP_PROTOCOL),
        (a_join(protocols=[str(n) for n in range(101)]), E.INCONSISTENT_GROUP_PROTOCOL),
        (a_join(protocol_type=""), E.INCONSISTENT_GROUP_PROTOCOL),
    ],
    ids=lambda each: each.name if isinstance(each, E) else "",
)
async def test_a_join_that_is_refused(lab, version, request_, code):
    refused = await lab.ask(request_, version)

    assert (refused.error_code, refused.member_id) == (code, request_.member_id)
    assert (refused.generation_id, refused.leader, refused.members) == (-1, "", [])
    assert refused.protocol_name == (None if version >= 7 else "")
    assert (await state_of(lab))[0] == "Dead"


async def test_before_version_1_the_rebalance_timeout_is_the_session_timeout(lab):
    await lab.ask(a_join(session_timeout_ms=7000), 0)

    (member,) = lab.local.groups.get("g").roster.members.values()
    assert (member.rebalance_timeout_ms, member.session_timeout_ms) == (7000, 7000)


async def test_a_member_is_described_as_it_came(lab):
    client = await lab.connect(client_id="c")
    member_id = await join_alone(client, assignment=b"all")

    (group,) = (await client.request(DescribeGroupsRequest(groups=["g"]), 4)).groups
    (member,) = group.members
    assert (group.group_state, group.protocol_type) == ("Stable", "consumer")
    assert group.protocol_data == "range"
    assert (member.member_id, member.client_id, member.client_host) == (
        member_id,
        "c",
        "/127.0.0.1",
    )
    assert (member.member_metadata, member.member_assignment) == (b"m", b"all")


async def test_of_a_protocol_that_is_named_twice_the_first_counts(lab):
    twice = [
        JoinGroupRequest.Protocol(name="range", metadata=metadata) for metadata in (b"1", b"2")
    ]
    joined = await lab.ask(a_join(protocols=[]), 2)
    assert joined.error_code == E.INCONSISTENT_GROUP_PROTOCOL
    request = a_join()
    request.protocols = twice

    assert (await lab.ask(request, 2)).members[0].metadata == b"1"


async def test_two_members_share_what_the_leader_says(lab):
    """The whole life of a group, each step as a client sees it."""
    a, b = await lab.connect(), await lab.connect()
    first = await join_alone(a)
    second = (await b.request(a_join(), 9)).member_id
    await b.send_request(a_join(second, metadata=b"of b"), 9)
    await lab.parked(1, "Rebalance")

    assert (await a.request(a_heartbeat(first), 4)).error_code == E.REBALANCE_IN_PROGRESS

    led = await a.request(a_join(first), 9)
    joined = await b.receive_response()

    assert (led.leader, led.generation_id, joined.generation_id) == (first, 2, 2)
    assert [(each.member_id, each.metadata) for each in led.members] == [
        (first, b"m"),
        (second, b"of b"),
    ]
    assert (joined.leader, joined.members) == (first, [])

    await b.send_request(a_sync(second, 2), 5)
    await lab.parked(1, "Rebalance")
    of_a = await a.request(a_sync(first, 2, {first: b"0", second: b"1"}), 5)
    of_b = await b.receive_response()

    assert (of_a.assignment, of_b.assignment) == (b"0", b"1")
    assert (of_b.protocol_type, of_b.protocol_name) == ("consumer", "range")
    assert await state_of(lab) == ("Stable", [first, second])

    left = await b.request(a_leave(second), 5)

    assert (left.error_code, left.members[0].error_code) == (0, 0)
    assert await state_of(lab) == ("PreparingRebalance", [first])
    await lab.parked(0, "Rebalance")


@pytest.mark.parametrize("version", range(5, 10))
async def test_a_static_leader_comes_back(lab, version):
    await join_alone(await lab.connect(), version=version, group_instance_id="i")

    back = await lab.ask(a_join(group_instance_id="i"), version)

    assert (back.error_code, back.generation_id) == (0, 1)
    assert back.member_id.startswith("i-")
    assert back.skip_assignment == (version >= 9)
    assert (back.leader == back.member_id) == (version >= 9)
    assert [each.group_instance_id for each in back.members] == (["i"] if version >= 9 else [])
    synced = await lab.ask(a_sync(back.member_id, group_instance_id="i"), 5)
    assert synced.assignment == b"!"


# Waiting


@pytest.mark.parametrize("waits_for", ["join", "sync"])
async def test_a_client_that_goes_away_does_not_wait_any_more(lab, waits_for):
    a, b = await lab.connect(), await lab.connect()
    first = await join_alone(a)
    second = (await b.request(a_join(), 9)).member_id
    await b.send_request(a_join(second), 9)
    await lab.parked(1, "Rebalance")
    if waits_for == "sync":
        await a.request(a_join(first), 9)
        await b.receive_response()
        await b.send_request(a_sync(second, 2), 5)
        await lab.parked(1, "Rebalance")
    await b.aclose()
    await lab.parked(0, "Rebalance")

    assert (await state_of(lab))[1] == [first, second]
    assert len(lab.local.groups.get("g").waiters) == 0


async def test_who_waits_holds_no_handler(open_lab):
    lab = await open_lab(num_io_threads=1, group_initial_rebalance_delay_ms=60_000)
    clients = [await lab.connect() for _ in range(5)]
    for client in clients:
        await client.send_request(a_join(), 3)
    await lab.parked(5, "Rebalance")

    assert (await state_of(lab))[0] == "PreparingRebalance"


@pytest.mark.parametrize("waits_for", ["join", "sync"])
async def test_who_waits_holds_no_memory_of_requests(lab, waits_for):
    """Or a few could keep the request from being read that they wait for."""
    a, b = await lab.connect(), await lab.connect()
    first = await join_alone(a)
    second = (await b.request(a_join(), 9)).member_id
    await b.send_request(a_join(second), 9)
    await lab.parked(1, "Rebalance")
    assert lab.plane().memory_pool.used == 0
    await a.request(a_join(first), 9)
    assert (await b.receive_response()).error_code == 0
    if waits_for == "sync":
        await b.send_request(a_sync(second, 2), 5)
        await lab.parked(1, "Rebalance")
        assert lab.plane().memory_pool.used == 0


async def test_a_broker_that_stops_sends_away_who_waits(lab):
    a, b = await lab.connect(), await lab.connect()
    await join_alone(a)
    await b.send_request(a_join(), 3)
    await lab.parked(1, "Rebalance")
    with trio.fail_after(5):
        lab.broker.request_stop()

        assert (await b.receive_response()).error_code == E.NOT_COORDINATOR


async def test_two_brokers_in_one_process_have_groups_of_their_own(lab, open_lab):
    other = await open_lab()
    await other.local.groups.ensure_topic()
    await join_alone(await lab.connect())

    assert (await state_of(lab))[0] == "Stable"
    assert (await state_of(other))[0] == "Dead"


# Synchronizing, heartbeats, leaving


@pytest.mark.parametrize("version", range(6))
async def test_a_sync_of_a_group_that_nobody_knows(lab, version):
    response = await lab.ask(a_sync("m"), version)

    assert (response.error_code, response.assignment) == (E.UNKNOWN_MEMBER_ID, b"")
    assert (response.protocol_type, response.protocol_name) == (None, None)


@pytest.mark.parametrize("missing", ["protocol_type", "protocol_name"])
async def test_a_sync_names_the_protocol_since_version_5(lab, missing):
    """That is looked at before anything else."""
    request = a_sync("m", group="", **{missing: None})

    assert (await lab.ask(request, 5)).error_code == E.INCONSISTENT_GROUP_PROTOCOL
    assert (await lab.ask(request, 4)).error_code == E.INVALID_GROUP_ID


@pytest.mark.parametrize("version", range(5))
async def test_heartbeats(lab, version):
    client = await lab.connect()
    member_id = await join_alone(client)

    async def code_of(*args, **settings):
        return (await client.request(a_heartbeat(*args, **settings), version)).error_code

    assert await code_of(member_id) == 0
    assert await code_of(member_id, 2) == E.ILLEGAL_GENERATION
    assert await code_of("stranger") == E.UNKNOWN_MEMBER_ID
    assert await code_of(member_id, group="other") == E.UNKNOWN_MEMBER_ID
    assert await code_of(member_id, group="") == E.INVALID_GROUP_ID
    with_instance = await code_of(member_id, group_instance_id="i") if version >= 3 else None
    assert with_instance in {None, E.UNKNOWN_MEMBER_ID}


@pytest.mark.parametrize("version", range(3))
async def test_leaving_alone(lab, version):
    client = await lab.connect()
    member_id = await join_alone(client)

    assert (await client.request(a_leave("x"), version)).error_code == E.UNKNOWN_MEMBER_ID
    assert (await client.request(a_leave(member_id), version)).error_code == 0
    assert await state_of(lab) == ("Empty", [])
    assert (await lab.ask(a_leave("x", group="other"), version)).error_code == E.UNKNOWN_MEMBER_ID
    assert (await lab.ask(a_leave("x", group=""), version)).error_code == E.INVALID_GROUP_ID


@pytest.mark.parametrize("version", range(3, 6))
async def test_leaving_together(lab, version):
    """Each has an error of its own; a group that nobody knows has none as a whole."""
    member_id = await join_alone(await lab.connect(), group_instance_id="i")
    members = [("x", None), (member_id, "j"), ("y", "i"), ("", "j"), ("", "i"), ("", None)]

    left = await lab.ask(a_leave(*members), version)

    assert left.error_code == 0
    assert [(each.member_id, each.group_instance_id) for each in left.members] == members
    assert [each.error_code for each in left.members] == [
        E.UNKNOWN_MEMBER_ID,
        E.UNKNOWN_MEMBER_ID,
        E.FENCED_INSTANCE_ID,
        E.UNKNOWN_MEMBER_ID,
        0,
        E.UNKNOWN_MEMBER_ID,
    ]
    unknown = await lab.ask(a_leave("x", group="other"), version)
    assert (unknown.error_code, unknown.members[0].error_code) == (0, E.UNKNOWN_MEMBER_ID)
    nameless = await lab.ask(a_leave("x", group=""), version)
    assert (nameless.error_code, nameless.members) == (E.INVALID_GROUP_ID, [])


async def test_the_first_join_makes_the_topic_for_groups(open_lab):
    """Whoever asked another broker for the coordinator comes without asking this one."""
    lab = await open_lab()
    assert lab.local.groups.lacks_topic("g")

    await lab.ask(a_join(), 4)

    assert not lab.local.groups.lacks_topic("g")
