"""Whatever strangers send: their connection ends, with one line that says why, and nothing else."""

import logging
import socket
import struct

import pytest
import trio
import trio.testing

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    FetchRequest,
    FindCoordinatorRequest,
    MetadataRequest,
    ProduceRequest,
)
from trio_kafka_net.protocol.primitives import MAX_REQUEST_ELEMENTS, encode_uvarint

from .lab import a_batch, a_fetch, a_produce

PLANES = ["data", "control"]
OWN_CONNECTIONS = {"data": 0, "control": 1}
"""The controller of the broker has one to its control plane."""
LISTENERS = {"data": "PLAINTEXT", "control": "CONTROLLER"}


def framed(payload):
    return struct.pack(">i", len(payload)) + payload


def header(api_key, version, *, client_id=b"me", flexible=False):
    length = -1 if client_id is None else len(client_id)
    tags = b"\0" if flexible else b""
    return struct.pack(">hhih", api_key, version, 7, length) + (client_id or b"") + tags


def metadata(body, version=1):
    return header(3, version, flexible=version >= 9) + body


def with_header(message, version):
    return b"".join(bytes(piece) for piece in encode_request(message, version, 7, "me"))


# What is sent, and what the line must say. Anything that has a size in front is a whole frame.
BAD_BYTES = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "1195725856"),
    "TLS": (bytes.fromhex("16030102000100fc0303") + b"x" * 500, "369295618"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", "1397966893"),
    "zeros": (bytes(64), "request header of 0 bytes is too short"),
    "ones": (b"\xff" * 64, "-1"),
    "size -1": (struct.pack(">i", -1), "-1"),
    "smallest size": (struct.pack(">i", -(2**31)), str(-(2**31))),
    "size above the limit": (struct.pack(">i", 2**31 - 1), str(2**31 - 1)),
    "size 0": (framed(b""), "request header of 0 bytes is too short"),
    "7 bytes": (framed(bytes(7)), "request header of 7 bytes is too short"),
    "no client id": (framed(struct.pack(">hhi", 3, 1, 7)), "header of request 7"),
    "half a client id": (framed(header(3, 1)[:-1]), "header of request 7"),
    "client id of -2": (framed(struct.pack(">hhih", 3, 1, 7, -2)), "header of request 7"),
    "client id of no text": (framed(header(3, 1, client_id=b"\xff")), "header of request 7"),
    "no tagged fields": (framed(header(3, 9)), "header of request 7"),
    "tagged fields past the end": (framed(header(3, 9) + b"\x7f"), "header of request 7"),
    "API key -1": (framed(header(-1, 0)), "API key -1 is not served"),
    "API key 999": (framed(header(999, 0)), "API key 999 is not served"),
    "API of others": (framed(header(ApiKey.VOTE, 0, flexible=True)), "API key 52 is not served"),
    "version above": (framed(metadata(b"", 14)), "METADATA version 14 is outside 0..13"),
    "version below": (framed(metadata(b"", -1)), "METADATA version -1 is outside 0..13"),
    "no body": (framed(metadata(b"")), "MetadataRequest.topics (v1) at byte"),
    "half a body": (framed(metadata(struct.pack(">ih", 1, 5) + b"ab")), "topics.name (v1) at byte"),
    "endless array": (framed(metadata(struct.pack(">i", 2**31 - 1))), "more elements than"),
    "negative array": (framed(metadata(struct.pack(">i", -2))), "negative length"),
    "negative string": (framed(metadata(struct.pack(">ih", 1, -1))), "negative length"),
    "name of no text": (framed(metadata(struct.pack(">ihB", 1, 1, 255))), "utf-8"),
    "endless varint": (framed(metadata(b"\xff" * 9, 9)), "MetadataRequest.topics (v9) at byte"),
    "too many numbers": (
        framed(
            header(ApiKey.ELECT_LEADERS, 1)
            + struct.pack(">bihi", 0, 1, 0, MAX_REQUEST_ELEMENTS)
            + bytes(4 * MAX_REQUEST_ELEMENTS + 4)
        ),
        "more elements than",
    ),
    "too many elements": (
        framed(
            metadata(
                encode_uvarint(MAX_REQUEST_ELEMENTS + 2)
                + b"\x01\0" * (MAX_REQUEST_ELEMENTS + 1)
                + bytes(4),
                9,
            )
        ),
        "more elements than",
    ),
}


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


def is_idle(lab, plane):
    """Nothing is left of any request."""
    plane = lab.plane(plane)
    statistics = plane.handler_pool.statistics()
    channel = plane.request_channel.statistics()
    return (
        plane.memory_pool.used,
        statistics.running,
        statistics.parked,
        channel.queued + channel.waiting,
    ) == (0, 0, {}, 0)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", BAD_BYTES)
async def test_bad_bytes_close_their_connection_and_no_other(lab, caplog, plane, name):
    """SS-10, ER-02, ER-03, ER-04, ER-05."""
    sent, reason = BAD_BYTES[name]
    bystander = await lab.connect(plane)
    await bystander.request(ApiVersionsRequest(), 0)
    offender = await lab.connect(plane)
    await offender.stream.send_all(sent)

    assert await received(offender) == b""

    (line,) = warnings(caplog)
    assert "closing: " in line
    assert reason in line
    assert (await bystander.request(ApiVersionsRequest(), 0)).error_code == 0
    assert lab.plane(plane).connection_count == 1 + OWN_CONNECTIONS[plane]
    assert is_idle(lab, plane)


