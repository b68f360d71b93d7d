"""The configuration of a broker while it runs, and the file that keeps what was changed.

One object holds what was set at run time, for all brokers and for this one, and computes the
``BrokerConfig`` in force. A change goes three steps, in this order and one change at a time:

1. every value is checked, by the validators of the configuration and by whoever is affected
   (``Reconfigurable.validate``): what fails here has changed nothing;
2. it is written to ``dynamic-config.json``, which is replaced as a whole;
3. whoever is affected is told. What cannot be applied now is logged, and holds from the next start.

What is in the file and cannot be applied at a start, because a later release or another
``server.properties`` refuses it, is logged and left out, each value for itself.

Source: Kafka ``DynamicBrokerConfig``, ``ConfigAdminManager`` (KIP-226, KIP-339).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.config.dynamic import canonical_key, is_dynamic, is_known, overlay
from trio_kafka_net.config.settings import settings_of, to_text
from trio_kafka_net.errors import ConfigError, KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .log.checkpoints import write_atomically

log = logging.getLogger(__name__)

DYNAMIC_CONFIG_FILE = "dynamic-config.json"
ALL_BROKERS = ""
"""The scope of what is set for all brokers; that of one broker is its node id as text."""

_FILE_VERSION = 1

Texts: TypeAlias = Mapping[str, str]
"""{Kafka's key: value as text}."""
Change: TypeAlias = Callable[[dict[str, str]], dict[str, str]]
"""What is set before a change → what is set after it; raises KafkaError to refuse."""


class Reconfigurable(Protocol):
    """Whoever must do something when the configuration changes."""

    async def validate(self, old: BrokerConfig, new: BrokerConfig) -> None:
        """Refuse what cannot be applied.

        Raises:
            ConfigError: nothing is changed.
        """

    async def reconfigure(self, old: BrokerConfig, new: BrokerConfig) -> None:
        """Apply ``new``."""


class _Shared:
    """The file of a store, and the brokers that go by it."""

    def __init__(self, path: Path, stored: Mapping[str, Texts]) -> None:
        self.path = path
        self.stored = stored
        self.members: list[DynamicConfig] = []
        self.changing = trio.Lock()

    async def save(self, stored: Mapping[str, Texts]) -> None:
        document = {"version": _FILE_VERSION, "brokers": stored}
        content = json.dumps(document, indent=1).encode() + b"\n"
        try:
            await trio.to_thread.run_sync(write_atomically, self.path, content)
        except OSError as error:
            log.error("%s could not be written: %s", self.path, error)
            raise KafkaError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the change could not be stored"
            ) from error
        self.stored = stored


