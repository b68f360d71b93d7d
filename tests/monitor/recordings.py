"""Makes the recordings that screens are compared with: ``python -m tests.monitor.recordings``.

A model of a server counts as it would in a second; what it shows is chosen, not measured, so that
every column has something to show. The files are kept: screens are compared with what is in them.
"""

import gzip
import math
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.snapshot import Snapshot

DATA = Path(__file__).parents[1] / "data"
STARTED = 1_763_733_451 - (2 * 86_400 + 4 * 3_600 + 11 * 60)
NOW = 1_763_733_451 + 0.25
PHASE_BOUNDS = [bound * 1e-9 for bound in names.PHASE_BOUNDS_NS]
LAG_BOUNDS = [bound * 1e-9 for bound in names.LAG_BOUNDS_NS]

# API, version, requests/s, errors/s, MB/s, p50, p99, means of the phases (ms)
APIS = (
    ("Produce", 9, 12_430, 0.0, 46.1, 1.21, 8.94, (0.11, 0.62, 0.00, 0.00, 0.08, 0.40)),
    ("FetchConsumer", 11, 5_204, 0.0, 96.2, 0.79, 4.12, (0.06, 0.21, 0.02, 0.00, 0.05, 0.45)),
    ("OffsetCommit", 8, 640, 0.0, 0.1, 0.88, 3.30, (0.10, 0.66, 0.00, 0.00, 0.04, 0.08)),
    ("Heartbeat", 4, 212, 0.4, 0.0, 0.21, 0.80, (0.09, 0.05, 0.00, 0.00, 0.03, 0.04)),
    ("Metadata", 12, 88, 0.0, 0.6, 0.31, 0.92, (0.08, 0.16, 0.00, 0.00, 0.02, 0.05)),
    ("ListOffsets", 7, 41, 0.0, 0.0, 0.26, 0.71, (0.08, 0.11, 0.00, 0.00, 0.03, 0.04)),
    ("ApiVersions", 3, 12, 0.0, 0.0, 0.12, 0.33, (0.04, 0.03, 0.00, 0.00, 0.02, 0.03)),
    ("FindCoordinator", 4, 3, 0.0, 0.0, 0.18, 0.41, (0.05, 0.07, 0.00, 0.00, 0.02, 0.04)),
    ("JoinGroup", 7, 0.4, 0.1, 0.0, 2_900, 3_000, (0.09, 0.31, 2_900, 0.00, 0.03, 0.04)),
    ("SyncGroup", 5, 0.4, 0.0, 0.0, 41.2, 120, (0.09, 0.12, 40.8, 0.00, 0.03, 0.04)),
    ("InitProducerId", 4, 0.2, 0.0, 0.0, 0.40, 0.40, (0.05, 0.30, 0.00, 0.00, 0.02, 0.03)),
    ("CreateTopics", 7, 0, 0.0, 0.0, 1.00, 2.00, (0.05, 0.30, 0.00, 0.00, 0.02, 0.03)),
)
PHASES = ("queue", "local", "remote", "throttle", "response_queue", "send")
FETCHES_PARKED = 0.00004  # share of the Fetch requests; about 500 ms each

# listener, plane, connections, idle, muted, throttled, MB/s in, MB/s out
PROCESSORS = (
    ("PLAINTEXT", "data", 70, 0.73, 31, 1, 16.4, 33.0),
    ("PLAINTEXT", "data", 71, 0.70, 28, 2, 15.9, 31.8),
    ("PLAINTEXT", "data", 69, 0.71, 30, 0, 15.8, 32.1),
    ("CONTROLLER", "control", 2, 0.99, 0, 0, 0.0009, 0.0011),
)

# topic, partitions, records/s, MB/s in, MB/s out, GB
TOPICS = (
    ("orders", 12, 41_200, 31.9, 63.8, 18.2),
    ("clicks", 24, 19_800, 15.9, 32.4, 9.7),
    ("audit", 3, 400, 0.4, 0.7, 1.1),
    ("__consumer_offsets", 50, 600, 0.1, 0.0, 0.088),
)

