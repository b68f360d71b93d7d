"""The monitor over servers that are slow, go away and come back; and over every key."""

from __future__ import annotations

import errno
import io
import os
import pty
from contextlib import nullcontext

import pytest
import trio
import trio.testing
from rich.console import Console

from tests.monitor.fake_source import FakeSource
from tests.terminal import type_bytes
from trio_kafka_net.monitor.app import Monitor, Options, run_monitor
from trio_kafka_net.monitor.columns import View
from trio_kafka_net.monitor.http_client import SourceError
from trio_kafka_net.monitor.recording import Recorder, read_recording
from trio_kafka_net.monitor.ui_state import needs


@pytest.fixture
def source():
    return FakeSource()


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def console(screen):
    return Console(file=screen, force_terminal=True, width=120, height=40, _environ={})


@pytest.fixture
def keyboard():
    """Both ends of the terminal that keys come from."""
    person, program = pty.openpty()
    yield person, program
    for fd in (person, program):
        os.close(fd)


@pytest.fixture
async def monitor(source, console, keyboard, nursery, autojump_clock):
    """A monitor that runs and waits for a key or a second to pass."""
    monitor = Monitor(source, Options(), console, lambda: nullcontext(keyboard[1]))
    await monitor.begin()
    nursery.start_soon(monitor.run)
    await trio.testing.wait_all_tasks_blocked()
    return monitor


@pytest.fixture
def type_keys(keyboard):
    """Types on the keyboard of a monitor that runs."""

    async def type_keys(text):
        type_bytes(keyboard, text.encode())
        await trio.testing.wait_all_tasks_blocked()

    return type_keys


async def test_a_server_is_asked_every_second(source, monitor, autojump_clock):
    await trio.sleep(3.5)

    assert [0, 1, 2, 3] == [round(at - source.asked_at[0], 3) for at in source.asked_at]
    assert monitor.window.stale_s is None


async def test_a_server_that_is_gone_makes_the_screen_stale_and_is_asked_less_often(
    source, monitor, screen, autojump_clock
):
    await trio.sleep(1.5)
    source.is_reachable = False
    await trio.sleep(30)

    pauses = [b - a for a, b in zip(source.asked_at, source.asked_at[1:], strict=False)]
    assert [1, 1, 1, 2, 4, 5, 5] == [round(pause, 3) for pause in pauses[:7]]
    assert 29 < monitor.window.stale_s < 31
    assert "connection refused" in monitor.ui.notice
    assert "STALE" in screen.getvalue()


async def test_a_server_that_is_back_is_live_again(source, monitor, autojump_clock):
    source.is_reachable = False
    await trio.sleep(10)
    source.is_reachable = True
    await trio.sleep(10)

    assert monitor.window.stale_s is None
    assert "" == monitor.ui.notice
    assert not monitor.window.is_restarted


async def test_a_server_that_began_anew_is_said_to_have(source, monitor, screen, autojump_clock):
    source.is_reachable = False
    await trio.sleep(5)
    source.is_reachable, source.started_at = True, source.started_at + 5
    await trio.sleep(7)

    assert monitor.window.is_restarted
    assert "RESTARTED" in screen.getvalue()


async def test_keys_work_while_a_server_is_slow(source, monitor, type_keys, autojump_clock):
    source.delay = 1000.0
    await trio.sleep(2)

    await type_keys("3")

    assert View.CONNECTIONS is monitor.ui.view
    assert monitor.window.stale_s is None or monitor.window.stale_s < 1000


async def test_a_server_that_does_not_answer_makes_the_screen_stale(
    source, monitor, autojump_clock
):
    source.delay = 1000.0
    await trio.sleep(10)

    assert 8 < monitor.window.stale_s < 11


async def test_a_view_gets_its_documents_at_once(source, monitor, type_keys, autojump_clock):
    source.asked_at.clear()

    await type_keys("6")

    assert needs(monitor.ui) == source.needs[-1]
    assert len(source.asked_at) == 1


async def test_a_paused_screen_stands_still_and_nothing_is_lost(
    source, monitor, screen, type_keys, autojump_clock
):
    await trio.sleep(2.5)
    await type_keys("p")
    screen.seek(0)
    screen.truncate()
    await trio.sleep(10)

    assert len(source.asked_at) == 13
    assert "" == screen.getvalue()
    await type_keys("p")
    assert "" != screen.getvalue()


