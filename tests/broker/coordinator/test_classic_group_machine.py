"""Members that do anything, in any order: what holds however they behave."""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from trio_kafka_net.protocol.error_codes import ErrorCode

from .group_play import NONE, Play, Waiting

PARTITIONS = [b"0", b"1", b"2", b"3"]
TIMES = [0.5, 3, 9.5, 10, 29.5, 30, 300]


@attrs.define(eq=False)
class Actor:
    """One client, as it sees the world."""

    instance: str | None = None
    member_id: str = ""
    generation: int = -1
    joining: Waiting | None = None
    syncing: Waiting | None = None
    members: list[str] = attrs.field(factory=list)
    """Whom it has to assign to; empty if it does not lead."""
    assignment: bytes | None = None
    is_gone: bool = False


class GroupMachine(RuleBasedStateMachine):
    """Clients of one group; partitions of one topic, named by single digits."""

    actors = Bundle("actors")

    def __init__(self):
        super().__init__()
        self.play = Play.begin(group_max_size=5)
        self.everybody: list[Actor] = []
        self.generation = 0
        self.owners: dict[tuple[int, int], str] = {}  # {(generation, partition): member id}

    # What clients do

    @rule(target=actors, instance=st.sampled_from([None, None, "s", "t"]))
    def start(self, instance):
        actor = Actor(instance)
        self.everybody.append(actor)
        return actor

    @rule(actor=actors, metadata=st.sampled_from([b"m", b"m", b"other"]), old=st.booleans())
    def join(self, actor, metadata, old):
        if actor.is_gone or actor.joining or actor.syncing:
            return
        actor.joining = self.play.join(
            actor.member_id,
            group_instance_id=actor.instance,
            metadata=metadata,
            requires_known_member_id=not old,
        )
        actor.assignment = None
        self.look()

    @rule(actor=actors)
    def sync(self, actor):
        if not self.can_speak(actor):
            return
        actor.syncing = self.play.sync(
            actor.member_id, actor.generation, self.shares(actor.members), actor.instance
        )
        self.look()

    @rule(actor=actors)
    def heartbeat(self, actor):
        if self.can_speak(actor):
            code = self.play.heartbeat(actor.member_id, actor.generation, actor.instance)
            self.heed(actor, code)

    @rule(actor=actors)
    def commit(self, actor):
        if self.can_speak(actor):
            self.heed(actor, self.play.commit(actor.member_id, actor.generation, actor.instance))

    @rule(actor=actors)
    def leave(self, actor):
        if actor.member_id and not actor.is_gone:
            self.play.leave((actor.member_id, actor.instance))
            actor.is_gone = True
            self.look()

    @rule(actor=actors)
    def crash(self, actor):
        for waiting in (actor.joining, actor.syncing):
            if waiting is not None:
                self.play.disconnect(waiting)
        actor.joining = actor.syncing = None
        actor.is_gone = True

    @rule(actor=actors)
    def lose_connection(self, actor):
        """The client is there, and will ask again."""
        for waiting in (actor.joining, actor.syncing):
            if waiting is not None:
                self.play.disconnect(waiting)
        actor.joining = actor.syncing = None

    @rule(target=actors, actor=actors)
    def restart(self, actor):
        """The same configuration, nothing remembered; a static member comes back."""
        actor.is_gone = True
        return self.start(actor.instance)

    @rule(seconds=st.sampled_from(TIMES))
    def wait(self, seconds):
        self.play.wait(seconds)
        self.look()

    @rule(code=st.sampled_from([NONE, NONE, ErrorCode.NOT_COORDINATOR]))
    def storage(self, code):
        self.play.save_code = code

    # What they see

    def can_speak(self, actor):
        return actor.generation >= 0 and not (actor.is_gone or actor.joining or actor.syncing)

    def shares(self, members):
        return {
            member_id: b"".join(PARTITIONS[number :: len(members)])
            for number, member_id in enumerate(members)
        }

    def look(self):
        for actor in self.everybody:
            joined, synced = actor.joining, actor.syncing
            if joined is not None and joined.result is not None:
                actor.joining = None
                self.see_join(actor, joined.result)
            if synced is not None and synced.result is not None:
                actor.syncing = None
                self.see_sync(actor, synced.result)

    def see_join(self, actor, result):
        if result.code is NONE:
            assert result.generation == self.play.group.generation
            actor.member_id, actor.generation = result.member_id, result.generation
            actor.members = [each.member_id for each in result.members]
        elif result.code is ErrorCode.MEMBER_ID_REQUIRED:
            actor.member_id = result.member_id
        else:
            self.heed(actor, result.code)

    def see_sync(self, actor, result):
        if result.code is not NONE:
            self.heed(actor, result.code)
            return
        actor.assignment = result.assignment
        for partition in result.assignment:
            owner = self.owners.setdefault((actor.generation, partition), actor.member_id)
            # A static member that came back owns what it owned, under another id.
            assert owner == actor.member_id or actor.instance is not None

    def heed(self, actor, code):
        if code is ErrorCode.UNKNOWN_MEMBER_ID:
            actor.member_id, actor.generation = "", -1
        elif code is ErrorCode.FENCED_INSTANCE_ID:
            actor.is_gone = True
        elif code is not NONE:
            actor.generation = -1

    # What holds

    @invariant()
    def generations_only_grow(self):
        assert self.play.group.generation >= self.generation
        self.generation = self.play.group.generation

    @invariant()
    def only_these_wait_and_only_now(self):
        group = self.play.group
        members = group.roster.members.values()
        joining = [m for m in members if m.join_waiter]
        syncing = [m for m in members if m.sync_waiter]
        assert len(group.waiters) == len(joining) + len(syncing)
        assert not joining or group.state.value == "PreparingRebalance"
        assert not syncing or group.state.value == "CompletingRebalance"
        assert group.roster.joining == sum(m.is_joining for m in members)
        assert set(group.roster.members) >= group._not_synced
        live = [a for a in self.everybody if not a.is_gone]
        assert sum(a.joining is not None for a in live) <= len(joining)

    @invariant()
    def book_keeping_adds_up(self):
        roster = self.play.group.roster
        held = sum(member.held_bytes for member in roster.members.values())
        assert roster.held_bytes == held
        assert (roster.leader_id in roster.members) == bool(roster.members)
        statics = [m for m in roster.members.values() if m.group_instance_id is not None]
        assert all(roster.static_member(m.group_instance_id) is m for m in statics)
        assert len(roster) <= 5

    @invariant()
    def somebody_looks_after_everybody(self):
        """No waiter and no member without a deadline: nobody waits, or stays, for ever."""
        group = self.play.group
        if group.roster.members or group._pending:
            assert group.next_deadline() < float("inf")

    @precondition(lambda self: self.everybody)
    @rule()
    def everybody_behaves(self):
        """From anywhere, clients that do as they are told end up with an assignment each."""
        self.play.save_code = NONE
        patience = 100
        while not self.is_settled():
            patience -= 1
            assert patience, "does not converge"
            for actor in self.everybody:
                self.behave(actor)
            self.play.wait(1)
            self.look()
        owned = b"".join(a.assignment for a in self.settled())
        assert not self.settled() or sorted(owned) == sorted(b"".join(PARTITIONS))

    def behave(self, actor):
        if actor.is_gone or actor.joining or actor.syncing:
            return
        if actor.generation < 0:
            if actor.member_id in self.play.group.roster.members or self.is_room(actor):
                self.join(actor, b"m", old=False)
            else:
                actor.is_gone = True
        elif actor.assignment is None:
            self.sync(actor)
        else:
            self.heartbeat(actor)

    def is_room(self, actor):
        others = [a for a in self.everybody if not a.is_gone and a is not actor]
        return len(others) < 5

    def settled(self):
        return [a for a in self.everybody if not a.is_gone]

    def is_settled(self):
        members = set(self.play.group.roster.members)
        live = self.settled()
        return (
            self.play.state in {"Stable", "Empty"}
            and {a.member_id for a in live} == members
            and all(a.assignment is not None and self.is_current(a) for a in live)
        )

    def is_current(self, actor):
        return actor.generation == self.play.group.generation


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=150, stateful_step_count=40)
