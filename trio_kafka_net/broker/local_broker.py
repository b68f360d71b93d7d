"""This broker: who it is, what it stores, and where it can be reached.

What API handlers are given. It has no sockets and no APIs; the composition root
(``broker_server``) puts the network layer in front of it and tells it its addresses.

Clock and randomness come from outside, so that a simulation can replace both.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError, KafkaError

from .controller import Controller
from .log.data_dir import in_memory_data_dir
from .log.log_config import LogConfig
from .log.log_manager import LogManager, LogManagerConfig
from .metadata_cache import MetadataCache
from .producer_ids import ProducerIds
from .replica_manager import ReplicaManager

_CLOSE_SECONDS = 60
"""How long the last flush may take before it is left to the recovery of the next start."""


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def random_uuid() -> bytes:
    """16 random bytes, in the form of a version 4 uuid."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


@attrs.frozen
class AdvertisedEndpoint:
    """Where clients are told to find this broker."""

    host: str
    port: int


class LocalBroker:
    """One broker's state; made by ``LocalBroker.open``."""

    def __init__(
        self,
        config: BrokerConfig,
        log_manager: LogManager,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
    ) -> None:
        """Use ``LocalBroker.open``, which has the data directory ready."""
        self.config = config
        self.node_id = config.node_id
        self.cluster_id = log_manager.cluster_id
        self.now_ms = now_ms
        """The clock, ms since the epoch."""
