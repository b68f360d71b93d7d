"""Request and response headers: golden bytes, exceptions to the rules, and kio as oracle."""

from __future__ import annotations

import io

import kio.schema.request_header.v1.header as kio_v1
import kio.schema.request_header.v2.header as kio_v2
import pytest
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_writer

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.protocol.api_keys import ApiKey, request_class, response_class, valid_versions
from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.headers import (
    RequestHeader,
    decode_request_header,
    decode_response,
    encode_request,
    encode_response,
)
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    ControlledShutdownRequest,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
)

RETIRED = {4, 5, 6, 7}


def joined(buffers):
    return b"".join(buffers)


def test_request_header_v1_has_the_documented_bytes():
    frame = joined(encode_request(MetadataRequest(), 8, 7, "me"))

    assert frame.startswith(b"\x00\x03\x00\x08\x00\x00\x00\x07\x00\x02me")
    assert (RequestHeader(3, 8, 7, "me"), 12) == decode_request_header(frame)


def test_request_header_v2_keeps_the_two_byte_length_of_the_client_id():
    frame = joined(encode_request(MetadataRequest(), 9, 7, "me"))

    assert frame.startswith(b"\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me\x00")
    assert (RequestHeader(3, 9, 7, "me"), 13) == decode_request_header(frame)


@pytest.mark.parametrize(("version", "length"), [(8, 10), (9, 11)])
def test_request_header_when_client_id_is_null_gives_none(version, length):
    frame = joined(encode_request(MetadataRequest(), version, 7))

    assert (RequestHeader(3, version, 7, None), length) == decode_request_header(frame)


def test_request_header_of_controlled_shutdown_0_has_no_client_id():
    request = ControlledShutdownRequest(broker_id=5)
    frame = joined(encode_request(request, 0, 7, "ignored"))

    assert frame == b"\x00\x07\x00\x00\x00\x00\x00\x07\x00\x00\x00\x05"
    assert (RequestHeader(7, 0, 7, None), 8) == decode_request_header(frame)
    assert request == decode(ControlledShutdownRequest, 0, frame[8:])


@pytest.mark.parametrize("broker_id", [0, 2**31 - 1, -1])
def test_request_header_of_controlled_shutdown_0_takes_no_body_for_a_client_id(broker_id):
    frame = joined(encode_request(ControlledShutdownRequest(broker_id=broker_id), 0, 7))

    assert decode_request_header(frame)[1] == 8


def test_request_header_when_tagged_fields_follow_steps_over_them():
    frame = b"\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me\x01\x00\x03abcbody"

    assert (RequestHeader(3, 9, 7, "me"), 18) == decode_request_header(frame)


def test_request_header_of_a_future_api_versions_request_is_read_whole():
    frame = b"\x00\x12\x7f\xff\x00\x00\x00\x07\x00\x02me\x00whatever comes"

    assert (RequestHeader(18, 32_767, 7, "me"), 13) == decode_request_header(frame)


@pytest.mark.parametrize("key", [-1, 93, 32_767])
def test_request_header_of_an_unknown_api_is_read_up_to_the_client_id(key):
    frame = key.to_bytes(2, "big", signed=True) + b"\x00\x05\x00\x00\x00\x07\x00\x02me\x00"

    assert (RequestHeader(key, 5, 7, "me"), 12) == decode_request_header(frame)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "0 bytes is too short"),
        (b"\x00\x03\x00\x09\x00\x00\x00", "7 bytes is too short"),
        (b"\x00\x03\x00\x09\x00\x00\x00\x07\x00", r"request 7 \(api key 3, version 9\)"),
        (b"\x00\x03\x00\x09\x00\x00\x00\x07\x00\x03me", r"request 7 \(api key 3, version 9\)"),
        (b"\x00\x03\x00\x08\x00\x00\x00\x07\x00\x03me", r"request 7 \(api key 3, version 8\)"),
        (b"\x00\x03\x00\x08\x00\x00\x00\x07\xff\xfeme", r"request 7 \(api key 3, version 8\)"),
        (b"\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02\xff\xff\x00", "request 7"),
        (b"\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me", "request 7"),
        (b"\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me\x01\x00\x05abc", "request 7"),
    ],
)
def test_request_header_when_bad_raises_remote_protocol_error(frame, reason):
    with pytest.raises(RemoteProtocolError, match=reason):
        decode_request_header(frame)


