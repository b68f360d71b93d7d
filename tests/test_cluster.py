"""Several brokers in one process: who leads, who hears of it, and what clients meet."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_kafka_net.broker.cluster_state import DeliveryWait
from trio_kafka_net.broker.coordinator.group_records import CommittedOffset, OffsetChange
from trio_kafka_net.cluster import config_of_broker, open_cluster
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError, KafkaError, LocalProtocolError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    ControlledShutdownRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    DescribeTopicPartitionsRequest,
    ElectLeadersRequest,
    FindCoordinatorRequest,
    MetadataRequest,
)
from trio_kafka_net.testing.client import ConnectionClosedError

from .apis.lab import Lab, a_batch, a_fetch, a_produce

LISTENERS = ("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0")


def a_config(**settings):
    return BrokerConfig(
        **{
            "listeners": LISTENERS,
            "control_plane_listener_name": "CONTROLLER",
            "num_network_threads": 1,
            "num_io_threads": 2,
            "trio_in_memory": True,
            "trio_graceful_timeout_ms": 1000,
            "offsets_topic_num_partitions": 4,
            "offsets_topic_replication_factor": 3,
            **settings,
        }
    )


@pytest.fixture(params=["control plane", "direct"])
def config(request):
    """With a control plane the controller's requests go over it, without one directly."""
    if request.param == "control plane":
        return a_config()
    return a_config(listeners=LISTENERS[:1], control_plane_listener_name=None)


@pytest.fixture
async def cluster(config):
    async with open_cluster(config) as opened:
        yield opened


def lab(cluster, node_id=1):
    return Lab(cluster.brokers[node_id])


def state(cluster, topic="t", index=0):
    """What the controller has decided."""
    return cluster.controller.topics.get_topic(topic).partitions[index]


async def make(cluster, name="t", *assignments, **settings):
    """A topic whose replicas are where a test wants them."""
    return await cluster.controller.create_topic(
        name, assignments=assignments or [(1, 2, 3)], **settings
    )


async def metadata(cluster, node_id, *names):
    topics = [MetadataRequest.Topic(name=name) for name in names] or None
    asked = MetadataRequest(topics=topics, allow_auto_topic_creation=False)
    return await lab(cluster, node_id).ask(asked, 12)


async def views(cluster):
    """What every living broker says of brokers, controller and partitions."""
    told = [await metadata(cluster, node_id) for node_id in cluster.brokers]
    for each in told:
        each.topics.sort(key=lambda topic: topic.name)
    return told


async def leader_of(cluster, topic="t", index=0):
    (only,) = (await metadata(cluster, next(iter(cluster.brokers)), topic)).topics
    return only.partitions[index].leader_id


# What is shown


async def test_every_broker_shows_all_brokers_and_the_lowest_as_controller(cluster):
    await make(cluster)

    first, *others = await views(cluster)

    assert [each.node_id for each in first.brokers] == [1, 2, 3]
    assert [each.port for each in first.brokers] == [lab(cluster, n).port() for n in (1, 2, 3)]
    assert first.controller_id == 1
    assert others == [first, first]
    (partition,) = first.topics[0].partitions
    assert (partition.leader_id, partition.replica_nodes) == (1, [1, 2, 3])
    assert (partition.isr_nodes, partition.offline_replicas) == ([1, 2, 3], [])


async def test_cluster_is_described_from_everywhere(cluster):
    for node_id in (1, 2, 3):
        told = await lab(cluster, node_id).ask(DescribeClusterRequest(), 1)

        assert (told.controller_id, [each.broker_id for each in told.brokers]) == (1, [1, 2, 3])


async def test_partitions_are_spread_and_each_is_served_by_its_leader_only(cluster):
    await cluster.controller.create_topic("t", partitions=6, replication_factor=2)

    leaders = [state(cluster, index=index).leader_id for index in range(6)]
    assert sorted(leaders) == [1, 1, 2, 2, 3, 3]
    for node_id in (1, 2, 3):
        for index in range(6):
            answer = await lab(cluster, node_id).produce("t", index=index)
            if leaders[index] == node_id:
                expected = 0
            elif node_id in state(cluster, index=index).replicas:
                expected = ErrorCode.NOT_LEADER_OR_FOLLOWER
            else:
                expected = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert answer.error_code == expected


