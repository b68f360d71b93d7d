"""What a broker makes of the controller's requests, the stale and the hostile ones above all."""

from __future__ import annotations

import itertools

import attrs
import pytest

from trio_kafka_net.broker.controller_requests import ControllerRequests
from trio_kafka_net.broker.metadata_cache import BrokerMetadata, Endpoint, MetadataCache
from trio_kafka_net.broker.replica_manager import ReplicaManager
from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    LeaderAndIsrRequest,
    MetadataRequest,
    StopReplicaRequest,
    UpdateMetadataRequest,
)

TOPIC_ID = bytes(range(16))
OTHER_ID = b"o" * 16
NODE = 1


@attrs.define
class Listener:
    """Remembers what it is told."""

    topic: str = "t"
    told: list = attrs.field(factory=list)

    def lead(self, index):
        self.told.append(("lead", index))

    def resign(self, index):
        self.told.append(("resign", index))

    def topic_known(self, partitions):
        self.told.append(("known", partitions))


@attrs.define
class Side:
    """One broker, as its controller sees it."""

    requests: ControllerRequests
    metadata: MetadataCache
    replicas: ReplicaManager
    listener: Listener
    deleted: list = attrs.field(factory=list)

    def partition(self, index=0):
        return self.replicas.get_partition("t", index)

    def lead(self, *states, **settings):
        """Errors of a LeaderAndIsr request, by partition."""
        response = self.requests.leader_and_isr(leadership(*states, **settings))
        assert response.error_code == 0
        return [error.error_code for topic in response.topics for error in topic.partition_errors]


@pytest.fixture
def side(storage):
    manager = storage.open_manager()
    for index in range(3):
        manager.create_log("t", index, TOPIC_ID)
    metadata, replicas = MetadataCache(), ReplicaManager(manager, node_id=NODE)
    listener = Listener()
    side = Side(ControllerRequests(metadata, replicas, listener), metadata, replicas, listener)

    async def forget(name):
        side.deleted.append(name)

    side.requests.on_topic_deleted.append(forget)
    yield side
    manager.close()


def a_state(index=0, *, leader=NODE, epoch=0, partition_epoch=0, replicas=(1, 2), isr=(1, 2)):
    return LeaderAndIsrRequest.PartitionState(
        partition_index=index,
        leader=leader,
        leader_epoch=epoch,
        partition_epoch=partition_epoch,
        replicas=list(replicas),
        isr=list(isr),
    )


def leadership(
    *states, topic_id=TOPIC_ID, name="t", controller_epoch=1, kraft=True, broker_epoch=-1
):
    topic = LeaderAndIsrRequest.TopicState(
        topic_name=name, topic_id=topic_id, partition_states=list(states)
    )
    return LeaderAndIsrRequest(
        controller_id=1,
        controller_epoch=controller_epoch,
        broker_epoch=broker_epoch,
        is_kraft_controller=kraft,
        topic_states=[topic],
    )


def an_end(index=0, *, epoch=-2, delete=True, controller_epoch=1, broker_epoch=-1):
    partition = StopReplicaRequest.PartitionState(
        partition_index=index, leader_epoch=epoch, delete_partition=delete
    )
    return StopReplicaRequest(
        controller_epoch=controller_epoch,
        broker_epoch=broker_epoch,
        topic_states=[StopReplicaRequest.TopicState(topic_name="t", partition_states=[partition])],
    )


def news(*partitions, topic_id=TOPIC_ID, controller_epoch=1, broker_epoch=-1, brokers=(1,)):
    """Of (index, leader)."""
    return UpdateMetadataRequest(
        controller_id=1,
        controller_epoch=controller_epoch,
        broker_epoch=broker_epoch,
        topic_states=[
            UpdateMetadataRequest.TopicState(
                topic_name="t",
                topic_id=topic_id,
                partition_states=[
                    UpdateMetadataRequest.PartitionState(
                        partition_index=index,
                        leader=leader,
                        replicas=[1, 2],
                        isr=[1, 2],
                        offline_replicas=[2],
                    )
                    for index, leader in partitions
                ],
            )
        ]
        if partitions
        else [],
        live_brokers=[
            UpdateMetadataRequest.Broker(
                id=node_id,
                rack="r",
                endpoints=[UpdateMetadataRequest.Endpoint(port=9, host="h", listener="A")],
            )
            for node_id in brokers
        ],
    )


