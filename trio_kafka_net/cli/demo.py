"""``demo``: a broker with traffic on both planes, in one process, through real sockets.

Three clients connect over loopback: one produces, one consumes the same partition, one asks the
control plane for metadata ten times a second. A line per second shows what they see; the last
column is the point of the whole design: what the control plane takes to answer while the data
plane is busy.
"""

from __future__ import annotations

import math
import sys
import time

import attrs
import click
import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    FetchRequest,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
)
from trio_kafka_net.protocol.records import Record, build_batch, iter_batches
from trio_kafka_net.testing.client import RawClient

_TOPIC = "demo"
_RECORD_BYTES = 100
_RECORDS_PER_BATCH = 100
_METADATA_VERSION = 9
_PRODUCE_VERSION = 9
_FETCH_VERSION = 12
_FETCH_BYTES = 1024 * 1024
_PROBE_SECONDS = 0.1


@click.command()
@click.option(
    "--seconds",
    type=click.IntRange(min=1),
    help="How long; 60 on a terminal, otherwise 10.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Records per second; they stay in memory until the end.",
)
@click.option("--no-monitor", is_flag=True, help="Lines, not a screen; there are only lines yet.")
def demo(seconds: int | None, rate: int, no_monitor: bool) -> None:
    """Run a broker with traffic on both planes, and show figures."""
    if seconds is None:
        seconds = 60 if sys.stdout.isatty() else 10
    figures = trio.run(run_demo, seconds, rate)
    for line in figures.summary(seconds):
        click.echo(line)


@attrs.define(eq=False)
class Figures:
    """What the clients counted; each field is written by one task."""

    produced: int = 0
    """Records acknowledged."""
    consumed: int = 0
    """Records received."""
    produce_ns: list[int] = attrs.Factory(list)
    """How long each Produce request took."""
    control_ns: list[int] = attrs.Factory(list)
    """How long each Metadata request on the control plane took."""

    def add(self, other: Figures) -> None:
        """Count what ``other`` has counted as well."""
        self.produced += other.produced
        self.consumed += other.consumed
        self.produce_ns += other.produce_ns
        self.control_ns += other.control_ns

    def clear(self) -> None:
        """Begin again at nothing."""
        self.produced = self.consumed = 0
        self.produce_ns.clear()
        self.control_ns.clear()

    def line(self, second: int) -> str:
        """One second in one line."""
        return (
            f"{second:>4} s"
            f"  produced {self.produced:>9,} records/s"
            f"  consumed {self.consumed:>9,} records/s"
            f"  produce p99 {_milliseconds(self.produce_ns, 0.99):>7} ms"
            f"  control plane p99 {_milliseconds(self.control_ns, 0.99):>7} ms"
        )

    def summary(self, seconds: int) -> list[str]:
        """A whole run of ``seconds``."""
        rate = self.produced / seconds
        return [
            f"produced       {self.produced:,} records of {_RECORD_BYTES} bytes, {rate:,.0f} "
            f"records/s, {rate * _RECORD_BYTES / 1e6:,.1f} MB/s",
            f"consumed       {self.consumed:,} records",
            f"produce        p50 {_milliseconds(self.produce_ns, 0.5)} ms, "
            f"p99 {_milliseconds(self.produce_ns, 0.99)} ms "
            f"(acks=all, batches of {_RECORDS_PER_BATCH})",
            f"control plane  p50 {_milliseconds(self.control_ns, 0.5)} ms, "
            f"p99 {_milliseconds(self.control_ns, 0.99)} ms (Metadata, ten a second)",
        ]


