"""Messages as JSON, for people to read: names in Kafka's camelCase, and no contents of records.

What is left out on purpose: the bytes of records (their size stands in their place, as in Kafka),
anything that proves who somebody is, and raw messages inside messages, which could hold either.
Other bytes are base64 while they are short.

Source: Kafka's generated ``JsonConverter`` classes with ``serializeRecords = false``.
"""

from __future__ import annotations

import base64
import math
from typing import Any, Final

from trio_kafka_net.protocol.message import Field, Struct
from trio_kafka_net.protocol.primitives import uuid_to_string

HIDDEN: Final = "[hidden]"
"""In place of what must not be read; Kafka's word."""

_SECRETS: Final = frozenset(
    {
        "auth_bytes",  # SaslAuthenticate
        "hmac",  # delegation tokens
        "salt",  # AlterUserScramCredentials
        "salted_password",
        "request_data",  # Envelope: a whole request, of whatever kind
        "response_data",
    }
)

_LONGEST_BYTES: Final = 1024
"""Longer values of type ``bytes`` are shown by their size."""


def struct_to_json(struct: Struct, version: int) -> dict[str, Any]:
    """What ``version`` of a message carries, as values that ``json.dumps`` takes.

    Tagged fields with their default are left out, as they are on the wire.
    """
    out: dict[str, Any] = {}
    for field in struct.FIELDS:
        if not field.exists_in(version):
            continue
        value = getattr(struct, field.name)
        if field.tag is not None and value == field.default:
            continue
        name = _camel_case(field.name)
        if field.name in _SECRETS:
            out[name] = None if value is None else HIDDEN
        elif field.type == "records" and value is not None:
            out[f"{name}SizeInBytes"] = _size_of(value)
        else:
            out[name] = _to_json(value, field, version)
    return out


def _to_json(value: Any, field: Field, version: int) -> Any:
    if value is None:
        return None
    if field.is_array:
        return [_item_to_json(item, field.type[2:], version) for item in value]
    return _item_to_json(value, field.type, version)


def _item_to_json(value: Any, kind: str, version: int) -> Any:
    if isinstance(value, Struct):
        return struct_to_json(value, version)
    if kind == "uuid":
        return uuid_to_string(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        size = len(value)
        return f"<{size} bytes>" if size > _LONGEST_BYTES else base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    return value


def _size_of(records: Any) -> int:
    return sum(map(len, records)) if isinstance(records, (list, tuple)) else len(records)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
