"""What fails is closed, everybody else goes on; what fails too often stops the server."""

from __future__ import annotations

import errno
import logging
import struct

import pytest
import trio
import trio.testing

from trio_kafka_net import ListenerConfig, Request, SocketServer
from trio_kafka_net.errors import FatalExitError
from trio_kafka_net.network.framing import BytesSend, Send
from trio_kafka_net.network.selector import PortablePoller, Selector
from trio_kafka_net.network.socket_server import answering

from .test_socket_server import settle


class FaultySelector(Selector):
    """Fails operations as told: ``FaultySelector.faults[operation]`` is a list of exceptions."""

    faults: dict[str, list[Exception | None]]
    closed: int

    def _maybe_fail(self, operation: str) -> None:
        pending = self.faults.get(operation)
        if pending:
            error = pending.pop(0)
            if error is not None:
                raise error

    def register(self, connection) -> None:
        self._maybe_fail("register")
        super().register(connection)

    def update(self, connection) -> None:
        self._maybe_fail("update")
        super().update(connection)

    def suspend(self, connection) -> None:
        self._maybe_fail("suspend")
        super().suspend(connection)

    def ready(self, limit: int):
        self._maybe_fail("ready")
        return super().ready(limit)

    def close(self) -> None:
        type(self).closed += 1
        super().close()


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.setattr(FaultySelector, "faults", {}, raising=False)
    monkeypatch.setattr(FaultySelector, "closed", 0, raising=False)
    monkeypatch.setattr("trio_kafka_net.network.processor.Selector", FaultySelector)
    return FaultySelector.faults


def echo(request: Request) -> memoryview:
    return request.payload


async def healthy(server, connect) -> None:
    """Others get answers, and no count is left behind."""
    client = await connect(server.bound_port())
    assert b"healthy" == await client.ask(b"healthy")
    await client.stream.aclose()
    await settle(server)


async def test_a_connection_that_cannot_be_registered_is_closed_and_the_next_served(
    faults, serve, connect, caplog
):
    """SS-44, SEL-13: first closed and uncounted, second fine."""
    faults["register"] = [OSError("no room in epoll")]
    server = await serve(echo)
    first, second = [await connect(server.bound_port()) for _ in range(2)]
    assert b"" == await first.wait_closed()
    assert b"x" == await second.ask(b"x")
    await second.stream.aclose()
    await healthy(server, connect)


async def test_a_response_that_cannot_be_written_closes_its_connection_only(serve, connect, caplog):
    """SS-45: of two responses the first fails, the second is delivered."""

    class BrokenSend(Send):
        def write_to(self, transport) -> bool:
            raise ValueError("a bug in a Send")

    def handler(request: Request):
        return BrokenSend([b""]) if request.payload == b"bad" else BytesSend(request.payload)

    server = await serve(handler)
    bad, good = [await connect(server.bound_port()) for _ in range(2)]
    await bad.send(b"bad")
    await good.send(b"good")
    assert b"" == await bad.wait_closed()
    assert b"good" == await good.receive()
    assert "a step failed" in caplog.text
    await good.stream.aclose()
    await healthy(server, connect)


@pytest.mark.parametrize("error", [OSError("epoll_ctl"), ValueError("a bug")])
async def test_a_connection_that_cannot_be_muted_is_closed_and_others_served(
    faults, serve, connect, error, caplog
):
    """SS-59: muting means leaving the selector's interest when more arrives meanwhile."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        await gate.wait()
        return bytes(request.payload)

    server = await serve(handler)
    bad, good = [await connect(server.bound_port()) for _ in range(2)]
    await bad.send(b"1")
    await good.send(b"2")
    await trio.testing.wait_all_tasks_blocked(0.005)
    faults["update"] = [error]
    await bad.send(b"pipelined")
    await trio.testing.wait_all_tasks_blocked(0.005)
    gate.set()
    assert b"" == await bad.wait_closed()
    assert b"2" == await good.receive()
    await good.stream.aclose()
    await healthy(server, connect)


async def test_a_connection_that_cannot_be_unmuted_is_closed_and_others_served(
    faults, serve, connect, caplog
):
    """SS-60: the first response is out, then listening again fails."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        await gate.wait()
        return bytes(request.payload)

    server = await serve(handler)
    bad, good = [await connect(server.bound_port()) for _ in range(2)]
    await bad.send(b"1", b"pipelined")
    await good.send(b"2")
    await trio.testing.wait_all_tasks_blocked(0.005)
    faults["update"] = [OSError("epoll_ctl")]
    gate.set()
    assert b"1" == await bad.receive()
    assert b"" == await bad.wait_closed()
    assert b"2" == await good.receive()
    await good.stream.aclose()
    await healthy(server, connect)


