"""A group, story by story; the single steps are in ``test_classic_group_table``."""

import pytest

from trio_kafka_net.broker.coordinator.classic_group import NEW_MEMBER_JOIN_SECONDS
from trio_kafka_net.protocol.error_codes import ErrorCode

from .group_play import DELAY, NONE, REBALANCE, SESSION, Play

PENDING = {"requires_known_member_id": True}


@pytest.fixture
def play():
    return Play.begin()


def ids(result):
    return [each.member_id for each in result.members]


# The first rebalance


def test_first_member_waits_for_others_before_it_leads(play):
    a = play.join_named("a")
    play.wait(DELAY - 0.01)

    assert a.code is None

    play.wait(0.01)

    assert (a.code, a.result.generation, a.result.leader) == (NONE, 1, "a")
    assert (a.result.protocol_type, a.result.protocol_name) == ("consumer", "range")
    assert ids(a.result) == ["a"]


def test_without_a_delay_the_first_member_leads_at_once():
    play = Play.begin(group_initial_rebalance_delay_ms=0)
    a = play.join_named("a")
    play.wait(0)

    assert a.code is NONE


@pytest.mark.parametrize(
    ("rebalance", "times", "over"),
    [
        (30, [], 3),
        (30, [2.9], 6),
        (30, [3.1], 3),  # too late: the others were not made to wait for it
        (30, [1, 2], 6),
        (30, [2, 5, 8], 12),
        (10, [2, 5, 8, 9.5], 10),
        (3, [1, 2], 3),
        (1, [0.5], 3),
    ],
)
def test_new_members_extend_the_delay_up_to_the_rebalance_timeout(play, rebalance, times, over):
    """Delay 3 s, and the first member comes at 0."""
    first = play.join_named("0", rebalance_timeout_ms=rebalance * 1000)
    for time in times:
        play.wait(time - play.now)
        play.join_named(str(time), rebalance_timeout_ms=rebalance * 1000)
        if first.code is not None:
            break
    play.wait(max(over - 0.01 - play.now, 0))

    assert (first.code is None) == (play.now < over)

    play.wait(0.01)

    assert first.code is NONE


def test_only_the_leader_is_told_who_is_there(play):
    a, b = play.join_named("a", metadata=b"of a"), play.join_named("b", group_instance_id="i")
    play.wait(2 * DELAY)

    assert [(m.member_id, m.group_instance_id, m.metadata) for m in a.result.members] == [
        ("a", None, b"of a"),
        ("b", "i", b"m"),
    ]
    assert (b.code, b.result.leader, b.result.members) == (NONE, "a", [])


def test_everybody_who_was_called_comes_before_the_next_generation(play):
    play.make_stable("a", "b", "c")
    a, b = play.join("a"), play.join("b")

    assert (a.code, b.code, play.heartbeat("c")) == (None, None, ErrorCode.REBALANCE_IN_PROGRESS)

    c = play.join("c")

    assert {each.result.generation for each in (a, b, c)} == {2}


def test_a_member_with_an_id_is_waited_for(play):
    play.make_stable("a")
    pending = play.join().result.member_id
    a = play.join("a")

    assert a.code is None

    play.join(pending)

    assert ids(a.result) == ["a", pending]


# Protocols


@pytest.mark.parametrize(
    ("members", "selected"),
    [
        ([["x", "y"], ["x", "y"], ["y", "x"]], "x"),
        ([["x", "y"], ["y", "x"], ["y", "x"]], "y"),
        ([["x", "y"], ["y", "x"]], "x"),
        ([["x", "y", "z"], ["x", "z"], ["z", "y"]], "z"),
    ],
)
def test_most_votes_among_what_everybody_supports_win(play, members, selected):
    joins = [play.join_named(f"m{n}", protocols=p) for n, p in enumerate(members)]
    play.wait(2 * DELAY)

    assert {each.result.protocol_name for each in joins} == {selected}


