"""Acceptor and quotas together: sockets that wait, are kept unread, refused, or evicted.

Clients are plain sockets: a connection is made, and its end seen, without a checkpoint, because
the kernel does both on loopback at once.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
import struct
from functools import partial
from types import SimpleNamespace

import attrs
import pytest
import trio
import trio.testing

from trio_kafka_net import ListenerConfig, SocketServer, SocketServerConfig
from trio_kafka_net.errors import TrioKafkaError
from trio_kafka_net.network import acceptor as acceptor_module
from trio_kafka_net.network.acceptor import Acceptor
from trio_kafka_net.network.connection_quotas import ConnectionQuotas
from trio_kafka_net.network.ip_quotas import resolve_overrides
from trio_kafka_net.network.listener import Listener
from trio_kafka_net.network.socket_server import answering

settled = partial(trio.testing.wait_all_tasks_blocked, 0.002)


@attrs.define
class Client:
    """A client's socket; ``is_open`` is as the client sees it."""

    socket: socket.socket

    @property
    def is_open(self) -> bool:
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def ask(self, payload: bytes) -> None:
        self.socket.send(struct.pack(">i", len(payload)) + payload)

    def answer(self) -> bytes | None:
        """What has been answered, None if nothing."""
        try:
            return self.socket.recv(65536)[4:]
        except BlockingIOError:
            return None


@pytest.fixture
def connect():
    clients = []

    def open_client(port: int, source: str = "127.0.0.1") -> Client:
        made = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
        made.setblocking(False)
        clients.append(Client(made))
        return clients[-1]

    yield open_client
    for client in clients:
        client.socket.close()


class Role:
    """One Acceptor, with quotas, in front of a Processor that only takes connections."""

    def __init__(self, nursery, *, queue=math.inf, rate=None, backlog=50, **limits):
        self.nursery = nursery
        self.quotas = ConnectionQuotas(**limits)
        self.quotas.add_listener("PLAINTEXT", max_connection_creation_rate=rate)
        config = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
        server = SocketServerConfig(socket_listen_backlog_size=backlog)
        self.listener = Listener(config, server)
        self.port = self.listener.bound_address[1]
        send, self.accepted = trio.open_memory_channel(queue)
        self.acceptor = Acceptor(
            self.listener, [SimpleNamespace(new_connections=send)], self.quotas
        )
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def start(self):
        self.nursery.start_soon(self._run)
        await settled()

    async def _run(self):
        with self.scope:
            await self.acceptor.run()
        self.ended.set()

    async def stop(self):
        self.scope.cancel()
        await self.ended.wait()

    @property
    def handed_over(self) -> int:
        return self.accepted.statistics().current_buffer_used


def close_all(accepted: trio.MemoryReceiveChannel) -> None:
    while True:
        try:
            accepted.receive_nowait().close()
        except (trio.WouldBlock, trio.ClosedResourceError):
            break


@pytest.fixture
async def role(nursery):
    roles = []

    async def start(**settings) -> Role:
        roles.append(Role(nursery, **settings))
        await roles[-1].start()
        return roles[-1]

    yield start
    for started in roles:
        await started.stop()
        close_all(started.accepted)
        assert 0 == started.quotas.total


# -- addresses --------------------------------------------------------------------------------


async def test_an_address_may_have_its_own_number(role, connect):
    """SS-27: 0 for all but one address."""
    started = await role(
        max_connections_per_ip=0, max_connections_per_ip_overrides={"127.0.0.1": 5}
    )
    clients = [connect(started.port) for _ in range(6)]
    other = connect(started.port, "127.0.0.2")
    await settled()
    assert [True] * 5 + [False] == [client.is_open for client in clients]
    assert not other.is_open
    assert 5 == started.handed_over


