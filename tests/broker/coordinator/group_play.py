"""One group, a clock that is a number, and members that say what they are told to say."""

from __future__ import annotations

import attrs

from trio_kafka_net.broker.coordinator.classic_group import ClassicGroup
from trio_kafka_net.broker.coordinator.classic_member import JoinCall, JoinResult, SyncResult
from trio_kafka_net.config import GroupConfig
from trio_kafka_net.protocol.error_codes import ErrorCode

NONE = ErrorCode.NONE
SESSION, REBALANCE, DELAY = 10, 30, 3


class Waiting:
    """Gets a result, once."""

    def __init__(self) -> None:
        self.result: JoinResult | SyncResult | None = None

    @property
    def code(self):
        """The error code of the answer; None while there is none."""
        return None if self.result is None else self.result.code


@attrs.define
class Play:
    """A group between calls: answers are given out, what is to be stored is stored."""

    group: ClassicGroup
    now: float = 0.0
    ids: int = 0
    save_code: ErrorCode = NONE
    """What storing gives."""
    saves: int = 0

    @classmethod
    def begin(cls, **config) -> Play:
        settings = GroupConfig(**{"group_initial_rebalance_delay_ms": DELAY * 1000, **config})
        return cls(ClassicGroup("g", settings, 0.0))

    @property
    def state(self) -> str:
        return self.group.state.value

    @property
    def members(self) -> list[str]:
        return list(self.group.roster.members)

    def settle(self) -> None:
        while (unsaved := self.group.take_unsaved()) is not None:
            self.saves += 1
            self.group.saved(unsaved, self.save_code, self.now)
        for waiter, result in self.group.waiters.take_answers():
            assert waiter.result is None, "answered twice"
            waiter.result = result

    def join(self, member_id="", *, protocols=("range",), metadata=b"m", **call) -> Waiting:
        waiting = Waiting()
        self.ids += 1
        settings = {
            "new_member_id": f"member-{self.ids}",
            "session_timeout_ms": SESSION * 1000,
            "rebalance_timeout_ms": REBALANCE * 1000,
            "protocol_type": "consumer",
            "protocols": dict.fromkeys(protocols, metadata),
            **call,
        }
        self.group.join(JoinCall(member_id=member_id, **settings), waiting, self.now)
        self.settle()
        return waiting

    def join_named(self, name: str, **call) -> Waiting:
        """A new member joins under an id that the test knows, as clients before KIP-394 do."""
        return self.join(new_member_id=name, requires_known_member_id=False, **call)

    def sync(self, member_id, generation=None, assignments=None, instance=None, **protocol):
        waiting = Waiting()
        generation = self.group.generation if generation is None else generation
        self.group.sync(
            member_id, instance, generation, assignments or {}, waiting, self.now, **protocol
        )
        self.settle()
        return waiting

    def heartbeat(self, member_id, generation=None, instance=None) -> ErrorCode:
        generation = self.group.generation if generation is None else generation
        return self.group.heartbeat(member_id, instance, generation, self.now)

    def leave(self, *members) -> list[ErrorCode]:
        pairs = [each if isinstance(each, tuple) else (each, None) for each in members]
        codes = self.group.leave(pairs, self.now)
        self.settle()
        return codes

    def commit(self, member_id="", generation=-1, instance=None) -> ErrorCode:
        return self.group.check_commit(member_id, instance, generation, self.now)

    def disconnect(self, waiting: Waiting) -> None:
        self.group.waiters.abandon(waiting, self.now)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time go by, from deadline to deadline."""
        end = self.now + seconds
        while (deadline := self.group.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            self.group.expire(self.now)
            self.settle()
        self.now = end

    def stay(self, seconds: float, *member_ids: str) -> None:
        """Let time go by while these members send heartbeats."""
        for _ in range(round(seconds)):
            self.wait(1)
            for member_id in member_ids:
                self.heartbeat(member_id)

    def make_stable(self, *names: str, **call) -> None:
        """Members join an empty group; the first leads it, and assigns to each its own name."""
        for name in names:
            self.join_named(name, **call)
        self.wait(2 * DELAY)
        self.assign()

    def assign(self) -> None:
        """Everybody syncs, the leader last."""
        leader = self.group.roster.leader_id
        for name in self.members:
            if name != leader:
                self.sync(name)
        self.sync(leader, assignments={name: name.encode() for name in self.members})
        assert self.state == "Stable"
