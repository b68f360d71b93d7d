"""Records of 1 KB in large batches, written with acks=all and read back, through librdkafka.

    python benchmarks/bulk.py [--pairs 2] [--megabytes 200] [--servers ours,tansu]
                              [--codecs none,lz4] [--partitions 1,12] [--clients 1,4]

Without arguments it prints the whole matrix, in less than ten minutes.

Every client is a process of its own. MB are of record values, before compression, by the clock on
the wall from the first record to the last acknowledgement, or the last record read. Beside it what
clients and server worked for a GB: with two processors the server has one of them at most, and
whoever works longer per GB is the limit. The figures of the fastest broker show how fast
librdkafka, with Python at its end, can be.

Four things are kept out of the figures, because they are not about bulk. A virtual machine gets
memory from its host when it touches it for the first time, or again after some rest, and that
costs up to ten times what the broker does with it: so as much as a run needs is written and thrown
away before each. Clients start, connect and find the coordinator of their group, for which some
brokers make a topic of 50 partitions first, before the clock starts. They have written a few
records by then, for the first ones cost a broker what no later ones do: ours imports and compiles
what it reads them with. And the clock starts for all clients at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import frames
import peers
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from pairs import Effort, Goal, Row, against_peers, alternately, machine

VALUE_BYTES = 1000
BATCH_BYTES = 1_000_000
MEGABYTES = 300
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SLOW_CODEC = "gzip"
SLOWER = 4
"""Part of the records that a codec gets that takes a client 30 s for a GB."""
CHUNK = 1000
"""Records handed to librdkafka, or taken from it, in one call."""
FIRST = 8
"""Records that a client writes before the clock starts."""
LONGEST_SECONDS = 120


@attrs.frozen
class Work:
    """What clients do to a broker."""

    codec: str = "none"
    partitions: int = 1
    clients: int = 1
    megabytes: int = MEGABYTES

    def __str__(self) -> str:
        return f"{self.codec}, {self.partitions} partitions, {self.clients} clients"


@attrs.frozen
class Figures:
    """One direction of one run."""

    rate: float
    """MB/s."""
    client_cpu: float
    """Seconds that the clients worked for a GB."""
    server_cpu: float


# -- the clients, each in a process of its own ------------------------------------------------


def values(records: int) -> list[bytes]:
    """Values that compress about as well as JSON does: a half repeats, a half does not."""
    import random

    source = random.Random(7)
    return [
        source.randbytes(VALUE_BYTES // 2) + b"a field " * (VALUE_BYTES // 16)
        for _ in range(min(records, 256))
    ]


def wait_for_start() -> float:
    """Tell whoever started this client that it is ready, and wait; seconds it worked so far."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.process_time()


