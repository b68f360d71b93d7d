"""What a scrape costs, and what the event loop feels of it.

    python benchmarks/scrape.py [--topics 100] [--partitions 10] [--connections 1000]

A broker in this process with topics, groups and idle connections is asked by a client in another
one, one request after the other. Told are the time of an answer, its size, and how late a task that
wakes up every millisecond is meanwhile; the line before has the same without anybody asking.
"""

from __future__ import annotations

import argparse
import platform
import socket
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable
from time import perf_counter

import trio

from trio_kafka_net.broker_server import Broker, open_broker
from trio_kafka_net.config import BrokerConfig

PATHS = (
    "/metrics",  # the first one imports what renders it
    "/metrics",
    "/connections?limit=50",
    "/connections?limit=50&filter=127.*9",
    "/tasks",
    "/groups",
    "/topic?name=topic-1",
    "/healthz",
)
REQUESTS = 20
PAUSE_SECONDS = 0.05


def ask(url: str) -> None:
    """Ask some times; prints the answers' size and the milliseconds that each took."""
    times = []
    size = 0
    for _ in range(REQUESTS):
        begin = perf_counter()
        size = len(urllib.request.urlopen(url).read())
        times.append((perf_counter() - begin) * 1000)
        time.sleep(PAUSE_SECONDS)
    print(size, *times)


async def measure_lateness(late: list[float]) -> None:
    """Note how many ms late a sleeper of 1 ms wakes, for ever."""
    while True:
        due = perf_counter() + 0.001
        await trio.sleep(0.001)
        late.append((perf_counter() - due) * 1000)


async def report(name: str, url: str | None) -> None:
    """One line: answers and lateness."""
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure_lateness, late)
        if url is None:
            await trio.sleep(REQUESTS * PAUSE_SECONDS)
            size, times = 0, [0.0]
        else:
            done = await trio.run_process(
                [sys.executable, __file__, "--ask", url], capture_stdout=True
            )
            first, *rest = done.stdout.split()
            size, times = int(first), [float(each) for each in rest]
        nursery.cancel_scope.cancel()
    late.sort()
    print(
        f"{name:>38} {size / 1000:8.1f} kB {statistics.median(times):7.2f} {max(times):7.2f}"
        f"   {late[len(late) // 2]:6.2f} {late[len(late) * 99 // 100]:6.2f} {late[-1]:6.2f}",
        flush=True,
    )


async def fill(
    broker: Broker, topics: int, partitions: int, connections: int
) -> list[socket.socket]:
    """Make topics and connections."""
    for number in range(topics):
        await broker.local.controller.create_topic(f"topic-{number}", partitions=partitions)
    host, port = broker.bootstrap_servers.split(":")
    return [
        await trio.to_thread.run_sync(socket.create_connection, (host, int(port)))
        for _ in range(connections)
    ]


def processor_ms(work: Callable[[], object]) -> float:
    """The least processor time of ten calls."""
    times = []
    for _ in range(10):
        begin = time.thread_time()
        work()
        times.append((time.thread_time() - begin) * 1000)
    return min(times)


async def main_async(topics: int, partitions: int, connections: int) -> None:
    """Have a broker, and ask it for everything."""
    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0",),
        trio_in_memory=True,
        trio_metrics_listener="127.0.0.1:0",
    )
    async with open_broker(config) as broker:
        opened = await fill(broker, topics, partitions, connections)
        port = broker.bound_listeners[-1].port
        print(f"# Python {platform.python_version()}: {topics} topics of {partitions} partitions,")
        print(f"# {connections} connections; ms: median and largest of {REQUESTS} answers,")
        print("# and of a task that sleeps 1 ms: median, p99, largest lateness")
        await report("nobody asks", None)
        for path in PATHS:
            await report(path, f"http://127.0.0.1:{port}{path}")
        collecting = processor_ms(broker.observatory.collect)
        rendering = processor_ms(broker.observatory.exposition) - collecting
        samples = sum(len(each.samples) for each in broker.observatory.collect().values())
        print(f"# processor time of /metrics: {collecting:.1f} ms to collect {samples:,} samples,")
        print(f"# in turns of 1 ms, and {rendering:.1f} ms to render them, in a thread")
        for each in opened:
            each.close()


def main() -> None:
    """Measure, or (``--ask``) be the client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask")
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--connections", type=int, default=1000)
    options = parser.parse_args()
    if options.ask:
        ask(options.ask)
        return
    trio.run(main_async, options.topics, options.partitions, options.connections)


if __name__ == "__main__":
    main()
