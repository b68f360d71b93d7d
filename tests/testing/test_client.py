"""RawClient against a scripted peer."""

import struct
from functools import partial

import pytest
import trio
import trio.testing

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.protocol.headers import decode_request_header, encode_response
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    MetadataRequest,
    MetadataResponse,
)
from trio_kafka_net.testing.client import ConnectionClosedError, RawClient


@pytest.fixture
def pair():
    ours, theirs = trio.testing.memory_stream_pair()
    return RawClient(ours, client_id="me", max_frame_bytes=1000), theirs


def framed(pieces):
    payload = b"".join(pieces)
    return struct.pack(">i", len(payload)) + payload


async def test_frames_are_sent_with_their_size(pair):
    client, server = pair

    await client.send_frame(b"abc")
    await client.send_frame([b"d", memoryview(b"ef"), bytearray()])

    assert await server.receive_some() == b"\0\0\0\3abc\0\0\0\3def"


async def test_frames_are_received_whole_however_they_arrive(pair):
    client, server = pair
    frames = [b"", b"a", b"bc" * 400]

    async def trickle():
        for byte in b"".join(framed([frame]) for frame in frames):
            await server.send_all(bytes([byte]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        assert [await client.receive_frame() for _ in frames] == frames


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\5abc"])
async def test_receive_says_how_much_had_come_when_the_server_hung_up(pair, sent):
    client, server = pair
    await server.send_all(sent)
    await server.aclose()

    with pytest.raises(ConnectionClosedError) as closed:
        await client.receive_frame()
    assert closed.value.received == len(sent)


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
async def test_receive_refuses_a_size_beyond_its_limit(pair, size):
    client, server = pair
    await server.send_all(struct.pack(">i", size))

    with pytest.raises(RemoteProtocolError, match=f"frame of {size} bytes"):
        await client.receive_frame()


async def test_receive_goes_on_after_a_cancellation(pair, autojump_clock):
    client, server = pair
    await server.send_all(b"\0\0\0\3a")
    with trio.move_on_after(1):
        await client.receive_frame()
    await server.send_all(b"bc")

    assert await client.receive_frame() == b"abc"


async def test_request_returns_the_response_of_its_class(pair):
    client, server = pair
    await server.send_all(framed(encode_response(MetadataResponse(cluster_id="c"), 12, 0)))

    response = await client.request(MetadataRequest(topics=None), 12)

    assert isinstance(response, MetadataResponse)
    assert response.cluster_id == "c"
    header, _ = decode_request_header((await server.receive_some())[4:])
    assert (header.api_version, header.correlation_id, header.client_id) == (12, 0, "me")


async def test_responses_come_in_the_order_of_pipelined_requests(pair):
    client, server = pair
    await client.send_request(ApiVersionsRequest(), 3)
    await client.send_request(MetadataRequest(), 1)
    await server.send_all(framed(encode_response(ApiVersionsResponse(), 3, 0)))
    await server.send_all(framed(encode_response(MetadataResponse(), 1, 1)))

    responses = [await client.receive_response() for _ in range(2)]

    assert [type(response) for response in responses] == [ApiVersionsResponse, MetadataResponse]


async def test_response_to_another_request_is_refused(pair):
    client, server = pair
    await server.send_all(framed(encode_response(MetadataResponse(), 1, 7)))

    with pytest.raises(RemoteProtocolError, match="response to request 7 in place of the one to 0"):
        await client.request(MetadataRequest(), 1)


async def test_request_refuses_to_overtake_a_pipelined_one(pair):
    client, _ = pair
    await client.send_request(MetadataRequest(), 1)

    with pytest.raises(LocalProtocolError, match="1 responses are still to come"):
        await client.request(MetadataRequest(), 1)


async def test_unanswered_request_is_not_waited_for(pair):
    client, _ = pair
    await client.send_request(MetadataRequest(), 1, answered=False)

    with pytest.raises(LocalProtocolError, match="no response is expected"):
        await client.receive_response()


async def test_connect_talks_to_a_listening_socket():
    async def echo(stream):
        async for chunk in stream:
            await stream.send_all(chunk)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with await RawClient.connect("127.0.0.1", port) as client:
            await client.send_frame(b"abc")
            assert await client.receive_frame() == b"abc"
        nursery.cancel_scope.cancel()