async def test_a_connection_that_the_selector_will_not_let_go_is_closed_all_the_same(
    faults, serve, connect, caplog
):
    """SEL-12, G7: descriptor, memory and place in the limits come back."""
    server = await serve(echo)
    client = await connect(server.bound_port())
    await client.ask(b"x")
    faults["suspend"] = [OSError("epoll_ctl")]
    await client.stream.aclose()
    await settle(server)
    await healthy(server, connect)


async def test_a_poll_that_fails_is_survived(faults, serve, connect, caplog):
    """SS-62: existing connections keep working."""
    server = await serve(echo)
    client = await connect(server.bound_port())
    await client.ask(b"x")
    faults["ready"] = [OSError("first"), ValueError("second")]
    assert b"y" == await client.ask(b"y")
    assert 2 == caplog.text.count("Processor 0: a step failed, going on")


async def test_the_third_failure_within_ten_seconds_stops_the_server(
    faults, connect, autojump_clock, caplog
):
    """Supervision: one every six seconds is survived, three at once are not."""
    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=answering(echo))

    def describe(error: BaseException) -> bool:
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        return str(error) == "7" and "Processor" in error.__notes__[0]

    with pytest.raises(ExceptionGroup, check=describe):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            client = await connect(server.bound_port())
            for number in range(4):
                faults["ready"] = [ValueError(str(number))]
                assert b"x" == await client.ask(b"x")
                await trio.sleep(6)
            await trio.sleep(10)
            faults["ready"] = [ValueError(str(number)) for number in (5, 6, 7)]
            await client.send(b"x")
    assert 3 == FaultySelector.closed


