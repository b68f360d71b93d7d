"""Settings as they are described to clients: value, where it comes from, what it would be else.

A setting's synonyms are every place that says something about it, the strongest first; the first
of them says what holds. A topic's setting has the broker's setting of the same meaning behind it,
often under another name.

Source: Kafka ``ConfigHelper``, ``ServerTopicConfigSynonyms``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Any

import attrs

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.config.dynamic import find_setting, is_dynamic
from trio_kafka_net.config.listener_overrides import split_key
from trio_kafka_net.config.settings import MAX_INT, describe, settings_of, to_text

from .dynamic_config import ALL_BROKERS, DynamicConfig, default_texts
from .log.log_config import LogConfig

_RETENTION = ("log.retention.ms", "log.retention.minutes", "log.retention.hours")
_ROLL = ("log.roll.ms", "log.roll.hours")

_TOPIC_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "cleanup.policy": ("log.cleanup.policy",),
    "compression.type": ("compression.type",),
    "delete.retention.ms": ("log.cleaner.delete.retention.ms",),
    "file.delete.delay.ms": ("log.segment.delete.delay.ms",),
    "flush.messages": ("log.flush.interval.messages",),
    "flush.ms": ("log.flush.interval.ms",),
    "index.interval.bytes": ("log.index.interval.bytes",),
    "max.compaction.lag.ms": ("log.cleaner.max.compaction.lag.ms",),
    "max.message.bytes": ("message.max.bytes",),
    "message.timestamp.after.max.ms": ("log.message.timestamp.after.max.ms",),
    "message.timestamp.before.max.ms": ("log.message.timestamp.before.max.ms",),
    "message.timestamp.type": ("log.message.timestamp.type",),
    "min.cleanable.dirty.ratio": ("log.cleaner.min.cleanable.ratio",),
    "min.compaction.lag.ms": ("log.cleaner.min.compaction.lag.ms",),
    "min.insync.replicas": ("min.insync.replicas",),
    "retention.bytes": ("log.retention.bytes",),
    "retention.ms": _RETENTION,
    "segment.bytes": ("log.segment.bytes",),
    "segment.index.bytes": ("log.index.size.max.bytes",),
    "segment.ms": _ROLL,
}
"""{setting of a topic: the broker's settings behind it, the strongest first}."""

_BROKER_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_RETENTION, _RETENTION),
    **dict.fromkeys(_ROLL, _ROLL),
}


class ConfigSource(enum.IntEnum):
    """Who says what a setting is; Kafka's numbers on the wire."""

    DYNAMIC_TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    DYNAMIC_BROKER_LOGGER = 6


class ConfigType(enum.IntEnum):
    """Type of a setting; Kafka's numbers on the wire."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


@attrs.frozen
class Synonym:
    """One place that says something about a setting."""

    name: str
    value: str
    source: ConfigSource


@attrs.frozen(kw_only=True)
class ConfigEntry:
    """A setting of a broker or a topic."""

    name: str
    value: str | None
    """What holds; None is not set."""
    synonyms: tuple[Synonym, ...] = ()
    """Who says something about it, the strongest first."""
    is_read_only: bool = False
    """Whether it is fixed while the broker runs."""
    kind: ConfigType = ConfigType.UNKNOWN
    documentation: str | None = None

    @property
    def source(self) -> ConfigSource:
        """Who says what it is."""
        return self.synonyms[0].source if self.synonyms else ConfigSource.DEFAULT


Wanted = Callable[[str], bool]
"""Whether a setting of that name is asked for."""


def wanted(names: Collection[str] | None) -> Wanted:
    """Those of ``names``, or all if there are none.

    Source: Kafka ``ConfigHelper.describeConfigs``, where no names are all names.
    """
    return frozenset(names).__contains__ if names else lambda _name: True


def broker_entries(config: DynamicConfig, is_wanted: Wanted) -> list[ConfigEntry]:
    """The settings of this broker, by name; of a listener's those that somebody set."""
    current = config.current
    values = {
        key: to_text(getattr(current, field.name))
        for key, field in settings_of(BrokerConfig).items()
    }
    layers = _layers(config)
    for _, texts in layers:
        values.update({key: _in_layers(layers, key) for key in texts if split_key(key)})
    return [
        _broker_entry(name, values[name], _broker_synonyms(layers, name))
        for name in sorted(values)
        if is_wanted(name)
    ]


def all_brokers_entries(config: DynamicConfig, is_wanted: Wanted) -> list[ConfigEntry]:
    """What is set at run time for all brokers, by name."""
    source = ConfigSource.DYNAMIC_DEFAULT_BROKER
    return [
        _broker_entry(name, text, (Synonym(name, text, source),))
        for name, text in sorted(config.texts(ALL_BROKERS).items())
        if is_wanted(name)
    ]


