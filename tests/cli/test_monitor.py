"""`monitor`: on a terminal, in a pipe, as a file; and what scripts can tell from how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import xml.etree.ElementTree as ElementTree

import attrs
import click.testing
import pytest

from tests.broker_process import BrokerProcess
from tests.monitor.fake_source import snapshot
from tests.terminal import ENTER_SCREEN, LEAVE_SCREEN, Terminal
from trio_kafka_net.cli.main import cli
from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.recording import Recorder, read_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two minutes of a server."""
    path = tmp_path_factory.mktemp("recording") / "two-minutes.jsonl"
    recorder = Recorder(path)
    for second in range(120):
        recorder.write(snapshot(float(second)))
    recorder.close()
    return path


@pytest.fixture
def terminal():
    """Starts programs on terminals, and ends what is left of them."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **options):
            terminal = Terminal(*arguments, **options)
            stack.callback(terminal.close)
            return terminal

        yield start


def run(*arguments, **options):
    """Run it without a terminal: (exit code, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "trio_kafka_net", "monitor", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def invoke(*arguments):
    """The same in this process."""
    result = click.testing.CliRunner().invoke(cli, ["monitor", *map(str, arguments)])
    return result.exit_code, result.output


# -- on a terminal --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_screen_comes_obeys_keys_and_leaves_the_terminal_as_it_was(terminal, recording):
    screen = terminal("monitor", "--replay", str(recording), "--at", "60")
    screen.wait_for(ENTER_SCREEN, "Requests", "two-minutes.jsonl")
    assert screen.modes()[3] & termios.ICANON == 0

    screen.type("5")
    screen.wait_for("Groups")
    screen.type("\x1b[Z")
    screen.wait_for("Topics")
    screen.type("q")

    assert 0 == screen.wait()
    assert LEAVE_SCREEN in screen.output
    assert screen.found == screen.modes()


@pytest.mark.slow
def test_keys_come_from_the_terminal_also_if_standard_input_does_not(terminal, recording):
    screen = terminal("monitor", "--replay", str(recording), stdin=os.devnull)
    screen.wait_for(ENTER_SCREEN, "Requests")
    screen.type("q")

    assert 0 == screen.wait()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["\x03", signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_the_terminal_is_as_it_was(terminal, recording, key):
    screen = terminal("monitor", "--replay", str(recording))
    screen.wait_for(ENTER_SCREEN, "Requests")
    screen.type(key) if isinstance(key, str) else screen.signal(key)

    assert 0 == screen.wait()
    assert LEAVE_SCREEN in screen.output
    assert screen.found == screen.modes()


@pytest.mark.slow
def test_a_terminal_that_hangs_up_is_the_end(terminal, recording):
    screen = terminal("monitor", "--replay", str(recording))
    screen.wait_for(ENTER_SCREEN, "Requests")

    assert 0 == screen.hang_up()


@pytest.mark.slow
def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(terminal, recording):
    screen = terminal("monitor", "--replay", str(recording))
    screen.wait_for(ENTER_SCREEN, "Requests")

    screen.type("\x1a")
    screen.wait_for(LEAVE_SCREEN)
    screen.wait_stopped()
    assert screen.found == screen.modes()
    screen.signal(signal.SIGCONT)
    screen.wait_for(ENTER_SCREEN, "Requests")
    assert screen.modes()[3] & termios.ICANON == 0
    screen.type("q")

    assert 0 == screen.wait()
    assert screen.found == screen.modes()


@pytest.mark.slow
def test_a_program_that_was_stopped_takes_the_terminal_again(terminal, recording):
    """SIGSTOP asks nobody; the shell that comes up then sets the terminal as it likes it."""
    screen = terminal("monitor", "--replay", str(recording))
    screen.wait_for(ENTER_SCREEN, "Requests")

    screen.signal(signal.SIGSTOP)
    screen.wait_stopped()
    screen.restore_modes()
    screen.output = ""
    screen.signal(signal.SIGCONT)
    screen.wait_for(ENTER_SCREEN, "Requests")

    assert screen.modes()[3] & termios.ICANON == 0
    screen.type("q")
    assert 0 == screen.wait()
    assert screen.found == screen.modes()


@pytest.mark.slow
def test_a_terminal_of_another_size_gets_another_screen(terminal, recording):
    screen = terminal("monitor", "--replay", str(recording), columns=80, lines=24)
    screen.wait_for(ENTER_SCREEN, "[1 Requests]")

    screen.resize(120, 40)
    screen.wait_for("╭─ Throughput")
    screen.resize(10, 3)
    screen.wait_for("\x1b[2J")
    screen.type("q")

    assert 0 == screen.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "environ"),
    [(["--no-color"], {}), (["--theme", "mono"], {}), ([], {"NO_COLOR": "1"})],
)
def test_without_colours_none_is_sent(recording, options, environ, terminal):
    screen = terminal("monitor", "--replay", str(recording), *options, environ=environ)
    screen.wait_for(ENTER_SCREEN, "Requests")
    screen.type("q")

    assert 0 == screen.wait()
    assert [] == re.findall(rb"\x1b\[(?:\d+;)*[39][0-7]m", screen.raw)


