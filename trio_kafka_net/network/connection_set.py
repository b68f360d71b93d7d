"""The connections of one Processor: watched, timed, and given back exactly once.

A connection is in the set from its registration to its close: in the selector, in the deadlines,
perhaps among those that wait for memory. Closing takes it out of all of them and gives back its
descriptor, its memory and its place in the limits, whatever goes wrong on the way.

The set belongs to the tasks of its Processor; nothing here has a checkpoint except the two
coroutines.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import trio

from .connection import Connection, DisconnectCause
from .deadlines import Deadlines, Patience
from .memory_pool import MemoryPool
from .processor_statistics import ProcessorCounters
from .selector import BROKEN, PEER_CLOSED, Selector

log = logging.getLogger(__name__)

_DISCARD_BYTES = 64 * 1024
"""Unread bytes forgotten at once when a connection ends."""


class ConnectionSet:
    """The connections of one Processor."""

    def __init__(
        self,
        selector: Selector,
        memory_pool: MemoryPool,
        patience: Patience,
        counters: ProcessorCounters,
    ) -> None:
        """Begin empty.

        Args:
            selector: watches the connections; closed with the set.
            memory_pool: where frames in progress have their memory from.
            patience: how slow a peer may be.
            counters: the Processor's; told the end of every connection.
        """
        self.selector = selector
        self._counters = counters
        self._pool = memory_pool
        self._deadlines = Deadlines(patience)
        self._sooner = trio.Event()  # set when a deadline came up before the one waited for
        self._awaited_deadline = math.inf
        self._emptied = trio.Event()
        # {connection: the memory pool's way to wake it}, connections whose frame awaits memory
        self._memory_waiters: dict[Connection, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self.selector.connections)

    def __iter__(self) -> Iterator[Connection]:
        """Those that are there now; they may be closed meanwhile."""
        return iter(list(self.selector.connections.values()))

    def add(self, connection: Connection, now: float) -> None:
        """Watch a connection, a new one or one that another set had.

        Raises:
            OSError: the kernel refused; the connection is not in the set.
        """
        self.selector.register(connection)
        connection.frame_is_watched = connection.send_is_watched = False
        self._deadlines.connection_opened(connection)
        if connection.frame_begun is not None:
            self._deadlines.frame_begun(connection, connection.frame_begun)
        if connection.pending_send is not None:
            self._deadlines.send_stalled(connection, now)
        self._note_deadline()

    def take_out(self, connection: Connection) -> None:
        """Stop watching a connection without closing it, for another set to go on."""
        self.selector.remove(connection)
        self._forget_memory(connection)

    async def wait_empty(self) -> None:
        """Return when the last connection is closed."""
        while self.selector.connections:
            self._emptied = trio.Event()
            await self._emptied.wait()

    # -- whether a connection is read ---------------------------------------------------------

    def listen_again(self, connection: Connection) -> None:
        """Report the connection when there is something to read."""
        if not connection.reads_interest:
            connection.reads_interest = True
            self.selector.update(connection)

    def silence(self, connection: Connection, events: int) -> None:
        """Note that something arrived for a connection that is not to be read now.

        If what arrived is the end of the peer, a parked request of it is cancelled.
        """
        if events & (PEER_CLOSED | BROKEN) and not connection.peer_gone:
            connection.peer_gone = True
            _cancel_parked(connection)
        connection.reads_interest = False
        if events & BROKEN:
            self.selector.suspend(connection)  # would be reported for ever
        else:
            self.selector.update(connection)

    def await_memory(self, connection: Connection, retry: Callable[[Connection], None]) -> None:
        """Call ``retry`` once when the pool may have memory for the frame in progress."""

        def wake() -> None:
            del self._memory_waiters[connection]
            retry(connection)

        self._memory_waiters[connection] = wake
        self._pool.notify_when_free(wake)

    def _forget_memory(self, connection: Connection) -> None:
        wake = self._memory_waiters.pop(connection, None)
        if wake is not None:
            self._pool.forget(wake)

    # -- deadlines ----------------------------------------------------------------------------

    def frame_begun(self, connection: Connection, now: float) -> None:
        """Expect the rest of a frame of which a part has come."""
        self._deadlines.frame_begun(connection, now)
        self._note_deadline()

    def send_stalled(self, connection: Connection, now: float) -> None:
        """Expect the peer to take a response that the socket did not take at once."""
        self._deadlines.send_stalled(connection, now)
        self._note_deadline()

    def _note_deadline(self) -> None:
        if self._deadlines.next() < self._awaited_deadline:
            self._sooner.set()

    async def run_deadlines(self) -> None:
        """Close the connections with which our patience is over, until cancelled."""
        while True:
            self._sooner = trio.Event()
            self._awaited_deadline = self._deadlines.next()
            with trio.move_on_at(self._awaited_deadline):
                await self._sooner.wait()
            for connection, cause in self._deadlines.expired(trio.current_time()):
                if connection.is_open:
                    log.info("%s: closing: %s", connection.connection_id, cause.label)
                    self.close(connection, cause)

    # -- the end of a connection --------------------------------------------------------------

    def close(self, connection: Connection, cause: DisconnectCause) -> None:
        """Close and give everything back: descriptor, memory, place in the limits."""
        connection.cause = cause
        self._counters.connection_ends(connection, cause)
        log.debug("%s: closed: %s", connection.connection_id, cause.label)
        try:
            self.selector.remove(connection)
        except OSError as error:
            # Closing the descriptor takes it out of the kernel's set as well.
            log.warning("%s: not unregistered: %s", connection.connection_id, error)
        finally:
            # Whatever the selector said, nothing of the connection is kept.
            self._give_back(connection)
            connection.transport.close()
            if not self.selector.connections:
                self._emptied.set()

    def _give_back(self, connection: Connection) -> None:
        self._deadlines.connection_closed()
        self._forget_memory(connection)
        held = connection.receive.discard()
        connection.pending_send = None
        _cancel_parked(connection)
        end_request(connection)
        if connection.slot is not None:
            connection.slot.release()
        if held:
            self._pool.release(held)  # last: it may wake others

    def part_with(self, connection: Connection) -> None:
        """Close without taking back what was sent.

        Closing a socket with unread bytes resets the connection, and the reset destroys what the
        peer has not read yet: the last response. So if there is anything unread, or more of a
        frame is still to come, sending ends first, and the connection closes when the peer does.
        """
        if connection.receive.is_empty and not self.discard_unread(connection):
            return
        try:
            connection.transport.end_sending()
        except OSError:
            self.close(connection, DisconnectCause.SHUTDOWN)
            return
        connection.is_lingering = True
        self.listen_again(connection)

    def discard_unread(self, connection: Connection) -> bool:
        """Read and forget what is there; close if that was all.

        Returns:
            Whether there was any.
        """
        try:
            if connection.transport.recv_into(bytearray(_DISCARD_BYTES)):
                return True
        except BlockingIOError:
            if connection.is_lingering:
                return False
        except OSError:
            pass
        self.close(connection, DisconnectCause.SHUTDOWN)
        return False

    def close_all(self) -> None:
        """Close every connection, and the selector."""
        for connection in self:
            self.close(connection, DisconnectCause.SHUTDOWN)
        self.selector.close()


def end_request(connection: Connection) -> None:
    """The request in progress has nothing more to expect of its connection."""
    request, connection.request = connection.request, None
    if request is not None:
        request.leave_connection()


def _cancel_parked(connection: Connection) -> None:
    request = connection.request
    if request is not None and request.parked_scope is not None:
        request.parked_scope.cancel()
