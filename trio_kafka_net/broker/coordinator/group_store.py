"""What the group coordinator expects of whoever keeps groups and offsets, and the least of it.

``GroupStore`` and ``OffsetExpiration`` are the whole contract between groups and the log.
``MemoryGroupStore`` keeps nothing: groups are forgotten with the process.
"""

from __future__ import annotations

from typing import Protocol

import attrs
import trio

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
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


class MemoryGroupStore:
    """Keeps no more than whether there is a topic; for a broker without offsets, and for tests."""

    def __init__(self) -> None:
        """Begin without a topic."""
        self._has_topic = False

    def check_ready(self, group_id: str) -> None:
        """Make sure that ``ensure_topic`` was called before.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE: it was not.
        """
        if not self._has_topic:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    async def ensure_topic(self) -> None:
        """Be ready from now on.

        Cancellation: not ready yet.
        """
        await trio.lowlevel.checkpoint()
        self._has_topic = True

    def save_group(self, group_id: str, value: GroupMetadataValue) -> None:
        """Do nothing."""

    def forget_group(self, group_id: str) -> None:
        """Do nothing."""

    def has_offsets(self, group_id: str) -> bool:
        """Whether a group has committed offsets: never."""
        return False