# group, state, seconds in it, members, lag, how it grows per second, commits/s
GROUPS = (
    ("clicks-agg", "PreparingRebalance", 35, 6, 48_200, -253.6, 0.0),
    ("audit", "Empty", 900, 0, 1_100, 0.0, 0.0),
    ("orders-sink", "Stable", 8_100, 4, 812, -900.0, 21.4),
)

# client, software, version, state, api, its age, MB/s out
CONNECTIONS = (
    ("orders-sink-3", "aiokafka", "0.14.0", "sending", "Fetch", 0.003, 8.1),
    ("orders-sink-1", "aiokafka", "0.14.0", "parked", "Fetch", 0.212, 7.9),
    ("checkout", "librdkafka", "2.16.1", "throttled", "Produce", 1.1, 0.0),
    ("clicks-agg-7", "kafka-python", "3.0.1", "handling", "OffsetCommit", 0.001, 0.0),
)


def wave(second, seed, swing=0.15):
    """Around 1, the same every time."""
    return 1 + swing * math.sin(second * 0.37 + seed) * math.cos(second * 0.11 + 2 * seed)


class Page:
    """Samples by name, as a server would export them."""

    def __init__(self):
        self.samples = {}

    def add(self, metric, value, **labels):
        name = metric if isinstance(metric, str) else metric.name
        self.samples.setdefault(name, {})[tuple(labels.items())] = round(value, 9)

    def histogram(self, metric, bounds, weights, count, total, **labels):
        counts = [round(count * share) for share in accumulate(weights)]
        for bound, number in zip([*bounds, math.inf], [*counts, round(count)], strict=False):
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            self.add(f"{metric.name}_bucket", number, **labels, le=le)
        self.add(f"{metric.name}_sum", total, **labels)
        self.add(f"{metric.name}_count", round(count), **labels)


def spread(bounds, p50, p99):
    """Weights of buckets such that the quantiles come out about so."""
    weights = [0.0] * (len(bounds) + 1)
    low, high = bisect_left(bounds, p50), bisect_left(bounds, p99)
    edges = [0.0, *bounds]
    place50 = min(0.98, (p50 - edges[low]) / (edges[low + 1] - edges[low]))
    if low == high:
        weights[low] = 0.5 / max(place50, 0.5)
        weights[max(0, low - 1)] += max(0.0, 0.5 - place50 * weights[low])
    else:
        place99 = min(0.98, (p99 - edges[high]) / (edges[high + 1] - edges[high]))
        weights[high] = min(0.04, 0.009 / max(1e-6, 1 - place99))
        below = 0.99 - place99 * weights[high]
        weights[low] = min((below - 0.5) / (1 - place50), 0.5 / place50)
        weights[max(0, low - 1)] += 0.5 - place50 * weights[low]
        weights[high - 1] += below - 0.5 - (1 - place50) * weights[low]
    weights[min(high + 1, len(bounds))] += max(0.0, 1 - sum(weights))
    return weights


def requests(page, passed, moments, load):
    """``passed``: what a rate of 1 has counted by now."""
    for number, (api, version, rate, errors, volume, p50, p99, phases) in enumerate(APIS):
        count = 1_000 + rate * load * moments(number)
        whole = {"plane": "data", "request": api}
        page.add(names.REQUESTS, count, **whole, version=str(version))
        page.add(names.ERRORS, count, **whole, error="NONE")
        if errors:
            failed = 10 + errors * load * passed
            page.add(names.ERRORS, failed, **whole, error="REBALANCE_IN_PROGRESS")
        half = volume * 1e6 * load * moments(number) / 2
        page.add(f"{names.REQUEST_BYTES.name}_sum", half, **whole)
        page.add(f"{names.REQUEST_BYTES.name}_count", count, **whole)
        page.add(names.RESPONSE_BYTES, half, **whole)
        for phase, mean in zip((*PHASES, "total"), (*phases, sum(phases)), strict=True):
            weights = spread(PHASE_BOUNDS, mean / 1e3 or 1e-6, mean * 3 / 1e3 or 2e-6)
            if phase == "total":
                weights = spread(PHASE_BOUNDS, p50 / 1e3, p99 / 1e3)
            if api == "FetchConsumer" and phase == "remote":
                weights = [0.0] * 14
                weights[0], weights[10] = 1 - FETCHES_PARKED, FETCHES_PARKED
            labels = {**whole, "phase": phase}
            seconds = count * mean / 1e3
            page.histogram(names.REQUEST_PHASE, PHASE_BOUNDS, weights, count, seconds, **labels)


