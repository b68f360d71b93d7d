"""Committed offsets: commits and fetches per second over sockets, and what a reload costs.

    python benchmarks/offsets.py [directory]

The broker runs in a process of its own, the clients send frames made beforehand. The reload is of
100,000 offsets of 1,000 groups in 50 partitions; the longest pause is how much later than it wanted
a task woke up meanwhile, which is what a request would have waited for.

The directory decides what is measured: tmpfs shows our own cost, a disk adds its page cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from trio_kafka_net.broker.coordinator.group_records import CommittedOffset, OffsetChange
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages import OffsetCommitRequest, OffsetFetchRequest

SECONDS = 2.0
ROUNDS = 3
GROUPS, PARTITIONS = 1_000, 100
TOPIC = "orders"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


# The processes that are measured


async def serve(directory: str) -> None:
    """Serve a topic until standard input closes; prints the port."""
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), log_dirs=(directory,))
    async with open_broker(config) as broker:
        await broker.local.controller.create_topic(TOPIC, partitions=PARTITIONS)
        start = time.perf_counter()
        await broker.local.offsets.ensure_topic()
        print(broker.bound_listeners[0].port, time.perf_counter() - start, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


async def reload(directory: str) -> None:
    """Load offsets; prints seconds, CPU seconds, megabytes and another task's longest pause, ms."""
    local = await LocalBroker.open(BrokerConfig(log_dirs=(directory,)))
    pauses: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await trio.sleep(0.001)
            pauses.append(time.perf_counter() - before - 0.001)

    memory, start, cpu = resident_mb(), time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await local.offsets.load()
        nursery.cancel_scope.cancel()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    grown = resident_mb() - memory
    assert len(local.offsets.group_ids()) == GROUPS
    print(seconds, cpu, grown, max(pauses) * 1000, flush=True)
    await local.close()


async def fill(directory: str) -> None:
    """Commit what is to be reloaded, each offset once."""
    local = await LocalBroker.open(BrokerConfig(log_dirs=(directory,)))
    await local.controller.create_topic(TOPIC, partitions=PARTITIONS)
    await local.offsets.ensure_topic()
    for number in range(GROUPS):
        group_id = f"group-{number}"
        offsets = [
            OffsetChange(
                group_id, TOPIC, index, CommittedOffset(index * number, commit_timestamp=now_ms())
            )
            for index in range(PARTITIONS)
        ]
        local.offsets.commit(group_id, offsets)
    await local.close()


# The clients


def frame(message: Message, version: int) -> bytes:
    payload = b"".join(encode_request(message, version, correlation_id=1, client_id="bench"))
    return len(payload).to_bytes(4, "big") + payload


def a_commit(group_id: str, partitions: int) -> bytes:
    asked = [
        OffsetCommitRequest.Partition(
            partition_index=index, committed_offset=index, committed_metadata=""
        )
        for index in range(partitions)
    ]
    topic = OffsetCommitRequest.Topic(name=TOPIC, partitions=asked)
    return frame(OffsetCommitRequest(group_id=group_id, topics=[topic]), 8)


def a_fetch(group_id: str, partitions: int) -> bytes:
    topic = OffsetFetchRequest.Topics(name=TOPIC, partition_indexes=list(range(partitions)))
    return frame(
        OffsetFetchRequest(groups=[OffsetFetchRequest.Group(group_id=group_id, topics=[topic])]), 8
    )


async def requests_per_second(port: int, frames: list[bytes]) -> float:
    """Each frame over and over on its own connection, one at a time."""
    done = 0

    async def ask(payload: bytes) -> None:
        nonlocal done
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            while True:
                await stream.send_all(payload)
                answer = await stream.receive_some()
                while len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4], "big"):
                    answer += await stream.receive_some()
                done += 1

    with trio.move_on_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for payload in frames:
                nursery.start_soon(ask, payload)
    return done / SECONDS


def measure_requests(directory: str) -> None:
    command = [sys.executable, __file__, "--serve", directory]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port, making = server.stdout.readline().split()
        print(f"{'topic of 50 partitions made':>44} {float(making) * 1000:>9.0f} ms")
        for make in (a_commit, a_fetch):
            for connections in (1, 50):
                for partitions in (1, 10):
                    frames = [make(f"group-{n}", partitions) for n in range(connections)]
                    rates = [
                        trio.run(requests_per_second, int(port), frames) for _ in range(ROUNDS)
                    ]
                    name = (
                        f"{make.__name__[2:]}, {connections} connections, {partitions} partitions"
                    )
                    print(f"{name:>44} {statistics.median(rates):>9,.0f} /s")
        server.communicate("")


def measure_reload(directory: str) -> None:
    trio.run(fill, directory)
    command = [sys.executable, __file__, "--reload", directory]
    runs = [
        [float(each) for each in subprocess.check_output(command, text=True).split()]
        for _ in range(ROUNDS)
    ]
    seconds, cpu, megabytes, pause_ms = (
        statistics.median(column) for column in zip(*runs, strict=True)
    )
    count = GROUPS * PARTITIONS
    print(f"{f'reload of {count:,} offsets':>44} {seconds:>9.2f} s, {cpu:.2f} s of CPU")
    print(f"{'memory':>44} {megabytes:>9.1f} MB, {megabytes * 1e6 / count:.0f} bytes an offset")
    print(f"{'longest pause of another task':>44} {pause_ms:>9.1f} ms")


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        trio.run(serve, sys.argv[2])
    elif sys.argv[1:2] == ["--reload"]:
        trio.run(reload, sys.argv[2])
    else:
        parent = sys.argv[1] if len(sys.argv) > 1 else None
        for measure in (measure_requests, measure_reload):
            with tempfile.TemporaryDirectory(dir=parent) as directory:
                measure(directory)


if __name__ == "__main__":
    main()
