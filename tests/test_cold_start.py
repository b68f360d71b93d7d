"""What a broker's start imports, and what it leaves until somebody needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_NOT_NEEDED = [
    "argparse",  # the package crc32c brings it
    "cramjam",
    "crc32c",
    "email",  # what importlib.metadata reads versions with
    "h11",
    "importlib.metadata",
    "prometheus_client",
    "rich",
    "trio_kafka_net.broker.log.cleaner",
    "trio_kafka_net.monitor",
    "trio_kafka_net.testing",
]

_START = """
import json, sys, trio
from trio_kafka_net.apis.dispatch import ApiDispatcher
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.cli import broker as _, main
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages.metadata import MetadataRequest

async def start():
    listeners = ("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0")
    config = BrokerConfig(
        listeners=listeners,
        control_plane_listener_name="CONTROLLER",
        trio_in_memory=True,
        trio_metrics_listener="127.0.0.1:0",
    )
    async with open_broker(config) as broker:
        port = broker.bound_listeners[0].port
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            frame = b"".join(encode_request(MetadataRequest(topics=None), 12, 1, "c"))
            await stream.send_all(len(frame).to_bytes(4, "big") + frame)
            assert await stream.receive_some()
        print(json.dumps(sorted(sys.modules)))

trio.run(start)
"""


@pytest.fixture(scope="module")
def imported():
    """Modules that are there when a broker has answered its first Metadata request."""
    done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", _NOT_NEEDED)
def test_a_start_does_without(imported, module):
    assert module not in imported
