"""Request and response headers, and whole requests and responses with them.

Every frame starts with a header, so these few bytes are parsed by hand rather than by the codec.

Request headers: key, version, correlation id; then (v1) the client id; then (v2, for flexible
versions) tagged fields. The client id keeps its two-byte length in v2, on purpose: a broker that
does not know the version of a request can still read it, and must, to answer ApiVersions (KIP-511).
ControlledShutdown version 0 alone has no client id.

Response headers: the correlation id; then (v1, for flexible versions) tagged fields. ApiVersions
responses always use v0: the client learns from them what the broker can do, so it must be able to
read them before that.

Source: Kafka ``RequestHeader.parse``, ``ApiKeys.requestHeaderVersion``,
``ApiKeys.responseHeaderVersion``; KIP-482, KIP-511.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeVar

import attrs

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.codec import decoder, encoder, require_version
from trio_kafka_net.protocol.message import Bytes, Message
from trio_kafka_net.protocol.messages.versions import API_VERSIONS
from trio_kafka_net.protocol.primitives import MalformedError, skip_tagged_fields

_FIXED: Final = struct.Struct(">hhi")
_FIXED_AND_LENGTH: Final = struct.Struct(">hhih")
_CORRELATION_ID: Final = struct.Struct(">i")
_CORRELATION_ID_AND_NO_TAGS: Final = struct.Struct(">ix")
_NEVER: Final = 32_768
"""Above every version, for APIs without a flexible one."""

_FLEXIBLE_SINCE: Final = {
    key: _NEVER if since is None else since for key, (_, _, since) in API_VERSIONS.items()
}
_FLEXIBLE_RESPONSE_HEADER_SINCE: Final = _FLEXIBLE_SINCE | {ApiKey.API_VERSIONS: _NEVER}

M = TypeVar("M", bound=Message)


@attrs.define
class RequestHeader:
    """What precedes the body of every request."""

    api_key: int
    """The API; not necessarily one that is known."""
    api_version: int
    """Version of the body; not necessarily one that is known."""
    correlation_id: int
    """Repeated in the response."""
    client_id: str | None = None
    """The name that the client goes by."""


def decode_request_header(buffer: Bytes) -> tuple[RequestHeader, int]:
    """Decode the header of a request.

    An unknown API or version is not an error here: the header is read up to the client id, which
    all versions share, so that the request can be answered or refused by name.

    Args:
        buffer: a whole frame, without its size.

    Returns:
        The header and the position of the body. For an unknown API it is where the body starts if
        that API is not flexible.

    Raises:
        RemoteProtocolError: too few bytes, or bytes that are no header.
    """
    view = memoryview(buffer)
    try:
        api_key, api_version, correlation_id, length = _FIXED_AND_LENGTH.unpack_from(view)
        position = 10 + length
        if length < 0 or (api_key == 7 and api_version == 0):
            return _decode_without_client_id(view)
        if position > len(view):
            raise MalformedError("client id runs past the end")
        client_id = view[10:position].tobytes().decode()
        if api_version >= _FLEXIBLE_SINCE.get(api_key, _NEVER):
            count = view[position]
            position += 1
            if count:
                position = skip_tagged_fields(view, position, count)
    except (MalformedError, IndexError, UnicodeDecodeError, struct.error):
        raise _explain(view) from None
    return RequestHeader(api_key, api_version, correlation_id, client_id), position


def _decode_without_client_id(view: memoryview) -> tuple[RequestHeader, int]:
    """Decode a header whose client id is null, or that has none by its version."""
    api_key, api_version, correlation_id = _FIXED.unpack_from(view)
    header = RequestHeader(api_key, api_version, correlation_id)
    if api_key == ApiKey.CONTROLLED_SHUTDOWN and api_version == 0:
        return header, 8
    if bytes(view[8:10]) != b"\xff\xff":
        raise MalformedError("negative length of the client id")
    if api_version >= _FLEXIBLE_SINCE.get(api_key, _NEVER):
        return header, skip_tagged_fields(view, 11, view[10])
    return header, 10


def _explain(view: memoryview) -> RemoteProtocolError:
    """Say as much about a bad request header as can be read of it."""
    if len(view) < _FIXED.size:
        return RemoteProtocolError(f"request header of {len(view)} bytes is too short")
    api_key, api_version, correlation_id = _FIXED.unpack_from(view)
    return RemoteProtocolError(
        f"bad client id or tagged fields in the header of request {correlation_id}"
        f" (api key {api_key}, version {api_version})"
    )


def encode_request(
    message: Message, version: int, correlation_id: int, client_id: str | None = None
) -> list[Any]:
    """Encode a request with its header, as a client sends it.

    Args:
        message: a request.
        version: its version.
        correlation_id: int32, comes back with the response.
        client_id: at most 32,767 bytes of UTF-8, or ``None``.

    Returns:
        Buffers to send one after the other; the frame's size is not among them.

    Raises:
        LocalProtocolError: not a request, a value that does not fit, or no such version.
    """
    if message.KIND != "request" or message.API_KEY is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a request")
    encode = encoder(type(message), version)
    name = b"" if client_id is None else client_id.encode()
    try:
        out = bytearray(_FIXED.pack(message.API_KEY, version, correlation_id))
        if message.API_KEY != ApiKey.CONTROLLED_SHUTDOWN or version > 0:
            out += struct.pack(">h", -1 if client_id is None else len(name))
            out += name
    except struct.error as error:
        raise LocalProtocolError(f"request header: {error}") from None
    if message.FLEXIBLE_SINCE is not None and version >= message.FLEXIBLE_SINCE:
        out.append(0)
    return encode(message, out)


def response_header(api_key: int, version: int, correlation_id: int) -> bytearray:
    """Return the header of a response, to be extended by the encoder of its body.

    Args:
        api_key: a known API.
        version: version of the request that is answered.
        correlation_id: that of the request.
    """
    if version >= _FLEXIBLE_RESPONSE_HEADER_SINCE[api_key]:
        return bytearray(_CORRELATION_ID_AND_NO_TAGS.pack(correlation_id))
    return bytearray(_CORRELATION_ID.pack(correlation_id))


def encode_response(message: Message, version: int, correlation_id: int) -> list[Any]:
    """Encode a response with its header.

    Args:
        message: a response.
        version: version of the request that it answers.
        correlation_id: that of the request.

    Returns:
        Buffers and regions to send one after the other; the frame's size is not among them.

    Raises:
        LocalProtocolError: not a response, a value that does not fit, or no such version.
    """
    if message.KIND != "response" or message.API_KEY is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a response")
    try:
        out = response_header(message.API_KEY, version, correlation_id)
    except struct.error as error:
        raise LocalProtocolError(f"response header: {error}") from None
    return encoder(type(message), version)(message, out)


def decode_response(cls: type[M], version: int, buffer: Bytes) -> tuple[int, M]:
    """Decode a response with its header, as a client does.

    Args:
        cls: class of the response.
        version: version of the request.
        buffer: a whole frame, without its size.

    Returns:
        Correlation id and response.

    Raises:
        RemoteProtocolError: bad bytes.
        LocalProtocolError: not the class of a response, or no such version.
    """
    require_version(cls, version)
    if cls.KIND != "response" or cls.API_KEY is None:
        raise LocalProtocolError(f"{cls.__name__} is not a response")
    view = memoryview(buffer)
    try:
        (correlation_id,) = _CORRELATION_ID.unpack_from(view)
        position = 4
        if version >= _FLEXIBLE_RESPONSE_HEADER_SINCE[cls.API_KEY]:
            position = skip_tagged_fields(view, position + 1, view[position])
    except (MalformedError, IndexError, struct.error):
        raise RemoteProtocolError(f"bad header of a {cls.__name__} (v{version})") from None
    return correlation_id, decoder(cls, version)(view, position)
