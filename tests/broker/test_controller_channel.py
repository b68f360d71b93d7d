"""Deliveries: their order, and what becomes of them on a connection that cannot be trusted."""

from __future__ import annotations

import copy
import logging
import random

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_kafka_net.broker import controller_channel
from trio_kafka_net.broker.cluster_state import ClusterState, DeliveryWait
from trio_kafka_net.broker.controller_channel import ControllerChannel, StreamTransport
from trio_kafka_net.broker.controller_messages import Change
from trio_kafka_net.broker.leaderships import Registration
from trio_kafka_net.broker.local_broker import LocalBroker, random_uuid, start_controller
from trio_kafka_net.broker.metadata_cache import MetadataCache
from trio_kafka_net.broker.topics_file import load_topics
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    LeaderAndIsrRequest,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
)


@attrs.define(eq=False)
class FaultyTransport:
    """Carries requests to a broker, each as the next of ``fates`` has it, the rest faithfully.

    ======== =====================================================================
    lost     the request does not arrive
    unheard  it is carried out, the answer is lost
    late     the connection breaks, and the request arrives when ``arrive`` is called
    twice    it arrives twice
    hangs    nothing happens any more
    ======== =====================================================================
    """

    broker: LocalBroker
    fates: list[str] = attrs.field(factory=list)
    is_direct: bool = False
    names: list[str] = attrs.field(factory=list)
    pieces: list[int] = attrs.field(factory=list)
    late: list = attrs.field(factory=list)
    stale: int = 0

    async def ask(self, requests, heard):
        self.pieces.append(len(requests))
        for request in requests:
            heard(await self._ask(request))

    async def _ask(self, request):
        fate = self.fates.pop(0) if self.fates else "arrives"
        self.names.append(type(request).__name__.removesuffix("Request"))
        await trio.lowlevel.checkpoint()
        if fate == "late":
            self.late.append(copy.deepcopy(request))
        if fate in {"lost", "late"}:
            raise trio.BrokenResourceError
        if fate == "hangs":
            await trio.sleep_forever()
        if fate == "twice":
            await self.broker.controller_requests.handle(copy.deepcopy(request))
        response = await self.broker.controller_requests.handle(request)
        if fate == "unheard":
            raise OSError("connection reset")
        return response

    async def arrive(self):
        """Let everything arrive that is late: each of it is refused as stale."""
        while self.late:
            response = await self.broker.controller_requests.handle(self.late.pop())
            assert response.error_code == ErrorCode.STALE_CONTROLLER_EPOCH
            self.stale += 1

    def close(self):
        pass

    def again(self):
        return self


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(controller_channel, "BACK_OFF_SECONDS", 0)


@pytest.fixture
async def broker(nursery):
    opened = await LocalBroker.open(BrokerConfig(trio_in_memory=True), registers=False)
    await nursery.start(opened.controller.run)
    yield opened
    await opened.close()


async def with_faults(broker, *fates):
    transport = FaultyTransport(broker, list(fates))
    await broker.register({}, transport)
    return transport


def check_told(broker):
    """The broker knows and serves exactly what the controller has decided."""
    decided = broker.controller.topics
    assert {
        (topic.name, topic.topic_id): [
            (state.leader_id, state.leader_epoch, state.partition_epoch)
            for state in topic.partitions
        ]
        for topic in decided
    } == {
        (topic.name, topic.topic_id): [
            (state.leader_id, state.leader_epoch, state.partition_epoch)
            for state in topic.partitions
        ]
        for topic in broker.metadata
    }
    assert {(partition.key, partition.topic_id) for partition in broker.replicas} == {
        ((topic.name, index), topic.topic_id)
        for topic in decided
        for index in range(len(topic.partitions))
    }
    assert all(partition.is_leader for partition in broker.replicas)


async def test_leadership_is_told_before_the_news_of_it(broker):
    transport = await with_faults(broker)
    await broker.controller.create_topic("t")
    await broker.controller.create_partitions("t", 2)
    await broker.controller.delete_topic("t")

    assert transport.names == [
        "UpdateMetadata",
        *["LeaderAndIsr", "UpdateMetadata"] * 2,
        "UpdateMetadata",
        "StopReplica",
    ]


