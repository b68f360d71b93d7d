"""A classic group: members that meet, get a generation and a leader, and share an assignment.

Rules of this file, and of ``group_phases``, which has the other half: no trio, no clock, no
randomness. Time comes in as ``now`` (seconds, of a clock that never goes back), ids come in with
the request. Whoever waits comes in as a *waiter*, an object that means nothing here, and goes out
with its result in ``waiters.take_answers``. What has to be stored goes out in ``take_unsaved``, and
how that went comes back in ``saved``, before anything else happens. Deadlines are looked at from
outside: ``next_deadline``, then ``expire``.

Source: Kafka ``ClassicGroup`` and ``GroupMetadataManager.classicGroup*`` (4.1). Here, not there:
a member whose connection goes away while it waits is no longer excused from its session, an
overtaken join or sync is answered, a pending member that leaves disturbs nobody, and a static
member comes back into a group that is full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from trio_kafka_net.protocol.error_codes import ErrorCode

from .classic_member import GroupState, JoinCall, JoinResult, Member, SyncResult, Waiter
from .group_phases import GroupPhases, Unsaved

NEW_MEMBER_JOIN_SECONDS: Final = 300
"""How long the first join of a member may wait: then it is asked to come again, if it is there."""

_EMPTY = GroupState.EMPTY
_PREPARING = GroupState.PREPARING_REBALANCE
_COMPLETING = GroupState.COMPLETING_REBALANCE
_STABLE = GroupState.STABLE
_DEAD = GroupState.DEAD
_NONE = ErrorCode.NONE


class ClassicGroup(GroupPhases):
    """The state table of one group."""

    # JoinGroup

    def join(self, call: JoinCall, waiter: Waiter, now: float) -> None:
        """Let a member in, now or when the others are here.

        Source: Kafka ``GroupMetadataManager.classicGroupJoinToClassicGroup``.
        """
        member_id = call.member_id
        if self.state is _DEAD:
            self._refuse_join(waiter, ErrorCode.COORDINATOR_NOT_AVAILABLE, member_id)
        elif not self._has_room_for(call):
            self._remove(member_id)
            self._refuse_join(waiter, ErrorCode.GROUP_MAX_SIZE_REACHED, "")
            self._complete_join_if_all_here(now)
        elif not self._can_agree_with(call):
            self._refuse_join(waiter, ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id)
        elif not member_id:
            self._join_new(call, waiter, now)
        elif member_id in self._pending and call.group_instance_id is None:
            self._add(call, member_id, waiter, now)
        elif code := self.roster.check(member_id, call.group_instance_id):
            self._refuse_join(waiter, code, member_id)
        else:
            self._rejoin(self.roster.members[member_id], call, waiter, now)

    def _has_room_for(self, call: JoinCall) -> bool:
        # While members come together again those that have are counted, not all that there were:
        # that is how a group shrinks whose limit was lowered.
        member = self.roster.find(call.member_id, call.group_instance_id)
        max_size = self._config.group_max_size
        if self.state is _PREPARING:
            return self.roster.joining < max_size or (member is not None and member.is_joining)
        return len(self.roster) < max_size or member is not None

    def _can_agree_with(self, call: JoinCall) -> bool:
        if self.state is _EMPTY:
            return bool(call.protocol_type and call.protocols)
        return self.protocol_type == call.protocol_type and self.roster.can_agree_with(call)

    def _join_new(self, call: JoinCall, waiter: Waiter, now: float) -> None:
        if call.group_instance_id is not None:
            replaced = self.roster.static_member(call.group_instance_id)
            if replaced is None:
                self._add(call, call.new_member_id, waiter, now)
            else:
                self._replace(replaced, call, waiter, now)
        elif call.requires_known_member_id:
            self._pending[call.new_member_id] = now + call.session_timeout_ms / 1000
            self._refuse_join(waiter, ErrorCode.MEMBER_ID_REQUIRED, call.new_member_id)
        else:
            self._add(call, call.new_member_id, waiter, now)

    def _add(self, call: JoinCall, member_id: str, waiter: Waiter, now: float) -> None:
        self._pending.pop(member_id, None)
        if not len(self.roster):
            self.protocol_type = call.protocol_type
        member = Member.of(call, member_id)
        member.is_new = True
        member.session_deadline = now + NEW_MEMBER_JOIN_SECONDS
        self.roster.add(member)
        self.waiters.await_join(member, waiter)
        if self.state is _PREPARING and self._initial_delay is not None:
            self._initial_delay.has_new_member = True
        self._rebalance_or_complete(now)

    def _rejoin(self, member: Member, call: JoinCall, waiter: Waiter, now: float) -> None:
        is_leader = member.member_id == self.roster.leader_id
        if self.state is _PREPARING:
            changes_generation = True
        else:
            # A leader that joins again wants to assign anew, because of something that is not
            # in its metadata: new partitions, say. In COMPLETING it did not get the answer.
            forces = is_leader and self.state is _STABLE
            changes_generation = forces or not member.supports_the_same_as(call)
        if changes_generation:
            self.roster.update(member, call)
            self.waiters.await_join(member, waiter)
            self._rebalance_or_complete(now)
        else:
            is_told = is_leader and self.state is _COMPLETING
            self.waiters.answer(waiter, self._joined(member, tells_members=is_told))

    def _replace(self, old: Member, call: JoinCall, waiter: Waiter, now: float) -> None:
        """A static member comes back, under a new id.

        Source: Kafka ``updateStaticMemberThenRebalanceOrCompleteJoin`` (KIP-345, KIP-814).
        """
        leader_before = self.roster.leader_id or ""
        self.waiters.dismiss(old, ErrorCode.FENCED_INSTANCE_ID, old.member_id)
        new = old.replaced(call.new_member_id)
        new.update(call)
        new.restart_session(now)
        self._not_synced.discard(old.member_id)
        self.roster.swap(old, new)
        self.waiters.await_join(new, waiter)
        if self.state is _STABLE and self.roster.select_protocol() == self.protocol_name:
            self._unsaved = Unsaved(
                replaced=(old, new),
                leader_before=leader_before,
                can_skip_assignment=call.can_skip_assignment,
            )
        else:
            # In COMPLETING too: the leader may be assigning to the old id at this moment.
            self._rebalance_or_complete(now)

    def _refuse_join(self, waiter: Waiter, code: ErrorCode, member_id: str) -> None:
        self.waiters.answer(waiter, JoinResult(code, member_id))

    # SyncGroup, Heartbeat, LeaveGroup, OffsetCommit

    def sync(
        self,
        member_id: str,
        group_instance_id: str | None,
        generation: int,
        assignments: Mapping[str, bytes],
        waiter: Waiter,
        now: float,
        *,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
    ) -> None:
        """Give a member its assignment, now or when the leader has sent it.

        Source: Kafka ``GroupMetadataManager.classicGroupSyncToClassicGroup``.
        """
        code = self._check_generation(member_id, group_instance_id, generation)
        if not code and (
            protocol_type not in {None, self.protocol_type}
            or protocol_name not in {None, self.protocol_name}
        ):
            code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if not code and self.state is _PREPARING:
            code = ErrorCode.REBALANCE_IN_PROGRESS
        if code:
            self.waiters.answer(waiter, SyncResult(code))
            return
        member = self.roster.members[member_id]
        self._not_synced.discard(member_id)
        if not self._not_synced:
            self._sync_deadline = math.inf
        if self.state is _STABLE:
            self.waiters.answer(waiter, self._synced(member))
            return
        self.waiters.await_sync(member, waiter)
        if member_id == self.roster.leader_id:
            known = {each: assignments.get(each, b"") for each in self.roster.members}
            self._unsaved = Unsaved(assignments=known)

    def heartbeat(
        self, member_id: str, group_instance_id: str | None, generation: int, now: float
    ) -> ErrorCode:
        """Note that a member is alive; tells it whether it has to join again."""
        code = self._check_generation(member_id, group_instance_id, generation)
        if code:
            return code
        self.roster.members[member_id].restart_session(now)
        return ErrorCode.REBALANCE_IN_PROGRESS if self.state is _PREPARING else _NONE

    def leave(self, members: Sequence[tuple[str, str | None]], now: float) -> list[ErrorCode]:
        """Remove members, each given as (member id, group instance id).

        An administrator removes static members by their instance id, with an empty member id.

        Source: Kafka ``GroupMetadataManager.classicGroupLeaveToClassicGroup`` (KIP-345).
        """
        size = len(self.roster)
        codes = [self._leave(*each) for each in members]
        if self.state is _PREPARING:
            self._complete_join_early(now)
        elif len(self.roster) < size:
            self._rebalance_or_complete(now)
        return codes

    def _leave(self, member_id: str, group_instance_id: str | None) -> ErrorCode:
        if self.state is _DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if not member_id and group_instance_id is not None:
            static = self.roster.static_member(group_instance_id)
            if static is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            self._remove(static.member_id)
            return _NONE
        if self._pending.pop(member_id, None) is not None:
            return _NONE
        code = self.roster.check(member_id, group_instance_id)
        if not code:
            self._remove(member_id)
        return code

    def check_commit(
        self, member_id: str, group_instance_id: str | None, generation: int, now: float
    ) -> ErrorCode:
        """Whether offsets may be committed, and by whom; a member's session begins anew.

        Source: Kafka ``ClassicGroup.validateOffsetCommit``, ``OffsetMetadataManager.commitOffset``.
        """
        if self.state is _DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if generation < 0 and self.state is _EMPTY:
            return _NONE  # an administrator, or a consumer that assigns its partitions itself
        if generation < 0 and not member_id and group_instance_id is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        code = self._check_generation(member_id, group_instance_id, generation)
        if code:
            return code
        if self.state is _COMPLETING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        self.roster.members[member_id].restart_session(now)
        return _NONE

    def _check_generation(
        self, member_id: str, group_instance_id: str | None, generation: int
    ) -> ErrorCode:
        if self.state is _DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        code = self.roster.check(member_id, group_instance_id)
        if not code and generation != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return code
