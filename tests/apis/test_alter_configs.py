"""AlterConfigs, IncrementalAlterConfigs: who may change what, and what becomes of it."""

import logging

import pytest

from tests.apis.config_requests import (
    APPEND,
    BROKER,
    DELETE,
    GROUP,
    LOGGER,
    METRICS,
    SET,
    SUBTRACT,
    TOPIC,
    change,
    entries,
    operation,
    replace,
    setting,
    values,
)
from trio_kafka_net.broker import cluster_state as state_module
from trio_kafka_net.protocol.error_codes import ErrorCode

DYNAMIC_TOPIC, DYNAMIC_BROKER, DYNAMIC_DEFAULT = 1, 2, 3
INVALID_REQUEST, INVALID_CONFIG = ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_CONFIG
OK = [(0, None)]


async def of_topic(lab, name="t"):
    return await values(lab, TOPIC, name, DYNAMIC_TOPIC)


# Topics


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", [0, 1])
async def test_topic_is_changed_incrementally_in_every_version(lab, version, plane):
    await lab.make_topic("t", configs={"retention.ms": "1", "segment.ms": "2"})
    operations = [operation("retention.ms", SET, "3"), operation("segment.ms", DELETE)]

    assert await change(lab, (TOPIC, "t", operations), version=version, plane=plane) == OK

    assert await of_topic(lab) == {"retention.ms": "3"}
    assert lab.partition("t").log.config.retention_ms == 3


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", [0, 1, 2])
async def test_topic_is_replaced_in_every_version(lab, version, plane):
    await lab.make_topic("t", partitions=2, configs={"retention.ms": "1", "segment.ms": "2"})

    assert (
        await replace(lab, (TOPIC, "t", {"retention.ms": "3"}), version=version, plane=plane) == OK
    )

    assert await of_topic(lab) == {"retention.ms": "3"}
    for index in (0, 1):
        config = lab.partition("t", index).log.config
        assert (config.retention_ms, config.segment_ms) == (3, 604_800_000)


async def test_new_value_holds_for_the_next_append(lab):
    await lab.make_topic("t")
    assert (await lab.produce("t")).error_code == 0

    await change(lab, (TOPIC, "t", setting(max_message_bytes="10")))

    assert (await lab.produce("t")).error_code == ErrorCode.MESSAGE_TOO_LARGE


async def test_lists_are_appended_to_and_subtracted_from(lab):
    await lab.make_topic("t")

    async def after(kind, text):
        assert await change(lab, (TOPIC, "t", [operation("cleanup.policy", kind, text)])) == OK
        return (await of_topic(lab))["cleanup.policy"]

    assert await after(APPEND, "compact") == "delete,compact"
    assert await after(APPEND, "compact, delete") == "delete,compact"
    assert await after(SUBTRACT, "delete,nothing") == "compact"


# (operations, code, text), as Kafka 4.1 answers
BAD_CHANGES = {
    "null": (
        [operation("retention.ms", SET), operation("segment.ms", APPEND)],
        INVALID_REQUEST,
        "Null value not supported for : retention.ms, segment.ms",
    ),
    "key twice": (
        [operation("retention.ms", SET, "1"), operation("retention.ms", DELETE)],
        INVALID_REQUEST,
        "Error due to duplicate config keys",
    ),
    "key twice and null": (
        [operation("retention.ms", SET), operation("retention.ms", SET)],
        INVALID_REQUEST,
        "Error due to duplicate config keys",
    ),
    "unknown key": (setting(nonsense="1"), INVALID_CONFIG, "Unknown topic config name: nonsense"),
    "no number": (
        setting(retention_ms="soon"),
        INVALID_CONFIG,
        "Invalid value soon for configuration retention.ms",
    ),
    "out of range": (
        setting(retention_ms="-2"),
        INVALID_CONFIG,
        "Invalid value -2 for configuration retention.ms",
    ),
    "good and bad": (
        setting(segment_ms="1", retention_ms="soon"),
        INVALID_CONFIG,
        "Invalid value soon for configuration retention.ms",
    ),
    "append to a number": (
        [operation("retention.ms", APPEND, "1")],
        INVALID_CONFIG,
        "Can't APPEND to key retention.ms because its type is not LIST.",
    ),
    "subtract from nothing known": (
        [operation("nonsense", SUBTRACT, "1")],
        INVALID_CONFIG,
        "Can't SUBTRACT to key nonsense because its type is not LIST.",
    ),
    "unknown operation": (
        [operation("retention.ms", 9, "1")],
        INVALID_REQUEST,
        "Unknown operations type 9",
    ),
}