def saturation(page, passed, handler_idle, queued, parked=180):
    page.add(names.REQUEST_QUEUE_SIZE, queued, plane="data")
    page.add(names.REQUEST_QUEUE_SIZE, 0, plane="control")
    page.add(names.REQUEST_QUEUE_CAPACITY, 500, plane="data")
    page.add(names.REQUEST_QUEUE_CAPACITY, 20, plane="control")
    for plane, handlers in (("data", (2, 6, parked)), ("control", (0, 1, 0))):
        for state, number in zip(("idle", "running", "parked"), handlers, strict=True):
            page.add(names.HANDLERS, number, plane=plane, state=state)
    page.add(names.HANDLER_IDLE, handler_idle * 8 * passed, plane="data")
    page.add(names.PURGATORY_SIZE, parked, plane="data", delayedOperation="Fetch")
    page.add(names.MEMORY_POOL_USED, 12e6, plane="data")
    page.add(names.MEMORY_POOL_AVAILABLE, 52e6, plane="data")
    page.add(names.MEMORY_POOL_DEPLETED, 0, plane="data")


def processors(page, passed, load):
    for number, row in enumerate(PROCESSORS):
        listener, plane, connections, idle, muted, throttled, into, out = row
        labels = {"plane": plane, "listener": listener, "networkProcessor": str(number)}
        page.add(names.CONNECTION_COUNT, connections, **labels)
        page.add(names.CONNECTIONS_CREATED, 0.3 * passed, **labels)
        page.add(names.PROCESSOR_BUSY, (1 - idle) * passed, **labels)
        page.add(names.PROCESSOR_IDLE, idle * passed, **labels)
        page.add(names.BYTES_IN, into * 1e6 * load * passed, **labels)
        page.add(names.BYTES_OUT, out * 1e6 * load * passed, **labels)
        page.add(names.RESPONSE_QUEUE_SIZE, 2 if number == 1 else 0, **labels)
        states = (
            ("NOT_MUTED", connections - muted),
            ("MUTED_AND_RESPONSE_PENDING", muted - throttled),
            ("MUTED_AND_THROTTLED", throttled),
        )
        for state, count in states:
            page.add(names.CONNECTIONS_MUTED, count, **labels, state=state)
        for cause, rate in (("peer closed", 14), ("idle", 3), ("slow writer", 1)):
            page.add(names.DISCONNECTS, rate / 240 * passed, **labels, cause=cause)
        page.add(names.SENDFILE_BYTES, out * 0.9e6 * passed, **labels)
        page.add(names.COPIED_BYTES, out * 0.1e6 * passed, **labels)
    page.add(names.ACCEPTOR_BLOCKED, 0.02 * passed, plane="data", listener="PLAINTEXT")


