"""The largest requests that a broker lets in, made from what the messages say of themselves.

Of each API two: *wide* ones name as many things as they may in their first array, *deep* ones name
one thing in it, and as many as they may inside of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trio_kafka_net.protocol.api_keys import ApiKey, request_class
from trio_kafka_net.protocol.message import Field, Message
from trio_kafka_net.protocol.primitives import FIXED_WIDTH, MAX_REQUEST_ELEMENTS


def largest_requests(
    versions: dict[ApiKey, int], count: int = MAX_REQUEST_ELEMENTS, topic: str = "t"
) -> Iterator[tuple[str, Message, int]]:
    """Name, request and version, for every API in ``versions`` whose requests have arrays.

    Args:
        versions: {API: the version of it that is asked}.
        count: elements of a request.
        topic: what the only topic of a deep request is called.
    """
    for key, version in versions.items():
        cls = request_class(key)
        arrays = [each for each in cls.FIELDS if each.is_array and each.exists_in(version)]
        for field in arrays:
            items = [_element(cls, field, version, number) for number in range(count)]
            yield (
                f"{key.label} v{version} {field.name}",
                _request(cls, version, field, items),
                version,
            )
            inner = cls.STRUCTS.get(field.type[2:])
            for nested in () if inner is None else inner.FIELDS:
                if nested.is_array and nested.exists_in(version):
                    parent = _element(cls, field, version, 0, topic)
                    several = [_element(cls, nested, version, each) for each in range(count - 1)]
                    setattr(parent, nested.name, several)
                    name = f"{key.label} v{version} {field.name}.{nested.name}"
                    yield name, _request(cls, version, field, [parent]), version


def _request(cls: type[Message], version: int, field: Field, items: list[Any]) -> Message:
    request: Message = _filled(cls, version, 0)
    setattr(request, field.name, items)
    return request


def _element(
    cls: type[Message], array: Field, version: int, number: int, name: str | None = None
) -> Any:
    kind = array.type[2:]
    if kind == "string":
        return f"{number:x}"
    if kind == "uuid":
        return number.to_bytes(16, "big")
    if kind in FIXED_WIDTH:
        return number % 100 if kind == "int8" else number
    return _filled(cls.STRUCTS[kind], version, number, name)


def _filled(cls: Any, version: int, number: int, name: str | None = None) -> Any:
    """A struct whose texts and numbers tell it from others."""
    made: Any = cls()
    for each in cls.FIELDS:
        if not each.exists_in(version) or each.tag is not None:
            continue
        if each.name == "acks":
            made.acks = 1  # or nobody would answer
        if each.type == "string":
            setattr(made, each.name, name or f"{number:x}")
        elif each.type == "int32" and ("index" in each.name or "partition" in each.name):
            setattr(made, each.name, number)
        elif each.is_array and each.default is None:
            setattr(made, each.name, [])
    return made
