"""Varints and uuids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.protocol.primitives import (
    MAX_VARINT,
    ZERO_UUID,
    MalformedError,
    encode_uvarint,
    read_uvarint,
    skip_tagged_fields,
    uuid_from_string,
    uuid_to_string,
)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (16_384, b"\x80\x80\x01"),
        (MAX_VARINT, b"\xff\xff\xff\xff\x07"),
    ],
)
def test_uvarint_has_the_documented_bytes(value, encoded):
    assert encoded == encode_uvarint(value)
    assert (value, len(encoded) + 1) == read_uvarint(memoryview(b"?" + encoded), 1)


@given(st.integers(0, MAX_VARINT))
def test_uvarint_round_trips(value):
    encoded = encode_uvarint(value)

    assert (value, len(encoded)) == read_uvarint(memoryview(encoded), 0)


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_encode_uvarint_when_out_of_range_refuses(value):
    with pytest.raises(ValueError, match="unsigned varint"):
        encode_uvarint(value)


@pytest.mark.parametrize("encoded", [b"\xff\xff\xff\xff\x08", b"\x80\x80\x80\x80\x80\x00"])
def test_read_uvarint_when_too_large_refuses(encoded):
    with pytest.raises(MalformedError):
        read_uvarint(memoryview(encoded), 0)


def test_skip_tagged_fields_steps_over_exactly_the_section():
    section = b"\x80\x01" + b"\x05\x02ab" * 128

    assert len(section) == skip_tagged_fields(memoryview(section + b"next"), 1, section[0])


def test_uuid_text_is_the_one_kafka_prints():
    uuid = bytes.fromhex("00010203 04054607 88090a0b 0c0d0efb")

    assert uuid_to_string(uuid) == "AAECAwQFRgeICQoLDA0O-w"
    assert uuid == uuid_from_string("AAECAwQFRgeICQoLDA0O-w")
    assert uuid_to_string(ZERO_UUID) == "AAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("text", ["", "short", "AAECAwQFRgeICQoLDA0O-w==x", "é" * 22, "A" * 23])
def test_uuid_from_string_when_not_a_uuid_raises_value_error(text):
    with pytest.raises(ValueError, match="not a base64-url uuid"):
        uuid_from_string(text)
