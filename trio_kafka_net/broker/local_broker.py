"""This broker: who it is, what it stores, and where it can be reached.

What API handlers are given. It has no sockets and no APIs; the composition root
(``broker_server``) puts the network layer in front of it and tells it its addresses.

Clock and randomness come from outside, so that a simulation can replace both.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError, KafkaError, StorageError

from .client_quotas import ClientQuotas
from .controller import Controller, TopicDefaults
from .coordinator.group_coordinator import GroupCoordinator
from .coordinator.offset_expiry import OffsetExpiry
from .coordinator.offset_store import OffsetStore
from .dynamic_config import DynamicConfig
from .log.data_dir import in_memory_data_dir
from .log.log_config import LogConfig
from .log.log_manager import LogManager, LogManagerConfig
from .metadata_cache import BrokerMetadata, Endpoint, MetadataCache, TopicMetadata
from .producer_ids import ProducerIds
from .replica_manager import ReplicaManager
from .throttler import Throttler

log = logging.getLogger(__name__)

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
class Leader:
    """Who leads a partition, as clients of a listener see it."""

    node_id: int
    """-1 if nobody does."""
    epoch: int
    endpoint: Endpoint | None
    """Where it is; None if nobody leads, or the leader has no such listener."""


class LocalBroker:
    """One broker's state; made by ``LocalBroker.open``."""

    def __init__(
        self,
        dynamic_config: DynamicConfig,
        log_manager: LogManager,
        metadata: MetadataCache,
        quotas: ClientQuotas,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
        cleanup: contextlib.ExitStack,
    ) -> None:
        """Use ``LocalBroker.open``, which has the data directory ready."""
        self.dynamic_config = dynamic_config
        """What was set at run time, and who is told of changes."""
        self.config = config = dynamic_config.current
        """The configuration in force."""
        self.node_id = config.node_id
        self.cluster_id = log_manager.cluster_id
        self.metadata = metadata
        """Topics and brokers, as this node sees them."""
        self.replicas = ReplicaManager(log_manager, node_id=config.node_id)
        """Partitions that have their log here."""
        self.controller = Controller(
            config.node_id,
            metadata,
            self.replicas,
            defaults=TopicDefaults(
                partitions=config.num_partitions,
                replication_factor=config.default_replication_factor,
            ),
            new_uuid=new_uuid,
        )
        """Makes, changes and deletes topics."""
        dynamic_config.subscribe(self)
        self.producer_ids = ProducerIds(log_manager.path)
        """Ids for idempotent producers."""
        self.now_ms = now_ms
        """The clock, ms since the epoch."""
        self.offsets = OffsetStore(
            config.offsets, self.controller, metadata, self.replicas, now_ms=now_ms
        )
        """What groups have committed."""
        self.groups = GroupCoordinator(
            config.groups, self.offsets, now_ms=now_ms, new_uuid=new_uuid
        )
        """Consumer groups and their members."""
        self.offsets.groups = self.groups
        self.quotas = quotas
        """What clients may use up."""
        self.throttler = Throttler()
        """Holds those back that are over their quotas."""
        self._log_manager = log_manager
        self._is_stopping = False
        # Requests that wait for records, each with the scope that ends its wait.
        self._long_polls: set[trio.CancelScope] = set()
        self._cleanup = cleanup
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        config: BrokerConfig,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
        new_uuid: Callable[[], bytes] = random_uuid,
    ) -> LocalBroker:
        """Take possession of the data directory and recover what is in it.

        Args:
            config: of the broker.
            now_ms: the clock, ms since the epoch.
            new_uuid: makes 16 random bytes.

        Raises:
            ConfigError: more than one data directory.
            StorageError: the directory is in use, another node's, damaged, or cannot be read or
                written; it is given back.

        Cancellation: the directory is given back.
        """
        if len(config.log_dirs) != 1 and not config.trio_in_memory:
            raise ConfigError(f"log.dirs={','.join(config.log_dirs)}: must be one directory")
        cleanup = contextlib.ExitStack()
        try:
            directory = (
                cleanup.enter_context(in_memory_data_dir())
                if config.trio_in_memory
                else Path(config.log_dirs[0])
            )
            dynamic_config, log_manager, metadata, quotas = await trio.to_thread.run_sync(
                _open_logs, config, directory, now_ms, new_uuid
            )
            cleanup.callback(log_manager.close)
            broker = cls(
                dynamic_config,
                log_manager,
                metadata,
                quotas,
                now_ms=now_ms,
                new_uuid=new_uuid,
                cleanup=cleanup,
            )
            await broker.controller.start()
        except (OSError, KafkaError) as error:
            cleanup.close()
            raise StorageError(f"{','.join(config.log_dirs)}: {error}") from error
        except BaseException:
            cleanup.close()
            raise
        return broker

    async def validate(self, old: BrokerConfig, new: BrokerConfig) -> None:
        """Refuse defaults that the log cannot have.

        Raises:
            ConfigError: one of them.

        Checkpoints: none.
        """
        if new.log != old.log:
            try:
                log_defaults(new)
            except KafkaError as error:
                raise ConfigError(error.message) from error

    async def reconfigure(self, old: BrokerConfig, new: BrokerConfig) -> None:
        """Go by ``new``, in every log.

        Cancellation: the logs that are open keep their old defaults.
        """
        self.config = new
        if new.log != old.log:
            self._log_manager.cleaner.config = new.log
            await self.controller.use_log_defaults(log_defaults(new))

    def advertise(self, endpoints: dict[str, Endpoint]) -> None:
        """Tell clients where this broker is: {listener name: endpoint}."""
        self.metadata.add_broker(BrokerMetadata(self.node_id, endpoints))

    def endpoint(self, listener_name: str) -> Endpoint:
        """Where clients of a listener find this broker.

        Raises:
            LookupError: there is no such listener.
        """
        endpoint = self.metadata.endpoint(self.node_id, listener_name)
        if endpoint is None:
            raise LookupError(f"no listener {listener_name!r}")
        return endpoint

    def endpoints(self, listener_name: str) -> list[tuple[int, Endpoint]]:
        """Every broker with that listener: (node id, endpoint)."""
        return [
            (broker.node_id, broker.endpoints[listener_name])
            for broker in self.metadata.brokers
            if listener_name in broker.endpoints
        ]

    def leader(self, topic: str, index: int, listener_name: str) -> Leader | None:
        """Who leads a partition, for a client of a listener; None if there is no such partition.

        Source: Kafka ``KafkaApis.getCurrentLeader`` (KIP-951).
        """
        found = self.metadata.get_topic(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        state = found.partitions[index]
        endpoint = self.metadata.endpoint(state.leader_id, listener_name)
        return Leader(state.leader_id, state.leader_epoch, endpoint)

    @contextlib.contextmanager
    def long_poll(self, seconds: float) -> Iterator[None]:
        """Wait for records, for at most ``seconds``, in a ``with`` block.

        When the time is over, or the broker stops, the block is left at its next checkpoint, and
        the program goes on after it.
        """
        with trio.move_on_after(0 if self._is_stopping else seconds) as scope:
            self._long_polls.add(scope)
            try:
                yield
            finally:
                self._long_polls.discard(scope)

    def end_long_polls(self) -> None:
        """Answer what waits: for records with what is there, for a group with NOT_COORDINATOR.

        From now on nothing waits.
        """
        self._is_stopping = True
        self.groups.stop()
        for scope in self._long_polls:
            scope.cancel()

    async def run_services(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run what a broker does beside its requests, until cancelled.

        That is: flush logs, apply retention and compact, look after groups and their offsets, let
        throttled clients go on.

        Cancellation: what a worker thread has begun is completed first.
        """
        async with trio.open_nursery() as services:
            services.start_soon(self.throttler.run)
            services.start_soon(self._keep_offsets)
            await services.start(self.groups.run)
            await services.start(self._log_manager.run)
            task_status.started()

    async def _keep_offsets(self) -> None:
        await self.offsets.load()
        await OffsetExpiry(self.offsets, self.now_ms).run()

    async def close(self) -> None:
        """Flush and close every log, and give the data directory back; once.

        Raises:
            StorageError: the checkpoints could not be written; the next start recovers.

        Cancellation: not delivered while it flushes, for up to a minute.
        """
        if self._is_closed:
            return
        self._is_closed = True
        # The one shield: what was acknowledged shall be on the disk even when the stop is cut.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            try:
                await trio.to_thread.run_sync(self._cleanup.close)
            except OSError as error:
                raise StorageError(f"not closed cleanly: {error}") from error


def log_defaults(config: BrokerConfig) -> LogConfig:
    """What a log goes by if its topic says nothing.

    Raises:
        KafkaError: INVALID_CONFIG, the log cannot have that.
    """
    return LogConfig().with_topic_configs(config.log.topic_defaults)


def _open_logs(
    static: BrokerConfig,
    directory: Path,
    now_ms: Callable[[], int],
    new_uuid: Callable[[], bytes],
) -> tuple[DynamicConfig, LogManager, MetadataCache, ClientQuotas]:
    """Open the data directory; blocks, for a worker thread."""
    dynamic_config = DynamicConfig.load(static, directory)
    config = dynamic_config.current
    metadata = MetadataCache.load(directory)
    quotas = ClientQuotas.load(directory, config)
    defaults = log_defaults(config)
    for topic in metadata:
        topic.configs = _valid_configs(topic, defaults)
    log_manager = LogManager.open(
        LogManagerConfig(
            data_dir=directory,
            node_id=config.node_id,
            cluster_id=config.cluster_id,
            log=defaults,
            retention_check_interval_ms=config.log_retention_check_interval_ms,
            cleaner=config.log,
        ),
        {topic.name: topic.configs for topic in metadata},
        now_ms=now_ms,
        new_uuid=new_uuid,
    )
    return dynamic_config, log_manager, metadata, quotas


def _valid_configs(topic: TopicMetadata, defaults: LogConfig) -> dict[str, str]:
    """What a topic sets, without what another release may have allowed."""
    valid = {}
    for name, text in topic.configs.items():
        try:
            defaults.with_topic_configs({name: text})
        except KafkaError as error:
            log.error("topic %s: setting ignored: %s", topic.name, error.message)
        else:
            valid[name] = text
    return valid
