"""The Acceptor: takes connections off a listening socket and deals them out to Processors.

A connection that has to wait delays no other. What waits for its token, or is kept unread until
it is closed, does so in a task of its own that owns the socket; the Acceptor goes on. The number
of such tasks is bounded: above it nobody is accepted on this listener until one is done, and the
kernel's backlog holds the rest. Nothing that is accepted can be forgotten: the socket and its
place in the limits belong to a scope until they belong to a Processor.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter_ns

import attrs
import trio

from trio_kafka_net.errors import (
    ConnectionThrottledError,
    FatalExitError,
    TooManyConnectionsError,
    UnknownListenerError,
)

from .connection import NewConnection
from .connection_quotas import ConnectionQuotas
from .listener import Listener, plain_address
from .processor import Processor
from .supervision import FailureCount
from .transport import PlaintextTransport

log = logging.getLogger(__name__)

# The process or the system is out of descriptors or memory: others must first give some back.
_CAPACITY_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_CAPACITY_BACK_OFF_SECONDS = 0.1

# What accept(2) reports about the one connection it took from the backlog, not about the
# listening socket: that connection is gone, the next one may be fine.
_IGNORABLE_ERRNOS = {
    getattr(errno, name)
    for name in (
        "EPERM",
        "ECONNABORTED",
        "EPROTO",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
        "ENOSR",
        "ESOCKTNOSUPPORT",
        "EPROTONOSUPPORT",
        "ETIMEDOUT",
        "ECONNRESET",
    )
    if hasattr(errno, name)
}

_ACCEPTS_PER_PASS = 32
"""Connections accepted between two checkpoints."""

MAX_DELAYED = 256
"""Connections of a listener that wait for their token at once, a descriptor and a task of 2.6 KiB
each (benchmarks/connection_quotas.py). A rate of up to 256 per second never has more waiting, since
nobody waits here for longer than a second. With a higher rate more of a flood stays in the
kernel's backlog; that delays nobody for longer, since they all wait for the same tokens."""

MAX_UNREAD = 256
"""Connections of a listener that are kept open unread at once. They hold no place in the limits, so
this bounds the descriptors that addresses over their rate can occupy; above it they are closed
without the delay, which is a courtesy and not the limit."""

_OWN = "self"
"""Stands for the address of a connection that the server makes to itself."""


@attrs.frozen
class AcceptorStatistics:
    """Figures of one Acceptor."""

    listener: str
    """Name of its listener."""
    blocked_time_ns: int
    """Time, up to now, in which it accepted nobody although somebody wanted in; its growth per
    time, in per cent, is Kafka's AcceptorBlockedPercent."""
    delayed: int
    """Connections that wait for their token now."""
    unread: int
    """Connections over their address's rate that wait to be closed now."""
    failures: int
    """Unexpected errors that it survived."""


