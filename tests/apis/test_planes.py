"""The two planes of a whole broker: what one is full of, the other does not notice.

Nothing here measures time. The handlers of one plane are made to stand still, its queue is filled,
and then the other plane is asked; benchmarks/control_plane.py has the figures.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.metrics import names
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    ElectLeadersRequest,
    MetadataRequest,
)
from trio_kafka_net.testing.client import ConnectionClosedError, RawClient

from .config_requests import BROKER, TOPIC, change, setting
from .lab import Lab, a_batch, a_produce

METADATA = MetadataRequest(topics=[])


class Standstill:
    """APIs of which every handler waits until the gate is open."""

    def __init__(self, *keys: ApiKey, plane: str = "data") -> None:
        self.gate = trio.Event()
        self.apis = KafkaApis.default()

        @self.apis.interceptor(*keys)
        async def stand_still(ctx, request, call_next):
            if ctx.is_privileged == (plane == "control"):
                await self.gate.wait()
            return await call_next(ctx, request)


async def fill(lab: Lab, plane: str, count: int, message, version: int) -> list[RawClient]:
    """Ask on ``count`` connections; return when every request is with the plane."""
    clients = [await lab.connect(plane) for _ in range(count)]
    for client in clients:
        await client.send_request(message, version)
    while True:
        channel = lab.plane(plane).request_channel.statistics()
        running = lab.plane(plane).handler_pool.statistics().running
        if channel.queued + channel.waiting + running == count:
            return clients
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def full(open_lab):
    """A broker whose data plane stands still: both handlers, a queue of 3, and 5 beside it."""
    still = Standstill(ApiKey.PRODUCE)
    lab = await open_lab(still.apis, num_io_threads=2, queued_max_requests=3)
    await lab.make_topic()
    clients = await fill(lab, "data", 10, a_produce("t", a_batch()), 9)
    statistics = lab.plane().request_channel.statistics()
    assert (3, 3, 5) == (statistics.queued, statistics.capacity, statistics.waiting)
    assert 2 == lab.plane().handler_pool.statistics().running
    yield lab
    channel = lab.plane().request_channel.statistics()
    assert (3, 5) == (channel.queued, channel.waiting), "the data plane stood still all the time"
    still.gate.set()
    offsets = []
    for client in clients:
        (topic,) = (await client.receive_response()).responses
        (partition,) = topic.partition_responses
        assert ErrorCode.NONE == partition.error_code
        offsets.append(partition.base_offset)
    assert list(range(10)) == sorted(offsets)


async def test_topics_come_and_go_while_the_data_plane_stands_still(full):
    """GX-02: not one handler, nor a place in the queue of the data plane is needed."""
    made = CreateTopicsRequest.CreatableTopic(name="new", num_partitions=1, replication_factor=1)
    response = await full.ask(CreateTopicsRequest(topics=[made]), 7, plane="control")
    assert [ErrorCode.NONE] == [each.error_code for each in response.topics]
    larger = CreatePartitionsRequest.Topic(name="new", count=3, assignments=None)
    response = await full.ask(CreatePartitionsRequest(topics=[larger]), 3, plane="control")
    assert [ErrorCode.NONE] == [each.error_code for each in response.results]
    changed = await change(full, (TOPIC, "new", setting(retention_ms="1000000")), plane="control")
    assert [(ErrorCode.NONE, "")] == [(code, text or "") for code, text in changed]
    elected = ElectLeadersRequest.TopicPartitions(topic="new", partitions=[0, 2])
    response = await full.ask(ElectLeadersRequest(topic_partitions=[elected]), 2, plane="control")
    (result,) = response.replica_election_results
    assert [ErrorCode.ELECTION_NOT_NEEDED] * 2 == [
        each.error_code for each in result.partition_result
    ]
    asked = MetadataRequest(topics=[MetadataRequest.Topic(name="new")])
    (described,) = (await full.ask(asked, 12, plane="control")).topics
    assert 3 == len(described.partitions)
    deleted = DeleteTopicsRequest.DeleteTopicState(name="new")
    response = await full.ask(DeleteTopicsRequest(topics=[deleted]), 6, plane="control")
    assert [ErrorCode.NONE] == [each.error_code for each in response.responses]
    assert full.local.metadata.get_topic("new") is None


@pytest.mark.parametrize(
    ("message", "version"),
    [(ApiVersionsRequest(), 0), (METADATA, 12), (DescribeClusterRequest(), 1)],
)
async def test_questions_are_answered_while_the_data_plane_stands_still(full, message, version):
    """GX-02."""
    assert message.API_KEY == (await full.ask(message, version, plane="control")).API_KEY


async def test_a_topic_that_is_being_written_can_be_deleted(open_lab):
    """What waits in the data plane is told so when its turn comes."""
    still = Standstill(ApiKey.PRODUCE)
    lab = await open_lab(still.apis, num_io_threads=1, queued_max_requests=1)
    await lab.make_topic()
    clients = await fill(lab, "data", 3, a_produce("t", a_batch()), 9)
    deleted = DeleteTopicsRequest.DeleteTopicState(name="t")
    response = await lab.ask(DeleteTopicsRequest(topics=[deleted]), 6, plane="control")
    assert [ErrorCode.NONE] == [each.error_code for each in response.responses]
    still.gate.set()
    for client in clients:
        (topic,) = (await client.receive_response()).responses
        (partition,) = topic.partition_responses
        assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == partition.error_code


async def test_the_control_plane_has_a_queue_of_20_and_one_handler(open_lab):
    """SS-65; and the data plane does not notice that it is full."""
    still = Standstill(ApiKey.DESCRIBE_CLUSTER, plane="control")
    lab = await open_lab(still.apis, num_io_threads=8, queued_max_requests=500)
    await lab.make_topic()  # now, for the controller needs the control plane as well
    admins = await fill(lab, "control", 25, DescribeClusterRequest(), 1)
    channel = lab.plane("control").request_channel.statistics()
    assert (20, 20, 4) == (channel.queued, channel.capacity, channel.waiting)
    assert (1, 1) == (
        lab.plane("control").handler_pool.statistics().size,
        lab.plane("control").handler_pool.statistics().running,
    )
    assert 1 == len(lab.plane("control").processors)
    assert (await lab.ask(DescribeClusterRequest(), 1)).brokers
    assert ErrorCode.NONE == (await lab.produce()).error_code
    still.gate.set()
    for admin in admins:
        assert (await admin.receive_response()).brokers


async def test_memory_of_the_data_plane_is_its_own(open_lab):
    """GX-03: with ``queued.max.request.bytes`` used up by data, the control plane has all of it."""
    still = Standstill(ApiKey.PRODUCE)
    lab = await open_lab(
        still.apis,
        queued_max_request_bytes=100_000,
        socket_request_max_bytes=100_000,
        num_io_threads=1,
    )
    await lab.make_topic()
    message = a_produce("t", a_batch(bytes(90_000)))
    clients = [await lab.connect() for _ in range(4)]
    for client in clients:
        await client.send_request(message, 9)
    data, control = lab.plane().memory_pool, lab.plane("control").memory_pool
    while data.waiting != 2:
        await trio.testing.wait_all_tasks_blocked()
    assert data.statistics().available < 0
    assert (100_000, 0) == (control.statistics().available, control.waiting)
    # A request that would find no byte in the data plane's memory.
    topics = [MetadataRequest.Topic(name="t" * 100) for _ in range(500)]
    large = MetadataRequest(topics=topics, allow_auto_topic_creation=False)
    assert (await lab.ask(large, 9, plane="control")).brokers
    still.gate.set()
    for client in clients:
        await client.receive_response()
    assert (0, 0) == (data.used, control.used)


async def test_threads_of_the_data_plane_can_change_and_the_control_plane_keeps_its_one(open_lab):
    """Kafka does not register the control plane's acceptor for reconfiguration."""
    lab = await open_lab(num_io_threads=4, num_network_threads=2)
    changed = await change(
        lab,
        (BROKER, "", setting(num_io_threads="8", num_network_threads="4")),
        plane="control",
    )
    assert [ErrorCode.NONE] == [code for code, _ in changed]
    sizes = {
        plane: (lab.plane(plane).handler_pool.statistics().size, len(lab.plane(plane).processors))
        for plane in ("data", "control")
    }
    assert {"data": (8, 4), "control": (1, 1)} == sizes


