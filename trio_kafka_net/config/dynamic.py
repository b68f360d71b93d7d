"""Settings that change while a broker runs: texts on top of the configuration of its start.

A dynamic setting is known by its key and text, as it is sent, stored and described. The strongest
layer that says anything counts::

    what is set for this broker > what is set for all > server.properties > built in

``overlay`` puts layers on the configuration of the start, through the same validators. Which keys
may be in a layer is said where they are defined (``setting(..., dynamic=True)``); with the prefix
of a listener, those that ``ListenerOverrides`` has.

Source: Kafka ``DynamicBrokerConfig`` (KIP-226).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .broker import BrokerConfig
from .known_keys import ALIASES, UNSAFE_TO_IGNORE, WITHOUT_EFFECT
from .listener_overrides import NO_OVERRIDES, PREFIX, ListenerOverrides, read_overrides, split_key
from .settings import describe, from_text, settings_of


def canonical_key(key: str) -> str:
    """A key as it is stored: the name of a listener, which may be in any case, in lower case."""
    of_listener = split_key(key)
    if of_listener is None:
        return key
    name, own_key = of_listener
    return f"{PREFIX}{name.lower()}.{own_key}"


def find_setting(key: str) -> attrs.Attribute[Any] | None:
    """The setting of a key, with or without the prefix of a listener."""
    of_listener = split_key(key)
    if of_listener is not None:
        return settings_of(ListenerOverrides)[of_listener[1]]
    return settings_of(BrokerConfig).get(key)


def is_dynamic(key: str) -> bool:
    """Whether a running broker takes a new value of ``key``."""
    field = find_setting(key)
    return field is not None and describe(field).dynamic


def is_known(key: str) -> bool:
    """Whether a Kafka broker knows the key, with or without the prefix of a listener."""
    if key.startswith(PREFIX):
        return True
    return (
        key in settings_of(BrokerConfig)
        or key in ALIASES
        or key in UNSAFE_TO_IGNORE
        or key in WITHOUT_EFFECT
    )


def overlay(static: BrokerConfig, layers: Iterable[Mapping[str, str]]) -> BrokerConfig:
    """Make the configuration in force.

    Args:
        static: the configuration of the start.
        layers: {canonical key: text} each, the weakest first; every key ``is_dynamic``.

    Raises:
        ConfigError: a value is not allowed, values contradict each other, or there is no such
            listener; the text names key, value and what is allowed.
    """
    settings = settings_of(BrokerConfig)
    values: dict[str, Any] = {}
    texts: dict[str, dict[str, str]] = {}
    for layer in layers:
        for key, text in layer.items():
            of_listener = split_key(key)
            if of_listener is None:
                values[settings[key].name] = from_text(settings[key], text)
            else:
                name, own_key = of_listener
                texts.setdefault(name, {})[own_key] = text
    overrides = dict(static.listener_overrides)
    for name, own in read_overrides(texts).items():
        said = {field: value for field, value in attrs.asdict(own).items() if value is not None}
        overrides[name] = attrs.evolve(overrides.get(name, NO_OVERRIDES), **said)
    return attrs.evolve(static, **values, listener_overrides=overrides)
