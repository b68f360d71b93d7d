"""What a request leaves behind is freed at once, without Python's cyclic garbage collector.

A broker may freeze what it has, and never look for cycles in it; and the event loop never stands
still for a collection that had to be.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import struct
from collections import Counter

import pytest
import trio
import trio.testing

from trio_kafka_net.apis import produce_again
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.log import data_dir
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import CloseConnection, KafkaError
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    HeartbeatRequest,
    HeartbeatResponse,
    ListOffsetsRequest,
    MetadataRequest,
)
from trio_kafka_net.testing.client import RawClient

from .apis.group_requests import a_heartbeat, a_join, a_leave, join_alone
from .apis.lab import a_batch, a_fetch, a_produce

TIMES = 5
HABIT = produce_again.TIMES + 1
NEVER = 1_000_000_000
"""Bytes that a Fetch waits for in vain."""


class Scene:
    """A broker with one topic, and a client."""

    def __init__(self, broker, client):
        self.broker = broker
        self.client = client
        self.groups = 0
        self.port = broker.bound_listeners[0].port

    async def another(self):
        return await RawClient.connect("127.0.0.1", self.port)

    async def send_bytes(self, data):
        """Send them on a new connection, and see it closed."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(data)
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some()


@pytest.fixture
async def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(data_dir, "_SHARED_MEMORY", tmp_path)
    apis = KafkaApis.default()

    @apis.handler(replace=True)
    async def heartbeat(ctx, request: HeartbeatRequest):
        await trio.lowlevel.checkpoint()
        match request.group_id:
            case "fails":
                raise ZeroDivisionError
            case "refuses":
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID, "nobody")
            case "closes":
                raise CloseConnection("it shall be so")
        return HeartbeatResponse()

    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True, num_network_threads=1,
        group_initial_rebalance_delay_ms=0,
        offsets_topic_num_partitions=1,
    )  # fmt: skip
    async with open_broker(config, apis) as broker:
        await broker.local.controller.create_topic("t", partitions=1)
        async with await RawClient.connect("127.0.0.1", broker.bound_listeners[0].port) as client:
            yield Scene(broker, client)


async def metadata(scene):
    await scene.client.request(MetadataRequest(topics=None), 12)


async def versions(scene):
    await scene.client.request(ApiVersionsRequest(), 3)


async def unknown_version(scene):
    await scene.client.send_frame(struct.pack(">hhihb", ApiKey.API_VERSIONS, 99, 1, -1, 0))
    await scene.client.receive_frame()


async def unknown_topic(scene):
    asked = [MetadataRequest.Topic(name="no-such-topic")]
    request = MetadataRequest(topics=asked, allow_auto_topic_creation=False)
    await scene.client.request(request, 12)


async def produce(scene):
    await scene.client.request(a_produce("t", a_batch()), 9)


async def produce_refused(scene):
    await scene.client.request(a_produce("t", a_batch(), index=9), 9)


async def produce_corrupt(scene):
    await scene.client.request(a_produce("t", a_batch()[:-1] + b"?"), 9)


async def produce_corrupt_as_usual(scene):
    """By a client that has the habit of producing, so that nothing of it is decoded first."""
    for _ in range(HABIT):
        await produce(scene)
    await produce_corrupt(scene)


async def produce_where_nobody_foresaw_it(scene):
    for _ in range(HABIT):
        await produce(scene)
    partition = scene.broker.local.replicas.partition_or_raise("t", 0)
    append = partition.log.append
    partition.log.append = None
    await produce(scene)
    partition.log.append = append


async def produce_without_answer(scene):
    request = a_produce("t", a_batch(), acks=0)
    await scene.client.send_frame(encode_request(request, 9, 0, "client"))
    await versions(scene)


async def fetch(scene):
    await produce(scene)
    await scene.client.request(a_fetch("t"), 11)


async def fetch_out_of_range(scene):
    await scene.client.request(a_fetch(("t", {"fetch_offset": 10**9})), 11)


async def fetch_until_its_time_is_over(scene):
    await scene.client.request(a_fetch("t", min_bytes=NEVER, max_wait_ms=1), 11)


