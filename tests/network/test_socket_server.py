from __future__ import annotations

import errno
import logging
import struct
from functools import partial

import pytest
import trio
import trio.testing

from trio_kafka_net import (
    CloseConnection,
    DisconnectCause,
    ListenerConfig,
    RemoteProtocolError,
    Request,
    SocketServer,
    SocketServerConfig,
    serve_frames,
)
from trio_kafka_net.network.framing import FileRegion, Send
from trio_kafka_net.network.socket_server import answering

from .client import FrameClient


def echo(request: Request) -> memoryview:
    return request.payload


def nothing_is_left(server: SocketServer) -> bool:
    """Every count is back where it was."""
    return all(
        plane.connection_count == 0
        and plane.connection_quotas.total == 0
        and plane.memory_pool.used == 0
        and plane.memory_pool.waiting == 0
        for plane in server.planes
    )


async def settle(server: SocketServer) -> None:
    """Wait until the server has noticed what happened to its sockets."""
    with trio.fail_after(5):
        while not nothing_is_left(server):
            await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.parametrize("size", [0, 1, 100, 65_536, 900_000])
async def test_echo(serve, size, connect):
    """SS-01, SEL-06, SEL-08."""
    server = await serve(echo)
    client = await connect(server.bound_port())
    payload = bytes(range(256)) * (size // 256 + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, payload[:size])
        assert payload[:size] == await client.receive()


async def test_serve_frames_is_an_echo_server_in_one_call(nursery, connect):
    server = await nursery.start(serve_frames, echo, 0)
    client = await connect(server.bound_port())
    assert b"hello" == await client.ask(b"hello")


async def test_many_connections_keep_their_own_order(serve, connect):
    """SEL-05, G1."""
    server = await serve(echo, num_network_threads=3)

    async def talk(name: int) -> None:
        client = await connect(server.bound_port())
        for number in range(50):
            message = f"{name}-{number}".encode()
            assert message == await client.ask(message)
        await client.stream.aclose()

    async with trio.open_nursery() as nursery:
        for name in range(20):
            nursery.start_soon(talk, name)
    await settle(server)


async def test_pipelined_requests_are_answered_in_order(serve, connect):
    """SEL-11: a muted connection yields nothing until it is unmuted."""
    server = await serve(echo)
    client = await connect(server.bound_port())
    messages = [str(number).encode() for number in range(200)]
    await client.send(*messages)
    assert messages == [await client.receive() for _ in messages]


async def test_pipelined_requests_before_a_close_are_all_served(serve, connect):
    """SS-12, SS-49, SS-54, SEL-18, G5: one at a time, the rest stays in the kernel."""
    seen = []
    server = await serve(lambda request: seen.append(bytes(request.payload)) or b"")
    client = await connect(server.bound_port())
    messages = [str(number).encode() for number in range(10)]
    await client.send(*messages)
    await client.stream.send_eof()
    assert b"\0\0\0\0" * 10 == await client.wait_closed()
    assert messages == seen
    await settle(server)


async def test_a_partial_frame_before_a_close_is_dropped(serve, connect):
    """SS-51, SS-52, SS-55, SEL-19."""
    seen = []
    server = await serve(lambda request: seen.append(bytes(request.payload)) or b"")
    client = await connect(server.bound_port())
    await client.send(b"whole")
    await client.stream.send_all(struct.pack(">i", 100) + b"part")
    await client.stream.send_eof()
    await client.wait_closed()
    assert [b"whole"] == seen
    await settle(server)


BAD_INPUT = {
    "negative size": struct.pack(">i", -1),
    "oversize": struct.pack(">i", 1_000_001),
    "largest size": struct.pack(">i", 2**31 - 1),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS hello": bytes.fromhex("16030100c8010000c40303"),
}


@pytest.mark.parametrize("garbage", BAD_INPUT.values(), ids=BAD_INPUT.keys())
async def test_bad_sizes_close_that_connection_with_one_line(serve, caplog, garbage, connect):
    """SS-11: no reply, one WARNING, others unharmed."""
    server = await serve(echo)
    other = await connect(server.bound_port())
    bad = await connect(server.bound_port())
    with caplog.at_level(logging.INFO):
        await bad.stream.send_all(garbage)
        assert b"" == await bad.wait_closed()
    (line,) = [record for record in caplog.records if record.name.startswith("trio_kafka_net")]
    assert line.levelno == logging.WARNING
    assert "socket.request.max.bytes" in line.getMessage()
    assert b"still here" == await other.ask(b"still here")
    await other.stream.aclose()
    await settle(server)


@pytest.mark.parametrize("stage", ["silent", "in the size", "in the payload", "handled", "parked"])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_vanishing_client_leaves_nothing(serve, stage, end, connect):
    """GX-06, GX-07, GX-08, MP: counts return to where they were, tasks too."""
    release = trio.Event()
    running = trio.Event()

    async def handler(request: Request) -> bytes:
        running.set()
        if stage == "parked":
            pool = server.data_plane.handler_pool
            async with pool.parked(request, "test"):
                await trio.sleep_forever()
        await release.wait()
        return b"late"

    server = await serve(handler)
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    client = await connect(server.bound_port())
    if stage == "in the size":
        await client.stream.send_all(b"\0\0")
    elif stage == "in the payload":
        await client.stream.send_all(struct.pack(">i", 1000) + b"part")
    elif stage in ("handled", "parked"):
        await client.send(b"x" * 1000)
        await running.wait()
    if end == "close":
        await client.stream.aclose()
    else:
        client.reset()
    await trio.testing.wait_all_tasks_blocked(0.005)
    release.set()
    await settle(server)
    assert trio.lowlevel.current_statistics().tasks_living <= tasks_before + 1
    statistics = server.data_plane.handler_pool.statistics()
    assert (0, {}) == (statistics.running, statistics.parked)


async def test_a_handler_failure_closes_only_that_connection(serve, caplog, connect):
    def handler(request: Request) -> memoryview:
        if request.payload == b"bad":
            raise ValueError("a bug")
        return request.payload

    server = await serve(handler)
    other = await connect(server.bound_port())
    bad = await connect(server.bound_port())
    await bad.send(b"bad")
    assert b"" == await bad.wait_closed()
    assert "its handler failed" in caplog.text
    assert b"ok" == await other.ask(b"ok")


async def test_close_connection_closes_without_noise(serve, caplog, connect):
    def handler(request: Request) -> bytes:
        raise CloseConnection("done with you")

    server = await serve(handler)
    client = await connect(server.bound_port())
    with caplog.at_level(logging.INFO):
        await client.send(b"x")
        assert b"" == await client.wait_closed()
    assert not caplog.records
    await settle(server)


async def test_a_parser_that_refuses_closes_and_returns_the_memory(serve, connect):
    """KAFKA-20302, GX-06."""

    def parse(connection, payload) -> Request:
        if payload == b"bug":
            raise ValueError("in the parser")
        raise RemoteProtocolError("not today")

    server = await serve(echo, parse=parse)
    for payload in (b"refused", b"bug"):
        client = await connect(server.bound_port())
        await client.send(payload)
        assert b"" == await client.wait_closed()
    await settle(server)


async def test_a_slow_reader_of_large_responses_does_not_hold_up_others(serve, connect):
    """GX-08."""
    big = b"z" * 8_000_000
    server = await serve(lambda request: big if request.payload == b"big" else b"small")
    slow = await connect(server.bound_port())
    await slow.send(b"big")
    other = await connect(server.bound_port())
    for _ in range(20):
        assert b"small" == await other.ask(b"x")
    assert big == await slow.receive()
    assert b"small" == await slow.ask(b"x")
    with trio.fail_after(5):  # and when all is written the Processor sleeps
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_file_region_is_sent_between_buffers(serve, tmp_path, connect):
    path = tmp_path / "data"
    path.write_bytes(b"0123456789" * 100_000)
    file = path.open("rb")

    def handler(request: Request) -> Send:
        return Send([b"<", FileRegion(file.fileno(), 5, 999_990, file), b">"])

    server = await serve(handler)
    client = await connect(server.bound_port())
    reply = await client.ask(b"")
    assert b"<" + (b"0123456789" * 100_000)[5:999_995] + b">" == reply
    file.close()


async def test_a_full_request_queue_stalls_only_those_who_filled_it(serve, connect):
    """GX-01: responses flow and other connections are read while the queue is full."""
    gate = trio.Event()

    async def handler(request: Request) -> memoryview:
        if request.payload == b"first":
            return request.payload
        await gate.wait()
        return request.payload

    server = await serve(handler, queued_max_requests=2, num_io_threads=1)
    clients = [await connect(server.bound_port()) for _ in range(10)]
    assert b"first" == await clients[0].ask(b"first")
    for number, client in enumerate(clients):
        await client.send(str(number).encode())
    await trio.testing.wait_all_tasks_blocked(0.01)
    statistics = server.data_plane.request_channel.statistics()
    assert (2, 7) == (statistics.queued, statistics.waiting)
    gate.set()
    for number, client in enumerate(clients):
        assert str(number).encode() == await client.receive()


async def test_an_exhausted_memory_pool_stalls_and_recovers(serve, connect):
    """SEL-20, GX-03."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        await gate.wait()
        return b"%d" % len(request.payload)

    server = await serve(handler, queued_max_request_bytes=1_000, num_io_threads=1)
    clients = [await connect(server.bound_port()) for _ in range(8)]
    for client in clients:
        await client.send(b"x" * 900)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert 1_800 == server.data_plane.memory_pool.used
    assert 6 == server.data_plane.memory_pool.waiting
    await clients[-1].stream.aclose()
    gate.set()
    for client in clients[:-1]:
        assert b"900" == await client.receive()
        await client.stream.aclose()
    await settle(server)


async def test_control_plane_answers_while_the_data_plane_is_full(serve, connect):
    """GX-02, SS-65: own queue, own handler; its requests are privileged."""
    gate = trio.Event()
    privileged = []

    async def data(request: Request) -> bytes:
        privileged.append(request.connection.is_privileged)
        await gate.wait()
        return b"data"

    def control(request: Request) -> bytes:
        privileged.append(request.connection.is_privileged)
        return b"control"

    server = await serve(data, control=control, queued_max_requests=1, num_io_threads=1)
    clients = [await connect(server.bound_port("PLAINTEXT")) for _ in range(5)]
    for client in clients:
        await client.send(b"x")
    admin = await connect(server.bound_port("CONTROLLER"))
    assert b"control" == await admin.ask(b"x")
    assert [False, True] == privileged
    gate.set()
    for client in clients:
        assert b"data" == await client.receive()


async def test_idle_connections_are_closed_and_busy_ones_are_not(
    nursery, serve, mock_clock, connect
):
    """SS-15; unlike SS-16 a request in progress keeps its connection (difference 10)."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        await gate.wait()
        return b"late"

    server = await serve(handler, connections_max_idle_ms=60_000)
    idle = await connect(server.bound_port())
    busy = await connect(server.bound_port())
    await busy.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.005)
    mock_clock.jump(59.9)
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert 2 == server.data_plane.connection_count
    mock_clock.jump(0.2)
    assert b"" == await idle.wait_closed()
    assert 1 == server.data_plane.connection_count
    mock_clock.jump(600)
    await trio.testing.wait_all_tasks_blocked(0.005)
    gate.set()
    assert b"late" == await busy.receive()


