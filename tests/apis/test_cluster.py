"""ApiVersions, Metadata, DescribeCluster."""

import struct

import pytest

from trio_kafka_net.apis.features import FEATURES_EPOCH
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.metadata_cache import BrokerMetadata, Endpoint
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    DescribeClusterRequest,
    DescribeTopicPartitionsRequest,
    MetadataRequest,
)
from trio_kafka_net.protocol.primitives import ZERO_UUID

TopicOf = MetadataRequest.Topic
UNKNOWN_ID = b"u" * 16


def names(response):
    return [topic.name for topic in response.topics]


def codes(response):
    return [topic.error_code for topic in response.topics]


def asking(*topics, **settings):
    return MetadataRequest(topics=[TopicOf(name=name) for name in topics], **settings)


# ApiVersions


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", range(5))
async def test_api_versions_are_those_of_the_plane(lab, plane, version):
    """KA-01."""
    request = ApiVersionsRequest(client_software_name="a", client_software_version="1")
    response = await lab.ask(request, version, plane=plane)

    assert response.error_code == 0
    table = KafkaApis.default().table(is_control_plane=plane == "control", unstable=True)
    told = {each.api_key: (each.min_version, each.max_version) for each in response.api_keys}
    served = {key: (api.min_version, api.max_version) for key, api in table.items()}
    if plane == "data":
        # Told from 0 for the sake of old librdkafka (KAFKA-18659), served from 3.
        assert served[ApiKey.PRODUCE] == (3, 13)
        served[ApiKey.PRODUCE] = (0, 13)
    assert told == served
    # Features came with version 3; who asks before is told of none, at an unknown epoch.
    told_features = [
        (each.name, each.min_version_level, each.max_version_level)
        for each in response.finalized_features
    ]
    assert told_features == ([("metadata.version", 27, 27)] if version >= 3 else [])
    assert response.finalized_features_epoch == (FEATURES_EPOCH if version >= 3 else -1)
    assert [
        (each.name, each.min_version, each.max_version) for each in response.supported_features
    ] == told_features


@pytest.mark.parametrize("version", [5, 99, 32767])
async def test_unsupported_version_of_api_versions_is_answered_in_version_0(lab, version):
    """KA-02: KIP-511: the client learns from it which version to use, on the same connection."""
    client = await lab.connect()
    await client.send_frame(struct.pack(">hhih2sB", 18, version, 7, 2, b"me", 0) + b"whatever")

    # No throttle time, no tagged fields: correlation id, error 35, one API, 18: 0 to 4.
    assert await client.receive_frame() == struct.pack(">ihihhh", 7, 35, 1, 18, 0, 4)
    assert (await client.request(ApiVersionsRequest(), 0)).error_code == 0


@pytest.mark.parametrize(("name", "version"), [("", "1"), ("a", ""), ("-a", "1"), ("a b", "1")])
async def test_illegal_software_name_is_refused_and_the_connection_stays(lab, name, version):
    """KA-03."""
    client = await lab.connect()
    request = ApiVersionsRequest(client_software_name=name, client_software_version=version)

    response = await client.request(request, 3)

    assert (response.error_code, response.api_keys) == (ErrorCode.INVALID_REQUEST, [])
    assert (await client.request(request, 2)).error_code == 0


async def test_connection_remembers_what_the_client_calls_itself(lab):
    """SS-02, SS-03: from the request after a new ApiVersions on; an old one says nothing."""
    client = await lab.connect()
    await client.request(ApiVersionsRequest(), 0)
    (processor,) = [each for each in lab.plane().processors if each.connection_count]
    (connection,) = processor._set.selector.connections.values()
    assert (connection.client_software_name, connection.client_software_version) == (
        "unknown",
        "unknown",
    )
    request = ApiVersionsRequest(client_software_name="librd", client_software_version="2.5")
    await client.request(request, 4)

    assert (connection.client_software_name, connection.client_software_version) == ("librd", "2.5")


# Metadata