async def test_the_control_planes_listener_cannot_be_changed_at_run_time(open_lab):
    """V6 of KIP-291's rules: static only."""
    lab = await open_lab()
    node = str(lab.local.node_id)
    ((code, text),) = await change(
        lab, (BROKER, node, setting(control_plane_listener_name="PLAINTEXT")), plane="control"
    )
    assert ErrorCode.INVALID_REQUEST == code
    assert "control.plane.listener.name" in text
    assert ["data", "control"] == [each.plane for each in lab.broker.bound_listeners]


@pytest.mark.parametrize("name", ["CONTROLLER", "controller", " Controller "])
async def test_a_control_plane_listener_is_in_one_plane_whatever_its_case(open_lab, name):
    """GX-04: in Kafka a lower-case name ends up in both."""
    lab = await open_lab(control_plane_listener_name=name)
    assert {"data": ["PLAINTEXT"], "control": ["CONTROLLER"]} == {
        plane: [acceptor.listener.name for acceptor in lab.plane(plane).acceptors]
        for plane in ("data", "control")
    }


async def test_only_the_control_plane_is_privileged(open_lab):
    """SS-65, SS-67: the inter-broker listener is not."""
    lab = await open_lab(
        listeners=(
            "PLAINTEXT://127.0.0.1:0",
            "INTERNAL://127.0.0.1:0",
            "CONTROLLER://127.0.0.1:0",
        ),
        listener_security_protocol_map={"INTERNAL": "PLAINTEXT"},
        inter_broker_listener_name="INTERNAL",
    )
    privileged = {
        processor.listener_name: processor.is_privileged
        for plane in ("data", "control")
        for processor in lab.plane(plane).processors
    }
    assert {"PLAINTEXT": False, "INTERNAL": False, "CONTROLLER": True} == privileged