async def test_requests_of_a_decision_travel_together(broker):
    transport = await with_faults(broker)
    await broker.controller.create_topic("t")
    await broker.controller.delete_topic("t")
    assert transport.pieces == [1, 2, 2]

    for _ in range(20):
        broker.controller._state.announce([])
    await broker.controller._state.delivered(DeliveryWait())
    assert transport.pieces[3:] == [8, 8, 4]


async def test_only_what_has_no_answer_is_asked_again(broker):
    transport = await with_faults(broker)
    transport.fates = ["arrives", "lost"]

    await broker.controller.create_topic("t")

    assert transport.names[1:] == ["LeaderAndIsr", "UpdateMetadata", "UpdateMetadata"]
    check_told(broker)


async def test_large_topics_are_told_in_pieces(broker):
    await broker.controller.start()
    transport = await with_faults(broker)
    await broker.controller.create_topic("t", partitions=1001)

    assert transport.names[1:] == ["LeaderAndIsr"] * 3 + ["UpdateMetadata"]
    check_told(broker)


@pytest.mark.parametrize("fate", ["lost", "unheard", "late", "twice"])
async def test_change_survives_every_fault(broker, fate):
    transport = await with_faults(broker)
    for change in (
        lambda: broker.controller.create_topic("t", partitions=2),
        lambda: broker.controller.create_partitions("t", 3),
        lambda: broker.controller.delete_topic("t"),
        lambda: broker.controller.create_topic("t"),
    ):
        transport.fates = [fate, "arrives", fate]
        await change()
        check_told(broker)
        await transport.arrive()
        check_told(broker)
    assert (transport.stale > 0) == (fate == "late")


async def test_what_may_still_be_on_its_way_is_fenced_by_a_new_epoch(broker):
    transport = await with_faults(broker)
    epoch = broker.controller.epoch
    transport.fates = ["late"]

    await broker.controller.create_topic("t")

    assert broker.controller.epoch == broker.controller_requests.controller_epoch == epoch + 1
    assert transport.names[1:] == ["LeaderAndIsr", "LeaderAndIsr", "UpdateMetadata"]


@pytest.mark.parametrize("seed", range(20))
async def test_random_faults_in_random_changes(broker, seed):
    chance = random.Random(seed)
    transport = await with_faults(broker)
    for _ in range(15):
        transport.fates = chance.choices(
            ["arrives", "lost", "unheard", "late", "twice"], [4, 1, 1, 1, 1], k=6
        )
        name = chance.choice("abc")
        topic = broker.controller.topics.get_topic(name)
        if topic is None:
            await broker.controller.create_topic(name, partitions=chance.randint(1, 3))
        elif chance.random() < 0.5:
            await broker.controller.delete_topic(name)
        else:
            await broker.controller.create_partitions(name, len(topic.partitions) + 1)
        if chance.random() < 0.5:
            await transport.arrive()
        check_told(broker)
    await transport.arrive()
    check_told(broker)


async def test_broker_that_does_not_answer_costs_the_time_that_was_given(broker, mock_clock):
    transport = await with_faults(broker)
    transport.fates = ["hangs", "hangs"]
    outcomes = []

    async def create():
        try:
            wait = DeliveryWait(trio.current_time() + 5)
            await broker.controller.create_topic("t", wait=wait)
        except KafkaError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        while transport.fates == ["hangs", "hangs"]:
            await wait_all_tasks_blocked()
        mock_clock.jump(5)
    # The topic is made all the same, and its name taken; others are not held up.
    assert outcomes == [ErrorCode.REQUEST_TIMED_OUT]
    with pytest.raises(KafkaError, match="already exists"):
        await broker.controller.create_topic("t")

    for _ in range(2):
        mock_clock.jump(controller_channel.ANSWER_SECONDS)
        await wait_all_tasks_blocked()
    check_told(broker)


async def test_broker_that_is_gone_is_not_waited_for(broker):
    transport = await with_faults(broker)
    transport.fates = ["hangs"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.controller.create_topic, "t")
        while transport.fates:
            await wait_all_tasks_blocked()

        await broker.controller.leaderships.unregister(1)

    assert broker.controller.topics.get_topic("t").partitions[0].leader_id == -1


