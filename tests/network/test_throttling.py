"""Throttled connections, and answers that are none."""

from __future__ import annotations

import pytest
import trio.testing

from trio_kafka_net import ListenerConfig, Request, SocketServer
from trio_kafka_net.network.connection import MuteState
from trio_kafka_net.network.framing import BytesSend


class Throttled:
    """A server whose first answer, of either kind, begins a throttle."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.requests: list[Request] = []
        listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
        self.server = SocketServer([listener], handle=self.handle)

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if len(self.requests) == 1:
            request.start_throttling()
        if self.kind == "response":
            request.respond(BytesSend(request.payload))
        else:
            request.respond_nothing()


@pytest.mark.parametrize("kind", ["response", "nothing"])
async def test_throttling_keeps_the_connection_muted_beyond_the_answer(nursery, connect, kind):
    """SS-21, SS-23, G3: the answer goes out at once, the next request waits for the delay."""
    throttled = Throttled(kind)
    await nursery.start(throttled.server.run)
    client = await connect(throttled.server.bound_port())
    await client.send(b"1", b"2")
    await trio.testing.wait_all_tasks_blocked(0.005)
    (request,) = throttled.requests
    assert MuteState.MUTED_AND_THROTTLED is request.connection.mute_state
    if kind == "response":
        assert b"1" == await client.receive()
    request.end_throttling()
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert 2 == len(throttled.requests)
    await client.stream.aclose()
    await throttled.server.stop()


@pytest.mark.parametrize("kind", ["response", "nothing"])
async def test_a_delay_that_is_over_before_the_answer_changes_nothing(nursery, connect, kind):
    """SS-22, SS-24."""
    throttled = Throttled(kind)
    original = throttled.handle

    def end_at_once(request: Request) -> None:
        if not throttled.requests:
            request.start_throttling()
            request.end_throttling()
            throttled.requests.append(request)
        original(request)

    throttled.server.data_plane.handler_pool._handle = end_at_once
    await nursery.start(throttled.server.run)
    client = await connect(throttled.server.bound_port())
    await client.send(b"1", b"2")
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert 3 == len(throttled.requests)
    assert MuteState.NOT_MUTED is throttled.requests[0].connection.mute_state
    await client.stream.aclose()
    await throttled.server.stop()


async def test_no_op_lets_the_next_request_through(nursery, connect):
    """SS-13."""
    seen = []

    def handle(request: Request) -> None:
        seen.append(bytes(request.payload))
        request.respond_nothing()

    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=handle)
    await nursery.start(server.run)
    client = await connect(server.bound_port())
    await client.send(b"1", b"2", b"3")
    await client.stream.send_eof()
    assert b"" == await client.wait_closed()
    assert [b"1", b"2", b"3"] == seen
    await server.stop()
