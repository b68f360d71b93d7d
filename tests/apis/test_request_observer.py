"""Request figures and request log of a whole broker."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

import pytest
import trio.testing

from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker_server import Broker, open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.metrics import names
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.messages import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AlterConfigsRequest,
    AlterConfigsResponse,
    ApiVersionsRequest,
    FetchRequest,
    MetadataRequest,
    ProduceRequest,
)
from trio_kafka_net.testing.client import RawClient

MADE_UP_VERSION = 1234


def broker_config() -> BrokerConfig:
    return BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
        control_plane_listener_name="CONTROLLER",
        num_network_threads=1,
        trio_in_memory=True,
    )


def apis() -> KafkaApis:
    """The broker's own, and two that stand for handlers to come."""
    made = KafkaApis.default()
    made.add(lambda ctx, request: AlterConfigsResponse(), key=ApiKey.ALTER_CONFIGS, replace=True)
    made.add(
        lambda ctx, request: AddPartitionsToTxnResponse(),
        key=ApiKey.ADD_PARTITIONS_TO_TXN,
        replace=True,
    )
    return made


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with open_broker(broker_config(), apis()) as opened:
        yield opened


async def ask(broker: Broker, *requests, listener: int = 0, client_id: str = "me") -> None:
    """Send (message, version) one after the other over one connection, and let it settle."""
    bound = broker.bound_listeners[listener]
    async with await RawClient.connect(bound.host, bound.port, client_id=client_id) as client:
        for message, version in requests:
            await client.request(message, version)
        await trio.testing.wait_all_tasks_blocked(0.003)


def numbers(broker: Broker, metric) -> dict:
    """What clients have brought about: not what the controller told the broker at its start."""
    family = broker.metrics.collect().get(metric.name)
    return (
        {}
        if family is None
        else {
            each.labels: each.value
            for each in family.samples
            if each.labels[:2] != ("control", "UpdateMetadata")
        }
    )


def totals(broker: Broker) -> dict:
    """{(plane, request): how often TotalTimeMs was observed}."""
    return {
        labels[:2]: histogram.count
        for labels, histogram in numbers(broker, names.REQUEST_PHASE).items()
        if labels[2] == "total"
    }


A_PRODUCE = ProduceRequest(
    acks=1,
    topic_data=[
        ProduceRequest.TopicProduceData(
            name="nowhere",
            partition_data=[
                ProduceRequest.PartitionProduceData(index=index, records=b"") for index in range(3)
            ],
        )
    ],
)


async def test_requests_are_counted_by_version_and_errors_by_code(broker):
    """SS-04: and no deprecated request for a current version."""
    await ask(broker, (A_PRODUCE, 9), (A_PRODUCE, 9), (MetadataRequest(), 12))
    assert {("data", "Produce", "9"): 2, ("data", "Metadata", "12"): 1} == numbers(
        broker, names.REQUESTS
    )
    assert 6 == numbers(broker, names.ERRORS)["data", "Produce", "UNKNOWN_TOPIC_OR_PARTITION"]
    assert {} == numbers(broker, names.DEPRECATED_REQUESTS)
    assert {("data", "Produce"): 2, ("data", "Metadata"): 1} == totals(broker)


async def test_a_deprecated_version_is_counted_with_who_sent_it(broker):
    """SS-05."""
    named = ApiVersionsRequest(client_software_name="old-client", client_software_version="0.9")
    await ask(broker, (named, 3), (A_PRODUCE, 3))
    assert {("data", "Produce", "3", "old-client", "0.9"): 1} == numbers(
        broker, names.DEPRECATED_REQUESTS
    )


async def test_planes_have_figures_of_their_own(broker):
    """Difference 25."""
    await ask(broker, (MetadataRequest(), 12))
    await ask(broker, (MetadataRequest(), 12), (MetadataRequest(), 12), listener=1)
    assert {("data", "Metadata"): 1, ("control", "Metadata"): 2} == totals(broker)


async def test_brokers_of_one_process_have_figures_of_their_own(broker):
    """Difference 25."""
    async with open_broker(broker_config()) as other:
        await ask(other, (MetadataRequest(), 12))
        assert {("data", "Metadata"): 1} == totals(other)
        assert {} == totals(broker)


async def test_a_fetch_is_counted_under_its_kind_as_well(broker):
    """Consumer or follower, by where the version has the replica's id; errors once."""
    state = FetchRequest.ReplicaState(replica_id=1)
    await ask(
        broker,
        (FetchRequest(), 12),
        (FetchRequest(replica_id=2), 12),
        (FetchRequest(), 16),
        (FetchRequest(replica_state=state), 16),
    )
    assert {
        ("data", "Fetch"): 4,
        ("data", "FetchConsumer"): 2,
        ("data", "FetchFollower"): 2,
    } == totals(broker)
    assert {("data", "Fetch", "NONE"): 4} == numbers(broker, names.ERRORS)