async def test_bytes_behind_a_request_are_ignored(lab, caplog):
    """librdkafka sends three of them when it asks for all topics."""
    client = await lab.connect()
    await client.stream.send_all(framed(metadata(struct.pack(">i", -1) + b"\1\0\0")))

    assert await client.receive_frame()
    assert warnings(caplog) == []


async def received(client):
    """Whatever comes until the server closes; a reset is an end like any other."""
    whole = bytearray()
    try:
        async for chunk in client.stream:
            whole += chunk
    except trio.BrokenResourceError:
        pass
    return bytes(whole)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\0", b"\0\0\0\x09abc"])
async def test_torn_frame_ends_without_a_line(lab, caplog, plane, sent):
    """A client that goes away in the middle is nobody's fault."""
    client = await lab.connect(plane)
    await client.stream.send_all(sent)
    await client.stream.send_eof()

    assert await received(client) == b""
    assert warnings(caplog) == []
    assert lab.plane(plane).connection_count == OWN_CONNECTIONS[plane]
    assert is_idle(lab, plane)


async def test_largest_frame_is_read_and_a_larger_one_is_not(open_lab, caplog):
    lab = await open_lab(socket_request_max_bytes=1000)
    await lab.make_topic()
    padding = 1000 - len(with_header(a_produce("t", b""), 9))
    fits, too_large = (
        framed(with_header(a_produce("t", bytes(size)), 9)) for size in (padding - 1, padding)
    )
    assert [struct.unpack_from(">i", each)[0] for each in (fits, too_large)] == [1000, 1001]

    client = await lab.connect()
    await client.stream.send_all(fits)
    assert await client.receive_frame()
    await client.stream.send_all(too_large)

    assert await received(client) == b""
    (line,) = warnings(caplog)
    assert "1001" in line


@pytest.mark.parametrize(
    "key", [ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS, ApiKey.FIND_COORDINATOR]
)
async def test_control_plane_carries_no_data(lab, caplog, key):
    message, version = {
        ApiKey.PRODUCE: (ProduceRequest(), 9),
        ApiKey.FETCH: (FetchRequest(), 12),
        ApiKey.FIND_COORDINATOR: (FindCoordinatorRequest(), 3),
    }.get(key, (None, 1))
    sent = header(key, version) if message is None else with_header(message, version)
    client = await lab.connect("control")
    await client.send_frame(sent)

    assert await received(client) == b""
    (line,) = warnings(caplog)
    assert f"API key {int(key)} is not served on the control plane" in line


@pytest.mark.parametrize(
    "key",
    [
        ApiKey.LEADER_AND_ISR,
        ApiKey.STOP_REPLICA,
        ApiKey.UPDATE_METADATA,
        ApiKey.CONTROLLED_SHUTDOWN,
    ],
)
async def test_data_plane_takes_no_orders_of_controllers(lab, caplog, key):
    client = await lab.connect()
    await client.send_frame(header(key, 4, flexible=True))

    assert await received(client) == b""
    (line,) = warnings(caplog)
    assert f"API key {int(key)} is not served on the data plane" in line


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("client_id", [None, "", "ü" * 16_383])
async def test_any_client_id_will_do(lab, plane, client_id):
    """ER-01."""
    client = await lab.connect(plane, client_id=client_id)

    for version in (0, 12):
        assert (await client.request(MetadataRequest(), version)).brokers


async def test_requests_before_the_bad_one_are_answered(lab, caplog):
    client = await lab.connect()
    good = with_header(MetadataRequest(topics=[]), 1)
    await client.stream.send_all(framed(good) * 3 + framed(header(999, 0)))

    for _ in range(3):
        assert (await client.receive_frame())[:4] == struct.pack(">i", 7)
    assert await received(client) == b""
    assert len(warnings(caplog)) == 1


async def test_clients_that_vanish_at_any_time_leave_nothing_behind(lab, caplog):
    """Reset at once, in the middle of a frame, while parked, with an answer on its way."""
    await lab.make_topic("t", configs={"max.message.bytes": "5000000"})
    await lab.produce("t", a_batch(b"x" * 4_000_000))
    caplog.clear()
    frames = [
        b"",
        b"\0\0\0\x09ab",
        framed(with_header(a_fetch(("t", {"fetch_offset": 1}), max_wait_ms=60_000), 12)),
        framed(with_header(a_fetch(("t", {"partition_max_bytes": 9_000_000})), 12)),
    ]
    for sent in frames * 3:
        client = await lab.connect()
        await client.stream.send_all(sent)
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.stream.socket.close()
    while lab.plane().connection_count or not is_idle(lab, "data"):
        await trio.testing.wait_all_tasks_blocked()

    assert warnings(caplog) == []
    assert lab.local.replicas.purgatory.statistics().watches == 0
    assert len(await lab.fetch("t")) == 1