def test_response_header_is_flexible_with_the_response():
    response = MetadataResponse(cluster_id="c")

    old, new = joined(encode_response(response, 8, 7)), joined(encode_response(response, 9, 7))

    assert b"\x00\x00\x00\x07" + joined(encode(response, 8)) == old
    assert b"\x00\x00\x00\x07\x00" + joined(encode(response, 9)) == new
    assert (7, response) == decode_response(MetadataResponse, 8, old)
    assert (7, response) == decode_response(MetadataResponse, 9, new)


def test_response_header_of_api_versions_is_never_flexible():
    frame = joined(encode_response(ApiVersionsResponse(), 4, 7))

    assert b"\x00\x00\x00\x07" + joined(encode(ApiVersionsResponse(), 4)) == frame
    assert (7, ApiVersionsResponse()) == decode_response(ApiVersionsResponse, 4, frame)


@pytest.mark.parametrize(
    "frame", [b"", b"\x00\x00\x00", b"\x00\x00\x00\x07", b"\x00" * 4 + b"\x01"]
)
def test_decode_response_when_header_is_bad_raises_remote_protocol_error(frame):
    with pytest.raises(RemoteProtocolError, match="MetadataResponse"):
        decode_response(MetadataResponse, 9, frame)


def test_halves_when_mixed_up_blame_the_caller():
    with pytest.raises(LocalProtocolError, match="not a request"):
        encode_request(MetadataResponse(), 9, 7)
    with pytest.raises(LocalProtocolError, match="not a response"):
        encode_response(MetadataRequest(), 9, 7)
    with pytest.raises(LocalProtocolError, match="not a response"):
        decode_response(MetadataRequest, 9, b"")


def test_headers_when_numbers_do_not_fit_blame_the_caller():
    with pytest.raises(LocalProtocolError, match="request header"):
        encode_request(ProduceRequest(), 9, 2**31)
    with pytest.raises(LocalProtocolError, match="request header"):
        encode_request(ProduceRequest(), 9, 7, "x" * 40_000)
    with pytest.raises(LocalProtocolError, match="response header"):
        encode_response(MetadataResponse(), 9, 2**31)


@pytest.mark.parametrize("key", sorted(set(ApiKey) - RETIRED))
def test_header_versions_of_every_api_and_version_equal_kio(key):
    for version in range(valid_versions(key)[0], valid_versions(key)[1] + 1):
        request, response = request_class(key)(), response_class(key)()
        kio_header = load_request_schema(int(key), version).__header_schema__
        kio_response_header = load_response_schema(int(key), version).__header_schema__
        expected = kio_request_header(kio_header, int(key), version)

        assert expected + joined(encode(request, version)) == joined(
            encode_request(request, version, 7, "me")
        )
        assert 4 + kio_response_header.__flexible__ == len(
            joined(encode_response(response, version, 7))
        ) - len(joined(encode(response, version)))


def kio_request_header(schema, key, version):
    assert schema in {kio_v1.RequestHeader, kio_v2.RequestHeader}
    header = schema(
        request_api_key=key, request_api_version=version, correlation_id=7, client_id="me"
    )
    with io.BytesIO() as buffer:
        entity_writer(schema)(buffer, header)
        return buffer.getvalue()


def test_api_versions_request_of_a_real_client_is_understood():
    """What librdkafka sends first: ApiVersions v3 with its name and version (KIP-511)."""
    frame = b"\x00\x12\x00\x03\x00\x00\x00\x01\x00\x07rdkafka\x00\x0blibrdkafka\x062.5.0\x00"

    header, position = decode_request_header(frame)
    request = decode(ApiVersionsRequest, header.api_version, frame[position:])

    assert (
        request.client_software_name,
        request.client_software_version,
    ) == ("librdkafka", "2.5.0")
