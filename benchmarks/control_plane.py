"""What the control plane takes to answer while the data plane is as full as it gets.

    python benchmarks/control_plane.py [--rounds 3] [--seconds 10] [--directory DIR]

A broker runs in a process of its own, with its defaults. 1,000 connections of another process send
it Produce requests of 100 B to 1 MB with acks=all and Fetch requests of 64 KB, the small ones two
at a time, so that the data plane's request queue (500) is full and more requests wait beside it;
the broker samples that itself. Meanwhile two more processes make, enlarge, configure, elect and
delete topics, one on the control plane, one on the data plane, and ask for metadata.

* idle:    the control plane before the load
* control: the control plane beside it
* data:    the data plane, with the same requests at the same time
* ratio:   control p99 / data p99; the goal is 0.05. Median of the rounds, as all figures

The last lines say how full the queue was, and how long the event loop was busy between two looks
at its sockets: every request of the control plane waits for a few of these turns.

Records go to memory, for a disk would be measured instead; ``--directory`` takes one.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import multiprocessing
import os
import platform
import select
import shutil
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import attrs
import trio
from loop_probe import LONGEST_TURN_MS, LoopProbe
from pairs import Effort, Goal, Row, Spread, alone

from trio_kafka_net.broker_server import Broker, open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.api_keys import response_class
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import decode_response, encode_request
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    FetchRequest,
    IncrementalAlterConfigsRequest,
    MetadataRequest,
    ProduceRequest,
)
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch

SPAWN = multiprocessing.get_context("spawn")
CONNECTIONS = 1000
PIPELINED_BYTES = 32 * 1024
"""Smaller requests are sent two at a time. Of larger ones a second would not fit into the socket
that is not read meanwhile, and the kernel's retransmissions would be measured."""
PRODUCED_BYTES = (100,) * 15 + (1_000,) * 15 + (16_000,) * 8 + (100_000,) * 2 + (1_000_000,)
"""Sizes of the records, one per connection, over and over; each 10th connection fetches."""
DATA_PROBES = 2
"""Connections that measure the data plane: one would get few answers, many would keep the
controller busy, which makes one change at a time."""
GOAL = 1 / 20

Milliseconds = dict[str, list[float]]
"""{API: how long its requests took}."""


# -- the broker ------------------------------------------------------------


def turns(probe: LoopProbe) -> list[float]:
    """p50, p99 and the longest turn, ms, and the same of the work in it."""
    return [
        quantile(sorted(each), share) / 1e6
        for each in (probe.turns_ns, probe.cpu_ns)
        for share in (0.5, 0.99, 1)
    ]


def serve(pipe: Connection, directory: str | None) -> None:
    """Serve until the pipe says None; each other word begins or ends a measurement."""
    logging.disable()  # this is a process of its own; topics that come and go are logged
    settings: dict[str, Any] = {"log_dirs": (directory,)} if directory else {"trio_in_memory": True}
    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
        control_plane_listener_name="CONTROLLER",
        socket_listen_backlog_size=1024,  # the load connects all at once
        log_segment_bytes=32 * 1024 * 1024,
        log_retention_bytes=64 * 1024 * 1024,
        log_retention_check_interval_ms=500,
        **settings,
    )
    trio.run(_serve, pipe, config)


async def _serve(pipe: Connection, config: BrokerConfig) -> None:
    async with open_broker(config) as broker, trio.open_nursery() as nursery:
        for topic in ("written", "read"):
            await broker.local.controller.create_topic(topic)
        fetched = broker.local.replicas.get_partition("read", 0)
        assert fetched is not None
        for _ in range(8):
            fetched.append_records(memoryview(bytearray(a_batch(16_000))), required_acks=-1)
        pipe.send({each.plane: each.port for each in broker.bound_listeners})
        samples: list[tuple[int, int]] = []
        nursery.start_soon(_sample_queue, broker, samples)
        gc.freeze()  # as the command line does
        probe = LoopProbe()
        trio.lowlevel.add_instrument(probe)
        while await trio.to_thread.run_sync(pipe.recv):
            samples.clear()
            probe.clear()
            answered = responses(broker)
            await trio.to_thread.run_sync(pipe.recv)
            pipe.send((list(samples), turns(probe), responses(broker) - answered))
        nursery.cancel_scope.cancel()