@pytest.mark.parametrize("case", BAD_CHANGES)
async def test_bad_change_of_a_topic_changes_nothing_of_it(lab, case):
    operations, code, text = BAD_CHANGES[case]
    await lab.make_topic("t", configs={"segment.ms": "5"})
    await lab.make_topic("good")

    (refused, good) = await change(
        lab, (TOPIC, "t", operations), (TOPIC, "good", setting(segment_ms="6"))
    )

    assert refused[0] == code
    assert text in refused[1]
    assert good == (0, None)
    assert await of_topic(lab) == {"segment.ms": "5"}
    assert await of_topic(lab, "good") == {"segment.ms": "6"}
    assert lab.partition("good").log.config.segment_ms == 6


@pytest.mark.parametrize(
    ("texts", "code", "text"),
    [
        ({"segment.ms": None}, INVALID_REQUEST, "Null value not supported for : segment.ms"),
        ({"nonsense": "1"}, INVALID_CONFIG, "Unknown topic config name: nonsense"),
        ({"segment.ms": "x"}, INVALID_CONFIG, "Invalid value x for configuration segment.ms"),
    ],
)
async def test_bad_replacement_changes_nothing(lab, texts, code, text):
    await lab.make_topic("t", configs={"retention.ms": "5"})

    ((told, message),) = await replace(lab, (TOPIC, "t", texts))

    assert told == code
    assert text in message
    assert await of_topic(lab) == {"retention.ms": "5"}


