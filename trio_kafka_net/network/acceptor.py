"""The Acceptor: takes connections off a listening socket and deals them out to Processors."""

from __future__ import annotations

import errno
import logging
import socket
from time import perf_counter_ns

import trio

from trio_kafka_net.errors import FatalExitError, TooManyConnectionsError

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
        self._quotas = quotas
        self._turn = 0
        self._failures = FailureCount(f"Acceptor {listener.name}")
        self.blocked_time_ns = 0
        """Time spent waiting for room: in the limits, or in every Processor's queue."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until cancelled; the listening socket is closed on the way out.

        Cancellation: a connection that was accepted and not handed over is closed.
        """
        task_status.started()
        try:
            while True:
                await trio.lowlevel.wait_readable(self.listener.socket)
                await self._wait_for_room()
                for _ in range(_ACCEPTS_PER_PASS):
                    try:
                        new = await self._accept()
                    except (FatalExitError, MemoryError):
                        raise
                    except Exception as error:
                        self._failures.survive(error)
                        break
                    if new is None:
                        break
                    await self._hand_over(new)
        finally:
            trio.lowlevel.notify_closing(self.listener.socket)
            self.listener.close()

    async def _wait_for_room(self) -> None:
        started = perf_counter_ns()
        await self._quotas.wait_for_room()
        self.blocked_time_ns += perf_counter_ns() - started

    async def _accept(self) -> NewConnection | None:
        """The next connection within the limits, or None if the backlog is empty."""
        while self._quotas.has_room:
            try:
                accepted, address = self.listener.socket.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _CAPACITY_ERRNOS:
                    log.error("%s: accepting failed: %s", self.listener.name, error.strerror)
                    await trio.sleep(_CAPACITY_BACK_OFF_SECONDS)
                    return None
                if error.errno in _IGNORABLE_ERRNOS:
                    continue
                raise
            new = self._admit(accepted, address)
            if new is not None:
                return new
        return None

    def _admit(self, accepted: socket.socket, address: tuple[str, int]) -> NewConnection | None:
        """Count and configure an accepted socket; None if it was refused or is gone already."""
        host, port = plain_address(address[0]), address[1]
        try:
            slot = self._quotas.acquire(host)
        except TooManyConnectionsError as error:
            log.info("%s: refused a connection: %s", self.listener.name, error)
            accepted.close()
            return None
        try:
            self.listener.configure(accepted)
            local = accepted.getsockname()
            return NewConnection(
                PlaintextTransport(accepted),
                slot,
                local_address=(plain_address(local[0]), local[1]),
                remote_address=(host, port),
            )
        except OSError as error:
            log.debug("%s: %s:%d was gone at once: %s", self.listener.name, host, port, error)
            accepted.close()
            slot.release()
            return None
        except BaseException:
            accepted.close()
            slot.release()
            raise

    async def _hand_over(self, new: NewConnection) -> None:
        """Give it to the next Processor with room; wait for the last candidate if none has."""
        count = len(self.processors)
        for _ in range(count - 1):
            self._turn = (self._turn + 1) % count
            try:
                self.processors[self._turn].new_connections.send_nowait(new)
            except trio.WouldBlock:
                continue
            return
        self._turn = (self._turn + 1) % count
        started = perf_counter_ns()
        try:
            await self.processors[self._turn].new_connections.send(new)
        except BaseException:
            new.close()
            raise
        self.blocked_time_ns += perf_counter_ns() - started
