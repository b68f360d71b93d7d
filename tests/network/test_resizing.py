"""num.network.threads and num.io.threads change while connections live."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_kafka_net import ConfigError, Request
from trio_kafka_net.network.connection import DisconnectCause
from trio_kafka_net.network.framing import Send
from trio_kafka_net.network.selector import PEER_CLOSED, READABLE


def echo(request: Request) -> memoryview:
    return request.payload


def processor_ids(server) -> list[int]:
    return [processor.processor_id for processor in server.data_plane.processors]


async def test_processors_are_added_and_removed_and_ids_not_used_again(serve, connect):
    """DN-01, DN-03."""
    server = await serve(echo, num_network_threads=2)
    await server.resize_network_threads(4)
    assert [0, 1, 2, 3] == processor_ids(server)
    await server.resize_network_threads(2)
    assert [0, 1] == processor_ids(server)
    await server.resize_network_threads(3)
    assert [0, 1, 4] == processor_ids(server)
    clients = [await connect(server.bound_port()) for _ in range(6)]
    for client in clients:
        await client.ask(b"x")
    assert [2, 2, 2] == [each.connection_count for each in server.data_plane.processors]


async def test_one_listener_can_be_resized_alone(serve):
    """DN-02."""
    server = await serve(echo, num_network_threads=2)
    await server.resize_network_threads(3, "plaintext")
    assert [0, 1, 2] == processor_ids(server)
    with pytest.raises(LookupError, match="NOWHERE"):
        await server.resize_network_threads(3, "NOWHERE")


@pytest.mark.parametrize("wanted", [0, 1, 9, -1])
async def test_a_size_beyond_half_and_double_is_refused(serve, wanted):
    """RH-08: the message names the bound, and nothing changes."""
    server = await serve(echo, num_network_threads=4, num_io_threads=4)
    with pytest.raises(ConfigError, match=f"num.network.threads={wanted}: must be 2 to 8"):
        await server.resize_network_threads(wanted)
    with pytest.raises(ConfigError, match=f"num.io.threads={wanted}: must be 2 to 8"):
        server.resize_io_threads(wanted)
    assert [0, 1, 2, 3] == processor_ids(server)
    assert 4 == server.data_plane.handler_pool.statistics().size


async def test_handlers_grow_at_once_and_shrink_as_they_come_to_a_request(serve, connect):
    """RH-08: 8 to 16, 16 to 8."""
    server = await serve(echo)
    pool = server.data_plane.handler_pool
    server.resize_io_threads(16)
    await trio.testing.wait_all_tasks_blocked()
    assert 16 == pool.statistics().idle
    server.resize_io_threads(8)
    client = await connect(server.bound_port())
    for _ in range(20):
        await client.ask(b"x")
    assert 8 == pool.statistics().idle


async def test_connections_of_a_removed_processor_keep_what_they_were_doing(serve, connect):
    """Idle, half a frame read, in a handler, half a response written: all go on."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        if request.payload == b"wait":
            await gate.wait()
        return b"z" * 8_000_000 if request.payload == b"big" else bytes(request.payload)

    server = await serve(handler, num_network_threads=2)
    port = server.bound_port()
    idle, partial, waiting, big = [await connect(port) for _ in range(4)] * 1
    others = [await connect(port) for _ in range(4)]
    for client in (idle, *others):
        assert b"x" == await client.ask(b"x")
    await partial.stream.send_all(b"\0\0\0\5he")
    await waiting.send(b"wait", b"after")
    await big.send(b"big", b"after")
    await trio.testing.wait_all_tasks_blocked(0.01)
    for size in (1, 2, 1):
        await server.resize_network_threads(size)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert 8 == server.data_plane.connection_count
    await partial.stream.send_all(b"llo")
    assert b"hello" == await partial.receive()
    gate.set()
    assert [b"wait", b"after"] == [await waiting.receive(), await waiting.receive()]
    assert [8_000_000, 5] == [len(await big.receive()), len(await big.receive())]
    for client in (idle, *others):
        assert b"y" == await client.ask(b"y")


