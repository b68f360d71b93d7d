"""One Acceptor and its quotas: sockets that wait, are kept unread, refused, or handed over."""

from __future__ import annotations

import errno
import logging
import math
import socket
from functools import partial
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from trio_kafka_net import ListenerConfig, SocketServerConfig
from trio_kafka_net.network import acceptor as acceptor_module
from trio_kafka_net.network.acceptor import Acceptor
from trio_kafka_net.network.connection_quotas import ConnectionQuotas
from trio_kafka_net.network.ip_quotas import resolve_overrides
from trio_kafka_net.network.listener import Listener

settled = partial(trio.testing.wait_all_tasks_blocked, 0.002)


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


async def test_an_address_may_have_its_own_number(role, dial):
    """SS-27: 0 for all but one address."""
    started = await role(
        max_connections_per_ip=0, max_connections_per_ip_overrides={"127.0.0.1": 5}
    )
    clients = [dial(started.port) for _ in range(6)]
    other = dial(started.port, "127.0.0.2")
    await settled()
    assert [True] * 5 + [False] == [client.is_open for client in clients]
    assert not other.is_open
    assert 5 == started.handed_over


async def test_an_address_may_be_named(role, dial):
    """SS-28."""
    started = await role(
        max_connections_per_ip=1,
        max_connections_per_ip_overrides=resolve_overrides({"localhost": 2}),
    )
    clients = [dial(started.port) for _ in range(3)]
    others = [dial(started.port, "127.0.0.2") for _ in range(2)]
    await settled()
    assert [True, True, False] == [client.is_open for client in clients]
    assert [True, False] == [client.is_open for client in others]


async def test_an_address_over_its_rate_is_kept_unread_and_then_closed(role, dial, mock_clock):
    """SS-30: 6 and 7 wait to be closed; then a new one is served."""
    started = await role()
    started.quotas.set_ip_rate(None, 5)
    clients = [dial(started.port) for _ in range(7)]
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
    again = dial(started.port)
    await settled()
    assert again.is_open
    assert 6 == started.handed_over
    assert 0 == started.acceptor.blocked_time_ns


async def test_whoever_is_due_first_is_closed_first(role, dial, mock_clock):
    """GX-05, difference 6: by deadline, at the deadline."""
    started = await role()
    started.quotas.set_ip_rate("127.0.0.1", 1)
    started.quotas.set_ip_rate("127.0.0.2", 4)
    late = [dial(started.port) for _ in range(2)][-1]
    early = [dial(started.port, "127.0.0.2") for _ in range(5)][-1]
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


async def test_connections_kept_unread_are_closed_on_shutdown(role, dial, mock_clock):
    """SS-31: although their delay never passes."""
    started = await role()
    started.quotas.set_ip_rate(None, 0)
    clients = [dial(started.port) for _ in range(3)]
    await settled()
    assert 3 == started.acceptor.statistics().unread
    await started.stop()
    assert not any(client.is_open for client in clients)
    assert 0 == started.acceptor.statistics().unread


async def test_connections_kept_unread_are_bounded(role, dial, mock_clock, monkeypatch):
    """What is over the bound is closed without the delay; others are served as before."""
    monkeypatch.setattr(acceptor_module, "MAX_UNREAD", 2)
    started = await role()
    started.quotas.set_ip_rate("127.0.0.1", 0)
    clients = [dial(started.port) for _ in range(4)]
    other = dial(started.port, "127.0.0.2")
    await settled()
    assert [True, True, False, False] == [client.is_open for client in clients]
    assert other.is_open
    assert 1 == started.handed_over


# -- rates of listener and plane --------------------------------------------------------------


async def test_a_connection_over_the_rate_waits_for_its_token(role, dial, mock_clock):
    started = await role(rate=2)
    for _ in range(4):
        dial(started.port)
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


async def test_a_connection_that_waits_delays_nobody_else(role, dial, mock_clock):
    """Difference 5: what comes later is judged at once."""
    started = await role(rate=3, max_connections_per_ip_overrides={"127.0.0.2": 0})
    started.quotas.set_ip_rate("127.0.0.3", 0)
    for _ in range(5):
        dial(started.port)
    too_many = dial(started.port, "127.0.0.2")
    too_fast = dial(started.port, "127.0.0.3")
    await settled()
    assert 2 == started.acceptor.statistics().delayed
    assert not too_many.is_open
    assert 1 == started.acceptor.statistics().unread
    assert too_fast.is_open
    assert 0 == started.acceptor.blocked_time_ns


async def test_what_would_wait_too_long_stays_in_the_backlog(role, dial, mock_clock):
    started = await role(rate=1)
    for _ in range(4):
        dial(started.port)
    await settled()
    assert (1, 1) == (started.handed_over, started.acceptor.statistics().delayed)
    assert 2 == started.quotas.total
    assert started.acceptor.blocked_time_ns > 0  # also while it still waits
    for expected in (2, 3, 4):
        mock_clock.jump(1)
        await settled()
        assert expected == started.handed_over


async def test_connections_that_wait_are_bounded(role, dial, mock_clock, monkeypatch):
    """Above the bound nobody is accepted until one is done; the backlog holds the rest."""
    monkeypatch.setattr(acceptor_module, "MAX_DELAYED", 2)
    started = await role(rate=10)
    for _ in range(16):
        dial(started.port)
    await settled()
    assert (10, 2) == (started.handed_over, started.acceptor.statistics().delayed)
    assert 13 == started.quotas.total  # one more is in the Acceptor's hands
    assert started.acceptor.blocked_time_ns > 0
    for number in range(11, 17):
        mock_clock.jump(0.1)
        await settled()
        assert number == started.handed_over