async def test_q_is_the_end_and_the_terminal_is_given_back(source, console, screen, keyboard):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: run_monitor(source, console=console, terminal=lambda: nullcontext(keyboard[1]))
        )
        await trio.testing.wait_all_tasks_blocked()
        type_bytes(keyboard, b"q")

    assert source.is_closed
    assert screen.getvalue().rstrip("\n").endswith("\x1b[?1049l\x1b[?25h")


async def test_a_monitor_may_stop_after_so_many_snapshots(source, console, autojump_clock):
    await run_monitor(source, Options(count=3), console=console, terminal=lambda: nullcontext(None))

    assert len(source.asked_at) == 3


async def test_without_a_first_snapshot_the_terminal_is_not_touched(source, console, screen):
    source.is_reachable = False

    with pytest.raises(SourceError, match="connection refused"):
        await run_monitor(source, console=console, terminal=lambda: nullcontext(None))
    assert "" == screen.getvalue()
    assert source.is_closed


async def test_what_is_seen_can_be_recorded(source, console, tmp_path, autojump_clock):
    recorder = Recorder(tmp_path / "seen")
    options = Options(count=4, recorder=recorder)
    await run_monitor(source, options, console=console, terminal=lambda: nullcontext(None))
    recorder.close()

    assert 4 == len(list(read_recording(tmp_path / "seen")))
    recorded = {need.name for need in source.needs[0]}
    assert {"connections", "tasks", "groups", "log"} == recorded, "every view can be replayed"


class FullDisk(io.BytesIO):
    """A file that takes nothing."""

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_recording_that_finds_no_room_ends_with_a_notice(
    source, console, tmp_path, monkeypatch, autojump_clock
):
    recorder = Recorder(tmp_path / "seen")
    recorder.close()
    monkeypatch.setattr(recorder, "_file", FullDisk())
    options = Options(count=3, recorder=recorder)
    monitor = Monitor(source, options, console, lambda: nullcontext(None))
    await monitor.begin()
    await monitor.run()

    assert monitor.ui.notice.startswith("the recording ends here: cannot write ")
    assert monitor.ui.notice.endswith("seen: No space left on device")
    assert 2.0 == monitor.window.now.taken, "the screen goes on"
    assert not source.needs[-1] - needs(monitor.ui), "nothing is asked for that is not shown"


async def test_s_saves_what_is_on_the_screen(
    source, console, keyboard, nursery, tmp_path, type_keys
):
    options = Options(directory=tmp_path)
    monitor = Monitor(source, options, console, lambda: nullcontext(keyboard[1]))
    await monitor.begin()
    nursery.start_soon(monitor.run)
    await trio.testing.wait_all_tasks_blocked()

    await type_keys("S")
    with trio.fail_after(10):
        while not monitor.ui.notice:
            await trio.testing.wait_all_tasks_blocked(0.01)

    assert {".svg", ".html", ".txt", ".json"} == {path.suffix for path in tmp_path.iterdir()}
    assert monitor.ui.notice.startswith("saved trio-kafka-net-")
    assert monitor.ui.notice.endswith(".svg .html .txt .json")
    nursery.cancel_scope.cancel()


async def test_a_file_that_cannot_be_written_is_a_notice(
    source, console, keyboard, nursery, tmp_path, type_keys
):
    options = Options(directory=tmp_path / "missing")
    monitor = Monitor(source, options, console, lambda: nullcontext(keyboard[1]))
    await monitor.begin()
    nursery.start_soon(monitor.run)
    await trio.testing.wait_all_tasks_blocked()

    await type_keys("s")
    with trio.fail_after(10):
        while not monitor.ui.notice:
            await trio.testing.wait_all_tasks_blocked(0.01)

    assert "No such file or directory" in monitor.ui.notice
    nursery.cancel_scope.cancel()


async def test_a_terminal_that_hangs_up_is_the_end(source, console, autojump_clock):
    person, program = pty.openpty()
    monitor = Monitor(source, Options(), console, lambda: nullcontext(program))
    await monitor.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        await trio.testing.wait_all_tasks_blocked()
        os.close(person)
    os.close(program)


async def test_frames_of_a_broker_in_this_process_are_not_drawn_on_its_event_loop(
    source, console, monkeypatch, autojump_clock
):
    drawn_on_loop = []

    def frame(window, size, ui, theme):
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            drawn_on_loop.append(False)
        else:
            drawn_on_loop.append(True)
        return []

    monkeypatch.setattr("trio_kafka_net.monitor.app.frame", frame)
    source.shares_event_loop = True
    await run_monitor(source, Options(count=2), console=console, terminal=lambda: nullcontext(None))

    assert {False} == set(drawn_on_loop)