async def test_an_address_may_be_named(role, connect):
    """SS-28."""
    started = await role(
        max_connections_per_ip=1,
        max_connections_per_ip_overrides=resolve_overrides({"localhost": 2}),
    )
    clients = [connect(started.port) for _ in range(3)]
    others = [connect(started.port, "127.0.0.2") for _ in range(2)]
    await settled()
    assert [True, True, False] == [client.is_open for client in clients]
    assert [True, False] == [client.is_open for client in others]


async def test_an_address_over_its_rate_is_kept_unread_and_then_closed(role, connect, mock_clock):
    """SS-30: 6 and 7 wait to be closed; then a new one is served."""
    started = await role()
    started.quotas.set_ip_rate(None, 5)
    clients = [connect(started.port) for _ in range(7)]
    for client in clients:
        client.ask(b"x")
    await settled()
    assert (5, 2) == (started.handed_over, started.acceptor.statistics().unread)
    assert 5 == started.quotas.total
    mock_clock.jump(0.19)
    await settled()
    assert all(client.is_open for client in clients)
    mock_clock.jump(0.02)
    await settled()
    assert [True] * 5 + [False] * 2 == [client.is_open for client in clients]
    assert 0 == started.acceptor.statistics().unread
    again = connect(started.port)
    await settled()
    assert again.is_open
    assert 6 == started.handed_over
    assert 0 == started.acceptor.blocked_time_ns


async def test_whoever_is_due_first_is_closed_first(role, connect, mock_clock):
    """GX-05, §11.2 no. 6: by deadline, at the deadline."""
    started = await role()
    started.quotas.set_ip_rate("127.0.0.1", 1)
    started.quotas.set_ip_rate("127.0.0.2", 4)
    late = [connect(started.port) for _ in range(2)][-1]
    early = [connect(started.port, "127.0.0.2") for _ in range(5)][-1]
    await settled()
    mock_clock.jump(0.24)
    await settled()
    assert (True, True) == (late.is_open, early.is_open)
    mock_clock.jump(0.02)
    await settled()
    assert (True, False) == (late.is_open, early.is_open)
    mock_clock.jump(0.73)
    await settled()
    assert late.is_open
    mock_clock.jump(0.02)
    await settled()
    assert not late.is_open


async def test_connections_kept_unread_are_closed_on_shutdown(role, connect, mock_clock):
    """SS-31: although their delay never passes."""
    started = await role()
    started.quotas.set_ip_rate(None, 0)
    clients = [connect(started.port) for _ in range(3)]
    await settled()
    assert 3 == started.acceptor.statistics().unread
    await started.stop()
    assert not any(client.is_open for client in clients)
    assert 0 == started.acceptor.statistics().unread


async def test_connections_kept_unread_are_bounded(role, connect, mock_clock, monkeypatch):
    """What is over the bound is closed without the delay; others are served as before."""
    monkeypatch.setattr(acceptor_module, "MAX_UNREAD", 2)
    started = await role()
    started.quotas.set_ip_rate("127.0.0.1", 0)
    clients = [connect(started.port) for _ in range(4)]
    other = connect(started.port, "127.0.0.2")
    await settled()
    assert [True, True, False, False] == [client.is_open for client in clients]
    assert other.is_open
    assert 1 == started.handed_over


# -- rates of listener and plane --------------------------------------------------------------


async def test_a_connection_over_the_rate_waits_for_its_token(role, connect, mock_clock):
    started = await role(rate=2)
    for _ in range(4):
        connect(started.port)
    await settled()
    assert (2, 2) == (started.handed_over, started.acceptor.statistics().delayed)
    mock_clock.jump(0.49)
    await settled()
    assert 2 == started.handed_over
    mock_clock.jump(0.02)
    await settled()
    assert (3, 1) == (started.handed_over, started.acceptor.statistics().delayed)
    mock_clock.jump(0.5)
    await settled()
    assert (4, 0) == (started.handed_over, started.acceptor.statistics().delayed)
    assert 0 == started.acceptor.blocked_time_ns


