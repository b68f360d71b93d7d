"""This broker: who it is, what it leads, and where it can be reached.

What API handlers are given. It has no sockets and no APIs; the composition root
(``broker_server``) puts the network layer in front of it and tells it its addresses.

What it keeps is in a ``ClusterStore``, and what it leads and knows of the cluster comes from a
``Controller``. Several brokers of a process share both; one broker alone has its own.

Clock and randomness come from outside, so that a simulation can replace both.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping

import attrs
import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError, KafkaError, RemoteProtocolError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.controlled_shutdown import (
    ControlledShutdownRequest,
    ControlledShutdownResponse,
)

from .cluster_state import DeliveryWait
from .cluster_store import ClusterStore, log_defaults, storage_errors
from .controller import Controller, TopicDefaults
from .controller_channel import ANSWER_SECONDS, DirectTransport, Transport
from .controller_requests import ControllerRequests
from .coordinator.group_coordinator import GroupCoordinator
from .coordinator.offset_expiry import OffsetExpiry
from .coordinator.offset_store import OffsetStore
from .leaderships import Registration
from .metadata_cache import Endpoint, MetadataCache
from .replica_manager import ReplicaManager
from .throttler import Throttler

log = logging.getLogger(__name__)


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
        static: BrokerConfig,
        store: ClusterStore,
        controller: Controller,
        *,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], bytes],
        owns_store: bool = False,
    ) -> None:
        """Know nothing of the cluster yet; see ``register``.

        Args:
            static: the configuration of its start.
            store: what is kept, perhaps with other brokers.
            controller: decides what this broker leads.
            now_ms: the clock, ms since the epoch.
            new_uuid: makes 16 random bytes.
            owns_store: whether store and controller end with this broker.
        """
        self.dynamic_config, self.quotas = store.settings_of(static)
        self.config = config = self.dynamic_config.current
        """The configuration in force."""
        self.node_id = config.node_id
        self.cluster_id = store.logs.cluster_id
        self.owns_store = owns_store
        """Whether store and controller end with this broker."""
        self.store = store
        """What is kept, perhaps with other brokers."""
        self.controller = controller
        """Makes, changes and deletes topics."""
        self.metadata = MetadataCache()
        """Topics and brokers, as this broker has heard of them."""
        self.replicas = ReplicaManager(
            store.logs, node_id=config.node_id, followers=store.followers
        )
        """Partitions that this broker has replicas of."""
        store.followers.on_release.append(self.replicas.advance)
        self.producer_ids = store.producer_ids
        """Ids for idempotent producers."""
        self.now_ms = now_ms
        """The clock, ms since the epoch."""
        self.offsets = OffsetStore(config.offsets, controller, self.replicas, now_ms=now_ms)
        """What groups have committed."""
        self.groups = GroupCoordinator(
            config.groups, self.offsets, now_ms=now_ms, new_uuid=new_uuid
        )
        """Consumer groups and their members."""
        self.offsets.groups = self.groups
        self.controller_requests = ControllerRequests(self.metadata, self.replicas, self.offsets)
        """Carries out what the controller decides."""
        self.controller_requests.on_topic_deleted.append(self.offsets.forget_topic)
        self.throttler = Throttler()
        """Holds those back that are over their quotas."""
        self.dynamic_config.subscribe(self)

    @classmethod
    async def open(
        cls,
        config: BrokerConfig,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
        new_uuid: Callable[[], bytes] = random_uuid,
        registers: bool = True,
    ) -> LocalBroker:
        """Have a broker with a store and a controller of its own.

        Args:
            config: of the broker.
            now_ms: the clock, ms since the epoch.
            new_uuid: makes 16 random bytes.
            registers: whether it takes part at once, without endpoints; else call ``register``.

        Raises:
            ConfigError: more than one data directory.
            StorageError: the directory is in use, another node's, damaged, or cannot be read or
                written; it is given back.

        Cancellation: the directory is given back.
        """
        store = await ClusterStore.open(config, now_ms=now_ms, new_uuid=new_uuid)
        try:
            with storage_errors(config):
                controller = await start_controller(store, config, new_uuid=new_uuid)
                broker = cls(
                    config, store, controller, now_ms=now_ms, new_uuid=new_uuid, owns_store=True
                )
                if registers:
                    await broker.register()
        except BaseException:
            await store.close()
            raise
        return broker

    # Its place in the cluster

    def registration(
        self,
        endpoints: Mapping[str, Endpoint] | None = None,
        transport: Transport | None = None,
    ) -> Registration:
        """What the controller has to know of this broker; see ``register``."""
        return Registration(
            self.node_id,
            endpoints or {},
            transport or DirectTransport(self._answer),
            self.config.broker_rack,
        )

    async def register(
        self,
        endpoints: Mapping[str, Endpoint] | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Take part in the cluster; returns when this broker leads what it shall lead.

        Args:
            endpoints: {listener name: where clients find it}.
            transport: how the controller reaches it; directly, if not given.

        Raises:
            OSError: the leaderships could not be saved.
            KafkaError: REQUEST_TIMED_OUT, the controller could not reach it.

        Cancellation: call ``leave``.
        """
        registration = self.registration(endpoints, transport)
        (epoch,) = await self.controller.leaderships.register(registration)
        self.controller_requests.broker_epoch = epoch

    async def relieve(self) -> None:
        """Ask the controller to give the leaderships of this broker to others.

        What nobody can take over is led to the end, and a failure is logged: the leaderships move
        when this broker is gone.

        Cancellation: some may have moved.
        Source: Kafka ``KafkaServer.controlledShutdown`` (3.9).
        """
        transport = self.controller.transport()
        epoch = self.controller_requests.broker_epoch
        request = ControlledShutdownRequest(broker_id=self.node_id, broker_epoch=epoch)
        answers: list[ControlledShutdownResponse] = []
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await transport.ask([request], answers.append)
        except (
            OSError,
            trio.BrokenResourceError,
            trio.TooSlowError,
            KafkaError,
            RemoteProtocolError,
        ) as error:
            log.warning("broker %d could not be relieved: %s", self.node_id, error)
            return
        finally:
            transport.close()
        (response,) = answers
        remaining = len(response.remaining_partitions)
        if response.error_code:
            code = ErrorCode(response.error_code).name
            log.warning("broker %d could not be relieved: %s", self.node_id, code)
        elif remaining:
            log.warning(
                "broker %d leads %d partitions to the end: nobody else can",
                self.node_id,
                remaining,
            )

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest, wait: DeliveryWait
    ) -> ControlledShutdownResponse:
        """Have the controller relieve a broker of its leaderships.

        Args:
            request: says which broker.
            wait: how to wait until all brokers have heard of it.

        Raises:
            KafkaError: as ``Leaderships.controlled_shutdown``.

        Cancellation: as there.
        """
        remaining = await self.controller.leaderships.controlled_shutdown(
            request.broker_id, request.broker_epoch, wait
        )
        return ControlledShutdownResponse(
            remaining_partitions=[
                ControlledShutdownResponse.RemainingPartition(
                    topic_name=name, partition_index=index
                )
                for name, index in remaining
            ]
        )

    async def _answer(self, request: Message) -> Message:
        """Carry out what came without a connection."""
        if isinstance(request, ControlledShutdownRequest):
            return await self.controlled_shutdown(request, DeliveryWait())
        return await self.controller_requests.handle(request)

    def abandon(self) -> None:
        """Let go of what this broker shares with others, because it is gone."""
        self.dynamic_config.leave()
        self.quotas.leave()
        self.store.followers.on_release.remove(self.replicas.advance)

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
            self.store.logs.cleaner.config = new.log
            await self.controller.use_log_defaults(log_defaults(new))

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

    def end_long_polls(self) -> None:
        """Answer what waits: for records with what is there, for a group with NOT_COORDINATOR.

        From now on nothing waits.
        """
        self.groups.stop()
        self.replicas.purgatory.end_waits()

    async def run_services(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run what a broker does beside its requests, until cancelled.

        That is: look after groups and their offsets, let throttled clients go on, end the waits
        of those whose time is over; if the store is
        its own, also deliver the controller's decisions, flush logs, apply retention and compact.

        Cancellation: what a worker thread has begun is completed first.
        """
        async with trio.open_nursery() as services:
            if self.owns_store:
                await services.start(self.controller.run)
                await services.start(self.store.logs.run)
            services.start_soon(self.throttler.run)
            services.start_soon(self.replicas.purgatory.run)
            services.start_soon(self._keep_offsets)
            await services.start(self.groups.run)
            task_status.started()

    async def _keep_offsets(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.offsets.run)
            nursery.start_soon(OffsetExpiry(self.offsets, self.now_ms).run)

    async def close(self) -> None:
        """Give back what is this broker's; the last flush, if the store is its own; once.

        Raises:
            StorageError: the checkpoints could not be written; the next start recovers.

        Cancellation: not delivered while it flushes, for up to a minute.
        """
        if self.owns_store:
            await self.store.close()


async def start_controller(
    store: ClusterStore, config: BrokerConfig, *, new_uuid: Callable[[], bytes]
) -> Controller:
    """Have a controller over a store, ready for brokers to register.

    Args:
        store: what it decides about.
        config: says what new topics get.
        new_uuid: makes 16 random bytes.

    Raises:
        KafkaError: KAFKA_STORAGE_ERROR, as ``Controller.start``.
        OSError: the same.

    Cancellation: some logs that were missing may have been made.
    """
    controller = Controller(
        store.state,
        defaults=TopicDefaults(
            partitions=config.num_partitions,
            replication_factor=config.default_replication_factor,
        ),
        new_uuid=new_uuid,
    )
    await controller.start()
    return controller