async def test_a_request_that_only_verifies_has_its_own_name(broker):
    """AddPartitionsToTxnVerification stands instead of AddPartitionsToTxn."""

    def transactions(*flags: bool) -> AddPartitionsToTxnRequest:
        return AddPartitionsToTxnRequest(
            transactions=[
                AddPartitionsToTxnRequest.Transaction(verify_only=flag, topics=[]) for flag in flags
            ]
        )

    for flags in ((True, True), (True, False), ()):
        await ask(broker, (transactions(*flags), 5))
    assert {
        ("data", "AddPartitionsToTxnVerification"): 1,
        ("data", "AddPartitionsToTxn"): 2,
    } == totals(broker)


async def test_versions_that_clients_make_up_share_one_label(broker):
    """a label's values are ours to choose."""
    async with await trio.open_tcp_stream("127.0.0.1", broker.bound_listeners[0].port) as stream:
        for version in (MADE_UP_VERSION, MADE_UP_VERSION + 1):
            header = b"\0\x12" + version.to_bytes(2, "big") + b"\0\0\0\1" + b"\xff\xff\0"
            await stream.send_all(len(header).to_bytes(4, "big") + header)
            assert await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.003)
    assert {("data", "ApiVersions", "-1"): 2} == numbers(broker, names.REQUESTS)
    assert {("data", "ApiVersions", "UNSUPPORTED_VERSION"): 2} == numbers(broker, names.ERRORS)


async def test_figures_survive_the_end_of_processing_and_go_with_the_broker():
    """SS-41."""
    async with open_broker(broker_config()) as broker:
        await ask(broker, (MetadataRequest(), 12))
        await broker.socket_server.stop()
        assert {("data", "Metadata"): 1} == totals(broker)
    assert {} == broker.metrics.collect()


async def test_messages_are_let_go_when_their_request_is_over(broker, monkeypatch):
    """An idle handler holds its last request; it must not hold a large response."""
    seen = []
    channel = broker.socket_server.data_plane.request_channel
    hand_over = channel.hand_over
    monkeypatch.setattr(
        channel, "hand_over", lambda request: (seen.append(request), hand_over(request))
    )
    await ask(broker, (MetadataRequest(), 12))
    assert [(None, None)] == [(request.message, request.response) for request in seen]


def lines(caplog) -> list[dict]:
    """The request log."""
    return [
        json.loads(record.getMessage().removeprefix("Completed request:"))
        for record in caplog.records
        if record.name == "trio_kafka_net.request"
    ]


async def test_client_information_counts_from_the_next_request_on(broker, caplog):
    """SS-02."""
    named = ApiVersionsRequest(client_software_name="a-client", client_software_version="1.2")
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        await ask(broker, (named, 3), (MetadataRequest(), 12))
    assert [
        {"softwareName": "unknown", "softwareVersion": "unknown"},
        {"softwareName": "a-client", "softwareVersion": "1.2"},
    ] == [line["clientInformation"] for line in lines(caplog)]


async def test_client_information_stays_unknown_without_the_fields(broker, caplog):
    """SS-03."""
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        await ask(broker, (ApiVersionsRequest(), 0), (MetadataRequest(), 12))
    assert {("unknown", "unknown")} == {
        tuple(line["clientInformation"].values()) for line in lines(caplog)
    }


async def test_the_log_has_one_line_per_request_on_both_planes(broker, caplog):
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        await ask(broker, (A_PRODUCE, 3), client_id="producer")
        await ask(broker, (MetadataRequest(), 12), listener=1)
    produced, described = lines(caplog)
    assert "producer" == produced["requestHeader"]["clientId"]
    assert produced["requestHeader"]["requestApiVersionDeprecated"] is True
    assert 3 == len(produced["response"]["responses"][0]["partitionResponses"])
    assert ("PLAINTEXT", "PLAINTEXT") == (produced["listener"], produced["securityProtocol"])
    assert "CONTROLLER" == described["listener"]
    assert "requestApiVersionDeprecated" not in described["requestHeader"]
    assert described["totalTimeMs"] > 0


async def test_secrets_do_not_reach_the_log(broker, caplog):
    """RC-08."""
    config = AlterConfigsRequest.AlterableConfig(name="ssl.key.password", value="hunter2")
    resource = AlterConfigsRequest.Resource(resource_type=4, resource_name="1", configs=[config])
    with caplog.at_level(logging.DEBUG):
        await ask(broker, (AlterConfigsRequest(resources=[resource]), 2), listener=1)
    (line,) = lines(caplog)
    assert [{"name": "ssl.key.password", "value": "[hidden]"}] == line["request"]["resources"][0][
        "configs"
    ]
    assert "hunter2" not in caplog.text


async def test_nothing_is_described_while_the_log_is_off(broker, caplog, monkeypatch):
    monkeypatch.setattr(
        "trio_kafka_net.apis.request_observer.log_completed",
        lambda *args, **settings: pytest.fail("described a request that nobody reads"),
    )
    with caplog.at_level(logging.INFO, "trio_kafka_net.request"):
        await ask(broker, (A_PRODUCE, 9), (MetadataRequest(), 12))
    assert {("data", "Produce"): 1, ("data", "Metadata"): 1} == totals(broker)
    assert "reporting its end failed" not in caplog.text
