"""Every state of a group with every event, and what becomes of both."""

import pytest

from trio_kafka_net.broker.coordinator.classic_member import GroupState
from trio_kafka_net.broker.coordinator.group_phases import MAY_FOLLOW
from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .group_play import DELAY, REBALANCE, SESSION, Play

E = ErrorCode
OK = E.NONE
WAITS = None
"""Instead of a code: there is no answer yet."""

# The groups. Members: "leader", "follower", static "static" called "s", and pending "pending".


def empty():
    """Nobody was ever here but one who got an id."""
    play = Play.begin()
    play.join(new_member_id="pending")
    return play


def emptied():
    """Everybody left."""
    play = stable()
    play.leave("leader", "follower", ("", "s"), "pending")
    play.join(new_member_id="pending")
    return play


def starting():
    """The first members are here, others may come yet."""
    play = Play.begin()
    play.join_named("leader")
    play.join_named("follower")
    play.join_named("static", group_instance_id="s")
    play.join(new_member_id="pending")
    return play


def preparing():
    """The leader was there, and asks again."""
    play = stable()
    play.join("leader", metadata=b"other")
    return play


def completing():
    play = starting()
    play.wait(2 * DELAY)
    return play


def stable():
    play = Play.begin()
    play.join_named("leader")
    play.join_named("follower")
    play.join_named("static", group_instance_id="s")
    play.wait(2 * DELAY)
    play.assign()
    play.join(new_member_id="pending")
    return play


def dead():
    play = stable()
    play.group.unload(E.NOT_COORDINATOR)
    return play


GROUPS = (empty, emptied, starting, preparing, completing, stable, dead)

EMPTY, PREPARING = "Empty", "PreparingRebalance"
COMPLETING, STABLE, DEAD = "CompletingRebalance", "Stable", "Dead"
GONE = (E.COORDINATOR_NOT_AVAILABLE, DEAD)
UNKNOWN = E.UNKNOWN_MEMBER_ID
BUSY = E.REBALANCE_IN_PROGRESS
ODD = E.INCONSISTENT_GROUP_PROTOCOL


def joins(*args, **call):
    return lambda play: play.join(*args, **call).code


def syncs(*args, **call):
    return lambda play: play.sync(*args, **call).code


def times_out(seconds):
    return lambda play: play.wait(seconds)


