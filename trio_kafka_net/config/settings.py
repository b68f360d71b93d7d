"""One setting: its Kafka name, unit, limits, documentation, and how text becomes its value.

A setting is an attrs field made by ``setting``. What Kafka keeps in a ``ConfigDef`` is the field's
metadata here, so that one definition gives the constructor argument, the key of
``server.properties``, the error message and the row of ``docs/configuration.md``.

A setting's key is its field's name with dots for underscores; no key of Kafka contains an
underscore, so the way back is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import attrs

from trio_kafka_net.errors import ConfigError

MAX_INT = 2**31 - 1
"""Largest value of Kafka's ``INT`` type."""
MAX_LONG = 2**63 - 1
"""Largest value of Kafka's ``LONG`` type."""
MAX_DOUBLE = 1.7976931348623157e308
"""Largest value of Kafka's ``DOUBLE`` type."""

_METADATA_KEY = "trio_kafka_net.setting"
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@attrs.frozen(kw_only=True)
class Setting:
    """What is known about one configuration key besides its value."""

    doc: str
    """One or two sentences for whoever sets it."""
    unit: str
    """Unit of the value; empty for text, names and switches."""
    kind: type
    """``int``, ``float``, ``bool``, ``str``, ``tuple`` (a list in text) or ``dict`` (``key:value``
    pairs)."""
    optional: bool
    """Whether None ("not set") is a value."""
    minimum: float
    """Smallest number allowed."""
    maximum: float
    """Largest number allowed."""
    choices: tuple[str, ...]
    """Texts allowed; empty allows all."""
    dynamic: bool
    """Whether a running broker takes a new value."""
    effective: bool
    """Whether the value changes anything yet; a key that does not is accepted with a warning."""

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.kind is int:
            return f"an integer from {self.minimum} to {self.maximum}"
        if self.kind is float:
            return f"a number from {self.minimum} to {self.maximum}"
        return _KIND_IN_WORDS[self.kind]


_KIND_IN_WORDS: Mapping[type, str] = {
    bool: "true or false",
    str: "text",
    tuple: "a comma-separated list",
    dict: "a comma-separated list of name:value pairs",
}


def setting(
    default: object,
    doc: str,
    *,
    unit: str = "",
    kind: type | None = None,
    at_least: float = 0,
    at_most: float = MAX_INT,
    choices: tuple[str, ...] = (),
    convert: Callable[[Any], object] | None = None,
    dynamic: bool = False,
    effective: bool = True,
) -> Any:
    """Make an attrs field that is a configuration key.

    Args:
        default: value when nobody says otherwise; its type is the setting's type.
        doc: sentences for ``docs/configuration.md``.
        unit: of the value, if it is a number.
        kind: type of the value where ``default`` is None.
        at_least: smallest number allowed.
        at_most: largest number allowed; Kafka's ``INT`` and ``LONG`` limits.
        choices: texts allowed, for a text or for the elements of a list.
        convert: makes the stored value of what a Python caller passes.
        dynamic: whether a running broker takes a new value.
        effective: False while the value changes nothing.

    Returns:
        The field; typed Any because the annotation of the field gives its type.
    """
    about = Setting(
        doc=doc,
        unit=unit,
        kind=type(default) if kind is None else kind,
        optional=default is None,
        minimum=at_least,
        maximum=at_most,
        choices=choices,
        dynamic=dynamic,
        effective=effective,
    )
    return attrs.field(
        default=default,
        converter=convert,
        validator=_validate,
        metadata={_METADATA_KEY: about},
    )


def settings_of(cls: type) -> Mapping[str, attrs.Attribute[Any]]:
    """The settings of a configuration class: {Kafka key: attrs field}, in order."""
    return _settings_of(cls)


@cache
def _settings_of(cls: Any) -> Mapping[str, attrs.Attribute[Any]]:
    return {
        key_of(field.name): field for field in attrs.fields(cls) if _METADATA_KEY in field.metadata
    }


def describe(field: attrs.Attribute[Any]) -> Setting:
    """What is known about the setting that ``field`` is."""
    about = field.metadata[_METADATA_KEY]
    assert isinstance(about, Setting)
    return about


def key_of(field_name: str) -> str:
    """Kafka's key for a field's name."""
    return field_name.replace("_", ".")


def from_text(field: attrs.Attribute[Any], text: str) -> object:
    """Make a setting's value of the text that stands in a configuration file.

    Raises:
        ConfigError: the text is no value of the setting's type. Limits are checked later, when
            the configuration object is made.

    Source: Kafka ``ConfigDef.parseType``.
    """
    about = describe(field)
    text = text.strip()
    if about.optional and not text:
        return None
    try:
        return _PARSERS[about.kind](text)
    except ValueError:
        raise _refuse(field.name, text, about) from None


def to_text(value: object) -> str | None:
    """The text that ``from_text`` makes ``value`` of; None for what is not set.

    Source: Kafka ``ConfigDef.convertToString``.
    """
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case Mapping():
            return ",".join(f"{name}:{text}" for name, text in value.items())
    return str(value)


def _parse_int(text: str) -> int:
    # int() would also take underscores, blanks and digits of other scripts.
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _parse_float(text: str) -> float:
    # float() would also take infinity and what is no number.
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _parse_bool(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _parse_map(text: str) -> dict[str, str]:
    pairs = [part.rpartition(":") for part in _parse_list(text)]
    if any(not separator or not name for name, separator, _ in pairs):
        raise ValueError(text)
    return {name.strip(): value.strip() for name, _, value in pairs}


_PARSERS: Mapping[type, Callable[[str], object]] = {
    int: _parse_int,
    float: _parse_float,
    bool: _parse_bool,
    str: str,
    tuple: _parse_list,
    dict: _parse_map,
}


def _validate(_instance: object, field: attrs.Attribute[Any], value: object) -> None:
    about = describe(field)
    if value is None and about.optional:
        return
    is_of_kind = isinstance(value, about.kind) and (
        about.kind is bool or not isinstance(value, bool)
    )
    if not is_of_kind or not _is_within_limits(value, about):
        raise _refuse(field.name, value, about)


def _is_within_limits(value: object, about: Setting) -> bool:
    if isinstance(value, (int, float)) and about.kind in {int, float}:
        return about.minimum <= value <= about.maximum
    if about.choices:
        parts = value if isinstance(value, tuple) else (value,)
        return bool(parts) and all(part in about.choices for part in parts)
    return True


def _refuse(name: str, value: object, about: Setting) -> ConfigError:
    shown = to_text(value) if isinstance(value, (str, int, float, tuple)) else repr(value)
    return ConfigError(f"{key_of(name)}={shown}: must be {about.allowed}")