async def test_a_response_queued_for_a_removed_processor_is_delivered(serve, connect):
    """G1: the response waits in the channel of the Processor that retires."""
    requests: list[Request] = []
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        requests.append(request)
        await gate.wait()
        return bytes(request.payload)

    server = await serve(handler, num_network_threads=2)
    clients = [await connect(server.bound_port()) for _ in range(4)]
    for number, client in enumerate(clients):
        await client.send(b"%d" % number)
    await trio.testing.wait_all_tasks_blocked(0.01)
    gate.set()
    # The handlers and this task run in the same turn of the loop, in an order drawn by trio.
    await trio.lowlevel.checkpoint()
    await server.resize_network_threads(1)
    for number, client in enumerate(clients):
        assert b"%d" % number == await client.receive()


async def test_resizing_under_load_loses_duplicates_and_reorders_nothing(serve, connect):
    """DN: 2, 4, 2, 1, 2 … Processors while 20 connections ask."""
    server = await serve(echo, num_network_threads=2, queued_max_request_bytes=1_000_000)
    done = trio.Event()

    async def talk(name: int) -> None:
        client = await connect(server.bound_port())
        for number in range(60):
            messages = [f"{name}-{number}-{part}".encode() for part in range(3)]
            await client.send(*messages)
            assert messages == [await client.receive() for _ in messages]

    async def resize() -> None:
        while not done.is_set():
            for size in (4, 2, 1, 2):
                await server.resize_network_threads(size)
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resize)
        async with trio.open_nursery() as clients:
            for name in range(20):
                clients.start_soon(talk, name)
        done.set()
    assert 20 == server.data_plane.connection_count


async def test_a_connection_that_waits_for_memory_waits_on_in_its_new_processor(serve, connect):
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        await gate.wait()
        return b"%d" % len(request.payload)

    server = await serve(handler, num_network_threads=2, queued_max_request_bytes=1_000)
    clients = [await connect(server.bound_port()) for _ in range(6)]
    for client in clients:
        await client.send(b"x" * 900)
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert 4 == server.data_plane.memory_pool.waiting
    await server.resize_network_threads(1)
    assert 4 == server.data_plane.memory_pool.waiting
    gate.set()
    for client in clients:
        assert b"900" == await client.receive()


async def test_what_was_reported_of_a_descriptor_is_not_said_of_its_next_owner(serve, connect):
    """A Processor may have seen the end of a peer that it had no time to serve any more; the
    descriptor is used again, and then comes with a connection of another Processor."""
    gate = trio.Event()

    async def handler(request: Request) -> bytes:
        async with server.data_plane.handler_pool.parked(request, "test"):
            await gate.wait()
        return b"done"

    server = await serve(handler, num_network_threads=2)
    clients = [await connect(server.bound_port()) for _ in range(2)]
    for client in clients:
        await client.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.005)
    heir, retired = server.data_plane.processors
    (connection,) = retired.connections
    heir._unserved = [(connection.fd, READABLE | PEER_CLOSED)]
    await server.resize_network_threads(1)
    # Something to do for the heir, which looks at what it left over first.
    await clients[0].send(b"y")
    await clients[1].send(b"y")
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert not connection.peer_gone
    gate.set()
    for client in clients:
        assert b"done" == await client.receive()


async def test_a_failure_to_answer_moves_with_its_connection(serve, connect, caplog):
    """The answer failed, and before its Processor could close the connection, it was retired."""

    class BrokenSend(Send):
        def write_to(self, transport) -> bool:
            raise ValueError("a bug in a Send")

    async def handler(request: Request) -> Send:
        await trio.sleep_forever()
        raise AssertionError

    server = await serve(handler, num_network_threads=2)
    clients = [await connect(server.bound_port()) for _ in range(2)]
    for client in clients:
        await client.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.005)
    heir, retired = server.data_plane.processors
    (connection,) = retired.connections
    # What ``retire`` does, but that the answer comes before anybody notices.
    retired._heirs = [heir]
    retired._running.cancel()
    connection.request.respond(BrokenSend([b""]))
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert DisconnectCause.UNEXPECTED is connection.cause
    assert "a bug in a Send" in caplog.text
