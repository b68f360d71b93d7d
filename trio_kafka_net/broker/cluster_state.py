"""What the controller knows and who has to be told: topics, brokers, and a channel to each of them.

A decision goes three steps, in this order and one decision at a time (``changing``): it is made on
``topics``, it is saved, and it is put into the channels of the brokers that are alive. Whoever
wants to be sure that the brokers know waits for that afterwards (``delivered``), and holds up
nobody else.

Source: Kafka ``ControllerContext``, ``ControllerChannelManager`` (3.9), ``ClusterControlManager``
(4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVarTuple

import attrs
import trio

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

from . import controller_messages as messages
from .controller_channel import ControllerChannel, Transport
from .controller_messages import Change
from .log.log_manager import LogManager
from .metadata_cache import BrokerMetadata, Endpoint, MetadataCache, TopicMetadata
from .topics_file import save_topics

DELIVERY_SECONDS = 30.0
"""How long a change waits for the brokers to hear of it, if nobody says."""

_FEW_PARTITIONS = 50
"""Described in 0.3 ms."""

_Arguments = TypeVarTuple("_Arguments")


@attrs.frozen
class DeliveryWait:
    """How to wait until the brokers have heard of a decision."""

    deadline: float = attrs.field(factory=lambda: trio.current_time() + DELIVERY_SECONDS)
    """Until when, in trio's time."""
    parked: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Entered for the time of the wait: a request must give its handler back, for the brokers may
    need it to hear of the decision."""


@attrs.define(eq=False)
class RegisteredBroker:
    """A broker, alive or not."""

    node_id: int
    epoch: int
    """Of its registration; a later one is larger."""
    endpoints: Mapping[str, Endpoint]
    """{listener name: where to connect}"""
    channel: ControllerChannel
    """What it has to be told."""
    rack: str | None = None
    is_alive: bool = True
    is_stopping: bool = False
    """Whether it asked to be relieved, so that it must not lead anything new."""

    @property
    def metadata(self) -> BrokerMetadata:
        """The broker as others see it."""
        return BrokerMetadata(self.node_id, self.endpoints, self.rack)


class ClusterState:
    """The controller's memory, and its way to the brokers."""

    def __init__(self, logs: LogManager, topics: MetadataCache, epoch: int) -> None:
        """Begin without brokers.

        Args:
            logs: the store that all brokers share.
            topics: as they were saved.
            epoch: of the controller that saved them.
        """
        self.logs = logs
        """The store that all brokers share."""
        self.topics = topics
        """The truth about topics."""
        self.epoch = epoch
        """Of this controller; brokers obey none with a smaller one."""
        self.deleting: Mapping[str, TopicMetadata] = {}
        """{name: topic without partitions}, of those that are gone and whose logs are not yet;
        saved with the others. Never changed in place, as a thread may write it down."""
        self.changing = trio.Lock()
        """Held while a decision is made and saved."""
        self.brokers: dict[int, RegisteredBroker] = {}
        """{node id: broker}, of all that ever registered."""
        self._registrations = 0
        self._nursery: trio.Nursery | None = None

    # Brokers

    @property
    def registered(self) -> list[int]:
        """Node ids of all brokers, in order."""
        return sorted(self.brokers)

    @property
    def living(self) -> list[int]:
        """Node ids of the brokers that may lead, in order."""
        return [
            node_id
            for node_id in sorted(self.brokers)
            if self.brokers[node_id].is_alive and not self.brokers[node_id].is_stopping
        ]

    @property
    def alive(self) -> list[RegisteredBroker]:
        """The brokers that can be reached, by node id."""
        return [self.brokers[each] for each in sorted(self.brokers) if self.brokers[each].is_alive]

    @property
    def controller_id(self) -> int:
        """Node id of the broker that stands for the controller: the lowest; -1 if none is alive."""
        alive = self.alive
        return alive[0].node_id if alive else -1

    def add_broker(
        self,
        node_id: int,
        endpoints: Mapping[str, Endpoint],
        transport: Transport,
        rack: str | None = None,
    ) -> RegisteredBroker:
        """Have a broker under a new broker epoch; what it was before is fenced."""
        old = self.brokers.get(node_id)
        if old is not None:
            old.channel.close()
        self._registrations += 1
        # Larger than any of an earlier controller, who cannot have had as many registrations.
        epoch = (self.epoch << 32) + self._registrations
        channel = ControllerChannel(
            node_id, epoch, transport, epoch=lambda: self.epoch, renew_epoch=self.renew_epoch
        )
        broker = RegisteredBroker(node_id, epoch, endpoints, channel, rack)
        self.brokers[node_id] = broker
        if self._nursery is not None and not transport.is_direct:
            self._nursery.start_soon(channel.run, name=f"controller channel to broker {node_id}")
        return broker

    def broker_or_raise(self, node_id: int, epoch: int) -> RegisteredBroker:
        """A broker that is alive, under the registration that it means.

        Raises:
            KafkaError: BROKER_NOT_AVAILABLE, STALE_BROKER_EPOCH.
        """
        broker = self.brokers.get(node_id)
        if broker is None or not broker.is_alive:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, f"broker {node_id} is not alive")
        if epoch not in {-1, broker.epoch}:
            raise KafkaError(
                ErrorCode.STALE_BROKER_EPOCH,
                f"broker {node_id} has broker epoch {broker.epoch}, not {epoch}",
            )
        return broker

    def renew_epoch(self) -> None:
        """Fence what was sent until now and not answered; saved with the next decision.

        Brokers know the epoch only as long as the process lives, and every start begins above
        the saved one, so it does not have to be saved at once.
        """
        self.epoch += 1

    def transport_to_controller(self) -> Transport:
        """A way to the broker that stands for the controller, for one who uses and closes it."""
        return self.brokers[self.controller_id].channel.transport.again()

    # Decisions

    async def save(self, changed: Mapping[str, TopicMetadata] | None = None) -> None:
        """Write all topics down, those in ``changed`` in place of the present ones.

        Raises:
            OSError: what was saved before is still there.

        Cancellation: completed first.
        """
        topics = self.topics.with_changed(changed or {})
        await self.work_on_files(self.write, topics)

    def write(self, topics: Sequence[TopicMetadata]) -> None:
        """Write down ``topics`` and those that are deleted; blocks, see ``work_on_files``.

        Raises:
            OSError: as ``save``.
        """
        save_topics(self.logs.path, [*topics, *self.deleting.values()], self.epoch)

    async def work_on_files(
        self,
        work: Callable[[*_Arguments], None],
        *arguments: *_Arguments,
        is_quick: bool = True,
    ) -> None:
        """Do what blocks: in a worker thread, or at once where that is quick.

        In memory a small ``topics.json`` is written in 50 µs. The way to a worker thread and back
        takes three turns of the event loop, and the thread has to wait for the interpreter after
        each of its system calls, which beside a busy data plane is most of the time of a change.

        Args:
            work: what to do.
            arguments: of ``work``.
            is_quick: whether it is, beside the writing of the topics.

        Raises:
            Exception: what ``work`` raises.

        Cancellation: completed first.
        """
        if is_quick and self.logs.is_in_memory and len(self.logs) <= _FEW_PARTITIONS:
            work(*arguments)
        else:
            await trio.to_thread.run_sync(work, *arguments)

    def announce(
        self,
        changes: Sequence[Change],
        to: Iterable[RegisteredBroker] = (),
        *,
        news: Sequence[Change] | None = None,
    ) -> None:
        """Tell brokers of partitions and of the brokers that are alive.

        Args:
            changes: the partitions.
            to: whom to tell; everybody alive if not given.
            news: partitions of which there is news, if they are not only those.
        """
        self._announce(
            changes, changes if news is None else news, list(to) or self.alive, is_full=False
        )

    def announce_everything(self, to: RegisteredBroker) -> None:
        """Tell a broker that knows nothing yet."""
        changes = [Change(topic, range(len(topic.partitions))) for topic in self.topics]
        self._announce(changes, changes, [to], is_full=True)

    def _announce(
        self,
        changes: Sequence[Change],
        news: Sequence[Change],
        to: Sequence[RegisteredBroker],
        *,
        is_full: bool,
    ) -> None:
        controller_id = self.controller_id
        living = [broker.metadata for broker in self.alive]
        for broker in to:
            for request in messages.leader_and_isr(
                changes, broker.node_id, controller_id=controller_id, is_full=is_full
            ):
                broker.channel.put(request)
            # Each its own: a channel writes its broker's epoch into its requests.
            for about in messages.update_metadata(news, living, controller_id=controller_id):
                broker.channel.put(about)

    def announce_deletion(self, topic: TopicMetadata) -> None:
        """Tell everybody that a topic goes, and those who have replicas to let go of them."""
        controller_id = self.controller_id
        living = [broker.metadata for broker in self.alive]
        indexes = range(len(topic.partitions))
        for broker in self.alive:
            for news in messages.update_metadata(
                [Change(topic, indexes)], living, controller_id=controller_id, is_deletion=True
            ):
                broker.channel.put(news)
            here = [each for each in indexes if broker.node_id in topic.partitions[each].replicas]
            self._stop(broker, topic, here, messages.EPOCH_DURING_DELETE)

    def announce_removal(self, topic: TopicMetadata, index: int, nodes: Iterable[int]) -> None:
        """Tell brokers that they have no replica of a partition any more."""
        for broker in self.alive:
            if broker.node_id in nodes:
                self._stop(broker, topic, [index], None)

    def _stop(
        self,
        broker: RegisteredBroker,
        topic: TopicMetadata,
        indexes: Sequence[int],
        leader_epoch: int | None,
    ) -> None:
        for request in messages.stop_replica(
            topic, indexes, controller_id=self.controller_id, leader_epoch=leader_epoch
        ):
            broker.channel.put(request)

    # Delivery

    async def delivered(
        self, wait: DeliveryWait, to: Iterable[RegisteredBroker] | None = None
    ) -> None:
        """Return when brokers have heard of all that was announced until now.

        Args:
            wait: for how long, and how.
            to: the brokers; everybody alive if not given.

        Raises:
            KafkaError: REQUEST_TIMED_OUT; the brokers will hear of it all the same.

        Cancellation: the same.
        """
        pending = []
        for broker in self.alive if to is None else to:
            if broker.channel.transport.is_direct:
                await broker.channel.delivered()
            elif not broker.channel.has_delivered:
                pending.append(broker.channel)
        if not pending:
            return
        async with wait.parked():
            with trio.move_on_at(wait.deadline) as waiting:
                for channel in pending:
                    await channel.delivered()
        if waiting.cancelled_caught:
            raise KafkaError(
                ErrorCode.REQUEST_TIMED_OUT, "Not every broker has heard of it in time."
            )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the channels going until cancelled.

        Cancellation: what was not delivered stays; brokers that register anew are told everything.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                # A broker may be about to register at this very moment.
                self._nursery = None
