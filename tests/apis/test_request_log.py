from __future__ import annotations

import copy
import json
import logging
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_kafka_net.apis.config_redaction import loggable_value
from trio_kafka_net.apis.dispatch import KafkaRequest
from trio_kafka_net.apis.message_json import HIDDEN, struct_to_json
from trio_kafka_net.apis.request_log import describe_request, log_completed
from trio_kafka_net.protocol.messages import (
    AlterClientQuotasRequest,
    AlterConfigsRequest,
    AlterConfigsResponse,
    AlterUserScramCredentialsRequest,
    EnvelopeRequest,
    FetchRequest,
    FetchResponse,
    IncrementalAlterConfigsRequest,
    JoinGroupRequest,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)

from ..protocol.message_values import MESSAGE_CLASSES, messages_of, versions_of

BROKER, TOPIC, BROKER_LOGGER, GROUP = 4, 2, 8, 32
SECRET = 'hunter2 "quoted" \u2028'


def completed(message, response=None, version=None) -> KafkaRequest:
    """A finished request: 1 ms queued, 2 local, 4 queued again, 8 to send."""
    connection = SimpleNamespace(
        connection_id="127.0.0.1:9092-127.0.0.1:50000-1-0",
        principal=None,
        listener_name="PLAINTEXT",
    )
    request = KafkaRequest(connection, memoryview(b""))
    request.api = SimpleNamespace(key=message.API_KEY)
    request.api_version = message.VALID_VERSIONS[1] if version is None else version
    request.correlation_id = 7
    request.client_id = "me"
    request.client_software_name, request.client_software_version = "librdkafka", "2.5.0"
    request.message, request.response = message, response
    request.response_version = request.api_version
    request.start_time_ns = 1_000_000
    request.dequeue_time_ns = 2_000_000
    request.local_complete_time_ns = request.response_complete_time_ns = 4_000_000
    request.response_dequeue_time_ns = 8_000_000
    request.end_time_ns = 16_000_000
    return request


def described(*args, **settings) -> dict:
    """The line's JSON, written and read."""
    request = completed(*args, **settings)
    description = describe_request(request, security_protocol="PLAINTEXT", is_deprecated=False)
    return json.loads(json.dumps(description, allow_nan=False))


def test_the_line_says_what_kafkas_says_in_its_order(caplog):
    request = completed(MetadataRequest(topics=[]), MetadataResponse(cluster_id="here"), version=4)
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        log_completed(request, security_protocol="PLAINTEXT", is_deprecated=False)
    (record,) = caplog.records
    assert ("trio_kafka_net.request", logging.DEBUG) == (record.name, record.levelno)
    text = record.getMessage()
    assert text.startswith("Completed request:{")
    line = json.loads(text.removeprefix("Completed request:"))
    assert [
        "isForwarded",
        "requestHeader",
        "request",
        "response",
        "connection",
        "totalTimeMs",
        "requestQueueTimeMs",
        "localTimeMs",
        "remoteTimeMs",
        "throttleTimeMs",
        "responseQueueTimeMs",
        "sendTimeMs",
        "securityProtocol",
        "principal",
        "listener",
        "clientInformation",
    ] == list(line)
    assert {
        "requestApiKey": 3,
        "requestApiVersion": 4,
        "correlationId": 7,
        "clientId": "me",
        "requestApiKeyName": "METADATA",
    } == line["requestHeader"]
    assert {"topics": [], "allowAutoTopicCreation": True} == line["request"]
    assert "here" == line["response"]["clusterId"]
    assert [15.0, 1.0, 2.0, 0.0, 0, 4.0, 8.0] == [
        value for name, value in line.items() if name.endswith("TimeMs")
    ]
    assert ("User:ANONYMOUS", "PLAINTEXT") == (line["principal"], line["listener"])
    assert {"softwareName": "librdkafka", "softwareVersion": "2.5.0"} == line["clientInformation"]


def test_a_deprecated_version_is_said_to_be_one():
    request = completed(MetadataRequest(), version=3)
    line = describe_request(request, security_protocol="PLAINTEXT", is_deprecated=True)
    assert line["requestHeader"]["requestApiVersionDeprecated"] is True


def test_a_request_without_bodies_is_described_all_the_same():
    """It was never handled, or answered by nothing."""
    request = completed(MetadataRequest())
    request.message = None
    request.dequeue_time_ns = request.local_complete_time_ns = 0
    request.response_complete_time_ns = request.response_dequeue_time_ns = 0
    line = describe_request(request, security_protocol="PLAINTEXT", is_deprecated=False)
    assert ("", "") == (line["request"], line["response"])
    assert (15.0, 15.0, 0.0) == (
        line["totalTimeMs"],
        line["requestQueueTimeMs"],
        line["sendTimeMs"],
    )


