"""A data directory of logs: restarts, deletion, checkpoints, background work."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_kafka_net.broker.log import log_manager
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.errors import KafkaError, LogDirFailedError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

TOPIC_ID = bytes(range(16))
CLEAN = ".kafka_cleanshutdown"


@pytest.fixture
def manager(storage):
    manager = storage.open_manager()
    yield manager
    manager.close()


def crash(manager):
    """What the operating system does for a process that is killed: its lock is gone."""
    manager._data_dir.release()


def test_a_second_process_is_refused(storage, manager):
    with pytest.raises(StorageError, match="in use"):
        storage.open_manager()


def test_create_log_makes_kafkas_files(storage, manager):
    log = manager.create_log("topic", 3, TOPIC_ID)
    storage.append(log, b"a")

    names = {path.name for path in (storage.path / "topic-3").iterdir()}
    assert names == {"partition.metadata", "00000000000000000000.log"}
    assert manager.get_log("topic", 3) is log
    assert manager.create_log("topic", 3, TOPIC_ID) is log


def test_create_log_refuses_the_directory_of_another_topic(storage):
    manager = storage.open_manager()
    manager.create_log("topic", 0, TOPIC_ID)
    manager._logs.clear()

    with pytest.raises(StorageError, match="another topic"):
        manager.create_log("topic", 0, bytes(16))
    manager.close()


def test_create_log_with_a_wrong_setting_makes_nothing(storage, manager):
    with pytest.raises(KafkaError) as caught:
        manager.create_log("topic", 0, TOPIC_ID, {"retention.ms": "x"})

    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert not (storage.path / "topic-0").exists()


def test_logs_are_back_after_a_clean_restart_without_any_check(storage, read_log):
    manager = storage.open_manager()
    for topic, index in [("a", 0), ("a", 1), ("b-c.d", 10)]:
        storage.append(manager.create_log(topic, index, TOPIC_ID), b"x")
    manager.close()
    assert (storage.path / CLEAN).exists()

    again = storage.open_manager({"a": {"segment.bytes": "5000"}})

    assert not (storage.path / CLEAN).exists()
    assert sorted(log.topic_partition for log in again) == [("a", 0), ("a", 1), ("b-c.d", 10)]
    assert read_log(again.get_log("b-c.d", 10)) == [(0, b"x")]
    assert again.get_log("a", 0).config.segment_bytes == 5000
    assert again.get_log("b-c.d", 10).config.segment_bytes == 2**30
    again.close()


def test_logs_are_recovered_after_a_crash(storage, read_log):
    manager = storage.open_manager()
    storage.append(manager.create_log("topic", 0, TOPIC_ID), b"x")
    crash(manager)
    with (storage.path / "topic-0" / "00000000000000000000.log").open("ab") as file:
        file.write(b"torn")

    again = storage.open_manager()

    assert read_log(again.get_log("topic", 0)) == [(0, b"x")]
    again.close()


def test_checkpoints_hold_recovery_points_and_log_starts(storage, manager):
    log = manager.create_log("topic", 0, TOPIC_ID)
    storage.append(log, b"a", b"b", b"c")
    log.high_watermark = 3
    log.delete_records(2)

    manager.flush()

    path = storage.path
    assert (path / "recovery-point-offset-checkpoint").read_text() == "0\n1\ntopic 0 3\n"
    assert (path / "log-start-offset-checkpoint").read_text() == "0\n1\ntopic 0 2\n"


def test_deleted_records_stay_deleted_after_a_crash_that_follows_a_checkpoint(storage, read_log):
    manager = storage.open_manager()
    log = manager.create_log("topic", 0, TOPIC_ID)
    storage.append(log, b"a", b"b", b"c")
    log.high_watermark = 3
    log.delete_records(2)
    manager.flush()
    crash(manager)

    again = storage.open_manager()

    assert read_log(again.get_log("topic", 0)) == [(2, b"c")]
    again.close()


def test_damaged_recovery_points_only_cost_time(storage, read_log):
    manager = storage.open_manager()
    storage.append(manager.create_log("topic", 0, TOPIC_ID), b"x")
    manager.close()
    (storage.path / "recovery-point-offset-checkpoint").write_text("?")

    again = storage.open_manager()

    assert read_log(again.get_log("topic", 0)) == [(0, b"x")]
    again.close()


def test_delete_log_frees_the_name_at_once_and_the_files_later(storage, manager, read_log):
    log = manager.create_log("topic", 0, TOPIC_ID)
    storage.append(log, b"old")

    manager.delete_log("topic", 0)

    assert manager.get_log("topic", 0) is None
    (renamed,) = (path.name for path in storage.path.glob("topic-0*"))
    assert renamed == "topic-0." + "00" * 15 + "02-delete"
    with pytest.raises(LogDirFailedError):
        storage.append(log, b"too late")
    storage.append(manager.create_log("topic", 0, bytes(16)), b"new")
    assert read_log(manager.get_log("topic", 0)) == [(0, b"new")]

    manager.remove_deleted()

    assert [path.name for path in storage.path.glob("topic-0*")] == ["topic-0"]


def test_delete_log_of_a_long_name_keeps_the_directorys_name_legal(storage, manager):
    manager.create_log("t" * 249, 0, TOPIC_ID)

    manager.delete_log("t" * 249, 0)

    (renamed,) = storage.path.glob("*-delete")
    assert len(renamed.name) == 255


def test_delete_log_of_nothing_does_nothing(manager):
    manager.delete_log("topic", 0)


def test_a_restart_finishes_an_interrupted_deletion(storage):
    manager = storage.open_manager()
    manager.create_log("topic", 0, TOPIC_ID)
    manager.delete_log("topic", 0)
    crash(manager)

    again = storage.open_manager()

    assert list(storage.path.glob("topic-0*")) == []
    assert len(again) == 0
    again.close()


def test_a_log_that_cannot_be_opened_does_not_stop_the_others(storage, read_log):
    manager = storage.open_manager()
    for topic in ("bad", "good"):
        storage.append(manager.create_log(topic, 0, TOPIC_ID), b"x")
    manager.close()
    log_file = storage.path / "bad-0" / "00000000000000000000.log"
    log_file.rename(log_file.with_suffix(".bak"))
    log_file.mkdir()

    again = storage.open_manager()

    assert list(again.failures) == [("bad", 0)]
    assert read_log(again.get_log("good", 0)) == [(0, b"x")]
    again.close()
    assert not (storage.path / CLEAN).exists()


def test_an_offline_log_keeps_the_stop_from_being_called_clean(storage, read_log):
    manager = storage.open_manager()
    storage.append(manager.create_log("a", 0, TOPIC_ID), b"x")
    storage.append(manager.create_log("b", 0, TOPIC_ID), b"y")
    manager.get_log("a", 0).failure = OSError("disk on fire")
    manager.flush()
    manager.close()

    assert not (storage.path / CLEAN).exists()
    again = storage.open_manager()
    assert read_log(again.get_log("a", 0)) == [(0, b"x")]
    assert read_log(again.get_log("b", 0)) == [(0, b"y")]
    again.close()


def test_strange_directories_are_left_alone(storage):
    (storage.path / "lost+found").mkdir()
    (storage.path / "no-number-x").mkdir()

    manager = storage.open_manager()

    assert len(manager) == 0
    manager.close()
    assert (storage.path / "no-number-x").is_dir()


async def test_run_flushes_every_now_and_then(storage, nursery, mock_clock, monkeypatch):
    manager = storage.open_manager(flush_interval_ms=60_000)
    log = manager.create_log("topic", 0, TOPIC_ID)
    storage.append(log, b"x")
    flushed = trio.Event()
    flush = manager.flush

    def flush_and_tell():
        flush()
        trio.from_thread.run_sync(flushed.set)

    monkeypatch.setattr(manager, "flush", flush_and_tell)
    await nursery.start(manager.run)
    await trio.testing.wait_all_tasks_blocked()
    assert log.recovery_point == 0

    mock_clock.jump(60)
    await flushed.wait()

    assert log.recovery_point == 1
    nursery.cancel_scope.cancel()
    manager.close()


async def test_drop_old_segments_removes_files(storage):
    manager = storage.open_manager(
        log=LogConfig(segment_bytes=200, retention_bytes=0, index_interval_bytes=0)
    )
    log = manager.create_log("topic", 0, TOPIC_ID)
    for _ in range(5):
        storage.append(log, b"x")
    log.high_watermark = 5

    await manager.drop_old_segments()

    assert log.log_start_offset == 5
    assert [path.name for path in (storage.path / "topic-0").glob("*.log")] == [
        "00000000000000000005.log"
    ]
    manager.close()


async def test_a_topic_that_is_deleted_during_retention_is_nothing_to_warn_of(
    storage, monkeypatch, caplog
):
    manager = storage.open_manager(log=LogConfig(retention_bytes=0))
    for topic in ("first", "second"):
        log = manager.create_log(topic, 0, TOPIC_ID)
        storage.append(log, b"x")
        log.high_watermark = 1
    delete_segments = log_manager._delete_segments

    def delete_slowly(log, segments):
        trio.from_thread.run_sync(manager.delete_log, "second", 0)
        delete_segments(log, segments)

    monkeypatch.setattr(log_manager, "_delete_segments", delete_slowly)

    await manager.drop_old_segments()

    assert "retention skipped" not in caplog.text
    assert manager.get_log("first", 0).log_start_offset == 1
    manager.close()


async def test_an_emptied_log_goes_on_where_it_ended_even_after_a_crash(storage):
    """No checkpoint was written since: the name of the last segment has to say it."""
    manager = storage.open_manager(log=LogConfig(retention_bytes=0))
    log = manager.create_log("topic", 0, TOPIC_ID)
    storage.append(log, b"x", b"y")
    log.high_watermark = 2
    await manager.drop_old_segments()
    crash(manager)

    again = storage.open_manager()

    log = again.get_log("topic", 0)
    assert (log.log_start_offset, log.log_end_offset) == (2, 2)
    again.close()
