"""The package's face: what it promises, and what it does not load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import trio_kafka_net

PROMISED = [
    "ApiKey",
    "Broker",
    "BrokerConfig",
    "CloseConnection",
    "Cluster",
    "ConfigError",
    "Connection",
    "DisconnectCause",
    "ErrorCode",
    "FatalExitError",
    "KafkaApis",
    "KafkaError",
    "KafkaPrincipal",
    "ListenerConfig",
    "LocalProtocolError",
    "NO_RESPONSE",
    "RemoteProtocolError",
    "Request",
    "RequestContext",
    "SocketServer",
    "SocketServerConfig",
    "StorageError",
    "TrioKafkaError",
    "open_broker",
    "open_cluster",
    "serve_broker",
    "serve_frames",
]

ROOT = Path(__file__).parent.parent


def test_every_promised_name_is_there():
    assert [name for name in PROMISED if getattr(trio_kafka_net, name, None) is None] == []


def test_nothing_else_is_promised():
    modules = {"TYPE_CHECKING", "Any", "annotations", "importlib"}
    subpackages = {path.stem for path in (ROOT / "trio_kafka_net").iterdir()}
    public = {name for name in dir(trio_kafka_net) if not name.startswith("_")}
    assert sorted(public - modules - subpackages) == PROMISED


def test_a_server_without_kafka_does_not_load_the_protocol():
    program = (
        "import sys, trio_kafka_net; trio_kafka_net.serve_frames;"
        "print([m for m in sys.modules if 'trio_kafka_net.protocol' in m or '_net.broker' in m])"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_the_embedded_broker_example_runs():
    command = [sys.executable, "examples/embedded_broker.py"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "partitions here: [('greetings', 0)]" in output


def test_the_control_plane_example_runs():
    command = [sys.executable, "examples/control_plane.py"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "data plane: 50 requests queued" in output
    for plane in ("data", "control"):
        assert f"a topic deleted on the {plane} plane in " in output


def test_the_cluster_example_runs():
    command = [sys.executable, "examples/cluster.py"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    first, second = re.findall(r"broker (\d) died; broker (\d) leads", output)[0]
    assert first != second
    assert f"broker {first}: offset 0" in output
    assert f"broker {second}: offset 1" in output
    assert f"broker {first} is back: NOT_LEADER_OR_FOLLOWER" in output
    assert f"after an election broker {first} leads" in output
    assert f"broker {first}: offset 2" in output
