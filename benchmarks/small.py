"""Small requests, one at a time on each connection, from a client in C.

    python benchmarks/small.py [--pairs 5] [--seconds 1.5] [--connections 1,10,100,1000]
                               [--requests produce,metadata,fetch] [--servers ours,tansu]

* produce:  one record of 100 bytes, acks=all
* metadata: of one topic
* fetch:    one record of 100 bytes that is there

For every broker: requests/s, p50, p99, p99.9, and what the server's threads worked for a request.
The latter is the figure that a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import attrs
import frames
import peers
from load import Figures, run_load
from pairs import Effort, Goal, Row, against_peers, alternately, machine

REQUESTS = ("produce", "metadata", "fetch")


@attrs.frozen
class Run:
    """What one run measured."""

    figures: Figures
    cpu_us: float
    """Of the server, per request."""


def measure(name: str, request: str, connections: int, seconds: float) -> Run:
    """One broker, fresh, one run."""
    with peers.running(name) as server:
        frames.create_topic(server)
        frame, zero_at = frames.produce(name)
        frames.expect_answer(server, frame)  # and there is something to read
        if request == "metadata":
            frame, zero_at = frames.metadata(name), None
        elif request == "fetch":
            frame, zero_at = frames.fetch(name, max_bytes=1), None  # one batch comes all the same
        frames.expect_answer(server, frame)
        before = server.cpu_seconds()
        figures = run_load(server.port, connections, frame, seconds, zero_at)
        worked = server.cpu_seconds() - before
    return Run(figures, worked / figures.answered * 1e6)


GOALS: dict[str, dict[str, Goal]] = {
    "produce": {"tansu": Goal(2.5), "noida": Goal(2.0), "kfake": Goal(1.0)},
    "metadata": {"tansu": Goal(1.5)},
    "fetch": {},
}


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about small requests."""
    brokers = ["ours", *peers.available()]
    for request in REQUESTS:
        runs = alternately(
            brokers,
            effort.pairs,
            lambda name: measure(name, request, 50, effort.seconds),  # noqa: B023 - called here
        )
        rates = {name: [run.figures.rate for run in each] for name, each in runs.items()}
        yield from against_peers(f"{request}, 50 connections", "req/s", rates, GOALS[request])
    runs = alternately(
        brokers, effort.pairs, lambda name: measure(name, "produce", 1, effort.seconds)
    )
    p50s = {name: [run.figures.p50 for run in each] for name, each in runs.items()}
    goal = {"tansu": Goal(1.0, is_most=True)}
    yield from against_peers("produce, 1 connection, p50", "µs", p50s, goal)


def table(options: argparse.Namespace) -> None:
    """Every request, number of connections and broker."""
    brokers = options.servers or ["ours", *peers.available()]
    print(f"# {machine()}; {options.pairs} rounds of {options.seconds:g} s; {peers.versions()}")
    print(
        f"{'request':<9} {'conns':>5} {'broker':>7} {'req/s':>8} {'p50 µs':>8} {'p99 µs':>8}",
        end="",
    )
    print(f" {'p99.9 µs':>9} {'server µs/req':>13} {'ours/it':>8}")
    for request in options.requests:
        for connections in options.connections:
            runs = alternately(
                brokers,
                options.pairs,
                lambda name: measure(name, request, connections, options.seconds),  # noqa: B023 - called here
            )
            for name, each in runs.items():
                figures = [attrs.astuple(run.figures) for run in each]
                rate, p50, p99, p999, _ = map(statistics.median, zip(*figures, strict=True))
                cpu_us = statistics.median(run.cpu_us for run in each)
                ratio = statistics.median(
                    mine.figures.rate / theirs.figures.rate
                    for mine, theirs in zip(runs[brokers[0]], each, strict=True)
                )
                print(f"{request:<9} {connections:>5} {name:>7} {rate:8,.0f} {p50:8,.0f}", end="")
                print(f" {p99:8,.0f} {p999:9,.0f} {cpu_us:13.1f} {ratio:8.2f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--connections", default="1,10,100,1000", type=_numbers)
    parser.add_argument("--requests", default=REQUESTS, type=_names)
    parser.add_argument("--servers", type=_names)
    table(parser.parse_args())


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


if __name__ == "__main__":
    main()
