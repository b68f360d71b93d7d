"""A whole broker behind real sockets, and clients that say what they are told."""

from __future__ import annotations

import attrs
import trio.testing

from trio_kafka_net.broker_server import Broker
from trio_kafka_net.network.socket_server import Plane
from trio_kafka_net.protocol.messages import (
    FetchRequest,
    FetchResponse,
    ProduceRequest,
    ProduceResponse,
)
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch
from trio_kafka_net.testing.client import RawClient


def a_batch(*values: bytes, timestamp: int = 1000, **settings) -> bytes:
    """A record batch with these values, at this time (ms), one later, ..."""
    records = [
        Record(timestamp=timestamp + number, value=value)
        for number, value in enumerate(values or [b"value"])
    ]
    return build_batch(records, **settings)


def a_produce(topic, records, *, index=0, acks=-1, timeout_ms=1000) -> ProduceRequest:
    """A Produce request for one partition; ``topic`` is a name or an id."""
    named = {"topic_id": topic} if isinstance(topic, bytes) else {"name": topic}
    data = ProduceRequest.PartitionProduceData(index=index, records=records)
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[ProduceRequest.TopicProduceData(partition_data=[data], **named)],
    )


def a_fetch(*partitions, min_bytes=1, max_bytes=1_000_000, **settings) -> FetchRequest:
    """A Fetch request for partitions given as (topic, keyword, ...) or as a topic's name or id."""
    topics = []
    for each in partitions:
        topic, asked = each if isinstance(each, tuple) else (each, {})
        named = {"topic_id": topic} if isinstance(topic, bytes) else {"topic": topic}
        asked = {"partition_max_bytes": 1_000_000, **asked}
        partition = FetchRequest.Partition(**asked)
        topics.append(FetchRequest.Topic(partitions=[partition], **named))
    return FetchRequest(topics=topics, min_bytes=min_bytes, max_bytes=max_bytes, **settings)


@attrs.define
class Lab:
    """A broker and its clients."""

    broker: Broker
    clients: list[RawClient] = attrs.field(factory=list)

    @property
    def local(self):
        return self.broker.local

    def plane(self, name: str = "data") -> Plane:
        server = self.broker.socket_server
        return server.data_plane if name == "data" else server.control_plane

    def port(self, plane: str = "data") -> int:
        return next(each.port for each in self.broker.bound_listeners if each.plane == plane)

    async def connect(self, plane: str = "data", **settings) -> RawClient:
        client = await RawClient.connect("127.0.0.1", self.port(plane), **settings)
        self.clients.append(client)
        return client

    async def ask(self, message, version, *, plane: str = "data"):
        """Ask on a fresh connection."""
        async with await RawClient.connect("127.0.0.1", self.port(plane)) as client:
            return await client.request(message, version)

    async def make_topic(self, name: str = "t", **settings):
        return await self.local.controller.create_topic(name, **settings)

    def partition(self, name: str = "t", index: int = 0):
        return self.local.replicas.get_partition(name, index)

    async def produce(
        self, topic="t", records=None, *, version=12, **settings
    ) -> ProduceResponse.PartitionProduceResponse:
        """The answer for the only partition of a Produce request."""
        records = a_batch() if records is None else records
        response = await self.ask(a_produce(topic, records, **settings), version)
        return response.responses[0].partition_responses[0]

    async def fetch(self, *partitions, version=12, **settings) -> list[FetchResponse.PartitionData]:
        """The answers for the partitions of a Fetch request."""
        response = await self.ask(a_fetch(*partitions, **settings), version)
        return [partition for topic in response.responses for partition in topic.partitions]

    async def parked(self, count: int, reason: str = "Fetch") -> None:
        """Return when so many requests are parked."""
        while self.plane().handler_pool.statistics().parked.get(reason, 0) != count:
            await trio.testing.wait_all_tasks_blocked()