# LeaderAndIsr


def test_broker_leads_and_follows_as_it_is_told(side):
    assert side.lead(a_state(0, epoch=3), a_state(1, leader=2)) == [0, 0]

    assert (side.partition(0).is_leader, side.partition(1).is_leader) == (True, False)
    assert (side.partition(0).leader_epoch, side.partition(0).isr) == (3, (1, 2))
    assert side.listener.told == [("lead", 0), ("resign", 1)]
    assert side.requests.controller_epoch == 1


@pytest.mark.parametrize(
    ("first", "second", "code", "leader"),
    [
        # (leader epoch, partition epoch) of what is told
        ((3, 0), (4, 0), 0, 2),
        ((3, 0), (3, 1), 0, 2),
        ((3, 0), (3, 0), 0, 2),
        ((3, 5), (3, 4), 0, 1),
        ((3, 0), (2, 9), ErrorCode.STALE_CONTROLLER_EPOCH, 1),
    ],
)
def test_older_decisions_about_a_partition_are_not_taken(side, first, second, code, leader):
    side.lead(a_state(epoch=first[0], partition_epoch=first[1]))

    assert side.lead(a_state(leader=2, epoch=second[0], partition_epoch=second[1])) == [code]

    assert side.partition().leader_id == leader


def test_equal_epoch_is_stale_from_a_controller_before_kraft(side):
    side.lead(a_state(epoch=3))

    assert side.lead(a_state(leader=2, epoch=3), kraft=False) == [ErrorCode.STALE_CONTROLLER_EPOCH]
    assert side.partition().is_leader


def test_what_came_already_may_come_again(side):
    request = leadership(a_state(epoch=3))

    for _ in range(3):
        response = side.requests.leader_and_isr(request)
        assert [each.error_code for each in response.partition_errors] == [0]
    assert side.partition().is_leader


def test_another_topic_of_the_name_is_refused(side):
    side.lead(a_state())

    assert side.lead(a_state(leader=2, epoch=9), topic_id=OTHER_ID) == [
        ErrorCode.INCONSISTENT_TOPIC_ID
    ]
    assert side.partition().is_leader
    assert side.lead(a_state(leader=2, epoch=9), topic_id=bytes(16)) == [0]