async def test_topic_can_be_used_everywhere_as_soon_as_it_is_made(cluster):
    topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=3, replication_factor=3)
    plane = "control" if cluster.brokers[2].socket_server.control_plane else "data"

    made = await lab(cluster, 2).ask(CreateTopicsRequest(topics=[topic]), 7, plane=plane)

    assert made.topics[0].error_code == 0
    assert len({str(view.topics) for view in await views(cluster)}) == 1
    for index in range(3):
        leader = state(cluster, index=index).leader_id
        assert (await lab(cluster, leader).produce("t", index=index)).error_code == 0


async def test_deleted_topic_is_gone_everywhere_and_its_name_free(cluster):
    for _ in range(2):
        await make(cluster)
        await lab(cluster, 1).produce("t")
        request = DeleteTopicsRequest(topic_names=["t"], timeout_ms=10_000)
        assert (await lab(cluster, 3).ask(request, 5)).responses[0].error_code == 0
        assert [view.topics for view in await views(cluster)] == [[]] * 3
        assert [len(broker.local.replicas) for broker in cluster.brokers.values()] == [0] * 3
    await make(cluster)
    assert (await lab(cluster, 1).produce("t")).base_offset == 0


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"partitions": 1, "replication_factor": 4}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"assignments": [(1, 4)]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": [(1, 1)]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": [(1, 2), (1,)]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
async def test_replicas_that_cannot_be_are_refused(cluster, settings, code):
    with pytest.raises(KafkaError) as refused:
        await cluster.controller.create_topic("t", **settings)

    assert refused.value.code == code


# Brokers that stop, die and come back


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_next_in_the_isr_leads_when_a_broker_goes(cluster, way):
    await make(cluster)
    await lab(cluster, 1).produce("t")

    await getattr(cluster, way)(1)

    first, second = await views(cluster)
    assert first == second
    assert [each.node_id for each in first.brokers] == [2, 3]
    assert first.controller_id == 2
    (partition,) = first.topics[0].partitions
    assert (partition.leader_id, partition.isr_nodes) == (2, [2, 3])
    assert (partition.leader_epoch, partition.offline_replicas) == (1, [1])
    assert (await lab(cluster, 2).produce("t")).base_offset == 1
    (read,) = await lab(cluster, 2).fetch("t")
    assert read.high_watermark == 2


async def test_broker_that_comes_back_is_in_sync_and_leads_when_it_is_asked_for(cluster):
    await make(cluster)
    epoch = cluster.brokers[1].local.controller_requests.broker_epoch
    await cluster.kill(1)

    await cluster.start(1)

    assert cluster.brokers[1].local.controller_requests.broker_epoch > epoch
    assert (state(cluster).leader_id, state(cluster).isr) == (2, (2, 3, 1))
    elected = await lab(cluster, 3).ask(ElectLeadersRequest(topic_partitions=None), 2)
    (result,) = elected.replica_election_results[0].partition_result
    assert (result.partition_id, result.error_code) == (0, 0)
    assert (await leader_of(cluster), state(cluster).leader_epoch) == (1, 2)
    assert (await lab(cluster, 1).produce("t")).error_code == 0


async def test_leaderships_move_before_a_broker_stops(cluster):
    """The broker still serves when others lead already: no client meets a closed port first."""
    await make(cluster)
    seen = []
    broker = cluster.brokers[1]
    stop = broker.socket_server.stop

    async def look_and_stop():
        seen.append((state(cluster).leader_id, broker.local.replicas.get_partition("t", 0)))
        await stop()

    broker.socket_server.stop = look_and_stop
    await cluster.stop(1)

    ((leader, partition),) = seen
    assert (leader, partition.leader_id) == (2, 2)


async def test_what_nobody_can_take_over_is_led_to_the_end(cluster):
    await make(cluster, "alone", (2,))
    await cluster.stop(2)

    (topic,) = (await metadata(cluster, 1, "alone")).topics
    (partition,) = topic.partitions
    assert partition.error_code == ErrorCode.LEADER_NOT_AVAILABLE
    assert (partition.leader_id, partition.isr_nodes) == (-1, [2])
    asked = DescribeTopicPartitionsRequest(
        topics=[DescribeTopicPartitionsRequest.TopicRequest(name="alone")]
    )
    (described,) = (await lab(cluster, 3).ask(asked, 0)).topics[0].partitions
    assert (described.leader_id, described.offline_replicas) == (-1, [2])

    await cluster.start(2)

    assert await leader_of(cluster, "alone") == 2
    assert (await lab(cluster, 2).produce("alone")).error_code == 0