def test_records_are_shown_by_their_size():
    """Produce requests and Fetch responses; pieces of a response are added up."""
    partition = ProduceRequest.PartitionProduceData(index=1, records=memoryview(b"secret data"))
    topic = ProduceRequest.TopicProduceData(name="t", partition_data=[partition])
    produced = described(ProduceRequest(topic_data=[topic]), ProduceResponse(), version=9)
    (shown,) = produced["request"]["topicData"][0]["partitionData"]
    assert {"index": 1, "recordsSizeInBytes": 11} == shown

    answers = [
        FetchResponse.PartitionData(records=[memoryview(b"abc"), b"de"]),
        FetchResponse.PartitionData(records=None),
    ]
    response = FetchResponse(responses=[FetchResponse.FetchableTopicResponse(partitions=answers)])
    first, second = described(FetchRequest(), response)["response"]["responses"][0]["partitions"]
    assert 5 == first["recordsSizeInBytes"]
    assert second["records"] is None


def test_uuids_have_kafkas_form_and_short_bytes_are_base64():
    topic = MetadataRequest.Topic(topic_id=bytes(range(16)), name=None)
    shown = described(MetadataRequest(topics=[topic]))["request"]["topics"]
    assert [{"topicId": "AAECAwQFBgcICQoLDA0ODw", "name": None}] == shown

    protocols = [
        JoinGroupRequest.Protocol(name="range", metadata=memoryview(b"\xff\0")),
        JoinGroupRequest.Protocol(name="large", metadata=bytes(5000)),
    ]
    shown = described(JoinGroupRequest(protocols=protocols))["request"]["protocols"]
    assert ["/wA=", "<5000 bytes>"] == [each["metadata"] for each in shown]


def test_fields_of_other_versions_are_left_out():
    old = described(MetadataRequest(topics=None), version=1)["request"]
    assert {"topics": None} == old