async def test_a_connection_that_waits_delays_nobody_else(role, connect, mock_clock):
    """§11.2 no. 5: what comes later is judged at once."""
    started = await role(rate=3, max_connections_per_ip_overrides={"127.0.0.2": 0})
    started.quotas.set_ip_rate("127.0.0.3", 0)
    for _ in range(5):
        connect(started.port)
    too_many = connect(started.port, "127.0.0.2")
    too_fast = connect(started.port, "127.0.0.3")
    await settled()
    assert 2 == started.acceptor.statistics().delayed
    assert not too_many.is_open
    assert 1 == started.acceptor.statistics().unread
    assert too_fast.is_open
    assert 0 == started.acceptor.blocked_time_ns


async def test_what_would_wait_too_long_stays_in_the_backlog(role, connect, mock_clock):
    started = await role(rate=1)
    for _ in range(4):
        connect(started.port)
    await settled()
    assert (1, 1) == (started.handed_over, started.acceptor.statistics().delayed)
    assert 2 == started.quotas.total
    assert started.acceptor.blocked_time_ns > 0  # also while it still waits
    for expected in (2, 3, 4):
        mock_clock.jump(1)
        await settled()
        assert expected == started.handed_over


async def test_connections_that_wait_are_bounded(role, connect, mock_clock, monkeypatch):
    """Above the bound nobody is accepted until one is done; the backlog holds the rest."""
    monkeypatch.setattr(acceptor_module, "MAX_DELAYED", 2)
    started = await role(rate=10)
    for _ in range(16):
        connect(started.port)
    await settled()
    assert (10, 2) == (started.handed_over, started.acceptor.statistics().delayed)
    assert 13 == started.quotas.total  # one more is in the Acceptor's hands
    assert started.acceptor.blocked_time_ns > 0
    for number in range(11, 17):
        mock_clock.jump(0.1)
        await settled()
        assert number == started.handed_over


async def test_connections_that_wait_are_closed_on_shutdown(role, connect, mock_clock):
    """GX-07: and give their places back."""
    started = await role(rate=2)
    clients = [connect(started.port) for _ in range(4)]
    await settled()
    await started.stop()
    assert [True, True, False, False] == [client.is_open for client in clients]
    assert 2 == started.quotas.total


async def test_a_client_that_left_while_it_waited_is_handed_over_like_others(
    role, connect, mock_clock
):
    started = await role(rate=1)
    connect(started.port)
    connect(started.port).socket.close()
    await settled()
    mock_clock.jump(1)
    await settled()
    assert 2 == started.handed_over


async def test_one_that_waits_can_be_evicted(role, connect, mock_clock):
    """GX-13: the excess is gone at once, whatever state the connections are in."""
    started = await role(rate=1)
    clients = [connect(started.port) for _ in range(2)]
    await settled()
    started.quotas.reconfigure(max_connections=0)
    assert 0 == started.quotas.total
    assert [False, False] == [client.is_open for client in clients]
    mock_clock.jump(1)
    await settled()
    assert 0 == started.acceptor.statistics().delayed


# -- Processors that are full or gone ----------------------------------------------------------


async def test_full_processors_block_the_acceptor_and_lose_nothing(role, connect):
    """SS-64: one place in the queue, five quick connections."""
    started = await role(queue=1)
    for _ in range(5):
        connect(started.port)
    await settled()
    assert (1, 2) == (started.handed_over, started.quotas.total)
    blocked = started.acceptor.blocked_time_ns
    assert blocked > 0
    for _ in range(5):
        (await started.accepted.receive()).close()
    assert started.acceptor.statistics().blocked_time_ns > blocked


async def test_a_blocked_acceptor_can_be_stopped(role, connect):
    """SS-09."""
    started = await role(queue=1)
    clients = [connect(started.port) for _ in range(2)]
    await settled()
    await started.stop()
    assert [True, False] == [client.is_open for client in clients]


