"""Many rounds of brokers that come and go, and what must hold in and after each of them.

* at most one leader per partition and leader epoch
* what all living brokers say of the cluster is the same
* what an idempotent producer was told is written is there: all of it, once, in its order
"""

from __future__ import annotations

import os
import random

import attrs
import pytest
import trio

from trio_kafka_net.cluster import Cluster, open_cluster
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ElectLeadersRequest, MetadataRequest
from trio_kafka_net.protocol.records import iter_batches
from trio_kafka_net.testing.client import ConnectionClosedError, RawClient

from .apis.lab import Lab, a_batch, a_produce
from .test_cluster import LISTENERS, a_config

ROUNDS = 50

# What a producer goes on after: it asks who leads, and sends the same batch again.
RETRIED = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
}
GONE = (ConnectionClosedError, trio.BrokenResourceError, OSError)


@attrs.define(eq=False)
class Producer:
    """An idempotent producer of one partition, which never gives up and never skips."""

    cluster: Cluster
    topic: str
    index: int
    producer_id: int
    sequence: int = 0
    """Of the next batch; each has one record, its own sequence as the value."""
    clients: dict[int, RawClient] = attrs.field(factory=dict)

    async def run(self) -> None:
        while True:
            await self.produce()

    async def produce(self) -> None:
        """One batch, again and again until it is acknowledged."""
        values = str(self.sequence).encode()
        while True:
            batch = a_batch(
                values, producer_id=self.producer_id, producer_epoch=0, base_sequence=self.sequence
            )
            code = await self.attempt(batch)
            if not code:
                self.sequence += 1
                return
            assert code in RETRIED, code
            await trio.lowlevel.checkpoint()

    async def attempt(self, batch: bytes) -> int:
        state = self.cluster.controller.topics.get_topic(self.topic).partitions[self.index]
        broker = self.cluster.brokers.get(state.leader_id)
        if broker is None:
            return ErrorCode.LEADER_NOT_AVAILABLE
        port = Lab(broker).port()
        try:
            if port not in self.clients:
                self.clients[port] = await RawClient.connect("127.0.0.1", port)
            request = a_produce(self.topic, batch, index=self.index, timeout_ms=2000)
            response = await self.clients[port].request(request, 9)
        except GONE:
            client = self.clients.pop(port, None)
            if client is not None:
                await trio.aclose_forcefully(client.stream)
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return response.responses[0].partition_responses[0].error_code

    async def close(self) -> None:
        for client in self.clients.values():
            await trio.aclose_forcefully(client.stream)

    def check(self) -> None:
        """Read the log as it is: what was acknowledged, in its order, and at most one more."""
        log = self.cluster.controller._logs.get_log(self.topic, self.index)
        values, offset = [], 0
        while (region := log.read(offset, 1_000_000, min_one_batch=True)) is not None:
            data = os.pread(region.fd, region.count, region.position)
            for batch in iter_batches(memoryview(data), partial_tail=True):
                values += [int(record.value) for record in batch.records()]
                offset = batch.next_offset
        assert values in (
            list(range(self.sequence)),
            list(range(self.sequence + 1)),
        )


@attrs.define(eq=False)
class Watch:
    """Who was seen leading what, and under which epoch."""

    leaders: dict[tuple, int] = attrs.field(factory=dict)

    def look(self, cluster: Cluster) -> None:
        for node_id, broker in cluster.brokers.items():
            for partition in broker.local.replicas:
                if partition.is_leader:
                    key = (partition.topic_id, partition.index, partition.leader_epoch)
                    assert self.leaders.setdefault(key, node_id) == node_id


async def told(cluster: Cluster, node_id: int) -> tuple:
    response = await Lab(cluster.brokers[node_id]).ask(MetadataRequest(topics=None), 12)
    return (
        response.controller_id,
        [each.node_id for each in response.brokers],
        sorted((topic.name, topic.topic_id, str(topic.partitions)) for topic in response.topics),
    )


@attrs.define(eq=False)
class Rounds:
    """Does one thing after the other, as chance has it."""

    cluster: Cluster
    chance: random.Random
    made: int = 0
    is_held: bool = False

    async def one(self) -> None:
        events = [self.kill, self.kill, self.stop, self.start, self.start, self.elect]
        await self.chance.choice([*events, self.create, self.delete, self.hold])()

    async def kill(self) -> None:
        if len(self.cluster.brokers) > 1:
            await self.cluster.kill(self.chance.choice(list(self.cluster.brokers)))

    async def stop(self) -> None:
        if len(self.cluster.brokers) > 1:
            await self.cluster.stop(self.chance.choice(list(self.cluster.brokers)))

    async def start(self) -> None:
        for node_id in self.cluster.node_ids:
            if node_id not in self.cluster.brokers:
                await self.cluster.start(node_id)
                return

    async def elect(self) -> None:
        node_id = self.chance.choice(list(self.cluster.brokers))
        request = ElectLeadersRequest(topic_partitions=None)
        await Lab(self.cluster.brokers[node_id]).ask(request, 2)

    async def create(self) -> None:
        self.made += 1
        await self.cluster.controller.create_topic(
            f"made-{self.made}", partitions=2, replication_factor=2
        )

    async def delete(self) -> None:
        names = [topic.name for topic in self.cluster.controller.topics if "made" in topic.name]
        if names:
            await self.cluster.controller.delete_topic(self.chance.choice(names))

    async def hold(self) -> None:
        with self.cluster.hold_back(self.chance.choice(self.cluster.node_ids)):
            for _ in range(20):
                await trio.lowlevel.checkpoint()


@pytest.mark.slow
@pytest.mark.parametrize("listeners", [LISTENERS, LISTENERS[:1]], ids=["control plane", "direct"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_whoever_comes_and_goes(listeners, seed):
    config = a_config(
        listeners=listeners,
        control_plane_listener_name="CONTROLLER" if len(listeners) > 1 else None,
        trio_graceful_timeout_ms=100,
    )
    async with open_cluster(config) as cluster:
        rounds, watch = Rounds(cluster, random.Random(seed)), Watch()
        await cluster.controller.create_topic("t", assignments=[(1, 2, 3), (3, 1, 2)])
        producers = [Producer(cluster, "t", index, 100 + index) for index in (0, 1)]
        async with trio.open_nursery() as nursery:
            for producer in producers:
                nursery.start_soon(producer.run)
            for _ in range(ROUNDS):
                before = [producer.sequence for producer in producers]
                await rounds.one()
                watch.look(cluster)
                views = [await told(cluster, node_id) for node_id in list(cluster.brokers)]
                assert views == views[:1] * len(views)
                # Clients carry on: every partition has been written to before the next round.
                while any(map(int.__eq__, before, [each.sequence for each in producers])):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        for producer in producers:
            assert producer.sequence >= ROUNDS
            producer.check()
            await producer.close()