def responses(broker: Broker) -> int:
    """Responses that the data plane has sent."""
    return sum(
        each.statistics().responses_sent for each in broker.socket_server.data_plane.processors
    )


async def _sample_queue(broker: Broker, samples: list[tuple[int, int]]) -> None:
    while True:
        channel = broker.socket_server.data_plane.request_channel.statistics()
        samples.append((channel.queued, channel.waiting))
        await trio.sleep(0.01)


# -- what fills the data plane ------------------------------------------------------------


def a_frame(message: Message, version: int) -> bytes:
    """A whole request."""
    payload = b"".join(bytes(piece) for piece in encode_request(message, version, 0, "benchmark"))
    return struct.pack(">i", len(payload)) + payload


def a_batch(size: int) -> bytes:
    """A batch with one record of ``size`` bytes, of now."""
    return build_batch([Record(timestamp=time.time_ns() // 1_000_000, value=os.urandom(size))])


def a_produce(size: int) -> bytes:
    """Writes one record, acks=all."""
    data = ProduceRequest.PartitionProduceData(index=0, records=a_batch(size))
    topic = ProduceRequest.TopicProduceData(name="written", partition_data=[data])
    return a_frame(ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic]), 9)


def a_fetch() -> bytes:
    """Reads 64 KB from where there always are as many."""
    partition = FetchRequest.Partition(partition=0, fetch_offset=0, partition_max_bytes=65_536)
    topic = FetchRequest.Topic(topic="read", partitions=[partition])
    return a_frame(FetchRequest(topics=[topic], min_bytes=1, max_bytes=65_536, max_wait_ms=500), 12)


@attrs.define(eq=False)
class Flooder:
    """A connection that always has requests under way."""

    socket: socket.socket
    frame: memoryview
    sent: int = 0
    unanswered: int = 0
    head: bytes = b""
    left: int = 0
    """Bytes of the response that are still to come."""

    def send(self) -> bool:
        """Send what may be sent; whether it is waiting for the socket."""
        while self.unanswered < (2 if len(self.frame) < PIPELINED_BYTES else 1):
            try:
                self.sent += self.socket.send(self.frame[self.sent :])
            except BlockingIOError:
                return True
            if self.sent == len(self.frame):
                self.sent = 0
                self.unanswered += 1
        return False

    def receive(self, sink: bytearray) -> None:
        """Read responses and forget them."""
        while True:
            try:
                if self.left:
                    got = self.socket.recv_into(sink, min(self.left, len(sink)))
                    self.left -= got
                    self.unanswered -= not self.left
                else:
                    data = self.socket.recv(4 - len(self.head))
                    got = len(data)
                    self.head += data
                    if len(self.head) == 4:
                        (self.left,) = struct.unpack(">i", self.head)
                        self.head = b""
            except BlockingIOError:
                return
            if not got:
                raise EOFError("the broker closed a connection")


def flood(port: int, is_flowing: Event) -> None:
    """Keep the data plane full until the process is ended.

    ``is_flowing`` is set when every connection has had an answer.
    """
    produced = [memoryview(a_produce(size)) for size in PRODUCED_BYTES]
    fetch = memoryview(a_fetch())
    poller, flooders, sink = select.epoll(), {}, bytearray(1 << 20)
    for number in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setblocking(False)
        frame = fetch if number % 10 == 0 else produced[number % len(produced)]
        flooders[connection.fileno()] = Flooder(connection, frame)
        poller.register(connection, select.EPOLLIN | select.EPOLLOUT)
    silent = set(flooders)
    while True:
        for fd, events in poller.poll():
            flooder = flooders[fd]
            if events & ~select.EPOLLOUT:
                flooder.receive(sink)
                silent.discard(fd)
                if not silent:
                    is_flowing.set()
            poller.modify(
                fd, select.EPOLLIN | select.EPOLLOUT if flooder.send() else select.EPOLLIN
            )


# -- what is measured ------------------------------------------------------------


@attrs.define
class Probe:
    """A connection that administrates, and notes how long it took."""

    socket: socket.socket
    taken: Milliseconds

    def ask(self, message: Message, version: int) -> Any:
        """Send a request and read its response."""
        assert message.API_KEY is not None
        frame = a_frame(message, version)
        begin = time.perf_counter()
        self.socket.sendall(frame)
        (size,) = struct.unpack(">i", self._exactly(4))
        response = self._exactly(size)
        milliseconds = (time.perf_counter() - begin) * 1000
        self.taken.setdefault(message.API_KEY.label, []).append(milliseconds)
        return decode_response(response_class(message.API_KEY), version, response)[1]

    def _exactly(self, size: int) -> bytes:
        data = self.socket.recv(size, socket.MSG_WAITALL)
        if len(data) < size:
            raise EOFError("the broker closed a connection")
        return data

    def round(self, name: str) -> Iterator[None]:
        """The life of a topic; it may be paused after each request."""
        described = [MetadataRequest.Topic(name="written")]
        self.ask(MetadataRequest(topics=described), 12)
        yield
        made = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
        expect(self.ask(CreateTopicsRequest(topics=[made], timeout_ms=30_000), 7).topics)
        yield
        larger = CreatePartitionsRequest.Topic(name=name, count=2, assignments=None)
        request = CreatePartitionsRequest(topics=[larger], timeout_ms=30_000)
        expect(self.ask(request, 3).results)
        yield
        change = IncrementalAlterConfigsRequest.AlterableConfig(
            name="retention.ms", value="1000000"
        )
        resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
            resource_type=2, resource_name=name, configs=[change]
        )
        expect(self.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1).responses)
        yield
        elected = ElectLeadersRequest.TopicPartitions(topic=name, partitions=[0, 1])
        response = self.ask(ElectLeadersRequest(topic_partitions=[elected]), 2)
        expect(response.replica_election_results[0].partition_result, ErrorCode.ELECTION_NOT_NEEDED)
        yield
        deleted = DeleteTopicsRequest.DeleteTopicState(name=name)
        expect(self.ask(DeleteTopicsRequest(topics=[deleted], timeout_ms=30_000), 6).responses)
        yield


