"""What it costs to watch a broker: the monitor's process, and the broker's share.

    python benchmarks/watching.py [--seconds 20]

* process:  CPU time of ``monitor`` on a terminal at one snapshot per second, as a share of one core
* broker:   CPU time of a broker without clients, first alone, then watched from outside; and
            of one that has the monitor inside, ``broker --monitor``

CPU time, not elapsed time: other programs on the machine do not count. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    seconds = parser.parse_args().seconds
    measure_processes(seconds)


def measure_processes(seconds: int) -> None:
    listeners = ["--listener", "PLAINTEXT://127.0.0.1:0", "--in-memory"]
    with program("broker", *listeners, "--metrics", "127.0.0.1:0") as (broker, output):
        address = output.split("METRICS ")[1].split()[0]
        alone = share(broker, seconds)
        with program("monitor", address) as (monitor, _):
            watched, own = shares([broker, monitor], seconds)
    with program("broker", *listeners, "--metrics", "off", "--monitor") as (both, _):
        together = share(both, seconds)
    print(f"monitor process, 1 Hz                   {own:6.1%} of a core")
    print(f"idle broker, not watched                {alone:6.1%}")
    print(f"idle broker, watched                    {watched:6.1%}")
    print(f"idle broker with the monitor inside     {together:6.1%}")


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[tuple[int, str]]:
    """``trio_kafka_net`` on a terminal of 120x40; its process id, and what it said at first."""
    person, own = pty.openpty()
    os.environ.update(COLUMNS="120", LINES="40", TERM="xterm-256color")
    command = [sys.executable, "-m", "trio_kafka_net", *arguments]
    process = subprocess.Popen(command, stdin=own, stdout=own, stderr=subprocess.DEVNULL)
    os.close(own)
    said = b""
    while b"ready" not in said and b"\x1b[?1049h" not in said:
        said += os.read(person, 65536)
    reader = threading.Thread(target=drain, args=(person,), daemon=True)
    reader.start()
    # The start is not what is measured.
    time.sleep(3)
    try:
        yield process.pid, said.decode(errors="replace")
    finally:
        process.terminate()
        process.wait()


def drain(fd: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(fd, 65536):
            pass


def share(pid: int, seconds: int) -> float:
    return shares([pid], seconds)[0]


def shares(pids: list[int], seconds: int) -> list[float]:
    before = [cpu_seconds(pid) for pid in pids]
    begin = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - begin
    return [(cpu_seconds(pid) - b) / elapsed for pid, b in zip(pids, before, strict=True)]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


if __name__ == "__main__":
    main()
