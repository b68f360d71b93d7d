"""Single records: round trips, and every way to lie about a length."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.record_codec import Record, decode_record, encode_record

optional_bytes = st.none() | st.binary(max_size=200)
records = st.builds(
    Record,
    key=optional_bytes,
    value=optional_bytes,
    headers=st.lists(st.tuples(st.text(max_size=10), optional_bytes), max_size=3).map(tuple),
)


@given(
    record=records,
    offset_delta=st.integers(0, 2**31 - 1),
    timestamp_delta=st.integers(-(2**63), 2**63 - 1),
)
def test_decode_returns_what_was_encoded(record, offset_delta, timestamp_delta):
    encoded = encode_record(record, offset_delta=offset_delta, timestamp_delta=timestamp_delta)

    decoded, delta, end = decode_record(b"xx" + bytes(encoded), 2)

    record.timestamp = timestamp_delta
    assert (decoded, delta, end) == (record, offset_delta, 2 + len(encoded))


@given(junk=st.binary(max_size=60))
def test_decode_of_junk_raises_nothing_else(junk):
    with contextlib.suppress(CorruptRecordError):
        decode_record(junk, 0)


@given(record=records, data=st.data())
def test_decode_of_a_damaged_record_raises_nothing_else(record, data):
    encoded = encode_record(record, offset_delta=0, timestamp_delta=0)
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptRecordError):
        decode_record(encoded, 0)


def test_decode_refuses_a_record_cut_off_anywhere():
    record = Record(key=b"key", value=b"value", headers=(("h", b"x"),))
    encoded = bytes(encode_record(record, offset_delta=3, timestamp_delta=1000))

    for length in range(len(encoded)):
        with pytest.raises(CorruptRecordError):
            decode_record(encoded[:length], 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("null header key", b"\x00\x00\x00\x01\x01\x02\x01\x01"),
        ("header key not UTF-8", b"\x00\x00\x00\x01\x01\x02\x02\xff\x01"),
        ("negative count of headers", b"\x00\x00\x00\x01\x01\x01"),
        ("more headers than bytes", b"\x00\x00\x00\x01\x01\xfe\x01"),
        ("key longer than the record", b"\x00\x00\x00\x10\x01\x00"),
        ("key of length -2", b"\x00\x00\x00\x03\x01\x00"),
        ("byte after the headers", b"\x00\x00\x00\x01\x01\x00\x00"),
        ("varint of six bytes", b"\x00\x00\xff\xff\xff\xff\xff\x01\x01\x01\x00"),
    ],
)
def test_decode_refuses(name, content):
    body = bytes([len(content) * 2]) + content + bytes(20)

    with pytest.raises(CorruptRecordError):
        decode_record(body, 0)


def test_decode_refuses_a_field_that_ends_in_the_next_record():
    content = b"\x00\x00\x00\x01\x14\x00"  # a value of 10 bytes in a record of 6
    body = bytes([len(content) * 2]) + content + bytes(20)

    with pytest.raises(CorruptRecordError):
        decode_record(body, 0)