@pytest.mark.parametrize(
    ("state", "name", "code"),
    [
        (a_state(0, replicas=(2, 3)), "t", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (a_state(7), "t", ErrorCode.KAFKA_STORAGE_ERROR),
        (a_state(-1), "t", ErrorCode.KAFKA_STORAGE_ERROR),
        (a_state(0), "../t", ErrorCode.KAFKA_STORAGE_ERROR),
    ],
)
def test_partition_that_cannot_be_here_is_refused_and_makes_nothing(
    side, storage, state, name, code
):
    before = sorted(storage.path.iterdir())

    assert side.lead(state, name=name) == [code]

    assert len(side.replicas) == 0
    assert sorted(storage.path.iterdir()) == before


def test_offline_log_is_told_and_its_partition_led(side):
    side.replicas.log_manager.failures["t", 9] = OSError("damaged")

    assert side.lead(a_state(9)) == [ErrorCode.KAFKA_STORAGE_ERROR]
    assert side.partition(9).is_offline


def test_partitions_one_by_one_as_old_controllers_tell_them(side):
    state = a_state(1, epoch=2)
    state.topic_name = "t"
    request = LeaderAndIsrRequest(controller_epoch=1, ungrouped_partition_states=[state])

    (answer,) = side.requests.leader_and_isr(request).partition_errors

    assert (answer.topic_name, answer.partition_index, answer.error_code) == ("t", 1, 0)
    assert side.partition(1).topic_id == TOPIC_ID


# Whole requests that are stale


REQUESTS = {
    "LeaderAndIsr": lambda **epochs: leadership(a_state(leader=2, epoch=9), **epochs),
    "StopReplica": lambda **epochs: an_end(**epochs),
    "UpdateMetadata": lambda **epochs: news((0, 2), **epochs),
}


@pytest.mark.parametrize("make", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(
    ("epochs", "code"),
    [
        ({"controller_epoch": 4}, ErrorCode.STALE_CONTROLLER_EPOCH),
        ({"controller_epoch": 5, "broker_epoch": 6}, ErrorCode.STALE_BROKER_EPOCH),
        ({"controller_epoch": 5, "broker_epoch": 7}, 0),
        ({"controller_epoch": 6, "broker_epoch": 8}, 0),
        ({"controller_epoch": 5, "broker_epoch": -1}, 0),
    ],
)
async def test_requests_of_the_past_are_refused_as_a_whole(side, make, epochs, code):
    await side.requests.handle(leadership(a_state(), controller_epoch=5))
    await side.requests.handle(news((0, 1), controller_epoch=5))
    side.requests.broker_epoch = 7

    assert (await side.requests.handle(make(**epochs))).error_code == code

    if code:
        assert side.partition().is_leader
        assert side.metadata.get_topic("t").partitions[0].leader_id == 1
        assert side.requests.controller_epoch == 5


async def test_what_is_no_request_of_a_controller_is_our_own_mistake(side):
    with pytest.raises(LocalProtocolError):
        await side.requests.handle(MetadataRequest())


# StopReplica


@pytest.mark.parametrize(
    ("epoch", "code"), [(-2, 0), (-1, 0), (3, 0), (4, 0), (2, ErrorCode.FENCED_LEADER_EPOCH)]
)
def test_partition_is_let_go_unless_it_has_a_newer_leader(side, epoch, code):
    side.lead(a_state(epoch=3))

    for again in (False, True):
        (answer,) = side.requests.stop_replica(an_end(epoch=epoch)).partition_errors
        assert answer.error_code == (0 if again and not code else code)

    assert (side.partition() is None) == (not code)
    assert side.replicas.log_manager.get_log("t", 0) is not None


def test_partition_that_is_only_stopped_leads_no_more(side):
    side.lead(a_state(epoch=3))

    side.requests.stop_replica(an_end(epoch=3, delete=False))

    assert not side.partition().is_leader
    assert side.listener.told[-1] == ("resign", 0)
    assert side.lead(a_state(epoch=4)) == [0]
    assert side.partition().is_leader


@pytest.mark.parametrize(
    "partitions",
    [
        {
            "ungrouped_partitions": [
                StopReplicaRequest.PartitionV0(topic_name="t", partition_index=0)
            ]
        },
        {"topics": [StopReplicaRequest.TopicV1(name="t", partition_indexes=[0])]},
    ],
)
def test_old_controllers_say_without_epochs_what_to_stop(side, partitions):
    side.lead(a_state(epoch=3))

    request = StopReplicaRequest(controller_epoch=1, delete_partitions=True, **partitions)
    (answer,) = side.requests.stop_replica(request).partition_errors

    assert (answer.topic_name, answer.partition_index, answer.error_code) == ("t", 0, 0)
    assert side.partition() is None


# UpdateMetadata


async def test_brokers_and_partitions_are_known_as_they_were_told(side):
    await side.requests.handle(news((0, 1), (1, 2), brokers=(2, 1)))

    assert side.metadata.controller_id == 1
    assert side.metadata.brokers == [
        BrokerMetadata(node_id, {"A": Endpoint("h", 9)}, "r") for node_id in (1, 2)
    ]
    topic = side.metadata.get_topic_by_id(TOPIC_ID)
    assert [each.leader_id for each in topic.partitions] == [1, 2]
    assert topic.partitions[0].offline_replicas == (2,)
    assert side.listener.told == [("known", 2)]


async def test_deleted_topic_is_forgotten_once(side):
    await side.requests.handle(news((0, 1)))

    for _ in range(2):
        await side.requests.handle(news((0, -2)))

    assert side.metadata.get_topic("t") is None
    assert side.deleted == ["t"]


async def test_late_end_of_an_old_topic_does_not_touch_the_new_one(side):
    await side.requests.handle(news((0, 1), topic_id=OTHER_ID))

    await side.requests.handle(news((0, -2), topic_id=TOPIC_ID))

    assert side.metadata.get_topic("t").topic_id == OTHER_ID
    assert side.deleted == []


async def test_order_of_the_requests_about_a_new_topic_does_not_matter(side):
    """A broker that serves before it knows, or knows before it serves, is right in the end."""
    for requests in itertools.permutations([leadership(a_state()), news((0, 1))]):
        for request in requests:
            assert (await side.requests.handle(request)).error_code == 0
        assert side.partition().is_leader
        assert side.metadata.get_topic("t").partitions[0].leader_id == 1
        await side.requests.handle(news((0, -2)))
        await side.requests.handle(an_end())


# What no controller of ours sends


async def test_topic_without_partitions_says_nothing(side):
    await side.requests.handle(news((0, 1)))
    request = news((0, 1))
    request.topic_states[0].partition_states = []

    await side.requests.handle(request)

    assert len(side.metadata.get_topic("t").partitions) == 1
    assert side.deleted == []


async def test_end_of_single_partitions_is_no_end_of_the_topic(side):
    await side.requests.handle(news((0, 1), (1, 1)))

    await side.requests.handle(news((0, -2), (1, 2)))

    assert [each.leader_id for each in side.metadata.get_topic("t").partitions] == [1, 2]
    assert side.deleted == []


async def test_topics_whose_ids_nobody_said_are_known_by_name(side):
    for name in ("t", "u"):
        request = news((0, 1), topic_id=bytes(16))
        request.topic_states[0].topic_name = name
        await side.requests.handle(request)

    assert side.metadata.get_topic_by_id(bytes(16)) is None
    await side.requests.handle(news((0, 2)))
    await side.requests.handle(news((0, 1), topic_id=bytes(16)))
    assert side.metadata.get_topic_by_id(TOPIC_ID).partitions[0].leader_id == 1
    for name in ("t", "u"):
        request = news((0, -2), topic_id=bytes(16))
        request.topic_states[0].topic_name = name
        await side.requests.handle(request)
    assert len(side.metadata) == 0
    assert side.deleted == ["t", "u"]


async def test_two_topics_with_one_id_can_come_and_go(side):
    for leader in (1, -2):
        for name in ("t", "u"):
            request = news((0, leader))
            request.topic_states[0].topic_name = name
            assert (await side.requests.handle(request)).error_code == 0

    assert len(side.metadata) == 0


@pytest.mark.parametrize("version", [0, 2, 4, 5])
async def test_brokers_and_partitions_as_old_controllers_tell_them(side, version):
    partition = UpdateMetadataRequest.PartitionState(
        topic_name="t" if version < 5 else "", leader=2, replicas=[2], isr=[2]
    )
    broker = UpdateMetadataRequest.Broker(id=1)
    if version:
        listener = "PLAINTEXT" if version > 2 else ""
        broker.endpoints = [UpdateMetadataRequest.Endpoint(host="h", port=9, listener=listener)]
    else:
        broker.v0_host, broker.v0_port = "h", 9
    told = UpdateMetadataRequest(controller_epoch=1, live_brokers=[broker])
    if version < 5:
        told.ungrouped_partition_states = [partition]
    else:
        told.topic_states = [
            UpdateMetadataRequest.TopicState(topic_name="t", partition_states=[partition])
        ]
    request = decode(UpdateMetadataRequest, version, b"".join(encode(told, version)))

    await side.requests.handle(request)

    assert side.metadata.get_topic("t").partitions[0].leader_id == 2
    assert side.metadata.endpoint(1, "PLAINTEXT") == Endpoint("h", 9)
