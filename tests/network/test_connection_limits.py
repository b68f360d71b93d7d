"""Limits of connections in a whole server: planes, listeners, eviction, changes at run time."""

from __future__ import annotations

from functools import partial

import attrs
import pytest
import trio
import trio.testing

from trio_kafka_net import ListenerConfig, SocketServer, SocketServerConfig
from trio_kafka_net.errors import ConfigError
from trio_kafka_net.network.connection_quotas import ConnectionQuotas
from trio_kafka_net.network.socket_server import answering

settled = partial(trio.testing.wait_all_tasks_blocked, 0.002)


@attrs.define
class Server:
    """A server with an EXTERNAL and an INTERNAL (inter-broker) listener, and a control plane."""

    socket_server: SocketServer
    gate: trio.Event

    @property
    def quotas(self) -> ConnectionQuotas:
        return self.socket_server.data_plane.connection_quotas

    def port(self, name: str) -> int:
        return self.socket_server.bound_port(name)

    def open(self, name: str) -> int:
        return next(x.open for x in self.quotas.statistics().listeners if x.name == name)


@pytest.fixture
async def serve(nursery):
    async def start(*, external=None, control=None, **settings) -> Server:
        gate = trio.Event()

        async def handler(request):
            payload = bytes(request.payload)
            if payload == b"slow":
                await gate.wait()
            return payload

        listen = partial(ListenerConfig, host="127.0.0.1", port=0)
        server = SocketServer(
            [
                listen(name="EXTERNAL", **(external or {})),
                listen(name="INTERNAL", is_inter_broker=True),
                listen(name="CONTROLLER", is_control_plane=True, **(control or {})),
            ],
            handle=answering(handler),
            config=SocketServerConfig(**settings),
        )
        await nursery.start(server.run)
        return Server(server, gate)

    return start


async def test_inter_broker_connections_push_out_the_longest_silent_of_others(
    serve, dial, mock_clock
):
    """DQ-06, difference 9: over all Processors, one each, and none that is in a request."""
    server = await serve(max_connections=5, num_network_threads=3)
    clients = []
    for _ in range(5):
        clients.append(dial(server.port("EXTERNAL")))
        await settled()
        mock_clock.jump(1)
    clients[0].ask(b"active")
    clients[1].ask(b"slow")
    await settled()
    assert b"active" == clients[0].answer()
    mock_clock.jump(1)
    internal = []
    evicted = []
    for _ in range(4):
        internal.append(dial(server.port("INTERNAL")))
        await settled()
        assert 5 == server.quotas.total
        evicted += [n for n, c in enumerate(clients) if not c.is_open and n not in evicted]
    assert [2, 3, 4, 0] == evicted
    assert 4 == server.quotas.statistics().evicted
    for client in internal:
        client.ask(b"x")
    server.gate.set()
    await settled()
    assert [b"x"] * 4 == [client.answer() for client in internal]
    assert b"slow" == clients[1].answer()


async def test_a_request_in_progress_gives_way_if_nobody_is_idle(serve, dial):
    """Its handler is left to finish; the late answer is harmless (SS-40)."""
    server = await serve(max_connections=1)
    client = dial(server.port("EXTERNAL"))
    client.ask(b"slow")
    await settled()
    internal = dial(server.port("INTERNAL"))
    await settled()
    assert not client.is_open
    server.gate.set()
    internal.ask(b"x")
    await settled()
    assert b"x" == internal.answer()
    plane = server.socket_server.data_plane
    assert 1 == server.quotas.total == plane.connection_count
    assert 0 == plane.memory_pool.used


async def test_lowering_the_number_at_run_time_closes_the_excess(serve, dial, mock_clock):
    """DQ-03 with sockets: exactly as many as are too many."""
    server = await serve()
    clients = []
    for _ in range(8):
        clients.append(dial(server.port("EXTERNAL")))
        await settled()
        mock_clock.jump(1)
    server.quotas.reconfigure(max_connections=5)
    assert [False] * 3 + [True] * 5 == [client.is_open for client in clients]
    await settled()
    assert 5 == server.socket_server.data_plane.connection_count


