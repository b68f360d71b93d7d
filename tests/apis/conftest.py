"""Brokers in memory, for the time of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig

from .lab import Lab

OpenLab = Callable[..., Awaitable[Lab]]


@pytest.fixture
async def open_lab(nursery: trio.Nursery) -> AsyncIterator[OpenLab]:
    """Open brokers that are stopped after the test: ``await open_lab(key=value, ...)``."""
    labs: list[tuple[Lab, trio.Event]] = []

    async def serve(config, apis, done, *, task_status):
        async with open_broker(config, apis) as broker:
            task_status.started(broker)
            await done.wait()

    async def start(apis: KafkaApis | None = None, **settings) -> Lab:
        config = BrokerConfig(
            **{
                "listeners": ("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
                "control_plane_listener_name": "CONTROLLER",
                "num_network_threads": 1,
                "trio_in_memory": True,
                "trio_graceful_timeout_ms": 1000,
                "unstable_api_versions_enable": True,
                **settings,
            }
        )
        done = trio.Event()
        labs.append((Lab(await nursery.start(serve, config, apis, done)), done))
        return labs[-1][0]

    yield start
    for lab, done in labs:
        for client in lab.clients:
            await client.aclose()
        done.set()


@pytest.fixture
async def lab(open_lab: OpenLab) -> Lab:
    """A broker with its defaults."""
    return await open_lab()
