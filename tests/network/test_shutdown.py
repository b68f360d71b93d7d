"""A stop drains within its deadline, never hangs, and can be cut short."""

from __future__ import annotations

import contextlib
import struct

import pytest
import trio
import trio.testing

from trio_kafka_net import ListenerConfig, Request, SocketServer, SocketServerConfig
from trio_kafka_net.network.socket_server import answering

from .client import FrameClient
from .test_socket_server import nothing_is_left

LISTENER = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)


class Load:
    """Work of every kind at once: running, parked, queued, waiting, half written, unread."""

    def __init__(self, **settings) -> None:
        defaults = {
            "num_network_threads": 1,
            "num_io_threads": 2,
            "queued_max_requests": 2,
            "trio_graceful_timeout_ms": 10_000,
        }
        self.gate = trio.Event()
        self.finished: list[bytes] = []
        self.cut: list[bytes] = []
        self.server = SocketServer(
            [LISTENER],
            handle=answering(self.handle),
            config=SocketServerConfig(**{**defaults, **settings}),
        )

    async def handle(self, request: Request) -> bytes:
        payload = bytes(request.payload)
        try:
            if payload == b"park":
                async with self.server.data_plane.handler_pool.parked(request, "test"):
                    await self.gate.wait()
            elif payload != b"big":
                await self.gate.wait()
        except trio.Cancelled:
            self.cut.append(payload)
            raise
        self.finished.append(payload)
        return b"z" * 20_000_000 if payload == b"big" else payload

    async def start(self, nursery: trio.Nursery, connect) -> list:
        await nursery.start(self.server.run)
        port = self.server.bound_port()
        clients = [await connect(port) for _ in range(9)]
        payloads = [b"big", b"park", b"run-1", b"run-2", b"q-1", b"q-2", b"w-1", b"w-2"]
        for client, payload in zip(clients, payloads, strict=False):
            await client.send(payload, b"never read")
            await trio.testing.wait_all_tasks_blocked(0.005)
        await clients[-1].stream.send_all(b"\0\0\0\x09half a fr"[:-1])
        await trio.testing.wait_all_tasks_blocked(0.005)
        statistics = self.server.data_plane.request_channel.statistics()
        assert (2, 2) == (statistics.queued, statistics.waiting)
        return clients


async def test_a_stop_under_load_finishes_everything_in_hand(nursery, connect, autojump_clock):
    """GX-11, RH-09: full queue, requests waiting for room, running, parked, half written."""
    load = Load()
    clients = await load.start(nursery, connect)
    stopped = trio.Event()

    async def stop() -> None:
        await load.server.stop()
        stopped.set()

    nursery.start_soon(stop)
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert not stopped.is_set()
    load.gate.set()
    assert 20_000_000 == len(await clients[0].receive())
    for client, expected in zip(
        clients[1:-1], [b"park", b"run-1", b"run-2", b"q-1", b"q-2", b"w-1", b"w-2"], strict=True
    ):
        assert expected == await client.receive()
    await stopped.wait()
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert [] == load.cut
    assert b"never read" not in load.finished
    assert nothing_is_left(load.server)


async def test_a_stop_that_nobody_helps_ends_at_its_deadline(nursery, connect, autojump_clock):
    """GX-11: handlers that never return and a reader that never reads do not keep it."""
    load = Load()
    clients = await load.start(nursery, connect)
    started = trio.current_time()
    await load.server.stop()
    assert 10 == pytest.approx(trio.current_time() - started, abs=0.5)
    for client in clients[1:]:
        assert b"" == await client.wait_closed()
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert {b"park", b"run-1", b"run-2"} == set(load.cut)
    assert nothing_is_left(load.server)


async def test_cancelling_cuts_a_stop_short(nursery, connect, mock_clock):
    """The second signal: at once, although nothing is finished and no time passes."""
    load = Load()
    clients = await load.start(nursery, connect)
    with trio.CancelScope() as impatience:
        async with trio.open_nursery() as stopping:
            stopping.start_soon(load.server.stop)
            await trio.testing.wait_all_tasks_blocked(0.005)
            impatience.cancel()
    for client in clients[1:]:
        assert b"" == await client.wait_closed()
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert nothing_is_left(load.server)


async def test_a_stop_while_the_acceptor_waits_for_a_processor(nursery, connect, monkeypatch):
    """SS-09: the new-connection queue is full and nobody takes from it."""
    monkeypatch.setattr("trio_kafka_net.network.processor.NEW_CONNECTIONS", 1)

    async def take_nothing(self) -> None:
        await trio.sleep_forever()

    processor = "trio_kafka_net.network.processor.Processor"
    monkeypatch.setattr(f"{processor}._take_new_connections", take_nothing)
    server = SocketServer(
        [LISTENER],
        handle=answering(lambda request: b""),
        config=SocketServerConfig(num_network_threads=1),
    )
    await nursery.start(server.run)
    clients = [await connect(server.bound_port()) for _ in range(4)]
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert server.data_plane.connection_quotas.total >= 2
    with trio.fail_after(5):
        await server.stop()
        for client in clients:
            assert b"" == await client.wait_closed()
    assert nothing_is_left(server)