@pytest.mark.slow
def test_a_terminal_that_is_dumb_gets_lines(terminal, recording):
    screen = terminal(
        "monitor", "--replay", str(recording), "--count", "2", environ={"TERM": "dumb"}
    )

    assert 0 == screen.wait()
    assert "\x1b" not in screen.output
    header, *lines = screen.output.split("\r\n")[:3]
    assert header.startswith("time")
    assert len(lines) == 2


@pytest.mark.slow
def test_a_screen_in_ascii_is_ascii(terminal, recording):
    screen = terminal("monitor", "--replay", str(recording), "--ascii")
    seen = screen.wait_for(ENTER_SCREEN, "Requests")
    screen.type("q")

    assert 0 == screen.wait()
    assert (seen + screen.output).isascii()


# -- without one ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pipe_gets_a_line_per_snapshot_and_a_header_now_and_then(recording):
    code, output, errors = run("--replay", recording, "--speed", 1000, "--at", 60, "--count", 25)

    lines = output.splitlines()
    assert (0, "") == (code, errors)
    assert [0, 21] == [n for n, line in enumerate(lines) if line.startswith("time")]
    assert len(lines) == 27
    assert len({len(line) for line in lines}) == 1


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_failure(recording):
    command = (
        f"{sys.executable} -m trio_kafka_net monitor --replay {recording} --speed 1000 | head -1"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("time")


@pytest.mark.parametrize("options", [("--count", "1"), ("--check",), ("--once", "--size", "60x12")])
def test_without_any_output_nothing_fails(recording, options):
    command = [sys.executable, "-m", "trio_kafka_net", "monitor", "--replay", recording, *options]
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *command],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (0, b"") == (done.returncode, done.stderr)


@pytest.mark.parametrize("options", [("--count", "1"), ("--once", "--size", "60x12")])
def test_output_that_finds_no_room_is_said_in_a_line(recording, tmp_path, options):
    command = [sys.executable, "-m", "trio_kafka_net", "monitor", "--replay", recording, *options]
    with (tmp_path / "output").open("wb") as output:
        done = subprocess.run(
            ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command],
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (74, b"cannot write the output: File too large\n") == (done.returncode, done.stderr)


def test_a_recording_that_finds_no_room_is_said_in_a_line(recording, tmp_path):
    kept = tmp_path / "kept"
    command = [sys.executable, "-m", "trio_kafka_net", "monitor", "--replay", recording]
    command += ["--speed", "1000", "--record", kept]
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *command],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (74, f"cannot write {kept}: File too large\n".encode()) == (
        done.returncode,
        done.stderr,
    )
    assert list(read_recording(kept)), "good up to there"


def test_json_is_a_document_per_line(recording):
    code, output = invoke(
        "--replay", recording, "--speed", 1000, "--at", 60, "--count", 3, "--format", "json"
    )

    first, *_, last = map(json.loads, output.splitlines())
    assert 0 == code
    assert 2.0 == last["time"] - first["time"]
    assert 10 == pytest.approx(last["requests_per_second"])
    assert None is last["event_loop_busy"], "what is not exported is not known"
    assert 10 == pytest.approx(last["apis"]["Fetch"]["requests_per_second"])
    assert [] == last["alerts"]


def test_once_with_a_size_is_a_screen_as_text(recording):
    code, output = invoke("--replay", recording, "--at", 60, "--once", "--size", "100x30")

    assert 0 == code
    lines = output.splitlines()
    assert len(lines) == 30
    assert "Fetch" in output


@pytest.mark.parametrize("option", ["--svg", "--html"])
def test_a_file_is_written_and_that_is_it(recording, tmp_path, option):
    path = tmp_path / "file"
    code, output = invoke("--replay", recording, "--at", 60, option, path)

    assert (0, "") == (code, output)
    assert "Fetch" in path.read_text(encoding="utf-8")
    if option == "--svg":
        ElementTree.parse(path)


