"""Our messages as kio's entities, to compare both codecs byte for byte."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import io
import uuid
from typing import Any

from hypothesis import strategies as st
from kio.index import load_entity_schema
from kio.schema.errors import ErrorCode
from kio.schema.index import schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.serial._implicit_defaults import get_tagged_field_default
from kio.static.constants import EntityType

from trio_kafka_net.protocol.message import Field, Message, Struct
from trio_kafka_net.protocol.messages import MODULES

KINDS = {
    "request": EntityType.request,
    "response": EntityType.response,
    "data": EntityType.data,
}
EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)


def knows(name: str) -> bool:
    """Whether kio has the message."""
    return MODULES[name].replace("kraft", "k_raft") in schema_name_map


def schema(cls: type[Message], version: int) -> Any:
    """Return kio's class of one version of a message."""
    name = MODULES[cls.__name__].replace("kraft", "k_raft")
    return load_entity_schema(name, version, KINDS[cls.KIND])


@functools.cache
def kio_types(name: str) -> dict[str, str]:
    """Return {our field name: kio's type} for all structs of a schema."""
    found: dict[str, str] = {}
    kinds = {kind for each in schema_name_map[name].values() for kind in each}
    for version in schema_name_map[name]:
        for kind in kinds:
            collect_types(load_entity_schema(name, version, kind), found)
    return found


def collect_types(entity: Any, found: dict[str, str]) -> None:
    for field in dataclasses.fields(entity):
        if "kafka_type" in field.metadata:
            found[our_name(field)] = field.metadata["kafka_type"]
        else:
            collect_types(element_class(field), found)


def element_class(field: dataclasses.Field[Any]) -> Any:
    """Return the entity class inside ``X``, ``X | None``, ``tuple[X, ...]`` and so on."""
    candidates = [field.type]
    while candidates:
        candidate = candidates.pop()
        if dataclasses.is_dataclass(candidate):
            return candidate
        candidates += getattr(candidate, "__args__", ())
    raise AssertionError(field)


def our_name(field: dataclasses.Field[Any]) -> str:
    kio_type = field.metadata.get("kafka_type", "")
    suffix = "_ms" if kio_type.startswith(("timedelta", "datetime")) else ""
    return field.name.replace("k_raft", "kraft") + suffix


def special_values(owner: type[Struct], field: Field) -> st.SearchStrategy | None:
    """Keep to the values that kio's richer types can hold."""
    module = MODULES[owner.__qualname__.partition(".")[0]].replace("kraft", "k_raft")
    kio_type = kio_types(module).get(field.name, "")
    return {
        "error_code": st.sampled_from([int(code) for code in ErrorCode]),
        "timedelta_i64": st.integers(-(10**12), 10**12),
        "datetime_i64": st.integers(0, 4 * 10**9).map(lambda seconds: seconds * 1000),
    }.get(kio_type)


def to_kio(value: Struct, entity: Any) -> Any:
    """Convert one of our structs into kio's class of some version."""
    return entity(
        **{
            field.name: field_to_kio(getattr(value, our_name(field)), field)
            for field in dataclasses.fields(entity)
        }
    )


def field_to_kio(value: Any, field: dataclasses.Field[Any]) -> Any:
    if isinstance(value, list):
        return tuple(field_to_kio(each, field) for each in value)
    if isinstance(value, Struct):
        return to_kio(value, element_class(field))
    if value is None:
        is_tagged_struct = "tag" in field.metadata and "kafka_type" not in field.metadata
        return get_tagged_field_default(field) if is_tagged_struct and field.default else None
    return plain_to_kio(value, field.metadata["kafka_type"], str(field.type))


def plain_to_kio(value: Any, kio_type: str, annotation: str) -> Any:
    if kio_type == "uuid":
        return uuid.UUID(bytes=value) if any(value) else None
    if kio_type == "error_code":
        return ErrorCode(value)
    if kio_type.startswith("timedelta"):
        return value * MILLISECOND
    if kio_type == "datetime_i64":
        is_absent = value == -1 and "None" in annotation
        return None if is_absent else EPOCH + value * MILLISECOND
    return value


def write(entity: Any) -> bytes:
    """Encode with kio."""
    with io.BytesIO() as buffer:
        entity_writer(type(entity))(buffer, entity)
        return buffer.getvalue()


def read(schema_class: Any, encoded: bytes) -> tuple[Any, int]:
    """Decode with kio."""
    found: tuple[Any, int] = entity_reader(schema_class)(encoded, 0)
    return found
