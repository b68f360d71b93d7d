"""`broker`: from options, file and defaults to a configuration; the process as scripts see it."""

import gc
import signal
import socket
import struct
import subprocess
import sys

import pytest
import trio

from tests.broker_process import BrokerProcess
from trio_kafka_net.cli.broker import run_broker, with_listeners
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import FetchRequest, MetadataRequest

A = "PLAINTEXT://127.0.0.1:1"
B = "B://127.0.0.1:2"
C = "CONTROLLER://127.0.0.1:3"


@pytest.mark.parametrize(
    ("keys", "listeners", "control", "expected"),
    [
        (
            {},
            (),
            None,
            ("PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9090", "CONTROLLER"),
        ),
        ({}, (A, B), None, (f"{A},{B}", None)),
        ({}, (A,), "admin://[::1]:0", (f"{A},admin://[::1]:0", "ADMIN")),
        ({}, (), C, (f"PLAINTEXT://127.0.0.1:9092,{C}", "CONTROLLER")),
        ({"listeners": A}, (), None, (A, None)),
        ({"listeners": A}, (B,), None, (B, None)),
        ({"listeners": A}, (), C, (f"{A},{C}", "CONTROLLER")),
        ({"listeners": f"{A}, controller://h:9"}, (), C, (f"{A},{C}", "CONTROLLER")),
        (
            {"listeners": f"{A},{C}", "control.plane.listener.name": "controller"},
            (),
            None,
            (f"{A},{C}", "controller"),
        ),
        (
            {"listeners": f"{A},{C}", "control.plane.listener.name": "CONTROLLER"},
            (),
            "ADMIN://h:4",
            (f"{A},{C},ADMIN://h:4", "ADMIN"),
        ),
    ],
)
def test_listeners_of_the_command_line_go_before_those_of_the_file(
    keys, listeners, control, expected
):
    result = with_listeners(keys, listeners, control)

    assert (result["listeners"], result.get("control.plane.listener.name")) == expected


def test_control_plane_listener_must_be_an_endpoint():
    with pytest.raises(ConfigError, match="--control-plane-listener=9090: must be NAME://"):
        with_listeners({}, (), "9090")


FREE_LISTENER = "PLAINTEXT://127.0.0.1:0"


