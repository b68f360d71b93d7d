"""Hypothesis strategies for messages, and what a message looks like in one version."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hypothesis import strategies as st

from trio_kafka_net.protocol import messages
from trio_kafka_net.protocol.message import Field, Message, Struct

MESSAGE_CLASSES: dict[str, type[Message]] = {
    name: getattr(messages, name) for name in messages.MODULES
}

VALUES: dict[str, st.SearchStrategy] = {
    "bool": st.booleans(),
    "int8": st.integers(-(2**7), 2**7 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.text(max_size=5),
    "uuid": st.one_of(st.just(bytes(16)), st.binary(min_size=16, max_size=16)),
    "bytes": st.binary(max_size=5),
    "records": st.one_of(st.none(), st.binary(max_size=5)),
}

FieldStrategy = Callable[[type[Struct], Field], "st.SearchStrategy | None"]
"""Gives a strategy for the (element) values of a field where ``VALUES`` would not do."""


def no_special_values(owner: type[Struct], field: Field) -> None:
    """Leave all fields to ``VALUES``."""


def messages_of(
    cls: type[Struct], special: FieldStrategy = no_special_values
) -> st.SearchStrategy[Struct]:
    """Return a strategy for instances with every field of every version filled in."""
    given = {field.name: values_of(cls, field, special) for field in cls.FIELDS}
    return st.builds(functools.partial(build, cls), st.fixed_dictionaries(given))


def build(cls: type[Struct], values: dict[str, object]) -> Struct:
    return cls(**values)


def values_of(cls: type[Struct], field: Field, special: FieldStrategy) -> st.SearchStrategy:
    element = field.type.removeprefix("[]")
    strategy = special(cls, field)
    if strategy is None:
        strategy = VALUES.get(element)
    if strategy is None:
        strategy = messages_of(cls.STRUCTS[element], special)
    if field.is_array:
        strategy = st.lists(strategy, max_size=2)
    if field.nullable is not None or (field.is_struct and field.default is None):
        strategy = strategy if field.is_default_struct else st.one_of(st.none(), strategy)
    return strategy


def in_version(value: Struct, version: int) -> Struct:
    """Return what is left of ``value`` when it travels in ``version``."""
    cls = type(value)
    return cls(
        **{
            field.name: field_in_version(value, field, version)
            for field in cls.FIELDS
            if field.exists_in(version)
        }
    )


def field_in_version(value: Struct, field: Field, version: int) -> object:
    found = getattr(value, field.name)
    if found is None:
        cannot_be_null = not field.nullable_in(version) and field.tag is None
        return getattr(type(value)(), field.name) or non_null(field) if cannot_be_null else None
    if field.is_struct:
        projected = in_version(found, version)
        # A tagged struct of defaults does not travel, and absent is None.
        is_absent = field.tag is not None and projected == type(found)()
        return None if is_absent else projected
    if field.is_array and field.type[2].isupper():
        return [in_version(each, version) for each in found]
    return found


def non_null(field: Field) -> object:
    if field.is_array:
        return []
    return "" if field.type == "string" else b""


def versions_of(cls: type[Message]) -> range:
    first, last = cls.VALID_VERSIONS
    return range(first, last + 1)