@pytest.mark.parametrize(
    ("version", "topics", "expected"),
    [(0, [], ["a", "b"]), (1, None, ["a", "b"]), (1, [], []), (13, None, ["a", "b"]), (13, [], [])],
)
async def test_no_topics_and_all_topics_differ_since_version_1(lab, version, topics, expected):
    for name in "ab":
        await lab.make_topic(name)

    assert names(await lab.ask(MetadataRequest(topics=topics), version)) == expected


@pytest.mark.parametrize("version", range(14))
async def test_topic_is_described(lab, version):
    topic = await lab.make_topic("t", partitions=2)

    response = await lab.ask(asking("t"), version)

    (described,) = response.topics
    assert (described.error_code, described.name, described.is_internal) == (0, "t", False)
    assert described.topic_id == (topic.topic_id if version >= 10 else ZERO_UUID)
    assert [each.partition_index for each in described.partitions] == [0, 1]
    for partition in described.partitions:
        assert (partition.error_code, partition.leader_id) == (0, 1)
        assert partition.leader_epoch == (0 if version >= 7 else -1)
        assert partition.replica_nodes == partition.isr_nodes == [1]
    assert [(each.node_id, each.port) for each in response.brokers] == [(1, lab.port())]
    assert response.controller_id == (1 if version >= 1 else -1)


async def test_metadata_names_the_endpoints_of_its_listener(lab):
    for plane in ("data", "control"):
        response = await lab.ask(MetadataRequest(topics=[]), 12, plane=plane)

        assert [each.port for each in response.brokers] == [lab.port(plane)]
        assert response.cluster_id == lab.local.cluster_id


async def test_topic_is_found_by_its_id(lab):
    topic = await lab.make_topic("t")
    request = MetadataRequest(
        topics=[TopicOf(topic_id=each, name=None) for each in (topic.topic_id, UNKNOWN_ID)]
    )

    response = await lab.ask(request, 12)

    assert codes(response) == [0, ErrorCode.UNKNOWN_TOPIC_ID]
    assert names(response) == ["t", None]
    assert response.topics[1].topic_id == UNKNOWN_ID


@pytest.mark.parametrize("version", [10, 11])
@pytest.mark.parametrize("asked", [TopicOf(name=None), TopicOf(name="t", topic_id=UNKNOWN_ID)])
async def test_topic_ids_are_not_for_requests_before_version_12(lab, version, asked):
    """The whole request fails, as Kafka has it."""
    request = MetadataRequest(topics=[TopicOf(name="a"), asked])

    response = await lab.ask(request, version)

    assert codes(response) == [ErrorCode.INVALID_REQUEST] * 2
    assert names(response) == ["a", asked.name or ""]
    assert len(lab.local.metadata) == 0


async def test_topic_without_name_and_id_is_refused(lab):
    response = await lab.ask(asking(None), 13)

    assert codes(response) == [ErrorCode.INVALID_REQUEST]


async def test_topic_named_often_is_described_once(lab):
    await lab.make_topic("t", partitions=5)

    assert names(await lab.ask(asking("t", "t", "u", "t", "u"), 8)) == ["t", "u"]


async def test_unknown_topic_is_made_on_the_way(lab):
    response = await lab.ask(asking("new"), 4)

    assert codes(response) == [0]
    assert [each.leader_id for each in response.topics[0].partitions] == [1]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fine", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("not fine", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("..", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("x" * 250, ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
async def test_unknown_topic_is_not_made_if_the_client_declines(lab, name, code):
    response = await lab.ask(asking(name, allow_auto_topic_creation=False), 4)

    assert codes(response) == [code]
    assert len(lab.local.metadata) == 0


async def test_unknown_topic_is_not_made_if_the_broker_does_not_want_it(open_lab):
    lab = await open_lab(auto_create_topics_enable=False)

    assert codes(await lab.ask(asking("new"), 4)) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


async def test_topic_that_cannot_be_made_says_why(open_lab):
    lab = await open_lab(default_replication_factor=3)

    assert codes(await lab.ask(asking("new"), 4)) == [ErrorCode.INVALID_REPLICATION_FACTOR]


