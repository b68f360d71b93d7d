"""Recordings: what was taken comes back, at its pace, from a file that may have been cut off."""

from __future__ import annotations

import gzip

import pytest
import trio

from trio_kafka_net.monitor.http_client import SourceError
from trio_kafka_net.monitor.recording import Recorder, ReplaySource, read_recording
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.sources import EndOfRecording


def snapshot(taken):
    samples = {"up": {(("topic", 'a "quoted"\nname'),): 1.0}, "load": {(): taken}}
    return Snapshot(1000.0 + taken, taken, samples, {"tasks": {"living": 3}})


SNAPSHOTS = [snapshot(float(second)) for second in range(5)]


@pytest.fixture(params=["busy.jsonl", "busy.jsonl.gz"])
def path(request, tmp_path):
    path = tmp_path / request.param
    recorder = Recorder(path)
    for each in SNAPSHOTS:
        recorder.write(each)
    recorder.close()
    return path


def test_what_was_recorded_is_read(path):
    assert SNAPSHOTS == list(read_recording(path))


def test_what_was_written_is_there_before_the_recorder_is_closed(tmp_path, path):
    recorder = Recorder(tmp_path / f"other-{path.name}")
    recorder.write(SNAPSHOTS[0])

    assert SNAPSHOTS[:1] == list(read_recording(tmp_path / f"other-{path.name}"))
    recorder.close()


def test_a_recording_is_never_written_over(path):
    with pytest.raises(FileExistsError):
        Recorder(path)
    assert SNAPSHOTS == list(read_recording(path))


def test_a_recording_is_good_up_to_where_it_was_cut_off(path):
    whole = path.read_bytes()
    counts = set()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        found = list(read_recording(path))
        assert SNAPSHOTS[: len(found)] == found
        counts.add(len(found))

    assert {0, 1, 2, 3, 4} <= counts


def test_what_is_no_recording_is_said_with_its_line(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "at") as file:
        file.write('{"time": 1}\n')

    with pytest.raises(SourceError, match="line 6: not a line of a recording"):
        list(read_recording(path))


def test_a_file_that_is_not_compressed_is_none_that_is(tmp_path):
    (tmp_path / "x.gz").write_text("{}")

    with pytest.raises(SourceError, match=r"cannot read .*x.gz: Not a gzipped file"):
        list(read_recording(tmp_path / "x.gz"))


async def replayed(source):
    """(seconds after the beginning, snapshot) of everything that is left."""
    begin = trio.current_time()
    found = []
    try:
        while True:
            each = await source.take(())
            found.append((trio.current_time() - begin, each))
    except EndOfRecording:
        return found


async def test_a_replay_has_the_pace_of_what_was_recorded(path, autojump_clock):
    source = ReplaySource(path)

    assert [] == list(source.past())
    assert list(enumerate(SNAPSHOTS)) == await replayed(source)


async def test_a_replay_may_be_faster_and_begin_in_the_middle(path, autojump_clock):
    source = ReplaySource(path, speed=4, at=2)

    assert SNAPSHOTS[:2] == list(source.past())
    expected = [(0, SNAPSHOTS[2]), (0.25, SNAPSHOTS[3]), (0.5, SNAPSHOTS[4])]
    assert expected == await replayed(source)


async def test_a_replay_does_not_wait_out_the_night(tmp_path, autojump_clock):
    """Nor does it stumble over a monitor that was started again: its clock is another one."""
    recorder = Recorder(tmp_path / "x")
    for each in (snapshot(50_000.0), snapshot(80_000.0), snapshot(3.0)):
        recorder.write(each)
    recorder.close()
    source = ReplaySource(tmp_path / "x")
    list(source.past())

    assert [0, 10, 10] == [at for at, _ in await replayed(source)]


async def test_an_empty_recording_cannot_be_replayed(tmp_path):
    (tmp_path / "x").write_text("")

    with pytest.raises(SourceError, match="there is no snapshot in it"):
        list(ReplaySource(tmp_path / "x").past())
