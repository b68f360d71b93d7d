"""What goes in and out of topics, counted where it happens.

A partition holds the figures of its topic, so counting is an addition to a plain attribute. They
go when the last partition of the topic has gone from this broker. Topics beyond a limit share one
set of figures, which stays.

Source: Kafka ``BrokerTopicMetrics`` and where ``ReplicaManager`` marks them (4.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trio_kafka_net.errors import KafkaError, RecordTooLargeError, StorageError
from trio_kafka_net.metrics.names import TOPIC_LABELS
from trio_kafka_net.metrics.registry import OTHER
from trio_kafka_net.protocol.error_codes import ErrorCode

_EXPECTED: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR})
"""Why an append is refused without being a failed one: the client goes elsewhere."""


class TopicTraffic:
    """The figures of one topic; whoever counts adds to the attributes."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "bytes_rejected",
        "failed_fetch_requests",
        "failed_produce_requests",
        "fetch_requests",
        "messages_in",
        "partitions",
        "produce_requests",
    )

    def __init__(self) -> None:
        """Start at 0."""
        self.partitions = 0
        """Partitions that count here."""
        self.messages_in = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.bytes_rejected = 0
        self.produce_requests = 0
        self.fetch_requests = 0
        self.failed_produce_requests = 0
        self.failed_fetch_requests = 0

    def produce_failed(self, error: KafkaError | StorageError, size: int) -> None:
        """Count an append of ``size`` bytes that was refused.

        Source: Kafka ``ReplicaManager.appendToLocalLog``, ``UnifiedLog.analyzeAndValidateRecords``.
        """
        if isinstance(error, RecordTooLargeError):
            self.bytes_rejected += size
        elif isinstance(error, KafkaError) and error.code not in _EXPECTED:
            self.failed_produce_requests += 1


class Traffic:
    """The figures of all topics."""

    def __init__(self, limit: int = TOPIC_LABELS) -> None:
        """Tell up to ``limit`` topics apart."""
        self._limit = limit
        self._topics: dict[str, TopicTraffic] = {}
        self._others: TopicTraffic | None = None

    def __iter__(self) -> Iterator[tuple[str, TopicTraffic]]:
        """Each with its topic's name, or ``OTHER``; what is there now."""
        found = list(self._topics.items())
        if self._others is not None:
            found.append((OTHER, self._others))
        return iter(found)

    def get(self, topic: str) -> TopicTraffic | None:
        """The figures of a topic that has some of its own."""
        return self._topics.get(topic)

    def of(self, topic: str) -> TopicTraffic:
        """The figures for one more partition of a topic; ``release`` them when it goes."""
        traffic = self._topics.get(topic)
        if traffic is None:
            if len(self._topics) >= self._limit:
                if self._others is None:
                    self._others = TopicTraffic()
                return self._others
            traffic = self._topics[topic] = TopicTraffic()
        traffic.partitions += 1
        return traffic

    def release(self, topic: str) -> None:
        """One partition less; the figures go with the last one."""
        traffic = self._topics.get(topic)
        if traffic is not None:
            traffic.partitions -= 1
            if not traffic.partitions:
                del self._topics[topic]