async def test_all_but_one_may_die(cluster):
    await make(cluster)
    await lab(cluster, 1).produce("t")
    for node_id in (1, 2):
        await cluster.kill(node_id)

    assert (await lab(cluster, 3).produce("t")).base_offset == 1
    assert (state(cluster).leader_id, state(cluster).isr) == (3, (3,))


async def elect(cluster, election_type, node_id):
    asked = ElectLeadersRequest(
        topic_partitions=[ElectLeadersRequest.TopicPartitions(topic="t", partitions=[0])],
        election_type=election_type,
    )
    answer = await lab(cluster, node_id).ask(asked, 2)
    return answer.replica_election_results[0].partition_result[0].error_code


async def test_unclean_leader_is_elected_only_when_it_is_asked_for(cluster):
    await make(cluster, "t", (1, 2))
    await cluster.kill(2)
    await cluster.kill(1)
    await cluster.start(2)
    (topic,) = (await metadata(cluster, 3, "t")).topics
    assert (topic.partitions[0].leader_id, topic.partitions[0].offline_replicas) == (-1, [1])

    assert await elect(cluster, 0, 3) == ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    assert await elect(cluster, 1, 3) == 0
    assert await elect(cluster, 1, 3) == ErrorCode.ELECTION_NOT_NEEDED
    assert await leader_of(cluster) == 2
    await cluster.kill(2)
    assert await elect(cluster, 1, 3) == ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE


async def test_shutdown_of_a_broker_before_its_last_start_is_stale(cluster):
    control = cluster.brokers[1].local
    for node_id, epoch, code in (
        (9, -1, ErrorCode.BROKER_NOT_AVAILABLE),
        (2, 1, ErrorCode.STALE_BROKER_EPOCH),
    ):
        request = ControlledShutdownRequest(broker_id=node_id, broker_epoch=epoch)
        with pytest.raises(KafkaError) as refused:
            await control._answer(request)
        assert refused.value.code == code


async def test_broker_that_runs_or_is_none_cannot_be_started(cluster):
    for node_id in (1, 4):
        with pytest.raises(LocalProtocolError):
            await cluster.start(node_id)
    await cluster.kill(4)
    await cluster.stop(4)


async def test_broker_comes_back_where_it_was(cluster):
    """Or a client that knows only this broker would not find it again."""
    before = cluster.brokers[2].bound_listeners
    await cluster.kill(2)
    await cluster.start(2)
    assert before == cluster.brokers[2].bound_listeners


async def test_broker_whose_free_port_was_taken_meanwhile_takes_another(cluster):
    before = cluster.brokers[2].bound_listeners
    await cluster.kill(2)
    with socket.create_server(("127.0.0.1", before[0].port)):
        await cluster.start(2)
        assert before[0].port != cluster.brokers[2].bound_listeners[0].port
        assert 3 == len((await metadata(cluster, 2)).brokers)


async def test_brokers_leave_no_task_behind(cluster):
    await make(cluster)
    await wait_all_tasks_blocked()
    before = trio.lowlevel.current_statistics().tasks_living
    for way in (cluster.stop, cluster.kill) * 2:
        await way(2)
        await cluster.start(2)
        await lab(cluster, 1).produce("t")
    await wait_all_tasks_blocked(0.01)

    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_restart_of_all_keeps_topics_records_and_leaders(tmp_path):
    config = a_config(trio_in_memory=False, log_dirs=(tmp_path,))
    async with open_cluster(config) as cluster:
        await cluster.controller.create_topic("t", partitions=3, replication_factor=2)
        before = [state(cluster, index=index) for index in range(3)]
        epoch = cluster.controller.epoch
        for index in range(3):
            await lab(cluster, before[index].leader_id).produce("t", index=index)
    async with open_cluster(config) as cluster:
        after = [state(cluster, index=index) for index in range(3)]
        assert cluster.controller.epoch > epoch
        assert [each.leader_id for each in after] == [each.leader_id for each in before]
        assert [each.leader_epoch for each in after] == [1, 1, 1]
        for index in range(3):
            answer = await lab(cluster, after[index].leader_id).produce("t", index=index)
            assert answer.base_offset == 1


