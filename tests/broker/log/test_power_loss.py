"""What a log promises of the device, against a device that keeps no more than it was told to."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.storage_helpers import START_MS, Storage, read_values
from trio_kafka_net.broker.log.log_config import LogConfig


class Device:
    """Contents and names of files as they were when somebody last waited for them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.syncs = 0
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._pins: dict[int, int] = {}  # so that no inode number is given twice

    def forget(self) -> None:
        """Know of no file any more."""
        for fd in self._pins.values():
            os.close(fd)
        for known in (self._pins, self._contents, self._names):
            known.clear()

    def sync(self, fd: int) -> None:
        """Take the place of ``os.fsync``."""
        self.syncs += 1
        if os.path.samestat(os.fstat(fd), self.path.stat()):
            self._names = {path.name: self._pin(path) for path in self.path.iterdir()}
        else:
            path = Path(os.readlink(f"/proc/self/fd/{fd}"))
            if path.parent == self.path:
                self._contents[self._pin(path)] = path.read_bytes()

    def _pin(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._pins:
            self._pins[inode] = os.open(path, os.O_RDONLY)
        return inode

    def lose_power(self, lucky: int) -> None:
        """Leave what is on the device.

        Args:
            lucky: bits; the lowest one says that names are as they are now, two each that the
                content of a file is (01), or has its size, but zeros in it (10).
        """
        names = {path.name: self._pin(path) for path in self.path.iterdir()}
        if not lucky & 1:
            names = dict(self._names)
        left = {}
        for number, (name, inode) in enumerate(sorted(names.items()), start=1):
            content = self._contents.get(inode, b"")
            fd = self._pins[inode]
            size = os.fstat(fd).st_size
            match lucky >> 2 * number & 3:
                case 1:
                    content = os.pread(fd, size, 0)
                case 2:
                    content = content.ljust(size, b"\0")
            left[name] = content
        shutil.rmtree(self.path)
        self.path.mkdir()
        self.forget()
        for name, content in left.items():
            (self.path / name).write_bytes(content)
            with (self.path / name).open("rb") as file:
                os.fsync(file.fileno())
        self._names = {path.name: self._pin(path) for path in self.path.iterdir()}


def producers_of(log):
    return [
        (each.producer_id, each.epoch, each.last_sequence, each.last_timestamp)
        for each in log.producers
    ]


class Walk:
    """A log and what it should hold; every step is chosen by a generator of random numbers."""

    def __init__(self, storage: Storage, device: Device, choose: random.Random) -> None:
        self.storage, self.device, self.choose = storage, device, choose
        self.config = LogConfig(
            segment_bytes=choose.choice([300, 600, 10_000]),
            index_interval_bytes=choose.choice([0, 200]),
        )
        self.batches: list[tuple[int, list[bytes]]] = []  # base offset, values
        self.start = self.end = 0
        self.counter = self.epoch = 0
        self.may_return = False  # what was cut off, for nobody waited for that yet
        self.log = storage.open_log(self.config, is_clean=True)

    def _reopen(self, *, is_clean):
        self.log = self.storage.open_log(
            self.config,
            is_clean=is_clean,
            recovery_point=self.log.recovery_point,
            log_start_offset=self.start,
        )

    def append(self):
        count, size = self.choose.randint(1, 4), self.choose.randint(0, 30)
        values = [b"%d:" % (self.counter + n) + bytes(size) for n in range(count)]
        self.counter += count
        producer = {}
        if self.choose.random() < 0.5:
            # The first batch of a new epoch, which any log takes.
            self.epoch += 1
            producer = {"producer_id": 7, "producer_epoch": self.epoch, "base_sequence": 0}
        self.storage.append(self.log, *values, timestamp=START_MS + self.counter, **producer)
        self.batches.append((self.end, values))
        self.end += count
        self.log.high_watermark = self.end

    def flush(self):
        before = self.device.syncs
        self.log.flush()
        if self.device.syncs > before and self.log.active_size:
            self.may_return = False

    def truncate(self):
        # Mostly little: what there is should grow.
        least = self.choose.choice([self.start, self.end, max(self.start, self.end - 6)])
        self.log.truncate_to(self.choose.randint(least, self.end))
        self.may_return = True
        self._cut()

    def delete_records(self):
        self.start = self.choose.randint(self.start, self.end)
        self.log.delete_records(self.start)
        self.log.delete_segments(self.log.take_old_segments())

    def stop(self):
        self.log.close()
        self.may_return = False
        self._reopen(is_clean=True)

    def kill(self):
        self._reopen(is_clean=False)

    def stop_and_lose_power(self):
        self.log.close()
        self.may_return = False
        before = producers_of(self.log)
        self.device.lose_power(self._luck())
        self._reopen(is_clean=True)
        assert producers_of(self.log) == before

    def lose_power(self):
        if self.may_return:
            return
        flushed = self.log.recovery_point
        self.device.lose_power(self._luck())
        self._reopen(is_clean=False)
        assert self.log.log_end_offset >= flushed
        # Of what was not flushed, any batch may be lost: files reach the device in any order.
        left = {offset for offset, _ in read_values(self.log, self.start)}
        self.batches = [
            (base, values)
            for base, values in self.batches
            if base + len(values) <= flushed or base + len(values) - 1 in left
        ]
        self._cut()

    def _luck(self):
        return self.choose.choice([0, 1, self.choose.getrandbits(32)])

    def _cut(self):
        end = self.log.log_end_offset
        self.batches = [each for each in self.batches if each[0] + len(each[1]) <= end]
        self.end = end
        self.start = self.log.log_start_offset

    def check(self):
        expected = [
            (base + number, value)
            for base, values in self.batches
            for number, value in enumerate(values)
            if base + number >= self.start
        ]
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        assert read_values(self.log) == expected
        for offset, value in expected[::5]:
            assert read_values(self.log, offset)[0] == (offset, value)
            found = self.log.find_timestamp(START_MS + int(value.split(b":")[0]) + 1)
            assert found is not None
            assert found.offset <= offset


@pytest.fixture
def device(tmp_path, monkeypatch) -> Iterator[Device]:
    (tmp_path / "topic-0").mkdir()
    device = Device(tmp_path / "topic-0")
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, device.sync)
    yield device
    device.forget()


