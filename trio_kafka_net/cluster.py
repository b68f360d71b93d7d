"""Several brokers in one process: one store, one controller, and each broker with all of its own.

::

    Cluster.run
    └─ services              the controller's channels, the log's flushing and checkpoints
       └─ brokers            each: its services, its planes

Every broker has its listeners and planes, its metadata cache, its partitions, its coordinator of
groups. What they share is on disk: logs, topics, settings. A partition is served by its leader
only, and a follower has what the leader has, because it is the same log; so what can be tried out
here is everything about a cluster but copying: leaders that move, coordinators that move, brokers
that stop and die and come back, clients that have to follow.

A broker ends as it began, by itself: its nursery is cancelled or returns, and the controller, which
lives outside, hears of it at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

import attrs
import trio

from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.cluster_store import ClusterStore, storage_errors
from trio_kafka_net.broker.controller import Controller
from trio_kafka_net.broker.local_broker import (
    LocalBroker,
    random_uuid,
    start_controller,
    wall_clock_ms,
)
from trio_kafka_net.broker_server import BoundListener, Broker
from trio_kafka_net.config import BrokerConfig, Endpoint
from trio_kafka_net.errors import ConfigError, LocalProtocolError

_PORT_STEP = 10
"""Between the fixed ports of one broker and those of the next."""


def config_of_broker(config: BrokerConfig, number: int) -> BrokerConfig:
    """The configuration of one of several brokers.

    Args:
        config: of the first one.
        number: 0 for the first; others have a node id that is larger by it, and fixed ports that
            are larger by ten times it.

    Raises:
        ConfigError: a port would be too large.
    """
    if not number:
        return config
    return attrs.evolve(
        config,
        node_id=config.node_id + number,
        trio_metrics_listener=_shifted_metrics(config, number),
        listeners=tuple(_shifted(each, number) for each in config.listeners),
        advertised_listeners=tuple(_shifted(each, number) for each in config.advertised_listeners),
    )


def _shifted_metrics(config: BrokerConfig, number: int) -> str | None:
    address = config.metrics_address
    if address is None or not address[1]:
        return config.trio_metrics_listener
    host, port = address
    return f"[{host}]:{port + number * _PORT_STEP}"


def _shifted(text: str, number: int) -> str:
    endpoint = Endpoint.parse(text)
    if endpoint.port:
        endpoint = attrs.evolve(endpoint, port=endpoint.port + number * _PORT_STEP)
    return str(endpoint)


class Cluster:
    """Several brokers that run; made by ``open_cluster`` and ``serve_cluster``."""

    def __init__(
        self,
        configs: dict[int, BrokerConfig],
        store: ClusterStore,
        controller: Controller,
        apis: KafkaApis,
    ) -> None:
        """Bind every listener of every broker; nothing is served before ``run``.

        Args:
            configs: {node id: configuration}.
            store: what the brokers share.
            controller: started.
            apis: what every broker serves.

        Raises:
            OSError: a port cannot be bound; those bound before are closed again.
        """
        self.controller = controller
        """Decides about topics and leaders."""
        self.brokers: dict[int, Broker] = {}
        """{node id: broker}, of those that run."""
        self._configs = configs
        self._store = store
        self._apis = apis
        self._scopes: dict[int, trio.CancelScope] = {}
        self._ended: dict[int, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self._stop_requested = trio.Event()
        self._joined = trio.Event()
        self._joining = 0
        try:
            for node_id in configs:
                self.brokers[node_id] = self._new_broker(node_id)
        except BaseException:
            for broker in self.brokers.values():
                broker.close()
            raise

    @property
    def node_ids(self) -> list[int]:
        """All brokers, those that run and those that do not."""
        return list(self._configs)

    @property
    def bound_listeners(self) -> list[BoundListener]:
        """Where the brokers that run listen, in the order of brokers and configuration."""
        return [each for broker in self._running for each in broker.bound_listeners]

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of every broker that runs, as clients take it."""
        return ",".join(broker.bootstrap_servers for broker in self._running)

    @property
    def _running(self) -> list[Broker]:
        return [self.brokers[node_id] for node_id in self._configs if node_id in self.brokers]

    def hold_back(self, node_id: int) -> AbstractContextManager[None]:
        """Let the replicas of a broker stay where they are, for the time of a ``with`` block.

        What is produced with acks=all to partitions that it follows waits, as long as it is in
        sync.
        """
        return self._store.followers.hold_back(node_id)

    # Brokers come and go

    async def start(self, node_id: int) -> Broker:
        """Start a broker that does not run; its replicas are in sync again when this returns.

        Raises:
            LocalProtocolError: it runs, or the cluster has no such broker.
            OSError: a port cannot be bound.

        Cancellation: it does not run.
        """
        if node_id in self.brokers or node_id not in self._configs or self._nursery is None:
            raise LocalProtocolError(f"broker {node_id} cannot be started now")
        broker = self.brokers[node_id] = self._new_broker(node_id)
        await self._nursery.start(self._run_broker, broker, False)
        return broker

    async def stop(self, node_id: int) -> None:
        """Stop a broker in an orderly way: others lead first what it leads.

        Nothing happens if it does not run.

        Cancellation: it stops all the same.
        """
        if node_id in self.brokers:
            self.brokers[node_id].request_stop()
            await self._ended[node_id].wait()

    async def kill(self, node_id: int) -> None:
        """Let a broker die in the middle of everything; others lead when this returns.

        Nothing happens if it does not run.

        Cancellation: it dies all the same.
        """
        if node_id in self.brokers:
            self._scopes[node_id].cancel()
            await self._ended[node_id].wait()

    def request_stop(self) -> None:
        """Begin the graceful stop of all; ``run`` returns when it is done."""
        self._stop_requested.set()

    def _new_broker(self, node_id: int) -> Broker:
        local = LocalBroker(
            self._configs[node_id],
            self._store,
            self.controller,
            now_ms=wall_clock_ms,
            new_uuid=random_uuid,
        )
        try:
            broker = Broker(local, self._apis)
        except BaseException:
            local.abandon()
            raise
        self._ended[node_id] = trio.Event()
        self._scopes[node_id] = trio.CancelScope()
        return broker

    async def _run_broker(
        self,
        broker: Broker,
        is_first_start: bool,
        *,
        task_status: trio.TaskStatus[Broker] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        node_id = broker.local.node_id
        try:
            with self._scopes[node_id]:
                await broker.run(
                    self._join_together if is_first_start else None, task_status=task_status
                )
        finally:
            del self.brokers[node_id]
            broker.local.abandon()
            try:
                if not self._stop_requested.is_set():
                    await self.controller.leaderships.unregister(node_id)
            finally:
                self._ended[node_id].set()

    async def _join_together(self) -> None:
        """Register all brokers at once when all can be reached: or the first would lead all."""
        self._joining += 1
        if self._joining < len(self._configs):
            await self._joined.wait()
            return
        brokers = self._running
        epochs = await self.controller.leaderships.register(
            *[each.local.registration(each.endpoints, each.transport()) for each in brokers]
        )
        for broker, epoch in zip(brokers, epochs, strict=True):
            broker.local.controller_requests.broker_epoch = epoch
        self._joined.set()

    # All of it

    async def run(
        self, *, task_status: trio.TaskStatus[Cluster] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until ``request_stop``, or until cancelled.

        Cancellation: requests in hand are cut; the log is still flushed and closed.
        """
        try:
            async with trio.open_nursery() as services:
                await services.start(self.controller.run)
                await services.start(self._store.logs.run)
                async with trio.open_nursery() as brokers:
                    self._nursery = brokers
                    await self._start_all(brokers)
                    task_status.started(self)
                    await self._stop_requested.wait()
                    self._nursery = None
                    for broker in self._running:
                        broker.request_stop(relieve=False)
                services.cancel_scope.cancel()
        finally:
            self._nursery = None
            for broker in self._running:
                broker.close()
            await self._store.close()

    async def _start_all(self, brokers: trio.Nursery) -> None:
        async def start(broker: Broker) -> None:
            await brokers.start(self._run_broker, broker, True)

        async with trio.open_nursery() as starting:
            for broker in self._running:
                starting.start_soon(start, broker)


async def _prepare(config: BrokerConfig, brokers: int, apis: KafkaApis | None) -> Cluster:
    if brokers < 1:
        raise ConfigError(f"{brokers} brokers: must be at least 1")
    configs = {each.node_id: each for each in (config_of_broker(config, n) for n in range(brokers))}
    store = await ClusterStore.open(config, now_ms=wall_clock_ms, new_uuid=random_uuid)
    try:
        with storage_errors(config):
            controller = await start_controller(store, config, new_uuid=random_uuid)
        return Cluster(configs, store, controller, KafkaApis.default() if apis is None else apis)
    except BaseException:
        await store.close()
        raise


async def serve_cluster(
    config: BrokerConfig,
    brokers: int = 3,
    apis: KafkaApis | None = None,
    *,
    task_status: trio.TaskStatus[Cluster] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run several brokers until they are cancelled or asked to stop.

    Args:
        config: of the first broker; see ``config_of_broker`` for the others.
        brokers: how many.
        apis: what they serve; ``KafkaApis.default()`` if not given.
        task_status: started with the ``Cluster`` when every listener accepts.

    Raises:
        ConfigError: fewer than one, or a port would be too large.
        StorageError: the data directory is in use or unreadable.
        OSError: a port cannot be bound; the text names listener, host and port.

    Cancellation: requests in hand are cut; the log is flushed and closed.
    """
    cluster = await _prepare(config, brokers, apis)
    await cluster.run(task_status=task_status)


@asynccontextmanager
async def open_cluster(
    config: BrokerConfig, brokers: int = 3, apis: KafkaApis | None = None
) -> AsyncIterator[Cluster]:
    """Have several brokers for the time of a block; they stop gracefully at the end.

    Args and errors are those of ``serve_cluster``.

    Cancellation: as there; leaving the block with an exception cuts requests in hand.
    """
    cluster = await _prepare(config, brokers, apis)
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.run)
        yield cluster
        cluster.request_stop()