async def test_store_of_several_brokers_opened_by_one_says_what_cannot_be_used(tmp_path, caplog):
    config = a_config(trio_in_memory=False, log_dirs=(tmp_path,))
    async with open_cluster(config) as cluster:
        await make(cluster, "t", (2, 1), (1, 2))
        await make(cluster, "alone", (3,), (2,))
    async with open_cluster(config, 1) as cluster:
        assert [state(cluster, "t", index).leader_id for index in (0, 1)] == [1, 1]
        assert "2 partitions have no leader" in caplog.text
        assert "first alone-0 of brokers 3" in caplog.text
    caplog.clear()
    async with open_cluster(config) as cluster:
        assert [state(cluster, "alone", index).leader_id for index in (0, 1)] == [3, 2]
        assert state(cluster, "t").isr == (1, 2)
        assert "no leader" not in caplog.text


# Replicas that acknowledge


async def test_min_insync_replicas_is_honoured(cluster):
    await make(cluster, configs={"min.insync.replicas": "3"})
    assert (await lab(cluster, 1).produce("t")).error_code == 0

    await cluster.kill(3)

    assert (await lab(cluster, 1).produce("t")).error_code == ErrorCode.NOT_ENOUGH_REPLICAS
    assert (await lab(cluster, 1).produce("t", acks=1)).error_code == 0


async def test_acks_all_waits_for_a_replica_that_is_held_back(cluster):
    await make(cluster)
    await lab(cluster, 1).produce("t")
    client = await lab(cluster, 1).connect()
    with cluster.hold_back(3):
        await client.send_request(a_produce("t", a_batch(), timeout_ms=60_000), 9)
        await lab(cluster, 1).parked(1, "Produce")
        (read,) = await lab(cluster, 1).fetch(("t", {"fetch_offset": 0}))
        assert read.high_watermark == 1
        with pytest.raises(LocalProtocolError):
            cluster.hold_back(3).__enter__()

    response = await client.receive_response()
    assert response.responses[0].partition_responses[0].base_offset == 1
    await client.aclose()


async def test_replica_that_is_held_back_and_dies_holds_nobody_back(cluster):
    await make(cluster)
    client = await lab(cluster, 1).connect()
    with cluster.hold_back(3):
        await client.send_request(a_produce("t", a_batch(), timeout_ms=60_000), 9)
        await lab(cluster, 1).parked(1, "Produce")

        await cluster.kill(3)

        response = await client.receive_response()
    assert response.responses[0].partition_responses[0].error_code == 0
    await client.aclose()


@pytest.mark.parametrize("has_control_plane", [True, False])
async def test_parked_acks_all_is_released_while_the_data_plane_is_full(has_control_plane):
    """The control plane does not wait behind data; without one the controller asks directly."""
    settings = {"queued_max_requests": 1, "num_io_threads": 1}
    if not has_control_plane:
        settings |= {"listeners": LISTENERS[:1], "control_plane_listener_name": None}
    async with open_cluster(a_config(**settings)) as cluster:
        await make(cluster)
        here = lab(cluster, 1)
        waiting = await here.connect()
        with cluster.hold_back(3):
            await waiting.send_request(a_produce("t", a_batch(), timeout_ms=60_000), 9)
            await here.parked(1, "Produce")
            # The only handler of the data plane is busy for good, and its queue is full.
            blocked = trio.Event()
            plane = here.plane()
            handle = plane.handler_pool._handle

            async def busy(request):
                await blocked.wait()
                await handle(request)

            plane.handler_pool._handle = busy
            clients = [await here.connect() for _ in range(4)]
            for client in clients:
                await client.send_request(MetadataRequest(topics=[]), 12)
            await wait_all_tasks_blocked(0.01)

            await cluster.controller.leaderships.reassign({("t", 0): [2, 3]}, DeliveryWait())

            (answer,) = (await waiting.receive_response()).responses[0].partition_responses
            assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        plane.handler_pool._handle = handle
        blocked.set()
        for client in [waiting, *clients]:
            await client.aclose()


