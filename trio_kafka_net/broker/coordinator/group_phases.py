"""The phases of a classic group, and how it gets from one to the next.

::

                  first join                    everybody has joined,
                ┌──────────────►                or the time is over
      EMPTY ────┘   PREPARING_REBALANCE ──────────────► COMPLETING_REBALANCE
        ▲             │      ▲    ▲                        │           │
        └─────────────┘      │    └────────────────────────┘           │ the leader's
         nobody is left      │      a join, a leave, a death,          │ assignment
                             │      somebody who did not sync          ▼ is stored
                             └────────────────────────────────────── STABLE

Joins wait in PREPARING_REBALANCE and are answered together; syncs wait in COMPLETING_REBALANCE
and are answered with the assignment. Nobody waits in any other state.

Deadlines, of which each has one owner: a member's *session* (it is taken for dead), a *pending*
member's (it got an id and did not come back with it), the *join* (who is not here is left behind),
the *sync* (who did not ask for its assignment is removed). The first rebalance of an empty group
is special: its join does not end early, because the others are still starting up.

This is one half of the state table; what members ask for, and the rules for both, are in
``classic_group``.

Source: Kafka ``ClassicGroup`` and ``GroupMetadataManager``, ``prepareRebalance``,
``completeClassicGroupJoin``, ``expire*`` (4.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import attrs

from trio_kafka_net.config.groups import GroupConfig
from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .classic_member import GroupState, JoinedMember, JoinResult, Member, SyncResult
from .group_roster import GroupRoster
from .group_waiters import GroupWaiters
from .subscription import CONSUMER_PROTOCOL_TYPE

_EMPTY = GroupState.EMPTY
_PREPARING = GroupState.PREPARING_REBALANCE
_COMPLETING = GroupState.COMPLETING_REBALANCE
_STABLE = GroupState.STABLE
_DEAD = GroupState.DEAD

MAY_FOLLOW: Final[Mapping[GroupState, frozenset[GroupState]]] = {
    _EMPTY: frozenset({_PREPARING}),
    _PREPARING: frozenset({_EMPTY, _COMPLETING, _STABLE}),
    _COMPLETING: frozenset({_PREPARING}),
    _STABLE: frozenset({_COMPLETING}),
    _DEAD: frozenset(GroupState),
}
"""{state: the states it may come after}; anything else is a bug of ours and raises."""

_PENDING_BYTES = 500
_LOOK_AGAIN_SECONDS = 1
"""Shortest time between two attempts to go on with static members only; a timeout may be 0."""

_NONE = ErrorCode.NONE


@attrs.frozen
class Unsaved:
    """Something to store, and what depends on it."""

    assignments: Mapping[str, bytes] | None = None
    """The leader's, {member id: bytes}, if it is what makes the group stable."""
    replaced: tuple[Member, Member] | None = None
    """A static member before and after it came back under a new id."""
    leader_before: str = ""
    can_skip_assignment: bool = False


@attrs.define(eq=False)
class _InitialDelay:
    """How the first rebalance of an empty group is put off; seconds."""

    delay: float
    remaining: float
    has_new_member: bool = False


