"""How long a broker takes from nothing to its first answer, and what it weighs then.

    python benchmarks/cold_start.py [runs]

Cold start: from starting ``python -m trio_kafka_net broker``, with a fresh data directory and free
ports, to the last byte of its first Metadata response. Resident memory is read from /proc right
after it. Beside it what the same interpreter takes to do nothing, and to import trio, which no
broker on trio can be faster than.

Byte code is there, as after an installation: whoever has PYTHONDONTWRITEBYTECODE set would else
measure the compiler, some 150 ms. So one start goes before the others.

In a running process: from ``open_broker`` to the same answer.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio
from pairs import Effort, Goal, Row, alone

from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.messages import MetadataRequest
from trio_kafka_net.testing.client import RawClient


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    cold_start()
    cold = [cold_start() for _ in range(runs)]
    report("interpreter, nothing else", [interpreter("pass") for _ in range(runs)])
    report("interpreter and `import trio`", [interpreter("import trio") for _ in range(runs)])
    report("cold start to first Metadata", [seconds for seconds, _ in cold])
    report("opened in a running process", trio.run(opened_in_process, runs))
    megabytes = [kib / 1024 for _, kib in cold]
    print(f"{'resident memory':<30} median {statistics.median(megabytes):6.1f} MiB")


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about the start."""
    runs = effort.pairs + 2
    cold_start()  # byte code is written, files are read into memory
    cold = [cold_start() for _ in range(runs)]
    opened = trio.run(opened_in_process, runs + 1)[1:]
    goal = Goal(300, is_most=True, obstacle="imports")
    starts = [seconds * 1e3 for seconds, _ in cold]
    yield alone("cold start to the first Metadata", "ms", starts, goal)
    goal = Goal(10, is_most=True, obstacle="files")
    yield alone("a broker opened in a process", "ms", [each * 1e3 for each in opened], goal)
    megabytes = [kib * 1024 / 1e6 for _, kib in cold]
    goal = Goal(40, is_most=True, obstacle="imports")
    yield alone("resident memory of an idle broker", "MB", megabytes, goal)


def report(name: str, seconds: list[float]) -> None:
    print(
        f"{name:<30} median {statistics.median(seconds) * 1000:6.1f} ms"
        f"   min {min(seconds) * 1000:6.1f} ms   ({len(seconds)} runs)"
    )


def interpreter(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def cold_start() -> tuple[float, int]:
    """Seconds to the first Metadata response, and resident KiB after it."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "trio_kafka_net", "broker", "--metrics", "127.0.0.1:0"]
        command += ["--listener", "PLAINTEXT://127.0.0.1:0", "--data-dir", f"{directory}/data"]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        begin = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().split()[2]
                trio.run(ask_metadata, int(address.rpartition(":")[2]))
                elapsed = time.perf_counter() - begin
                status = Path(f"/proc/{process.pid}/status").read_text()
            finally:
                process.terminate()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return elapsed, int(resident.split()[1])


async def ask_metadata(port: int) -> None:
    async with await RawClient.connect("127.0.0.1", port) as client:
        response = await client.request(MetadataRequest(topics=None), 12)
    assert response.brokers


async def opened_in_process(runs: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as directory:
            begin = time.perf_counter()
            config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), log_dirs=directory)
            async with open_broker(config) as broker:
                await ask_metadata(broker.bound_listeners[0].port)
                seconds.append(time.perf_counter() - begin)
    return seconds


if __name__ == "__main__":
    main()
