"""Instructions per request: a figure that does not depend on what else the machine does.

    python benchmarks/instructions.py             measure, print
    python benchmarks/instructions.py --check     and fail if it is worse than the baseline
    python benchmarks/instructions.py --update    and make it the baseline

A broker, an echo server and their client run in one thread under ``valgrind --tool=callgrind``.
A cold start is the whole process of the command line, from its first instruction over its first
Metadata answer to its end, with byte code in place.

Everything that varies is held still: trio's clock stands, its scheduler does not shuffle, the
performance counter goes up by a microsecond each time it is read, hashes have a fixed seed, the
client sends on all its connections and reads from all. So a request costs the same number of
instructions each time. The client's part, about a tenth, is in it; the kernel's is not.

Interpreters differ, by version and by how they were compiled. So the figures are divided by that
of a piece of Python that has nothing to do with us, measured in the same run: one unit is what its
loop costs per turn. The baseline has these units for each version of Python that was measured.

Runs of one interpreter differ by 0.3 %, of one request at a time by 0.8 %, on a busy machine no
more than on an idle one; the first after a change, which writes byte code, by 1 %.
Debian's 3.11.2 and a 3.11.7 compiled without profile-guided optimisation differ by 3 to 8 % in
instructions and by 1 to 7 % in units. Hence 5 % for a known version, 10 % for its neighbour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_kafka_net import Broker

BASELINE = Path(__file__).resolve().parent / "instructions.json"
TOLERANCE = 0.05
NEIGHBOUR_TOLERANCE = 0.10
"""When only another patch version of the same Python has a baseline."""
ROUNDS = 20
CONNECTIONS = 20
SEGMENTS = ("reference", "echo", "metadata", "produce", "fetch", "produce alone", "fetch woken")
"""What is counted, in this order; the last two on one connection each: "fetch woken" is a Fetch
that waits at the end of the log, and the Produce that wakes it."""
COLD_START = "cold start"
"""Counted in a process of its own, in thousands of units."""


# -- what is counted, under valgrind -------------------------------------------------------------


def mark() -> None:
    """End a segment: valgrind writes its counts when this function of libc is entered."""
    os.getsid(0)


class Something:
    """What the reference works with."""

    __slots__ = ("items", "total")

    def __init__(self) -> None:
        self.items: dict[int, bytes] = {}
        self.total = 0

    def add(self, number: int, text: bytes) -> int:
        """Calls, attributes, a dictionary, slices, integers."""
        self.items[number & 31] = text[1:]
        self.total += len(text)
        return self.total if number % 3 else -self.total


def reference() -> None:
    """Python as most of it is."""
    for number in range(ROUNDS * CONNECTIONS * 5):
        something = Something()
        for step in (1, 2, 3, 4):
            something.add(number + step, b"some bytes")


async def converse(port: int, frame: bytes, connections: int) -> None:
    """Warm up, then a segment of ROUNDS × CONNECTIONS requests."""
    import trio

    clients = []
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        clients.append(client)

    async def rounds(number: int) -> None:
        for _ in range(number):
            for client in clients:
                client.send(frame)
            for client in clients:
                left = -1
                while left:
                    try:
                        data = client.recv(65536)
                    except BlockingIOError:
                        await trio.lowlevel.checkpoint()
                        continue
                    left = (left if left > 0 else 4 + int.from_bytes(data[:4], "big")) - len(data)

    await rounds(5)
    mark()
    await rounds(ROUNDS * CONNECTIONS // connections)
    mark()
    for client in clients:
        client.close()


async def wake(broker: Broker) -> None:
    """Warm up, then a segment of ROUNDS × CONNECTIONS Fetches that a Produce each wakes."""
    import socket

    import frames
    import trio

    address = ("127.0.0.1", broker.bound_listeners[0].port)
    consumer, producer = socket.create_connection(address), socket.create_connection(address)
    for client in (consumer, producer):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
    partition = broker.local.replicas.get_partition(frames.TOPIC, 0)
    assert partition is not None
    fetch, offset_at = frames.fetch_at("ours")
    produce, _ = frames.produce("ours")

    async def rounds(number: int) -> None:
        for _ in range(number):
            fetch[offset_at : offset_at + 8] = partition.log_end_offset.to_bytes(8, "big")
            consumer.send(fetch)
            while not broker.local.replicas.purgatory.watchers(partition.key):
                await trio.lowlevel.checkpoint()
            producer.send(produce)
            for client in (producer, consumer):
                while True:
                    try:
                        client.recv(65536)
                    except BlockingIOError:
                        await trio.lowlevel.checkpoint()
                    else:
                        break

    await rounds(20)
    mark()
    await rounds(ROUNDS * CONNECTIONS)
    mark()
    consumer.close()
    producer.close()


def work() -> None:
    """Everything, with marks around each segment."""
    import time

    time.perf_counter_ns = count(0, 1000).__next__
    import frames
    import trio
    from trio._core import _run
    from trio.testing import MockClock

    from trio_kafka_net import BrokerConfig, Request, open_broker, serve_frames

    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(0)
    frames.time.time_ns = lambda: 1_700_000_000_000_000_000  # type: ignore[attr-defined] # a module

    def echo(request: Request) -> memoryview:
        return request.payload

    async def main() -> None:
        mark()
        reference()
        mark()
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_frames, echo, 0)
            await converse(server.bound_port(), (100).to_bytes(4, "big") + b"x" * 100, CONNECTIONS)
            nursery.cancel_scope.cancel()
        config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
        async with open_broker(config) as broker:
            await broker.local.controller.create_topic(frames.TOPIC)
            port = broker.bound_listeners[0].port
            produce, _ = frames.produce("ours")
            await converse(port, frames.metadata("ours"), CONNECTIONS)
            await converse(port, produce, CONNECTIONS)
            await converse(port, frames.fetch("ours", max_bytes=1), CONNECTIONS)
            await converse(port, produce, 1)
            await wake(broker)

    trio.run(main, clock=MockClock())


# -- what counts ------------------------------------------------------------------------------


def measure() -> dict[str, float]:
    """{segment: instructions per request, or per turn of the reference}."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", "--dump-before=getsid", "--error-exitcode=9"]
        command += [f"--callgrind-out-file={directory}/out"]
        command += [sys.executable, __file__, "--work"]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"valgrind failed:\n{done.stderr[-3000:]}")
        counts = [_total(Path(directory, f"out.{n}")) for n in range(1, 2 * len(SEGMENTS) + 1)]
    # Every second one is a segment, those between are what leads up to it.
    return {
        name: counts[2 * index + 1] / (ROUNDS * CONNECTIONS) for index, name in enumerate(SEGMENTS)
    }


