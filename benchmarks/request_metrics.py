"""What figures cost: of one finished request in µs, and of an echo with and without them.

    python benchmarks/request_metrics.py [--pairs 5] [--seconds 2]

The echo server runs without figures, with those of its requests, and with those of the event loop
as well (two hooks per turn, and the probe), in turn; quoted are the median rate, and the least
processor time, which says more on a machine that is shared.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import subprocess
import sys
import time
from timeit import repeat
from types import SimpleNamespace

import trio
from load import run_load
from peers import Server

from trio_kafka_net.config import ListenerConfig
from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.event_loop import LoopProbe
from trio_kafka_net.metrics.registry import Histogram, MetricsRegistry
from trio_kafka_net.metrics.request_metrics import RequestMetrics
from trio_kafka_net.network.request_channel import Request
from trio_kafka_net.network.socket_server import SocketServer, answering

FRAME = (100).to_bytes(4) + bytes(100)
ROUNDS = 2_000
REPEATS = 50
KINDS = ("no figures", "requests", "requests, event loop")


class FinishedRequest(SimpleNamespace):
    """Times of an ordinary request: some 60 µs, nothing parked or throttled."""

    __slots__ = ()


def finished() -> FinishedRequest:
    """One request, unlike the others."""
    queue, local, response_queue, send = (random.randint(5_000, 200_000) for _ in range(4))
    return FinishedRequest(
        start_time_ns=1_000,
        dequeue_time_ns=1_000 + queue,
        local_complete_time_ns=1_000 + queue + local,
        parked_time_ns=0,
        response_complete_time_ns=1_000 + queue + local,
        response_dequeue_time_ns=1_000 + queue + local + response_queue,
        end_time_ns=1_000 + queue + local + response_queue + send,
        throttle_time_ms=0,
        response_bytes=100,
    )


def pieces() -> None:
    """Each piece by itself; the best of many, in processor time."""
    requests = [finished() for _ in range(ROUNDS)]
    counter = MetricsRegistry().counter(names.RESPONSE_BYTES).labels("data", "Produce")
    histogram = Histogram(names.REQUEST_PHASE)
    rows = RequestMetrics(MetricsRegistry(), "data", {0: "NONE"}).rows(9, "Produce")

    def count() -> None:
        for _ in requests:
            counter.value += 1

    def observe() -> None:
        for request in requests:
            histogram.observe(request.end_time_ns)

    def record() -> None:
        for request in requests:
            rows.record(request, 100)
            rows.error_codes.append(0)

    print(f"# Python {platform.python_version()}, µs per call")
    for name, piece in {
        "counter": count,
        "histogram observe": observe,
        "a request: 8 histograms, 3 counters": record,
    }.items():
        best = min(repeat(piece, number=1, repeat=REPEATS, timer=time.thread_time)) / ROUNDS
        print(f"{name:>36} {best * 1e6:6.2f}")


def serve(kind: str) -> None:
    """An echo with some of the figures; prints its port."""
    registry = MetricsRegistry()
    rows = RequestMetrics(registry, "data", {0: "NONE"}).rows(9, "Produce")

    def on_finished(request: Request) -> None:
        rows.record(request, len(request.payload))
        rows.error_codes.append(0)

    async def main() -> None:
        listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
        server = SocketServer(
            [listener],
            handle=answering(lambda request: request.payload),
            on_finished=None if kind == KINDS[0] else on_finished,
        )
        async with trio.open_nursery() as nursery:
            if kind == KINDS[2]:
                await nursery.start(LoopProbe(registry).run)
            await nursery.start(server.run)
            print(server.bound_port(), flush=True)

    trio.run(main)


def measure(kind: str, connections: int, seconds: float) -> tuple[float, float]:
    """Requests per second of one run, 100 bytes each, and processor time of each in µs."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        server = Server(kind, int(process.stdout.readline()), process.pid)
        found = run_load(server, connections, FRAME, seconds)
        return found.rate, found.cpu_us
    finally:
        process.kill()
        process.wait()


def echo(pairs: int, seconds: float) -> None:
    """The kinds in turn; one line each."""
    for connections in (50, 500):
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        for _ in range(pairs):
            for kind, runs in found.items():
                runs.append(measure(kind, connections, seconds))
        plain = found[KINDS[0]]
        for kind, runs in found.items():
            rate = statistics.median(each[0] for each in runs)
            used = min(each[1] for each in runs)
            more = used - min(each[1] for each in plain)
            print(
                f"echo {connections:>4} x 100 B, {kind:<22} {rate:9.0f}/s"
                f" {used:7.2f} µs each {more:+6.2f}",
                flush=True,
            )


def main() -> None:
    """Measure, or (``--serve``) be one of the measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=KINDS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    pieces()
    echo(options.pairs, options.seconds)


if __name__ == "__main__":
    main()