async def test_connections_per_ip_are_limited(serve, connect):
    """SS-26: the one above gets EOF; after one closes, a new one works."""
    server = await serve(echo, max_connections_per_ip=3)
    clients = [await connect(server.bound_port()) for _ in range(3)]
    for client in clients:
        await client.ask(b"x")
    refused = await connect(server.bound_port())
    assert b"" == await refused.wait_closed()
    await clients[0].stream.aclose()
    await trio.testing.wait_all_tasks_blocked(0.005)
    again = await connect(server.bound_port())
    assert b"y" == await again.ask(b"y")


async def test_connections_above_the_total_wait_for_room(serve, connect):
    """CQ-06 for the whole server: the next one is served when one closes."""
    server = await serve(echo, max_connections=2)
    clients = [await connect(server.bound_port()) for _ in range(2)]
    for client in clients:
        await client.ask(b"x")
    waiting = await connect(server.bound_port())
    await waiting.send(b"patience")
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert 2 == server.data_plane.connection_count
    await clients[1].stream.aclose()
    assert b"patience" == await waiting.receive()


async def test_connection_ids_are_as_kafkas(serve, connect):
    """SS-14."""
    ids = []
    server = await serve(lambda request: ids.append(request.connection.connection_id) or b"")
    ports = []
    for _ in range(3):
        client = await connect(server.bound_port())
        ports.append(client.stream.socket.getsockname()[1])
        await client.ask(b"")
    here = server.bound_port()
    expected = [f"127.0.0.1:{here}-127.0.0.1:{port}-0-{n}" for n, port in enumerate(ports)]
    assert expected == ids


