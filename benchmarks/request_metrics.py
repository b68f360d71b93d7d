"""What the figures of one finished request cost, in µs.

python benchmarks/request_metrics.py
"""

from __future__ import annotations

import platform
from timeit import repeat
from types import SimpleNamespace

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import Histogram, MetricsRegistry
from trio_kafka_net.metrics.request_metrics import RequestMetrics

ROUNDS = 100_000


class FinishedRequest(SimpleNamespace):
    """Times of an ordinary request: 60 µs, nothing parked or throttled."""

    __slots__ = ()


def main() -> None:
    """Measure each piece; best of five."""
    request = FinishedRequest(
        start_time_ns=1_000,
        dequeue_time_ns=21_000,
        local_complete_time_ns=51_000,
        parked_time_ns=0,
        response_complete_time_ns=51_000,
        response_dequeue_time_ns=55_000,
        end_time_ns=61_000,
        throttle_time_ms=0,
        response_bytes=100,
    )
    api = RequestMetrics(MetricsRegistry(), "data", {0: "NONE"}).api("Produce")
    counter = MetricsRegistry().counter(names.REQUESTS).labels("data", "Produce", "9")
    histogram = Histogram(names.REQUEST_PHASE)
    no_error = {0: 1}

    def count() -> None:
        counter.value += 1

    pieces = {
        "call of an empty function": lambda: None,
        "counter": count,
        "histogram observe": lambda: histogram.observe(60_000),
        "record: 8 histograms, 2 counters": lambda: api.record(request, 9, 100),
        "record_errors": lambda: api.record_errors(no_error),
    }
    print(f"# Python {platform.python_version()}, µs per call")
    for name, piece in pieces.items():
        best = min(repeat(piece, number=ROUNDS, repeat=5)) / ROUNDS
        print(f"{name:>34} {best * 1e6:6.2f}")


if __name__ == "__main__":
    main()
