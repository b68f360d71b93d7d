"""What the console monitor costs: a frame, its process, and the broker that it watches.

    python benchmarks/monitor.py [--seconds 20]

* frames:   CPU time of a snapshot read, of a frame made, and of its lines written, from the
            recording of the demonstration, in two sizes
* process:  CPU time of ``monitor`` on a terminal at one snapshot per second, as a share of one core
* broker:   CPU time of a broker without clients, first alone, then watched from outside; and
            of one that has the monitor inside, ``broker --monitor``

CPU time, not elapsed time: other programs on the machine do not count. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from trio_kafka_net.monitor.frame import frame
from trio_kafka_net.monitor.page import format_labels
from trio_kafka_net.monitor.recording import read_recording
from trio_kafka_net.monitor.screen import Screen
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.theme import THEMES
from trio_kafka_net.monitor.ui_state import UiState
from trio_kafka_net.monitor.window import Window

RECORDING = Path(__file__).parent.parent / "tests" / "data" / "monitor-demo.jsonl.gz"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SIZES = ((120, 40), (80, 24))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    seconds = parser.parse_args().seconds
    measure_frames()
    measure_processes(seconds)


# -- frames ---------------------------------------------------------------------------------------


def measure_frames() -> None:
    snapshots = list(read_recording(RECORDING))
    page = as_page(snapshots[-1])
    series = sum(len(family) for family in snapshots[-1].samples.values())
    Snapshot.parse(page, time=0, taken=0)
    reading = [cpu_ms(lambda: Snapshot.parse(page, time=0, taken=0)) for _ in range(20)]
    print(f"snapshot of {series:,} series read           {median(reading):6.2f} ms")
    for size in SIZES:
        window = Window(source="127.0.0.1:9404")
        console = Console(file=io.StringIO(), force_terminal=True, width=size[0], height=size[1])
        theme = THEMES["dark"]
        screen = Screen(console, theme.styles)
        made, written = [], []
        for snapshot in snapshots:
            window.add(snapshot)
            lines = []
            made.append(cpu_ms(lambda: lines.extend(frame(window, size, UiState(), theme))))  # noqa: B023 - called at once
            written.append(cpu_ms(lambda: screen.draw(lines, size)))  # noqa: B023 - called at once
        print(
            f"frame of {size[0]}x{size[1]:<3}  made {median(made[2:]):6.2f} ms"
            f"   changed lines written {median(written[2:]):6.2f} ms"
        )


def as_page(snapshot: Snapshot) -> str:
    """The text that the snapshot was read from, but for its comments."""
    return "".join(
        f"{name}{{{format_labels(labels)}}} {value}\n" if labels else f"{name} {value}\n"
        for name, family in snapshot.samples.items()
        for labels, value in family.items()
    )


def cpu_ms(call: object) -> float:
    begin = time.process_time()
    assert callable(call)
    call()
    return (time.process_time() - begin) * 1e3


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


# -- processes ------------------------------------------------------------------------------------


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