@pytest.mark.parametrize("seed", range(40))
def test_what_was_flushed_or_closed_outlives_a_power_cut(seed, device, clock):
    walk = Walk(Storage(device.path, clock), device, random.Random(seed))
    steps = [
        *[walk.append] * 8,
        *[walk.flush, walk.truncate, walk.delete_records, walk.stop, walk.kill],
        *[walk.stop_and_lose_power, walk.lose_power],
    ]
    for _ in range(60):
        walk.choose.choice(steps)()
        walk.check()


def test_a_log_to_which_nothing_happened_is_closed_without_the_device(device, clock):
    storage = Storage(device.path, clock)
    storage.open_log(is_clean=True).close()
    assert device.syncs == 0
    log = storage.open_log(is_clean=True)
    storage.append(log, b"a", producer_id=7, producer_epoch=0, base_sequence=0)
    log.close()
    device.syncs = 0

    again = storage.open_log(is_clean=True, recovery_point=1)
    again.leader_epochs.assign(5, 1)  # a leadership without an append
    again.flush()
    again.close()

    assert device.syncs == 0
    assert producers_of(storage.open_log(is_clean=True)) == producers_of(log) != []


def test_a_segment_that_is_sealed_during_a_flush_is_flushed_by_the_next_one(
    device, clock, monkeypatch
):
    storage = Storage(device.path, clock)
    log = storage.open_log(LogConfig(segment_bytes=200, index_interval_bytes=0), is_clean=True)
    storage.append(log, b"a")
    storage.append(log, b"b")
    roll = log._segments.roll

    def roll_while_a_thread_flushes(base_offset):
        sealed = roll(base_offset)
        log.flush()
        return sealed

    monkeypatch.setattr(log._segments, "roll", roll_while_a_thread_flushes)
    storage.append(log, b"c")
    log.flush()
    device.lose_power(0)

    assert (device.path / "00000000000000000000.index").stat().st_size > 0


def test_what_recovery_cut_off_does_not_come_back(device, clock):
    storage = Storage(device.path, clock)
    log = storage.open_log(is_clean=True)
    storage.append(log, b"a")
    log.flush()
    size = log.active_size
    storage.append(log, b"torn")
    path = device.path / "00000000000000000000.log"
    with path.open("r+b") as file:
        file.seek(size + 20)
        file.write(b"\xff")
        os.fsync(file.fileno())

    recovered = storage.open_log(recovery_point=1)
    assert recovered.log_end_offset == 1
    device.lose_power(0)

    assert path.stat().st_size == size


def test_what_was_truncated_does_not_come_back_after_the_next_stop(device, clock):
    storage = Storage(device.path, clock)
    config = LogConfig(segment_bytes=200)
    log = storage.open_log(config, is_clean=True)
    storage.append(log, b"a")
    size = log.active_size
    storage.append(log, b"b")
    log.flush()
    log.truncate_to(1)
    storage.append(log, b"c" * 100)  # in a segment of its own, and nobody waits for the device
    log = storage.open_log(config, recovery_point=log.recovery_point)
    log.close()
    device.lose_power(0)

    assert (device.path / "00000000000000000000.log").stat().st_size == size
