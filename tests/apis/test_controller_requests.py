"""The controller's requests as they come over the control plane, from it and from others."""

from __future__ import annotations

import contextlib
import random

import pytest

from trio_kafka_net.apis.registry import CONTROLLER_APIS
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    ControlledShutdownRequest,
    LeaderAndIsrRequest,
    MetadataRequest,
    StopReplicaRequest,
    UpdateMetadataRequest,
)
from trio_kafka_net.testing.client import RawClient

from .test_hostile_input import warnings


@pytest.fixture
async def lab(lab):
    await lab.make_topic("t", partitions=2)
    return lab


def epochs(lab):
    requests = lab.local.controller_requests
    return {
        "controller_epoch": requests.controller_epoch,
        "broker_epoch": requests.broker_epoch,
    }


def a_leadership(lab, *, leader=1, epoch=0, index=0):
    partition = {
        "partition_index": index,
        "leader": leader,
        "leader_epoch": epoch,
        "isr": [1],
        "replicas": [1],
    }
    topic_id = lab.local.metadata.get_topic("t").topic_id
    state = LeaderAndIsrRequest.PartitionState(topic_name="t", **partition)
    return LeaderAndIsrRequest(
        **epochs(lab),
        is_kraft_controller=True,
        ungrouped_partition_states=[state],
        topic_states=[
            LeaderAndIsrRequest.TopicState(
                topic_name="t", topic_id=topic_id, partition_states=[state]
            )
        ],
    )


def an_end(lab, *, epoch=5):
    partition = StopReplicaRequest.PartitionState(
        partition_index=0, leader_epoch=epoch, delete_partition=True
    )
    return StopReplicaRequest(
        **epochs(lab),
        delete_partitions=True,
        ungrouped_partitions=[StopReplicaRequest.PartitionV0(topic_name="t", partition_index=0)],
        topics=[StopReplicaRequest.TopicV1(name="t", partition_indexes=[0])],
        topic_states=[StopReplicaRequest.TopicState(topic_name="t", partition_states=[partition])],
    )


def news(lab):
    topic_id = lab.local.metadata.get_topic("t").topic_id
    state = UpdateMetadataRequest.PartitionState(topic_name="t", leader=7, isr=[7], replicas=[7])
    endpoint = UpdateMetadataRequest.Endpoint(port=1, host="h", listener="CONTROLLER")
    return UpdateMetadataRequest(
        **epochs(lab),
        controller_id=7,
        ungrouped_partition_states=[state],
        topic_states=[
            UpdateMetadataRequest.TopicState(
                topic_name="t", topic_id=topic_id, partition_states=[state]
            )
        ],
        live_brokers=[UpdateMetadataRequest.Broker(id=7, v0_host="h", endpoints=[endpoint])],
    )


async def test_control_plane_advertises_what_controllers_ask_for(lab):
    for plane in ("control", "data"):
        response = await lab.ask(ApiVersionsRequest(), 2, plane=plane)
        served = {api.api_key for api in response.api_keys}
        assert served & CONTROLLER_APIS == (CONTROLLER_APIS if plane == "control" else set())


@pytest.mark.parametrize("version", range(2, 8))
async def test_leadership_is_taken_and_given(lab, version):
    for leader, epoch, code in ((1, 1, 0), (2, 2, 0), (1, 1, ErrorCode.STALE_CONTROLLER_EPOCH)):
        request = a_leadership(lab, leader=leader, epoch=epoch)
        answer = await lab.ask(request, version, plane="control")

        errors = answer.partition_errors or answer.topics[0].partition_errors
        assert (answer.error_code, [each.error_code for each in errors]) == (0, [code])
    assert (await lab.produce("t")).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (await lab.produce("t", index=1)).error_code == 0


@pytest.mark.parametrize("version", range(5))
async def test_stopped_partition_is_served_no_more(lab, version):
    answer = await lab.ask(an_end(lab), version, plane="control")

    (error,) = answer.partition_errors
    assert (error.topic_name, error.partition_index, error.error_code) == ("t", 0, 0)
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert (await lab.produce("t")).error_code == unknown


@pytest.mark.parametrize("version", range(5, 9))
async def test_news_are_what_clients_are_told(lab, version):
    assert (await lab.ask(news(lab), version, plane="control")).error_code == 0

    told = await lab.ask(MetadataRequest(topics=None), 12, plane="control")
    assert (told.controller_id, [each.node_id for each in told.brokers]) == (7, [7])
    assert told.topics[0].partitions[0].leader_id == 7


@pytest.mark.parametrize("make", [a_leadership, an_end, news])
async def test_controller_of_the_past_is_refused(lab, make):
    request = make(lab)
    request.controller_epoch -= 1

    answer = await lab.ask(request, request.VALID_VERSIONS[1], plane="control")

    assert answer.error_code == ErrorCode.STALE_CONTROLLER_EPOCH
    assert (await lab.produce("t")).error_code == 0


@pytest.mark.parametrize("version", range(4))
async def test_last_broker_is_relieved_of_nothing(lab, version):
    """Its partitions have no other replica, so none of them counts as remaining."""
    request = ControlledShutdownRequest(broker_id=1)

    answer = await lab.ask(request, version, plane="control")

    assert (answer.error_code, answer.remaining_partitions) == (0, [])
    assert (await lab.produce("t")).error_code == 0


@pytest.mark.parametrize(
    ("node_id", "epoch", "code"),
    [(9, -1, ErrorCode.BROKER_NOT_AVAILABLE), (1, 3, ErrorCode.STALE_BROKER_EPOCH)],
)
async def test_shutdown_of_whom_nobody_knows_is_refused(lab, node_id, epoch, code):
    request = ControlledShutdownRequest(broker_id=node_id, broker_epoch=epoch)

    assert (await lab.ask(request, 3, plane="control")).error_code == code


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_almost_good_requests_are_refused_or_answered(lab, caplog, seed):
    chance = random.Random(seed)
    makers = [a_leadership, an_end, news, lambda lab: ControlledShutdownRequest(broker_id=1)]
    for _ in range(60):
        request = chance.choice(makers)(lab)
        version = chance.randint(1, request.VALID_VERSIONS[1])
        frame = bytearray(b"".join(encode_request(request, version, 1, "fuzz")))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(14, len(frame))
            frame[at : at + chance.randint(0, 3)] = chance.choice(
                [b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\x80", b"", b"t"]
            )
        async with await RawClient.connect("127.0.0.1", lab.port("control")) as client:
            await client.send_frame(frame)
            await client.stream.send_eof()
            with contextlib.suppress(OSError):
                async for _ in client.stream:
                    pass
        if lab.local.metadata.get_topic("t") is None:
            break  # it was told that there is none

    assert (await lab.ask(ApiVersionsRequest(), 0, plane="control")).error_code == 0
    assert [line for line in warnings(caplog) if "failed" in line] == []
    assert lab.plane("control").memory_pool.used == 0
