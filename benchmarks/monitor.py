"""What a screen costs: reading a page of metrics, moving the window on, drawing.

Run: ``python benchmarks/monitor.py [--topics 100] [--partitions 10]``
"""

import argparse
import statistics
import time

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.columns import View
from trio_kafka_net.monitor.frame import frame
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.theme import THEMES
from trio_kafka_net.monitor.ui_state import UiState
from trio_kafka_net.monitor.window import Window

APIS = 30
PHASES = ("queue", "local", "remote", "throttle", "response_queue", "send", "total")
ROUNDS = 30


def page_of(second: int, topics: int, partitions: int) -> str:
    """A page of a server with so many topics, each with so many partitions."""
    lines = []
    for api in range(APIS):
        request = f'plane="data",request="Api{api}"'
        lines.append(f'{names.REQUESTS.name}{{{request},version="9"}} {1000 + second * api}')
        lines.append(f'{names.ERRORS.name}{{{request},error="NONE"}} {1000 + second * api}')
        for phase in PHASES:
            labels = f'{request},phase="{phase}"'
            name = names.REQUEST_PHASE.name
            lines += [
                f'{name}_bucket{{{labels},le="{bound * 1e-9:g}"}} {second * api}'
                for bound in names.PHASE_BOUNDS_NS
            ]
            lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {second * api}')
            lines.append(f"{name}_sum{{{labels}}} {0.001 * second * api}")
            lines.append(f"{name}_count{{{labels}}} {second * api}")
    for topic in range(topics):
        lines += [
            f'{metric.name}{{topic="topic-{topic}"}} {second * topic * 100}'
            for metric in (names.MESSAGES_IN, names.TOPIC_BYTES_IN, names.TOPIC_BYTES_OUT)
        ]
        for partition in range(partitions):
            labels = f'topic="topic-{topic}",partition="{partition}"'
            lines += [
                f"{metric.name}{{{labels}}} {second * (topic + 1)}"
                for metric in (
                    names.LOG_SIZE,
                    names.LOG_SEGMENTS,
                    names.LOG_START_OFFSET,
                    names.LOG_END_OFFSET,
                )
            ]
    return "\n".join(lines) + "\n"


def told(what: str, seconds: list[float]) -> None:
    """Print the median and the worst."""
    median, worst = statistics.median(seconds), max(seconds)
    print(f"{what:<28} median {median * 1e3:6.2f} ms   worst {worst * 1e3:6.2f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=10)
    arguments = parser.parse_args()
    pages = [page_of(second, arguments.topics, arguments.partitions) for second in range(ROUNDS)]
    print(f"{pages[0].count(chr(10))} lines, {len(pages[-1]) / 1e3:.0f} kB")
    window = Window(source="127.0.0.1:9404")
    parsing, moving = [], []
    drawing: dict[View, list[float]] = {view: [] for view in View}
    for second, page in enumerate(pages):
        start = time.perf_counter()
        snapshot = Snapshot.parse(page, time=1e9 + second, taken=float(second))
        parsed = time.perf_counter()
        window.add(snapshot)
        moved = time.perf_counter()
        parsing.append(parsed - start)
        moving.append(moved - parsed)
        for view in View:
            window._memory.clear()  # as after a new snapshot
            start = time.perf_counter()
            frame(window, (120, 40), UiState(view=view), THEMES["dark"])
            drawing[view].append(time.perf_counter() - start)
    told("page, first", parsing[:1])
    told("page, then", parsing[1:])
    told("window", moving[1:])
    for view, seconds in drawing.items():
        told(f"frame 120x40 {view.title}", seconds[1:])


if __name__ == "__main__":
    main()
