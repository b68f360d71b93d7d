"""The group coordinator: classic groups with a clock, a store, and requests that wait.

The decisions are in ``classic_group``; here they meet the world. Every call follows the same
steps, without a checkpoint between them: ask the table of the group, store what it wants stored,
give out the answers it has, and note when it has to be looked at again (``_settle``).

One task looks after all deadlines (``group_deadlines``). A heartbeat only writes a number into its
member, and when its group comes up it is asked what is really due.

Memory is bounded: members and what they say about themselves count against
``trio.groups.max.bytes``, members without a join expire, a group that nobody joined and that has no
offsets is dropped at once, and one that became empty a while later.

Source: Kafka ``GroupCoordinatorService`` and ``GroupMetadataManager`` (4.1).
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import trio

from trio_kafka_net.config.groups import GroupConfig
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue

from .classic_group import ClassicGroup
from .classic_member import GroupState, JoinCall, JoinResult, SyncResult
from .group_contracts import GroupStore, OffsetExpiration
from .group_deadlines import GroupDeadlines
from .group_phases import Unsaved
from .group_snapshot import group_value, restored_group
from .pending_answer import PendingAnswer

log = logging.getLogger(__name__)

_UNUSED_SECONDS = 600
"""How long an empty group without offsets stays; Kafka looks for them as often."""
_MAX_UNPROVEN = 1000
"""Simple consumers' groups whose offsets nobody has looked for yet."""
_GROUPS_PER_PASS = 64
"""Groups whose deadlines are served before others get a turn."""
_GROUP_BYTES = 1500
_NAME_PART = 255
"""Characters of a client id or instance id that go into a member id."""


@attrs.define(eq=False)
class _Slot:
    """A group, and what the coordinator keeps about it."""

    group: ClassicGroup
    logged: GroupState = GroupState.EMPTY
    held_bytes: int = 0
    commits: int = 0
    """Offsets committed since it is here."""
    scheduled: float = math.inf
    """When to look at it again, seconds."""
    unused_deadline: float = math.inf
    """When to see whether anybody still needs it, seconds."""


