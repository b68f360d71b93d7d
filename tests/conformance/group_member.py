"""One member of a consumer group, as a program of its own, so that it can be killed.

``python -m tests.conformance.group_member CLIENT BOOTSTRAP GROUP TOPIC``, and optionally
``--strategy NAME``, ``--instance ID`` (a static member) and ``--session-timeout MS``.

It tells what happens to it on standard output, a JSON array a line:

* ``["assigned", [0, 2]]``, ``["revoked", [0]]``, ``["lost", [0]]``: partitions, as the client's
  callbacks name them
* ``["record", partition, offset, "value"]``: a record, once it is processed
* ``["committed", {"0": 17}]``: what was acknowledged

It commits what it processed when partitions are revoked and when it leaves, which it does on
SIGTERM; nothing is committed in between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

SESSION_TIMEOUT_MS = 2000
HEARTBEAT_INTERVAL_MS = 300
_POLL_SECONDS = 0.1


def tell(*event: Any) -> None:
    """Write one event, in one system call, so that a kill never leaves half a line."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class Progress:
    """What this member owns and how far it is."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.next_offsets: dict[int, int] = {}
        self.is_leaving = False

    def assigned(self, partitions: Iterable[int]) -> None:
        self.owned |= set(partitions)
        tell("assigned", sorted(partitions))

    def given_up(self, how: str, partitions: Iterable[int]) -> None:
        self.owned -= set(partitions)
        for partition in partitions:
            self.next_offsets.pop(partition, None)
        tell(how, sorted(partitions))

    def process(self, partition: int, offset: int, value: bytes) -> None:
        if partition in self.owned:
            self.next_offsets[partition] = offset + 1
            tell("record", partition, offset, value.decode())

    def leave(self, *_: object) -> None:
        self.is_leaving = True


def run_confluent(options: argparse.Namespace, progress: Progress) -> None:
    """librdkafka."""
    from confluent_kafka import Consumer, TopicPartition

    def commit(partitions: Iterable[int]) -> None:
        done = {p: progress.next_offsets[p] for p in partitions if p in progress.next_offsets}
        if done:
            offsets = [TopicPartition(options.topic, p, offset) for p, offset in done.items()]
            for each in consumer.commit(offsets=offsets, asynchronous=False):
                assert each.error is None, each.error
            tell("committed", done)

    def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
        commit([each.partition for each in partitions])
        progress.given_up("revoked", [each.partition for each in partitions])

    config = {
        "bootstrap.servers": options.bootstrap,
        "group.id": options.group,
        "partition.assignment.strategy": options.strategy,
        "session.timeout.ms": options.session_timeout,
        "heartbeat.interval.ms": HEARTBEAT_INTERVAL_MS,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        # Several heartbeats fit into a rebalance; the default would wait for a whole second.
        "fetch.wait.max.ms": 100,
        "reconnect.backoff.max.ms": 500,
    }
    if options.instance:
        config["group.instance.id"] = options.instance
    consumer = Consumer(config)
    consumer.subscribe(
        [options.topic],
        on_assign=lambda _, partitions: progress.assigned([p.partition for p in partitions]),
        on_revoke=on_revoke,
        on_lost=lambda _, partitions: progress.given_up("lost", [p.partition for p in partitions]),
    )
    while not progress.is_leaving:
        message = consumer.poll(_POLL_SECONDS)
        if message is not None:
            if message.error():
                tell("error", str(message.error()))
            else:
                progress.process(message.partition(), message.offset(), message.value())
    if options.instance:
        commit(progress.owned)
    consumer.close()


def run_kafka_python(options: argparse.Namespace, progress: Progress) -> None:
    """kafka-python."""
    from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
    from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from kafka.errors import KafkaConnectionError

    strategies = {
        "range": RangePartitionAssignor,
        "roundrobin": RoundRobinPartitionAssignor,
        "cooperative-sticky": CooperativeStickyAssignor,
    }

    def processed(partitions: Iterable[int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(options.topic, p): OffsetAndMetadata(progress.next_offsets[p], "", -1)
            for p in partitions
            if p in progress.next_offsets
        }

    def tell_committed(offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        tell("committed", {each.partition: to.offset for each, to in offsets.items()})

    class Listener(AsyncConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
            offsets = processed([each.partition for each in revoked])
            if offsets:
                await consumer.commit_async(offsets)
                tell_committed(offsets)
            progress.given_up("revoked", [each.partition for each in revoked])

        async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
            progress.assigned([each.partition for each in assigned])

        async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
            progress.given_up("lost", [each.partition for each in lost])

    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        group_instance_id=options.instance,
        partition_assignment_strategy=[strategies[options.strategy]],
        session_timeout_ms=options.session_timeout,
        heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    consumer.subscribe([options.topic], listener=Listener())
    while not progress.is_leaving:
        try:
            # A poll that ends between join and sync never comes back to them (3.0.12, with any
            # broker): so it gets the time for a whole rebalance.
            batches = consumer.poll(timeout_ms=2000)
        except KafkaConnectionError:
            continue  # poll gives up at once when a broker is away; applications go on
        for records in batches.values():
            for record in records:
                progress.process(record.partition, record.offset, record.value)
    offsets = processed(list(progress.owned))
    if offsets:
        consumer.commit(offsets)
        tell_committed(offsets)
    consumer.close()


def run_aiokafka(options: argparse.Namespace, progress: Progress) -> None:
    """aiokafka."""
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    strategies = {
        "range": RangePartitionAssignor,
        "roundrobin": RoundRobinPartitionAssignor,
        "sticky": StickyPartitionAssignor,
    }

    async def run() -> None:
        async def commit(partitions: Iterable[int]) -> None:
            done = {p: progress.next_offsets[p] for p in partitions if p in progress.next_offsets}
            if done:
                await consumer.commit(
                    {TopicPartition(options.topic, p): offset for p, offset in done.items()}
                )
                tell("committed", done)

        class Listener(ConsumerRebalanceListener):
            async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
                await commit([each.partition for each in revoked])
                progress.given_up("revoked", [each.partition for each in revoked])

            async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
                progress.assigned([each.partition for each in assigned])

        consumer = AIOKafkaConsumer(
            bootstrap_servers=options.bootstrap,
            group_id=options.group,
            group_instance_id=options.instance,
            partition_assignment_strategy=[strategies[options.strategy]],
            session_timeout_ms=options.session_timeout,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            rebalance_timeout_ms=10_000,
        )
        consumer.subscribe([options.topic], listener=Listener())
        await consumer.start()
        while not progress.is_leaving:
            # Processed before anybody else runs, so nothing is given up in between.
            batches = await consumer.getmany(timeout_ms=int(_POLL_SECONDS * 1000))
            for records in batches.values():
                for record in records:
                    progress.process(record.partition, record.offset, record.value)
        await commit(list(progress.owned))
        await consumer.stop()

    asyncio.run(run())


CLIENTS: dict[str, Callable[[argparse.Namespace, Progress], None]] = {
    "confluent": run_confluent,
    "aiokafka": run_aiokafka,
    "kafka-python": run_kafka_python,
}


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("bootstrap")
    parser.add_argument("group")
    parser.add_argument("topic")
    parser.add_argument("--strategy", default="range")
    parser.add_argument("--instance")
    parser.add_argument("--session-timeout", type=int, default=SESSION_TIMEOUT_MS)
    options = parser.parse_args()
    progress = Progress()
    signal.signal(signal.SIGTERM, progress.leave)
    CLIENTS[options.client](options, progress)
    tell("left")


if __name__ == "__main__":
    main()
