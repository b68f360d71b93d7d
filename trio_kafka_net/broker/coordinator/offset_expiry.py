"""Removes offsets that nobody needs any more, every now and then.

An offset expires when retention is over since its group became empty, or, if the group has no
members to speak of or no longer reads the topic, since it was committed. Old clients say
themselves when it expires. What remains without members and offsets is no group any more.

The work is done in pieces with a checkpoint after each, and each piece asks anew what may expire,
for a group may have come back to life meanwhile.

Source: Kafka ``OffsetMetadataManager.cleanupExpiredOffsets``, ``OffsetExpirationConditionImpl``
(4.1); KIP-211, KIP-496.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs
import trio

from trio_kafka_net.errors import KafkaError

from .group_contracts import OffsetExpiration
from .group_records import NO_EXPIRY, CommittedOffset
from .offset_store import OffsetStore

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class OffsetExpiry:
    """Looks after the offsets of one store."""

    store: OffsetStore
    now_ms: Callable[[], int]
    """The clock, ms since the epoch."""

    async def run(self) -> None:
        """Remove what has expired at every ``offsets.retention.check.interval.ms``.

        Cancellation: safe at any time.
        """
        while True:
            await trio.sleep(self.store.config.offsets_retention_check_interval_ms / 1000)
            await self.expire()

    async def expire(self) -> None:
        """Remove what has expired by now; a group that fails is left for the next time.

        Cancellation: the rest is left for the next time.
        """
        removed = 0
        for group_id in self.store.group_ids():
            try:
                removed += await self._expire_group(group_id)
            except KafkaError as error:
                log.warning("offsets of group %r do not expire: %s", group_id, error)
            await trio.lowlevel.checkpoint()
        if removed:
            log.info("removed %d expired offsets", removed)

    async def _expire_group(self, group_id: str) -> int:
        removed = 0
        for topic in list(self.store.committed(group_id)):
            removed += self._expire_topic(group_id, topic)
            await trio.lowlevel.checkpoint()
        if not self.store.has_offsets(group_id):
            self.store.groups.remove_if_unused(group_id)
        return removed

    def _expire_topic(self, group_id: str, topic: str) -> int:
        expiration = self.store.groups.expiration(group_id)
        if expiration is None or topic in expiration.subscribed_topics:
            return 0
        expired = [
            (topic, partition)
            for partition, committed in self.store.committed(group_id).get(topic, {}).items()
            if self._is_expired(committed, expiration)
        ]
        self.store.remove(group_id, expired)
        return len(expired)

    def _is_expired(self, committed: CommittedOffset, expiration: OffsetExpiration) -> bool:
        now = self.now_ms()
        if committed.expire_timestamp != NO_EXPIRY:
            return now >= committed.expire_timestamp
        since = expiration.since_ms
        if since is None:
            since = committed.commit_timestamp
        return now - since >= self.store.config.offsets_retention_ms
