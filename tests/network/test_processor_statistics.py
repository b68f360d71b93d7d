from __future__ import annotations

import struct

import pytest
import trio
import trio.testing

from trio_kafka_net import DisconnectCause, Request, SocketServer
from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import MetricsRegistry
from trio_kafka_net.network.metric_families import metric_families
from trio_kafka_net.network.processor_statistics import (
    OTHER_SOFTWARE,
    SOFTWARE_NAMES,
    ProcessorStatistics,
)


def echo(request: Request) -> memoryview:
    return request.payload


async def statistics(server: SocketServer) -> ProcessorStatistics:
    """Those of the only Processor, when everything has come to rest."""
    await trio.testing.wait_all_tasks_blocked(0.003)
    (processor,) = server.data_plane.processors
    return processor.statistics()


async def test_frames_and_their_bytes_are_counted_in_both_directions(serve, connect):
    """SEL-07: requests are what a server receives, responses what it sends (difference 24)."""
    server = await serve(lambda request: b"four")
    client = await connect(server.bound_port())
    for size in (0, 1, 1000):
        await client.ask(bytes(size))
    counted = await statistics(server)
    assert (3, 3) == (counted.requests_received, counted.responses_sent)
    assert (1001 + 3 * 4, 3 * 8) == (counted.bytes_in, counted.bytes_out)


@pytest.mark.parametrize(
    "sent", [b"\0\0", struct.pack(">i", 100), struct.pack(">i", 100) + b"part"]
)
async def test_bytes_of_a_frame_in_progress_count_before_and_after_its_end(serve, connect, sent):
    server = await serve(echo)
    client = await connect(server.bound_port())
    await client.stream.send_all(sent)
    assert len(sent) == (await statistics(server)).bytes_in
    await client.stream.aclose()
    counted = await statistics(server)
    assert (0, len(sent)) == (counted.requests_received, counted.bytes_in)


async def test_bytes_of_a_response_in_progress_count_before_and_after_its_end(serve, connect):
    server = await serve(lambda request: bytes(30_000_000))
    client = await connect(server.bound_port())
    await client.send(b"x")
    counted = await statistics(server)
    assert 0 == counted.responses_sent
    assert 0 < counted.bytes_out < 30_000_004
    client.reset()
    ended = await statistics(server)
    assert 0 == ended.responses_sent
    assert counted.bytes_out <= ended.bytes_out < 30_000_004


async def test_connections_are_counted_with_the_cause_of_their_end(serve, connect):
    """SEL-22: creation, close, count."""
    server = await serve(echo)
    open_one = await connect(server.bound_port())
    await open_one.ask(b"x")
    closed = await connect(server.bound_port())
    await closed.ask(b"x")
    await closed.stream.aclose()
    refused = await connect(server.bound_port())
    await refused.stream.send_all(struct.pack(">i", -1))
    await refused.wait_closed()
    counted = await statistics(server)
    assert (3, 1, 2) == (
        counted.connections_created,
        counted.connections,
        counted.connections_closed,
    )
    assert {
        DisconnectCause.PEER_CLOSED: 1,
        DisconnectCause.INVALID_REQUEST: 1,
    } == counted.disconnects


async def test_client_software_is_told_apart_up_to_a_limit(serve, connect, monkeypatch):
    """SEL-23: at most 100 values; the rest is counted together."""
    monkeypatch.setattr("trio_kafka_net.network.processor_statistics.SOFTWARE_NAMES", 2)

    def name_yourself(request: Request) -> bytes:
        name, version = bytes(request.payload).decode().split()
        request.connection.client_software_name = name
        request.connection.client_software_version = version
        return b""

    assert 100 == SOFTWARE_NAMES
    server = await serve(name_yourself)
    for name in (b"rdkafka 2.0", b"java 4.0", b"rdkafka 2.0", b"evil 1", b"evil 2"):
        await (await connect(server.bound_port())).ask(name)
    counted = await statistics(server)
    assert {
        ("rdkafka", "2.0"): 2,
        ("java", "4.0"): 1,
        OTHER_SOFTWARE: 2,
    } == counted.client_software


