"""What a changed configuration does to the network layer: threads and connection limits.

Only what the change is about is touched: who resized the server by hand keeps the size.

Source: Kafka ``DynamicThreadPool``, ``SocketServer.reconfigure`` and ``DataPlaneAcceptor``
(KIP-226, KIP-402, KIP-612, KIP-788).
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError
from trio_kafka_net.network.acceptor import Acceptor
from trio_kafka_net.network.ip_quotas import resolve_overrides
from trio_kafka_net.network.socket_server import SocketServer


class DynamicNetwork:
    """Lets a ``SocketServer`` follow the configuration; a ``Reconfigurable``."""

    def __init__(self, server: SocketServer) -> None:
        """Begin with a server that was made with the configuration in force."""
        self._server = server

    async def validate(self, old: BrokerConfig, new: BrokerConfig) -> None:
        """Refuse what the server cannot do while it runs.

        Raises:
            ConfigError: more than double or less than half of the threads, a limit that lets
                nobody in, or a host that does not resolve.

        Cancellation: nothing is changed.
        """
        for key, wanted, before in (
            ("max.connections", new.max_connections, old.max_connections),
            (
                "max.connection.creation.rate",
                new.max_connection_creation_rate,
                old.max_connection_creation_rate,
            ),
        ):
            # At a start 0 is allowed; at run time it would lock out whoever could take it back.
            if wanted < 1 and wanted != before:
                raise ConfigError(f"{key}={wanted}: must be at least 1")
        if new.num_io_threads != old.num_io_threads:
            size = self._server.data_plane.handler_pool.statistics().size
            _check_threads("num.io.threads", size, new.num_io_threads)
        for acceptor, count in self._resized(old, new):
            _check_threads("num.network.threads", len(acceptor.processors), count)
        if new.ip_limits != old.ip_limits:
            await trio.to_thread.run_sync(resolve_overrides, new.ip_limits)

    async def reconfigure(self, old: BrokerConfig, new: BrokerConfig) -> None:
        """Have the threads and limits of ``new``; no connection is closed for fewer threads.

        Raises:
            ConfigError: a host does not resolve any more; the limits are as they were.

        Cancellation: some of it may be done.
        """
        server = self._server
        if new.num_io_threads != old.num_io_threads:
            server.resize_io_threads(new.num_io_threads)
        for acceptor, count in self._resized(old, new):
            await server.resize_network_threads(count, acceptor.listener.name)
        await self._limit_connections(old, new)

    def _resized(self, old: BrokerConfig, new: BrokerConfig) -> Iterator[tuple[Acceptor, int]]:
        """The data listeners that shall have another number of Processors, with that."""
        before, after = _network_threads(old), _network_threads(new)
        for acceptor in self._server.data_plane.acceptors:
            name = acceptor.listener.name
            if after[name] != before[name]:
                yield acceptor, after[name]

    async def _limit_connections(self, old: BrokerConfig, new: BrokerConfig) -> None:
        overrides = None
        if new.ip_limits != old.ip_limits:
            overrides = await trio.to_thread.run_sync(resolve_overrides, new.ip_limits)
        for plane in self._server.planes:
            is_data = plane is self._server.data_plane
            plane.connection_quotas.reconfigure(
                max_connections=new.max_connections if is_data else None,
                max_connection_creation_rate=new.max_connection_creation_rate if is_data else None,
                max_connections_per_ip=new.max_connections_per_ip,
                max_connections_per_ip_overrides=overrides,
            )
            names = {acceptor.listener.name for acceptor in plane.acceptors}
            for listener in new.listener_configs:
                if listener.name in names:
                    plane.connection_quotas.reconfigure_listener(
                        listener.name,
                        max_connections=listener.max_connections,
                        max_connection_creation_rate=listener.max_connection_creation_rate,
                    )


def _network_threads(config: BrokerConfig) -> dict[str, int]:
    return {
        listener.name: listener.num_network_threads or config.num_network_threads
        for listener in config.listener_configs
    }


def _check_threads(key: str, current: int, wanted: int) -> None:
    """Kafka's rule: a slip of the keyboard must not take the server down."""
    if wanted < current // 2:
        what = f"should be at least half the current value {current}"
    elif wanted > current * 2:
        what = f"should not be greater than double the current value {current}"
    else:
        return
    raise ConfigError(
        f"Dynamic thread count update validation failed for {key}={wanted}, value {what}"
    )