async def test_connections_that_wait_are_closed_on_shutdown(role, dial, mock_clock):
    """GX-07: and give their places back."""
    started = await role(rate=2)
    clients = [dial(started.port) for _ in range(4)]
    await settled()
    await started.stop()
    assert [True, True, False, False] == [client.is_open for client in clients]
    assert 2 == started.quotas.total


async def test_a_client_that_left_while_it_waited_is_handed_over_like_others(
    role, dial, mock_clock
):
    started = await role(rate=1)
    dial(started.port)
    dial(started.port).socket.close()
    await settled()
    mock_clock.jump(1)
    await settled()
    assert 2 == started.handed_over


async def test_one_that_waits_can_be_evicted(role, dial, mock_clock):
    """GX-13: the excess is gone at once, whatever state the connections are in."""
    started = await role(rate=1)
    clients = [dial(started.port) for _ in range(2)]
    await settled()
    started.quotas.reconfigure(max_connections=0)
    assert 0 == started.quotas.total
    assert [False, False] == [client.is_open for client in clients]
    mock_clock.jump(1)
    await settled()
    assert 0 == started.acceptor.statistics().delayed


# -- Processors that are full or gone ----------------------------------------------------------


async def test_full_processors_block_the_acceptor_and_lose_nothing(role, dial):
    """SS-64: one place in the queue, five quick connections."""
    started = await role(queue=1)
    for _ in range(5):
        dial(started.port)
    await settled()
    assert (1, 2) == (started.handed_over, started.quotas.total)
    blocked = started.acceptor.blocked_time_ns
    assert blocked > 0
    for _ in range(5):
        (await started.accepted.receive()).close()
    assert started.acceptor.statistics().blocked_time_ns > blocked


async def test_a_blocked_acceptor_can_be_stopped(role, dial):
    """SS-09."""
    started = await role(queue=1)
    clients = [dial(started.port) for _ in range(2)]
    await settled()
    await started.stop()
    assert [True, False] == [client.is_open for client in clients]


@pytest.mark.parametrize("rate", [None, 1])
async def test_a_processor_that_ended_closes_what_it_is_given(role, dial, mock_clock, rate):
    """Difference 7, KAFKA-16768: no socket and no count is lost."""
    started = await role(rate=rate)
    if rate:
        dial(started.port)
        await settled()
        started.accepted.receive_nowait().close()
    started.accepted.close()
    client = dial(started.port)
    await settled()
    mock_clock.jump(1)
    await settled()
    assert not client.is_open
    assert 0 == started.quotas.total


async def test_processors_take_turns(nursery, dial):
    channels = [trio.open_memory_channel(size) for size in (2, 5, 5)]
    quotas = ConnectionQuotas()
    quotas.add_listener("A")
    listener = Listener(ListenerConfig(name="A", host="127.0.0.1", port=0), SocketServerConfig())
    processors = [SimpleNamespace(new_connections=send) for send, _ in channels]
    nursery.start_soon(Acceptor(listener, processors, quotas).run)
    for _ in range(9):
        dial(listener.bound_address[1])
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
async def test_errors_about_one_connection_are_ignored(role, dial, caplog, number):
    started = await role()
    started.listener.socket = FailingSocket(started.listener.socket, [OSError(number, "gone")])
    with caplog.at_level(logging.DEBUG):
        dial(started.port)
        await settled()
    assert 1 == started.handed_over
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_without_descriptors_it_waits_and_goes_on(role, dial, caplog, mock_clock, number):
    started = await role()
    started.listener.socket = FailingSocket(started.listener.socket, [OSError(number, "none left")])
    dial(started.port)
    await settled()
    assert "PLAINTEXT: accepting failed: none left" in caplog.text
    assert 0 == started.handed_over
    mock_clock.jump(0.1)
    await settled()
    assert 1 == started.handed_over


async def test_unexpected_errors_are_survived_twice(nursery, dial, caplog, mock_clock):
    """The third within ten seconds ends the role; nothing stays open."""
    started = Role(nursery)
    started.listener.socket = FailingSocket(
        started.listener.socket, [ValueError("a bug") for _ in range(3)]
    )
    dial(started.port)
    with pytest.raises(ExceptionGroup) as caught:
        await started.acceptor.run()
    (error,) = caught.value.exceptions
    assert ["Acceptor PLAINTEXT: failure 3 within 10 s; giving up"] == error.__notes__
    assert 2 == caplog.text.count("Acceptor PLAINTEXT: a step failed")
    assert 3 == started.acceptor.statistics().failures
    with pytest.raises(ConnectionRefusedError):
        dial(started.port)


async def test_a_removed_listener_ends_its_acceptor(role, dial, caplog):
    """GX-07: while it waits for room; the sockets in the backlog are reset."""
    started = await role(max_connections=1)
    clients = [dial(started.port) for _ in range(2)]
    await settled()
    with caplog.at_level(logging.INFO):
        started.quotas.remove_listener("PLAINTEXT")
        await started.ended.wait()
    assert "PLAINTEXT: accepts no more: there is no listener PLAINTEXT" in caplog.text
    assert [True, False] == [client.is_open for client in clients]
    with pytest.raises(ConnectionRefusedError):
        dial(started.port)
