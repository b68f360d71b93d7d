"""The composition root: from a configuration to a running broker.

::

    Broker.run
    └─ services              outlive what is inside: metrics endpoint, the log's flushing
       └─ planes             the SocketServer: control plane, then data plane

What is used outlives its user: a handler may always write to the log, because the log's nursery
is outside the handlers'.

Start: configuration, then data directory and recovery, then every port; only then is anything
served. Each of these fails with one exception that says what is wrong, before a task exists. The
control plane serves first; over it the controller tells the broker what it leads, and then the data
plane begins.
Stop: see ``SocketServer.stop``; then the log is flushed and closed, whatever happened before.

The store and the controller are the broker's own, unless it is one of several in a ``cluster``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from trio_kafka_net.apis.dispatch import ApiDispatcher
from trio_kafka_net.apis.registry import CONTROLLER_APIS, KafkaApis
from trio_kafka_net.apis.request_observer import RequestObserver
from trio_kafka_net.broker.controller_channel import StreamTransport, Transport
from trio_kafka_net.broker.dynamic_network import DynamicNetwork
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker.metadata_cache import Endpoint
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.metrics.registry import MetricsRegistry
from trio_kafka_net.network.acceptor import Acceptor
from trio_kafka_net.network.socket_server import SocketServer
from trio_kafka_net.observatory.observatory import Observatory

if TYPE_CHECKING:
    from trio_kafka_net.metrics.endpoint import MetricsEndpoint


@attrs.frozen
class BoundListener:
    """One listener as it was bound."""

    name: str
    host: str
    """Address that it listens on, as the kernel has it."""
    port: int
    """Port that it listens on; a real one, also when 0 was asked for."""
    plane: Literal["data", "control", "metrics"]
    """What it serves; "metrics" is the HTTP endpoint."""


class Broker:
    """A broker that runs: what it knows and stores, and the server in front of it.

    Made by ``open_broker`` and ``serve_broker``.
    """

    def __init__(self, local: LocalBroker, apis: KafkaApis) -> None:
        """Bind every listener; nothing is served before ``run``.

        Raises:
            OSError: a port cannot be bound; those bound before are closed again.
        """
        config = local.config
        self.config = local.dynamic_config.static
        """The configuration of its start; ``local.config`` is the one in force."""
        self.local = local
        """What it knows and stores."""
        self._apis = apis
        self.metrics = MetricsRegistry()
        """Every figure about it, until ``run`` returns."""
        protocols = {each.name: each.security_protocol for each in config.listener_configs}
        unstable = config.unstable_api_versions_enable
        data = ApiDispatcher(local, apis.table(is_control_plane=False, unstable=unstable))
        control_table = apis.table(is_control_plane=True, unstable=unstable)
        control = ApiDispatcher(local, control_table)
        self._obeys_requests = control_table.keys() >= CONTROLLER_APIS
        self.socket_server = SocketServer(
            config.listener_configs,
            handle=data.handle,
            control_handle=control.handle,
            parse=data.parse,
            control_parse=control.parse,
            on_finished=RequestObserver(self.metrics, "data", protocols),
            control_on_finished=RequestObserver(self.metrics, "control", protocols),
            config=config.socket_server,
        )
        """Its planes, Acceptors and Processors."""
        local.dynamic_config.subscribe(DynamicNetwork(self.socket_server))
        self.observatory = Observatory(
            local, self.socket_server, self.metrics, watches_io=config.trio_metrics_event_loop
        )
        """Through which it is looked at."""
        # The control plane has no rates of addresses: a limit must not lock administration out.
        local.quotas.limit_addresses(self.socket_server.data_plane.connection_quotas.set_ip_rate)
        data.pool = self.socket_server.data_plane.handler_pool
        if self.socket_server.control_plane is not None:
            control.pool = self.socket_server.control_plane.handler_pool
        self._stop_requested = trio.Event()
        self._shall_be_relieved = False
        self.bound_listeners = [
            BoundListener(
                listener.name,
                *listener.bound_address,
                "control" if listener.is_control_plane else "data",
            )
            for listener in self.socket_server.listeners
        ]
        """Where it listens, in the order of the configuration, the metrics endpoint last; or
        listened, when it has ended."""
        self._endpoint = self._bind_endpoint()
        self.endpoints = self._advertised()
        """{listener name: where clients find it}."""

    def _bind_endpoint(self) -> MetricsEndpoint | None:
        address = self.config.metrics_address
        if address is None:
            return None
        # Imported here: a broker without an endpoint need not know HTTP.
        from trio_kafka_net.metrics.endpoint import MetricsEndpoint

        try:
            endpoint = MetricsEndpoint(*address, self.observatory)
        except BaseException:
            self.socket_server.close()
            raise
        self.bound_listeners.append(BoundListener("METRICS", *endpoint.bound_address, "metrics"))
        return endpoint

    def close(self) -> None:
        """Give every port back; for a broker that was never run."""
        self.socket_server.close()
        if self._endpoint is not None:
            self._endpoint.close()

    def _advertised(self) -> dict[str, Endpoint]:
        endpoints = {}
        for told, bound in zip(
            self.config.listener_configs, self.socket_server.listeners, strict=True
        ):
            port = told.advertised_port or bound.bound_address[1]
            endpoints[told.name] = Endpoint(told.advertised_host, port)
        return endpoints

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of the first data listener, as clients take it."""
        name = self.socket_server.data_plane.acceptors[0].listener.name
        endpoint = self.endpoints[name]
        return f"{endpoint.host}:{endpoint.port}"

    def request_stop(self, *, relieve: bool = True) -> None:
        """Begin the graceful stop; ``run`` returns when it is done. A second call does nothing.

        Args:
            relieve: whether others, if there are any, shall lead first what this broker leads.
        """
        self._shall_be_relieved = relieve and not self.local.owns_store
        self._stop_requested.set()

    def transport(self) -> Transport | None:
        """How the controller reaches it; None is directly.

        That is so if there is no control plane, or it does not serve a controller's requests.
        """
        plane = self.socket_server.control_plane
        if plane is None or not self._obeys_requests:
            return None
        return StreamTransport(partial(_connect, plane.acceptors[0]))

    async def _register(self) -> None:
        await self.local.register(self.endpoints, self.transport())

    async def run(
        self,
        register: Callable[[], Awaitable[None]] | None = None,
        *,
        task_status: trio.TaskStatus[Broker] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until ``request_stop``, or until cancelled.

        Args:
            register: makes it take part in the cluster, called when the control plane serves; if
                not given, it registers itself.
            task_status: started when every listener accepts.

        Cancellation: requests in hand are cut; the log is still flushed and closed.
        """
        self.observatory.root_task = trio.lowlevel.current_task()
        try:
            async with trio.open_nursery() as services:
                if self._endpoint is not None:
                    await services.start(self.observatory.run)
                    await services.start(self._endpoint.run)
                await services.start(self.local.run_services)
                async with trio.open_nursery() as planes:
                    await planes.start(self.socket_server.run, register or self._register)
                    self.observatory.phase = "running"
                    task_status.started(self)
                    await self._stop_requested.wait()
                    self.observatory.phase = "stopping"
                    if self._shall_be_relieved:
                        await self.local.relieve()
                    # A long poll has nothing half done: it would only make everybody wait.
                    self.local.end_long_polls()
                    await self.socket_server.stop()
                services.cancel_scope.cancel()
        finally:
            self.observatory.root_task = None
            self.close()
            self.metrics.clear()
            await self.local.close()


async def _connect(acceptor: Acceptor) -> trio.SocketStream:
    """Connect to a listener of this process.

    No resolver is asked, which would take longer than all the rest.
    """
    host, port = acceptor.listener.bound_address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not to bind
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    connecting = trio.socket.socket(family)
    try:
        # Bound first: the Acceptor must know it before it accepts.
        await connecting.bind((host, 0))
        own = connecting.getsockname()
        acceptor.own_peer = own[0], own[1]
        await connecting.connect((host, port))
    except BaseException:
        connecting.close()
        raise
    return trio.SocketStream(connecting)


async def _prepare(config: BrokerConfig, apis: KafkaApis | None) -> Broker:
    local = await LocalBroker.open(config, registers=False)
    try:
        return Broker(local, KafkaApis.default() if apis is None else apis)
    except BaseException:
        await local.close()
        raise


async def serve_broker(
    config: BrokerConfig,
    apis: KafkaApis | None = None,
    *,
    task_status: trio.TaskStatus[Broker] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a broker until it is cancelled or asked to stop.

    Args:
        config: checked already; see ``BrokerConfig``.
        apis: what it serves; ``KafkaApis.default()`` if not given.
        task_status: started with the ``Broker`` when every listener accepts.

    Raises:
        StorageError: the data directory is in use or unreadable.
        OSError: a port cannot be bound; the text names listener, host and port.

    Cancellation: requests in hand are cut; the log is flushed and closed, so nothing that was
    acknowledged is lost.
    """
    broker = await _prepare(config, apis)
    await broker.run(task_status=task_status)


@asynccontextmanager
async def open_broker(config: BrokerConfig, apis: KafkaApis | None = None) -> AsyncIterator[Broker]:
    """Have a broker for the time of a block; it stops gracefully at the end.

    Args and errors are those of ``serve_broker``.

    Cancellation: as there; leaving the block with an exception cuts requests in hand.
    """
    broker = await _prepare(config, apis)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        yield broker
        broker.request_stop()
