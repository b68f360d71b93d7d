"""How costs grow: with connections, with partitions, with what Metadata has to describe.

    python benchmarks/scale.py [--quick] [--rounds 3] [--seconds 1] [--images DIRECTORY]

* connections, 10 to 10,000: all of them write one record of 100 bytes at a time
* partitions, 1 to 10,000: 50 connections write to one of them; and what each costs in memory and in
  open files
* metadata: 50 connections, fewer from 1,000 partitions on, ask for all partitions of the topic

Figures are the median of the rounds; "server µs" is what the broker's threads worked for a
request, which a busy machine disturbs least. With ``--images`` the curves are drawn as SVG.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
from pathlib import Path

import attrs
import frames
import peers
from load import run_load
from pairs import machine
from svg import curves

CONNECTIONS = (10, 100, 1_000, 3_000, 10_000)
PARTITIONS = (1, 10, 100, 1_000, 10_000)
BESIDE = 50


@attrs.frozen
class Cost:
    """Of one size; medians."""

    size: int
    rate: float
    p50: float
    p99: float
    cpu_us: float
    kib: float
    """Resident memory beyond that of a broker with nothing."""
    files: float
    """Descriptors beyond."""


def of_connections(size: int, seconds: float) -> Cost:
    """Many connections that write."""
    with peers.running("ours") as server:
        frames.create_topic(server)
        frame, zero_at = frames.produce("ours")
        run_load(server.port, 1, frame, 0.1, zero_at)
        # With 10,000 in flight the first round alone takes a moment.
        return _cost(server, size, size, frame, seconds + size / 2_500, zero_at)


def of_partitions(size: int, seconds: float) -> Cost:
    """Writing to one of many partitions."""
    with peers.running("ours") as server:
        return _cost_with_topic(server, size, seconds, is_metadata=False)


def of_metadata(size: int, seconds: float) -> Cost:
    """Asking for many partitions."""
    with peers.running("ours") as server:
        return _cost_with_topic(server, size, seconds, is_metadata=True)


def _cost_with_topic(server: peers.Server, size: int, seconds: float, *, is_metadata: bool) -> Cost:
    before = server.resident_bytes(), _open_files(server)
    frames.create_topic(server, size)
    grown = (server.resident_bytes() - before[0]) / 1024, _open_files(server) - before[1]
    frame, zero_at = frames.produce("ours")
    connections = BESIDE
    if is_metadata:
        frame, zero_at = frames.metadata("ours"), None
        # One answer about 10,000 partitions takes a while, and 50 take 50.
        connections = max(1, min(BESIDE, 5_000 // size))
    cost = _cost(server, size, connections, frame, seconds, zero_at)
    return attrs.evolve(cost, kib=grown[0], files=grown[1])


def _cost(
    server: peers.Server,
    size: int,
    connections: int,
    frame: bytes,
    seconds: float,
    zero_at: int | None,
) -> Cost:
    worked, resident, files = server.cpu_seconds(), server.resident_bytes(), _open_files(server)
    figures = run_load(server.port, connections, frame, seconds, zero_at)
    return Cost(
        size,
        figures.rate,
        figures.p50,
        figures.p99,
        (server.cpu_seconds() - worked) / figures.answered * 1e6,
        (server.resident_bytes() - resident) / 1024,
        _open_files(server) - files,
    )


def _open_files(server: peers.Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


SUBJECTS = {
    "connections": (of_connections, CONNECTIONS),
    "partitions": (of_partitions, PARTITIONS),
    "metadata": (of_metadata, PARTITIONS),
}


def median_of(costs: list[Cost]) -> Cost:
    """Field by field."""
    size, *others = zip(*map(attrs.astuple, costs), strict=True)
    return Cost(size[0], *map(statistics.median, others))


def show(subject: str, costs: list[Cost]) -> None:
    """A table."""
    print(f"{subject:>12} {'req/s':>8} {'p50 µs':>9} {'p99 µs':>9} {'server µs':>9}", end="")
    print(f" {'KiB in all':>10} {'KiB each':>8} {'files':>6}")
    for cost in costs:
        print(f"{cost.size:>12,} {cost.rate:8,.0f} {cost.p50:9,.0f} {cost.p99:9,.0f}", end="")
        print(f" {cost.cpu_us:9,.1f} {cost.kib:10,.0f} {cost.kib / cost.size:8,.1f}", end="")
        print(f" {cost.files:6,.0f}", flush=True)


def draw(directory: Path, measured: dict[str, list[Cost]]) -> None:
    """Two pictures: processor time and memory."""
    works = {name: [(cost.size, cost.cpu_us) for cost in costs] for name, costs in measured.items()}
    title = "The broker's processor time per request"
    curves(directory / "scale-time.svg", title, "connections, or partitions", "µs", works)
    memory = {
        name: [(cost.size, cost.kib) for cost in costs if cost.kib >= 1]
        for name, costs in measured.items()
        if name != "metadata"
    }
    title = "Resident memory that they add"
    curves(directory / "scale-memory.svg", title, "connections, or partitions", "KiB", memory)


def main() -> None:
    """Print the tables, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    # Both ends of 10,000 connections; the load generator and the broker inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"# {machine()}; {options.rounds} rounds of {options.seconds:g} s")
    measured = {}
    for name, (measure, sizes) in SUBJECTS.items():
        chosen = sizes[:3] if options.quick else sizes
        measured[name] = [
            median_of([measure(size, options.seconds) for _ in range(options.rounds)])
            for size in chosen
        ]
        show(name, measured[name])
    if options.images:
        draw(options.images, measured)


if __name__ == "__main__":
    main()