async def test_broker_that_registers_again_is_told_everything_anew(broker):
    await with_faults(broker)
    await broker.controller.create_topic("t", partitions=2)
    await broker.controller.leaderships.unregister(1)
    broker.metadata.remove_topic("t")
    for index in (0, 1):
        broker.replicas.remove_partition("t", index)

    await with_faults(broker)

    check_told(broker)
    assert [each.leader_epoch for each in broker.replicas] == [2, 2]


async def test_next_controller_fences_the_one_before(broker, caplog):
    """A controller that starts over the same store tells everything again, under a new epoch."""
    await with_faults(broker)
    await broker.controller.create_topic("t")
    old, logs = broker.controller, broker.store.logs
    broker.store.state = ClusterState(logs, *load_topics(logs.path))
    broker.controller = await start_controller(broker.store, broker.config, new_uuid=random_uuid)

    await broker.register()

    assert broker.controller.epoch == old.epoch + 1
    check_told(broker)
    assert broker.replicas.get_partition("t", 0).leader_epoch == 1
    broker.controller_requests.broker_epoch = -1
    with caplog.at_level(logging.ERROR):
        await old.create_topic("u")
    assert "refused LeaderAndIsrRequest: STALE_CONTROLLER_EPOCH" in caplog.text
    assert broker.metadata.get_topic("u") is None


# The connection


class OneAnswer:
    """Connects to a peer that does as it is told."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0

    async def connect(self):
        self.connections += 1
        ours, theirs = memory_stream_pair()
        answer = self.answers.pop(0)
        if answer:
            await theirs.send_all(answer)
        await theirs.send_eof()
        ours.socket = self
        return ours

    def close(self):
        """As a socket is closed."""


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        b"\0\0\0\x09x",
        b"\xff\xff\xff\xff",
        b"\x7f\0\0\0",
        b"\0\0\0\x05\0\0\0\x63\0",
        # whole, and to another request
        b"\0\0\0\x08" + b"\0\0\0\x63\0" + b"\0\0" + b"\0",
    ],
)
async def test_answer_that_is_none_is_asked_for_again(nursery, answer, caplog):
    good = b"\0\0\0\x08" + b"\0\0\0\x02\0" + b"\0\0" + b"\0"
    peer = OneAnswer(answer, good)
    epochs = iter(range(10))
    current = [next(epochs)]

    def renew():
        current[0] = next(epochs)

    channel = ControllerChannel(
        7, 70, StreamTransport(peer.connect), epoch=lambda: current[0], renew_epoch=renew
    )
    request = UpdateMetadataRequest()
    channel.put(request)
    nursery.start_soon(channel.run)

    await channel.delivered()

    assert (peer.connections, request.controller_epoch, request.broker_epoch) == (2, 1, 70)
    assert "broker 7 did not answer UpdateMetadataRequest, asking again" in caplog.text
    channel.close()
    await channel.delivered()
    channel.put(request)
    assert channel.has_delivered


async def test_broker_epochs_are_above_those_of_every_earlier_controller(broker):
    """Or a request from before the last start would not be stale."""
    logs = broker.store.logs
    earlier, later = (ClusterState(logs, MetadataCache(), epoch) for epoch in (1, 2))
    old = [earlier.add_broker(node_id, {}, FaultyTransport(broker)).epoch for node_id in range(9)]

    new = later.add_broker(1, {}, FaultyTransport(broker)).epoch

    assert old == sorted(set(old))
    assert new > max(old)


async def test_what_was_meant_for_a_broker_before_its_restart_is_forgotten(broker):
    state = ClusterState(broker.store.logs, MetadataCache(), 1)
    before = state.add_broker(7, {}, FaultyTransport(broker)).channel
    before.put(UpdateMetadataRequest())

    state.add_broker(7, {}, FaultyTransport(broker))

    assert before.has_delivered
    await before.run()


async def test_broker_that_knows_nothing_is_told_everything_as_that(broker, monkeypatch):
    topics = MetadataCache()
    topics.add_topic("t", b"t" * 16, [(7, 8)])
    state = ClusterState(broker.store.logs, topics, 1)
    told = []
    for node_id in (7, 8):
        channel = state.add_broker(node_id, {}, FaultyTransport(broker)).channel
        monkeypatch.setattr(channel, "put", told.append)

    state.announce_everything(state.brokers[8])
    state.announce([Change(topics.get_topic("t"), [0])])

    kinds = [each.type for each in told if isinstance(each, LeaderAndIsrRequest)]
    assert kinds == [2, 1, 1]  # full for one, then incremental for both


async def test_broker_that_registers_while_all_of_it_is_cut_meets_no_error(broker):
    """Who waits for the controller's lock at that moment gets it, and is cancelled afterwards."""
    state = broker.controller._state
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        nursery.cancel_scope.cancel()

    state.add_broker(7, {}, FaultyTransport(broker))

    assert not state.brokers[7].channel.transport.names