def topics(page, passed, load):
    for topic, partitions, records, into, out, gigabytes in TOPICS:
        page.add(names.MESSAGES_IN, records * load * passed, topic=topic)
        page.add(names.TOPIC_BYTES_IN, into * 1e6 * load * passed, topic=topic)
        page.add(names.TOPIC_BYTES_OUT, out * 1e6 * load * passed, topic=topic)
        for partition in range(partitions):
            labels = {"topic": topic, "partition": str(partition)}
            share = 1.5 / partitions if partition == 0 else 1 / partitions
            page.add(names.LOG_SIZE, gigabytes * 1e9 / partitions, **labels)
            page.add(names.LOG_SEGMENTS, 3, **labels)
            page.add(names.LOG_START_OFFSET, 1_000 * partition, **labels)
            end = 1_000_000 + records * share * load * passed
            page.add(names.LOG_END_OFFSET, end, **labels)
    page.add(names.PARTITION_COUNT, 89)
    page.add(names.OFFLINE_REPLICAS, 0)
    page.add(names.OFFLINE_LOG_DIRS, 0)
    page.add(names.UNDER_REPLICATED, 0)
    page.add(names.OFFLINE_PARTITIONS, 0)
    page.add(names.LOG_DIR_FREE, 400e9)
    page.add(names.LOG_DIR_SIZE, 1_000e9)


def groups(page, passed, before_now):
    """``before_now``: seconds until the moment that the table above tells of."""
    for group, state, since, members, lag, grows, commits in GROUPS:
        page.add(names.GROUP_MEMBERS, members, group=group)
        page.add(names.GROUP_STATE_SECONDS, since - before_now, group=group, state=state)
        page.add(names.GROUP_COMMITS, commits * passed, group=group)
        for partition in range(4):
            left = max(0.0, lag - grows * before_now) / 4
            page.add(
                names.GROUP_LAG, left, consumergroup=group, topic="orders", partition=str(partition)
            )
    page.add(names.GROUPS, 1, protocol="classic", state="Stable")
    page.add(names.GROUPS, 1, protocol="classic", state="Empty")
    page.add(names.GROUPS, 1, protocol="classic", state="PreparingRebalance")


def process(page, passed, started=STARTED, roles="broker,controller"):
    page.add(names.IO_WAIT, 0.48 * passed)
    weights = spread(LAG_BOUNDS, 0.0002, 0.0026)
    page.histogram(names.LOOP_LAG, LAG_BOUNDS, weights, 1_000 + 100 * passed, 0.0004 * passed)
    for role, living, runnable in (
        ("processor.poll", 4, 0),
        ("acceptor", 2, 0),
        ("handler", 9, 0),
        ("parked", 180, 0),
        ("service", 12, 0),
        ("all", 214, 3),
    ):
        page.add(names.TASKS, living, role=role, state="living")
        if role == "all":
            page.add(names.TASKS, runnable, role=role, state="runnable")
    page.add(names.PROCESS_CPU, 0.61 * passed)
    page.add(names.PROCESS_MEMORY, 188e6)
    page.add(names.PROCESS_OPEN_FDS, 398)
    page.add(names.PROCESS_MAX_FDS, 65_536)
    page.add(names.PROCESS_START_TIME, started)
    page.add(
        names.BUILD_INFO,
        1,
        version="0.3.0",
        python="3.11.7",
        trio="0.35.0",
        cluster_id="dev-cluster",
        node_id="1",
        roles=roles,
    )


