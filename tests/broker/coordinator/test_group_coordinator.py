"""The coordinator: deadlines, storage, names and memory around the table of a group."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing

from trio_kafka_net.broker.coordinator.classic_member import JoinCall
from trio_kafka_net.broker.coordinator.group_contracts import OffsetExpiration
from trio_kafka_net.broker.coordinator.group_coordinator import GroupCoordinator
from trio_kafka_net.config import GroupConfig
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue

NONE = ErrorCode.NONE
WALL_MS = 1_700_000_000_000
SUBSCRIPTION = b"\0\0\0\0\0\1\0\1t\0\0\0\0"


class Store:
    """Remembers what it was told; fails when it is told to."""

    def __init__(self):
        self.ready: ErrorCode = NONE
        self.failure: ErrorCode = NONE
        self.saved: dict[str, GroupMetadataValue] = {}
        self.forgotten: list[str] = []
        self.offsets: set[str] = set()

    def check_ready(self, group_id):
        if self.ready:
            raise KafkaError(self.ready)

    async def ensure_topic(self):
        await trio.lowlevel.checkpoint()
        self.ready = NONE

    def save_group(self, group_id, value):
        if self.failure:
            raise KafkaError(self.failure)
        self.saved[group_id] = value

    def forget_group(self, group_id):
        if self.failure:
            raise KafkaError(self.failure)
        self.forgotten.append(group_id)
        self.saved.pop(group_id, None)
        self.offsets.discard(group_id)

    def has_offsets(self, group_id):
        return group_id in self.offsets


def make_groups(store, **config):
    numbers = itertools.count(1)
    settings = {"group_initial_rebalance_delay_ms": 0, **config}
    return GroupCoordinator(
        GroupConfig(**settings),
        store,
        now_ms=lambda: WALL_MS + round(trio.current_time() * 1000),
        new_uuid=lambda: next(numbers).to_bytes(16, "big"),
    )


@pytest.fixture
def store():
    return Store()


@pytest.fixture
async def groups(nursery, mock_clock, store):
    coordinator = make_groups(store)
    await nursery.start(coordinator.run)
    return coordinator


async def go_by(clock, seconds):
    """Let time go by, and everything happen that is due."""
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


def join(groups, name, group_id="g", member_id="", **call):
    settings = {
        "new_member_id": name,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 30_000,
        "protocol_type": "consumer",
        "protocols": {"range": SUBSCRIPTION},
        "requires_known_member_id": False,
        **call,
    }
    return groups.join(group_id, JoinCall(member_id=member_id, **settings))


def sync(groups, name, generation=1, group_id="g", assignments=None):
    return groups.sync(
        group_id, name, None, generation, assignments or {}, protocol_type=None, protocol_name=None
    )


async def make_stable(groups, name="a", group_id="g", **call):
    joined = await join(groups, name, group_id, **call).wait()
    assert joined.code is NONE
    assert sync(groups, name, joined.generation, group_id, {name: b"!"}).result.code is NONE


def code_of(call, *args):
    with pytest.raises(KafkaError) as refused:
        call(*args)
    return refused.value.code


# Deadlines


async def test_a_silent_member_is_removed_at_its_session_timeout_and_not_before(groups, mock_clock):
    await make_stable(groups)
    await go_by(mock_clock, 9.9)

    assert groups.heartbeat("g", "a", None, 1) is NONE

    await go_by(mock_clock, 9.9)

    assert groups.get("g").state.value == "Stable"

    await go_by(mock_clock, 0.1)

    assert groups.get("g").state.value == "Empty"
    assert groups.heartbeat("g", "a", None, 1) is ErrorCode.UNKNOWN_MEMBER_ID


async def test_deadlines_of_many_groups_are_kept(groups, mock_clock):
    """In the order in which they are due, more than one pass serves at once."""
    for number in range(200):
        await make_stable(groups, group_id=f"g{number}", session_timeout_ms=10_000 + number * 10)
    await go_by(mock_clock, 11)

    states = [groups.get(f"g{number}").state.value for number in range(200)]
    assert states == ["Empty"] * 101 + ["Stable"] * 99


async def test_the_first_join_is_answered_after_the_initial_delay(nursery, store, mock_clock):
    groups = make_groups(store, group_initial_rebalance_delay_ms=3000)
    await nursery.start(groups.run)
    waiting = join(groups, "a")
    await go_by(mock_clock, 2.9)

    assert waiting.result is None

    await go_by(mock_clock, 0.1)

    assert waiting.result.code is NONE


async def test_who_is_gone_does_not_wait(groups, mock_clock):
    await make_stable(groups, "a")
    waiting = join(groups, "b")
    groups.abandon(waiting)
    await go_by(mock_clock, 9)
    groups.heartbeat("g", "a", None, 1)
    await go_by(mock_clock, 1)

    assert list(groups.get("g").roster.members) == ["a"]
    assert waiting.result is None


async def test_two_coordinators_know_nothing_of_each_other(nursery, groups):
    other = make_groups(Store())
    await nursery.start(other.run)
    await make_stable(groups)

    assert other.get("g") is None
    other.stop()
    assert groups.heartbeat("g", "a", None, 1) is NONE


# Refusals


@pytest.mark.parametrize(
    ("group_id", "session", "member_id", "code"),
    [
        ("", 10_000, "", ErrorCode.INVALID_GROUP_ID),
        ("", 5_999, "", ErrorCode.INVALID_GROUP_ID),
        ("g", 5_999, "", ErrorCode.INVALID_SESSION_TIMEOUT),
        ("g", 1_800_001, "", ErrorCode.INVALID_SESSION_TIMEOUT),
        ("g", 10_000, "stranger", ErrorCode.UNKNOWN_MEMBER_ID),
        ("g", 6_000, "", None),
        ("g", 1_800_000, "", None),
    ],
)
async def test_what_a_join_must_have(groups, group_id, session, member_id, code):
    waiting = join(groups, "a", group_id, member_id, session_timeout_ms=session)

    assert (waiting.result.code if waiting.result else None) == code
    assert not waiting.result or waiting.result.member_id == member_id


NOT_READY = [
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
]


@pytest.mark.parametrize("code", NOT_READY)
async def test_nothing_is_decided_before_the_store_is_ready(groups, store, code):
    store.ready = code
    loads = code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS

    assert join(groups, "a").result.code is code
    assert sync(groups, "a").result.code is code
    assert groups.heartbeat("g", "a", None, 1) is (NONE if loads else code)
    assert code_of(groups.leave, "g", [("a", None)]) is code
    assert code_of(groups.get, "g") is code
    assert code_of(groups.delete, "g") is code
    assert code_of(groups.check_commit, "g", "", None, -1) is code
    assert code_of(groups.check_fetch, "g", "", -1) is code
    assert code_of(groups.subscribed_topics, "g") is code
    assert groups.lacks_topic("g") == (code is ErrorCode.COORDINATOR_NOT_AVAILABLE)


async def test_the_topic_is_made_when_it_is_missing(groups, store):
    store.ready = ErrorCode.COORDINATOR_NOT_AVAILABLE
    await groups.ensure_topic()

    assert not groups.lacks_topic("g")
    assert join(groups, "a").result is None


async def test_an_unknown_group_has_no_members(groups):
    assert sync(groups, "a").result.code is ErrorCode.UNKNOWN_MEMBER_ID
    assert groups.heartbeat("g", "a", None, 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert groups.leave("g", [("a", None), ("b", None)]) == [ErrorCode.UNKNOWN_MEMBER_ID] * 2
    assert groups.heartbeat("", "a", None, 1) is ErrorCode.INVALID_GROUP_ID


# Storage


async def test_a_generation_is_stored_with_its_members(groups, store, mock_clock):
    await go_by(mock_clock, 5)
    await make_stable(groups, client_id="c", client_host="/h", group_instance_id=None)

    stored = store.saved["g"]
    assert (stored.protocol_type, stored.generation) == ("consumer", 1)
    assert (stored.protocol, stored.leader) == ("range", "a")
    assert stored.current_state_timestamp == WALL_MS + 5000
    assert stored.members == [
        GroupMetadataValue.MemberMetadata(
            member_id="a",
            group_instance_id=None,
            client_id="c",
            client_host="/h",
            rebalance_timeout=30_000,
            session_timeout=10_000,
            subscription=SUBSCRIPTION,
            assignment=b"!",
        )
    ]


async def test_an_empty_generation_is_stored(groups, store):
    await make_stable(groups)
    groups.leave("g", [("a", None)])

    stored = store.saved["g"]
    assert (stored.generation, stored.protocol, stored.leader) == (2, None, None)
    assert (stored.protocol_type, stored.members) == ("consumer", [])


async def test_an_assignment_that_cannot_be_stored_is_refused(groups, store):
    await join(groups, "a").wait()
    store.failure = ErrorCode.NOT_COORDINATOR

    assert sync(groups, "a").result.code is ErrorCode.NOT_COORDINATOR
    assert groups.get("g").state.value == "PreparingRebalance"


async def test_members_come_back_with_a_new_session(groups, store, mock_clock, nursery):
    await make_stable(groups)
    successor = make_groups(store)
    await nursery.start(successor.run)
    successor.restore(dict(store.saved))
    await go_by(mock_clock, 9)

    assert successor.heartbeat("g", "a", None, 1) is NONE
    assert sync(successor, "a").result.assignment == b"!"
    assert successor.subscribed_topics("g") == {"t"}
    assert successor.get("g").roster.leader_id == "a"

    await go_by(mock_clock, 10)

    assert successor.get("g").state.value == "Empty"


async def test_members_that_do_not_come_back_are_removed(groups, store, mock_clock, nursery):
    await make_stable(groups)
    successor = make_groups(store)
    await nursery.start(successor.run)
    successor.restore(dict(store.saved))
    await go_by(mock_clock, 9.9)

    assert successor.get("g").state.value == "Stable"

    await go_by(mock_clock, 0.1)

    assert successor.get("g").state.value == "Empty"


async def test_a_group_that_is_larger_than_allowed_now_rebalances(groups, store, nursery):
    for name in "ab":
        join(groups, name)
    await join(groups, "c").wait()
    sync(groups, "a")
    successor = make_groups(store, group_max_size=2)
    successor.restore(dict(store.saved))

    assert successor.get("g").state.value == "PreparingRebalance"


async def test_what_is_here_already_is_not_restored_again(groups, store):
    await make_stable(groups)
    before = groups.get("g")
    groups.restore(dict(store.saved))

    assert groups.get("g") is before


async def test_old_records_have_less(groups):
    """Version 0 has no rebalance timeout, version 1 no time."""
    member = GroupMetadataValue.MemberMetadata(
        member_id="a", session_timeout=7000, subscription=memoryview(b"s"), assignment=b"!"
    )
    groups.restore(
        {
            "g": GroupMetadataValue(
                protocol_type="connect", generation=3, protocol="p", leader="gone", members=[member]
            ),
            "e": GroupMetadataValue(
                protocol_type="consumer", generation=3, protocol=None, leader=None, members=[]
            ),
        }
    )

    restored = groups.get("g").roster.members["a"]
    assert (restored.rebalance_timeout_ms, restored.protocols) == (7000, {"p": b"s"})
    assert groups.get("g").roster.leader_id == "a"
    assert groups.expiration("e") == OffsetExpiration(None, frozenset())


# Coming to an end


async def test_whoever_waits_is_sent_away_when_the_broker_stops(groups):
    await make_stable(groups, "a")
    joining = join(groups, "b")
    await join(groups, "x", "h").wait()
    await join(groups, "y", "i").wait()
    other_joining = join(groups, "z", "i")
    groups.stop()

    for each in (joining, other_joining):
        assert each.result.code is ErrorCode.NOT_COORDINATOR
    assert join(groups, "c").result.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    syncing = groups.sync("g", "a", None, 1, {}, protocol_type=None, protocol_name=None)
    assert syncing.result.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert not groups.lacks_topic("g")


async def test_what_needs_no_waiting_is_served_while_the_broker_stops(groups, mock_clock):
    """A client of librdkafka never asks again for offsets that it was refused once."""
    await make_stable(groups, "a")
    groups.stop()

    groups.check_fetch("g", None, -1)
    groups.check_commit("g", "a", None, 1)
    assert groups.heartbeat("g", "a", None, 1) is NONE
    assert [group.group_id for group in groups.all()] == ["g"]
    # Nobody is expelled who can be back when the broker is.
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(3600)
    await trio.testing.wait_all_tasks_blocked()
    assert groups.get("g").state.value == "Stable"


async def test_whoever_waits_is_sent_away_when_another_broker_takes_over(groups):
    await make_stable(groups, "a")
    await make_stable(groups, "h", "h")
    joining = join(groups, "b")
    groups.unload(["g", "unknown"])

    assert joining.result.code is ErrorCode.NOT_COORDINATOR
    assert (groups.get("g"), groups.get("h").state.value) == (None, "Stable")
    groups.abandon(joining)


@pytest.mark.parametrize("has_offsets", [False, True])
async def test_an_empty_group_without_offsets_is_dropped(groups, store, mock_clock, has_offsets):
    await make_stable(groups)
    groups.leave("g", [("a", None)])
    store.offsets |= {"g"} if has_offsets else set()
    await go_by(mock_clock, 599)

    assert groups.get("g") is not None

    await go_by(mock_clock, 1)

    assert (groups.get("g") is not None) == has_offsets
    assert store.forgotten == ([] if has_offsets else ["g"])

    store.offsets.clear()
    groups.remove_if_unused("g")

    assert (groups.get("g"), store.forgotten) == (None, ["g"])


async def test_a_group_that_is_in_use_is_not_dropped(groups, store, mock_clock):
    await make_stable(groups)
    groups.leave("g", [("a", None)])
    await go_by(mock_clock, 590)
    await make_stable(groups, session_timeout_ms=60_000)
    await go_by(mock_clock, 20)
    groups.remove_if_unused("g")

    assert groups.heartbeat("g", "a", None, 3) is NONE
    assert store.forgotten == []


async def test_a_group_that_cannot_be_forgotten_stays(groups, store):
    await make_stable(groups)
    groups.leave("g", [("a", None)])
    store.failure = ErrorCode.COORDINATOR_NOT_AVAILABLE
    groups.remove_if_unused("g")

    assert groups.get("g") is not None
    assert code_of(groups.delete, "g") is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert groups.get("g") is not None


async def test_a_group_that_was_refused_everything_is_nothing(groups):
    join(groups, "a", protocols={})

    assert groups.get("g") is None
    assert groups._held_bytes == 0


async def test_delete(groups, store):
    await make_stable(groups)

    assert code_of(groups.delete, "g") is ErrorCode.NON_EMPTY_GROUP
    assert code_of(groups.delete, "unknown") is ErrorCode.GROUP_ID_NOT_FOUND

    groups.leave("g", [("a", None)])
    groups.delete("g")
    store.offsets.add("simple")
    groups.delete("simple")

    assert (groups.get("g"), store.forgotten) == (None, ["g", "simple"])


# Memory


async def test_new_members_are_refused_when_memory_is_short(nursery, store, mock_clock):
    groups = make_groups(store, trio_groups_max_bytes=100_000)
    await nursery.start(groups.run)
    big = {"range": b"m" * 40_000}
    await make_stable(groups, "a", protocols=big)
    await make_stable(groups, "b", "h", protocols=big)

    assert join(groups, "c", "i", protocols=big).result.code is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert join(groups, "", "g", "a", protocols=big).result.code is NONE
    too_big = {"range": b"m" * 80_000}
    assert join(groups, "", "g", "a", protocols=too_big).result.code

    groups.unload(["g"])

    assert join(groups, "c", "i", protocols=big).result is None


async def test_ids_that_nobody_uses_cost_until_they_expire(nursery, store, mock_clock):
    groups = make_groups(store, trio_groups_max_bytes=50_000)
    await nursery.start(groups.run)
    codes = {
        join(groups, f"m{number}", requires_known_member_id=True).result.code
        for number in range(200)
    }

    assert codes == {ErrorCode.MEMBER_ID_REQUIRED, ErrorCode.GROUP_MAX_SIZE_REACHED}

    await go_by(mock_clock, 10)

    assert (groups.get("g"), groups._held_bytes) == (None, 0)


async def test_groups_come_and_go_without_a_trace(groups, mock_clock):
    for number in range(300):
        await make_stable(groups, group_id=f"g{number}")
        groups.unload([f"g{number}"])

    assert groups._held_bytes == 0
    assert len(groups._deadlines) < 200


async def test_commits_without_offsets_do_not_pile_up(groups, store):
    store.offsets |= {"g7"}
    for number in range(5000):
        groups.check_commit(f"g{number}", "", None, -1)

    assert len(groups.all()) < 1100
    assert groups.get("g7") is not None


# What committed offsets need


async def test_a_simple_consumer_commits_to_a_group_that_nobody_knows(groups):
    groups.check_commit("g", "", None, -1)

    assert groups.get("g").state.value == "Empty"
    assert groups.expiration("g") == OffsetExpiration(None, frozenset())
    assert groups.subscribed_topics("g") == frozenset()


async def test_a_generation_of_a_group_that_nobody_knows_is_refused(groups):
    with pytest.raises(KafkaError, match="GROUP_ID_NOT_FOUND: Group g not found"):
        groups.check_commit("g", "a", None, 1)


async def test_a_member_commits_in_its_generation(groups):
    await make_stable(groups)
    groups.check_commit("g", "a", None, 1)

    assert code_of(groups.check_commit, "g", "a", None, 2) is ErrorCode.ILLEGAL_GENERATION
    assert code_of(groups.check_commit, "g", "b", None, 1) is ErrorCode.UNKNOWN_MEMBER_ID
    groups.check_fetch("g", "b", 7)


async def test_topics_that_are_read(groups, store):
    await make_stable(groups)
    await make_stable(groups, "b", "connect", protocol_type="connect")
    await make_stable(groups, "c", "opaque", protocols={"range": b"?"})
    store.offsets.add("simple")

    assert groups.subscribed_topics("g") == {"t"}
    assert groups.subscribed_topics("simple") == frozenset()
    assert code_of(groups.subscribed_topics, "connect") is ErrorCode.NON_EMPTY_GROUP
    assert code_of(groups.subscribed_topics, "opaque") is ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    assert code_of(groups.subscribed_topics, "unknown") is ErrorCode.GROUP_ID_NOT_FOUND


async def test_when_offsets_expire(groups, mock_clock):
    await make_stable(groups)

    assert groups.expiration("unknown") == OffsetExpiration(None, frozenset())
    assert groups.expiration("g") == OffsetExpiration(None, frozenset({"t"}))

    join(groups, "b")

    assert groups.expiration("g") is None

    await go_by(mock_clock, 5)
    groups.leave("g", [("a", None), ("b", None)])
    await go_by(mock_clock, 5)

    assert groups.expiration("g") == OffsetExpiration(WALL_MS + 5000, frozenset())
    assert groups.subscribed_topics("g") == frozenset()


@pytest.mark.parametrize(
    ("protocol_type", "metadata"), [("connect", SUBSCRIPTION), ("consumer", b"?")]
)
async def test_nothing_expires_while_nobody_knows_what_is_read(groups, protocol_type, metadata):
    await make_stable(groups, protocol_type=protocol_type, protocols={"range": metadata})

    assert groups.expiration("g") is None


async def test_the_age_of_an_empty_group_is_that_before_the_restart(groups, store, mock_clock):
    groups.restore(
        {
            "g": GroupMetadataValue(
                protocol_type="consumer",
                generation=3,
                protocol=None,
                leader=None,
                current_state_timestamp=WALL_MS - 86_400_000,
                members=[],
            )
        }
    )
    await go_by(mock_clock, 5)

    assert groups.expiration("g") == OffsetExpiration(WALL_MS - 86_400_000, frozenset())


async def test_member_ids_are_unique_and_of_bounded_length(groups):
    first, second = groups.new_member_id("c"), groups.new_member_id("c" * 30_000)

    assert first == "c-00000000-0000-0000-0000-000000000001"
    assert second == "c" * 255 + "-00000000-0000-0000-0000-000000000002"