def test_a_recording_that_is_replayed_gives_the_same_screens(recording, tmp_path):
    copy = tmp_path / "copy.jsonl.gz"
    invoke("--replay", recording, "--speed", 1000, "--record", copy, "--count", 60)

    assert list(read_recording(recording))[:61] == list(read_recording(copy))
    screens = {
        invoke("--replay", path, "--at", 50, "--once", "--size", "120x40")[1].replace(path.name, "")
        for path in (recording, copy)
    }
    assert len({screen.split("\n", 1)[1] for screen in screens}) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["no:port"], "no:port"),
        (["https://broker"], "must be host:port"),
        (["--size", "12"], "must be columns and lines"),
        (["--interval", "0.1"], "0.1 is not in the range"),
        (["--sort", "nothing"], "--sort nothing: must be one of api, "),
        (["--filter", "("], "--filter (:"),
        (["--at", "soon"], "must be seconds"),
        (["--format", "tui"], "needs a terminal"),
        (["--replay", "{recording}", "broker:1"], "--replay has no address"),
        (["--replay", "{recording}", "--format", "prom"], "--format prom is the page"),
        (["--replay", "{recording}", "--record", "{recording}"], "File exists"),
        (["--replay", "{empty}"], "there is no snapshot in it"),
        (["--replay", "{recording}", "--svg", "{empty}/x"], "x: Not a directory"),
        (["127.0.0.1:1"], "cannot read http://127.0.0.1:1: connection refused"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_exits_with_2(recording, tmp_path, options, said):
    (tmp_path / "empty").write_text("")
    places = {"recording": recording, "empty": tmp_path / "empty"}
    code, output = invoke(
        *(option.format(**places) if "{" in option else option for option in options)
    )

    assert 2 == code
    assert said in output
    assert "Traceback" not in output


def test_a_check_is_ok_or_says_what_is_wrong(recording, tmp_path):
    offline = {names.OFFLINE_PARTITIONS.name: {(): 2.0}}
    recorder = Recorder(tmp_path / "bad")
    for second in (0.0, 1.0):
        recorder.write(attrs.evolve(snapshot(second), samples=offline))
    recorder.close()

    assert (0, "OK\n") == invoke("--replay", recording, "--at", 60, "--check")
    assert (3, "BAD: 2 partitions offline\n") == invoke("--replay", tmp_path / "bad", "--check")
    code, output = invoke("--replay", tmp_path / "bad", "--check", "--format", "json")
    assert (3, "bad") == (code, json.loads(output)["alerts"][0]["level"])


# -- over a broker --------------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path):
    process = BrokerProcess(tmp_path / "data", ["--metrics", "127.0.0.1:0"])
    process.start()
    yield process
    process.kill()


def metrics_address(broker):
    host, port = broker.addresses["metrics"]
    return f"{host}:{port}"


@pytest.mark.slow
def test_a_broker_is_watched_killed_and_watched_again(broker, terminal):
    broker.options = ("--metrics", metrics_address(broker))
    screen = terminal("monitor", metrics_address(broker), "--interval", "0.5")
    screen.wait_for(ENTER_SCREEN, "● LIVE", "CONTROLLER")

    broker.kill()
    screen.wait_for("○ STALE", "connection refused")
    broker.start()
    screen.wait_for("● RESTARTED")
    screen.type("q")

    assert 0 == screen.wait()


@pytest.mark.slow
def test_a_broker_is_shown_in_every_view_and_recorded(broker, tmp_path):
    path = tmp_path / "recording"
    code, _, errors = run(metrics_address(broker), "--count", 2, "--record", path, "-d", 0.5)

    assert (0, "") == (code, errors)
    for view in ("overview", "requests", "processors", "connections", "topics", "groups", "tasks"):
        code, output = invoke("--replay", path, "--once", "--size", "120x40", "--view", view)
        assert 0 == code
        assert "not exported" not in output


@pytest.mark.slow
def test_the_page_is_passed_through(broker):
    code, output, _ = run(metrics_address(broker), "--format", "prom", "--once")

    assert 0 == code
    assert "# TYPE kafka_network_requestmetrics_requests_total counter" in output


@pytest.mark.slow
def test_a_broker_under_the_monitor_stops_when_somebody_quits(terminal, tmp_path):
    listeners = ["--listener", "PLAINTEXT://127.0.0.1:0", "--metrics", "off"]
    screen = terminal("broker", "--monitor", "--in-memory", *listeners)
    seen = screen.wait_for("ready", ENTER_SCREEN, "● LIVE", "1 Requests")
    assert "listening PLAINTEXT 127.0.0.1:" in seen
    screen.type("q")

    assert 0 == screen.wait()
    after = screen.output.partition(LEAVE_SCREEN)[2]
    assert "monitor: stopping" in after
    assert screen.found == screen.modes()


@pytest.mark.slow
def test_what_a_broker_logs_does_not_tear_the_screen(terminal):
    listeners = ["--listener", "PLAINTEXT://127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    screen = terminal("broker", "--monitor", "--in-memory", *listeners)
    seen = screen.wait_for("ready", ENTER_SCREEN, "● LIVE")
    port = int(re.search(r"PLAINTEXT 127.0.0.1:(\d+)", seen)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"" == client.recv(1)
    screen.type("L")
    shown = screen.wait_for("Log", "WARNING")
    assert "\r\n" not in shown
    screen.type("q")

    assert 0 == screen.wait()
    assert "closing: frame size" in screen.output.partition(LEAVE_SCREEN)[2], "it is not lost"


@pytest.mark.parametrize(
    ("options", "said"),
    [([], "--monitor needs a terminal"), (["--brokers", "2"], "--monitor shows one broker")],
)
def test_a_broker_is_not_started_for_a_screen_that_cannot_be(options, said):
    result = click.testing.CliRunner().invoke(cli, ["broker", "--monitor", *options])

    assert 2 == result.exit_code
    assert said in result.output
