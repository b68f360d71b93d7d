"""What goes into the state table of a classic group, and what comes out of it.

Plain values: requests to join, results for those who wait, and the members themselves.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

import attrs

from trio_kafka_net.protocol.error_codes import ErrorCode

from .subscription import subscribed_topics

_MEMBER_BYTES = 1000
_PROTOCOL_BYTES = 150


class GroupState(enum.Enum):
    """Where a group stands; the value is Kafka's name, which clients see."""

    EMPTY = "Empty"
    """No members; it may have offsets."""
    PREPARING_REBALANCE = "PreparingRebalance"
    """Members are called together."""
    COMPLETING_REBALANCE = "CompletingRebalance"
    """The generation is known, the leader's assignment is not."""
    STABLE = "Stable"
    """Every member can have its assignment."""
    DEAD = "Dead"
    """Dropped, or coordinated by somebody else now."""


Waiter = object
"""Whoever gets the result of a join or sync: any object, known by its identity."""


def _held_bytes(protocols: Mapping[str, bytes]) -> int:
    return _MEMBER_BYTES + sum(
        _PROTOCOL_BYTES + len(name) + len(metadata) for name, metadata in protocols.items()
    )


@attrs.frozen(kw_only=True)
class JoinCall:
    """A JoinGroup request, as far as a group is concerned."""

    member_id: str
    """Empty if the member has no id yet."""
    new_member_id: str
    """What it is called in that case; nobody was ever called so."""
    group_instance_id: str | None = None
    """Name of a static member (KIP-345)."""
    client_id: str = ""
    client_host: str = ""
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: Mapping[str, bytes]
    """{name: metadata}, the one it likes best first; kept as it is."""
    requires_known_member_id: bool = True
    """Whether a new member has to come again with the id that it is given (KIP-394)."""
    can_skip_assignment: bool = True
    """Whether a leader understands that it has nothing to assign (KIP-814)."""

    @property
    def held_bytes(self) -> int:
        """What it costs to keep what it says, roughly."""
        return _held_bytes(self.protocols)


@attrs.frozen
class JoinedMember:
    """A member as the leader is told about it."""

    member_id: str
    group_instance_id: str | None
    metadata: bytes
    """For the protocol that was selected."""


@attrs.frozen
class JoinResult:
    """Answer to a join."""

    code: ErrorCode
    member_id: str
    generation: int = -1
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: list[JoinedMember] = attrs.field(factory=list)
    """Everybody, for the leader; empty for others."""


@attrs.frozen
class SyncResult:
    """Answer to a sync."""

    code: ErrorCode
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignment: bytes = b""


@attrs.define(eq=False)
class Member:
    """A member of a classic group.

    Source: Kafka ``ClassicGroupMember``.
    """

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Mapping[str, bytes]
    """{name: metadata}, the one it likes best first."""
    assignment: bytes = b""
    session_deadline: float = math.inf
    """When it is taken for dead, seconds; it counts only while ``is_watched``."""
    is_new: bool = False
    """Whether it has not been in any generation yet."""
    is_joining: bool = False
    """Whether it has joined the coming generation, still connected or not."""
    join_waiter: Waiter | None = None
    """Who waits for the result of its join; None if nobody does, or the connection is gone."""
    sync_waiter: Waiter | None = None
    """Who waits for its assignment, likewise."""
    _topics: tuple[str, frozenset[str] | None] | None = None
    """The protocol whose metadata was read last, and the topics in it."""

    @classmethod
    def of(cls, call: JoinCall, member_id: str) -> Member:
        """A member as its join describes it."""
        return cls(
            member_id=member_id,
            group_instance_id=call.group_instance_id,
            client_id=call.client_id,
            client_host=call.client_host,
            session_timeout_ms=call.session_timeout_ms,
            rebalance_timeout_ms=call.rebalance_timeout_ms,
            protocols=call.protocols,
        )

    @property
    def is_watched(self) -> bool:
        """Whether silence ends its session.

        A member that waits for us is not silent, as long as its connection lives. A new one is
        watched even so: it has no other way to show that it is still there.
        """
        return self.is_new or (self.join_waiter is None and self.sync_waiter is None)

    @property
    def held_bytes(self) -> int:
        """What it costs to have it, roughly; assignments not counted."""
        return _held_bytes(self.protocols)

    def restart_session(self, now: float) -> None:
        """Count from ``now`` (seconds) until it is taken for dead."""
        self.session_deadline = now + self.session_timeout_ms / 1000

    def supports_the_same_as(self, call: JoinCall) -> bool:
        """Whether a join changes nothing about the member's protocols, their order included."""
        return list(self.protocols.items()) == list(call.protocols.items())

    def vote(self, candidates: set[str]) -> str:
        """The protocol that it likes best among ``candidates``, which has one of its own."""
        return next(name for name in self.protocols if name in candidates)

    def metadata(self, protocol_name: str | None) -> bytes:
        """What it sent for a protocol; empty if it sent nothing."""
        return self.protocols.get(protocol_name or "", b"")

    def topics(self, protocol_name: str) -> frozenset[str] | None:
        """Topics that it is subscribed to as a consumer; None if they cannot be told."""
        if self._topics is None or self._topics[0] != protocol_name:
            self._topics = (protocol_name, subscribed_topics(self.metadata(protocol_name)))
        return self._topics[1]

    def update(self, call: JoinCall) -> None:
        """Take over what it says about itself now."""
        self.protocols = call.protocols
        self.session_timeout_ms = call.session_timeout_ms
        self.rebalance_timeout_ms = call.rebalance_timeout_ms
        self._topics = None

    def replaced(self, member_id: str) -> Member:
        """The same static member under a new id, waiting for nothing."""
        return Member(
            member_id=member_id,
            group_instance_id=self.group_instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            session_timeout_ms=self.session_timeout_ms,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            protocols=self.protocols,
            assignment=self.assignment,
        )
