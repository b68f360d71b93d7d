"""Small requests, one at a time on each connection, from a client in C.

    python benchmarks/small.py [--pairs 5] [--seconds 1] [--connections 1,10,100,500,1000]
                               [--requests produce,metadata,fetch] [--servers ours,tansu]

* produce:  one record of 100 bytes, acks=all
* metadata: of one topic
* fetch:    one record of 100 bytes that is there

For every broker: requests/s, p50, p99, p99.9, and what the server's threads worked for a request,
on all processors. The latter is the figure that a busy machine disturbs least, and says what a
server with more threads pays for being faster.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from operator import attrgetter

import attrs
import frames
import peers
from load import NO_ERROR_CODE, Figures, run_load
from pairs import Effort, Goal, Results, Row, Spread, against_peers, alternately, machine

REQUESTS = ("produce", "metadata", "fetch")


def measure(name: str, request: str, connections: int, seconds: float) -> Figures:
    """One broker, fresh, one run."""
    with peers.running(name) as server:
        frames.create_topic(server)
        frame, zero_at = frames.produce(name)
        frames.expect_answer(server, frame)  # and there is something to read
        if request == "metadata":
            frame, zero_at = frames.metadata(name), NO_ERROR_CODE
        elif request == "fetch":
            # One batch comes all the same.
            frame, zero_at = frames.fetch(name, max_bytes=1), NO_ERROR_CODE
        frames.expect_answer(server, frame)
        return run_load(server, connections, frame, seconds, zero_at)


GOALS: dict[tuple[str, int], dict[str, Goal]] = {
    ("produce", 50): {
        "tansu": Goal(2.5, obstacle="interpreter"),
        "noida": Goal(2.0, obstacle="interpreter"),
        "kfake": Goal(1.0, obstacle="interpreter"),
    },
    ("metadata", 50): {"tansu": Goal(1.5, obstacle="interpreter")},
}
WORK = ("µs", attrgetter("cpu_us"))


def contest(
    request: str, connections: int, effort: Effort, names: list[str] | None = None
) -> Results[Figures]:
    """All brokers, or those with these names, in turn."""
    return alternately(
        names or [peers.OURS, *peers.available()],
        effort.pairs,
        lambda name: measure(name, request, connections, effort.seconds),
        {} if names else peers.unavailable(),
    )


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about small requests."""
    rate, p50, p999 = (attrgetter(name) for name in ("rate", "p50", "p999"))
    for request, connections in (
        ("produce", 50),
        ("produce", 500),
        ("metadata", 50),
        ("fetch", 50),
    ):
        runs = contest(request, connections, effort)
        goals = GOALS.get((request, connections), {})
        what = f"{request}, {connections} connections"
        yield from against_peers(what, "req/s", runs, rate, goals, WORK)
        if connections > 50:
            yield from against_peers(f"{what}, p99.9", "µs", runs, p999, {})
    runs = contest("produce", 1, effort)
    goals = {"tansu": Goal(1.0, is_most=True, obstacle="turns")}
    yield from against_peers("produce, 1 connection, p50", "µs", runs, p50, goals, WORK)


def table(options: argparse.Namespace) -> None:
    """Every request, number of connections and broker."""
    print(f"# {machine()}; {options.pairs} rounds of {options.seconds:g} s; {peers.versions()}")
    print(
        f"{'request':<9} {'conns':>5} {'broker':>7} {'req/s':>8} {'p50 µs':>8} {'p99 µs':>8}",
        end="",
    )
    print(f" {'p99.9 µs':>9} {'server µs/req':>13} {'ours/it':>8} {'quartiles':>11}")
    effort = Effort(options.pairs, options.seconds)
    for request in options.requests:
        for connections in options.connections:
            runs = contest(request, connections, effort, options.servers)
            for name, each in runs.items():
                figures = map(attrs.astuple, each)
                rate, p50, p99, p999, cpu_us = map(statistics.median, zip(*figures, strict=True))
                first = next(iter(runs.values()))
                ratio = Spread.of(
                    [mine.rate / other.rate for mine, other in zip(first, each, strict=True)]
                )
                print(f"{request:<9} {connections:>5} {name:>7} {rate:8,.0f} {p50:8,.0f}", end="")
                print(f" {p99:8,.0f} {p999:9,.0f} {cpu_us:13.1f}", end="")
                print(f" {ratio.median:8.2f} {ratio!s:>11}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--connections", default="1,10,100,500,1000", type=_numbers)
    parser.add_argument("--requests", default=REQUESTS, type=_names)
    parser.add_argument("--servers", type=_names)
    table(parser.parse_args())


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


if __name__ == "__main__":
    main()
