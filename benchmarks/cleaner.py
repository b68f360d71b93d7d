"""What compaction costs: its own speed, and what the event loop has to wait for it meanwhile.

    python benchmarks/cleaner.py [directory]

A log of keyed records is compacted while a task measures how late it wakes up, as a request would.
The same task is measured without compaction for comparison. The speed is that of a background task
that rests half of the time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from trio_kafka_net.broker.log.log_cleaner import LogCleaner
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.config import LogCleanerConfig
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.records import Record, build_batch

MEGABYTE = 1_000_000
PROBE_SECONDS = 0.001
IDLE_SECONDS = 1.0

CASES = [  # (records a batch, bytes a value, codec, MB)
    (100, 100, Compression.NONE, 20),
    (100, 1000, Compression.NONE, 60),
    (1, 200, Compression.NONE, 5),
    (100, 1000, Compression.LZ4, 60),
    (1000, 1000, Compression.ZSTD, 60),
]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def batches(records: int, value_bytes: int, codec: Compression) -> Iterator[bytes]:
    """Batches over ten thousand keys, again and again."""
    number = 0
    while True:
        listed = []
        for _ in range(records):
            key = b"customer-%08d" % (number * 7919 % 10_000)
            value = (b"%d " % number) * (value_bytes // len(b"%d " % number) + 1)
            listed.append(Record(timestamp=now_ms(), key=key, value=value[:value_bytes]))
            number += 1
        yield build_batch(listed, compression=codec)


def fill(path: Path, case: tuple[int, int, Compression, int]) -> UnifiedLog:
    records, value_bytes, codec, megabytes = case
    config = LogConfig(
        cleanup_policy=frozenset({"compact"}),
        segment_bytes=8 * MEGABYTE,
        min_cleanable_dirty_ratio=0.0,
    )
    log = UnifiedLog.open(path, ("bench", 0), config, now_ms=now_ms)
    made = 0
    for batch in batches(records, value_bytes, codec):
        log.append(memoryview(bytearray(batch)), leader_epoch=0)
        made += records * value_bytes
        if made > megabytes * MEGABYTE:
            break
    log.roll()
    log.high_watermark = log.log_end_offset
    log.flush()
    return log


async def probe(late: list[float]) -> None:
    """Note how late a sleep of a millisecond ends, again and again."""
    while True:
        due = time.perf_counter() + PROBE_SECONDS
        await trio.sleep(PROBE_SECONDS)
        late.append(time.perf_counter() - due)


async def measure(log: UnifiedLog | None) -> tuple[float, list[float]]:
    """Seconds of one pass, or of idling, and how late the probe was."""
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe, late)
        await trio.sleep(0.05)
        late.clear()
        start = time.perf_counter()
        if log is None:
            await trio.sleep(IDLE_SECONDS)
        else:
            cleaner = LogCleaner([log], LogCleanerConfig(), checkpoint=lambda: None, now_ms=now_ms)
            assert await cleaner.clean_filthiest()
        seconds = time.perf_counter() - start
        nursery.cancel_scope.cancel()
    return seconds, sorted(late)


def lateness(late: list[float]) -> str:
    median, high = late[len(late) // 2], late[len(late) * 99 // 100]
    return f"{median * 1e3:>8.2f} {high * 1e3:>8.2f} {late[-1] * 1e3:>8.2f}"


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"{'case':>36} {'MB/s':>7} {'records/s':>10}   probe late by ms: median p99 max")
    print(f"{'no compaction':>36} {'':>7} {'':>10}   {lateness(trio.run(measure, None)[1])}")
    for case in CASES:
        records, value_bytes, codec, _ = case
        with tempfile.TemporaryDirectory(dir=parent) as directory:
            log = fill(Path(directory), case)
            size, count = log.size_in_bytes, log.log_end_offset
            seconds, late = trio.run(measure, log)
            assert log.log_end_offset == count
        name = f"{records} × {value_bytes} B a batch, {codec.name.lower()}"
        print(
            f"{name:>36} {size / seconds / MEGABYTE:>7.1f} {count / seconds:>10,.0f}"
            f"   {lateness(late)}"
        )


if __name__ == "__main__":
    main()
