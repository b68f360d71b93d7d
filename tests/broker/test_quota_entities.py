"""Whom quotas can be for, and what is refused; the texts are Kafka's."""

import math

import pytest

from trio_kafka_net.broker.quota_entities import DEFAULT, QuotaEntity, QuotaFilter
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

GOOD = {
    "user": ({"user": "u"}, QuotaEntity(user="u")),
    "default user": ({"user": None}, QuotaEntity(user=DEFAULT)),
    "client": ({"client-id": "c"}, QuotaEntity(client_id="c")),
    "both": ({"user": "u", "client-id": None}, QuotaEntity(user="u", client_id=DEFAULT)),
    "IPv4": ({"ip": "10.0.0.1"}, QuotaEntity(ip="10.0.0.1")),
    "IPv6": ({"ip": "::1"}, QuotaEntity(ip="::1")),
    "default ip": ({"ip": None}, QuotaEntity(ip=DEFAULT)),
}

BAD = {
    "nobody": ({}, "Invalid empty client quota entity"),
    "unknown kind": ({"foo": "x"}, "Unhandled client quota entity type: foo"),
    "empty kind": ({"": "x"}, "Unhandled client quota entity type: "),
    "empty user": ({"user": ""}, "Empty user not supported"),
    "empty client": ({"client-id": ""}, "Empty client-id not supported"),
    "empty ip": ({"ip": ""}, "Empty ip not supported"),
    "ip and user": (
        {"ip": "1.2.3.4", "user": "x"},
        "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
    ),
    "ip and client": (
        {"ip": None, "client-id": None},
        "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
    ),
    "no address": ({"ip": "300.1.1.1"}, "300.1.1.1 is not a valid IP or resolvable host."),
    "name": ({"ip": "localhost"}, "localhost is not a valid IP or resolvable host."),
}


@pytest.mark.parametrize(("names", "entity"), GOOD.values(), ids=GOOD)
def test_good_entities(names, entity):
    assert QuotaEntity.parse(names) == entity
    assert entity.names() == names


@pytest.mark.parametrize(("names", "text"), BAD.values(), ids=BAD)
def test_bad_entities(names, text):
    with pytest.raises(KafkaError) as caught:
        QuotaEntity.parse(names)
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_REQUEST, text)


USER, IP = QuotaEntity(user="u"), QuotaEntity(ip="1.2.3.4")

GOOD_VALUES = [
    (USER, "producer_byte_rate", 1.0),
    (USER, "producer_byte_rate", 1.0000001),
    (USER, "consumer_byte_rate", 2.0**63),
    (USER, "request_percentage", 0.5),
    (USER, "request_percentage", math.inf),
    (USER, "controller_mutation_rate", 0.5),
    (IP, "connection_creation_rate", 2.0**31 - 1),
]

BAD_VALUES = [
    (IP, "connection_creation_rate", 1.5, "connection_creation_rate cannot be a fractional value."),
    (IP, "connection_creation_rate", 0.0, "Quota connection_creation_rate must be greater than 0"),
    (
        IP,
        "connection_creation_rate",
        3e9,
        "Proposed value for connection_creation_rate is too large for an INT.",
    ),
    (IP, "producer_byte_rate", 3e9, "Invalid configuration key producer_byte_rate"),
    (USER, "connection_creation_rate", 3.0, "Invalid configuration key connection_creation_rate"),
    (USER, "foo", 1.0, "Invalid configuration key foo"),
    (USER, "producer_byte_rate", 0.0, "Quota producer_byte_rate must be greater than 0"),
    (USER, "request_percentage", -1.0, "Quota request_percentage must be greater than 0"),
    (USER, "producer_byte_rate", 1.5, "producer_byte_rate cannot be a fractional value."),
    (
        USER,
        "producer_byte_rate",
        1e19,
        "Proposed value for producer_byte_rate is too large for a LONG.",
    ),
    (
        USER,
        "consumer_byte_rate",
        math.inf,
        "Proposed value for consumer_byte_rate is too large for a LONG.",
    ),
    (USER, "producer_byte_rate", math.nan, "Quota producer_byte_rate must be greater than 0"),
    (USER, "request_percentage", math.nan, "Quota request_percentage must be greater than 0"),
]


@pytest.mark.parametrize(("entity", "key", "value"), GOOD_VALUES)
def test_good_values(entity, key, value):
    entity.check_value(key, value)


@pytest.mark.parametrize(("entity", "key", "value", "text"), BAD_VALUES)
def test_bad_values(entity, key, value, text):
    with pytest.raises(KafkaError) as caught:
        entity.check_value(key, value)
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_REQUEST, text)


# Filters

ENTITIES = [
    QuotaEntity(user="u"),
    QuotaEntity(user="u", client_id="c"),
    QuotaEntity(user=DEFAULT, client_id="c"),
    QuotaEntity(client_id="c"),
    QuotaEntity(ip="1.2.3.4"),
]

FILTERS = {
    "all": ([], False, [0, 1, 2, 3, 4]),
    "all, strict": ([], True, []),
    "a user": ([("user", 0, "u")], False, [0, 1]),
    "a user, strict": ([("user", 0, "u")], True, [0]),
    "any user": ([("user", 2, None)], False, [0, 1, 2]),
    "default user": ([("user", 1, None)], False, [2]),
    "any client, strict": ([("client-id", 2, None)], True, [3]),
    "both": ([("client-id", 2, None), ("user", 2, None)], False, [1, 2]),
    "an ip": ([("ip", 0, "1.2.3.4")], False, [4]),
    "nobody": ([("user", 0, "x")], False, []),
}

BAD_FILTERS = {
    "ip and user": (
        [("ip", 2, None), ("user", 2, None)],
        "Invalid entity filter component combination. IP filter component should not be used with "
        "user or clientId filter component.",
    ),
    "twice": (
        [("user", 2, None), ("user", 0, "x")],
        "Entity type user cannot appear more than once in the filter.",
    ),
    "empty kind": ([("", 2, None)], "Invalid empty entity type."),
    "exact null": (
        [("user", 0, None)],
        "Request specified MATCH_TYPE_EXACT, but set match string to null.",
    ),
    "default with a name": (
        [("user", 1, "x")],
        "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.",
    ),
    "any with a name": (
        [("user", 2, "x")],
        "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.",
    ),
    "match type 9": ([("user", 9, "x")], "Unknown match type 9"),
}


@pytest.mark.parametrize(("components", "is_strict", "found"), FILTERS.values(), ids=FILTERS)
def test_filters(components, is_strict, found):
    wanted = QuotaFilter.parse(components, is_strict=is_strict)

    assert [number for number, each in enumerate(ENTITIES) if wanted.matches(each)] == found


@pytest.mark.parametrize(("components", "text"), BAD_FILTERS.values(), ids=BAD_FILTERS)
def test_bad_filters(components, text):
    with pytest.raises(KafkaError) as caught:
        QuotaFilter.parse(components, is_strict=False)
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_REQUEST, text)


def test_filter_for_an_unknown_kind():
    with pytest.raises(KafkaError) as caught:
        QuotaFilter.parse([("foo", 2, None)], is_strict=False)
    assert caught.value.code == ErrorCode.UNSUPPORTED_VERSION
    assert caught.value.message == "Unsupported entity type foo"