# {event: (what happens, [(answer, state afterwards), ...])}, one for each of GROUPS.
EVENTS = {
    "a new member, who gets an id": (
        joins(),
        [(E.MEMBER_ID_REQUIRED, EMPTY)] * 2
        + [(E.MEMBER_ID_REQUIRED, PREPARING)] * 2
        + [(E.MEMBER_ID_REQUIRED, COMPLETING), (E.MEMBER_ID_REQUIRED, STABLE), GONE],
    ),
    "a new member, who needs no id before": (
        joins(requires_known_member_id=False),
        [(WAITS, PREPARING)] * 6 + [GONE],
    ),
    "the pending member": (joins("pending"), [(WAITS, PREPARING)] * 6 + [GONE]),
    "the pending member with an instance id": (
        joins("pending", group_instance_id="p"),
        [(UNKNOWN, EMPTY)] * 2
        + [(UNKNOWN, PREPARING)] * 2
        + [(UNKNOWN, COMPLETING), (UNKNOWN, STABLE), GONE],
    ),
    "the leader joins again": (
        joins("leader"),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (WAITS, PREPARING),
            (WAITS, PREPARING),
            (OK, COMPLETING),
            (WAITS, PREPARING),
            GONE,
        ],
    ),
    "a follower joins again": (
        joins("follower"),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (WAITS, PREPARING),
            (WAITS, PREPARING),
            (OK, COMPLETING),
            (OK, STABLE),
            GONE,
        ],
    ),
    "a follower joins again with other metadata": (
        joins("follower", metadata=b"other"),
        [(UNKNOWN, EMPTY)] * 2 + [(WAITS, PREPARING)] * 4 + [GONE],
    ),
    "somebody with a strange id": (
        joins("stranger"),
        [(UNKNOWN, EMPTY)] * 2
        + [(UNKNOWN, PREPARING)] * 2
        + [(UNKNOWN, COMPLETING), (UNKNOWN, STABLE), GONE],
    ),
    "another protocol": (
        joins("follower", protocols=["other"]),
        [(UNKNOWN, EMPTY)] * 2 + [(ODD, PREPARING)] * 2 + [(ODD, COMPLETING), (ODD, STABLE), GONE],
    ),
    "another protocol type": (
        joins("follower", protocol_type="connect"),
        [(UNKNOWN, EMPTY)] * 2 + [(ODD, PREPARING)] * 2 + [(ODD, COMPLETING), (ODD, STABLE), GONE],
    ),
    "no protocol at all": (
        joins(protocols=[]),
        [(ODD, EMPTY)] * 2 + [(ODD, PREPARING)] * 2 + [(ODD, COMPLETING), (ODD, STABLE), GONE],
    ),
    "a new static member": (
        joins(group_instance_id="t"),
        [(WAITS, PREPARING)] * 6 + [GONE],
    ),
    "the static member comes back without its id": (
        joins(group_instance_id="s"),
        [(WAITS, PREPARING)] * 5 + [(OK, STABLE), GONE],
    ),
    "the static member comes back with its id": (
        joins("static", group_instance_id="s"),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (WAITS, PREPARING),
            (WAITS, PREPARING),
            (OK, COMPLETING),
            (OK, STABLE),
            GONE,
        ],
    ),
    "a double of the static member joins": (
        joins("follower", group_instance_id="s"),
        [(UNKNOWN, EMPTY)] * 2
        + [(E.FENCED_INSTANCE_ID, PREPARING)] * 2
        + [(E.FENCED_INSTANCE_ID, COMPLETING), (E.FENCED_INSTANCE_ID, STABLE), GONE],
    ),
    "the leader syncs": (
        syncs("leader"),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (BUSY, PREPARING),
            (BUSY, PREPARING),
            (OK, STABLE),
            (OK, STABLE),
            GONE,
        ],
    ),
    "a follower syncs": (
        syncs("follower"),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (BUSY, PREPARING),
            (BUSY, PREPARING),
            (WAITS, COMPLETING),
            (OK, STABLE),
            GONE,
        ],
    ),
    "a sync of another generation": (
        syncs("follower", 7),
        [(UNKNOWN, EMPTY)] * 2
        + [(E.ILLEGAL_GENERATION, PREPARING)] * 2
        + [(E.ILLEGAL_GENERATION, COMPLETING), (E.ILLEGAL_GENERATION, STABLE), GONE],
    ),
    "a sync with another protocol": (
        syncs("follower", protocol_name="other"),
        [(UNKNOWN, EMPTY)] * 2 + [(ODD, PREPARING)] * 2 + [(ODD, COMPLETING), (ODD, STABLE), GONE],
    ),
    "a sync with another protocol type": (
        syncs("follower", protocol_type="connect"),
        [(UNKNOWN, EMPTY)] * 2 + [(ODD, PREPARING)] * 2 + [(ODD, COMPLETING), (ODD, STABLE), GONE],
    ),
    "a double of the static member syncs": (
        syncs("follower", instance="s"),
        [(UNKNOWN, EMPTY)] * 2
        + [(E.FENCED_INSTANCE_ID, PREPARING)] * 2
        + [(E.FENCED_INSTANCE_ID, COMPLETING), (E.FENCED_INSTANCE_ID, STABLE), GONE],
    ),
    "a heartbeat": (
        lambda play: play.heartbeat("follower"),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (BUSY, PREPARING),
            (BUSY, PREPARING),
            (OK, COMPLETING),
            (OK, STABLE),
            GONE,
        ],
    ),
    "a heartbeat of the pending member": (
        lambda play: play.heartbeat("pending"),
        [(UNKNOWN, EMPTY)] * 2
        + [(UNKNOWN, PREPARING)] * 2
        + [(UNKNOWN, COMPLETING), (UNKNOWN, STABLE), GONE],
    ),
    "a heartbeat of another generation": (
        lambda play: play.heartbeat("follower", 7),
        [(UNKNOWN, EMPTY)] * 2
        + [(E.ILLEGAL_GENERATION, PREPARING)] * 2
        + [(E.ILLEGAL_GENERATION, COMPLETING), (E.ILLEGAL_GENERATION, STABLE), GONE],
    ),
    "a follower leaves": (
        lambda play: play.leave("follower")[0],
        [(UNKNOWN, EMPTY)] * 2 + [(OK, PREPARING)] * 4 + [GONE],
    ),
    "the pending member leaves": (
        lambda play: play.leave("pending")[0],
        [(OK, EMPTY)] * 2 + [(OK, PREPARING)] * 2 + [(OK, COMPLETING), (OK, STABLE), GONE],
    ),
    "the static member is removed": (
        lambda play: play.leave(("", "s"))[0],
        [(UNKNOWN, EMPTY)] * 2 + [(OK, PREPARING)] * 4 + [GONE],
    ),
    "a double of the static member leaves": (
        lambda play: play.leave(("follower", "s"))[0],
        [(UNKNOWN, EMPTY)] * 2
        + [(E.FENCED_INSTANCE_ID, PREPARING)] * 2
        + [(E.FENCED_INSTANCE_ID, COMPLETING), (E.FENCED_INSTANCE_ID, STABLE), GONE],
    ),
    "nobody in particular leaves": (
        lambda play: play.leave("")[0],
        [(UNKNOWN, EMPTY)] * 2
        + [(UNKNOWN, PREPARING)] * 2
        + [(UNKNOWN, COMPLETING), (UNKNOWN, STABLE), GONE],
    ),
    "everybody leaves": (
        lambda play: play.leave("leader", "follower", ("", "s"), "pending")[3],
        [(OK, EMPTY), (OK, EMPTY), (OK, PREPARING), (OK, EMPTY), (OK, EMPTY), (OK, EMPTY), GONE],
    ),
    "a commit of a member": (
        lambda play: play.commit("follower", play.group.generation),
        [
            (UNKNOWN, EMPTY),
            (UNKNOWN, EMPTY),
            (OK, PREPARING),
            (OK, PREPARING),
            (BUSY, COMPLETING),
            (OK, STABLE),
            GONE,
        ],
    ),
    "a commit of another generation": (
        lambda play: play.commit("follower", 7),
        [(UNKNOWN, EMPTY)] * 2
        + [(E.ILLEGAL_GENERATION, PREPARING)] * 2
        + [(E.ILLEGAL_GENERATION, COMPLETING), (E.ILLEGAL_GENERATION, STABLE), GONE],
    ),
    "a commit of a double": (
        lambda play: play.commit("follower", play.group.generation, "s"),
        [(UNKNOWN, EMPTY)] * 2
        + [(E.FENCED_INSTANCE_ID, PREPARING)] * 2
        + [(E.FENCED_INSTANCE_ID, COMPLETING), (E.FENCED_INSTANCE_ID, STABLE), GONE],
    ),
    "a commit of nobody in particular": (
        lambda play: play.commit(),
        [(OK, EMPTY)] * 2
        + [(UNKNOWN, PREPARING)] * 2
        + [(UNKNOWN, COMPLETING), (UNKNOWN, STABLE), GONE],
    ),
    "a commit of a member without a generation": (
        lambda play: play.commit("follower"),
        [(OK, EMPTY)] * 2
        + [(E.ILLEGAL_GENERATION, PREPARING)] * 2
        + [(E.ILLEGAL_GENERATION, COMPLETING), (E.ILLEGAL_GENERATION, STABLE), GONE],
    ),
    "silence for the session timeout": (
        times_out(SESSION),
        # Of those who wait nobody is silent; preparing goes on without those who are.
        [(WAITS, EMPTY)] * 2
        + [(WAITS, COMPLETING)] * 2
        + [(WAITS, EMPTY), (WAITS, EMPTY), (WAITS, DEAD)],
    ),
    "silence for ever": (
        times_out(10 * REBALANCE),
        [(WAITS, EMPTY)] * 6 + [(WAITS, DEAD)],
    ),
}

CELLS = [
    pytest.param(begin, happens, expected, id=f"{begin.__name__} - {name}")
    for name, (happens, outcomes) in EVENTS.items()
    for begin, expected in zip(GROUPS, outcomes, strict=True)
]


@pytest.mark.parametrize(("begin", "happens", "expected"), CELLS)
def test_every_event_in_every_state(begin, happens, expected):
    play = begin()

    answer = happens(play)

    assert (answer, play.state) == expected


STATES = [EMPTY, EMPTY, PREPARING, PREPARING, COMPLETING, STABLE, DEAD]


@pytest.mark.parametrize(("begin", "state"), list(zip(GROUPS, STATES, strict=True)))
def test_groups_of_the_table_are_what_they_are_called(begin, state):
    assert begin().state == state


@pytest.mark.parametrize("before", GroupState)
@pytest.mark.parametrize("after", GroupState)
def test_a_group_goes_only_where_it_may(before, after):
    group = Play.begin().group
    group.state = before
    if before in MAY_FOLLOW[after]:
        group._move_to(after, 5.0)

        assert (group.state, group.state_since) == (after, 5.0)
    else:
        with pytest.raises(LocalProtocolError, match="cannot go from"):
            group._move_to(after, 5.0)

        assert group.state is before