async def test_a_server_that_never_ran_gives_its_port_back():
    """SS-38."""
    server = SocketServer([LISTENER], handle=answering(lambda request: b""))
    port = server.bound_port()
    server.close()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_connections_in_the_backlog_are_served_once_the_server_runs(nursery, connect):
    """SS-68, SS-72: the port is bound by the constructor, served by run."""
    server = SocketServer(
        [LISTENER],
        handle=answering(lambda request: request.payload),
        config=SocketServerConfig(socket_listen_backlog_size=128),
    )
    clients = [await connect(server.bound_port()) for _ in range(128)]
    for client in clients:
        await client.send(b"early")
    await nursery.start(server.run)
    for client in clients:
        assert b"early" == await client.receive()
    await server.stop()


@pytest.mark.parametrize("step", range(1, 12))
async def test_a_server_cancelled_at_any_moment_leaves_nothing(connect, step):
    """Cancellation sweep: after every number of turns of the loop, counts are zero."""
    server = SocketServer([LISTENER], handle=answering(lambda request: request.payload))
    client = await connect(server.bound_port())
    await client.send(*[b"x"] * 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        for _ in range(step):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert nothing_is_left(server)
    assert server.listeners[0].socket.fileno() == -1


async def test_a_stop_does_not_destroy_a_response_that_the_peer_has_not_read(nursery, connect):
    """Closing with unread bytes would reset the connection, and the response with it."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        await gate.wait()
        return b"z" * 100_000

    server = SocketServer(
        [LISTENER],
        handle=answering(handler),
        config=SocketServerConfig(socket_send_buffer_bytes=400_000),
    )
    await nursery.start(server.run)
    # A small window: most of the response is still with the server when the stop begins.
    narrow = trio.socket.socket()
    narrow.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await narrow.connect(("127.0.0.1", server.bound_port()))
    async with trio.SocketStream(narrow) as stream:
        client = FrameClient(stream)

        async def send() -> None:
            # What the server never reads may break once the response is there.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await client.send(b"first", b"y" * 900_000, b"y" * 900_000)

        # Blocks when the buffers are full: the server reads nothing beyond the first request.
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked(0.005)
        nursery.start_soon(server.stop)
        gate.set()
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert 100_000 == len(await client.receive())


async def test_a_stop_in_the_middle_of_the_next_frame_does_not_destroy_a_response(nursery):
    """There is nothing unread at that moment, but what comes next would reset the connection."""
    server = SocketServer(
        [LISTENER],
        handle=answering(lambda request: b"z" * 100_000),
        config=SocketServerConfig(socket_send_buffer_bytes=400_000),
    )
    await nursery.start(server.run)
    narrow = trio.socket.socket()
    narrow.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await narrow.connect(("127.0.0.1", server.bound_port()))
    async with trio.SocketStream(narrow) as stream:
        client = FrameClient(stream)
        await client.send(b"first")
        await stream.send_all(struct.pack(">i", 1000) + b"y" * 10)
        await trio.testing.wait_all_tasks_blocked(0.005)
        nursery.start_soon(server.stop)
        await trio.testing.wait_all_tasks_blocked(0.005)
        await stream.send_all(b"y" * 990)
        assert 100_000 == len(await client.receive())


async def test_a_throttled_connection_does_not_keep_a_stop_waiting(nursery, connect, mock_clock):
    """SS-31 for requests: the delay is of no interest any more."""

    def handler(request: Request) -> bytes:
        request.start_throttling()
        return b"answer"

    server = SocketServer([LISTENER], handle=answering(handler))
    await nursery.start(server.run)
    clients = [await connect(server.bound_port()) for _ in range(2)]
    await clients[0].ask(b"x")
    await trio.testing.wait_all_tasks_blocked(0.005)
    await server.stop()
    for client in clients:
        assert b"" == await client.wait_closed()


async def test_what_waits_for_memory_is_not_read_after_the_stop(nursery, serve, dial):
    """What is read and forgotten is the front of a frame; its rest must not pass for a request."""
    handled: list[Request] = []

    async def handle(request: Request) -> bytes:
        handled.append(request)
        await trio.sleep_forever()
        raise AssertionError

    server = await serve(handle, queued_max_request_bytes=100)
    first, second = dial(server.bound_port()), dial(server.bound_port())
    first.ask(b"x" * 100)
    await trio.testing.wait_all_tasks_blocked()
    second.socket.send(struct.pack(">i", 10) + b"y" * 5)
    await trio.testing.wait_all_tasks_blocked()
    assert server.data_plane.memory_pool.waiting == 1
    nursery.start_soon(server.stop)
    await trio.testing.wait_all_tasks_blocked()

    second.socket.send(b"a request.")
    handled[0].release_memory()
    await trio.testing.wait_all_tasks_blocked()

    assert len(handled) == 1
    assert server.data_plane.memory_pool.used == 0
    nursery.cancel_scope.cancel()
