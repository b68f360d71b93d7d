"""Kafka's primitive types: sizes, limits, varints and uuids.

What an encoded value may cost us is decided here, once:

* a length or count is believed only after it was compared with the bytes that are left;
* an array has at most ``MAX_ARRAY_LENGTH`` elements, and all arrays of one message together
  hold at most that many structs (a struct is the only element whose object is much larger than
  its bytes);
* all arrays of one request together hold at most ``MAX_REQUEST_ELEMENTS`` elements: a server
  decodes what strangers send, and nothing else runs meanwhile (benchmarks/hostile_requests.py);
* a struct carries at most ``MAX_TAGGED_FIELDS`` tagged fields.

Everything wrong inside an encoded value is ``MalformedError``. It never leaves this package:
``codec`` and ``headers`` turn it into ``RemoteProtocolError``, which names message and field.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

ZERO_UUID: Final = bytes(16)
"""The uuid that Kafka sends where there is none."""

MAX_ARRAY_LENGTH: Final = 1_000_000
"""Elements of one array, and structs of one message."""
MAX_REQUEST_ELEMENTS: Final = 50_000
"""Elements of one request's arrays; several times what a client of 10,000 partitions sends."""
MAX_TAGGED_FIELDS: Final = 10_000
"""Tagged fields of one struct, known or not."""
MAX_STRING_LENGTH: Final = 32_767
"""Bytes of an encoded string; the compact form could express more and Kafka refuses it too."""
MAX_VARINT: Final = 2**31 - 1
"""Largest length, count, tag or size; Kafka reads them into a signed 32-bit integer."""

FIXED_WIDTH: Final = {
    "bool": ("?", 1),
    "int8": ("b", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "uint32": ("I", 4),
    "int64": ("q", 8),
    "float64": ("d", 8),
    "uuid": ("16s", 16),
}
"""Schema type → (``struct`` format character, bytes on the wire); all big-endian."""


class MalformedError(ValueError):
    """An encoded value that breaks the protocol; the text is the reason."""


def read_uvarint(view: memoryview, position: int) -> tuple[int, int]:
    """Read an unsigned varint.

    Args:
        view: the encoded message.
        position: index of the first byte.

    Returns:
        The value and the index after its last byte.

    Raises:
        MalformedError: the value exceeds ``MAX_VARINT``.
        IndexError: ``view`` ends inside the varint.
    """
    first = view[position]
    if first < 0x80:
        return first, position + 1
    return finish_uvarint(view, position + 1, first)


def finish_uvarint(view: memoryview, position: int, first: int) -> tuple[int, int]:
    """Read the rest of an unsigned varint whose first byte was seen to announce more.

    Args:
        view: the encoded message.
        position: index of the varint's second byte.
        first: its first byte, 0x80 or more.

    Returns:
        The value and the index after its last byte.

    Raises:
        MalformedError: the value exceeds ``MAX_VARINT``.
        IndexError: ``view`` ends inside the varint.
    """
    byte = view[position]
    position += 1
    value = (first & 0x7F) | (byte & 0x7F) << 7
    shift = 14
    while byte >= 0x80:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > MAX_VARINT or shift > 35:
            raise MalformedError(f"varint above {MAX_VARINT}")
    return value, position


def skip_tagged_fields(view: memoryview, position: int, count: int) -> int:
    """Step over the tagged fields of a struct none of whose tags means anything to us.

    Args:
        view: the encoded message.
        position: index behind the section's first byte.
        count: that first byte: the number of fields, or the beginning of it.

    Returns:
        The index behind the last tagged field.

    Raises:
        MalformedError: too many of them, or one that runs past the end.
        IndexError: ``view`` ends inside the section.
    """
    if count >= 0x80:
        count, position = finish_uvarint(view, position, count)
        if count > MAX_TAGGED_FIELDS:
            raise MalformedError("too many tagged fields")
    for _ in range(count):
        _, position = read_uvarint(view, position)
        size, position = read_uvarint(view, position)
        position += size
        if position > len(view):
            raise MalformedError("length runs past the end")
    return position


def encode_uvarint(value: int) -> bytes:
    """Return ``value`` (0 to ``MAX_VARINT``) as an unsigned varint.

    Raises:
        ValueError: ``value`` is outside that range.
    """
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} does not fit into an unsigned varint")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def uuid_to_string(uuid: bytes) -> str:
    """Return 16 raw bytes in the 22 characters that Kafka prints for a topic id.

    Source: Kafka ``Uuid.toString`` (url-safe base64 without padding).
    """
    return base64.urlsafe_b64encode(uuid).rstrip(b"=").decode("ascii")


def uuid_from_string(text: str) -> bytes:
    """Return the 16 raw bytes of a uuid that ``uuid_to_string`` or Kafka printed.

    Raises:
        ValueError: ``text`` is not the base64-url form of 16 bytes.

    Source: Kafka ``Uuid.fromString``.
    """
    try:
        uuid = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not a base64-url uuid: {text!r}") from error
    if len(uuid) != 16:
        raise ValueError(f"not a base64-url uuid of 16 bytes: {text!r}")
    return uuid
