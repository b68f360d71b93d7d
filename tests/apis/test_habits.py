"""A header that is recognised means what it does if it is decoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.apis import dispatch
from trio_kafka_net.apis.habits import LONGEST_HEADER
from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import HeartbeatRequest, MetadataRequest, ProduceRequest

from .desk import Desk, Forgetful

REQUESTS = [
    (MetadataRequest(topics=None), 12),
    (MetadataRequest(topics=None), 8),
    (HeartbeatRequest(group_id="g"), 4),
    (ProduceRequest(), 9),
    (ProduceRequest(), 8),
    (ProduceRequest(), 99),
]
"""The last is of a version that nobody has."""


def a_frame(number, correlation_id, client_id):
    request, version = REQUESTS[number]
    pieces = encode_request(request, min(version, 13), correlation_id, client_id)
    frame = bytearray(b"".join(bytes(piece) for piece in pieces))
    frame[2:4] = version.to_bytes(2, "big")
    return bytes(frame)


frames = st.lists(
    st.tuples(
        st.integers(0, len(REQUESTS) - 1),
        st.integers(-(2**31), 2**31 - 1),
        st.sampled_from(["me", "me", "you", "", None, "\u00fc", "long" * 100]),
        st.one_of(st.none(), st.none(), st.integers(0, 30)),
        st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 16), st.integers(0, 255))),
    ),
    min_size=2,
    max_size=12,
)


def read(desk, payload):
    """The fields of a header, or why it was refused."""
    try:
        request = desk.parse(payload)
    except RemoteProtocolError as error:
        return str(error)
    assert bytes(request.payload) == payload
    return (
        request.api.key,
        request.api_version,
        request.correlation_id,
        request.client_id,
        request.body_position,
        desk.connection.client_id,
    )


@given(frames)
def test_what_is_remembered_makes_no_difference(sent):
    remembering, forgetting = Desk(FakeLocal()), Desk(FakeLocal(), Forgetful)
    for number, correlation_id, client_id, cut, change in sent:
        payload = bytearray(a_frame(number, correlation_id, client_id))
        if change is not None and change[0] < len(payload):
            payload[change[0]] = change[1]
        payload = bytes(payload[:cut])
        assert read(remembering, payload) == read(forgetting, payload)


class FakeLocal:
    """As much of a broker as a header needs."""

    quotas = throttler = None


@pytest.fixture
def decoded(monkeypatch):
    decoded = []
    decode = dispatch.decode_request_header

    def noted(payload):
        decoded.append(payload)
        return decode(payload)

    monkeypatch.setattr(dispatch, "decode_request_header", noted)
    return decoded


def test_a_header_that_comes_again_is_not_decoded(decoded):
    desk = Desk(FakeLocal())
    for number, client_id in [(0, "a"), (0, "a"), (0, "a"), (1, "a"), (0, "a"), (1, "a"), (0, "a")]:
        desk.parse(a_frame(number, 5, client_id))

    assert len(decoded) == 4


def test_another_header_takes_its_place(decoded):
    desk = Desk(FakeLocal())
    for number, client_id in [
        (0, "a"),
        (0, "a"),
        (1, "b"),
        (1, "b"),
        (1, "b"),
        (1, None),
        (1, None),
    ]:
        desk.parse(a_frame(number, 5, client_id))

    assert len(decoded) == 6


def test_what_the_client_calls_its_software_is_asked_each_time():
    desk = Desk(FakeLocal())
    for _ in range(2):
        desk.parse(a_frame(0, 1, "me"))
    desk.connection.client_software_name = "known now"

    assert desk.parse(a_frame(0, 2, "me")).client_software_name == "known now"


def test_a_long_header_is_not_kept(decoded):
    desk = Desk(FakeLocal())
    longest = "x" * (LONGEST_HEADER - 11)
    for client_id in (longest, longest + "x"):
        for _ in range(3):
            assert desk.parse(a_frame(0, 1, client_id)).client_id == client_id

    assert len(decoded) == 2 + 3