async def fetch_until_there_is_something(scene):
    partition = ListOffsetsRequest.Partition(partition_index=0, timestamp=-1)
    asked = ListOffsetsRequest.Topic(name="t", partitions=[partition])
    found = await scene.client.request(ListOffsetsRequest(topics=[asked]), 4)
    end = found.topics[0].partitions[0].offset
    async with await scene.another() as waiting:
        await waiting.send_request(a_fetch(("t", {"fetch_offset": end}), max_wait_ms=10_000), 11)
        await trio.testing.wait_all_tasks_blocked()
        await produce(scene)
        await waiting.receive_response()


async def fetch_of_a_client_that_goes(scene):
    async with await scene.another() as waiting:
        await waiting.send_request(a_fetch("t", min_bytes=NEVER, max_wait_ms=10_000), 11)
        await trio.testing.wait_all_tasks_blocked()


async def life_in_a_group(scene):
    member = await join_alone(scene.client)
    await scene.client.request(a_leave(member), 5)


async def join_of_a_client_that_goes(scene):
    scene.groups += 1
    group = f"g{scene.groups}"
    await join_alone(scene.client, group=group)
    async with await scene.another() as waiting:
        await waiting.send_request(a_join(group=group), 3)
        await trio.testing.wait_all_tasks_blocked()


async def handler_that_refuses(scene):
    await scene.client.request(a_heartbeat("m", group="refuses"), 4)


async def handler_that_fails(scene):
    await scene.client.request(a_heartbeat("m", group="fails"), 4)


async def handler_that_closes(scene):
    async with await scene.another() as client:
        await client.send_request(a_heartbeat("m", group="closes"), 4)
        assert not await client.stream.receive_some()


async def life_of_a_topic(scene):
    topic = CreateTopicsRequest.CreatableTopic(name="x", num_partitions=3, replication_factor=1)
    await scene.client.request(CreateTopicsRequest(topics=[topic], timeout_ms=5000), 5)
    await scene.client.request(DeleteTopicsRequest(topic_names=["x"], timeout_ms=5000), 5)


async def connection(scene):
    async with await scene.another() as client:
        await client.request(ApiVersionsRequest(), 3)


async def connection_reset(scene):
    async with await scene.another() as client:
        linger = struct.pack("ii", 1, 0)
        client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
        await client.send_request(ApiVersionsRequest(), 3)


async def frame_cut_off(scene):
    async with await trio.open_tcp_stream("127.0.0.1", scene.port) as stream:
        await stream.send_all(struct.pack(">i", 100) + b"the beginning")


async def frame_too_large(scene):
    await scene.send_bytes(struct.pack(">i", 2**31 - 1))


async def header_that_is_none(scene):
    await scene.send_bytes(struct.pack(">i", 3) + b"\xff\xff\xff")


async def body_that_is_none(scene):
    await scene.send_bytes(struct.pack(">ihhih", 14, 3, 8, 1, -1) + b"\x7f\xff\xff\xff")


SCENES = (
    metadata,
    versions,
    unknown_version,
    unknown_topic,
    produce,
    produce_refused,
    produce_corrupt,
    produce_corrupt_as_usual,
    produce_where_nobody_foresaw_it,
    produce_without_answer,
    fetch,
    fetch_out_of_range,
    fetch_until_its_time_is_over,
    fetch_until_there_is_something,
    fetch_of_a_client_that_goes,
    life_in_a_group,
    join_of_a_client_that_goes,
    handler_that_refuses,
    handler_that_fails,
    handler_that_closes,
    life_of_a_topic,
    connection,
    connection_reset,
    frame_cut_off,
    frame_too_large,
    header_that_is_none,
    body_that_is_none,
)


@pytest.mark.parametrize("once", SCENES, ids=lambda each: each.__name__)
async def test_nothing_is_left_for_the_collector(scene, once, caplog):
    caplog.set_level(logging.CRITICAL)  # a record that is kept keeps its error
    for _ in range(2):  # what is made by the first use stays
        await once(scene)
    await trio.testing.wait_all_tasks_blocked()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(TIMES):
            await once(scene)
        await trio.testing.wait_all_tasks_blocked()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()
    assert not found
