"""DescribeConfigs, ListConfigResources: what is set, by whom, and what else there would be."""

import pytest

from tests.apis.config_requests import (
    BROKER,
    GROUP,
    LOGGER,
    METRICS,
    TOPIC,
    change,
    describe,
    entries,
    setting,
)
from trio_kafka_net.config import ListenerOverrides
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ListConfigResourcesRequest

DYNAMIC_TOPIC, DYNAMIC_BROKER, DYNAMIC_DEFAULT, STATIC, DEFAULT, DYNAMIC_LOGGER = range(1, 7)
BOOLEAN, STRING, INT, LONG, LIST = 1, 2, 3, 5, 7


def synonyms(entry):
    return [(each.name, each.value, each.source) for each in entry.synonyms]


# What Kafka 4.1 answers for a topic without settings: {key: (value, type, broker's key)}.
AS_KAFKA_SAYS = {
    "cleanup.policy": ("delete", LIST, "log.cleanup.policy"),
    "compression.type": ("producer", STRING, "compression.type"),
    "flush.messages": ("9223372036854775807", LONG, "log.flush.interval.messages"),
    "index.interval.bytes": ("4096", INT, "log.index.interval.bytes"),
    "max.message.bytes": ("1048588", INT, "message.max.bytes"),
    "message.timestamp.after.max.ms": ("3600000", LONG, "log.message.timestamp.after.max.ms"),
    "message.timestamp.before.max.ms": (
        "9223372036854775807",
        LONG,
        "log.message.timestamp.before.max.ms",
    ),
    "message.timestamp.type": ("CreateTime", STRING, "log.message.timestamp.type"),
    "min.insync.replicas": ("1", INT, "min.insync.replicas"),
    "retention.bytes": ("-1", LONG, "log.retention.bytes"),
    "retention.ms": ("604800000", LONG, None),
    "segment.bytes": ("1073741824", INT, "log.segment.bytes"),
    "segment.index.bytes": ("10485760", INT, "log.index.size.max.bytes"),
    "segment.ms": ("604800000", LONG, None),
}


async def test_topic_without_settings_is_described_as_kafka_describes_it(lab):
    await lab.make_topic("t")

    described = await entries(lab, TOPIC, "t")

    assert list(described) == sorted(described)
    for name, (value, kind, behind) in AS_KAFKA_SAYS.items():
        entry = described[name]
        assert (entry.value, entry.config_type) == (value, kind), name
        assert synonyms(entry) == ([] if behind is None else [(behind, value, DEFAULT)])
        assert (entry.config_source, entry.read_only, entry.is_sensitive) == (DEFAULT, False, False)


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", range(1, 5))
async def test_every_version_describes(lab, version, plane):
    await lab.make_topic("t", configs={"retention.ms": " 5000"})

    described = await entries(lab, TOPIC, "t", version=version, plane=plane, documentation=True)

    entry = described["retention.ms"]
    assert (entry.value, entry.config_source) == ("5000", DYNAMIC_TOPIC)
    assert synonyms(entry) == [("retention.ms", "5000", DYNAMIC_TOPIC)]
    assert entry.config_type == (LONG if version >= 3 else 0)
    told = "How long records are kept, -1 for ever; if not set, `log.retention.minutes` counts."
    assert entry.documentation == (told if version >= 3 else "")


async def test_synonyms_and_texts_come_only_when_asked_for(lab):
    described = await entries(lab, BROKER, "1")

    assert described["num.io.threads"].documentation is None


