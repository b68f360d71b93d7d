from __future__ import annotations

import pytest

from trio_kafka_net.cluster import config_of_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (None, None),
        ("off", None),
        ("OFF", None),
        (" ", None),
        ("127.0.0.1:9404", ("127.0.0.1", 9404)),
        ("[::1]:0", ("::1", 0)),
        (":9404", ("", 9404)),
        ("broker.example:65535", ("broker.example", 65535)),
    ],
)
def test_the_endpoint_has_an_address_or_is_off(text, address):
    assert address == BrokerConfig(trio_metrics_listener=text).metrics_address


@pytest.mark.parametrize("text", ["9404", "host:", "host:65536", "host:-1", "host:٣", "on"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="must be host:port"):
        BrokerConfig(trio_metrics_listener=text)


def test_brokers_of_a_process_have_an_endpoint_each():
    first = BrokerConfig(trio_metrics_listener="127.0.0.1:9404")
    assert ("127.0.0.1", 9424) == config_of_broker(first, 2).metrics_address
    free = BrokerConfig(trio_metrics_listener="127.0.0.1:0")
    assert ("127.0.0.1", 0) == config_of_broker(free, 2).metrics_address
    assert config_of_broker(BrokerConfig(), 2).metrics_address is None