@pytest.mark.parametrize("rate", [None, 1])
async def test_a_processor_that_ended_closes_what_it_is_given(role, connect, mock_clock, rate):
    """§11.2 no. 7, KAFKA-16768: no socket and no count is lost."""
    started = await role(rate=rate)
    if rate:
        connect(started.port)
        await settled()
        started.accepted.receive_nowait().close()
    started.accepted.close()
    client = connect(started.port)
    await settled()
    mock_clock.jump(1)
    await settled()
    assert not client.is_open
    assert 0 == started.quotas.total


async def test_processors_take_turns(nursery, connect):
    channels = [trio.open_memory_channel(size) for size in (2, 5, 5)]
    quotas = ConnectionQuotas()
    quotas.add_listener("A")
    listener = Listener(ListenerConfig(name="A", host="127.0.0.1", port=0), SocketServerConfig())
    processors = [SimpleNamespace(new_connections=send) for send, _ in channels]
    nursery.start_soon(Acceptor(listener, processors, quotas).run)
    for _ in range(9):
        connect(listener.bound_address[1])
    await settled()
    assert [2, 4, 3] == [receive.statistics().current_buffer_used for _, receive in channels]
    nursery.cancel_scope.cancel()
    for _, receive in channels:
        close_all(receive)
    assert 0 == quotas.total


# -- failures ---------------------------------------------------------------------------------


class FailingSocket:
    """A listening socket whose first calls of ``accept`` fail."""

    def __init__(self, listening: socket.socket, errors: list[Exception]):
        self._listening = listening
        self._errors = errors

    def fileno(self):
        return self._listening.fileno()

    def accept(self):
        if self._errors:
            raise self._errors.pop(0)
        return self._listening.accept()

    def close(self):
        self._listening.close()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ECONNRESET])
async def test_errors_about_one_connection_are_ignored(role, connect, caplog, number):
    started = await role()
    started.listener.socket = FailingSocket(started.listener.socket, [OSError(number, "gone")])
    with caplog.at_level(logging.DEBUG):
        connect(started.port)
        await settled()
    assert 1 == started.handed_over
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_without_descriptors_it_waits_and_goes_on(role, connect, caplog, mock_clock, number):
    started = await role()
    started.listener.socket = FailingSocket(started.listener.socket, [OSError(number, "none left")])
    connect(started.port)
    await settled()
    assert "PLAINTEXT: accepting failed: none left" in caplog.text
    assert 0 == started.handed_over
    mock_clock.jump(0.1)
    await settled()
    assert 1 == started.handed_over


async def test_unexpected_errors_are_survived_twice(nursery, connect, caplog, mock_clock):
    """The third within ten seconds ends the role; nothing stays open."""
    started = Role(nursery)
    started.listener.socket = FailingSocket(
        started.listener.socket, [ValueError("a bug") for _ in range(3)]
    )
    connect(started.port)
    with pytest.raises(ExceptionGroup) as caught:
        await started.acceptor.run()
    (error,) = caught.value.exceptions
    assert ["Acceptor PLAINTEXT: failure 3 within 10 s; giving up"] == error.__notes__
    assert 2 == caplog.text.count("Acceptor PLAINTEXT: a step failed")
    assert 3 == started.acceptor.statistics().failures
    with pytest.raises(ConnectionRefusedError):
        connect(started.port)


async def test_a_removed_listener_ends_its_acceptor(role, connect, caplog):
    """GX-07: while it waits for room; the sockets in the backlog are reset."""
    started = await role(max_connections=1)
    clients = [connect(started.port) for _ in range(2)]
    await settled()
    with caplog.at_level(logging.INFO):
        started.quotas.remove_listener("PLAINTEXT")
        await started.ended.wait()
    assert "PLAINTEXT: accepts no more: there is no listener PLAINTEXT" in caplog.text
    assert [True, False] == [client.is_open for client in clients]
    with pytest.raises(ConnectionRefusedError):
        connect(started.port)