def documents():
    rows = [
        {
            "id": f"127.0.0.1:9092-127.0.0.1:5{number:04}-{number}",
            "client_id": client,
            "software": software,
            "software_version": version,
            "principal": "User:ANONYMOUS",
            "remote": f"127.0.0.1:5{number:04}",
            "listener": "PLAINTEXT",
            "plane": "data",
            "processor": number % 3,
            "state": state,
            "api": api,
            "api_age_s": age,
            "in_per_s": 12_000.0 * number,
            "out_per_s": out * 1e6,
            "bytes_in": 10_000_000 * (number + 1),
            "bytes_out": int(out * 9e9),
            "idle_s": 0.5 * number,
            "age_s": 3_600.0 * (number + 1),
        }
        for number, (client, software, version, state, api, age, out) in enumerate(CONNECTIONS)
    ]
    return {
        "connections": {"time": NOW, "total": 212, "matched": 212, "connections": rows},
        "tasks": {
            "time": NOW,
            "event_loop": {"busy": 0.52, "lag_p50_s": 0.0002, "lag_p99_s": 0.0026},
            "tasks": {"living": 214, "runnable": 3},
            "roles": {"processor.poll": 4, "handler": 9},
            "threads": {"used": 1, "total": 40},
            "channels": [
                {"name": "request_channel", "used": 11, "capacity": 500},
                {"name": "new_connections 0", "used": 0, "capacity": 20},
                {"name": "responses 0", "used": 2, "capacity": None},
            ],
            "deadlines": [
                {"name": "parked Fetch", "in_s": 0.212},
                {"name": "idle", "in_s": 61.0},
            ],
            "tree": {
                "name": "services",
                "state": "waiting",
                "waits_on": None,
                "children": [
                    {"name": "log manager", "state": "waiting", "waits_on": "sleep"},
                    {
                        "name": "data plane",
                        "state": "waiting",
                        "waits_on": None,
                        "children": [
                            {"name": "processor 0", "state": "waiting", "waits_on": "epoll"},
                            {"name": "handler 1", "state": "runnable", "waits_on": None},
                        ],
                    },
                ],
            },
        },
        "log": {
            "time": NOW,
            "records": [
                {
                    "time": NOW - 3,
                    "level": "WARNING",
                    "logger": "trio_kafka_net.network.processor",
                    "message": "connection 127.0.0.1:50012 closed: frame not finished in time",
                },
                {
                    "time": NOW - 300,
                    "level": "ERROR",
                    "logger": "trio_kafka_net.broker.log",
                    "message": "log directory /data/1 is offline: input/output error",
                },
            ],
        },
        "topic": {
            "time": NOW,
            "topic": "orders",
            "partitions": [
                {
                    "partition": number,
                    "leader": 1,
                    "leader_epoch": 4,
                    "replicas": [1],
                    "isr": [1],
                    "log_start": 1_000 * number,
                    "high_watermark": 1_204_331 + number,
                    "log_end": 1_204_331 + number,
                    "size": 1_516_666_666,
                    "segments": 3,
                    "waiting_fetches": number % 3,
                    "last_append_age_s": None if number == 7 else 0.012,
                    "last_error": "disk full" if number == 7 else None,
                }
                for number in range(12)
            ],
        },
        "groups": {
            "time": NOW,
            "total": 3,
            "groups": [
                {
                    "group": group,
                    "protocol": "classic",
                    "state": state,
                    "members": members,
                    "generation": 17,
                    "assignor": "range" if members else None,
                    "state_s": since,
                    "lag": lag,
                    "max_lag": lag // 4,
                    "commits": 1_000,
                }
                for group, state, since, members, lag, _, _ in GROUPS
            ],
        },
        "group": {
            "group": "clicks-agg",
            "protocol": "classic",
            "state": "PreparingRebalance",
            "members": 6,
            "generation": 17,
            "assignor": "range",
            "state_s": 35,
            "lag": 48_200,
            "max_lag": 12_050,
            "commits": 1_000,
            "member_list": [
                {
                    "member_id": "clicks-agg-7-0f3a",
                    "client_id": "clicks-agg-7",
                    "host": "/127.0.0.1",
                    "instance_id": None,
                    "partitions": 4,
                },
            ],
            "partitions": [
                {
                    "topic": "orders",
                    "partition": number,
                    "committed": 1_000_000,
                    "log_end": 1_012_050,
                    "lag": 12_050,
                    "member_id": "clicks-agg-7-0f3a" if number < 2 else None,
                }
                for number in range(4)
            ],
        },
    }


def snapshot(page, second, last, told=None):
    """``second`` of a recording whose last one is ``last``."""
    return Snapshot(NOW - last + second, 1_000.5 + second, page.samples, told or {})


def server(second, last, *, load=1.0, handler_idle=0.6, queued=11, started=STARTED):
    """Everything that a server of ours exports."""
    page = Page()
    passed = 60.0 + second

    def moments(seed):
        return sum(wave(moment, seed) for moment in range(int(passed)))

    requests(page, passed, moments, load)
    saturation(page, passed, handler_idle, queued)
    processors(page, passed, load * moments(1) / passed)
    topics(page, passed, load * moments(2) / passed)
    groups(page, passed, last - second)
    process(page, passed, started)
    return page


