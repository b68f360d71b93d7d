"""How costs grow: with connections, with partitions, with what Metadata has to describe.

    python benchmarks/scale.py [--quick] [--rounds 5] [--seconds 1] [--images DIRECTORY]

* connections, 10 to 10,000: all of them write one record of 100 bytes at a time
* partitions, 1 to 10,000: 50 connections write to one of them; and what each costs in memory and in
  open files
* metadata: 50 connections, fewer from 1,000 partitions on, ask for all partitions of the topic

Every round measures all sizes once, each with a broker of its own, connected and warmed up before;
figures are the medians of the rounds. "server µs" is what the broker's threads worked for a
request, which a busy machine disturbs least, with its quartiles. With ``--images`` the curves are
drawn as SVG. It takes about three minutes.

Ten connections cost more per request than a hundred: fewer requests share a turn of the event loop,
and the broker is put off its processor once for every three of them, because each answer wakes a
client that has nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import frames
import peers
from load import NO_ERROR_CODE, Figures, load_held, run_load
from neighbours import Moment, Neighbours
from pairs import Spread, machine
from svg import curves

CONNECTIONS = (10, 100, 1_000, 3_000, 10_000)
PARTITIONS = (1, 10, 100, 1_000, 10_000)
BESIDE = 50
"""Connections that work while partitions are counted."""


@attrs.frozen
class Cost:
    """Of one size, in one round."""

    size: int
    rate: float
    p50: float
    p99: float
    cpu_us: float
    kib: float
    """Resident memory that they add to a broker."""
    files: float
    """Open files that they add."""


@attrs.frozen
class Weight:
    """What a broker occupies."""

    kib: float
    """Resident memory."""
    files: int
    """Open files; sockets are not among them."""

    @classmethod
    def of(cls, server: peers.Server) -> Weight:
        """At this moment."""
        return cls(server.resident_bytes() / 1024, sum(_open_files(server.pid)))

    def __sub__(self, before: Weight) -> Weight:
        return Weight(self.kib - before.kib, self.files - before.files)


def _open_files(pid: int) -> Iterator[bool]:
    """For each descriptor whether it is a file."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield descriptor.readlink().is_absolute()


@attrs.frozen
class Subject:
    """What grows."""

    sizes: tuple[int, ...]
    measure: Callable[[int, float], Iterator[tuple[str, Cost]]]
    """Yields the name of a table and its line, for a size and a number of seconds."""


def of_connections(size: int, seconds: float) -> Iterator[tuple[str, Cost]]:
    """Many connections that write."""
    with peers.running(peers.OURS) as server:
        frames.create_topic(server)
        frame, zero_at = frames.produce(peers.OURS)
        run_load(server, 1, frame, 0.1, zero_at)
        before = Weight.of(server)
        # With 10,000 in flight one round trip takes half a second.
        with load_held(server, size, frame, seconds + size / 5_000, zero_at) as figures:
            yield "connections", _cost(size, figures, Weight.of(server) - before)


def of_partitions(size: int, seconds: float) -> Iterator[tuple[str, Cost]]:
    """Writing to one of many partitions, then asking for all of them."""
    with peers.running(peers.OURS) as server:
        frames.create_topic(server, topic="first")  # brings along what every topic needs
        before = Weight.of(server)
        frames.create_topic(server, size)
        weight = Weight.of(server) - before
        frame, zero_at = frames.produce(peers.OURS)
        figures = run_load(server, BESIDE, frame, seconds, zero_at)
        yield "partitions", _cost(size, figures, weight)
        # One answer about 10,000 partitions takes a while, and 50 take 50.
        connections = max(1, min(BESIDE, 5_000 // size))
        figures = run_load(server, connections, frames.metadata(peers.OURS), seconds, NO_ERROR_CODE)
        yield "metadata", _cost(size, figures, weight)


def _cost(size: int, figures: Figures, added: Weight) -> Cost:
    return Cost(
        size, figures.rate, figures.p50, figures.p99, figures.cpu_us, added.kib, added.files
    )


SUBJECTS = (Subject(CONNECTIONS, of_connections), Subject(PARTITIONS, of_partitions))
LABELS = {
    "connections": "connections: Produce",
    "partitions": "partitions: Produce",
    "metadata": "partitions: Metadata",
}


def measure(subject: Subject, rounds: int, seconds: float) -> dict[str, dict[int, list[Cost]]]:
    """{table: {size: a cost for each round}}."""
    costs: dict[str, dict[int, list[Cost]]] = {}
    for number in range(rounds):
        # What grows with time shall not look as if it grew with size.
        for size in subject.sizes if number % 2 == 0 else reversed(subject.sizes):
            for table, cost in subject.measure(size, seconds):
                costs.setdefault(table, {}).setdefault(size, []).append(cost)
    return {table: dict(sorted(by_size.items())) for table, by_size in costs.items()}


def median_of(costs: list[Cost]) -> Cost:
    """Field by field."""
    size, *others = zip(*map(attrs.astuple, costs), strict=True)
    return Cost(size[0], *map(statistics.median, others))


def show(table: str, by_size: dict[int, list[Cost]]) -> None:
    """A table."""
    print(f"{table:>12} {'req/s':>8} {'p50 µs':>9} {'p99 µs':>9} {'server µs':>9}", end="")
    print(f" {'quartiles':>11} {'KiB in all':>10} {'KiB each':>8} {'files':>6}")
    for size, costs in by_size.items():
        cost = median_of(costs)
        spread = Spread.of([each.cpu_us for each in costs])
        print(f"{size:>12,} {cost.rate:8,.0f} {cost.p50:9,.0f} {cost.p99:9,.0f}", end="")
        print(f" {cost.cpu_us:9,.1f} {spread!s:>11} {cost.kib:10,.0f}", end="")
        print(f" {cost.kib / size:8,.1f} {cost.files:6,.0f}", flush=True)


def draw(directory: Path, measured: dict[str, list[Cost]]) -> None:
    """Two pictures: processor time and memory."""
    works = {
        LABELS[name]: [(cost.size, cost.cpu_us) for cost in costs]
        for name, costs in measured.items()
    }
    title = "Processor time of the broker per request"
    x_label = "connections, or partitions of the topic"
    curves(directory / "scale-time.svg", title, x_label, "µs per request", works)
    memory = {
        name: [(cost.size, cost.kib / 1024) for cost in costs if cost.kib > 0]
        for name, costs in measured.items()
        if name != "metadata"
    }
    title = "Resident memory that they add to the broker"
    curves(directory / "scale-memory.svg", title, x_label, "MiB", memory)


def main() -> None:
    """Print the tables, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    # Both ends of 10,000 connections; the load generator and the broker inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"# {machine()}; {options.rounds} rounds of {options.seconds:g} s")
    medians = {}
    for subject in SUBJECTS:
        if options.quick:
            subject = attrs.evolve(subject, sizes=subject.sizes[:3])
        load, before = os.getloadavg()[0], Moment.now()
        measured = measure(subject, options.rounds, options.seconds)
        print(f"# {Neighbours.between(before, Moment.now(), os.cpu_count() or 1, load)}")
        for table, by_size in measured.items():
            show(table, by_size)
            medians[table] = [median_of(costs) for costs in by_size.values()]
    if options.images:
        draw(options.images, medians)


if __name__ == "__main__":
    main()
