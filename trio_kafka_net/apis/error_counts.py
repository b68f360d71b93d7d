"""How often each error code stands in a response, NONE included.

In Kafka every response class counts its own. Here it is one rule: every field named
``error_code`` that the response's version has, wherever it is. Where those fields are is found
once per class and version.

Source: Kafka ``AbstractResponse.errorCounts``.
"""

from __future__ import annotations

import attrs

from trio_kafka_net.protocol.message import Message, Struct


@attrs.frozen
class _Places:
    """Where a struct has error codes."""

    has_code: bool
    arrays: tuple[tuple[str, _Places], ...]
    """Fields with arrays of structs that have some, themselves or below."""
    structs: tuple[tuple[str, _Places], ...]
    """The same for single structs."""


class ErrorCounter:
    """Counts error codes; remembers for every class and version where they are."""

    def __init__(self) -> None:
        """Know no class yet."""
        self._places: dict[tuple[type[Struct], int], _Places] = {}

    def count(self, response: Message, version: int) -> dict[int, int]:
        """Count error codes in ``response`` as ``version`` of it is sent: {code: how often}."""
        key = type(response), version
        places = self._places.get(key)
        if places is None:
            places = self._places[key] = _find_places(type(response), version)
        counts: dict[int, int] = {}
        _count(response, places, counts)
        return counts


def _count(struct: Struct, places: _Places, counts: dict[int, int]) -> None:
    if places.has_code:
        code: int = struct.error_code  # type: ignore[attr-defined]  # looked up in _find_places
        counts[code] = counts.get(code, 0) + 1
    for name, inner in places.arrays:
        for each in getattr(struct, name) or ():
            _count(each, inner, counts)
    for name, inner in places.structs:
        value = getattr(struct, name)
        if value is not None:
            _count(value, inner, counts)


def _find_places(cls: type[Struct], version: int) -> _Places:
    has_code = False
    arrays: list[tuple[str, _Places]] = []
    structs: list[tuple[str, _Places]] = []
    for field in cls.FIELDS:
        if not field.exists_in(version):
            continue
        has_code = has_code or field.name == "error_code"
        inner = cls.STRUCTS.get(field.type.removeprefix("[]"))
        if inner is None:
            continue
        places = _find_places(inner, version)
        if places.has_code or places.arrays or places.structs:
            (arrays if field.is_array else structs).append((field.name, places))
    return _Places(has_code, tuple(arrays), tuple(structs))
