"""Whatever the bytes, a decoder returns a message or raises RemoteProtocolError."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import MESSAGE_CLASSES, in_version, messages_of, versions_of

from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.headers import decode_request_header

NASTY = [b"\x00", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x81\x01"]

pieces = st.one_of(st.sampled_from(NASTY), st.binary(max_size=6))
mutations = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), pieces), min_size=1, max_size=3)


def mutated(encoded, changes):
    """Replace some bytes at relative places by others; often shorter or longer ones."""
    for place, length, replacement in changes:
        at = int(place * len(encoded))
        encoded = encoded[:at] + replacement + encoded[at + length :]
    return encoded


def must_decode_or_refuse(cls, version, encoded):
    try:
        decoded = decode(cls, version, encoded)
    except RemoteProtocolError as error:
        assert cls.__name__ in str(error)  # noqa: PT017 - the message is looked at below
        assert f"(v{version}) at byte " in str(error)  # noqa: PT017 - the message is looked at below
    else:
        assert isinstance(decoded, cls)


@pytest.mark.parametrize("name", MESSAGE_CLASSES)
def test_decode_when_good_bytes_are_mutated_raises_nothing_else(name):
    cls = MESSAGE_CLASSES[name]

    @settings(max_examples=12)
    @given(messages_of(cls), mutations)
    def check(message, changes):
        for version in versions_of(cls):
            encoded = b"".join(encode(in_version(message, version), version))
            must_decode_or_refuse(cls, version, mutated(encoded, changes))

    check()


@settings(max_examples=40)
@given(st.lists(pieces, max_size=20).map(b"".join))
def test_decode_when_bytes_are_arbitrary_raises_nothing_else(encoded):
    for cls in MESSAGE_CLASSES.values():
        must_decode_or_refuse(cls, versions_of(cls)[0], encoded)
        must_decode_or_refuse(cls, versions_of(cls)[-1], encoded)


@settings(max_examples=300)
@given(st.binary(max_size=24), mutations)
def test_decode_request_header_when_bytes_are_arbitrary_raises_nothing_else(encoded, changes):
    try:
        header, position = decode_request_header(mutated(encoded, changes))
    except RemoteProtocolError:
        return
    assert position >= 8
    assert -(2**15) <= header.api_key < 2**15