async def test_stop_finishes_requests_in_hand(nursery, serve, connect):
    """Stop accepting, stop reading, finish, flush, close: nothing in hand is lost."""
    gate = trio.Event()

    async def handler(request: Request) -> memoryview:
        await gate.wait()
        return request.payload

    server = await serve(handler, num_io_threads=1)
    port = server.bound_port()
    clients = [await connect(port) for _ in range(5)]
    idle = await connect(port)
    for client in clients:
        await client.send(b"in hand", b"never read")
    await trio.testing.wait_all_tasks_blocked(0.01)
    nursery.start_soon(server.stop)
    assert b"" == await idle.wait_closed()
    with pytest.raises(OSError, match="all attempts to connect"):
        await connect(port)
    gate.set()
    for client in clients:
        assert b"in hand" == await client.receive()


async def test_stop_at_its_deadline_cuts_what_is_left(nursery, autojump_clock, connect):
    """SS-25, GX-11: it ends although a handler never returns."""

    async def handler(request: Request) -> bytes:
        await trio.sleep_forever()
        return b""

    server = SocketServer(
        [ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)],
        handle=answering(handler),
        config=SocketServerConfig(trio_graceful_timeout_ms=10_000),
    )
    done = trio.Event()

    async def run(task_status) -> None:
        await server.run(task_status=task_status)
        done.set()

    await nursery.start(run)
    client = await connect(server.bound_port())
    await client.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.01)
    started = trio.current_time()
    await server.stop()
    await done.wait()
    assert 10 == pytest.approx(trio.current_time() - started, abs=0.5)
    assert b"" == await client.wait_closed()