def run(*options):
    """Run a broker that is expected to refuse; returns exit code and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "trio_kafka_net", "broker", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--in-memory", "--data-dir", "x"], "exclude each other"),
        (["--override", "num.io.threads"], "--override num.io.threads: must be key=value"),
        (["--override", "num.io.thread=1"], "did you mean num.io.threads?"),
        (["--override", "num.io.threads=0"], "num.io.threads=0: must be an integer from 1"),
        (["no-such-file"], "cannot read no-such-file"),
        (["--bogus"], "No such option"),
        (["--metrics", "9404"], "trio.metrics.listener=9404: must be host:port"),
        (["--metrics", "nobody:99999"], "must be host:port, port from 0 to 65535"),
        (["--brokers", "0"], "0 is not in the range x>=1"),
        (["--brokers", "2", "--listener", "PLAINTEXT://127.0.0.1:65530"], "65540"),
    ],
)
def test_broker_that_cannot_be_configured_exits_with_2(options, said):
    code, stderr = run(*options)

    assert (code, "Traceback" in stderr) == (2, False)
    assert said in stderr


@pytest.mark.slow
def test_broker_whose_port_is_taken_exits_with_98_and_names_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"PLAINTEXT://127.0.0.1:{taken.getsockname()[1]}"
        code, stderr = run("--listener", endpoint, "--data-dir", str(tmp_path / "data"))

    assert (code, "Traceback" in stderr) == (98, False)
    assert endpoint in stderr


@pytest.mark.slow
def test_broker_whose_metrics_port_is_taken_exits_with_98_and_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stderr = run(
            "--in-memory", "--listener", FREE_LISTENER, "--metrics", f"127.0.0.1:{port}"
        )

    assert (code, "Traceback" in stderr) == (98, False)
    assert f"METRICS 127.0.0.1:{port}" in stderr


@pytest.mark.slow
def test_broker_whose_data_directory_is_a_file_exits_with_74(tmp_path):
    (tmp_path / "data").write_text("")

    code, stderr = run(
        "--listener", "PLAINTEXT://127.0.0.1:0", "--data-dir", str(tmp_path / "data")
    )

    assert (code, "Traceback" in stderr) == (74, False)
    assert "data" in stderr


@pytest.fixture
def broker(tmp_path):
    process = BrokerProcess(tmp_path / "data")
    process.start()
    yield process
    process.kill()


@pytest.mark.slow
def test_broker_announces_a_listener_per_plane_and_accepts_connections(broker):
    assert sorted(broker.addresses) == ["control", "data"]
    for address in broker.addresses.values():
        socket.create_connection(address, timeout=10).close()


@pytest.mark.slow
def test_several_brokers_announce_their_listeners_one_broker_after_the_other(tmp_path):
    listeners = ["--listener", "PLAINTEXT://127.0.0.1:0"]
    listeners += ["--control-plane-listener", "CONTROLLER://127.0.0.1:0"]
    command = [sys.executable, "-m", "trio_kafka_net", "broker", "--brokers", "2", *listeners]
    command += ["--data-dir", str(tmp_path / "data"), "--metrics", "127.0.0.1:0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        lines = [process.stdout.readline().split() for _ in range(7)]
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0
    assert lines[6] == ["ready"]
    said = [(what, name, plane) for what, name, _, plane in lines[:6]]
    assert (
        said
        == [
            ("listening", "PLAINTEXT", "data"),
            ("listening", "CONTROLLER", "control"),
        ]
        * 2
        + [("listening", "METRICS", "metrics")] * 2
    )
    assert len({address for _, _, address, _ in lines[:6]}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_broker_stops_cleanly_on_a_signal_and_starts_again_on_the_same_ports(broker, number):
    addresses = dict(broker.addresses)

    broker.signal(number)
    code = broker.wait()
    broker.start()

    assert (code, broker.addresses) == (0, addresses)


@pytest.mark.slow
def test_second_signal_cuts_a_stop_that_would_wait_short(tmp_path):
    broker = BrokerProcess(
        tmp_path / "data", ["--override", f"trio.graceful.timeout.ms={3_600_000}"]
    )
    broker.start()
    topics = [MetadataRequest.Topic(name="t")]
    partition = FetchRequest.Partition(partition=0, partition_max_bytes=1000)
    fetch = FetchRequest(
        max_wait_ms=3_600_000,
        min_bytes=1,
        topics=[FetchRequest.Topic(topic="t", partitions=[partition])],
    )
    with socket.create_connection(broker.addresses["data"], timeout=10) as client:
        # Pipelined: when Metadata has created the topic, the Fetch is next and finds it empty.
        for request, version in ((MetadataRequest(topics=topics), 9), (fetch, 12)):
            payload = b"".join(encode_request(request, version, 0, "waits"))
            client.sendall(struct.pack(">i", len(payload)) + payload)
        assert client.recv(4)
        broker.signal(signal.SIGTERM)
        broker.signal(signal.SIGINT)

        assert broker.wait() == 0
    assert "SIGTERM: stopping" in broker.log


async def test_what_the_start_made_is_kept_from_the_collector_before_it_is_ready(
    nursery, monkeypatch
):
    """A look through all of it would stop the event loop for 30 ms, again and again."""
    happened: list[str] = []
    ready = trio.Event()

    def announce(listeners) -> None:
        happened.append("announced")
        ready.set()

    monkeypatch.setattr(gc, "freeze", lambda: happened.append("frozen"))
    monkeypatch.setattr(sys.modules["trio_kafka_net.cli.broker"], "announce", announce)
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
    nursery.start_soon(run_broker, config)
    await ready.wait()
    nursery.cancel_scope.cancel()
    assert ["frozen", "announced"] == happened