@pytest.mark.slow
@settings(max_examples=50)
@given(st.data())
def test_every_message_in_every_version_is_valid_json(data):
    """RC-10."""
    cls = data.draw(st.sampled_from(list(MESSAGE_CLASSES.values())))
    message = data.draw(messages_of(cls))
    for version in versions_of(cls):
        json.dumps(struct_to_json(message, version), allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_lacks_are_texts(value):
    """RC-10: a client may send them."""
    operation = AlterClientQuotasRequest.OpData(key="producer_byte_rate", value=value)
    entry = AlterClientQuotasRequest.EntryData(ops=[operation])
    shown = described(AlterClientQuotasRequest(entries=[entry]))["request"]["entries"][0]["ops"]
    assert str(value) == shown[0]["value"]


@pytest.mark.parametrize(
    ("message", "response"),
    [
        (
            SaslAuthenticateRequest(auth_bytes=SECRET.encode()),
            SaslAuthenticateResponse(auth_bytes=SECRET.encode()),
        ),
        (
            AlterUserScramCredentialsRequest(
                upsertions=[
                    AlterUserScramCredentialsRequest.ScramCredentialUpsertion(
                        name="u", salt=SECRET.encode(), salted_password=SECRET.encode()
                    )
                ]
            ),
            None,
        ),
        (EnvelopeRequest(request_data=SECRET.encode()), None),
    ],
    ids=["SASL tokens", "SCRAM credentials", "enveloped requests"],
)
def test_what_proves_who_somebody_is_is_hidden(message, response):
    """RC-08."""
    line = describe_request(
        completed(message, response), security_protocol="SASL_PLAINTEXT", is_deprecated=False
    )
    shown = json.dumps(line)
    assert HIDDEN in shown
    assert "aHVudGVyMi" not in shown  # the secret in base64
    assert "hunter2" not in shown


def alter(resource_type: int, configs: dict) -> AlterConfigsRequest:
    return AlterConfigsRequest(
        resources=[
            AlterConfigsRequest.Resource(
                resource_type=resource_type,
                resource_name="1",
                configs=[
                    AlterConfigsRequest.AlterableConfig(name=name, value=value)
                    for name, value in configs.items()
                ],
            )
        ]
    )


def incremental(
    resource_type: int, configs: dict, operation: int
) -> IncrementalAlterConfigsRequest:
    return IncrementalAlterConfigsRequest(
        resources=[
            IncrementalAlterConfigsRequest.AlterConfigsResource(
                resource_type=resource_type,
                resource_name="1",
                configs=[
                    IncrementalAlterConfigsRequest.AlterableConfig(
                        name=name, value=value, config_operation=operation
                    )
                    for name, value in configs.items()
                ],
            )
        ]
    )


def shown_configs(message) -> dict:
    (resource,) = described(message, AlterConfigsResponse())["request"]["resources"]
    return {config["name"]: config["value"] for config in resource["configs"]}


REDACTION = {
    "RC-01 keystore": (
        BROKER,
        {"ssl.keystore.password": SECRET},
        {"ssl.keystore.location": "/path/to/keystore"},
    ),
    "RC-02 prefixed by a listener": (
        BROKER,
        {"listener.name.internal.ssl.key.password": SECRET},
        {"listener.name.internal.ssl.keystore.location": "/path/to/keystore"},
    ),
    "RC-03 prefixed by listener and mechanism": (
        BROKER,
        {"listener.name.internal.scram-sha-256.sasl.jaas.config": SECRET},
        {"listener.name.internal.plain.sasl.login.callback.handler.class": "a.Handler"},
    ),
    "RC-03 without a prefix": (
        BROKER,
        {"sasl.jaas.config": SECRET},
        {"sasl.login.callback.handler.class": "a.Handler"},
    ),
    "RC-04 unknown to the broker": (
        BROKER,
        {"custom.plugin.key": SECRET, "listener.name.x.custom": SECRET, "listener.name.": SECRET},
        {"num.io.threads": "16", "broker.id": "1"},
    ),
    "RC-04 unknown to topics": (
        TOPIC,
        {"custom.plugin.key": SECRET, "ssl.keystore.location": SECRET},
        {"retention.ms": "1000", "min.compaction.lag.ms": "5"},
    ),
    "RC-04 loggers": (BROKER_LOGGER, {}, {"kafka.log": "DEBUG"}),
    "RC-04 resources of unknown sensitivity": (GROUP, {"session.timeout.ms": SECRET}, {}),
    "RC-04 nothing": (BROKER, {}, {}),
    "null stays null": (BROKER, {}, {"ssl.keystore.password": None, "custom": None}),
}


@pytest.mark.parametrize(("resource", "hidden", "shown"), REDACTION.values(), ids=REDACTION)
def test_values_of_alter_configs_are_hidden_if_secret_or_unknown(resource, hidden, shown):
    """RC-01, RC-02, RC-03, RC-04, RC-08."""
    message = alter(resource, {**hidden, **shown})
    assert {**dict.fromkeys(hidden, HIDDEN), **shown} == shown_configs(message)
    assert "hunter2" not in json.dumps(described(message))


@pytest.mark.parametrize("operation", range(4), ids=["SET", "DELETE", "APPEND", "SUBTRACT"])
@pytest.mark.parametrize(("resource", "hidden", "shown"), REDACTION.values(), ids=REDACTION)
def test_values_of_incremental_alter_configs_are_hidden_by_the_same_rule(
    resource, hidden, shown, operation
):
    """RC-05, RC-06, RC-07, RC-08: whatever is done with them."""
    message = incremental(resource, {**hidden, **shown}, operation)
    assert {**dict.fromkeys(hidden, HIDDEN), **shown} == shown_configs(message)


def test_appending_to_a_list_is_shown_and_a_deleted_value_is_null():
    """RC-06, RC-07."""
    assert {"log.cleanup.policy": "compact"} == shown_configs(
        incremental(BROKER, {"log.cleanup.policy": "compact"}, 2)
    )
    assert {"ssl.keystore.password": None} == shown_configs(
        incremental(BROKER, {"ssl.keystore.password": None}, 1)
    )


@pytest.mark.parametrize(
    "name",
    [
        "listener.name.internal.ssl.keystore.password",
        "LISTENER.NAME.internal.ssl.keystore.location",
        "listener.name.a.b.c.ssl.keystore.location",
        "",
        "listener.name.x",
    ],
)
def test_keys_in_doubt_are_hidden(name):
    assert HIDDEN == loggable_value(BROKER, name, "value")


def test_describing_a_request_does_not_change_it():
    """RC-09: what is logged is the request itself, not a redacted copy, and it stays as it is."""
    message = alter(BROKER, {"ssl.keystore.password": SECRET})
    before = copy.deepcopy(message)
    described(message)
    assert before == message


def test_texts_of_clients_cannot_end_the_line():
    """One request, one line."""
    request = completed(MetadataRequest(topics=[MetadataRequest.Topic(name="a\nb\r\u2028c")]))
    request.client_id = 'x"\n{'
    line = describe_request(request, security_protocol="PLAINTEXT", is_deprecated=False)
    text = json.dumps(line)
    assert 1 == len(text.splitlines())
    assert line == json.loads(text)