async def test_a_full_listener_does_not_hold_up_the_others(serve, dial):
    """DQ-04, DQ-05: the one above waits until one closes, or until the number is raised."""
    server = await serve(external={"max_connections": 1})
    first, second, third = (dial(server.port("EXTERNAL")) for _ in range(3))
    for client in (first, second, third):
        client.ask(b"x")
    internal = dial(server.port("INTERNAL"))
    internal.ask(b"y")
    await settled()
    assert [b"x", None, None] == [client.answer() for client in (first, second, third)]
    assert b"y" == internal.answer()
    first.socket.close()
    await settled()
    assert [b"x", None] == [client.answer() for client in (second, third)]
    server.quotas.reconfigure_listener(
        "EXTERNAL", max_connections=2, max_connection_creation_rate=None
    )
    await settled()
    assert b"x" == third.answer()


async def test_limits_of_the_data_plane_do_not_reach_the_control_plane(serve, dial, mock_clock):
    """GX-03: full, over its rate and with its address at the limit, the data plane is by itself."""
    server = await serve(
        max_connections=1, max_connection_creation_rate=1, max_connections_per_ip=2
    )
    for _ in range(3):
        dial(server.port("EXTERNAL"))
    await settled()
    admins = [dial(server.port("CONTROLLER")) for _ in range(3)]
    for admin in admins[:2]:
        admin.ask(b"x")
    await settled()
    assert [b"x", b"x"] == [admin.answer() for admin in admins[:2]]
    assert not admins[2].is_open  # the limit per address holds on each plane by itself


async def test_the_rate_of_the_plane_holds(serve, dial, mock_clock):
    server = await serve(max_connection_creation_rate=1)
    clients = [dial(server.port("EXTERNAL")) for _ in range(2)]
    for client in clients:
        client.ask(b"x")
    await settled()
    assert [b"x", None] == [client.answer() for client in clients]
    mock_clock.jump(1)
    await settled()
    assert b"x" == clients[1].answer()


async def test_one_that_was_evicted_while_it_waited_is_not_served(serve, dial, mock_clock, caplog):
    server = await serve(max_connection_creation_rate=1)
    for _ in range(2):
        dial(server.port("EXTERNAL"))
    await settled()
    server.quotas.reconfigure(max_connections=0)
    mock_clock.jump(1)
    await settled()
    assert 0 == server.socket_server.data_plane.connection_count
    assert not caplog.records


async def test_the_control_plane_has_the_limits_of_its_listener(serve, dial, mock_clock):
    server = await serve(control={"max_connections": 2, "max_connection_creation_rate": 1})
    admins = [dial(server.port("CONTROLLER")) for _ in range(3)]
    for admin in admins:
        admin.ask(b"x")
    await settled()
    assert [b"x", None, None] == [admin.answer() for admin in admins]
    mock_clock.jump(1)
    await settled()
    assert [b"x", None] == [admin.answer() for admin in admins[1:]]
    mock_clock.jump(60)
    await settled()
    assert admins[2].answer() is None


async def test_listeners_may_have_their_own_number_of_processors(nursery):
    """KIP-788, DN-01: the control plane always has one."""
    listen = partial(ListenerConfig, host="127.0.0.1", port=0)
    server = SocketServer(
        [
            listen(name="A", num_network_threads=2),
            listen(name="B"),
            listen(name="C", is_control_plane=True, num_network_threads=4),
        ],
        handle=answering(lambda request: b""),
        config=SocketServerConfig(num_network_threads=3),
    )
    assert [2, 3] == [len(acceptor.processors) for acceptor in server.data_plane.acceptors]
    assert 1 == len(server.control_plane.processors)
    server.close()


async def test_a_name_that_does_not_resolve_stops_the_start_before_a_port_is_bound():
    listener = ListenerConfig(name="A", host="127.0.0.1", port=0)
    config = SocketServerConfig(max_connections_per_ip_overrides={"a..b": "5"})
    with pytest.raises(ConfigError, match=r"overrides=a\.\.b:5"):
        SocketServer([listener], handle=answering(lambda request: b""), config=config)


async def test_stopping_while_everybody_waits_leaves_nothing(serve, dial, mock_clock):
    """GX-07, GX-11: delayed, unread, in the backlog, and served."""
    server = await serve(external={"max_connection_creation_rate": 2})
    server.quotas.set_ip_rate("127.0.0.2", 0)
    clients = [dial(server.port("EXTERNAL")) for _ in range(5)]
    clients += [dial(server.port("EXTERNAL"), "127.0.0.2")]
    await settled()
    await server.socket_server.stop()
    await settled()
    assert not any(client.is_open for client in clients)
    statistics = server.quotas.statistics()
    assert (0, 0) == (statistics.total, statistics.addresses)
