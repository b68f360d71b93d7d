"""Settings of one listener: ``listener.name.<name>.<key>`` in place of ``<key>``.

Kafka looks such keys up by their text whenever it needs one. Here they are read once, and what
does not name a listener and one of its settings is told to whoever wrote it: Kafka ignores a
listener's name with a slip in it, and with it the limit that somebody counts on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from trio_kafka_net.errors import ConfigError

from .settings import from_text, setting, settings_of

PREFIX = "listener.name."
"""How a key of one listener begins; the listener's name, in any case, and a dot follow."""


@attrs.frozen(kw_only=True)
class ListenerOverrides:
    """What one listener has of its own; None is what holds for all of them.

    Source: Kafka ``SocketServer.ListenerReconfigurableConfigs`` and
        ``DataPlaneAcceptor.ListenerReconfigurableConfigs``; KIP-402, KIP-612, KIP-788.
    """

    max_connections: int | None = setting(
        None,
        "Connections of the listener. Above it new ones wait in the kernel's backlog, also on the "
        "inter-broker listener.",
        unit="connections",
        kind=int,
        at_least=1,
        dynamic=True,
    )
    max_connection_creation_rate: int | None = setting(
        None,
        "New connections of the listener per second. As many may come at once; further ones wait.",
        unit="connections/s",
        kind=int,
        at_least=1,
        dynamic=True,
    )
    num_network_threads: int | None = setting(
        None,
        "Processors of the listener; no effect on the control plane, which has one.",
        unit="tasks",
        kind=int,
        at_least=1,
        dynamic=True,
    )


NO_OVERRIDES = ListenerOverrides()
"""A listener with nothing of its own."""


def split_key(key: str) -> tuple[str, str] | None:
    """Split a key into the listener's name in upper case and the key of one of its settings.

    Returns:
        None if it is not the key of a setting that a listener can have of its own.
    """
    if not key.startswith(PREFIX):
        return None
    rest = key.removeprefix(PREFIX)
    # The name may contain dots, so the end decides.
    for own in settings_of(ListenerOverrides):
        if rest.endswith(f".{own}"):
            return rest.removesuffix(f".{own}").upper(), own
    return None


def read_overrides(texts: Mapping[str, Mapping[str, str]]) -> dict[str, ListenerOverrides]:
    """Make the overrides of what stands in a configuration file.

    Args:
        texts: {listener name, upper case: {key of a setting: its value}}.

    Returns:
        {listener name, upper case: its overrides}.

    Raises:
        ConfigError: a value is not allowed; the text names the whole key.
    """
    return {name: _read(name, own) for name, own in texts.items()}


def _read(name: str, texts: Mapping[str, str]) -> ListenerOverrides:
    settings = settings_of(ListenerOverrides)
    values: dict[str, Any] = {}
    try:
        for key, text in texts.items():
            values[settings[key].name] = from_text(settings[key], text)
        return ListenerOverrides(**values)
    except ConfigError as error:
        raise ConfigError(f"{PREFIX}{name.lower()}.{error}") from None


def check_names(overrides: Iterable[str], listeners: Collection[str]) -> None:
    """Check that every override is one of a listener that exists.

    Raises:
        ConfigError: one is not.
    """
    for name in overrides:
        if name not in listeners:
            raise ConfigError(
                f"{PREFIX}{name.lower()}: {name} must be one of listeners: "
                f"{', '.join(sorted(listeners))}"
            )