async def test_fatal_exit_error_stops_the_server_at_once(faults, connect):
    """SS-63: the selector is closed, nobody swallows it."""
    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=answering(echo))
    with pytest.RaisesGroup(FatalExitError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            client = await connect(server.bound_port())
            faults["ready"] = [FatalExitError("disk on fire")]
            await client.send(b"x")
            assert b"" == await client.wait_closed()
    assert 3 == FaultySelector.closed


async def test_running_out_of_memory_is_not_survived(faults, connect):
    """Difference 18: a server without memory stops instead of limping."""
    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=answering(echo))
    with pytest.RaisesGroup(MemoryError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            client = await connect(server.bound_port())
            faults["ready"] = [MemoryError()]
            await client.send(b"x")
            await client.wait_closed()


@pytest.mark.parametrize("size", [100, 550_000])
async def test_a_client_that_is_gone_when_its_response_is_written_harms_nobody(
    serve, connect, size, caplog
):
    """SS-46, SS-47, SS-48: small (fails on read) and large (fails on write)."""
    gate = trio.Event()
    started = trio.Event()

    async def handler(request: Request) -> bytes:
        started.set()
        await gate.wait()
        return b"z" * size

    with caplog.at_level(logging.WARNING):
        server = await serve(handler)
        client = await connect(server.bound_port())
        await client.send(b"x")
        await started.wait()
        client.reset()
        gate.set()
        await settle(server)
    assert not caplog.records


async def test_requests_of_a_reset_connection_are_served_until_a_send_fails(serve, connect):
    """SS-39: 100 pipelined requests, then RST."""
    seen = []
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        seen.append(bytes(request.payload))
        await gate.wait()
        return b"answer"

    server = await serve(handler)
    client = await connect(server.bound_port())
    await client.send(*(b"%d" % number for number in range(100)))
    await trio.testing.wait_all_tasks_blocked(0.005)
    client.reset()
    await trio.testing.wait_all_tasks_blocked(0.005)
    gate.set()
    await settle(server)
    assert 1 <= len(seen) < 100


async def test_the_portable_poller_serves_as_well(monkeypatch, serve, connect):
    """What kqueue platforms run, here over the standard library's epoll."""
    monkeypatch.setattr("trio_kafka_net.network.selector.open_poller", PortablePoller)
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        if request.payload == b"wait":
            await gate.wait()
        return b"z" * 3_000_000 if request.payload == b"big" else bytes(request.payload)

    server = await serve(handler)
    quick, waiting = [await connect(server.bound_port()) for _ in range(2)]
    await waiting.send(b"wait", b"pipelined")
    assert b"x" == await quick.ask(b"x")
    gate.set()
    assert [b"wait", b"pipelined"] == [await waiting.receive(), await waiting.receive()]
    assert 3_000_000 == len(await quick.ask(b"big"))
    for client in (quick, waiting):
        await client.stream.aclose()
    await settle(server)


@pytest.mark.parametrize("error", [FatalExitError("stop"), MemoryError()], ids=["fatal", "memory"])
@pytest.mark.parametrize("where", ["parse", "register"])
async def test_what_must_stop_the_server_does_so_from_a_connections_step_too(
    faults, connect, error, where
):
    """A parser or a registration that runs out of memory is not one connection's failure."""

    def parse(connection, payload) -> Request:
        raise error

    if where == "register":
        faults["register"] = [error]
    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=answering(echo), parse=parse)
    with pytest.RaisesGroup(type(error), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            client = await connect(server.bound_port())
            await client.send(b"x")
            await client.wait_closed()
    assert 0 == server.data_plane.connection_quotas.total
    assert 0 == server.data_plane.memory_pool.used


async def test_all_connections_are_closed_although_the_selector_objects_to_one(
    faults, nursery, connect
):
    """SEL-12: at a stop."""
    listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
    server = SocketServer([listener], handle=answering(echo))
    await nursery.start(server.run)
    clients = [await connect(server.bound_port()) for _ in range(4)]
    for client in clients:
        await client.ask(b"x")
    faults["suspend"] = [OSError("epoll_ctl")]
    await server.stop()
    for client in clients:
        assert b"" == await client.wait_closed()
    assert 0 == server.data_plane.connection_quotas.total


async def test_a_connection_that_no_heir_can_take_is_closed_and_the_others_move(
    faults, serve, connect, caplog
):
    """DN-03: and the removal of the Processor comes to its end."""
    server = await serve(echo, num_network_threads=2)
    clients = [await connect(server.bound_port()) for _ in range(4)]
    for client in clients:
        await client.ask(b"x")
    faults["register"] = [OSError("no room in epoll")]
    with trio.fail_after(5):
        await server.resize_network_threads(1)
    assert 3 == server.data_plane.connection_count == server.data_plane.connection_quotas.total
    answers = []
    for client in clients:
        try:
            answers.append(await client.ask(b"y"))
        except (EOFError, trio.BrokenResourceError):
            answers.append(None)
    assert [None, b"y", b"y", b"y"] == sorted(answers, key=lambda answer: answer or b"")


async def test_a_frame_that_the_kernel_has_no_memory_for_costs_its_connection_and_no_count(
    serve, connect, monkeypatch, caplog
):
    """The memory that was not given must not be missing from the pool for ever."""

    def refuse(size: int) -> memoryview:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    server = await serve(lambda request: request.payload, socket_request_max_bytes=4_000_000)
    client = await connect(server.bound_port())
    monkeypatch.setattr("trio_kafka_net.network.memory_pool._map", refuse)
    await client.stream.send_all(struct.pack(">i", 3_000_000) + b"x")
    assert b"" == await client.wait_closed()

    assert server.data_plane.memory_pool.used == 0
    assert "Cannot allocate memory" in caplog.text
    await healthy(server, connect)