class GroupPhases:
    """A group as it moves from state to state."""

    def __init__(self, group_id: str, config: GroupConfig, now: float) -> None:
        """Begin empty, in generation 0."""
        self.group_id = group_id
        self.state = _EMPTY
        self.state_since: float | None = now
        """When it came into its state; None if it was restored and nobody knows."""
        self.generation = 0
        self.protocol_type: str | None = None
        """What kind of group it is, from its first member on; None for a simple consumer's."""
        self.protocol_name: str | None = None
        self.subscribed_topics: frozenset[str] | None = None
        """Topics of the members of this generation; None if they cannot be told."""
        self.roster = GroupRoster()
        self.waiters = GroupWaiters(self.roster)
        self._config = config
        self._pending: dict[str, float] = {}  # {member id: deadline}
        self._not_synced: set[str] = set()
        self._join_deadline = math.inf
        self._sync_deadline = math.inf
        self._initial_delay: _InitialDelay | None = None
        self._unsaved: Unsaved | None = None

    # What it looks like from outside

    @property
    def is_unused(self) -> bool:
        """Whether nobody is in it or about to come."""
        return self.state is _EMPTY and not self._pending

    @property
    def is_consumer_group(self) -> bool:
        """Whether its members are Kafka consumers, whose metadata can be read."""
        return self.protocol_type == CONSUMER_PROTOCOL_TYPE

    @property
    def held_bytes(self) -> int:
        """What its members cost, roughly."""
        return self.roster.held_bytes + _PENDING_BYTES * len(self._pending)

    def take_unsaved(self) -> Unsaved | None:
        """What has to be stored; ``saved`` must follow at once."""
        unsaved, self._unsaved = self._unsaved, None
        return unsaved

    def next_deadline(self) -> float:
        """When to call ``expire``, seconds; infinite for never."""
        sessions = [m.session_deadline for m in self.roster.members.values() if m.is_watched]
        return min(self.phase_deadline, *sessions, *self._pending.values(), math.inf)

    @property
    def phase_deadline(self) -> float:
        """When the time for joins or syncs is over, seconds; infinite if it is not running."""
        return min(self._join_deadline, self._sync_deadline)

    # What happens by itself

    def expire(self, now: float) -> None:
        """Do what is due at ``now``."""
        self._expire_members(now)
        if self._join_deadline <= now:
            self._join_time_is_over(now)
        if self._sync_deadline <= now:
            self._sync_time_is_over(now)

    def _expire_members(self, now: float) -> None:
        dead = [
            member.member_id
            for member in self.roster.members.values()
            if member.session_deadline <= now and member.is_watched
        ]
        lost = [member_id for member_id, deadline in self._pending.items() if deadline <= now]
        for member_id in lost:
            del self._pending[member_id]
        for member_id in dead:
            self._remove(member_id)
        if self.state is _PREPARING:
            if dead or lost:
                self._complete_join_if_all_here(now)
        elif dead:
            self._prepare_rebalance(now)

    def _join_time_is_over(self, now: float) -> None:
        initial = self._initial_delay
        if initial is None or not initial.has_new_member or not initial.remaining:
            self._complete_join(now)
            return
        initial.has_new_member = False
        waited = initial.delay
        initial.delay = min(self._initial_delay_seconds, initial.remaining)
        initial.remaining = max(initial.remaining - waited, 0)
        self._join_deadline = now + initial.delay

    def _sync_time_is_over(self, now: float) -> None:
        self._sync_deadline = math.inf
        if self._not_synced:
            for member_id in list(self._not_synced):
                self._remove(member_id)
            self._prepare_rebalance(now)

    # From state to state

    def _move_to(self, state: GroupState, now: float) -> None:
        if self.state not in MAY_FOLLOW[state]:
            raise LocalProtocolError(
                f"group {self.group_id!r} cannot go from {self.state.value} to {state.value}"
            )
        self.state = state
        self.state_since = now

    def _rebalance_or_complete(self, now: float) -> None:
        if self.state is _PREPARING:
            self._complete_join_early(now)
        else:
            self._prepare_rebalance(now)

    def _prepare_rebalance(self, now: float) -> None:
        if self.state is _COMPLETING:
            self._end_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now)
        self._not_synced.clear()
        self._sync_deadline = math.inf
        is_first = self.state is _EMPTY
        self._move_to(_PREPARING, now)
        if is_first:
            delay = self._initial_delay_seconds
            remaining = max(self.roster.rebalance_timeout() - delay, 0)
            self._initial_delay = _InitialDelay(delay, remaining)
            self._join_deadline = now + delay
        else:
            self._join_deadline = now + self.roster.rebalance_timeout()
            self._complete_join_if_all_here(now)

    @property
    def _initial_delay_seconds(self) -> float:
        return self._config.group_initial_rebalance_delay_ms / 1000

    def _complete_join_early(self, now: float) -> None:
        if self._initial_delay is None:
            self._complete_join_if_all_here(now)

    def _complete_join_if_all_here(self, now: float) -> None:
        is_here = self.roster.joining == len(self.roster) and not self._pending
        if self.state is _PREPARING and is_here:
            self._complete_join(now)

    def _complete_join(self, now: float) -> None:
        """Begin the next generation with those who are here.

        Static members stay in without joining: they are expected back. If nobody has joined, and
        only they are left, everything stays as it is until they join or their sessions end.
        """
        roster = self.roster
        for member in list(roster.members.values()):
            if not member.is_joining and member.group_instance_id is None:
                self._remove(member.member_id)
        if not roster.elect_joined_leader() and len(roster):
            self._join_deadline = now + max(roster.rebalance_timeout(), _LOOK_AGAIN_SECONDS)
            return
        self._join_deadline = math.inf
        self._initial_delay = None
        self.generation += 1
        if not len(roster):
            self.protocol_name = None
            self.subscribed_topics = self._topics()
            self._move_to(_EMPTY, now)
            self._unsaved = Unsaved()
            return
        self.protocol_name = roster.select_protocol()
        self.subscribed_topics = self._topics()
        self._move_to(_COMPLETING, now)
        self._not_synced = set(roster.members)
        self._sync_deadline = now + roster.rebalance_timeout()
        for member in roster.members.values():
            is_leader = member.member_id == roster.leader_id
            member.is_new = False
            self.waiters.end_join(member, self._joined(member, tells_members=is_leader), now)

    def saved(self, unsaved: Unsaved, code: ErrorCode, now: float) -> None:
        """Go on after something was stored, or was not: ``code`` says why."""
        if unsaved.assignments is not None:
            self._assignment_saved(unsaved.assignments, code, now)
        elif unsaved.replaced is not None:
            self._replacement_saved(unsaved, *unsaved.replaced, code, now)
        # An empty generation needs no record: the one before it has members that time out.

    def _assignment_saved(
        self, assignments: Mapping[str, bytes], code: ErrorCode, now: float
    ) -> None:
        if code:
            self._end_syncs(code, now)
            self._prepare_rebalance(now)
            return
        for member in self.roster.members.values():
            member.assignment = assignments[member.member_id]
        self._end_syncs(_NONE, now)
        self._move_to(_STABLE, now)

    def _replacement_saved(
        self, unsaved: Unsaved, old: Member, new: Member, code: ErrorCode, now: float
    ) -> None:
        if code:
            self.waiters.dismiss(new, code, "")
            self.roster.swap(new, old)
            old.restart_session(now)
            return
        # The old id stands for the leader: a client that cannot skip the assignment would else
        # assign anew, in a generation that has its assignment already.
        is_leader = new.member_id == self.roster.leader_id
        skips = unsaved.can_skip_assignment
        self.waiters.end_join(
            new,
            self._joined(
                new,
                tells_members=is_leader and skips,
                leader=None if skips else unsaved.leader_before,
                skip_assignment=is_leader and skips,
            ),
            now,
        )

    def _joined(
        self,
        member: Member,
        *,
        tells_members: bool,
        leader: str | None = None,
        skip_assignment: bool = False,
    ) -> JoinResult:
        told = self.roster.members.values() if tells_members else ()
        return JoinResult(
            code=_NONE,
            member_id=member.member_id,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=(self.roster.leader_id or "") if leader is None else leader,
            skip_assignment=skip_assignment,
            members=[
                JoinedMember(m.member_id, m.group_instance_id, m.metadata(self.protocol_name))
                for m in told
            ],
        )

    # Waiting and leaving

    def _end_syncs(self, code: ErrorCode, now: float) -> None:
        for member in self.roster.members.values():
            if code:
                member.assignment = b""
            result = SyncResult(code) if code else self._synced(member)
            self.waiters.end_sync(member, result, now)

    def _synced(self, member: Member) -> SyncResult:
        return SyncResult(_NONE, self.protocol_type, self.protocol_name, member.assignment)

    def _remove(self, member_id: str) -> None:
        self._pending.pop(member_id, None)
        self._not_synced.discard(member_id)
        member = self.roster.members.get(member_id)
        if member is not None:
            self.waiters.dismiss(member, ErrorCode.UNKNOWN_MEMBER_ID, "")
            self.roster.remove(member_id)

    # Coming and going of the whole group

    def become_restored(self, state_since: float | None, now: float) -> None:
        """Go on with the generation and the members that were put in from outside.

        Args:
            state_since: when it came into its state, seconds; None if unknown.
            now: if the group is larger than it may be now, it rebalances, to shrink.
        """
        self.state = _STABLE if len(self.roster) else _EMPTY
        self.state_since = state_since
        self.subscribed_topics = self._topics()
        if len(self.roster) > self._config.group_max_size:
            self._prepare_rebalance(now)

    def send_away(self, code: ErrorCode) -> None:
        """Tell whoever waits ``code``; nothing else changes."""
        for member in self.roster.members.values():
            self.waiters.dismiss(member, code, member.member_id)

    def unload(self, code: ErrorCode) -> None:
        """Become DEAD, without members; whoever waits is told ``code``."""
        for member in list(self.roster.members.values()):
            self.waiters.dismiss(member, code, member.member_id)
            self.roster.remove(member.member_id)
        self._pending.clear()
        self._join_deadline = self._sync_deadline = math.inf
        self.state = _DEAD

    def _topics(self) -> frozenset[str] | None:
        if not self.is_consumer_group:
            return None
        return self.roster.topics(self.protocol_name or "")