def measure_start() -> float:
    """Thousands of instructions of a start, a Metadata answer, and a stop."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "out")
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        _start_once([])  # writes byte code
        _start_once(valgrind)
        return _total(out) / 1000


def _start_once(runner: list[str]) -> None:
    import frames

    from trio_kafka_net.protocol.messages import MetadataRequest

    command = [*runner, sys.executable, "-m", "trio_kafka_net", "broker", "--in-memory"]
    command += ["--metrics", "127.0.0.1:0", "--listener", "PLAINTEXT://127.0.0.1:0"]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2].split()[0])
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(frames.a_frame(MetadataRequest(topics=None), 12))
                size = int.from_bytes(client.recv(4, socket.MSG_WAITALL), "big")
                client.recv(size, socket.MSG_WAITALL)
        finally:
            process.terminate()


def _total(dump: Path) -> int:
    for line in dump.read_text().splitlines():
        if line.startswith(("totals:", "summary:")):
            return int(line.split()[1])
    raise ValueError(f"{dump} has no total")


def in_units(counts: dict[str, float]) -> dict[str, float]:
    """The figures divided by the reference's."""
    reference = counts["reference"] / 5
    return {name: round(counts[name] / reference, 2) for name in (*SEGMENTS[1:], COLD_START)}


def main() -> None:
    """Measure; compare; exit code 1 if worse than the baseline by more than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    if options.work:
        work()
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    counts = {**measure(), COLD_START: measure_start()}
    units = in_units(counts)
    baselines: dict[str, dict[str, float]] = json.loads(BASELINE.read_text())
    version, baseline, tolerance = find_baseline(baselines)
    print(f"# Python {platform.python_version()}; baseline of {version}, tolerance {tolerance:.0%}")
    print(f"{'':<16} {'instructions':>12} {'units':>8} {'baseline':>8} {'change':>7}")
    worse = []
    for name, figure in units.items():
        before = baseline.get(name, figure)
        change = figure / before - 1
        print(f"{name:<16} {counts[name]:12,.0f} {figure:8.2f} {before:8.2f} {change:+7.1%}")
        if change > tolerance:
            worse.append(name)
    if options.update:
        baselines[platform.python_version()] = units
        BASELINE.write_text(json.dumps(baselines, indent=2, sort_keys=True) + "\n")
    if options.check and worse:
        print(f"more instructions than before: {', '.join(worse)}")
        print("If that is what the change is worth: python benchmarks/instructions.py --update")
        raise SystemExit(1)


def find_baseline(baselines: dict[str, dict[str, float]]) -> tuple[str, dict[str, float], float]:
    """The version to compare with, its units, and by how much ours may be above them."""
    version = platform.python_version()
    if version in baselines:
        return version, baselines[version], TOLERANCE
    minor = version.rpartition(".")[0] + "."
    neighbour = max((each for each in baselines if each.startswith(minor)), default=None)
    if neighbour is None:
        return "nothing", {}, TOLERANCE
    return neighbour, baselines[neighbour], NEIGHBOUR_TOLERANCE


if __name__ == "__main__":
    main()