async def test_time_is_busy_or_idle_and_stops_with_the_server(serve, connect):
    """SS-42: after shutdown the idle share reads 0."""
    server = await serve(echo)
    before = await statistics(server)
    await (await connect(server.bound_port())).ask(b"x")
    after = await statistics(server)
    assert after.busy_time_ns > before.busy_time_ns
    assert after.busy_time_ns + after.idle_time_ns == after.elapsed_time_ns
    assert 0 < after.idle_ratio_since(before) < 1
    await server.stop()
    ended = await statistics(server)
    assert 0.0 == (await statistics(server)).idle_ratio_since(ended)


async def test_handlers_are_idle_while_they_are(serve):
    """Kafka's RequestHandlerAvgIdlePercent: a look in the middle of an idle spell counts it."""
    server = await serve(echo, num_io_threads=4)
    pool = server.data_plane.handler_pool
    await trio.testing.wait_all_tasks_blocked()
    first = pool.statistics()
    assert 4 == first.idle
    assert pool.statistics().idle_time_ns > first.idle_time_ns > 0
    await server.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert pool.statistics().idle_time_ns == pool.statistics().idle_time_ns


async def test_time_without_memory_is_counted_while_it_lasts(serve, connect):
    """Kafka's MemoryPoolDepletedTimeTotal."""
    gate = trio.Event()

    async def hold(request: Request) -> bytes:
        await gate.wait()
        return b""

    server = await serve(hold, queued_max_request_bytes=100)
    pool = server.data_plane.memory_pool
    first, second = [await connect(server.bound_port()) for _ in range(2)]
    await first.send(bytes(100))
    await trio.testing.wait_all_tasks_blocked(0.003)
    assert (0, 0) == (pool.statistics().depleted_time_ns, pool.statistics().available)
    await second.send(bytes(10))
    await trio.testing.wait_all_tasks_blocked(0.003)
    depleted = pool.statistics()
    assert (1, 100) == (depleted.waiting, depleted.used)
    assert pool.statistics().depleted_time_ns > depleted.depleted_time_ns > 0
    gate.set()
    await second.receive()
    over = pool.statistics()
    assert (0, 100) == (over.waiting, over.available)
    assert pool.statistics().depleted_time_ns == over.depleted_time_ns


async def test_families_carry_plane_and_listener(serve, connect):
    """SS-43, difference 25."""
    server = await serve(echo, control=echo, num_network_threads=2)
    registry = MetricsRegistry()
    registry.add_source(lambda: metric_families(server))
    await (await connect(server.bound_port("PLAINTEXT"))).ask(b"x")
    await (await connect(server.bound_port("CONTROLLER"))).ask(b"xyz")
    await trio.testing.wait_all_tasks_blocked(0.003)
    families = registry.collect()

    def numbers(metric) -> dict:
        return {sample.labels: sample.value for sample in families[metric.name].samples}

    assert {
        ("control", "CONTROLLER", "0"): 7,
        ("data", "PLAINTEXT", "1"): 0,
        ("data", "PLAINTEXT", "2"): 5,
    } == numbers(names.BYTES_IN)
    assert {
        ("control", "CONTROLLER", "unknown", "unknown"): 1,
        ("data", "PLAINTEXT", "unknown", "unknown"): 1,
    } == numbers(names.CONNECTIONS_BY_SOFTWARE)
    assert {("control",): 20, ("data",): 500} == numbers(names.REQUEST_QUEUE_CAPACITY)
    assert 8 == numbers(names.HANDLERS)["data", "idle"]
    for family in families.values():
        for sample in family.samples:
            assert len(family.metric.labels) == len(sample.labels)