async def run_demo(seconds: int, rate: int) -> Figures:
    """Run the broker and its clients, printing a line per second.

    Args:
        seconds: how long.
        rate: records produced per second.

    Returns:
        What was counted.

    Cancellation: clients and broker are ended; the data is gone.
    """
    from trio_kafka_net.broker_server import open_broker

    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
        control_plane_listener_name="CONTROLLER",
        trio_in_memory=True,
    )
    total, current = Figures(), Figures()
    async with open_broker(config) as broker:
        ports = {listener.plane: listener.port for listener in broker.bound_listeners}
        click.echo(f"data plane on 127.0.0.1:{ports['data']}, ", nl=False)
        click.echo(f"control plane on 127.0.0.1:{ports['control']}, {seconds} s")
        await _wait_for_topic(ports["data"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_produce, ports["data"], rate, current)
            nursery.start_soon(_consume, ports["data"], current)
            nursery.start_soon(_probe_control_plane, ports["control"], current)
            await _print_every_second(seconds, current, total)
            nursery.cancel_scope.cancel()
    return total


async def _wait_for_topic(port: int) -> None:
    """Have the topic created, by asking for it, and wait for its leader."""
    request = MetadataRequest(topics=[MetadataRequest.Topic(name=_TOPIC)])
    async with await RawClient.connect("127.0.0.1", port) as client:
        while True:
            response: MetadataResponse = await client.request(request, _METADATA_VERSION)
            (topic,) = response.topics
            if topic.partitions and topic.partitions[0].leader_id >= 0:
                return
            await trio.sleep(0.01)


async def _produce(port: int, rate: int, figures: Figures) -> None:
    now_ms = time.time_ns() // 1_000_000
    record = Record(timestamp=now_ms, value=bytes(_RECORD_BYTES))
    request = ProduceRequest(
        acks=-1,
        timeout_ms=10_000,
        topic_data=[
            ProduceRequest.TopicProduceData(
                name=_TOPIC,
                partition_data=[
                    ProduceRequest.PartitionProduceData(
                        index=0, records=build_batch([record] * _RECORDS_PER_BATCH)
                    )
                ],
            )
        ],
    )
    next_at = trio.current_time()
    async with await RawClient.connect("127.0.0.1", port, client_id="demo-producer") as client:
        while True:
            begin_ns = time.perf_counter_ns()
            response = await client.request(request, _PRODUCE_VERSION)
            _raise_for(response.responses[0].partition_responses[0].error_code)
            figures.produce_ns.append(time.perf_counter_ns() - begin_ns)
            figures.produced += _RECORDS_PER_BATCH
            # A broker that falls behind is not asked to catch up: that would measure the queue.
            next_at = max(next_at + _RECORDS_PER_BATCH / rate, trio.current_time() - 1)
            await trio.sleep_until(next_at)


async def _consume(port: int, figures: Figures) -> None:
    partition = FetchRequest.Partition(
        partition=0, fetch_offset=0, partition_max_bytes=_FETCH_BYTES
    )
    request = FetchRequest(
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=_FETCH_BYTES,
        topics=[FetchRequest.Topic(topic=_TOPIC, partitions=[partition])],
    )
    async with await RawClient.connect("127.0.0.1", port, client_id="demo-consumer") as client:
        while True:
            response = await client.request(request, _FETCH_VERSION)
            fetched = response.responses[0].partitions[0]
            _raise_for(fetched.error_code)
            for batch in iter_batches(fetched.records or memoryview(b""), partial_tail=True):
                figures.consumed += batch.record_count
                partition.fetch_offset = batch.next_offset


async def _probe_control_plane(port: int, figures: Figures) -> None:
    async with await RawClient.connect("127.0.0.1", port, client_id="demo-admin") as client:
        while True:
            begin_ns = time.perf_counter_ns()
            await client.request(MetadataRequest(topics=None), _METADATA_VERSION)
            figures.control_ns.append(time.perf_counter_ns() - begin_ns)
            await trio.sleep(_PROBE_SECONDS)


async def _print_every_second(seconds: int, current: Figures, total: Figures) -> None:
    begin = trio.current_time()
    for second in range(1, seconds + 1):
        await trio.sleep_until(begin + second)
        click.echo(current.line(second))
        total.add(current)
        current.clear()


def _raise_for(error_code: int) -> None:
    if error_code:
        raise KafkaError(ErrorCode(error_code))


def _milliseconds(durations_ns: list[int], quantile: float) -> str:
    if not durations_ns:
        return "-"
    ranked = sorted(durations_ns)
    return f"{ranked[math.ceil(quantile * len(ranked)) - 1] / 1e6:.2f}"