class TopicDescriber:
    """Describes topics; made for one request, because it keeps what the topics have in common."""

    def __init__(self, config: DynamicConfig, defaults: LogConfig, is_wanted: Wanted) -> None:
        """Describe what topics set themselves on top of ``defaults``."""
        self._defaults = defaults
        layers = _layers(config)
        self._common = {
            name: _topic_entry(name, text, _topic_synonyms(layers, name))
            for name, text in sorted(defaults.to_texts())
            if is_wanted(name)
        }

    def entries(self, configs: Mapping[str, str]) -> list[ConfigEntry]:
        """The settings of a topic that sets ``configs`` itself, by name.

        Raises:
            KafkaError: INVALID_CONFIG, the topic cannot set that.
        """
        own = {name for name in configs if name in self._common}
        if not own:
            return list(self._common.values())
        entries = dict(self._common)
        for name, text in self._defaults.with_topic_configs(configs).to_texts():
            if name in own:
                if name in list_keys():
                    text = configs[name].strip()  # in the order in which it was given
                synonym = Synonym(name, text, ConfigSource.DYNAMIC_TOPIC)
                inherited = entries[name].synonyms
                entries[name] = attrs.evolve(
                    entries[name], value=text, synonyms=(synonym, *inherited)
                )
        return list(entries.values())


_Layers = list[tuple[ConfigSource, Mapping[str, str]]]


def _layers(config: DynamicConfig) -> _Layers:
    """Who says something about a broker's settings, the strongest first."""
    return [
        (ConfigSource.DYNAMIC_BROKER, config.texts(config.node_scope)),
        (ConfigSource.DYNAMIC_DEFAULT_BROKER, config.texts(ALL_BROKERS)),
        (ConfigSource.STATIC_BROKER, config.static_texts),
        (ConfigSource.DEFAULT, default_texts()),
    ]


def _in_layers(layers: _Layers, key: str) -> str:
    return next(texts[key] for _, texts in layers if key in texts)


def _synonyms(layers: _Layers, names: Iterable[str]) -> list[Synonym]:
    names = list(names)
    return [
        Synonym(name, texts[name], source)
        for source, texts in layers
        for name in names
        if name in texts
    ]


def _broker_synonyms(layers: _Layers, name: str) -> tuple[Synonym, ...]:
    """What stands before the first word about ``name`` itself says nothing about its value."""
    of_listener = split_key(name)
    names = _BROKER_SYNONYMS.get(name, (name,))
    if of_listener is not None:
        # A listener's own setting counts before the common one, whoever has set that.
        own = _synonyms(layers, [name])
        return (*own, *_synonyms(layers, [of_listener[1]]))
    synonyms = _synonyms(layers, names)
    while synonyms and synonyms[0].name != name:
        del synonyms[0]
    return tuple(synonyms)


def _topic_synonyms(layers: _Layers, topic_name: str) -> tuple[Synonym, ...]:
    """Without the default of a weaker name, if nobody has said anything: as Kafka shows it."""
    names = _TOPIC_SYNONYMS.get(topic_name, ())
    synonyms = _synonyms(layers, names)
    while synonyms and synonyms[0].source is ConfigSource.DEFAULT and synonyms[0].name != names[0]:
        del synonyms[0]
    return tuple(synonyms)


def _broker_entry(name: str, value: str | None, synonyms: tuple[Synonym, ...]) -> ConfigEntry:
    return ConfigEntry(
        name=name,
        value=value,
        synonyms=synonyms,
        is_read_only=not is_dynamic(name),
        **_about(name),
    )


def _topic_entry(name: str, value: str, synonyms: tuple[Synonym, ...]) -> ConfigEntry:
    behind = _TOPIC_SYNONYMS.get(name, ())
    about = _about(behind[0]) if behind else {}
    return ConfigEntry(name=name, value=value, synonyms=synonyms, **about)


def _about(broker_key: str) -> dict[str, Any]:
    field = find_setting(broker_key)
    if field is None:
        return {}
    about = describe(field)
    is_long = about.kind is int and about.maximum > MAX_INT
    return {
        "kind": ConfigType.LONG if is_long else _TYPES.get(about.kind, ConfigType.STRING),
        "documentation": about.doc,
    }


_TYPES: Mapping[type, ConfigType] = {
    bool: ConfigType.BOOLEAN,
    int: ConfigType.INT,
    float: ConfigType.DOUBLE,
    tuple: ConfigType.LIST,
}


@cache
def list_keys() -> frozenset[str]:
    """Keys of brokers and topics whose values are lists, to which something can be appended."""
    of_broker = {
        key for key, field in settings_of(BrokerConfig).items() if describe(field).kind is tuple
    }
    of_topic = {name for name, behind in _TOPIC_SYNONYMS.items() if of_broker & {*behind}}
    return frozenset(of_broker | of_topic)