class GroupCoordinator:
    """All classic groups of one broker."""

    def __init__(
        self,
        config: GroupConfig,
        store: GroupStore,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
    ) -> None:
        """Begin without groups.

        Args:
            config: limits of groups.
            store: where groups are kept.
            now_ms: the clock that stored times are told in, ms since the epoch.
            new_uuid: makes 16 random bytes.
        """
        self._config = config
        self._store = store
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._is_active = True
        self._slots: dict[str, _Slot] = {}  # {group id: slot}
        self._held_bytes = 0
        self._unproven: set[str] = set()
        self._deadlines: GroupDeadlines[_Slot] = GroupDeadlines()
        self._is_earlier = trio.Event()

    # Life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve deadlines until ``stop``, or until cancelled.

        Cancellation: nothing is half done; deadlines that were due are served by the next run.
        """
        task_status.started()
        while self._is_active:
            self._expire(trio.current_time())
            with trio.move_on_at(self._deadlines.next()):
                await self._is_earlier.wait()
            self._is_earlier = trio.Event()

    def stop(self) -> None:
        """Send away whoever waits, and whoever wants to: clients look for the coordinator again.

        What needs no waiting is still served. Members can commit until their connections are
        closed; there are clients that never ask again for offsets that they were refused once.
        """
        self._is_active = False
        self._is_earlier.set()
        for slot in self._slots.values():
            slot.group.send_away(ErrorCode.NOT_COORDINATOR)
            self._give_answers(slot.group)

    async def ensure_topic(self) -> None:
        """Make the topic for groups if there is none.

        Raises:
            KafkaError: it cannot be made, or the broker stops.

        Cancellation: the topic is there as a whole, or not at all.
        """
        self._check_active()
        await self._store.ensure_topic()

    def lacks_topic(self, group_id: str) -> bool:
        """Whether ``ensure_topic`` has to be called before anything can be said about a group."""
        if group_id in self._slots or not self._is_active:
            return False
        try:
            self._store.check_ready(group_id)
        except KafkaError as error:
            return error.code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        return False

    def restore(self, groups: Mapping[str, GroupMetadataValue]) -> None:
        """Go on with groups that were stored; their sessions begin now.

        A group of a simple consumer is stored as nothing but offsets; it is given with an empty
        protocol type.

        Source: Kafka ``GroupMetadataManager.onLoaded``.
        """
        now, now_ms = trio.current_time(), self._now_ms()
        for group_id, value in groups.items():
            if group_id in self._slots:
                continue
            timestamp_ms = value.current_state_timestamp
            since = None if timestamp_ms < 0 else now - (now_ms - timestamp_ms) / 1000
            group = restored_group(group_id, value, self._config, now, state_since=since)
            slot = self._slots[group_id] = _Slot(group, logged=group.state)
            if group.is_unused:
                slot.unused_deadline = now + _UNUSED_SECONDS
            self._settle(slot, "load", is_exact=True)

    def unload(self, group_ids: Iterable[str]) -> None:
        """Let go of groups that another broker coordinates from now on."""
        for group_id in group_ids:
            slot = self._slots.get(group_id)
            if slot is not None:
                slot.group.unload(ErrorCode.NOT_COORDINATOR)
                self._give_answers(slot.group)
                self._drop(slot)

    # What members ask for

    def new_member_id(self, prefix: str) -> str:
        """A member id that nobody ever had, recognisable by a client or instance id."""
        # The length of an id is limited on the wire, and a client may choose its name.
        return f"{prefix[:_NAME_PART]}-{uuid.UUID(bytes=self._new_uuid())}"

    def join(self, group_id: str, call: JoinCall) -> PendingAnswer[JoinResult]:
        """Let a member into a group.

        Source: Kafka ``GroupCoordinatorService.joinGroup``.
        """
        answer: PendingAnswer[JoinResult] = PendingAnswer(group_id)
        code = self._check_join(group_id, call)
        slot = self._slots.get(group_id)
        if not code and slot is None and call.member_id:
            code = ErrorCode.UNKNOWN_MEMBER_ID
        if code:
            answer.give(JoinResult(code, call.member_id))
            return answer
        if slot is None:
            slot = self._add(group_id)
        slot.group.join(call, answer, trio.current_time())
        self._settle(slot, "join")
        return answer

    def _check_join(self, group_id: str, call: JoinCall) -> ErrorCode:
        code = self._refusal(group_id)
        config = self._config
        shortest, longest = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
        if not code and not shortest <= call.session_timeout_ms <= longest:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        if not code and self._lacks_memory_for(group_id, call):
            log.warning("group %.255r: no memory left for members", group_id)
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        return code

    def _lacks_memory_for(self, group_id: str, call: JoinCall) -> bool:
        slot = self._slots.get(group_id)
        member = None if slot is None else slot.group.roster.members.get(call.member_id)
        more = call.held_bytes - (0 if member is None else member.held_bytes)
        return more > 0 and self._held_bytes + more > self._config.trio_groups_max_bytes

    def sync(
        self,
        group_id: str,
        member_id: str,
        group_instance_id: str | None,
        generation: int,
        assignments: Mapping[str, bytes],
        *,
        protocol_type: str | None,
        protocol_name: str | None,
    ) -> PendingAnswer[SyncResult]:
        """Give a member its assignment.

        Source: Kafka ``GroupCoordinatorService.syncGroup``.
        """
        answer: PendingAnswer[SyncResult] = PendingAnswer(group_id)
        slot = self._slots.get(group_id)
        if slot is None or not self._is_active:
            answer.give(SyncResult(self._refusal(group_id) or ErrorCode.UNKNOWN_MEMBER_ID))
            return answer
        slot.group.sync(
            member_id,
            group_instance_id,
            generation,
            assignments,
            answer,
            trio.current_time(),
            protocol_type=protocol_type,
            protocol_name=protocol_name,
        )
        self._settle(slot, "sync")
        return answer

    def abandon(self, answer: PendingAnswer[JoinResult] | PendingAnswer[SyncResult]) -> None:
        """Note that nobody waits for an answer any more."""
        slot = self._slots.get(answer.group_id)
        if slot is not None:
            slot.group.waiters.abandon(answer, trio.current_time())
            self._settle(slot, "disconnect")

    def heartbeat(
        self, group_id: str, member_id: str, group_instance_id: str | None, generation: int
    ) -> ErrorCode:
        """Note that a member is alive; tells it what to do.

        Source: Kafka ``GroupCoordinatorService.heartbeat``.
        """
        slot = self._slots.get(group_id)
        if slot is not None:
            now = trio.current_time()
            return slot.group.heartbeat(member_id, group_instance_id, generation, now)
        code = self._refusal(group_id)
        if code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            return ErrorCode.NONE  # its session begins when the group is loaded
        return code or ErrorCode.UNKNOWN_MEMBER_ID

    def leave(self, group_id: str, members: Sequence[tuple[str, str | None]]) -> list[ErrorCode]:
        """Remove members, each given as (member id, group instance id).

        Raises:
            KafkaError: this broker cannot decide about the group; nobody was removed.

        Source: Kafka ``GroupCoordinatorService.leaveGroup``.
        """
        slot = self._slots.get(group_id)
        if slot is None:
            self._check(group_id)
            return [ErrorCode.UNKNOWN_MEMBER_ID] * len(members)
        codes = slot.group.leave(members, trio.current_time())
        self._settle(slot, "leave")
        return codes

    # What administrators ask for

    def get(self, group_id: str) -> ClassicGroup | None:
        """A group to look at; None if there is none of that name.

        Raises:
            KafkaError: this broker cannot tell.
        """
        slot = self._slots.get(group_id)
        if slot is not None:
            return slot.group
        self._store.check_ready(group_id)
        return None

    def next_deadline(self) -> float:
        """When a group has to be looked at next, seconds on trio's clock; infinite if never."""
        return self._deadlines.next()

    def all(self) -> list[ClassicGroup]:
        """Every group that is loaded, to look at."""
        return [slot.group for slot in self._slots.values()]

    def delete(self, group_id: str) -> None:
        """Delete a group and its offsets.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, or this broker cannot decide; nothing
                was deleted.

        Source: Kafka ``GroupCoordinatorShard.deleteGroups``.
        """
        group = self.get(group_id)
        if group is None and not self._store.has_offsets(group_id):
            raise _not_found(group_id)
        if group is not None and group.state is not GroupState.EMPTY:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        self._store.forget_group(group_id)
        slot = self._slots.get(group_id)
        if slot is not None:
            self._drop(slot)

    # What committed offsets need

    def check_commit(
        self, group_id: str, member_id: str, group_instance_id: str | None, generation: int
    ) -> None:
        """Make sure that offsets may be committed; the member's session begins anew.

        A commit without a generation to a group that nobody knows makes it a simple consumer's.

        Raises:
            KafkaError: it may not be. GROUP_ID_NOT_FOUND if there is no such group; versions below
                9 of OffsetCommit know that as ILLEGAL_GENERATION.

        Source: Kafka ``OffsetMetadataManager.validateOffsetCommit``.
        """
        slot = self._slots.get(group_id)
        if slot is None:
            self._store.check_ready(group_id)
            if generation >= 0:
                raise _not_found(group_id)
            slot = self._add(group_id)
            self._prove_later(group_id)
        now = trio.current_time()
        code = slot.group.check_commit(member_id, group_instance_id, generation, now)
        if code:
            raise KafkaError(code)

    def count_commits(self, group_id: str, offsets: int) -> None:
        """Note that a group has committed so many offsets."""
        slot = self._slots.get(group_id)
        if slot is not None:
            slot.commits += offsets

    def commits(self, group_id: str) -> int:
        """Offsets that a group has committed since this broker coordinates it."""
        slot = self._slots.get(group_id)
        return 0 if slot is None else slot.commits

    def check_fetch(self, group_id: str, member_id: str | None, member_epoch: int) -> None:
        """Make sure that a member may read offsets: of a classic group, anybody may.

        Raises:
            KafkaError: this broker cannot tell.
        """
        self.get(group_id)

    def subscribed_topics(self, group_id: str) -> frozenset[str]:
        """Topics whose offsets must not be deleted, because members read them.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND; NON_EMPTY_GROUP: has members that are no consumers;
                GROUP_SUBSCRIBED_TO_TOPIC: it may be any topic, the members' metadata is no help.

        Source: Kafka ``ClassicGroup.validateOffsetDelete``, ``isSubscribedToTopic``.
        """
        group = self.get(group_id)
        if group is None:
            if self._store.has_offsets(group_id):
                return frozenset()
            raise _not_found(group_id)
        if group.state is GroupState.EMPTY:
            return frozenset()
        if not group.is_consumer_group:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        if group.subscribed_topics is None:
            raise KafkaError(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
        return group.subscribed_topics

    def expiration(self, group_id: str) -> OffsetExpiration | None:
        """How the age of a group's offsets counts; None if none of them may expire now.

        Source: Kafka ``ClassicGroup.offsetExpirationCondition``.
        """
        slot = self._slots.get(group_id)
        if slot is None or slot.group.protocol_type is None:
            return OffsetExpiration(None, frozenset())
        group = slot.group
        if group.state is GroupState.EMPTY:
            since_ms = self._state_timestamp_ms(group)
            return OffsetExpiration(None if since_ms < 0 else since_ms, frozenset())
        if group.state is GroupState.STABLE and group.is_consumer_group:
            topics = group.subscribed_topics
            return None if topics is None else OffsetExpiration(None, topics)
        return None

    def remove_if_unused(self, group_id: str) -> None:
        """Drop a group that has neither members nor offsets, and what is stored of it."""
        slot = self._slots.get(group_id)
        if slot is None or not slot.group.is_unused or self._store.has_offsets(group_id):
            return
        try:
            self._store.forget_group(group_id)
        except KafkaError as error:
            log.warning("group %.255r is not dropped: %s", group_id, error)
        else:
            self._drop(slot)

    # Around the table

    def _check_active(self) -> None:
        if not self._is_active:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def _check(self, group_id: str) -> None:
        """Refuse what cannot be decided here: the broker stops, no name, no topic."""
        self._check_active()
        if not group_id:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        if group_id not in self._slots:
            self._store.check_ready(group_id)

    def _refusal(self, group_id: str) -> ErrorCode:
        try:
            self._check(group_id)
        except KafkaError as error:
            return error_code_of(error)
        return ErrorCode.NONE

    def _add(self, group_id: str) -> _Slot:
        slot = _Slot(ClassicGroup(group_id, self._config, trio.current_time()))
        self._slots[group_id] = slot
        slot.held_bytes = _GROUP_BYTES
        self._held_bytes += _GROUP_BYTES
        return slot

    def _drop(self, slot: _Slot) -> None:
        group = slot.group
        if group.state is not GroupState.DEAD:
            group.unload(ErrorCode.UNKNOWN_MEMBER_ID)
            self._give_answers(group)
        self._held_bytes -= slot.held_bytes
        self._unproven.discard(group.group_id)
        self._deadlines.forget(slot)
        del self._slots[group.group_id]

    def _prove_later(self, group_id: str) -> None:
        # Nothing says yet that the commit is going to store anything. Groups that turn out to have
        # no offsets must not pile up, and looking at each of them once in a while costs nothing.
        self._unproven.add(group_id)
        if len(self._unproven) > _MAX_UNPROVEN:
            unproven, self._unproven = self._unproven, {group_id}
            for each in unproven - self._unproven:
                self._drop_if_never_used(self._slots[each])

    def _drop_if_never_used(self, slot: _Slot) -> None:
        group = slot.group
        was_joined = group.protocol_type is not None
        if group.is_unused and not was_joined and not self._store.has_offsets(group.group_id):
            self._drop(slot)

    def _settle(self, slot: _Slot, reason: str, *, is_exact: bool = False) -> None:
        """Bring the world in line with what a group has decided."""
        group = slot.group
        while (unsaved := group.take_unsaved()) is not None:
            group.saved(unsaved, self._save(group, unsaved), trio.current_time())
        self._give_answers(group)
        held_bytes = _GROUP_BYTES + group.held_bytes
        self._held_bytes += held_bytes - slot.held_bytes
        slot.held_bytes = held_bytes
        if group.state is not slot.logged:
            self._state_changed(slot, reason)
        self._schedule(slot, is_exact=is_exact)
        self._drop_if_never_used(slot)

    def _give_answers(self, group: ClassicGroup) -> None:
        for waiter, result in group.waiters.take_answers():
            assert isinstance(waiter, PendingAnswer)
            waiter.give(result)

    def _state_changed(self, slot: _Slot, reason: str) -> None:
        group = slot.group
        log.info(
            "group %.255r: %s to %s after a %s; generation %d, %d members",
            group.group_id,
            slot.logged.value,
            group.state.value,
            reason,
            group.generation,
            len(group.roster),
        )
        slot.logged = group.state
        is_empty = group.state is GroupState.EMPTY
        slot.unused_deadline = trio.current_time() + _UNUSED_SECONDS if is_empty else math.inf

    def _save(self, group: ClassicGroup, unsaved: Unsaved) -> ErrorCode:
        value = group_value(group, unsaved, self._state_timestamp_ms(group))
        try:
            self._store.save_group(group.group_id, value)
        except KafkaError as error:
            log.warning("group %.255r is not stored: %s", group.group_id, error)
            return error_code_of(error)
        return ErrorCode.NONE

    def _state_timestamp_ms(self, group: ClassicGroup) -> int:
        # Told as "so long ago": a clock that is set right meanwhile does not age offsets.
        if group.state_since is None:
            return -1
        return self._now_ms() - round((trio.current_time() - group.state_since) * 1000)

    # Deadlines

    def _schedule(self, slot: _Slot, *, is_exact: bool) -> None:
        """Look at a group again as soon as anything of it can be due.

        To ask every member each time would make a rebalance of n members cost n squared. So it is
        only done when a deadline was due, and otherwise: no session that began now ends before
        the shortest that is allowed.
        """
        group = slot.group
        deadline = slot.unused_deadline
        if is_exact:
            deadline = min(deadline, group.next_deadline())
        elif not group.is_unused:
            shortest_ms = self._config.group_min_session_timeout_ms
            soonest = trio.current_time() + shortest_ms / 1000
            deadline = min(deadline, soonest, group.phase_deadline)
        if self._deadlines.schedule(slot, deadline):
            self._is_earlier.set()

    def _expire(self, now: float) -> None:
        for _ in range(_GROUPS_PER_PASS):
            slot = self._deadlines.take_due(now)
            if slot is None:
                return
            group_id = slot.group.group_id
            slot.group.expire(now)
            if slot.unused_deadline <= now:
                slot.unused_deadline = math.inf
                self.remove_if_unused(group_id)
            if group_id in self._slots:
                self._settle(slot, "timeout", is_exact=True)


def _not_found(group_id: str) -> KafkaError:
    return KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