async def test_internal_topic_is_not_made_on_the_way(lab):
    response = await lab.ask(asking("__consumer_offsets"), 4)

    assert codes(response) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert response.topics[0].is_internal


async def test_one_request_makes_a_bounded_number_of_topics(lab):
    response = await lab.ask(asking(*[f"t{number}" for number in range(102)]), 4)

    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert codes(response) == [0] * 100 + [unknown] * 2


@pytest.mark.parametrize("version", [8, 10])
async def test_authorized_operations_are_told_if_asked_for(lab, version):
    """Numbers that Kafka gives without an authorizer: every operation of the resource."""
    await lab.make_topic("t")
    wanted = asking(
        "t", include_cluster_authorized_operations=True, include_topic_authorized_operations=True
    )

    response = await lab.ask(wanted, version)
    silent = await lab.ask(asking("t"), version)

    assert response.cluster_authorized_operations == 8096
    assert response.topics[0].topic_authorized_operations == 3576
    assert silent.cluster_authorized_operations == -(2**31)
    assert silent.topics[0].topic_authorized_operations == -(2**31)


# DescribeCluster


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", range(3))
async def test_cluster_is_described_as_its_listener_sees_it(lab, plane, version):
    request = DescribeClusterRequest(include_cluster_authorized_operations=True)
    response = await lab.ask(request, version, plane=plane)

    assert (response.error_code, response.controller_id) == (0, 1)
    assert response.cluster_id == lab.local.cluster_id
    assert [(each.broker_id, each.port) for each in response.brokers] == [(1, lab.port(plane))]
    assert response.cluster_authorized_operations == 8096
    assert response.endpoint_type == 1


@pytest.mark.parametrize(
    ("endpoint_type", "code", "text"),
    [
        (
            2,
            ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type "
            "CONTROLLER",
        ),
        (0, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, "Unsupported endpoint type 0"),
        (-1, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, "Unsupported endpoint type -1"),
    ],
)
async def test_only_brokers_are_described(lab, endpoint_type, code, text):
    response = await lab.ask(DescribeClusterRequest(endpoint_type=endpoint_type), 1)

    assert (response.error_code, response.brokers) == (code, [])
    assert response.error_message == text


@pytest.mark.parametrize(
    ("version", "is_alive", "code"),
    [
        (5, False, ErrorCode.LEADER_NOT_AVAILABLE),
        (5, True, ErrorCode.LEADER_NOT_AVAILABLE),
        (6, False, ErrorCode.LEADER_NOT_AVAILABLE),
        (6, True, ErrorCode.LISTENER_NOT_FOUND),
    ],
)
async def test_leader_that_the_client_cannot_reach_is_not_named(lab, version, is_alive, code):
    await lab.make_topic("t")
    known = lab.local.metadata
    (partition,) = known.get_topic("t").partitions
    partition.leader_id = 2
    if is_alive:
        known.add_broker(BrokerMetadata(2, {"ELSEWHERE": Endpoint("h", 9)}))

    (topic,) = (await lab.ask(asking("t"), version)).topics

    assert [(each.error_code, each.leader_id) for each in topic.partitions] == [(code, -1)]
    if version == 6:
        asked = DescribeTopicPartitionsRequest(
            topics=[DescribeTopicPartitionsRequest.TopicRequest(name="t")]
        )
        (topic,) = (await lab.ask(asked, 0)).topics
        assert [(each.error_code, each.leader_id) for each in topic.partitions] == [(code, -1)]


@pytest.mark.parametrize(("version", "offline"), [(4, []), (5, [1]), (13, [1])])
async def test_a_log_that_is_offline_makes_an_offline_replica(lab, version, offline):
    await lab.make_topic("t", partitions=2)
    lab.partition("t", 1).log.failure = OSError("disk on fire")

    (topic,) = (await lab.ask(asking("t"), version)).topics

    assert [each.offline_replicas for each in topic.partitions] == [[], offline]