def expect(results: list[Any], code: ErrorCode = ErrorCode.NONE) -> None:
    """What is measured must have happened."""
    if any(result.error_code != code for result in results) or not results:
        raise RuntimeError(f"{code.name} expected: {results}")


def probe(port: int, count: int, seconds: float, pause: float) -> Milliseconds:
    """Ask on ``count`` connections, with a pause in seconds after each answer."""
    taken: Milliseconds = {}
    failures: list[Exception] = []
    end = time.perf_counter() + seconds

    def run(number: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asking = Probe(connection, taken)
                turn = 0
                while time.perf_counter() < end:
                    for _ in asking.round(f"probe-{port}-{number}-{turn}"):
                        time.sleep(pause)
                    turn += 1
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return taken


# -- the table ------------------------------------------------------------


def quantile(ranked: list[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else math.nan


@attrs.frozen
class Round:
    """What one round measured."""

    idle: Milliseconds
    control: Milliseconds
    data: Milliseconds
    samples: list[tuple[int, int]]
    """(queued, waiting beside the queue) of the data plane."""
    turns: list[float]
    """Of the event loop: what ``turns`` returns."""
    rate: float
    """Responses per second of the data plane."""


def measure(
    pipe: Connection, ports: dict[str, int], pool: ProcessPoolExecutor, seconds: float
) -> Round:
    """One round: idle, then with load."""
    idle = pool.submit(probe, ports["control"], 1, 2.0, 0.002).result()
    is_flowing = SPAWN.Event()
    load: BaseProcess = SPAWN.Process(target=flood, args=(ports["data"], is_flowing), daemon=True)
    load.start()
    try:
        if not is_flowing.wait(60):
            raise RuntimeError("the load did not reach every connection within a minute")
        pipe.send("begin")
        control = pool.submit(probe, ports["control"], 1, seconds, 0.002)
        data = pool.submit(probe, ports["data"], DATA_PROBES, seconds, 0.0)
        taken = control.result(), data.result()
        pipe.send("end")
        samples, of_loop, answered = pipe.recv()
        if not load.is_alive():
            raise RuntimeError("the load has ended")
    finally:
        load.terminate()
        load.join()
    return Round(idle, *taken, samples, of_loop, answered / seconds)


def show(rounds: list[Round]) -> None:
    """Print the medians of all rounds."""
    heads = ("idle p50", "p99", "control p50", "p99", "max", "data p50", "p99", "ratio", "answers")
    print(f"{'ms':<24}" + "".join(f"{head:>12}" for head in heads))
    apis = list(rounds[0].control)
    for api in [*apis, "all"]:
        rows = []
        for each in rounds:
            idle, control, data = (
                sorted(sum(taken.values(), []) if api == "all" else taken.get(api, []))  # noqa: RUF017 - seven lists
                for taken in (each.idle, each.control, each.data)
            )
            row = [quantile(idle, q) for q in (0.5, 0.99)]
            row += [quantile(control, q) for q in (0.5, 0.99, 1)]
            row += [quantile(data, q) for q in (0.5, 0.99)]
            rows.append([*row, row[3] / row[6], len(control)])
        *figures, ratio, answers = (statistics.median(column) for column in zip(*rows, strict=True))
        line = "".join(f"{figure:12.2f}" for figure in figures)
        print(f"{api:<24}{line}{ratio:12.3f}{answers:12.0f}", flush=True)
    print(f"goal of the ratio: {GOAL:.3f}")
    queued = [queued for each in rounds for queued, _ in each.samples]
    waiting = [waiting for each in rounds for _, waiting in each.samples]
    full = sum(each == max(queued) for each in queued) / len(queued)
    print(
        f"data plane's queue: {max(queued)} in {full:.1%} of {len(queued):,} samples, "
        f"never below {min(queued)}; beside it median {statistics.median(waiting):.0f} waiting"
    )
    of_loop = [statistics.median(column) for column in zip(*(x.turns for x in rounds), strict=True)]
    for name, figures in (("turn of the event loop", of_loop[:3]), ("work in it", of_loop[3:])):
        print(f"{name + ', ms:':<28}p50 {figures[0]:.2f}  p99 {figures[1]:.2f}", end="")
        print(f"  longest {figures[2]:.2f}")
    print(f"data plane: {statistics.median(x.rate for x in rounds):,.0f} requests/s")


@contextmanager
def serving(directory: str | None = None) -> Iterator[tuple[Connection, dict[str, int]]]:
    """The broker's pipe and {plane: port}."""
    pipe, theirs = SPAWN.Pipe()
    broker = SPAWN.Process(target=serve, args=(theirs, directory), daemon=True)
    broker.start()
    theirs.close()  # so that its end is seen here
    try:
        yield pipe, pipe.recv()
        pipe.send(None)
        broker.join(30)
    finally:
        broker.kill()
        broker.join()
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about the planes and the event loop they share."""
    logging.disable()  # elections that are not needed are logged
    try:
        with serving() as (pipe, ports), ProcessPoolExecutor(2, SPAWN) as pool:
            count = max(1, effort.pairs // 2)
            seconds = max(4, 4 * effort.seconds)  # fewer answers have no p99
            rounds = [measure(pipe, ports, pool, seconds) for _ in range(count)]
    finally:
        logging.disable(logging.NOTSET)
    p99s = [
        tuple(
            quantile(sorted(chain.from_iterable(taken.values())), 0.99)
            for taken in (each.control, each.data)
        )
        for each in rounds
    ]
    control, data = (statistics.median(column) for column in zip(*p99s, strict=True))
    ratios = Spread.of([mine / beside for mine, beside in p99s])
    what = "control plane's p99 beside a full data plane"
    yield Row(
        what, "ms", control, "data p99", data, ratios, Goal(GOAL, is_most=True, obstacle="turns")
    )
    _, p99, longest, _, _, work = zip(*(each.turns for each in rounds), strict=True)
    low = Goal(LONGEST_TURN_MS, is_most=True, obstacle="neighbours")
    yield alone("  turn of the event loop meanwhile, p99", "ms", p99, low)
    yield alone("  turn of the event loop meanwhile, longest", "ms", longest, low)
    low = Goal(LONGEST_TURN_MS, is_most=True, obstacle="interpreter")
    yield alone("  work in a turn, longest", "ms", work, low)


def main() -> None:
    """Start the processes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--directory", type=Path, help="where the broker writes")
    options = parser.parse_args()
    directory = options.directory and str(options.directory / f"control-plane-{os.getpid()}")
    with serving(directory) as (pipe, ports), ProcessPoolExecutor(2, SPAWN) as pool:
        rounds = [measure(pipe, ports, pool, options.seconds) for _ in range(options.rounds)]
    print(f"# Python {platform.python_version()}, {os.cpu_count()} CPUs, {len(rounds)} rounds")
    show(rounds)


if __name__ == "__main__":
    logging.disable()
    main()
