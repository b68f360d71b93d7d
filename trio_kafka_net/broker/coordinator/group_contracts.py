"""What groups and committed offsets expect of each other.

Members are the business of the coordinator, offsets and the log that of the store; neither
imports the other. The coordinator is given a ``GroupStore``, the store a ``GroupMembership``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import attrs

from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue


@attrs.frozen
class OffsetExpiration:
    """From when on the time of a group's offsets counts.

    Source: Kafka ``ClassicGroup.offsetExpirationCondition``.
    """

    since_ms: int | None
    """When the group became empty, ms since the epoch; None: count from each commit."""
    subscribed_topics: frozenset[str]
    """Topics whose offsets stay, however old they are."""


class GroupStore(Protocol):
    """Keeps groups and their offsets over restarts."""

    def check_ready(self, group_id: str) -> None:
        """Make sure that this broker may decide about a group.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE: there is no topic for groups yet;
                COORDINATOR_LOAD_IN_PROGRESS: what is stored is still being read;
                NOT_COORDINATOR: another broker decides.
        """

    async def ensure_topic(self) -> None:
        """Make the topic for groups if there is none.

        Raises:
            KafkaError: it cannot be made.

        Cancellation: the topic is there as a whole, or not at all.
        """

    def save_group(self, group_id: str, value: GroupMetadataValue) -> None:
        """Store a group at once.

        Raises:
            KafkaError: nothing was stored; the code is one for the clients of the group.
        """

    def forget_group(self, group_id: str) -> None:
        """Let go of a group and of all its offsets.

        Raises:
            KafkaError: it was not possible; the group is still stored.
        """

    def has_offsets(self, group_id: str) -> bool:
        """Whether a group has committed offsets."""


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

    def count_commits(self, group_id: str, offsets: int) -> None:
        """Note that a group has committed so many offsets."""

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

    def expiration(self, group_id: str) -> OffsetExpiration | None:
        """When its offsets may expire; None: not now."""

    def remove_if_unused(self, group_id: str) -> None:
        """Drop a group that has neither members nor offsets."""

    def restore(self, groups: Mapping[str, GroupMetadataValue]) -> None:
        """Take over groups as they were saved: {group id: what was saved}."""

    def unload(self, group_ids: Iterable[str]) -> None:
        """Forget groups that this broker does not look after any more."""