class Acceptor:
    """Accepts on one listener and hands connections to its Processors in turn.

    Source: Kafka ``SocketServer.Acceptor``.
    """

    def __init__(
        self, listener: Listener, processors: list[Processor], quotas: ConnectionQuotas
    ) -> None:
        """Deal connections of ``listener`` out to ``processors``, within ``quotas``."""
        self.listener = listener
        self.processors = processors
        """Those that get connections; changes when Processors are added or removed."""
        self.own_peer: tuple[str, int] | None = None
        """Address of a connection that this server makes to itself: the limit on connections of an
        address counts it apart, so that they cannot keep each other out."""
        self._quotas = quotas
        self._turn = 0
        self._failures = FailureCount(f"Acceptor {listener.name}")
        self._delayed = trio.CapacityLimiter(MAX_DELAYED)
        self._unread = 0
        self._blocked_time_ns = 0
        self._blocked_since_ns: int | None = None

    @property
    def blocked_time_ns(self) -> int:
        """Time spent waiting for room: in the limits, or in every Processor's queue."""
        if self._blocked_since_ns is None:
            return self._blocked_time_ns
        return self._blocked_time_ns + perf_counter_ns() - self._blocked_since_ns

    def statistics(self) -> AcceptorStatistics:
        """The figures as they are now."""
        return AcceptorStatistics(
            listener=self.listener.name,
            blocked_time_ns=self.blocked_time_ns,
            delayed=int(self._delayed.borrowed_tokens),
            unread=self._unread,
            failures=self._failures.total,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until cancelled, or until the quotas do not know the listener any more.

        The listening socket is closed on the way out.

        Cancellation: a connection that was accepted and not handed over is closed.
        """
        task_status.started()
        try:
            async with trio.open_nursery() as waits:
                await self._accept_all(waits)
                waits.cancel_scope.cancel()
        finally:
            trio.lowlevel.notify_closing(self.listener.socket)
            self.listener.close()

    async def _accept_all(self, waits: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.listener.socket)
            try:
                await self._wait_for_room()
                await self._accept_some(waits)
            except UnknownListenerError as error:
                log.info("%s: accepts no more: %s", self.listener.name, error)
                return
            except (FatalExitError, MemoryError):
                raise
            except Exception as error:
                self._failures.survive(error)

    async def _wait_for_room(self) -> None:
        if not self._quotas.has_room(self.listener.name):
            with self._blocked():
                await self._quotas.wait_for_room(self.listener.name)

    @contextmanager
    def _blocked(self) -> Iterator[None]:
        started = self._blocked_since_ns = perf_counter_ns()
        try:
            yield
        finally:
            self._blocked_since_ns = None
            self._blocked_time_ns += perf_counter_ns() - started

    async def _accept_some(self, waits: trio.Nursery) -> None:
        """Accept until the backlog is empty, a limit is reached, or others must have a turn."""
        for _ in range(_ACCEPTS_PER_PASS):
            if not self._quotas.has_room(self.listener.name):
                return
            try:
                accepted, address = self.listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _IGNORABLE_ERRNOS:
                    continue
                if error.errno not in _CAPACITY_ERRNOS:
                    raise
                log.error("%s: accepting failed: %s", self.listener.name, error.strerror)
                await trio.sleep(_CAPACITY_BACK_OFF_SECONDS)
                return
            new = self._admit(accepted, address, waits)
            if new is not None:
                await self._pass_on(new, waits)

    def _admit(
        self, accepted: socket.socket, address: tuple[str, int], waits: trio.Nursery
    ) -> NewConnection | None:
        """Count and configure an accepted socket; None if it was refused or is gone already."""
        host, port = plain_address(address[0]), address[1]
        with ExitStack() as unless_admitted:
            unless_admitted.callback(accepted.close)
            try:
                origin = _OWN if (host, port) == self.own_peer else host
                slot = self._quotas.acquire_nowait(self.listener.name, origin)
                unless_admitted.callback(slot.release)
                self.listener.configure(accepted)
                local = accepted.getsockname()
            except TooManyConnectionsError as error:
                log.info("%s: refused a connection: %s", self.listener.name, error)
                return None
            except ConnectionThrottledError as error:
                log.debug("%s: refusing a connection: %s", self.listener.name, error)
                if self._unread < MAX_UNREAD:
                    unless_admitted.pop_all()
                    self._unread += 1
                    waits.start_soon(self._close_later, accepted, error.delay_seconds)
                return None
            except OSError as error:
                log.debug("%s: %s:%d was gone at once: %s", self.listener.name, host, port, error)
                return None
            new = NewConnection(
                PlaintextTransport(accepted),
                slot,
                local_address=(plain_address(local[0]), local[1]),
                remote_address=(host, port),
                accepted_at=trio.current_time(),
            )
            unless_admitted.pop_all()
        return new

    async def _close_later(self, accepted: socket.socket, delay_seconds: float) -> None:
        try:
            await trio.sleep(delay_seconds)
        finally:
            accepted.close()
            self._unread -= 1

    async def _pass_on(self, new: NewConnection, waits: trio.Nursery) -> None:
        """Hand it over if it is due, or leave it to a task that does when it is."""
        with _closed_on_failure(new):
            if new.slot.ready_at > trio.current_time():
                await self._start_waiting(new, waits)
            elif not self._hand_over_nowait(new):
                with self._blocked():
                    await self._hand_over(new)

    async def _start_waiting(self, new: NewConnection, waits: trio.Nursery) -> None:
        try:
            self._delayed.acquire_on_behalf_of_nowait(new)
        except trio.WouldBlock:
            with self._blocked():
                await self._delayed.acquire_on_behalf_of(new)
        waits.start_soon(self._hand_over_later, new)

    async def _hand_over_later(self, new: NewConnection) -> None:
        try:
            with _closed_on_failure(new):
                await trio.sleep_until(new.slot.ready_at)
                if not self._hand_over_nowait(new):
                    await self._hand_over(new)
        finally:
            self._delayed.release_on_behalf_of(new)

    def _hand_over_nowait(self, new: NewConnection) -> bool:
        """Give it to the next Processor with room; False if none has."""
        for _ in self.processors:
            self._turn = (self._turn + 1) % len(self.processors)
            try:
                self.processors[self._turn].new_connections.send_nowait(new)
            except trio.WouldBlock:
                continue
            return True
        return False

    async def _hand_over(self, new: NewConnection) -> None:
        """Give it to the next Processor, and wait until that has room."""
        self._turn = (self._turn + 1) % len(self.processors)
        await self.processors[self._turn].new_connections.send(new)


@contextmanager
def _closed_on_failure(new: NewConnection) -> Iterator[None]:
    """Own a connection until a Processor does; one whose Processor has ended is just closed."""
    try:
        yield
    except (trio.ClosedResourceError, trio.BrokenResourceError):
        new.close()
    except BaseException:
        new.close()
        raise
