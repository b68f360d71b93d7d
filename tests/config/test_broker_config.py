"""BrokerConfig: limits, units, keys and texts."""

from pathlib import Path

import attrs
import pytest

from trio_kafka_net.config import BrokerConfig, LogConfig, SocketServerConfig
from trio_kafka_net.config.known_keys import ALIASES, WITHOUT_EFFECT
from trio_kafka_net.config.settings import describe, settings_of
from trio_kafka_net.errors import ConfigError

NUMBERS = [key for key, field in settings_of(BrokerConfig).items() if describe(field).kind is int]


def test_defaults_are_those_that_kafka_clients_rely_on():
    config = BrokerConfig()

    assert config.socket_request_max_bytes == 100 * 1024 * 1024
    assert config.connections_max_idle_ms == 10 * 60 * 1000
    assert config.queued_max_requests == 500
    assert config.message_max_bytes == 1_048_588
    assert config.fetch_max_bytes == 55 * 1024 * 1024


def test_slices_carry_the_values_of_the_broker():
    config = BrokerConfig(num_io_threads=2, log_segment_bytes=1_000_000)

    assert config.socket_server == SocketServerConfig(num_io_threads=2)
    assert config.log == LogConfig(log_segment_bytes=1_000_000)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("text", ["", " ", "many", "1.5", "1_000", "0x10", "١", "9" * 5000])
def test_numbers_refuse_texts_that_are_none(key, text):
    """CF-12."""
    if describe(settings_of(BrokerConfig)[key]).optional and not text.strip():
        assert BrokerConfig.from_properties({key: text})[0] == BrokerConfig()
        return
    with pytest.raises(ConfigError, match=rf"^{key}={text.strip()}: must be an integer from "):
        BrokerConfig.from_properties({key: text})


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_refuse_values_outside_their_limits(key):
    """CF-12."""
    about = describe(settings_of(BrokerConfig)[key])

    for value in (about.minimum - 1, about.maximum + 1):
        with pytest.raises(ConfigError, match=f"^{key}={value}: must be an integer from "):
            BrokerConfig.from_properties({key: str(value)})


@pytest.mark.parametrize("value", ["8", 8.0, True, None, b"8"])
def test_numbers_refuse_values_of_other_types(value):
    with pytest.raises(ConfigError, match=r"^num\.io\.threads=.*: must be an integer"):
        BrokerConfig(num_io_threads=value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delete_topic_enable": "yes"}, "delete.topic.enable=yes: must be true or false"),
        ({"cluster_id": 5}, "cluster.id=5: must be text"),
        ({"listeners": 5}, "listeners=5: must be a comma-separated list"),
        ({"listener_security_protocol_map": "A"}, "must be a comma-separated list of name:value"),
        ({"log_cleanup_policy": ("delete", "shrink")}, "must be delete or compact$"),
        ({"log_dirs": ("a", "b")}, "log.dirs=a,b: must be one directory"),
        ({"log_dirs": ()}, "log.dirs=: must be one directory"),
        ({"log_cleanup_policy": ()}, "must be delete or compact$"),
        ({"log_cleaner_min_cleanable_ratio": 1.5}, "must be a number from 0 to 1$"),
        ({"log_cleaner_min_cleanable_ratio": float("nan")}, "must be a number from 0 to 1$"),
        ({"log_cleaner_io_max_bytes_per_second": "fast"}, "must be a number from 1 to"),
        ({"log_message_timestamp_type": "Now"}, "must be CreateTime or LogAppendTime"),
    ],
)
def test_values_of_other_kinds_are_refused_in_words(settings, message):
    with pytest.raises(ConfigError, match=message):
        BrokerConfig(**settings)


def test_request_memory_below_one_request_is_refused():
    """CF-09."""
    with pytest.raises(
        ConfigError, match=r"must be at least socket\.request\.max\.bytes, 104857600"
    ):
        BrokerConfig(queued_max_request_bytes=1000)


def test_limits_of_connections_are_taken():
    config, warnings = BrokerConfig.from_properties(
        {
            "max.connections": "800",
            "max.connection.creation.rate": "90",
            "max.connections.per.ip": "17",
            "max.connections.per.ip.overrides": "127.0.0.1:5, kafka.example:0,::1:7",
        }
    )

    assert warnings == []
    server = config.socket_server
    assert (server.max_connections, server.max_connection_creation_rate) == (800, 90)
    assert server.max_connections_per_ip == 17
    assert server.ip_limits == {"127.0.0.1": 5, "kafka.example": 0, "::1": 7}


def test_no_connections_per_address_need_overrides():
    """CF-07."""
    message = r"^max\.connections\.per\.ip=0: must be at least 1 without .*overrides$"
    with pytest.raises(ConfigError, match=message):
        BrokerConfig(max_connections_per_ip=0)
    with pytest.raises(ConfigError, match=message):
        SocketServerConfig(max_connections_per_ip=0)
    config = BrokerConfig(max_connections_per_ip=0, max_connections_per_ip_overrides={"a": 5})
    assert config.ip_limits == {"a": 5}


@pytest.mark.parametrize(
    "override",
    ["a:-1", "a:2147483648", "a:x", "a:", "a:1.5", "a:\u0661", "a b:1", "PLAINTEXT://a:1", "@?:1"],
)
def test_overrides_per_address_must_be_host_and_number(override):
    """CF-07, CF-10."""
    with pytest.raises(ConfigError) as refused:
        BrokerConfig.from_properties({"max.connections.per.ip.overrides": override})
    assert str(refused.value) == (
        f"max.connections.per.ip.overrides={override}: must be host:connections, "
        "connections from 0 to 2147483647"
    )


