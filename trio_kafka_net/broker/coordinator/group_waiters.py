"""Who waits for the result of a join or a sync, and the results on their way to them.

A member waits for one of each at most. A waiter is answered exactly once, unless its connection is
gone before that: then nobody is answered, and the member's session begins to count.
"""

from __future__ import annotations

from trio_kafka_net.protocol.error_codes import ErrorCode

from .classic_member import JoinResult, Member, SyncResult, Waiter
from .group_roster import GroupRoster


class GroupWaiters:
    """The waiters of one group."""

    def __init__(self, roster: GroupRoster) -> None:
        """Begin with nobody waiting."""
        self._roster = roster
        self._waiting: dict[Waiter, Member] = {}
        self._answers: list[tuple[Waiter, JoinResult | SyncResult]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def take_answers(self) -> list[tuple[Waiter, JoinResult | SyncResult]]:
        """Results since the last call, in the order in which they were given."""
        answers, self._answers = self._answers, []
        return answers

    def answer(self, waiter: Waiter, result: JoinResult | SyncResult) -> None:
        """Answer somebody who did not have to wait."""
        self._answers.append((waiter, result))

    def await_join(self, member: Member, waiter: Waiter) -> None:
        """Let a member wait for the coming generation; an earlier join of it is overtaken."""
        if member.join_waiter is not None:
            self._end(member.join_waiter, _overtaken_join(member))
        member.join_waiter = waiter
        self._waiting[waiter] = member
        self._roster.set_joining(member, is_joining=True)

    def end_join(self, member: Member, result: JoinResult, now: float) -> None:
        """Answer a member's join, if anybody waits for it; then its session begins anew."""
        waiter, member.join_waiter = member.join_waiter, None
        self._roster.set_joining(member, is_joining=False)
        if waiter is not None:
            self._end(waiter, result)
            member.restart_session(now)

    def await_sync(self, member: Member, waiter: Waiter) -> None:
        """Let a member wait for its assignment; an earlier sync of it is overtaken."""
        if member.sync_waiter is not None:
            self._end(member.sync_waiter, SyncResult(ErrorCode.REBALANCE_IN_PROGRESS))
        member.sync_waiter = waiter
        self._waiting[waiter] = member

    def end_sync(self, member: Member, result: SyncResult, now: float) -> None:
        """Answer a member's sync, if anybody waits for it; then its session begins anew."""
        waiter, member.sync_waiter = member.sync_waiter, None
        if waiter is not None:
            self._end(waiter, result)
            member.restart_session(now)

    def dismiss(self, member: Member, code: ErrorCode, told_as: str) -> None:
        """Answer whatever a member waits for with an error.

        Args:
            member: who is about to be removed.
            code: why.
            told_as: the member id in the answer to its join.
        """
        self._roster.set_joining(member, is_joining=False)
        if member.join_waiter is not None:
            self._end(member.join_waiter, JoinResult(code, told_as))
        if member.sync_waiter is not None:
            self._end(member.sync_waiter, SyncResult(code))
        member.join_waiter = member.sync_waiter = None

    def abandon(self, waiter: Waiter, now: float) -> None:
        """Forget a waiter whose connection is gone, if it still waits.

        A join remains: the member may be back before the others are here.
        """
        member = self._waiting.pop(waiter, None)
        if member is None:
            return
        if member.join_waiter is waiter:
            member.join_waiter = None
        else:
            member.sync_waiter = None
        first_join_deadline = member.session_deadline
        member.restart_session(now)
        if member.is_new:
            member.session_deadline = min(member.session_deadline, first_join_deadline)

    def _end(self, waiter: Waiter, result: JoinResult | SyncResult) -> None:
        del self._waiting[waiter]
        self._answers.append((waiter, result))


def _overtaken_join(member: Member) -> JoinResult:
    # Whoever reads this joins again, which is what it has done already on another connection.
    return JoinResult(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id)