def busy():
    """A broker under load whose handlers have had too much to do for 40 seconds."""
    last = 60
    for second in range(last + 1):
        page = server(second, last)
        # Idle as long as there was time for it; then only 24 % of it.
        waited = 0.6 * min(second, 20) + 0.24 * max(0, second - 20)
        page.add(names.HANDLER_IDLE, 8 * waited, plane="data")
        throttles = max(0, second - 57)
        page.add(names.QUOTA_THROTTLES, throttles, resource="Produce", user="", clientId="checkout")
        yield snapshot(page, second, last, documents() if second == last else None)


def quiet():
    """A broker that nobody uses."""
    for second in range(4):
        page = Page()
        saturation(page, second, 1.0, 0, parked=0)
        process(page, second)
        page.add(names.PARTITION_COUNT, 0)
        yield snapshot(page, second, 3, {"connections": {"total": 0, "connections": []}})


def first():
    """The very first answer: there are no rates yet."""
    yield snapshot(server(0, 0), 0, 0)


def trouble():
    """Everything that can go wrong."""
    last = 40
    for second in range(0, last + 1, 2):
        page = server(second, last, load=2.0, queued=500)
        page.add(names.IO_WAIT, 0.02 * second)
        page.add(names.HANDLER_IDLE, 0.05 * 8 * second, plane="data")
        page.add(names.MEMORY_POOL_DEPLETED, 0.3 * second, plane="data")
        page.add(names.OFFLINE_LOG_DIRS, 1)
        page.add(names.OFFLINE_REPLICAS, 3)
        page.add(names.LOG_DIR_FREE, 40e9)
        weights = spread(LAG_BOUNDS, 0.08, 0.4)
        count, total = 1_000 + 10 * second, 0.9 * second
        page.histogram(names.LOOP_LAG, LAG_BOUNDS, weights, count, total)
        failed = 400.0 * second
        produce = {"plane": "data", "request": "Produce"}
        page.add(names.ERRORS, failed, **produce, error="UNKNOWN_SERVER_ERROR")
        yield snapshot(page, second, last, documents() if second == last else None)


def restarted():
    """A broker that was started anew three seconds ago."""
    for second in range(7):
        page = server(second, 6, started=STARTED if second < 4 else NOW - 3)
        yield snapshot(page, second, 6)


def kafka():
    """A plain Kafka behind its JMX exporter: other labels, no histograms, no documents."""
    for second in range(4):
        page = Page()
        for api, version, rate, *_ in APIS:
            page.add(names.REQUESTS, 1_000 + rate * second, request=api, version=str(version))
            page.add(names.ERRORS, 1_000 + rate * second, request=api, error="NONE")
        for name, column, unit in ((names.MESSAGES_IN, 2, 1), (names.TOPIC_BYTES_IN, 3, 1e6)):
            page.add(name, sum(topic[column] for topic in TOPICS) * unit * second)
            for topic in TOPICS:
                page.add(name, topic[column] * unit * second, topic=topic[0])
        page.add(names.PROCESSORS_IDLE_PERCENT, 0.93)
        page.add(names.HANDLER_IDLE_PERCENT, 0.97)
        page.add(names.REQUEST_QUEUE_SIZE, 0)
        for processor in range(3):
            page.add(
                names.PROCESSOR_IDLE_PERCENT, 0.9 + processor / 50, networkProcessor=f"{processor}"
            )
        page.add(names.PARTITION_COUNT, 89)
        page.add(names.PROCESS_START_TIME, STARTED)
        page.add(names.PROCESS_CPU, 0.2 * second)
        yield snapshot(page, second, 3)


RECORDINGS = {made.__name__: made for made in (busy, quiet, first, trouble, restarted, kafka)}


def main():
    for name, made in RECORDINGS.items():
        lines = "".join(one.to_json() + "\n" for one in made())
        with open(DATA / f"monitor-{name}.jsonl.gz", "wb") as file:
            file.write(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    main()
