"""How far the replicas of partitions have come, where all brokers share one store.

A follower has what the leader has appended, at once: there is nothing to copy. Only a replica that
is *held back*, so that tests and demonstrations see what waiting for replicas is like, stays where
its logs ended when that began; then the high watermark waits for it as long as it is in sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from trio_kafka_net.errors import LocalProtocolError

from .log.checkpoints import TopicPartition
from .log.log_manager import LogManager


class Followers:
    """Log end offsets of replicas; one per store."""

    def __init__(self, logs: LogManager) -> None:
        """Hold nobody back."""
        self._logs = logs
        # {node id: {partition: where its replica ends}}, of those who are held back
        self._held: dict[int, dict[TopicPartition, int]] = {}
        self.on_release: list[Callable[[], None]] = []
        """Called when a replica goes on."""

    def slowest(
        self, isr: Sequence[int], leader_id: int, partition: TopicPartition, end_offset: int
    ) -> int:
        """The offset that every replica in sync has reached.

        Args:
            isr: node ids of the replicas in sync.
            leader_id: the one of them that has everything.
            partition: topic and index.
            end_offset: where the log ends.
        """
        for node_id in self._held:
            if node_id in isr and node_id != leader_id:
                # A partition made later has nothing there.
                end_offset = min(end_offset, self._held[node_id].get(partition, 0))
        return end_offset

    @contextmanager
    def hold_back(self, node_id: int) -> Iterator[None]:
        """Let the replicas of a broker stay where they are, for the time of a block.

        Raises:
            LocalProtocolError: they are held back already.
        """
        if node_id in self._held:
            raise LocalProtocolError(f"the replicas of node {node_id} are held back already")
        self._held[node_id] = {log.topic_partition: log.log_end_offset for log in self._logs}
        try:
            yield
        finally:
            del self._held[node_id]
            for advance in self.on_release:
                advance()
