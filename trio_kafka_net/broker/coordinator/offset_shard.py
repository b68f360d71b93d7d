"""The groups of one partition of ``__consumer_offsets``, in memory, as its records have it."""

from __future__ import annotations

import enum

import attrs

from .group_records import Change, CommittedOffset, GroupChange, OffsetChange

GroupOffsets = dict[str, dict[int, CommittedOffset]]
"""{topic: {partition: committed}}"""


class ShardState(enum.Enum):
    """Whether a partition of the topic can be worked with."""

    LOADING = "loading"
    READY = "ready"
    UNLOADED = "unloaded"
    """Another broker leads it, or it could not be read."""


@attrs.define(eq=False)
class OffsetShard:
    """The groups of one partition of the topic."""

    index: int
    state: ShardState = ShardState.LOADING
    offsets: dict[str, GroupOffsets] = attrs.field(factory=dict)
    """{group: its offsets}; a group without any is not in it."""
    saved_groups: set[str] = attrs.field(factory=set)
    """Groups that have a record of their own in the log."""
    deleted_topics: set[str] = attrs.field(factory=set)
    """Topics deleted while it was loading."""

    def apply(self, change: Change) -> None:
        """Make a change that is in the log."""
        if isinstance(change, GroupChange):
            if change.value is None:
                self.saved_groups.discard(change.group_id)
            else:
                self.saved_groups.add(change.group_id)
        elif change.committed is None:
            self._remove(change)
        else:
            topics = self.offsets.get(change.group_id)
            if topics is None:
                topics = self.offsets[change.group_id] = {}
            partitions = topics.get(change.topic)
            if partitions is None:
                partitions = topics[change.topic] = {}
            partitions[change.partition] = change.committed

    def _remove(self, change: OffsetChange) -> None:
        topics = self.offsets.get(change.group_id, {})
        partitions = topics.get(change.topic, {})
        if partitions.pop(change.partition, None) is None:
            return
        if not partitions:
            del topics[change.topic]
            if not topics:
                del self.offsets[change.group_id]
