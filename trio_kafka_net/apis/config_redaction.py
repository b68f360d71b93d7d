"""Which values of configuration keys may be written into a log.

A value is shown if its key is known and harmless. It is hidden if the key is a secret, and if
nobody here knows the key: somebody else's plugin may read its password from it.

Source: Kafka ``RequestChannel.Request.loggableRequest`` and ``KafkaConfig.loggableValue``.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.config.known_keys import ALIASES, UNSAFE_TO_IGNORE, WITHOUT_EFFECT
from trio_kafka_net.config.settings import settings_of

from .message_json import HIDDEN

_TOPIC, _BROKER, _BROKER_LOGGER = 2, 4, 8
"""Kafka's ``ConfigResource.Type``."""

_LISTENER_PREFIX = "listener.name."

_PASSWORDS: Final = frozenset(
    {
        "delegation.token.master.key",
        "delegation.token.secret.key",
        "password.encoder.old.secret",
        "password.encoder.secret",
        "sasl.jaas.config",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.client.credentials.client.secret",
        "ssl.key.password",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.keystore.password",
        "ssl.truststore.certificates",
        "ssl.truststore.password",
        "zookeeper.ssl.keystore.password",
        "zookeeper.ssl.truststore.password",
    }
)
"""Keys of Kafka's type PASSWORD."""

_TOPIC_KEYS_OF_KAFKA: Final = frozenset(
    """
    compression.gzip.level compression.lz4.level compression.zstd.level delete.retention.ms
    file.delete.delay.ms flush.ms follower.replication.throttled.replicas
    leader.replication.throttled.replicas local.retention.bytes local.retention.ms
    max.compaction.lag.ms message.downconversion.enable message.format.version
    message.timestamp.difference.max.ms min.cleanable.dirty.ratio min.compaction.lag.ms
    preallocate remote.log.copy.disable remote.log.delete.on.disable remote.storage.enable
    segment.jitter.ms unclean.leader.election.enable
    """.split()  # noqa: SIM905 - a list of words, easier to compare with Kafka's in this form
)
"""Those that are no setting of our log; none is a secret."""


def loggable_value(resource_type: int, name: str, value: str | None) -> str | None:
    """The value, or ``HIDDEN``; null stays null.

    Args:
        resource_type: Kafka's ``ConfigResource.Type``.
        name: the key, for a broker with or without the prefix of a listener.
        value: what somebody wants it to be.
    """
    return value if value is None or _is_harmless(resource_type, name) else HIDDEN


def _is_harmless(resource_type: int, name: str) -> bool:
    if resource_type == _TOPIC:
        return name in _topic_keys()
    if resource_type == _BROKER:
        key = _without_listener(name)
        return key in _broker_keys() and key not in _PASSWORDS
    return resource_type == _BROKER_LOGGER


def _without_listener(name: str) -> str:
    """The key behind ``listener.name.<listener>.`` and, if there is one, ``<mechanism>.``."""
    if not name.startswith(_LISTENER_PREFIX):
        return name
    _, _, key = name.removeprefix(_LISTENER_PREFIX).partition(".")
    return key if key in _broker_keys() else key.partition(".")[2]


@cache
def _broker_keys() -> frozenset[str]:
    return frozenset({*settings_of(BrokerConfig), *ALIASES, *UNSAFE_TO_IGNORE, *WITHOUT_EFFECT})


@cache
def _topic_keys() -> frozenset[str]:
    return _TOPIC_KEYS_OF_KAFKA.union(name for name, _ in LogConfig().to_texts())