@pytest.mark.parametrize(
    ("name", "operations", "code", "text"),
    [
        ("nobody", [], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The topic 'nobody' does not exist."),
        # What is wrong with the settings comes first.
        ("nobody", setting(nonsense="1"), INVALID_CONFIG, "Unknown topic config name: nonsense"),
        ("", [], INVALID_REQUEST, "Default topic resources are not allowed."),
        ("../t", [], ErrorCode.INVALID_TOPIC_EXCEPTION, "Topic name is invalid"),
    ],
)
async def test_topic_that_is_not_there_cannot_be_changed(lab, name, operations, code, text):
    ((told, message),) = await change(lab, (TOPIC, name, operations))

    assert told == code
    assert text in message


async def test_validation_changes_nothing(lab):
    await lab.make_topic("t", configs={"retention.ms": "5"})
    resources = [
        (TOPIC, "t", setting(retention_ms="6")),
        (BROKER, "1", setting(log_segment_bytes="7000")),
        (LOGGER, "1", [operation("trio_kafka_net.request", SET, "FATAL")]),
    ]

    assert await change(lab, *resources, validate_only=True) == OK * 3
    assert await replace(lab, (TOPIC, "t", {}), validate_only=True) == OK

    assert await of_topic(lab) == {"retention.ms": "5"}
    assert await values(lab, BROKER, "1", DYNAMIC_BROKER) == {}
    assert lab.partition("t").log.config.retention_ms == 5
    assert logging.getLogger("trio_kafka_net.request").level == logging.NOTSET


async def test_resource_that_is_named_twice_is_not_changed(lab):
    await lab.make_topic("t")
    await lab.make_topic("u")

    assert await change(
        lab,
        (TOPIC, "t", setting(retention_ms="1")),
        (TOPIC, "u", setting(retention_ms="2")),
        (TOPIC, "t", setting(segment_ms="3")),
    ) == [
        (INVALID_REQUEST, "Each resource must appear at most once."),
        (0, None),
        (INVALID_REQUEST, "Each resource must appear at most once."),
    ]
    assert (await of_topic(lab), await of_topic(lab, "u")) == ({}, {"retention.ms": "2"})


async def test_topics_of_a_request_are_written_in_one_step(lab, monkeypatch):
    for name in "abc":
        await lab.make_topic(name)
    written = []
    save = state_module.save_topics
    monkeypatch.setattr(
        state_module, "save_topics", lambda *told: (written.append(told), save(*told))
    )

    assert await change(lab, *[(TOPIC, name, setting(segment_ms="1")) for name in "abc"]) == OK * 3

    assert len(written) == 1


async def test_deleting_what_is_not_set_is_no_error(lab):
    await lab.make_topic("t")
    deletions = [operation("retention.ms", DELETE), operation("nonsense", DELETE)]

    assert await change(lab, (TOPIC, "t", deletions)) == OK
    assert await change(lab, (BROKER, "1", deletions)) == OK


async def test_empty_requests_have_empty_answers(lab):
    assert await change(lab) == await replace(lab) == []


# Brokers


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("scope", ["1", ""])
async def test_broker_is_changed_and_replaced(lab, scope, plane):
    source = DYNAMIC_BROKER if scope else DYNAMIC_DEFAULT
    first = setting(log_segment_bytes="5000", log_retention_ms="77")

    assert await change(lab, (BROKER, scope, first), plane=plane) == OK
    assert await values(lab, BROKER, scope, source) == {
        "log.segment.bytes": "5000",
        "log.retention.ms": "77",
    }
    assert lab.local.config.log_segment_bytes == 5000

    assert await replace(lab, (BROKER, scope, {"log.segment.bytes": "6000"}), plane=plane) == OK
    assert await values(lab, BROKER, scope, source) == {"log.segment.bytes": "6000"}
    assert (lab.local.config.log_segment_bytes, lab.local.config.log_retention_ms) == (6000, None)


async def test_log_cleaner_goes_by_what_was_changed(lab):
    await lab.make_topic("t")
    changes = setting(log_cleaner_backoff_ms="5", log_cleaner_delete_retention_ms="77")

    assert await change(lab, (BROKER, "1", changes)) == OK

    assert lab.local.replicas.log_manager.cleaner.config.log_cleaner_backoff_ms == 5
    log = lab.local.replicas.get_partition("t", 0).log
    assert log.config.delete_retention_ms == 77


BAD_BROKER_CHANGES = {
    "fixed": (
        setting(broker_id="1", queued_max_requests="5"),
        INVALID_REQUEST,
        "Cannot update these configs dynamically: Set(broker.id, queued.max.requests)",
    ),
    "fixed in Kafka": (
        setting(connections_max_idle_ms="5"),
        INVALID_REQUEST,
        "Cannot update these configs dynamically: Set(connections.max.idle.ms)",
    ),
    "without effect here": (
        setting(background_threads="5"),
        INVALID_REQUEST,
        "Cannot update these configs dynamically: Set(background.threads)",
    ),
    "security without a listener": (
        setting(ssl_keystore_location="5"),
        INVALID_REQUEST,
        "Cannot update these configs dynamically: Set(ssl.keystore.location)",
    ),
    "of a listener, fixed": (
        [operation("listener.name.plaintext.queued.max.requests", SET, "5")],
        INVALID_REQUEST,
        "Cannot update these configs dynamically: Set(listener.name.plaintext.queued.max.requests)",
    ),
    "of no listener": (
        [operation("listener.name.nobody.max.connections", SET, "5")],
        INVALID_REQUEST,
        "NOBODY must be one of listeners",
    ),
    "protocol of a listener": (
        setting(listener_security_protocol_map="PLAINTEXT:SSL"),
        INVALID_REQUEST,
        "Cannot update these configs dynamically: Set(listener.security.protocol.map)",
    ),
    "unknown": (
        setting(nonsense="5"),
        INVALID_CONFIG,
        "Unknown broker config name: nonsense",
    ),
    "no number": (
        setting(num_io_threads="x"),
        INVALID_REQUEST,
        "num.io.threads=x: must be an integer from 1",
    ),
    "below its limit": (
        setting(log_roll_ms="0"),
        INVALID_REQUEST,
        "log.roll.ms=0: must be an integer from 1",
    ),
    "append to a number": (
        [operation("num.io.threads", APPEND, "1")],
        INVALID_CONFIG,
        "Can't APPEND to key num.io.threads because its type is not LIST.",
    ),
    "list of what there is not": (
        [operation("log.cleanup.policy", APPEND, "shred")],
        INVALID_REQUEST,
        "log.cleanup.policy=delete,shred: must be",
    ),
    "nobody may connect": (
        setting(max_connections="0"),
        INVALID_REQUEST,
        "max.connections=0: must be at least 1",
    ),
    "no new connections": (
        setting(max_connection_creation_rate="0"),
        INVALID_REQUEST,
        "max.connection.creation.rate=0: must be at least 1",
    ),
    "none per address": (
        setting(max_connections_per_ip="0"),
        INVALID_REQUEST,
        "max.connections.per.ip=0: must be at least 1 without max.connections.per.ip.overrides",
    ),
    "host of no syntax": (
        setting(max_connections_per_ip_overrides="host#:5"),
        INVALID_REQUEST,
        "max.connections.per.ip.overrides=host#:5: must be host:connections",
    ),
    "host that does not resolve": (
        setting(max_connections_per_ip_overrides="a..b:5"),
        INVALID_REQUEST,
        "a..b does not resolve",
    ),
    "none on a listener": (
        [operation("listener.name.plaintext.max.connections", SET, "0")],
        INVALID_REQUEST,
        "listener.name.plaintext.max.connections=0: must be an integer from 1",
    ),
    "good and bad": (
        setting(log_segment_bytes="5000", num_io_threads="0"),
        INVALID_REQUEST,
        "num.io.threads=0: must be an integer from 1",
    ),
}


@pytest.mark.parametrize("scope", ["1", ""])
@pytest.mark.parametrize("case", BAD_BROKER_CHANGES)
async def test_bad_change_of_a_broker_changes_nothing(lab, case, scope):
    """CF-07, CF-10, CF-11: for one broker and for all of them."""
    operations, code, text = BAD_BROKER_CHANGES[case]
    before = await entries(lab, BROKER, "1")

    ((told, message),) = await change(lab, (BROKER, scope, operations))

    assert told == code
    assert text in message
    assert await entries(lab, BROKER, "1") == before
    assert await entries(lab, BROKER, "") == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("7", "Unexpected broker id, expected 1, but received 7"),
        ("-1", "Unexpected broker id, expected 1, but received -1"),
        ("one", "Node id must be an integer, but it is: one"),
        ("1 ", "Node id must be an integer, but it is: 1 "),
    ],
)
@pytest.mark.parametrize("kind", [BROKER, LOGGER])
async def test_other_nodes_are_refused(lab, kind, name, text):
    assert await change(lab, (kind, name, [])) == [(INVALID_REQUEST, text)]


