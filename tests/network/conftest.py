from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import pytest
import trio

from trio_kafka_net import ListenerConfig, SocketServer, SocketServerConfig
from trio_kafka_net.network.socket_server import answering

from .client import FrameClient, PlainClient

Serve = Callable[..., Awaitable[SocketServer]]
Connect = Callable[[int], Awaitable[FrameClient]]
Dial = Callable[..., PlainClient]


@pytest.fixture
async def serve(nursery: trio.Nursery) -> Serve:
    """Start a server for the time of the test: ``await serve(handler, key=value, ...)``."""

    async def start(
        handler, *, control=None, parse=None, on_finished=None, **settings
    ) -> SocketServer:
        defaults = {"num_network_threads": 1, "socket_request_max_bytes": 1_000_000}
        listeners = [ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)]
        if control is not None:
            listeners.append(
                ListenerConfig(name="CONTROLLER", host="127.0.0.1", port=0, is_control_plane=True)
            )
        server = SocketServer(
            listeners,
            handle=answering(handler),
            control_handle=None if control is None else answering(control),
            config=SocketServerConfig(**{**defaults, **settings}),
            on_finished=on_finished,
            **({} if parse is None else {"parse": parse}),
        )
        await nursery.start(partial(server.run))
        return server

    return start


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open clients that are closed after the test: ``await connect(port)``."""
    clients: list[FrameClient] = []

    async def open_client(port: int) -> FrameClient:
        clients.append(await FrameClient.connect(port))
        return clients[-1]

    yield open_client
    for client in clients:
        await client.stream.aclose()


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Connect without a checkpoint, closed after the test: ``dial(port, "127.0.0.2")``."""
    clients: list[PlainClient] = []

    def open_client(port: int, source: str = "127.0.0.1") -> PlainClient:
        made = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
        made.setblocking(False)
        clients.append(PlainClient(made))
        return clients[-1]

    yield open_client
    for client in clients:
        client.socket.close()