async def test_without_a_control_plane_the_data_plane_administrates(open_lab):
    """As in Kafka: whoever names no such listener has one plane, and everything works."""
    lab = await open_lab(listeners=("PLAINTEXT://127.0.0.1:0",), control_plane_listener_name=None)
    assert lab.broker.socket_server.control_plane is None
    made = CreateTopicsRequest.CreatableTopic(name="new", num_partitions=1, replication_factor=1)
    response = await lab.ask(CreateTopicsRequest(topics=[made]), 7)
    assert [ErrorCode.NONE] == [each.error_code for each in response.topics]


async def test_a_request_on_the_wrong_plane_costs_its_connection_and_nobody_elses(open_lab, caplog):
    lab = await open_lab()
    await lab.make_topic()
    other, stray = await lab.connect("control"), await lab.connect("control")
    with pytest.raises(ConnectionClosedError):
        await stray.request(a_produce("t", a_batch()), 9)
    assert "is not served on the control plane" in caplog.text
    assert (await other.request(DescribeClusterRequest(), 1)).brokers
    assert 0 == lab.partition().log_end_offset


async def test_figures_are_of_the_plane_that_they_are_about(full):
    """Difference 25, and Kafka's ``ControlPlane`` prefix of metric names."""
    await full.ask(METADATA, 12, plane="control")
    await trio.testing.wait_all_tasks_blocked()
    families = full.broker.metrics.collect()

    def numbers(metric) -> dict:
        return {sample.labels: sample.value for sample in families[metric.name].samples}

    assert {("data",): 8, ("control",): 0} == numbers(names.REQUEST_QUEUE_SIZE)
    assert {("data",): 3, ("control",): 20} == numbers(names.REQUEST_QUEUE_CAPACITY)
    handlers = numbers(names.HANDLERS)
    assert (2, 0) == (handlers["data", "running"], handlers["data", "idle"])
    assert (0, 1) == (handlers["control", "running"], handlers["control", "idle"])
    requests = numbers(names.REQUESTS)
    assert {"control"} == {plane for plane, _, _ in requests}
    assert 1 == requests["control", "Metadata", "12"]
    assert {"Metadata", "LeaderAndIsr", "UpdateMetadata"} == {api for _, api, _ in requests}
    assert {"data", "control"} == {plane for (plane,) in numbers(names.MEMORY_POOL_USED)}
