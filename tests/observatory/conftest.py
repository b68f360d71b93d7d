"""A broker that is looked at, and clients that give it something to do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.apis.lab import Lab
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig


def a_config(**settings) -> BrokerConfig:
    return BrokerConfig(
        **{
            "listeners": ("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
            "control_plane_listener_name": "CONTROLLER",
            "num_network_threads": 1,
            "trio_in_memory": True,
            "group_initial_rebalance_delay_ms": 0,
            "offsets_topic_num_partitions": 1,
            **settings,
        }
    )


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with open_broker(a_config()) as broker:
        made = Lab(broker)
        yield made
        for client in made.clients:
            await client.aclose()
