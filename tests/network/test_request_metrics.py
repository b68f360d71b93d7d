"""Every request is reported once, however it ends (GX-10), over real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs
import pytest
import trio
import trio.testing

from trio_kafka_net import CloseConnection, DisconnectCause, ListenerConfig, Request, SocketServer
from trio_kafka_net.config import SocketServerConfig
from trio_kafka_net.errors import FatalExitError
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.request_channel import CloseConnectionResponse
from trio_kafka_net.network.socket_server import answering

from .client import FrameClient

MORE_THAN_BUFFERS_TAKE = 30_000_000


@attrs.define
class Scene:
    """A server whose requests are counted, and a way to hold them where a test wants them."""

    server: SocketServer
    received: list[Request] = attrs.field(factory=list)
    finished: list[Request] = attrs.field(factory=list)
    gate: trio.Event = attrs.field(factory=trio.Event)

    async def handle(self, request: Request) -> None:
        await getattr(self, f"_{bytes(request.payload).decode()}")(request)

    async def _send(self, request: Request) -> None:
        request.respond(BytesSend(b"ok"))

    async def _hold(self, request: Request) -> None:
        await self.gate.wait()
        request.respond(BytesSend(b"late"))

    async def _park(self, request: Request) -> None:
        async with self.server.data_plane.handler_pool.parked(request, "test"):
            await self.gate.wait()
        request.respond(BytesSend(b"late"))

    async def _large(self, request: Request) -> None:
        request.respond(BytesSend(bytes(MORE_THAN_BUFFERS_TAKE)))

    async def _noop(self, request: Request) -> None:
        request.respond_nothing()

    async def _close(self, request: Request) -> None:
        request.close_connection()

    async def _quit(self, request: Request) -> None:
        raise CloseConnection("enough")

    async def _fail(self, request: Request) -> None:
        raise ValueError("a bug")

    async def _forget(self, request: Request) -> None:
        pass

    async def _linger(self, request: Request) -> None:
        request.respond(BytesSend(b"ok"))
        await self.gate.wait()

    async def _insist(self, request: Request) -> None:
        try:
            await trio.sleep_forever()
        finally:
            request.respond(BytesSend(b"cancelled"))

    async def _throttle(self, request: Request) -> None:
        request.start_throttling()
        request.respond(BytesSend(b"ok"))

    async def at_rest(self) -> None:
        with trio.fail_after(5):
            await trio.testing.wait_all_tasks_blocked(0.003)

    def check(self, count: int) -> None:
        """Exactly ``count`` requests came, and each was reported once, with its times in order."""
        assert count == len(self.received)
        assert sorted(map(id, self.received)) == sorted(map(id, self.finished))
        for request in self.finished:
            assert 0 < request.start_time_ns <= request.end_time_ns
            assert request.pool is None
            for moment in (request.dequeue_time_ns, request.response_complete_time_ns):
                assert moment == 0 or request.start_time_ns <= moment <= request.end_time_ns


@pytest.fixture
async def scene(nursery) -> Callable[..., Awaitable[Scene]]:
    """Start a server: ``await scene(key=value, ...)``."""

    async def start(**settings) -> Scene:
        def parse(connection, payload) -> Request:
            made.received.append(Request(connection, payload))
            return made.received[-1]

        made = Scene(None)  # type: ignore[arg-type]  # it and its server need each other
        made.server = SocketServer(
            [ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)],
            handle=made.handle,
            parse=parse,
            on_finished=made.finished.append,
            config=SocketServerConfig(**{"num_network_threads": 1, **settings}),
        )
        await nursery.start(made.server.run)
        return made

    return start


async def ask(client: FrameClient, request: str) -> None:
    """Send a request and wait until it is dealt with or the connection is closed."""
    await client.send(request.encode())
    with suppress(EOFError, trio.BrokenResourceError):
        await client.receive()


@pytest.mark.parametrize("kind", ["send", "large", "close", "quit", "fail", "forget"])
async def test_a_request_that_ends_by_its_handler_is_reported_once(scene, connect, kind):
    """GX-10: response sent, closed by handler, handler failed."""
    stage = await scene()
    await ask(await connect(stage.server.bound_port()), kind)
    await stage.at_rest()
    stage.check(1)


async def test_requests_without_a_response_are_reported_once(scene, connect):
    """GX-10: NoOp; the next request follows it."""
    stage = await scene()
    client = await connect(stage.server.bound_port())
    await client.send(b"noop", b"noop", b"send")
    assert b"ok" == await client.receive()
    await stage.at_rest()
    stage.check(3)


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("where", ["queued", "hold", "park", "large", "linger", "throttle"])
async def test_a_request_whose_client_vanishes_is_reported_once(scene, connect, where, end):
    """GX-10, SS-36, SS-37, SS-39: queued, in its handler, parked, half written, or answered."""
    stage = await scene(num_io_threads=1)
    port = stage.server.bound_port()
    count = 1
    if where == "queued":
        await (await connect(port)).send(b"hold")
        await stage.at_rest()
        count += 1
    client = await connect(port)
    await client.send(b"hold" if where == "queued" else where.encode())
    await stage.at_rest()
    if end == "close":
        await client.stream.aclose()
    else:
        client.reset()
    await stage.at_rest()
    stage.gate.set()
    await stage.at_rest()
    if where == "throttle":
        stage.received[0].end_throttling()
        await stage.at_rest()
    stage.check(count)


@pytest.mark.parametrize("graceful", [True, False])
@pytest.mark.parametrize("where", ["queued", "hold", "park", "large", "insist"])
async def test_a_request_that_a_shutdown_meets_is_reported_once(
    scene, connect, autojump_clock, where, graceful
):
    """GX-10: unlike in Kafka also one that nobody answers any more (difference 15)."""
    stage = await scene(num_io_threads=1)
    port = stage.server.bound_port()
    count = 1
    if where == "queued":
        await (await connect(port)).send(b"hold")
        await stage.at_rest()
        count += 1
    await (await connect(port)).send(b"hold" if where == "queued" else where.encode())
    await stage.at_rest()
    await stage.server.stop(1 if graceful else 0)
    await stage.at_rest()
    stage.check(count)


async def test_a_request_beside_a_full_queue_is_reported_once_when_the_server_stops(
    scene, connect, autojump_clock
):
    stage = await scene(num_io_threads=1, queued_max_requests=1)
    for _ in range(5):
        await (await connect(stage.server.bound_port())).send(b"hold")
    await stage.at_rest()
    await stage.server.stop(0)
    await stage.at_rest()
    stage.check(5)


async def test_a_response_that_nobody_reads_is_reported_once_when_its_time_is_over(
    scene, connect, mock_clock
):
    """GX-10, SS-16: the connection is closed with its response half written."""
    stage = await scene(connections_max_idle_ms=60_000)
    await (await connect(stage.server.bound_port())).send(b"large")
    await stage.at_rest()
    assert [] == stage.finished
    mock_clock.jump(3_600)
    await stage.at_rest()
    stage.check(1)


async def test_a_response_for_a_connection_that_is_gone_is_reported_once(scene, connect):
    """SS-40: the handler answers a connection that was closed meanwhile."""
    stage = await scene()
    await (await connect(stage.server.bound_port())).send(b"hold")
    await stage.at_rest()
    connection = stage.received[0].connection
    connection.processor.enqueue_response(
        CloseConnectionResponse(stage.received[0], DisconnectCause.UNEXPECTED)
    )
    await stage.at_rest()
    assert not connection.is_open
    assert [] == stage.finished
    stage.gate.set()
    await stage.at_rest()
    stage.check(1)


async def test_a_step_that_fails_is_reported_once(scene, connect, caplog, monkeypatch):
    """GX-10, SS-45: writing the response raises what nobody foresaw."""

    def write_to(self, transport) -> bool:
        raise RuntimeError("a bug")

    stage = await scene()
    client = await connect(stage.server.bound_port())
    monkeypatch.setattr(BytesSend, "write_to", write_to)
    await client.send(b"send")
    assert b"" == await client.wait_closed()
    await stage.at_rest()
    stage.check(1)


async def test_requests_are_reported_once_when_a_handler_stops_the_server(connect):
    """GX-10: FatalExitError ends handlers and connections in whatever order."""
    finished: list[Request] = []

    def handle(request: Request):
        if request.payload == b"fatal":
            raise FatalExitError("broken")
        return trio.sleep_forever()

    server = SocketServer(
        [ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)],
        handle=handle,
        on_finished=finished.append,
    )

    async def run(task_status) -> None:
        with pytest.RaisesGroup(FatalExitError, flatten_subgroups=True):
            await server.run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        for payload in (b"wait", b"fatal"):
            await (await connect(server.bound_port())).send(payload)
    assert {b"wait", b"fatal"} == {bytes(request.payload) for request in finished}
    assert 2 == len(finished)


async def test_a_request_is_reported_before_the_next_one_is_read(serve, connect):
    """G4: report before unmute."""
    reported = []

    def observe(request: Request) -> None:
        reported.append((request.connection.is_muted, request.connection.request))

    server = await serve(lambda request: request.payload, on_finished=observe)
    client = await connect(server.bound_port())
    await client.ask(b"x")
    await client.ask(b"y")
    assert (True, None) == reported[0]


async def test_an_observer_that_raises_does_not_harm_the_connection(serve, connect, caplog):
    def observe(request: Request) -> None:
        raise ValueError("a bug")

    server = await serve(lambda request: request.payload, on_finished=observe)
    client = await connect(server.bound_port())
    for _ in range(3):
        assert b"x" == await client.ask(b"x")
    assert 3 == caplog.text.count("reporting its end failed")


async def test_each_plane_reports_to_its_own_observer(nursery, connect):
    """Difference 25."""
    data: list[Request] = []
    control: list[Request] = []
    server = SocketServer(
        [
            ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0),
            ListenerConfig(name="CONTROLLER", host="127.0.0.1", port=0, is_control_plane=True),
        ],
        handle=answering(lambda request: request.payload),
        on_finished=data.append,
        control_on_finished=control.append,
    )
    await nursery.start(server.run)
    for name, count in (("PLAINTEXT", 2), ("CONTROLLER", 1)):
        client = await connect(server.bound_port(name))
        for _ in range(count):
            await client.ask(b"x")
    await trio.testing.wait_all_tasks_blocked(0.003)
    assert (2, 1) == (len(data), len(control))