async def test_every_layer_is_a_synonym_the_strongest_first(open_lab):
    lab = await open_lab(log_segment_bytes=4000, log_retention_hours=5)
    await lab.make_topic("t", configs={"segment.bytes": "1000"})
    await change(
        lab,
        (BROKER, "1", setting(log_segment_bytes="2000")),
        (BROKER, "", setting(log_segment_bytes="3000")),
    )
    of_broker = [
        ("log.segment.bytes", "2000", DYNAMIC_BROKER),
        ("log.segment.bytes", "3000", DYNAMIC_DEFAULT),
        ("log.segment.bytes", "4000", STATIC),
        ("log.segment.bytes", "1073741824", DEFAULT),
    ]

    topic = await entries(lab, TOPIC, "t")
    broker = await entries(lab, BROKER, "1")
    all_brokers = await entries(lab, BROKER, "")

    assert synonyms(topic["segment.bytes"]) == [
        ("segment.bytes", "1000", DYNAMIC_TOPIC),
        *of_broker,
    ]
    assert topic["segment.bytes"].value == "1000"
    assert synonyms(broker["log.segment.bytes"]) == of_broker
    assert broker["log.segment.bytes"].value == "2000"
    assert [(each.value, synonyms(each)) for each in all_brokers.values()] == [
        ("3000", [("log.segment.bytes", "3000", DYNAMIC_DEFAULT)])
    ]
    # In hours for the broker, in ms for the topic.
    assert (topic["retention.ms"].value, synonyms(topic["retention.ms"])) == (
        "18000000",
        [("log.retention.hours", "5", STATIC), ("log.retention.hours", "168", DEFAULT)],
    )
    assert (broker["log.retention.ms"].value, synonyms(broker["log.retention.ms"])) == (None, [])


async def test_setting_in_other_units_comes_after_what_outweighs_it(lab):
    """As Kafka 4.1 shows log.retention.ms in front of log.retention.hours."""
    await lab.make_topic("t")
    await change(lab, (BROKER, "", setting(log_retention_ms="5")))

    topic = await entries(lab, TOPIC, "t")
    broker = await entries(lab, BROKER, "1")

    expected = [("log.retention.ms", "5", DYNAMIC_DEFAULT), ("log.retention.hours", "168", DEFAULT)]
    assert synonyms(topic["retention.ms"]) == synonyms(broker["log.retention.ms"]) == expected
    assert synonyms(broker["log.retention.hours"]) == expected[1:]


async def test_broker_is_described_with_everything_it_knows(open_lab):
    lab = await open_lab(
        queued_max_requests=7,
        max_connections_per_ip_overrides={"localhost": "5"},
        listener_overrides={"PLAINTEXT": ListenerOverrides(max_connections=70)},
    )

    described = await entries(lab, BROKER, "1")

    told = {
        name: (entry.value, entry.config_source, entry.read_only, entry.config_type)
        for name, entry in described.items()
    }
    assert told["queued.max.requests"] == ("7", STATIC, True, INT)
    assert told["num.io.threads"] == ("8", DEFAULT, False, INT)
    assert told["auto.create.topics.enable"] == ("true", DEFAULT, True, BOOLEAN)
    assert told["max.connections.per.ip.overrides"] == ("localhost:5", STATIC, False, STRING)
    assert told["log.cleanup.policy"] == ("delete", DEFAULT, False, LIST)
    assert told["log.flush.interval.ms"][0] is None
    assert told["listener.name.plaintext.max.connections"] == ("70", STATIC, False, INT)
    assert synonyms(described["listener.name.plaintext.max.connections"]) == [
        ("listener.name.plaintext.max.connections", "70", STATIC),
        ("max.connections", "2147483647", DEFAULT),
    ]


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["segment.ms", "retention.ms", "segment.ms", "nonsense"], ["retention.ms", "segment.ms"]),
        (["nonsense"], []),
    ],
)
async def test_only_the_settings_that_are_named_are_described(lab, keys, names):
    await lab.make_topic("t", configs={"segment.bytes": "1000"})

    assert list(await entries(lab, TOPIC, "t", keys=keys)) == names


async def test_no_names_are_all_names(lab):
    await lab.make_topic("t")

    assert await entries(lab, TOPIC, "t", keys=[]) == await entries(lab, TOPIC, "t", keys=None)


