"""The clients of the demonstration: what a small company does to its broker in a minute.

``run_traffic`` starts all of them over real sockets: producers of four topics whose rates come and
go in waves, a group that rebalances whenever its third member comes and leaves, a group that falls
behind and catches up, a consumer that waits at the end of a topic, a client that is held back by
its quota, an administrator on the control plane who makes and deletes topics all the while, and one
client that does everything wrong.
"""

from __future__ import annotations

import itertools
import math
import struct
import time

import attrs
import trio

from trio_kafka_net.cli.demo_figures import RECORD_BYTES, Figures, raise_for
from trio_kafka_net.cli.demo_member import FETCH_VERSION, GroupMember
from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.protocol.messages import (
    AlterClientQuotasRequest,
    ApiVersionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    FetchRequest,
    FetchResponse,
    ListGroupsRequest,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
)
from trio_kafka_net.protocol.records import Record, build_batch, iter_batches
from trio_kafka_net.testing.client import RawClient

_PROBE_SECONDS = 0.1
_JOB_SECONDS = 3.0
_MISTAKE_SECONDS = 2.0
_MEMBER_SECONDS = 6.0
_WAVE_SECONDS = 10.0
_PRODUCE_VERSION = 9
_METADATA_VERSION = 9
_THROTTLED = "bulk-import"
_THROTTLED_BYTES_PER_SECOND = 50_000.0


@attrs.frozen
class _Topic:
    name: str
    partitions: int


_ORDERS = _Topic("orders", 6)
_CLICKS = _Topic("clicks", 12)
_AUDIT = _Topic("audit", 1)
_IMPORTS = _Topic("imports", 3)
_TOPICS = (_ORDERS, _CLICKS, _AUDIT, _IMPORTS)


@attrs.frozen
class _Producer:
    name: str
    topic: _Topic
    share: float
    """Of all records."""
    batch: int
    """Records in each request."""
    acks: int = -1


_PRODUCERS = (
    _Producer("checkout-1", _ORDERS, 0.17, 50),
    _Producer("checkout-2", _ORDERS, 0.17, 50),
    _Producer("web-1", _CLICKS, 0.30, 150),
    _Producer("web-2", _CLICKS, 0.30, 150),
    _Producer("auditor", _AUDIT, 0.005, 2, acks=1),
    _Producer(_THROTTLED, _IMPORTS, 0.055, 100),
)


async def run_traffic(data_port: int, control_port: int, rate: int, figures: Figures) -> None:
    """Run every client until cancelled.

    Args:
        data_port: where the data plane listens, on the loopback interface.
        control_port: where the control plane listens.
        rate: records per second, about.
        figures: what the clients count.

    Raises:
        KafkaError: the broker refused what should be possible.
        OSError: it is not there.
        RemoteProtocolError: a connection was lost.

    Cancellation: every connection is closed.
    """
    await _prepare(control_port)
    await _wait_for_leaders(data_port)
    async with trio.open_nursery() as nursery:
        for producer in _PRODUCERS:
            nursery.start_soon(_produce, data_port, producer, rate, figures)
        for number in (1, 2):
            nursery.start_soon(_take_part, data_port, number, figures)
        nursery.start_soon(_come_and_go, data_port, figures)
        nursery.start_soon(_fall_behind, data_port, figures)
        nursery.start_soon(_tail, data_port, _AUDIT, figures)
        nursery.start_soon(_tail, data_port, _IMPORTS, figures)
        nursery.start_soon(_probe_control_plane, control_port, figures)
        nursery.start_soon(_administer, control_port)
        nursery.start_soon(_make_mistakes, data_port)


async def _connect(port: int, name: str) -> RawClient:
    client = await RawClient.connect("127.0.0.1", port, client_id=name)
    hello = ApiVersionsRequest(client_software_name="demo", client_software_version="1.0")
    raise_for((await client.request(hello, 3)).error_code)
    return client


async def _prepare(control_port: int) -> None:
    """Make the topics, and the quota of the client that wants too much."""
    async with await _connect(control_port, "admin") as client:
        for topic in _TOPICS:
            await _create(client, topic.name, topic.partitions)
        entity = AlterClientQuotasRequest.EntityData(
            entity_type="client-id", entity_name=_THROTTLED
        )
        limit = AlterClientQuotasRequest.OpData(
            key="producer_byte_rate", value=_THROTTLED_BYTES_PER_SECOND
        )
        entry = AlterClientQuotasRequest.EntryData(entity=[entity], ops=[limit])
        response = await client.request(AlterClientQuotasRequest(entries=[entry]), 1)
        raise_for(response.entries[0].error_code)


async def _create(client: RawClient, name: str, partitions: int) -> None:
    topic = CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=1
    )
    response = await client.request(CreateTopicsRequest(topics=[topic]), 5)
    raise_for(response.topics[0].error_code)


async def _wait_for_leaders(port: int) -> None:
    topics = [MetadataRequest.Topic(name=topic.name) for topic in _TOPICS]
    request = MetadataRequest(topics=topics)
    async with await _connect(port, "admin") as client:
        while True:
            response: MetadataResponse = await client.request(request, _METADATA_VERSION)
            partitions = [each for topic in response.topics for each in topic.partitions]
            if len(partitions) == sum(topic.partitions for topic in _TOPICS) and all(
                each.leader_id >= 0 for each in partitions
            ):
                return
            await trio.sleep(0.01)


# -- the data plane -------------------------------------------------------------------------------