# Coordinators


async def coordinator_of(cluster, node_id, group="g"):
    found = await lab(cluster, node_id).ask(FindCoordinatorRequest(key=group), 3)
    return found.error_code, found.node_id


async def test_coordinators_are_spread_and_named_by_everybody(cluster):
    groups = [f"group-{number}" for number in range(20)]
    named = {group: await coordinator_of(cluster, 1, group) for group in groups}

    assert {code for code, _ in named.values()} == {0}
    assert {node_id for _, node_id in named.values()} == {1, 2, 3}
    for node_id in (2, 3):
        assert {group: await coordinator_of(cluster, node_id, group) for group in groups} == named


def commit(cluster, node_id, offset):
    cluster.brokers[node_id].local.offsets.commit(
        "g", [OffsetChange("g", "t", 0, CommittedOffset(offset, commit_timestamp=1))]
    )


async def committed(cluster, node_id):
    store = cluster.brokers[node_id].local.offsets
    await store.load()
    return store.committed("g")["t"][0].offset


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_coordinator_moves_with_what_it_knows(cluster, way):
    await make(cluster)
    _, first = await coordinator_of(cluster, 1)
    await cluster.brokers[first].local.offsets.load()
    commit(cluster, first, 5)

    await getattr(cluster, way)(first)

    alive = next(iter(cluster.brokers))
    _, second = await coordinator_of(cluster, alive)
    assert second != first
    assert await committed(cluster, second) == 5
    commit(cluster, second, 6)
    (other,) = set(cluster.brokers) - {second}
    with pytest.raises(KafkaError) as refused:
        commit(cluster, other, 7)
    assert refused.value.code == ErrorCode.NOT_COORDINATOR


async def test_old_coordinator_sends_its_members_away_at_once(cluster):
    await make(cluster)
    _, first = await coordinator_of(cluster, 1)
    broker = cluster.brokers[first].local
    await broker.offsets.load()
    index = broker.offsets.partition_of("g")
    key = broker.offsets.topic, index
    second = state(cluster, *key).replicas[1]
    commit(cluster, first, 1)

    await cluster.controller.leaderships.reassign({key: [second, first]}, DeliveryWait())
    assert state(cluster, *key).leader_id == first  # it still is a replica, so it stays
    await cluster.controller.leaderships.reassign({key: [second]}, DeliveryWait())

    assert broker.groups.heartbeat("g", "m", None, 1) is ErrorCode.NOT_COORDINATOR
    assert await committed(cluster, second) == 1


# Several brokers, one set of settings


async def test_settings_of_all_brokers_hold_everywhere_and_of_one_only_there(cluster):
    one, two, three = (cluster.brokers[n].local.dynamic_config for n in (1, 2, 3))

    await one.alter("", lambda before: {"num.io.threads": "3"})
    await two.alter("2", lambda before: {"num.io.threads": "4"})

    assert [each.current.num_io_threads for each in (one, two, three)] == [3, 4, 3]
    await cluster.kill(2)
    await cluster.start(2)
    assert cluster.brokers[2].local.config.num_io_threads == 4


# Configuration


def test_further_brokers_have_further_ids_and_ports():
    config = BrokerConfig(
        node_id=5,
        listeners=("PLAINTEXT://127.0.0.1:9092", "B://[::1]:0"),
        advertised_listeners=("PLAINTEXT://example.org:1000",),
        listener_security_protocol_map={"B": "PLAINTEXT"},
    )

    second = config_of_broker(config, 2)

    assert config_of_broker(config, 0) is config
    assert second.node_id == 7
    assert second.listeners == ("PLAINTEXT://127.0.0.1:9112", "B://[::1]:0")
    assert second.advertised_listeners == ("PLAINTEXT://example.org:1020",)


def test_ports_end_somewhere():
    with pytest.raises(ConfigError, match="65545"):
        config_of_broker(BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:65535",)), 1)


async def test_client_of_a_broker_that_dies_is_cut(cluster):
    await make(cluster)
    client = await lab(cluster, 1).connect()
    await client.send_request(a_fetch("t", max_wait_ms=60_000), 12)
    await lab(cluster, 1).parked(1)

    await cluster.kill(1)

    with pytest.raises(ConnectionClosedError):
        await client.receive_response()
    await client.aclose()