@pytest.mark.parametrize("text", ["a", ":5", "5"])
def test_overrides_per_address_must_be_pairs(text):
    """CF-07."""
    with pytest.raises(ConfigError, match=r"must be a comma-separated list of name:value pairs"):
        BrokerConfig.from_properties({"max.connections.per.ip.overrides": text})


def test_properties_become_values():
    config, warnings = BrokerConfig.from_properties(
        {
            "listeners": "PLAINTEXT://127.0.0.1:9092 , CONTROLLER://127.0.0.1:9090",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "control.plane.listener.name": "controller",
            "num.io.threads": " +4 ",
            "auto.create.topics.enable": "FALSE",
            "log.dirs": " /a ",
            "log.roll.ms": "",
            "cluster.id": "",
            "trio.graceful.timeout.ms": "5",
        }
    )

    assert warnings == []
    assert config == BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:9092", "CONTROLLER://127.0.0.1:9090"),
        listener_security_protocol_map={"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT"},
        control_plane_listener_name="controller",
        num_io_threads=4,
        auto_create_topics_enable=False,
        log_dirs=("/a",),
        trio_graceful_timeout_ms=5,
    )


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("num.io.thread", "did you mean num.io.threads?"),
        ("num_io_threads", "did you mean num.io.threads?"),
        ("log.dris", "did you mean log.dirs?"),
        ("zookeeper.conect", "did you mean zookeeper.connect?"),
        ("colour", "no key of a Kafka broker resembles it"),
    ],
)
def test_unknown_keys_are_refused_with_a_suggestion(key, suggestion):
    with pytest.raises(ConfigError) as refused:
        BrokerConfig.from_properties({key: "1"})
    assert str(refused.value) == f"{key}=1: unknown key; {suggestion}"


def test_keys_without_effect_are_listed_in_one_warning():
    config, warnings = BrokerConfig.from_properties(
        {
            "zookeeper.connect": "localhost:2181",
            "listener.name.plaintext.ssl.client.auth": "required",
            "broker.rack": "a-17",
            "num.io.threads": "3",
        }
    )

    assert config == BrokerConfig(num_io_threads=3, broker_rack="a-17")
    assert warnings == [
        "Kafka keys without effect here: broker.rack, "
        "listener.name.plaintext.ssl.client.auth, zookeeper.connect"
    ]


def test_settings_without_effect_are_still_checked():
    with pytest.raises(ConfigError, match=r"unstable\.api\.versions\.enable=maybe"):
        BrokerConfig.from_properties({"unstable.api.versions.enable": "maybe"})


def test_an_authorizer_that_would_be_ignored_stops_the_start():
    with pytest.raises(ConfigError, match="everybody may do everything"):
        BrokerConfig.from_properties({"authorizer.class.name": "org.example.Authorizer"})
    assert BrokerConfig.from_properties({"authorizer.class.name": ""}) == (BrokerConfig(), [])


def test_other_names_of_a_key_are_taken():
    config, _ = BrokerConfig.from_properties({"broker.id": "7", "log.dir": "/data"})

    assert (config.node_id, config.log_dirs) == (7, ("/data",))


def test_log_dirs_win_over_log_dir_as_in_kafka():
    config, _ = BrokerConfig.from_properties({"log.dir": "/one", "log.dirs": "/two"})

    assert config.log_dirs == ("/two",)


def test_broker_id_and_node_id_must_agree():
    with pytest.raises(ConfigError, match=r"broker\.id=1: must be the same as node\.id, 2"):
        BrokerConfig.from_properties({"broker.id": "1", "node.id": "2"})


@pytest.mark.parametrize("given", ["data", Path("data"), ["data"], (Path("data"),)])
def test_log_dirs_take_a_path_or_several(given):
    assert BrokerConfig(log_dirs=given).log_dirs == ("data",)


@pytest.mark.parametrize(
    ("settings", "roll_ms", "retention_ms"),
    [
        ({}, 168 * 3_600_000, 168 * 3_600_000),
        ({"log_roll_hours": 1, "log_retention_hours": 2}, 3_600_000, 7_200_000),
        ({"log_roll_ms": 5, "log_retention_minutes": 2}, 5, 120_000),
        ({"log_retention_ms": 9, "log_retention_minutes": 2}, 168 * 3_600_000, 9),
        ({"log_retention_ms": -1}, 168 * 3_600_000, -1),
        ({"log_retention_minutes": -1}, 168 * 3_600_000, -1),
        ({"log_retention_hours": -1}, 168 * 3_600_000, -1),
    ],
)
def test_the_finest_unit_that_is_set_counts(settings, roll_ms, retention_ms):
    log = BrokerConfig(**settings).log

    assert (log.roll_ms, log.retention_ms) == (roll_ms, retention_ms)


def test_topic_defaults_are_the_brokers_settings_under_the_topics_names():
    log = BrokerConfig(
        log_segment_bytes=1000, log_retention_hours=1, log_cleanup_policy=("delete",)
    ).log

    assert log.topic_defaults["segment.bytes"] == "1000"
    assert log.topic_defaults["retention.ms"] == "3600000"
    assert log.topic_defaults["cleanup.policy"] == "delete"


def test_every_number_has_a_unit_and_every_setting_a_sentence():
    for key, field in settings_of(BrokerConfig).items():
        about = describe(field)
        assert about.unit or about.kind is not int or key == "node.id", key
        assert about.doc.rstrip("`").endswith("."), key


def test_no_key_is_both_a_setting_and_without_effect():
    settings = settings_of(BrokerConfig)

    assert not WITHOUT_EFFECT & {*settings, *ALIASES}
    assert set(ALIASES.values()) <= set(settings)


def test_configuration_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        BrokerConfig().num_io_threads = 2
