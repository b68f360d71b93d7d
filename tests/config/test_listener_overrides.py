"""Settings of one listener: ``listener.name.<name>.<key>``."""

import pytest

from trio_kafka_net.config import BrokerConfig, ListenerOverrides
from trio_kafka_net.errors import ConfigError

LISTENERS = {
    "listeners": "EXTERNAL://127.0.0.1:9092,IN.ternal://127.0.0.1:9093,CONTROL://127.0.0.1:9090",
    "listener.security.protocol.map": "EXTERNAL:PLAINTEXT,IN.TERNAL:PLAINTEXT",
    "control.plane.listener.name": "control",
    "inter.broker.listener.name": "in.ternal",
}


def read(properties):
    return BrokerConfig.from_properties({**LISTENERS, **properties})


def test_overrides_are_resolved_into_the_listeners():
    """CF-10: with the prefix, in any case; a name may contain dots."""
    config, warnings = read(
        {
            "max.connections": "50",
            "listener.name.external.max.connections": "5",
            "listener.name.external.num.network.threads": "2",
            "listener.name.in.ternal.max.connection.creation.rate": " 12 ",
            "listener.name.CONTROL.max.connections": "3",
        }
    )

    assert warnings == []
    assert config.listener_overrides == {
        "EXTERNAL": ListenerOverrides(max_connections=5, num_network_threads=2),
        "IN.TERNAL": ListenerOverrides(max_connection_creation_rate=12),
        "CONTROL": ListenerOverrides(max_connections=3),
    }
    external, internal, control = config.listener_configs
    assert (external.max_connections, external.max_connection_creation_rate) == (5, None)
    assert (external.num_network_threads, internal.num_network_threads) == (2, None)
    assert (internal.max_connections, internal.max_connection_creation_rate) == (None, 12)
    assert control.max_connections == 3
    assert [x.is_inter_broker for x in config.listener_configs] == [False, True, False]


def test_overrides_can_be_given_in_python_under_a_name_in_any_case():
    config = BrokerConfig(listener_overrides={"plaintext": ListenerOverrides(max_connections=5)})

    assert config.listener_configs[0].max_connections == 5
    assert (
        config == BrokerConfig.from_properties({"listener.name.plaintext.max.connections": "5"})[0]
    )


@pytest.mark.parametrize(
    "key", ["max.connections", "max.connection.creation.rate", "num.network.threads"]
)
@pytest.mark.parametrize("value", ["0", "-1", "2147483648", "many", "1.5"])
def test_overrides_are_checked_and_named_in_full(key, value):
    """CQ-19, CF-12."""
    key = f"listener.name.external.{key}"

    with pytest.raises(ConfigError) as refused:
        read({key: value})
    assert str(refused.value) == f"{key}={value}: must be an integer from 1 to 2147483647"


def test_overrides_without_a_value_are_as_if_they_were_not_there():
    config, _ = read({"listener.name.external.max.connections": ""})

    assert config.listener_configs[0].max_connections is None


def test_overrides_of_a_listener_that_does_not_exist_are_refused():
    """Kafka ignores them, and with them a limit that somebody counts on."""
    with pytest.raises(ConfigError) as refused:
        read({"listener.name.extrenal.max.connections": "5"})
    assert str(refused.value) == (
        "listener.name.extrenal: EXTRENAL must be one of listeners: CONTROL, EXTERNAL, IN.TERNAL"
    )


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("listener.name.external.max.conections", "listener.name.external.max.connections?"),
        ("listener.name.external.ssl.client.auht", "listener.name.external.ssl.client.auth?"),
        ("listener.name.external.colour", None),
        ("listener.name.external", None),
        ("listener.name.", None),
    ],
)
def test_unknown_keys_of_a_listener_are_refused_with_a_suggestion(key, suggestion):
    with pytest.raises(ConfigError) as refused:
        read({key: "1"})
    hint = f"did you mean {suggestion}" if suggestion else "no key of a Kafka broker resembles it"
    assert str(refused.value) == f"{key}=1: unknown key; {hint}"


def test_keys_of_a_listener_without_effect_are_listed():
    keys = [
        "listener.name.control.num.network.threads",
        "listener.name.external.plain.sasl.jaas.config",
        "listener.name.external.ssl.client.auth",
    ]
    _, warnings = read(dict.fromkeys(keys, "1"))

    assert warnings == [f"Kafka keys without effect here: {', '.join(keys)}"]
