"""Who is in a classic group: members, static members, leader, and what they have in common.

Book-keeping only; when something may happen is decided by ``classic_group``. Counts are kept
up to date rather than counted, because each of thousands of joins asks "is everybody here?".
"""

from __future__ import annotations

from collections import Counter

from trio_kafka_net.protocol.error_codes import ErrorCode

from .classic_member import JoinCall, Member


class GroupRoster:
    """The members of one group, in the order in which they came.

    Source: Kafka ``ClassicGroup``, its members, ``staticMembers`` and ``supportedProtocols``.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.members: dict[str, Member] = {}
        """{member id: member}."""
        self.leader_id: str | None = None
        self.held_bytes = 0
        """What the members cost, roughly."""
        self.joining = 0
        """How many have joined the coming generation."""
        self._static: dict[str, str] = {}  # {group instance id: member id}
        self._supported: Counter[str] = Counter()  # {protocol: members that support it}

    def __len__(self) -> int:
        return len(self.members)

    def add(self, member: Member) -> None:
        """Take in a member; the first becomes the leader."""
        if member.group_instance_id is not None:
            self._static[member.group_instance_id] = member.member_id
        self.members[member.member_id] = member
        if self.leader_id is None:
            self.leader_id = member.member_id
        self._count(member, 1)

    def remove(self, member_id: str) -> Member | None:
        """Take a member out, if it is there; somebody else becomes the leader if it was."""
        member = self.members.pop(member_id, None)
        if member is None:
            return None
        self._count(member, -1)
        self.set_joining(member, is_joining=False)
        if member.group_instance_id is not None:
            del self._static[member.group_instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def swap(self, old: Member, new: Member) -> None:
        """Put ``new`` in the place of ``old``: the same static member under another id."""
        was_leader = self.leader_id == old.member_id
        self.remove(old.member_id)
        self.add(new)
        if was_leader:
            self.leader_id = new.member_id

    def update(self, member: Member, call: JoinCall) -> None:
        """Let a member say something else about itself."""
        self._count(member, -1)
        member.update(call)
        self._count(member, 1)

    def set_joining(self, member: Member, *, is_joining: bool) -> None:
        """Note whether a member has joined the coming generation."""
        self.joining += is_joining - member.is_joining
        member.is_joining = is_joining

    def static_member(self, group_instance_id: str) -> Member | None:
        """The static member of that name."""
        member_id = self._static.get(group_instance_id)
        return None if member_id is None else self.members[member_id]

    def find(self, member_id: str, group_instance_id: str | None) -> Member | None:
        """The member of that id; without an id, the static member of that name."""
        if member_id or group_instance_id is None:
            return self.members.get(member_id)
        return self.static_member(group_instance_id)

    def check(self, member_id: str, group_instance_id: str | None) -> ErrorCode:
        """Whether a request comes from the member that it says it comes from.

        Source: Kafka ``ClassicGroup.validateMember``.
        """
        if group_instance_id is not None:
            known_as = self._static.get(group_instance_id)
            if known_as is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if known_as != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    def can_agree_with(self, call: JoinCall) -> bool:
        """Whether some protocol of a join is supported by every member."""
        return any(self._supported[name] == len(self.members) for name in call.protocols)

    def select_protocol(self) -> str:
        """The protocol with the most votes among those that every member supports.

        There is one: who would have left none was refused. Ties go to the earlier member's.
        """
        everybody = len(self.members)
        candidates = {name for name, count in self._supported.items() if count == everybody}
        votes = Counter(member.vote(candidates) for member in self.members.values())
        return max(votes, key=lambda name: votes[name])

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader has joined the coming generation; False if nobody has.

        A leader whose connection is gone has joined and will not assign anything, so a member
        that can be answered is preferred to it. Kafka cannot see that, and waits for its session.
        """
        leader = self.members.get(self.leader_id or "")
        joined = [member for member in self.members.values() if member.is_joining]
        if leader is not None and leader.is_joining:
            joined.insert(0, leader)
        if not joined:
            return False
        reachable = (member for member in joined if member.join_waiter is not None)
        self.leader_id = next(reachable, joined[0]).member_id
        return True

    def rebalance_timeout(self) -> float:
        """How long the most patient member gives the others, seconds."""
        longest = max((member.rebalance_timeout_ms for member in self.members.values()), default=0)
        return max(longest, 0) / 1000

    def topics(self, protocol_name: str) -> frozenset[str] | None:
        """Topics that members are subscribed to as consumers; None if they cannot be told."""
        found: set[str] = set()
        for member in self.members.values():
            topics = member.topics(protocol_name)
            if topics is None:
                return None
            found |= topics
        return frozenset(found)

    def _count(self, member: Member, by: int) -> None:
        self.held_bytes += by * member.held_bytes
        for name in member.protocols:
            self._supported[name] += by
            if not self._supported[name]:
                del self._supported[name]
