"""The partitions of one topic, as this broker knows them."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker.metadata_cache import NO_LEADER, PartitionMetadata
from trio_kafka_net.broker.partition import Partition

MAX_PARTITIONS: Final = 1_000
"""Partitions of a document; the first ones of the topic."""


def topic_document(broker: LocalBroker, name: str) -> dict[str, Any] | None:
    """One topic; None if there is none of that name.

    What only the log says is null where this broker has no replica, or its log is offline.
    """
    topic = broker.metadata.get_topic(name)
    if topic is None:
        return None
    return {
        "topic": name,
        "partitions": [
            _partition(broker, name, index, state)
            for index, state in enumerate(islice(topic.partitions, MAX_PARTITIONS))
        ],
    }


def _partition(
    broker: LocalBroker, topic: str, index: int, state: PartitionMetadata
) -> dict[str, Any]:
    partition = broker.replicas.get_partition(topic, index)
    return {
        "partition": index,
        "leader": None if state.leader_id == NO_LEADER else state.leader_id,
        "leader_epoch": state.leader_epoch,
        "replicas": list(state.replicas),
        "isr": list(state.isr),
        **_log(broker, partition),
        "waiting_fetches": broker.replicas.purgatory.watchers((topic, index)),
        "last_error": _last_error(broker, topic, index, partition),
    }


def _log(broker: LocalBroker, partition: Partition | None) -> dict[str, Any]:
    if partition is None or partition.is_offline:
        return dict.fromkeys(
            ("log_start", "high_watermark", "log_end", "size", "segments", "last_append_age_s")
        )
    log = partition.log
    last_ms = log.last_append_ms
    return {
        "log_start": log.log_start_offset,
        "high_watermark": log.high_watermark,
        "log_end": log.log_end_offset,
        "size": log.size_in_bytes,
        "segments": log.segment_count,
        "last_append_age_s": None if last_ms is None else max(broker.now_ms() - last_ms, 0) / 1000,
    }


def _last_error(
    broker: LocalBroker, topic: str, index: int, partition: Partition | None
) -> str | None:
    failure: Exception | None = broker.store.logs.failures.get((topic, index))
    log = broker.store.logs.get_log(topic, index)
    if failure is None and log is not None:
        failure = log.failure
    if failure is None and partition is not None and partition.is_offline:
        return "the log is offline"
    return None if failure is None else str(failure)