def test_who_shares_no_protocol_with_all_is_refused(play):
    play.join_named("a", protocols=["x", "y"])
    play.join_named("b", protocols=["y", "z"])

    assert play.join_named("c", protocols=["x", "z"]).code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert play.join_named("c", protocols=["x", "y"]).code is None


def test_an_empty_group_takes_any_protocol(play):
    play.make_stable("a")
    play.leave("a")
    connect = play.join_named("b", protocol_type="connect", protocols=["eager"])
    play.wait(DELAY)

    assert (connect.result.protocol_type, connect.result.protocol_name) == ("connect", "eager")


# Assignments


def test_everybody_gets_what_the_leader_says(play):
    for name in "abc":
        play.join_named(name)
    play.wait(2 * DELAY)
    b = play.sync("b")
    a = play.sync("a", assignments={"a": b"1", "b": b"2", "stranger": b"3"})
    c = play.sync("c")

    assert [each.result.assignment for each in (a, b, c)] == [b"1", b"2", b""]
    assert b.result.protocol_name == "range"
    assert play.saves == 1


def test_an_assignment_that_cannot_be_stored_reaches_nobody(play):
    play.save_code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    play.join_named("a")
    play.join_named("b")
    play.wait(2 * DELAY)
    b = play.sync("b")
    a = play.sync("a", assignments={"a": b"1", "b": b"2"})

    assert {a.code, b.code} == {ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert (a.result.assignment, play.state) == (b"", "PreparingRebalance")


def test_a_rebalance_sends_away_who_waits_for_an_assignment(play):
    for name in "ab":
        play.join_named(name)
    play.wait(2 * DELAY)
    b = play.sync("b")
    play.join_named("c")

    assert b.code is ErrorCode.REBALANCE_IN_PROGRESS


def test_who_does_not_sync_is_removed(play):
    play.make_stable("a", "b")
    a, b = play.join("a"), play.join("b")
    assert {a.code, b.code} == {NONE}
    play.sync("a", assignments={"a": b"1"})
    play.stay(REBALANCE - 1, "a", "b")

    assert play.members == ["a", "b"]

    play.stay(1, "a", "b")

    assert (play.members, play.state) == (["a"], "PreparingRebalance")


def test_an_overtaken_join_and_sync_are_answered(play):
    play.make_stable("a", "b")
    first, second = play.join("a"), play.join("a")

    assert (first.code, second.code) == (ErrorCode.REBALANCE_IN_PROGRESS, None)

    play.join("b")
    first, second = play.sync("b"), play.sync("b")
    play.sync("a", assignments={"b": b"2"})

    assert (first.code, second.result.assignment) == (ErrorCode.REBALANCE_IN_PROGRESS, b"2")


# Leaders


def test_a_leader_that_does_not_come_is_succeeded(play):
    play.make_stable("a", "b", "c", group_instance_id=None)
    b, c = play.join("b", metadata=b"new"), play.join("c")
    play.wait(REBALANCE)

    assert (b.result.leader, ids(b.result)) == ("b", ["b", "c"])
    assert c.result.leader == "b"


def test_a_leader_that_leaves_is_succeeded(play):
    play.make_stable("a", "b")
    play.leave("a")
    b = play.join("b")

    assert (b.code, b.result.leader, b.result.generation) == (NONE, "b", 2)


def test_a_leader_without_a_connection_does_not_lead(play):
    a, b = play.join_named("a"), play.join_named("b")
    play.disconnect(a)
    play.wait(2 * DELAY)

    assert (b.result.leader, ids(b.result)) == ("b", ["a", "b"])


# Sessions


def test_a_silent_member_is_removed_at_its_session_timeout_and_not_before(play):
    play.make_stable("a", "b")
    play.heartbeat("a")
    play.heartbeat("b")
    play.wait(5)
    play.heartbeat("b")
    play.wait(SESSION - 5 - 0.01)

    assert (play.members, play.state) == (["a", "b"], "Stable")

    play.wait(0.01)

    assert (play.members, play.state) == (["b"], "PreparingRebalance")
    assert play.join("b").result.leader == "b"


def test_a_commit_counts_as_a_sign_of_life(play):
    play.make_stable("a")
    play.wait(SESSION - 1)
    play.commit("a", 1)
    play.wait(SESSION - 1)

    assert play.members == ["a"]


def test_who_waits_for_the_others_is_not_silent(play):
    play.make_stable("a", "b", session_timeout_ms=6000)
    a = play.join("a", session_timeout_ms=6000)
    play.stay(REBALANCE - 1, "b")

    assert (a.code, play.members) == (None, ["a", "b"])

    play.stay(1, "b")

    assert ids(a.result) == ["a"]


def test_who_waits_without_a_connection_is_removed_at_its_session_timeout(play):
    play.make_stable("a", "b")
    a = play.join("a")
    play.stay(3, "b")
    play.disconnect(a)
    play.stay(SESSION - 1, "b")

    assert play.members == ["a", "b"]

    play.stay(1, "b")

    assert (play.members, a.code) == (["b"], None)


def test_who_is_back_in_time_takes_its_place_again(play):
    play.make_stable("a", "b")
    play.disconnect(play.join("a"))
    play.stay(SESSION - 1, "b")
    a = play.join("a")
    play.join("b")

    assert ids(a.result) == ["a", "b"]


def test_who_lost_its_connection_in_a_sync_is_removed_at_its_session_timeout(play):
    for name in "ab":
        play.join_named(name)
    play.wait(2 * DELAY)
    play.disconnect(play.sync("b"))
    play.stay(SESSION - 1, "a")

    assert play.members == ["a", "b"]

    play.stay(1, "a")

    assert play.members == ["a"]


def test_a_generation_does_not_extend_the_session_of_the_dead(play):
    play.make_stable("a", "b", "c")
    c = play.join("c", metadata=b"new")
    play.disconnect(c)
    play.stay(SESSION - 1, "a", "b")
    play.join("a")
    play.join("b")

    assert (play.state, play.members) == ("CompletingRebalance", ["a", "b", "c"])

    play.stay(1, "a", "b")

    assert play.members == ["a", "b"]


def test_the_first_join_does_not_wait_for_ever(play):
    play.make_stable("a", rebalance_timeout_ms=3_600_000)
    b = play.join_named("b")
    play.stay(NEW_MEMBER_JOIN_SECONDS - 1, "a")

    assert b.code is None

    play.stay(1, "a")

    assert (b.code, b.result.member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "")
    assert play.members == ["a"]


def test_a_first_join_without_a_connection_ends_with_its_session(play):
    play.make_stable("a", rebalance_timeout_ms=3_600_000)
    play.disconnect(play.join_named("b"))
    play.stay(SESSION, "a")

    assert play.members == ["a"]


def test_a_first_join_without_a_connection_is_not_waited_for_longer_than_with_one(play):
    play.make_stable("a", rebalance_timeout_ms=3_600_000)
    play.disconnect(play.join_named("b", session_timeout_ms=1_800_000))
    play.stay(NEW_MEMBER_JOIN_SECONDS, "a")

    assert play.members == ["a"]


def test_an_id_that_nobody_comes_back_with_is_forgotten(play):
    play.make_stable("a")
    pending = play.join().result.member_id
    play.stay(SESSION - 1, "a")
    a = play.join("a")

    assert a.code is None

    play.wait(1)

    assert ids(a.result) == ["a"]
    assert play.join(pending).code is ErrorCode.UNKNOWN_MEMBER_ID


# Static members


def test_a_static_member_comes_back_without_a_rebalance(play):
    play.make_stable("a")
    play.leave("a")
    for name in "ab":
        play.join_named(name, group_instance_id=name.upper())
    play.wait(2 * DELAY)
    play.assign()
    b = play.join_named("b2", group_instance_id="B", metadata=b"new")

    assert (b.code, b.result.generation, b.result.leader) == (NONE, 3, "a")
    assert (b.result.members, b.result.skip_assignment) == ([], False)
    assert play.sync("b2").result.assignment == b"b"
    assert play.heartbeat("b", instance="B") is ErrorCode.FENCED_INSTANCE_ID
    assert play.heartbeat("b2", instance="B") is NONE
    assert play.state == "Stable"


@pytest.mark.parametrize("syncs", [True, False])
def test_a_static_member_that_came_back_before_it_synced_disturbs_nobody(play, syncs):
    play.make_stable("a")
    play.join_named("s", group_instance_id="S")
    play.join("a")
    play.sync("a", assignments={"s": b"1"})
    play.join_named("s2", group_instance_id="S")
    if syncs:
        assert play.sync("s2", instance="S").result.assignment == b"1"
    play.stay(2 * REBALANCE, "a", "s2")

    assert (play.state, play.group.generation, play.members) == ("Stable", 2, ["a", "s2"])


@pytest.mark.parametrize("can_skip", [True, False])
def test_a_static_leader_comes_back_and_assigns_nothing(play, can_skip):
    """A client that cannot skip the assignment is told that the leader is its old self."""
    play.make_stable("a", group_instance_id="A")
    a = play.join_named("a2", group_instance_id="A", can_skip_assignment=can_skip)

    assert a.result.skip_assignment == can_skip
    assert (a.result.leader, ids(a.result)) == (("a2", ["a2"]) if can_skip else ("a", []))
    assert play.group.roster.leader_id == "a2"


def test_a_static_member_that_changes_the_protocol_causes_a_rebalance(play):
    play.make_stable("a", protocols=["x", "y"], group_instance_id="A")
    a = play.join_named("a2", protocols=["y"], group_instance_id="A")

    assert (a.result.generation, a.result.protocol_name) == (2, "y")


def test_a_static_member_that_cannot_be_stored_stays_what_it_was(play):
    play.make_stable("a", group_instance_id="A", metadata=b"old")
    play.save_code = ErrorCode.NOT_COORDINATOR
    refused = play.join_named("a2", group_instance_id="A", metadata=b"new")

    assert (refused.code, refused.result.member_id) == (ErrorCode.NOT_COORDINATOR, "")
    assert play.members == ["a"]
    assert play.heartbeat("a", instance="A") is NONE
    assert play.group.roster.members["a"].metadata("range") == b"old"
    assert play.group.roster.leader_id == "a"


def test_the_double_that_waits_is_fenced(play):
    play.make_stable("a", "b")
    first = play.join_named("c", group_instance_id="C")
    second = play.join_named("c2", group_instance_id="C")

    assert (first.code, first.result.member_id) == (ErrorCode.FENCED_INSTANCE_ID, "c")
    assert second.code is None

    play.join("a")
    play.join("b")
    first = play.sync("c2", instance="C")
    play.join_named("c3", group_instance_id="C")

    assert first.code is ErrorCode.FENCED_INSTANCE_ID


def test_a_static_member_keeps_its_place_until_its_session_ends(play):
    """A rebalance does not remove it, and does not wait for it longer than for others."""
    play.make_stable("a", session_timeout_ms=60_000)
    play.join_named("s", group_instance_id="S", session_timeout_ms=60_000)
    play.join("a", session_timeout_ms=60_000)
    play.assign()
    a = play.join("a", session_timeout_ms=60_000)
    play.stay(REBALANCE, "a")

    assert ids(a.result) == ["a", "s"]
    assert play.members == ["a", "s"]


@pytest.mark.parametrize("rebalance", [REBALANCE, 0])
def test_a_group_of_absent_static_members_waits_for_them(play, rebalance):
    """However impatient they are."""
    play.make_stable("a")
    static = {"group_instance_id": "S", "rebalance_timeout_ms": rebalance * 1000}
    play.join_named("s", session_timeout_ms=100_000, **static)
    play.join("a")
    play.assign()
    play.leave("a")
    play.wait(99)

    assert (play.state, play.members) == ("PreparingRebalance", ["s"])

    s = play.join_named("s2", **static)

    assert (s.result.generation, s.result.leader) == (3, "s2")


def test_a_group_whose_static_members_do_not_come_back_is_empty_then(play):
    play.make_stable("s", group_instance_id="S")
    play.wait(SESSION)

    assert (play.state, play.group.generation) == ("Empty", 2)


def test_a_static_member_cannot_be_removed_by_another_name(play):
    play.make_stable("a", group_instance_id="A")

    assert play.leave(("", "B"), ("a", "B"), ("b", "A"), ("", None)) == [
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]
    assert play.leave(("a", "A")) == [NONE]
    assert play.state == "Empty"


# Size


def test_a_full_group_takes_nobody_else():
    play = Play.begin(group_max_size=2)
    play.make_stable("a", "b")

    assert play.join_named("c").code is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert (play.join_named("c").result.member_id, play.state) == ("", "Stable")
    assert play.join("b").code is NONE


def test_a_static_member_comes_back_into_a_full_group():
    play = Play.begin(group_max_size=1)
    play.make_stable("a", group_instance_id="A")

    assert play.join_named("a2", group_instance_id="A").code is NONE
    assert play.join_named("b", group_instance_id="B").code is ErrorCode.GROUP_MAX_SIZE_REACHED


def test_a_group_that_is_too_large_leaves_the_last_behind():
    play = Play.begin(group_max_size=4)
    play.make_stable("a", "b", "c", "d")
    play.group._config = Play.begin(group_max_size=2).group._config
    play.group.become_restored(None, play.now)

    assert play.state == "PreparingRebalance"

    a, c = play.join("a"), play.join("c")
    refused = [play.join("b").code, play.join("d").code]

    assert refused == [ErrorCode.GROUP_MAX_SIZE_REACHED] * 2
    assert ids(a.result) == ["a", "c"]
    assert c.code is NONE


# Topics and bytes


def consumer_of(*topics):
    names = b"".join(len(each).to_bytes(2, "big") + each.encode() for each in topics)
    return b"\0\1" + len(topics).to_bytes(4, "big") + names + b"\xff" * 4


def test_topics_are_those_of_all_members_of_the_generation(play):
    play.make_stable("a", metadata=consumer_of("x", "y"))
    play.join_named("b", metadata=consumer_of("y", "z"))

    assert play.group.subscribed_topics == {"x", "y"}

    play.join("a", metadata=consumer_of("y"))

    assert play.group.subscribed_topics == {"y", "z"}

    play.leave("a", "b")

    assert play.group.subscribed_topics == frozenset()


def test_topics_are_unknown_if_a_member_cannot_be_read(play):
    play.make_stable("a", metadata=consumer_of("x"))
    play.join_named("b", metadata=b"?")
    play.join("a", metadata=consumer_of("x"))

    assert play.group.subscribed_topics is None


def test_other_kinds_of_groups_have_no_topics(play):
    play.make_stable("a", protocol_type="connect", metadata=consumer_of("x"))

    assert (play.group.is_consumer_group, play.group.subscribed_topics) == (False, None)


def test_members_cost_what_they_hold_until_they_are_gone(play):
    before = play.group.held_bytes
    play.join()
    play.make_stable("a", "b", metadata=b"m" * 100_000)
    full = play.group.held_bytes
    play.join("a", metadata=b"m")

    assert before == 0
    assert full > 200_000 > play.group.held_bytes > 100_000

    play.leave("a", "b")
    play.wait(SESSION)

    assert play.group.held_bytes == 0
    assert play.group.is_unused