def produce(port: int, codec: str, partitions: list[int], records: int) -> tuple[float, float]:
    """Write; seconds until everything is acknowledged, and how many the processor worked."""
    failures: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "log_level": 3,
            "acks": "all",
            "compression.type": codec,
            "linger.ms": 5,
            "batch.size": BATCH_BYTES,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 200_000,
            "error_cb": lambda error: failures.append(str(error)),
        }
    )
    producer.list_topics(frames.TOPIC, 30)
    chunk = [{"value": value} for value in (values(records) * (CHUNK // 256 + 1))[:CHUNK]]
    producer.produce_batch(frames.TOPIC, [dict(each) for each in chunk[:FIRST]], partitions[0])
    producer.flush(LONGEST_SECONDS)
    worked = wait_for_start()
    begin = time.perf_counter()
    sent = 0
    while sent < records:
        partition = partitions[(sent // CHUNK) % len(partitions)]
        left = chunk
        while left:
            taken = producer.produce_batch(frames.TOPIC, left, partition=partition)
            left = [message for message in left if "_error" in message] if taken < len(left) else []
            for message in left:
                del message["_error"]
            producer.poll(0.005 if left else 0)
        sent += CHUNK
    if producer.flush(LONGEST_SECONDS) or failures:
        raise RuntimeError(f"not everything was acknowledged: {failures[:1]}")
    return time.perf_counter() - begin, time.process_time() - worked


def consume(port: int, partitions: list[int], records: int) -> tuple[float, float]:
    """Read; seconds until the last record, and how many the processor worked."""
    consumer = Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "log_level": 3,
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 4 * BATCH_BYTES,
            "fetch.max.bytes": 50_000_000,
            "receive.message.max.bytes": 1_000_000_000,  # noida answers with all there is
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 200_000,
            "queued.min.messages": 1_000_000,
        }
    )
    consumer.list_topics(frames.TOPIC, 30)
    wanted = [TopicPartition(frames.TOPIC, each, 0) for each in partitions]
    with suppress(KafkaException):  # kfake does not know the group
        consumer.committed(wanted, 30)
    worked = wait_for_start()
    begin = time.perf_counter()
    consumer.assign(wanted)
    read = 0
    while read < records:
        messages = consumer.consume(CHUNK, 1.0)
        if time.perf_counter() - begin > LONGEST_SECONDS:
            raise RuntimeError(f"{read} of {records} records came")
        for message in messages:
            error = message.error()
            if error is not None:
                raise KafkaException(error)
        read += len(messages)
    figures = time.perf_counter() - begin, time.process_time() - worked
    consumer.close()
    return figures


def be_client(arguments: list[str]) -> None:
    """Do one thing and print how long it and the processor took."""
    direction, port, codec, partitions, records = arguments
    numbers = [int(each) for each in partitions.split(",")]
    if direction == "produce":
        print(json.dumps(produce(int(port), codec, numbers, int(records))))
    else:
        print(json.dumps(consume(int(port), numbers, int(records))))


# -- what starts them ---------------------------------------------------------------------------


def run_clients(server: peers.Server, direction: str, work: Work) -> Figures:
    """All clients at once, each with its share of partitions and records."""
    records = work.megabytes * 1_000_000 // VALUE_BYTES // work.clients // CHUNK * CHUNK
    clients = []
    for number in range(work.clients):
        if work.partitions >= work.clients:
            mine = range(number, work.partitions, work.clients)
        else:
            mine = range(work.partitions)
        partitions = ",".join(map(str, mine))
        arguments = [direction, str(server.port), work.codec, partitions, str(records)]
        command = [sys.executable, __file__, "--client", *arguments]
        pipe = subprocess.PIPE
        clients.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    if not all(client.stdout and client.stdout.readline() for client in clients):
        for client in clients:
            client.kill()
        raise RuntimeError(f"{direction} at {server.name} did not begin")
    before = server.cpu_seconds()
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    outputs = [client.communicate()[0] for client in clients]
    if any(client.returncode for client in clients):
        raise RuntimeError(f"{direction} at {server.name} failed")
    taken, worked = zip(*map(json.loads, outputs), strict=True)
    gigabytes = records * work.clients * VALUE_BYTES / 1e9
    return Figures(
        gigabytes * 1000 / max(taken),
        sum(worked) / gigabytes,
        (server.cpu_seconds() - before) / gigabytes,
    )


def warm_memory(megabytes: int) -> None:
    """Touch memory that a run will need, so that it is not the run that gets it from the host."""
    directory = Path("/dev/shm")
    if directory.is_dir():
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(megabytes):
                file.write(bytes(1_000_000))


def measure(name: str, work: Work) -> tuple[Figures, Figures]:
    """One broker, fresh: everything written, then read."""
    warm_memory(2 * work.megabytes)
    with peers.running(name) as server:
        frames.create_topic(server, work.partitions)
        return run_clients(server, "produce", work), run_clients(server, "consume", work)


def contestants() -> list[str]:
    """The brokers that can do this; nafka keeps records in a data base, one by one."""
    return ["ours", *(name for name in peers.available() if name != "nafka")]


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about bulk."""
    work = Work(megabytes=int(MEGABYTES * min(1, effort.seconds)))
    names = contestants()
    absent = {name: why for name, why in peers.unavailable().items() if name != "nafka"}
    runs = alternately(names, effort.pairs, lambda name: measure(name, work), absent)
    for index, direction in enumerate(("produce", "consume")):
        yield from against_peers(
            f"{direction}, 1 KB records, librdkafka",
            "MB/s",
            runs,
            lambda run: run[index].rate,  # noqa: B023 - called here
            dict.fromkeys(names, Goal(1.0, obstacle="client")),
            ("s/GB", lambda run: run[index].server_cpu),  # noqa: B023 - called here
        )


def table(options: argparse.Namespace) -> None:
    """Every combination."""
    brokers = options.servers or contestants()
    print(
        f"# {machine()}; {options.pairs} rounds of {options.megabytes} MB"
        f" ({options.megabytes // SLOWER} MB of {SLOW_CODEC}); {peers.versions()}"
    )
    print(f"{'':<34} {'':>7} {'broker':>6} {'MB/s':>6} {'clients s/GB':>12}", end="")
    print(f" {'server s/GB':>11} {'ours/it':>8}")
    for codec in options.codecs:
        for partitions in options.partitions:
            for clients in options.clients:
                megabytes = options.megabytes // (SLOWER if codec == SLOW_CODEC else 1)
                work = Work(codec, int(partitions), int(clients), megabytes)
                runs = alternately(brokers, options.pairs, lambda name: measure(name, work))  # noqa: B023 - called here
                show(work, runs)


def show(work: Work, runs: dict[str, list[tuple[Figures, Figures]]]) -> None:
    """The lines of one combination."""
    first = next(iter(runs))
    for index, direction in enumerate(("produce", "consume")):
        for name, each in runs.items():
            figures = [attrs.astuple(run[index]) for run in each]
            rate, client, server = map(statistics.median, zip(*figures, strict=True))
            ratio = statistics.median(
                mine[index].rate / theirs[index].rate
                for mine, theirs in zip(runs[first], each, strict=True)
            )
            print(f"{work!s:<34} {direction:>7} {name:>6} {rate:6.0f} {client:12.2f}", end="")
            print(f" {server:11.2f} {ratio:8.2f}", flush=True)


def main() -> None:
    """Print the table, or (``--client``) be a client."""
    if sys.argv[1:2] == ["--client"]:
        be_client(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--servers", type=lambda text: text.split(","))
    parser.add_argument("--codecs", type=lambda text: text.split(","), default=CODECS)
    parser.add_argument("--partitions", type=lambda text: text.split(","), default=["1", "12"])
    parser.add_argument("--clients", type=lambda text: text.split(","), default=["1", "4"])
    table(parser.parse_args())


if __name__ == "__main__":
    main()
