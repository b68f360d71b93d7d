"""Settings on top of those of the start."""

import pytest

from trio_kafka_net.config import BrokerConfig, ListenerOverrides
from trio_kafka_net.config.dynamic import canonical_key, is_dynamic, is_known, overlay
from trio_kafka_net.errors import ConfigError

STATIC = BrokerConfig(
    listeners=("A://127.0.0.1:1", "B.C://127.0.0.1:2"),
    listener_security_protocol_map={"A": "PLAINTEXT", "B.C": "PLAINTEXT"},
    num_io_threads=5,
    listener_overrides={"A": ListenerOverrides(max_connections=6, num_network_threads=4)},
)


def test_later_layers_count_more():
    config = overlay(
        STATIC,
        [
            {"num.io.threads": "6", "log.cleanup.policy": "delete", "log.retention.ms": "7"},
            {"num.io.threads": " 7 "},
        ],
    )

    assert (config.num_io_threads, config.log_retention_ms, config.listeners) == (
        7,
        7,
        STATIC.listeners,
    )
    assert STATIC.num_io_threads == 5


def test_listeners_keep_what_nobody_changes():
    config = overlay(
        STATIC,
        [
            {"listener.name.a.max.connections": "7", "listener.name.b.c.max.connections": "9"},
            {"listener.name.a.max.connections": "8"},
        ],
    )

    assert config.listener_overrides == {
        "A": ListenerOverrides(max_connections=8, num_network_threads=4),
        "B.C": ListenerOverrides(max_connections=9),
    }
    assert [each.max_connections for each in config.listener_configs] == [8, 9]


def test_nothing_changed_is_the_configuration_of_the_start():
    assert overlay(STATIC, [{}, {}]) == STATIC


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"num.io.threads": "x"}, r"^num\.io\.threads=x: must be"),
        ({"num.io.threads": ""}, r"^num\.io\.threads=: must be"),
        ({"listener.name.a.max.connections": "x"}, r"^listener\.name\.a\.max\.connections=x: "),
        ({"listener.name.a.max.connections": "0"}, r"^listener\.name\.a\.max\.connections=0: "),
        ({"listener.name.z.max.connections": "5"}, "Z must be one of listeners"),
        ({"max.connections.per.ip": "0"}, r"^max\.connections\.per\.ip=0: "),
    ],
)
def test_what_the_start_would_refuse_is_refused(texts, message):
    with pytest.raises(ConfigError, match=message):
        overlay(STATIC, [texts])


def test_values_that_need_each_other_may_be_in_different_layers():
    config = overlay(
        STATIC, [{"max.connections.per.ip": "0"}, {"max.connections.per.ip.overrides": "::1:5"}]
    )

    assert config.ip_limits == {"::1": 5}


@pytest.mark.parametrize(
    ("key", "dynamic", "known"),
    [
        ("num.io.threads", True, True),
        ("listener.name.a.num.network.threads", True, True),
        ("listener.name.a.num.io.threads", False, True),
        ("queued.max.requests", False, True),
        ("broker.id", False, True),
        ("authorizer.class.name", False, True),
        ("background.threads", False, True),
        ("log.retention.hours", False, True),
        ("nonsense", False, False),
    ],
)
def test_keys_say_whether_they_can_change(key, dynamic, known):
    assert (is_dynamic(key), is_known(key)) == (dynamic, known)


@pytest.mark.parametrize(
    ("key", "canonical"),
    [
        ("num.io.threads", "num.io.threads"),
        ("listener.name.B.C.max.connections", "listener.name.b.c.max.connections"),
        ("listener.name.B.C.nonsense", "listener.name.B.C.nonsense"),
    ],
)
def test_names_of_listeners_are_stored_in_lower_case(key, canonical):
    assert canonical_key(key) == canonical