async def _produce(port: int, producer: _Producer, rate: int, figures: Figures) -> None:
    record = Record(timestamp=time.time_ns() // 1_000_000, value=bytes(RECORD_BYTES))
    data = ProduceRequest.PartitionProduceData(
        index=0, records=build_batch([record] * producer.batch)
    )
    topic = ProduceRequest.TopicProduceData(name=producer.topic.name, partition_data=[data])
    request = ProduceRequest(acks=producer.acks, timeout_ms=10_000, topic_data=[topic])
    next_at = trio.current_time()
    async with await _connect(port, producer.name) as client:
        for number in itertools.count():
            data.index = number % producer.topic.partitions
            begin_ns = time.perf_counter_ns()
            response = await client.request(request, _PRODUCE_VERSION)
            raise_for(response.responses[0].partition_responses[0].error_code)
            figures.produce_ns.append(time.perf_counter_ns() - begin_ns)
            figures.produced += producer.batch
            # As Kafka's clients do: the answer comes at once and says how long to be silent.
            await trio.sleep(response.throttle_time_ms / 1000)
            interval = producer.batch / (rate * producer.share * _wave())
            # A broker that falls behind is not asked to catch up: that would measure the queue.
            next_at = max(next_at + interval, trio.current_time() - interval)
            await trio.sleep_until(next_at)


def _wave() -> float:
    """From 0.5 to 1.5 and back: how busy it is now."""
    return 1 + 0.5 * math.sin(2 * math.pi * trio.current_time() / _WAVE_SECONDS)


async def _take_part(
    port: int, number: int, figures: Figures, seconds: float = float("inf")
) -> None:
    async with await _connect(port, f"orders-sink-{number}") as client:
        member = GroupMember(
            client, "orders-sink", _ORDERS.name, _ORDERS.partitions, figures.consume
        )
        await member.run(seconds)


async def _come_and_go(port: int, figures: Figures) -> None:
    """The member whose coming and leaving makes the group rebalance."""
    while True:
        await trio.sleep(_MEMBER_SECONDS / 2)
        await _take_part(port, 3, figures, _MEMBER_SECONDS)


async def _fall_behind(port: int, figures: Figures) -> None:
    """A group that is slower than its topic half of the time."""
    async with await _connect(port, "clicks-agg") as client:
        member = GroupMember(
            client,
            "clicks-agg",
            _CLICKS.name,
            _CLICKS.partitions,
            figures.consume,
            pause=lambda: 0.05 if _wave() < 1 else 0.25,
            fetch_bytes=200_000,
        )
        await member.run()


async def _tail(port: int, topic: _Topic, figures: Figures) -> None:
    """A consumer without a group, always at the end."""
    partitions = [
        FetchRequest.Partition(partition=number, fetch_offset=0, partition_max_bytes=2**20)
        for number in range(topic.partitions)
    ]
    request = FetchRequest(
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=2**20,
        topics=[FetchRequest.Topic(topic=topic.name, partitions=partitions)],
    )
    async with await _connect(port, f"{topic.name}-tail") as client:
        while True:
            response: FetchResponse = await client.request(request, FETCH_VERSION)
            for fetched in response.responses[0].partitions:
                raise_for(fetched.error_code)
                for batch in iter_batches(fetched.records or memoryview(b""), partial_tail=True):
                    figures.consume(batch.record_count)
                    partitions[fetched.partition_index].fetch_offset = batch.next_offset


# -- the control plane ----------------------------------------------------------------------------


async def _probe_control_plane(port: int, figures: Figures) -> None:
    async with await _connect(port, "probe") as client:
        while True:
            begin_ns = time.perf_counter_ns()
            await client.request(MetadataRequest(topics=None), _METADATA_VERSION)
            figures.control_ns.append(time.perf_counter_ns() - begin_ns)
            await trio.sleep(_PROBE_SECONDS)


async def _administer(port: int) -> None:
    """Topics come and go while data flows."""
    async with await _connect(port, "admin") as client:
        for number in itertools.count(1):
            await _create(client, f"job-{number}", 3)
            await client.request(DescribeClusterRequest(), 1)
            await trio.sleep(_JOB_SECONDS)
            request = DeleteTopicsRequest(topic_names=[f"job-{number}"], timeout_ms=10_000)
            raise_for((await client.request(request, 5)).responses[0].error_code)


# -- mistakes -------------------------------------------------------------------------------------


async def _make_mistakes(port: int) -> None:
    """One mistake after the other, each on a connection of its own."""
    for mistake in itertools.cycle([_speak_http, _ask_for_nothing, _hang_up, _ask_in_a_rush]):
        await trio.sleep(_MISTAKE_SECONDS)
        try:
            async with await _connect(port, "clumsy") as client:
                with trio.move_on_after(_MISTAKE_SECONDS):
                    await mistake(client)
        except (RemoteProtocolError, trio.BrokenResourceError):
            # Being hung up on is what it deserves.
            continue


async def _speak_http(client: RawClient) -> None:
    await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n")
    await client.receive_frame()


async def _ask_for_nothing(client: RawClient) -> None:
    """Fetch from a topic that is not there."""
    partition = FetchRequest.Partition(partition=0, fetch_offset=0, partition_max_bytes=1)
    topic = FetchRequest.Topic(topic="oders", partitions=[partition])
    await client.request(FetchRequest(max_wait_ms=100, topics=[topic]), FETCH_VERSION)


async def _hang_up(client: RawClient) -> None:
    """Announce a frame, and leave in the middle of it."""
    await client.stream.send_all(struct.pack(">i", 1000) + bytes(10))


async def _ask_in_a_rush(client: RawClient) -> None:
    """Send requests without waiting for any answer."""
    for _ in range(50):
        await client.send_request(ListGroupsRequest(), 3)
    for _ in range(50):
        await client.receive_response()
