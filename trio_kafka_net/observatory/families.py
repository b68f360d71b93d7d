"""The figures of topics, logs, replicas, the controller and groups, made when somebody looks.

Sources give many samples in pieces: between two of them others may get a turn, so what is looked at
is copied first, and may be gone when its turn comes.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import trio

from trio_kafka_net.broker.coordinator.classic_member import GroupState
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker.metadata_cache import NO_LEADER
from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.broker.replica_manager import ReplicaManager
from trio_kafka_net.broker.topic_traffic import Traffic
from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import Family, Labels, Metric, Sample

from .group_figures import committed_partitions

_SLICE: Final = 100
"""Partitions, groups or topics of one piece; some tenth of a millisecond."""


def family(metric: Metric, samples: Iterable[tuple[Labels, float]]) -> Family:
    """One metric with samples given as (labels, value)."""
    return Family(metric, tuple(Sample(labels, value) for labels, value in samples))


def _single(metric: Metric, value: float) -> Family:
    return Family(metric, (Sample((), value),))


def topic_families(traffic: Traffic) -> Iterator[Family]:
    """What went in and out of topics."""
    topics = list(traffic)
    for metric, attribute in (
        (names.MESSAGES_IN, "messages_in"),
        (names.TOPIC_BYTES_IN, "bytes_in"),
        (names.TOPIC_BYTES_OUT, "bytes_out"),
        (names.TOPIC_BYTES_REJECTED, "bytes_rejected"),
        (names.PRODUCE_REQUESTS, "produce_requests"),
        (names.FETCH_REQUESTS, "fetch_requests"),
        (names.FAILED_PRODUCE_REQUESTS, "failed_produce_requests"),
        (names.FAILED_FETCH_REQUESTS, "failed_fetch_requests"),
    ):
        yield family(metric, [((topic,), getattr(each, attribute)) for topic, each in topics])


def replica_families(replicas: ReplicaManager) -> Iterator[Family]:
    """The logs of this broker, and how its replicas are doing."""
    partitions = list(replicas)
    leaders = under_replicated = under_min_isr = offline = 0
    for start in range(0, len(partitions), _SLICE):
        for partition in partitions[start : start + _SLICE]:
            offline += partition.is_offline
            if partition.is_leader:
                leaders += 1
                under_replicated += len(partition.isr) < len(partition.replicas)
                under_min_isr += not partition.is_offline and (
                    len(partition.isr) < partition.log.config.min_insync_replicas
                )
        yield Family(names.LOG_SIZE, ())  # nothing; but others may get a turn
    # By name, so that the same ones are left out each time.
    partitions.sort(key=lambda partition: partition.key)
    for start in range(0, min(len(partitions), names.PARTITION_LABELS), _SLICE):
        piece = islice(partitions, start, min(start + _SLICE, names.PARTITION_LABELS))
        yield from _log_families([each for each in piece if not each.is_offline])
    yield _single(names.PARTITION_COUNT, len(partitions))
    yield _single(names.LEADER_COUNT, leaders)
    yield _single(names.UNDER_REPLICATED, under_replicated)
    yield _single(names.UNDER_MIN_ISR, under_min_isr)
    yield _single(names.OFFLINE_REPLICAS, offline)
    yield _single(names.OFFLINE_LOG_DIRS, int(offline > 0))


def _log_families(partitions: Sequence[Partition]) -> Iterator[Family]:
    logs = [((each.topic, str(each.index)), each.log) for each in partitions]
    yield family(names.LOG_SIZE, [(labels, log.size_in_bytes) for labels, log in logs])
    yield family(names.LOG_SEGMENTS, [(labels, log.segment_count) for labels, log in logs])
    yield family(names.LOG_START_OFFSET, [(labels, log.log_start_offset) for labels, log in logs])
    yield family(names.LOG_END_OFFSET, [(labels, log.log_end_offset) for labels, log in logs])


def controller_families(broker: LocalBroker) -> Iterator[Family]:
    """The cluster, as this broker has heard of it."""
    metadata = broker.metadata
    partitions = offline = 0
    for topic in metadata:
        partitions += len(topic.partitions)
        offline += sum(each.leader_id == NO_LEADER for each in topic.partitions)
    yield _single(names.ACTIVE_CONTROLLERS, int(metadata.controller_id == broker.node_id))
    yield _single(names.GLOBAL_TOPICS, len(metadata))
    yield _single(names.GLOBAL_PARTITIONS, partitions)
    yield _single(names.OFFLINE_PARTITIONS, offline)


def group_families(broker: LocalBroker) -> Iterator[Family]:
    """The groups that this broker coordinates."""
    groups = broker.groups.all()
    states = Counter(group.state.value for group in groups)
    yield family(
        names.GROUPS,
        [
            (("classic", state.value), states[state.value])
            for state in GroupState
            if state is not GroupState.DEAD
        ],
    )
    told = sorted(groups, key=lambda group: group.group_id)[: names.GROUP_LABELS]
    now = trio.current_time()
    lags_left = names.LAG_LABELS
    for start in range(0, len(told), _SLICE):
        piece = told[start : start + _SLICE]
        yield family(names.GROUP_MEMBERS, [((g.group_id,), len(g.roster)) for g in piece])
        yield family(
            names.GROUP_COMMITS, [((g.group_id,), broker.groups.commits(g.group_id)) for g in piece]
        )
        yield family(
            names.GROUP_STATE_SECONDS,
            [
                ((g.group_id, g.state.value), max(now - g.state_since, 0.0))
                for g in piece
                if g.state_since is not None
            ],
        )
        for group in piece:
            lags: list[tuple[Labels, float]] = [
                ((group.group_id, each.topic, str(each.partition)), each.lag)
                for each in islice(committed_partitions(broker, group.group_id), lags_left)
                if each.lag is not None
            ]
            lags_left -= len(lags)
            yield family(names.GROUP_LAG, lags)


def disk_families(broker: LocalBroker) -> Iterator[Family]:
    """The file system of the data directory; asks the system, for a worker thread."""
    try:
        found = os.statvfs(broker.store.logs.path)
    except OSError:
        return
    yield _single(names.LOG_DIR_FREE, found.f_bavail * found.f_frsize)
    yield _single(names.LOG_DIR_SIZE, found.f_blocks * found.f_frsize)


def build_info(broker: LocalBroker) -> Family:
    """What runs here."""
    # Imported here: it brings mail parsers and archives along, of no use before the first scrape.
    import importlib.metadata

    try:
        version = importlib.metadata.version("trio-kafka-net")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    labels = (
        version,
        platform.python_version(),
        trio.__version__,
        broker.cluster_id,
        str(broker.node_id),
        "broker,controller" if broker.owns_store else "broker",
    )
    return Family(names.BUILD_INFO, (Sample(labels, 1),))
