"""Endpoints and the rules between the keys that describe listeners (Kafka's KafkaConfigTest)."""

import socket

import pytest

from trio_kafka_net.config import BrokerConfig, Endpoint, ListenerConfig
from trio_kafka_net.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PLAINTEXT://127.0.0.1:9092", Endpoint("PLAINTEXT", "127.0.0.1", 9092)),
        (" plaintext://localhost:0 ", Endpoint("PLAINTEXT", "localhost", 0)),
        ("PLAINTEXT://:9092", Endpoint("PLAINTEXT", "", 9092)),
        ("EXTERNAL-1://[::1]:9092", Endpoint("EXTERNAL-1", "::1", 9092)),
        ("A://[fe80::1%eth0]:65535", Endpoint("A", "fe80::1%eth0", 65535)),
        ("A://my_host.example-1.org:1", Endpoint("A", "my_host.example-1.org", 1)),
    ],
)
def test_endpoint_parse_reads_name_host_and_port(text, expected):
    assert Endpoint.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:9092",
        "PLAINTEXT://127.0.0.1",
        "PLAINTEXT://127.0.0.1:",
        "PLAINTEXT://127.0.0.1:65536",
        "PLAINTEXT://127.0.0.1:-1",
        "PLAINTEXT://127.0.0.1:9092/",
        "PLAINTEXT://::1:9092",
        "PLAINTEXT://[host]:9092",
        "PLAIN TEXT://127.0.0.1:9092",
        "PLAINTEXT:/127.0.0.1:9092",
        "PLAINTEXT://ho st:9092",
    ],
)
def test_endpoint_parse_refuses_what_is_no_endpoint(text):
    with pytest.raises(ConfigError) as refused:
        Endpoint.parse(text)
    assert str(refused.value).startswith(f"listeners={text}: must be NAME://host:port")


@pytest.mark.parametrize("text", ["PLAINTEXT://127.0.0.1:9092", "A://[::1]:0", "A://:1"])
def test_endpoint_text_is_what_was_parsed(text):
    assert str(Endpoint.parse(text)) == text


def test_listeners_are_resolved_into_planes_protocols_and_advertised_addresses():
    """CF-05, CF-06, GX-04: the control plane's name counts in any case, and in one plane only."""
    config = BrokerConfig(
        listeners=("plaintext://0.0.0.0:9092", "Controller://127.0.0.1:9090"),
        advertised_listeners=("PLAINTEXT://kafka.example.org:19092",),
        control_plane_listener_name="controller",
    )

    assert config.listener_configs == (
        ListenerConfig(
            name="PLAINTEXT",
            host="0.0.0.0",
            port=9092,
            advertised_host="kafka.example.org",
            advertised_port=19092,
        ),
        ListenerConfig(name="CONTROLLER", host="127.0.0.1", port=9090, is_control_plane=True),
    )


def test_listener_on_every_address_advertises_the_host_name():
    (listener,) = BrokerConfig(listeners=("PLAINTEXT://:9092",)).listener_configs

    assert (listener.host, listener.advertised_host) == ("", socket.gethostname())


def test_listener_by_hand_advertises_its_own_address():
    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=9092)

    assert (listener.advertised_host, listener.advertised_port) == ("127.0.0.1", 9092)


def test_listener_names_and_protocols_are_taken_in_any_case():
    """CF-05."""
    config = BrokerConfig(
        listeners=("internal://127.0.0.1:0",),
        listener_security_protocol_map={"Internal": "plaintext"},
        inter_broker_listener_name="internal",
    )

    assert [(x.name, x.security_protocol) for x in config.listener_configs] == [
        ("INTERNAL", "PLAINTEXT")
    ]


@pytest.mark.parametrize(
    "listeners",
    [
        ("PLAINTEXT://127.0.0.1:9092", "A://[::1]:9092"),
        ("PLAINTEXT://127.0.0.1:0", "A://127.0.0.1:0", "B://localhost:0"),
    ],
)
def test_listeners_may_share_a_port_as_ipv4_and_ipv6_literals_or_if_any_port_is_taken(listeners):
    """CF-01."""
    config = BrokerConfig(
        listeners=listeners,
        listener_security_protocol_map={"A": "PLAINTEXT", "B": "PLAINTEXT"},
    )

    assert len(config.listener_configs) == len(listeners)


P = "PLAINTEXT://127.0.0.1:9092"
C = "CONTROLLER://127.0.0.1:9090"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"listeners": ()}, "at least one listener"),
        ({"listeners": (P, "plaintext://127.0.0.1:1")}, "PLAINTEXT is there 2 times"),
        ({"listeners": (P, "SSL://127.0.0.1:9092")}, "may share port 9092 only"),
        ({"listeners": (P, "SSL://localhost:9092")}, "may share port 9092 only"),
        ({"listeners": (P, "A://[::1]:9092", "B://[::2]:9092")}, "may share port 9092 only"),
        ({"listeners": ("INTERNAL://127.0.0.1:1",)}, "INTERNAL is missing"),
        ({"listeners": ("SSL://127.0.0.1:1",)}, "SSL:SSL: not supported yet; must be PLAINTEXT"),
        ({"listener_security_protocol_map": {"A": "TLS"}}, "A:TLS: the protocol must be PLAINTEXT"),
        ({"listeners": ("PLAINTEXT://0.0.0.0:1",)}, "cannot connect to a wildcard"),
        ({"listeners": ("PLAINTEXT://[::]:1",)}, "cannot connect to a wildcard"),
        ({"advertised_listeners": ("PLAINTEXT://0.0.0.0:1",)}, "advertised.listeners=.*wildcard"),
        ({"advertised_listeners": ("SSL://a:1",)}, "SSL must be one of listeners: PLAINTEXT"),
        ({"advertised_listeners": (P, P)}, "PLAINTEXT is there twice"),
        ({"advertised_listeners": ("nonsense",)}, "advertised.listeners=nonsense: must be NAME"),
        ({"control_plane_listener_name": "A"}, "A: must be one of listeners: PLAINTEXT"),
        ({"inter_broker_listener_name": "A"}, "A: must be one of listeners: PLAINTEXT"),
        ({"control_plane_listener_name": "PLAINTEXT"}, "data plane needs a listener as well"),
        (
            {
                "listeners": (P, C),
                "control_plane_listener_name": "CONTROLLER",
                "inter_broker_listener_name": "controller",
            },
            "must differ from inter.broker.listener.name",
        ),
    ],
)
def test_listener_settings_that_contradict_each_other_are_refused(settings, message):
    """CF-01, CF-02, CF-04, CF-06."""
    with pytest.raises(ConfigError, match=message):
        BrokerConfig(**settings)
