"""What one append costs: checks, CRC, stamping and the write, without network and protocol.

    python benchmarks/log_append.py [directory]

The directory decides what is measured: tmpfs shows our own cost, a disk adds its page cache.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.protocol.records import Record, build_batch

ROUNDS = 7


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def measure(log: UnifiedLog, batch: bytes, count: int) -> tuple[float, float]:
    """Seconds per append, and per write(2) of the same bytes: median over the rounds."""
    appends, writes = [], []
    for _ in range(ROUNDS):
        views = [memoryview(bytearray(batch)) for _ in range(count)]
        start = time.perf_counter()
        for view in views:
            log.append(view, leader_epoch=0)
        appends.append((time.perf_counter() - start) / count)
        fd = os.open(log.directory / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        start = time.perf_counter()
        for view in views:
            os.write(fd, view)
        writes.append((time.perf_counter() - start) / count)
        os.close(fd)
        os.unlink(log.directory / "bare")
    return statistics.median(appends), statistics.median(writes)


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"{'batch':>34} {'µs/append':>10} {'MB/s':>8} {'bare write µs':>14}")
    for records, value_bytes, count in ((1, 100, 5000), (100, 1000, 500), (1000, 1000, 50)):
        batch = build_batch([Record(timestamp=now_ms(), value=bytes(value_bytes))] * records)
        with tempfile.TemporaryDirectory(dir=parent) as directory:
            log = UnifiedLog.open(Path(directory), ("bench", 0), LogConfig(), now_ms=now_ms)
            append, write = measure(log, batch, count)
        name = f"{records} × {value_bytes} B ({len(batch):,} bytes)"
        megabytes = len(batch) / append / 1e6
        print(f"{name:>34} {append * 1e6:>10.2f} {megabytes:>8.0f} {write * 1e6:>14.2f}")


if __name__ == "__main__":
    main()