@pytest.mark.parametrize(
    ("kind", "name", "code", "text"),
    [
        (TOPIC, "", ErrorCode.INVALID_TOPIC_EXCEPTION, "the empty string is not allowed"),
        (TOPIC, "../a", ErrorCode.INVALID_TOPIC_EXCEPTION, "one or more characters other than"),
        (TOPIC, "nobody", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "does not host this topic"),
        (
            BROKER,
            "7",
            ErrorCode.INVALID_REQUEST,
            "Unexpected broker id, expected 1 or empty string, but received 7",
        ),
        (BROKER, "a", ErrorCode.INVALID_REQUEST, "Broker id must be an integer, but it is: a"),
        (
            LOGGER,
            "7",
            ErrorCode.INVALID_REQUEST,
            "Unexpected broker id, expected 1, but received 7",
        ),
        (LOGGER, "", ErrorCode.INVALID_REQUEST, "Broker id must be an integer"),
        (GROUP, "", ErrorCode.INVALID_REQUEST, "Group name must not be empty"),
        (
            METRICS,
            "",
            ErrorCode.INVALID_REQUEST,
            "Client metrics subscription name must not be empty",
        ),
        (3, "t", ErrorCode.INVALID_REQUEST, "Unsupported resource type 3"),
        (-1, "t", ErrorCode.INVALID_REQUEST, "Unsupported resource type -1"),
    ],
)
async def test_resource_that_is_not_there_does_not_keep_the_others(lab, kind, name, code, text):
    bad, good = await describe(lab, (kind, name), (BROKER, "1"))

    assert (bad.resource_type, bad.resource_name, bad.error_code) == (kind, name, code)
    assert text in bad.error_message
    assert bad.configs == []
    assert (good.error_code, bool(good.configs)) == (0, True)


async def test_resource_that_is_named_twice_is_not_described(lab):
    results = await describe(lab, (BROKER, "1"), (BROKER, ""), (BROKER, "1"))

    assert [each.error_code for each in results] == [
        ErrorCode.INVALID_REQUEST,
        0,
        ErrorCode.INVALID_REQUEST,
    ]


@pytest.mark.parametrize("kind", [GROUP, METRICS])
async def test_groups_and_client_metrics_have_no_settings(lab, kind):
    assert await entries(lab, kind, "anything") == {}


async def test_loggers_are_those_of_the_package(lab):
    described = await entries(lab, LOGGER, "1")

    assert all(name.split(".")[0] == "trio_kafka_net" for name in described)
    entry = described["trio_kafka_net.request"]
    assert (entry.value, entry.config_source, entry.read_only) == ("WARN", DYNAMIC_LOGGER, False)
    assert list(await entries(lab, LOGGER, "1", keys=["trio_kafka_net.request"])) == [
        "trio_kafka_net.request"
    ]


# ListConfigResources


async def listed(lab, version, *types):
    response = await lab.ask(ListConfigResourcesRequest(resource_types=list(types)), version)
    assert response.error_code == 0
    return [(each.resource_type, each.resource_name) for each in response.config_resources]


async def test_resources_are_listed_by_their_types(lab):
    for name in ("b", "a"):
        await lab.make_topic(name)

    assert await listed(lab, 0) == []
    assert await listed(lab, 1) == [(TOPIC, "a"), (TOPIC, "b"), (BROKER, "1"), (LOGGER, "1")]
    assert await listed(lab, 1, TOPIC, GROUP, TOPIC) == [(TOPIC, "a"), (TOPIC, "b")]
    assert await listed(lab, 1, METRICS) == []


@pytest.mark.parametrize("unknown", [0, 3, 64, -1])
async def test_unknown_type_cannot_be_listed(lab, unknown):
    request = ListConfigResourcesRequest(resource_types=[TOPIC, unknown])

    response = await lab.ask(request, 1)

    assert (response.error_code, response.config_resources) == (ErrorCode.UNSUPPORTED_VERSION, [])