async def test_listener_may_be_written_in_any_case(lab):
    key = "listener.name.PlainText.max.connections"

    assert await change(lab, (BROKER, "1", [operation(key, SET, "5")])) == OK

    assert await values(lab, BROKER, "1", DYNAMIC_BROKER) == {key.lower(): "5"}


# Loggers


@pytest.fixture
def request_logger():
    logger = logging.getLogger("trio_kafka_net.request")
    before = logger.level
    yield logger
    logger.setLevel(before)


async def test_level_of_a_logger_is_set_and_taken_back(lab, request_logger):
    async def after(*told):
        operations = [operation("trio_kafka_net.request", *told)]
        assert await change(lab, (LOGGER, "1", operations)) == OK
        return (await entries(lab, LOGGER, "1"))["trio_kafka_net.request"].value

    levels = {
        "TRACE": 5,
        "DEBUG": logging.DEBUG,
        "INFO": logging.INFO,
        "WARN": logging.WARNING,
        "ERROR": logging.ERROR,
        "FATAL": logging.CRITICAL,
    }
    for level, python_level in levels.items():
        assert await after(SET, level) == level
        assert request_logger.level == python_level
    assert await after(DELETE) == "WARN"
    assert request_logger.level == logging.NOTSET


@pytest.mark.parametrize(
    ("told", "code", "text"),
    [
        (
            ("trio_kafka_net.request", SET, "debug"),
            INVALID_CONFIG,
            "Cannot set the log level of trio_kafka_net.request to debug as it is not a supported "
            "log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
        ),
        (("trio_kafka_net.nobody", SET, "INFO"), INVALID_CONFIG, "Logger trio_kafka_net.nobody"),
        (("trio_kafka_net.nobody", DELETE), INVALID_CONFIG, "does not exist!"),
        # Whatever else the process has is none of a client's business.
        (("root", SET, "INFO"), INVALID_CONFIG, "Logger root does not exist!"),
        (("asyncio", SET, "INFO"), INVALID_CONFIG, "Logger asyncio does not exist!"),
        (
            ("trio_kafka_net.request", APPEND, "INFO"),
            INVALID_REQUEST,
            "APPEND operation is not allowed for the BROKER_LOGGER resource",
        ),
    ],
)
async def test_bad_levels_change_nothing(lab, request_logger, told, code, text):
    good = operation("trio_kafka_net", SET, "TRACE")

    ((answered, message),) = await change(lab, (LOGGER, "1", [good, operation(*told)]))

    assert answered == code
    assert text in message
    assert (request_logger.level, logging.getLogger("trio_kafka_net").level) == (0, 0)


# What has no settings


@pytest.mark.parametrize(
    ("kind", "name", "code", "text"),
    [
        (GROUP, "g", INVALID_CONFIG, "Unknown group config name: consumer.session.timeout.ms"),
        (GROUP, "", INVALID_REQUEST, "Default group resources are not allowed."),
        (
            METRICS,
            "m",
            INVALID_REQUEST,
            "Unknown client metrics configuration: consumer.session.timeout.ms",
        ),
        (METRICS, "", INVALID_REQUEST, "Subscription name can't be empty"),
        (3, "t", INVALID_REQUEST, "Unknown resource type 3"),
        (0, "t", INVALID_REQUEST, "Unknown resource type 0"),
        (64, "t", INVALID_REQUEST, "Unknown resource type 64"),
    ],
)
async def test_what_has_no_settings_cannot_be_changed(lab, kind, name, code, text):
    asked = (kind, name, setting(consumer_session_timeout_ms="50000"))

    assert await change(lab, asked) == [(code, text)]
    assert await replace(lab, (kind, name, {"consumer.session.timeout.ms": "50000"})) == [
        (code, text)
    ]


async def test_loggers_cannot_be_replaced(lab):
    assert await replace(lab, (LOGGER, "1", {"trio_kafka_net": "INFO"})) == [
        (INVALID_REQUEST, "Unknown resource type 8")
    ]
