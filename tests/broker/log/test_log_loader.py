"""Opening a log after a crash: every way a file can be torn, and what is said about it."""

from __future__ import annotations

import logging
import shutil

import pytest

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment_file import SegmentFile

SMALL = LogConfig(segment_bytes=200, index_interval_bytes=0)
ACTIVE = "00000000000000000004.log"


@pytest.fixture
def five_batches(storage):
    """Segments at 0, 2 and 4; the last one holds one batch."""
    log = storage.open_log(SMALL)
    for number in range(5):
        storage.append(log, b"%d" % number, leader_epoch=number)
    log.flush()
    return storage


def values(log, read_log):
    return [value for _, value in read_log(log)]


def test_log_torn_at_any_byte_keeps_every_whole_batch(storage, read_log):
    log = storage.open_log()
    sizes = [0]
    for number in range(4):
        storage.append(log, b"%d" % number)
        sizes.append(log.size_in_bytes)
    content = (storage.path / "00000000000000000000.log").read_bytes()

    for length in range(len(content) + 1):
        (storage.path / "00000000000000000000.log").write_bytes(content[:length])
        log = storage.open_log()

        whole = sum(size <= length for size in sizes) - 1
        assert log.log_end_offset == whole
        assert log.size_in_bytes == sizes[whole]
        assert storage.append(log, b"next").first_offset == whole
        assert values(log, read_log)[-1] == b"next"


def test_log_with_a_flipped_byte_ends_before_that_batch(five_batches, read_log):
    path = five_batches.path / ACTIVE
    content = path.read_bytes()
    # Outside the CRC lie base offset, length, leader epoch and magic. An offset a little too large
    # looks like a gap that compaction left, an epoch like another one: the format cannot tell.
    for position in [*range(5), *range(8, 12), *range(16, len(content))]:
        damaged = bytearray(content)
        damaged[position] ^= 0x80
        path.write_bytes(damaged)

        log = five_batches.open_log(SMALL)

        assert values(log, read_log) == [b"0", b"1", b"2", b"3"]
        assert log.log_end_offset == 4


def test_zeros_after_the_last_batch_are_cut_off(five_batches, read_log):
    """What some file systems leave after a power loss: the size grew, the data did not arrive."""
    path = five_batches.path / ACTIVE
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(5000))

    log = five_batches.open_log(SMALL)

    assert len(values(log, read_log)) == 5
    assert path.stat().st_size == size


def test_damage_in_the_middle_removes_the_later_segments(five_batches, read_log, caplog):
    path = five_batches.path / "00000000000000000002.log"
    content = path.read_bytes()
    path.write_bytes(content[:-1])

    with caplog.at_level(logging.WARNING):
        log = five_batches.open_log(SMALL)

    assert values(log, read_log) == [b"0", b"1", b"2"]
    assert log.segment_count == 2
    assert not (five_batches.path / ACTIVE).exists()
    assert log.leader_epochs.entries == ((0, 0), (1, 1), (2, 2))
    message = caplog.messages[-1]
    assert str(path) in message
    assert f"cut off {len(content) // 2 - 1} bytes at byte {len(content) // 2}" in message
    assert "ends at offset 3; 1 later segments removed" in message


def test_nothing_before_the_recovery_point_is_checked(five_batches):
    read = []

    class Recording(SegmentFile):
        def read(self, count, position):
            read.append(self.path.name)
            return super().read(count, position)

    log = five_batches.open_log(SMALL, recovery_point=4, open_file=Recording)

    assert set(read) <= {"00000000000000000002.log", ACTIVE}  # the snapshot at 4 needs no more
    assert log.log_end_offset == 5


def test_nothing_is_checked_after_a_clean_stop(five_batches, read_log):
    five_batches.open_log(SMALL).close()
    path = five_batches.path / ACTIVE
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)

    log = five_batches.open_log(SMALL, is_clean=True)

    assert log.log_end_offset == 5


def test_a_torn_end_is_noticed_even_after_a_clean_stop(five_batches, read_log):
    five_batches.open_log(SMALL).close()
    path = five_batches.path / ACTIVE
    path.write_bytes(path.read_bytes()[:-1])

    log = five_batches.open_log(SMALL, is_clean=True)

    assert values(log, read_log) == [b"0", b"1", b"2", b"3"]


def test_indexes_are_rebuilt_as_they_were(storage):
    config = LogConfig(index_interval_bytes=0)
    log = storage.open_log(config)
    for number in range(9):
        storage.append(log, b"%d" % number, timestamp=1000 + number % 4)
    log.close()
    index, time_index = (
        (storage.path / f"00000000000000000000.{name}").read_bytes()
        for name in ("index", "timeindex")
    )

    storage.open_log(config)

    assert (storage.path / "00000000000000000000.index").read_bytes() == index
    assert (storage.path / "00000000000000000000.timeindex").read_bytes() == time_index


def test_recovery_point_beyond_the_end_is_corrected(five_batches):
    log = five_batches.open_log(SMALL, recovery_point=99)

    assert log.recovery_point == 5


def test_log_start_offset_of_the_checkpoint_holds(five_batches, read_log):
    log = five_batches.open_log(SMALL, log_start_offset=3)

    assert values(log, read_log) == [b"3", b"4"]
    assert log.leader_epochs.entries[0] == (3, 3)


def test_log_start_offset_beyond_the_end_begins_anew(five_batches, read_log):
    log = five_batches.open_log(SMALL, log_start_offset=50)

    assert (log.log_start_offset, log.log_end_offset, log.segment_count) == (50, 50, 1)
    five_batches.append(log, b"x")
    assert read_log(log) == [(50, b"x")]
    assert sorted(path.name for path in five_batches.path.glob("*.log")) == [
        "00000000000000000050.log"
    ]


def test_index_files_without_a_log_are_removed(five_batches):
    orphan = five_batches.path / "00000000000000000077.index"
    orphan.write_bytes(b"")

    five_batches.open_log(SMALL)

    assert not orphan.exists()


def test_snapshots_beyond_the_end_are_removed(five_batches):
    stray = five_batches.path / "00000000000000000077.snapshot"
    stray.write_bytes(b"")

    five_batches.open_log(SMALL)

    assert not stray.exists()


def test_recovery_is_repeatable(five_batches, read_log, tmp_path_factory):
    """A crash during or right after recovery finds nothing new."""
    path = five_batches.path / ACTIVE
    path.write_bytes(path.read_bytes()[:-3])
    five_batches.open_log(SMALL)
    copy = tmp_path_factory.mktemp("copy") / "log"
    shutil.copytree(five_batches.path, copy)

    log = five_batches.open_log(SMALL)

    assert len(values(log, read_log)) == 4
    assert {p.name: p.read_bytes() for p in five_batches.path.iterdir()} == {
        p.name: p.read_bytes() for p in copy.iterdir()
    }