# -- a whole server ---------------------------------------------------------------------------


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
    serve, connect, mock_clock
):
    """DQ-06, §11.2 no. 9: over all Processors, one each, and none that is in a request."""
    server = await serve(max_connections=5, num_network_threads=3)
    clients = []
    for _ in range(5):
        clients.append(connect(server.port("EXTERNAL")))
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
        internal.append(connect(server.port("INTERNAL")))
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


async def test_a_request_in_progress_gives_way_if_nobody_is_idle(serve, connect):
    """Its handler is left to finish; the late answer is harmless (SS-40)."""
    server = await serve(max_connections=1)
    client = connect(server.port("EXTERNAL"))
    client.ask(b"slow")
    await settled()
    internal = connect(server.port("INTERNAL"))
    await settled()
    assert not client.is_open
    server.gate.set()
    internal.ask(b"x")
    await settled()
    assert b"x" == internal.answer()
    assert 1 == server.quotas.total == server.socket_server.data_plane.connection_count


async def test_lowering_the_number_at_run_time_closes_the_excess(serve, connect, mock_clock):
    """DQ-03 with sockets: exactly as many as are too many."""
    server = await serve()
    clients = []
    for _ in range(8):
        clients.append(connect(server.port("EXTERNAL")))
        await settled()
        mock_clock.jump(1)
    server.quotas.reconfigure(max_connections=5)
    assert [False] * 3 + [True] * 5 == [client.is_open for client in clients]
    await settled()
    assert 5 == server.socket_server.data_plane.connection_count


async def test_a_full_listener_does_not_hold_up_the_others(serve, connect):
    """DQ-04, DQ-05: the one above waits until one closes, or until the number is raised."""
    server = await serve(external={"max_connections": 1})
    first, second, third = (connect(server.port("EXTERNAL")) for _ in range(3))
    for client in (first, second, third):
        client.ask(b"x")
    internal = connect(server.port("INTERNAL"))
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


async def test_limits_of_the_data_plane_do_not_reach_the_control_plane(serve, connect, mock_clock):
    """GX-03: full, over its rate and with its address at the limit, the data plane is by itself."""
    server = await serve(
        max_connections=1, max_connection_creation_rate=1, max_connections_per_ip=2
    )
    for _ in range(3):
        connect(server.port("EXTERNAL"))
    await settled()
    admins = [connect(server.port("CONTROLLER")) for _ in range(3)]
    for admin in admins[:2]:
        admin.ask(b"x")
    await settled()
    assert [b"x", b"x"] == [admin.answer() for admin in admins[:2]]
    assert not admins[2].is_open  # the limit per address holds on each plane by itself


async def test_the_control_plane_has_the_limits_of_its_listener(serve, connect, mock_clock):
    server = await serve(control={"max_connections": 2, "max_connection_creation_rate": 1})
    admins = [connect(server.port("CONTROLLER")) for _ in range(3)]
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
    with pytest.raises(TrioKafkaError, match=r"overrides=a\.\.b:5"):
        SocketServer([listener], handle=answering(lambda request: b""), config=config)


async def test_stopping_while_everybody_waits_leaves_nothing(serve, connect, mock_clock):
    """GX-07, GX-11: delayed, unread, in the backlog, and served."""
    server = await serve(external={"max_connection_creation_rate": 2})
    server.quotas.set_ip_rate("127.0.0.2", 0)
    clients = [connect(server.port("EXTERNAL")) for _ in range(5)]
    clients += [connect(server.port("EXTERNAL"), "127.0.0.2")]
    await settled()
    await server.socket_server.stop()
    await settled()
    assert not any(client.is_open for client in clients)
    statistics = server.quotas.statistics()
    assert (0, 0) == (statistics.total, statistics.addresses)