async def test_a_port_in_use_stops_the_start_and_names_it(serve):
    server = await serve(echo)
    taken = ListenerConfig(name="SECOND", host="127.0.0.1", port=server.bound_port())
    free = ListenerConfig(name="FIRST", host="127.0.0.1", port=0)
    with pytest.raises(OSError, match=f"SECOND://127.0.0.1:{taken.port}") as caught:
        SocketServer([free, taken], handle=answering(echo))
    assert caught.value.errno == errno.EADDRINUSE


async def test_everybody_is_anonymous_without_authentication(serve, connect):
    """SS-35."""
    server = await serve(lambda request: str(request.connection.principal).encode())
    client = await connect(server.bound_port())
    assert b"User:ANONYMOUS" == await client.ask(b"who am I")


async def test_a_peer_that_closes_with_nothing_sent_is_gone_at_once(serve):
    """SS-50, SEL-01: and the same address may connect again."""
    server = await serve(echo)

    async def connect_from(port: int) -> FrameClient:
        source = trio.socket.socket()
        source.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        await source.bind(("127.0.0.2", port))  # an address that nobody else here uses
        await source.connect(("127.0.0.1", server.bound_port()))
        return FrameClient(trio.SocketStream(source))

    client = await connect_from(0)
    await client.ask(b"x")
    port = client.stream.socket.getsockname()[1]
    client.reset()
    await settle(server)
    again = await connect_from(port)
    assert b"y" == await again.ask(b"y")
    await again.stream.aclose()


async def test_pipelined_requests_stop_being_served_when_a_response_cannot_be_sent(serve, connect):
    """SS-53, SS-56: three requests, then RST; the first answer fails, the others are not read."""
    seen = []
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        seen.append(bytes(request.payload))
        await gate.wait()
        return b"z" * 550_000

    server = await serve(handler)
    client = await connect(server.bound_port())
    await client.send(b"1", b"2", b"3")
    await trio.testing.wait_all_tasks_blocked(0.005)
    client.reset()
    await trio.testing.wait_all_tasks_blocked(0.005)
    gate.set()
    await settle(server)
    assert [b"1"] == seen


async def test_a_connection_closed_by_another_one_in_the_same_pass_is_skipped(nursery, connect):
    """SEL-27: closing while completed receives are being served."""
    connections = []

    def parse(connection, payload) -> Request:
        connections.append(connection)
        if payload == b"kill":
            for other in connections[:-1]:
                other.processor._set.close(other, DisconnectCause.HANDLER)
        return Request(connection, payload)

    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    config = SocketServerConfig(num_network_threads=1)
    server = SocketServer([listener], handle=answering(echo), config=config, parse=parse)
    await nursery.start(server.run)
    victim, killer = [await connect(server.bound_port()) for _ in range(2)]
    assert b"x" == await victim.ask(b"x")
    await killer.send(b"kill")
    await victim.send(b"never answered")
    assert b"kill" == await killer.receive()
    assert b"" == await victim.wait_closed()
    await killer.stream.aclose()
    await server.stop()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_empty_host_serves_both_families_under_their_own_addresses(nursery, address):
    """GX-12: an IPv4 peer is counted and named as one."""
    ids = []
    server = await nursery.start(
        partial(serve_frames, lambda r: ids.append(r.connection.connection_id) or b"", 0, host="")
    )
    async with await trio.open_tcp_stream(address, server.bound_port()) as stream:
        await FrameClient(stream).ask(b"")
        local, remote, *_ = ids[0].split("-")
        assert [address, address] == [local.rpartition(":")[0], remote.rpartition(":")[0]]
        assert 1 == server.data_plane.connection_quotas.count(address)


async def test_a_connection_that_cannot_be_configured_is_closed_and_not_counted(
    serve, connect, monkeypatch
):
    """SS-29: the client gets EOF, the next one is served."""
    server = await serve(echo)

    def fail(accepted) -> None:
        assert 1 == server.data_plane.connection_quotas.total
        monkeypatch.undo()
        raise OSError("no such option")

    monkeypatch.setattr(server.listeners[0], "configure", fail)
    broken = await connect(server.bound_port())
    assert b"" == await broken.wait_closed()
    await settle(server)
    assert b"x" == await (await connect(server.bound_port())).ask(b"x")
