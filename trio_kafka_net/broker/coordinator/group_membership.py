"""What the store of offsets needs to know of groups, and the answer where no group has members.

Who may commit, which topics a group still reads and when it fell silent are matters of its members.
The store asks through ``GroupMembership`` and knows nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue


class Expiration(Protocol):
    """When the offsets of a group may expire."""

    @property
    def since_ms(self) -> int | None:
        """From when retention counts, ms since the epoch; None: from each commit."""

    @property
    def subscribed_topics(self) -> frozenset[str]:
        """Topics that the group reads, whose offsets do not expire."""


class GroupMembership(Protocol):
    """Who is in a group, and what that allows."""

    def check_commit(
        self, group_id: str, member_id: str, group_instance_id: str | None, generation: int
    ) -> None:
        """Refuse a commit that is not the group's.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND, UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION,
                FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS.
        """

    def check_fetch(self, group_id: str, member_id: str | None, member_epoch: int) -> None:
        """Refuse the reading of offsets by who is not in the group.

        Raises:
            KafkaError: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH.
        """

    def subscribed_topics(self, group_id: str) -> frozenset[str]:
        """The topics whose offsets cannot be deleted.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP; GROUP_SUBSCRIBED_TO_TOPIC if it may
                be any topic.
        """

    def expiration(self, group_id: str) -> Expiration | None:
        """When its offsets may expire; None: not now."""

    def remove_if_unused(self, group_id: str) -> None:
        """Drop a group that has neither members nor offsets."""

    def restore(self, groups: Mapping[str, GroupMetadataValue]) -> None:
        """Take over groups as they were saved: {group id: what was saved}."""

    def unload(self, group_ids: Iterable[str]) -> None:
        """Forget groups that this broker does not look after any more."""


@attrs.frozen
class _SinceCommit:
    """The expiration of a group without members."""

    since_ms: None = None
    subscribed_topics: frozenset[str] = frozenset()


class SimpleConsumers:
    """Consumers that assign their partitions themselves: groups without members.

    Source: Kafka ``ClassicGroup.isSimpleGroup`` and its checks.
    """

    def __init__(self, has_offsets: Callable[[str], bool]) -> None:
        """A group exists if it has offsets."""
        self._has_offsets = has_offsets

    def check_commit(
        self, group_id: str, member_id: str, group_instance_id: str | None, generation: int
    ) -> None:
        """Refuse what claims to come from a member.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND, UNKNOWN_MEMBER_ID.
        """
        if generation >= 0:
            exists = self._has_offsets(group_id)
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID if exists else ErrorCode.GROUP_ID_NOT_FOUND
            )

    def check_fetch(self, group_id: str, member_id: str | None, member_epoch: int) -> None:
        """Let everybody read."""

    def subscribed_topics(self, group_id: str) -> frozenset[str]:
        """None.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND.
        """
        if not self._has_offsets(group_id):
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        return frozenset()

    def expiration(self, group_id: str) -> Expiration:
        """Each offset from its commit on."""
        return _SinceCommit()

    def remove_if_unused(self, group_id: str) -> None:
        """Nothing is kept of a group but its offsets."""

    def restore(self, groups: Mapping[str, GroupMetadataValue]) -> None:
        """Members are not looked after."""

    def unload(self, group_ids: Iterable[str]) -> None:
        """Nothing is kept."""