class DynamicConfig:
    """What is set for all brokers and for this one, and what holds."""

    def __init__(
        self,
        static: BrokerConfig,
        path: Path,
        stored: Mapping[str, Texts] | None = None,
        *,
        shared: _Shared | None = None,
    ) -> None:
        """Begin with what was stored; ``load`` reads it.

        Args:
            static: the configuration of the start.
            path: the file that keeps changes.
            stored: {scope: {key: text}}.
            shared: the file in place of both, for ``of_another_broker``.
        """
        self.static = static
        """The configuration of the start."""
        self.node_scope = str(static.node_id)
        """The scope of this broker."""
        self.static_texts = static_texts(static)
        """{key: text} of what ``static`` says beside the defaults."""
        self._shared = _Shared(path, stored or {}) if shared is None else shared
        self._shared.members.append(self)
        self._layers: dict[str, dict[str, str]] = {ALL_BROKERS: {}, self.node_scope: {}}
        self._reconfigurables: list[Reconfigurable] = []
        self.current = static
        """The configuration in force."""
        self._take_over(self._shared.stored)

    @classmethod
    def load(cls, static: BrokerConfig, data_dir: Path) -> DynamicConfig:
        """Read what was changed in earlier runs; blocks, for a worker thread.

        Raises:
            StorageError: the file is damaged.
            OSError: it could not be read.
        """
        path = data_dir / DYNAMIC_CONFIG_FILE
        try:
            document = json.loads(path.read_bytes())
            if document["version"] != _FILE_VERSION:
                raise ValueError(f"version {document['version']} is not {_FILE_VERSION}")
            stored = {
                str(scope): {str(key): str(text) for key, text in texts.items()}
                for scope, texts in document["brokers"].items()
            }
        except FileNotFoundError:
            stored = {}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise StorageError(f"{path} is damaged: {error!r}") from error
        return cls(static, path, stored)

    def of_another_broker(self, static: BrokerConfig) -> DynamicConfig:
        """What holds for another broker that goes by the same file."""
        return DynamicConfig(static, self._shared.path, shared=self._shared)

    def leave(self) -> None:
        """Hear of no more changes, because the broker is gone."""
        self._shared.members.remove(self)

    def texts(self, scope: str) -> Texts:
        """What is set at run time for ``ALL_BROKERS`` or for ``node_scope``: {key: text}."""
        return self._layers[scope]

    def subscribe(self, reconfigurable: Reconfigurable) -> None:
        """Let somebody check and apply changes from now on, after those who did so before."""
        self._reconfigurables.append(reconfigurable)

    async def alter(self, scope: str, change: Change, *, validate_only: bool = False) -> None:
        """Change what is set for all brokers or for this one.

        Args:
            scope: ``ALL_BROKERS`` or ``node_scope``.
            change: makes the new texts of the present ones.
            validate_only: check, and change nothing.

        Raises:
            KafkaError: INVALID_CONFIG, nobody knows a key; INVALID_REQUEST, a setting is fixed or
                a value is not allowed; KAFKA_STORAGE_ERROR. Nothing was changed.

        Cancellation: the change holds as a whole or not at all; some of it may hold from the next
            start only.
        """
        async with self._shared.changing:
            asked = change(dict(self._layers[scope]))
            wanted = {canonical_key(key): text for key, text in asked.items()}
            _check_keys(wanted)
            members = [self] if scope else list(self._shared.members)
            plans = [await each._plan({**each._layers, scope: wanted}) for each in members]
            if validate_only:
                return
            await self._shared.save({**self._shared.stored, **self._layers, scope: wanted})
            log.info("set at run time for %s: %s", scope or "all brokers", ", ".join(wanted) or "-")
            for plan in plans:
                plan.member._layers, plan.member.current = plan.layers, plan.new
            for plan in plans:
                for reconfigurable in plan.member._reconfigurables:
                    await _apply(reconfigurable, plan.old, plan.new)

    async def _plan(self, layers: dict[str, dict[str, str]]) -> _Plan:
        """What would hold with these layers, if everybody can go by it."""
        old = self.current
        try:
            new = self._in_force(layers)
            for each in self._reconfigurables:
                await each.validate(old, new)
        except ConfigError as error:
            raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from error
        return _Plan(self, layers, old, new)

    def _take_over(self, stored: Mapping[str, Texts]) -> None:
        """Add the stored values one by one, as often as one that failed may have become valid."""
        pending = [
            (scope, canonical_key(key), text)
            for scope in self._layers
            for key, text in stored.get(scope, {}).items()
        ]
        refused: dict[str, str] = {}
        while pending:
            left = []
            for scope, key, text in pending:
                layers = {**self._layers, scope: {**self._layers[scope], key: text}}
                try:
                    _check_keys({key: text})
                    self.current = self._in_force(layers)
                    self._layers = layers
                except (ConfigError, KafkaError) as error:
                    refused[key] = str(error)
                    left.append((scope, key, text))
            if len(left) == len(pending):
                break
            pending = left
        for _, key, _ in pending:
            log.error("%s: ignored: %s", self._shared.path, refused[key])

    def _in_force(self, layers: Mapping[str, Texts]) -> BrokerConfig:
        return overlay(self.static, [layers[ALL_BROKERS], layers[self.node_scope]])


@attrs.frozen
class _Plan:
    """A change as it is for one broker."""

    member: DynamicConfig
    layers: dict[str, dict[str, str]]
    old: BrokerConfig
    new: BrokerConfig


async def _apply(reconfigurable: Reconfigurable, old: BrokerConfig, new: BrokerConfig) -> None:
    try:
        await reconfigurable.reconfigure(old, new)
    except (ConfigError, KafkaError, StorageError, OSError) as error:
        # It is stored: the next start applies it.
        log.error("a change of the configuration could not be applied: %s", error)


def _check_keys(texts: Texts) -> None:
    unknown = sorted(key for key in texts if not is_known(key))
    if unknown:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG, f"Unknown broker config name: {', '.join(unknown)}"
        )
    fixed = sorted(key for key in texts if not is_dynamic(key))
    if fixed:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Cannot update these configs dynamically: Set({', '.join(fixed)})",
        )


def static_texts(config: BrokerConfig) -> dict[str, str]:
    """What a configuration says beside the defaults: {key: text}, listeners' own settings too."""
    texts = _said(config)
    for name, overrides in config.listener_overrides.items():
        prefix = f"listener.name.{name.lower()}."
        texts.update({prefix + key: text for key, text in _said(overrides).items()})
    return texts


def default_texts() -> dict[str, str]:
    """What is built in: {key: text}, without what is not set."""
    texts = {key: to_text(field.default) for key, field in settings_of(BrokerConfig).items()}
    return {key: text for key, text in texts.items() if text is not None}


def _said(config: Any) -> dict[str, str]:
    said = {}
    for key, field in settings_of(type(config)).items():
        text = to_text(getattr(config, field.name))
        if text is not None and text != to_text(field.default):
            said[key] = text
    return said