async def test_deletion_that_waits_for_a_broker_is_written_down_with_every_other_change(
    broker, nursery
):
    """Or a death in this moment would leave directories of nobody that block the name."""
    transport = await with_faults(broker)
    await broker.controller.create_topic("t")
    transport.fates = ["hangs"]
    nursery.start_soon(broker.controller.delete_topic, "t")
    while broker.controller.topics.get_topic("t") is not None:
        await trio.sleep(0)
    nursery.start_soon(broker.controller.create_topic, "u")
    while broker.controller.topics.get_topic("u") is None:
        await trio.sleep(0)

    topics, _ = load_topics(broker.store.logs.path)

    assert {topic.name: len(topic.partitions) for topic in topics} == {"t": 0, "u": 1}
    with pytest.raises(KafkaError) as refused:
        await broker.controller.create_topic("t")
    assert refused.value.code == ErrorCode.TOPIC_ALREADY_EXISTS
    nursery.cancel_scope.cancel()


async def test_brokers_come_and_go_beside_one_that_hangs(broker, autojump_clock):
    leaderships = broker.controller.leaderships
    hanging = await with_faults(broker)
    hanging.fates = ["hangs"] * 100

    await leaderships.register(Registration(2, {}, FaultyTransport(broker)))
    await leaderships.unregister(2)

    assert broker.controller.registered == [1, 2]
    assert [each.node_id for each in broker.controller._state.alive] == [1]
    assert hanging.names


async def test_broker_that_does_not_answer_does_not_get_in(broker, autojump_clock):
    await with_faults(broker)
    hanging = FaultyTransport(broker, ["hangs"] * 100)

    with pytest.raises(KafkaError) as refused:
        await broker.controller.leaderships.register(Registration(2, {}, hanging))

    assert refused.value.code == ErrorCode.REQUEST_TIMED_OUT


async def test_broker_that_cannot_be_reached_is_told_of_once(broker, caplog):
    await with_faults(broker, *["lost"] * 20)

    assert caplog.text.count("asking again") == 1
    check_told(broker)


async def test_connection_that_rested_is_made_anew(nursery, mock_clock):
    """The broker may have closed it meanwhile; to ask on it would cost an epoch."""
    good = b"\0\0\0\x08" + b"\0\0\0%c\0" + b"\0\0" + b"\0"
    peer = OneAnswer(good % 1 + good % 2, good % 3)
    transport = StreamTransport(peer.connect)
    answers = []

    for connections, rest in ((1, 59), (1, 61), (2, 0)):
        await transport.ask([UpdateMetadataRequest()], answers.append)
        assert peer.connections == connections
        mock_clock.jump(rest)


async def test_direct_delivery_is_not_interrupted():
    """Nothing runs in the background that would complete it."""
    told = []

    async def handle(request):
        await trio.lowlevel.checkpoint()
        told.append(request)
        return UpdateMetadataResponse()

    transport = controller_channel.DirectTransport(handle)
    channel = ControllerChannel(7, 1, transport, epoch=lambda: 1, renew_epoch=lambda: None)
    for _ in range(3):
        channel.put(UpdateMetadataRequest())

    with trio.CancelScope() as scope:
        scope.cancel()
        await channel.delivered()

    assert len(told) == 3


async def test_refusals_are_in_the_log(caplog):
    async def refuse(request):
        return UpdateMetadataResponse(error_code=ErrorCode.STALE_BROKER_EPOCH)

    transport = controller_channel.DirectTransport(refuse)
    channel = ControllerChannel(7, 1, transport, epoch=lambda: 1, renew_epoch=lambda: None)
    channel.put(UpdateMetadataRequest())

    await channel.delivered()

    assert "broker 7 refused UpdateMetadata" in caplog.text
    assert channel.has_delivered
