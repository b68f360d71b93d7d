"""What all brokers of a process share: one data directory and everything that is kept in it.

Logs, topics, settings made at run time, client quotas, producer ids. A broker that dies leaves it
as it is; whoever leads next goes on with it.

Clock and randomness come from outside, so that a simulation can replace both.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError, KafkaError, StorageError

from .client_quotas import ClientQuotas
from .cluster_state import ClusterState
from .dynamic_config import DynamicConfig
from .followers import Followers
from .log.data_dir import in_memory_data_dir
from .log.log_config import LogConfig
from .log.log_manager import LogManager, LogManagerConfig
from .metadata_cache import TopicMetadata
from .producer_ids import ProducerIds
from .topics_file import load_topics

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 60
"""How long the last flush may take before it is left to the recovery of the next start."""


@attrs.define(eq=False)
class ClusterStore:
    """A data directory in our possession; made by ``ClusterStore.open``."""

    logs: LogManager
    """All logs, and what looks after them."""
    state: ClusterState
    """Topics as they were saved, and no brokers yet."""
    followers: Followers
    """How far replicas have come."""
    producer_ids: ProducerIds
    """Ids for idempotent producers."""
    _static: BrokerConfig
    _dynamic_config: DynamicConfig
    _quotas: ClientQuotas
    _cleanup: contextlib.ExitStack
    _is_taken: bool = False
    _is_closed: bool = False

    @classmethod
    async def open(
        cls,
        config: BrokerConfig,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
    ) -> ClusterStore:
        """Take possession of the data directory and recover what is in it.

        Args:
            config: of the first broker.
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
        with contextlib.ExitStack() as cleanup:
            with storage_errors(config):
                directory = (
                    cleanup.enter_context(in_memory_data_dir())
                    if config.trio_in_memory
                    else Path(config.log_dirs[0])
                )
                store = await trio.to_thread.run_sync(
                    _open, config, directory, cleanup, now_ms, new_uuid
                )
            store._cleanup = cleanup.pop_all()
        return store

    def settings_of(self, config: BrokerConfig) -> tuple[DynamicConfig, ClientQuotas]:
        """What a broker with this configuration goes by, each broker its own."""
        if config is self._static and not self._is_taken:
            self._is_taken = True
            return self._dynamic_config, self._quotas
        dynamic_config = self._dynamic_config.of_another_broker(config)
        return dynamic_config, self._quotas.of_another_broker(dynamic_config.current)

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


@contextlib.contextmanager
def storage_errors(config: BrokerConfig) -> Iterator[None]:
    """Name the data directory in whatever its start fails with.

    Raises:
        StorageError: in place of what is raised inside.
    """
    try:
        yield
    except (OSError, KafkaError) as error:
        raise StorageError(f"{','.join(config.log_dirs)}: {error}") from error


def log_defaults(config: BrokerConfig) -> LogConfig:
    """What a log goes by if its topic says nothing.

    Raises:
        KafkaError: INVALID_CONFIG, the log cannot have that.
    """
    return LogConfig().with_topic_configs(config.log.topic_defaults)


def _open(
    static: BrokerConfig,
    directory: Path,
    cleanup: contextlib.ExitStack,
    now_ms: Callable[[], int],
    new_uuid: Callable[[], bytes],
) -> ClusterStore:
    """Open the data directory; blocks, for a worker thread."""
    dynamic_config = DynamicConfig.load(static, directory)
    config = dynamic_config.current
    topics, controller_epoch = load_topics(directory)
    quotas = ClientQuotas.load(directory, config)
    defaults = log_defaults(config)
    for topic in topics:
        topic.configs = _valid_configs(topic, defaults)
    logs = LogManager.open(
        LogManagerConfig(
            data_dir=directory,
            node_id=config.node_id,
            cluster_id=config.cluster_id,
            log=defaults,
            retention_check_interval_ms=config.log_retention_check_interval_ms,
            cleaner=config.log,
        ),
        {topic.name: topic.configs for topic in topics},
        now_ms=now_ms,
        new_uuid=new_uuid,
    )
    cleanup.callback(logs.close)
    return ClusterStore(
        logs=logs,
        state=ClusterState(logs, topics, controller_epoch),
        followers=Followers(logs),
        producer_ids=ProducerIds(logs.path),
        static=static,
        dynamic_config=dynamic_config,
        quotas=quotas,
        cleanup=cleanup,
    )


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
