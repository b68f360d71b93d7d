"""A Processor's selector: many descriptors behind one that trio can wait for.

Why not one task per connection: awaiting a socket costs trio a registration, a task switch and a
checkpoint, some 20 µs, each time. An epoll descriptor is itself readable while any descriptor in
it is ready. So a Processor registers its connections here once, awaits this one descriptor, and
then serves every ready connection of the pass without a checkpoint in between. This is what
Kafka's network thread does, and it is five times what a task per connection reaches.

What must be kept in mind:

* The registrations are level-triggered: what is not read is reported again. A connection that
  must not be read is therefore taken out of the interest set, but only when it *is* reported
  (``Processor`` decides): most muted connections are silent, and two system calls per request
  are worth avoiding.
* Hang-up and error are reported whatever the interest is. Whoever does not act on them must take
  the descriptor out, or the loop spins.
* ``close`` of a descriptor takes it out of an epoll by itself, but only if nobody duplicated it;
  so it is always taken out by hand, before it is closed.
"""

from __future__ import annotations

import selectors
import sys
from typing import Protocol

import trio

from .connection import Connection

if sys.platform == "linux":
    from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, epoll
else:
    EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP = 1, 4, 8, 16, 8192

READABLE = EPOLLIN
WRITABLE = EPOLLOUT
PEER_CLOSED = EPOLLRDHUP
"""The peer has shut down its sending side; there may still be bytes to read."""
BROKEN = EPOLLERR | EPOLLHUP
"""Reset, or closed on both sides."""


class Poller(Protocol):
    """What differs between operating systems."""

    def fileno(self) -> int:
        """A descriptor that is readable while any registered one is ready."""
        ...

    def register(self, fd: int, events: int) -> None:
        """Watch ``fd`` for ``events``."""
        ...

    def modify(self, fd: int, events: int) -> None:
        """Replace what ``fd`` is watched for."""
        ...

    def unregister(self, fd: int) -> None:
        """Stop watching ``fd``."""
        ...

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """What is ready, at most ``maxevents``; ``timeout`` in seconds, 0 does not wait."""
        ...

    def close(self) -> None:
        """Close the poller's own descriptor."""
        ...


class PortablePoller:
    """The same over ``selectors`` where there is no epoll (kqueue on macOS and the BSDs)."""

    def __init__(self) -> None:
        """Open the platform's selector."""
        self._selector = selectors.DefaultSelector()
        # {fd of every registration, those without interest included}
        self._known: set[int] = set()

    def fileno(self) -> int:
        """The selector's own descriptor."""
        fd: int = self._selector.fileno()
        return fd

    def register(self, fd: int, events: int) -> None:
        """Watch ``fd``; hang-ups show as readable here."""
        self._known.add(fd)
        wanted = self._wanted(events)
        if wanted:
            self._selector.register(fd, wanted)

    def modify(self, fd: int, events: int) -> None:
        """Replace what ``fd`` is watched for."""
        if fd not in self._known:
            raise KeyError(fd)
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        wanted = self._wanted(events)
        if wanted:
            self._selector.register(fd, wanted)

    def unregister(self, fd: int) -> None:
        """Stop watching ``fd``."""
        self._known.remove(fd)
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """What is ready; the order is the platform's."""
        ready = []
        for key, mask in self._selector.select(timeout)[:maxevents]:
            events = READABLE if mask & selectors.EVENT_READ else 0
            events |= WRITABLE if mask & selectors.EVENT_WRITE else 0
            ready.append((key.fd, events))
        return ready

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()

    @staticmethod
    def _wanted(events: int) -> int:
        wanted = selectors.EVENT_READ if events & READABLE else 0
        return wanted | (selectors.EVENT_WRITE if events & WRITABLE else 0)


def open_poller() -> Poller:
    """The fastest poller of this platform."""
    if sys.platform == "linux":
        return epoll()
    return PortablePoller()


class Selector:
    """The registrations of one Processor: {fd: connection}.

    Source: Kafka ``Selector`` without the I/O, which is the Processor's here.
    """

    def __init__(self, poller: Poller | None = None) -> None:
        """Watch nothing yet."""
        self._poller = open_poller() if poller is None else poller
        self.connections: dict[int, Connection] = {}
        """{descriptor: its connection}, every connection of the Processor."""
        self._is_closed = False

    def register(self, connection: Connection) -> None:
        """Watch a new connection for what its interest flags say.

        Raises:
            OSError: the kernel refused; nothing is registered.
        """
        self._poller.register(connection.fd, _events_of(connection))
        connection.is_registered = True
        self.connections[connection.fd] = connection

    def update(self, connection: Connection) -> None:
        """Tell the kernel that the interest flags have changed."""
        if connection.is_registered:
            self._poller.modify(connection.fd, _events_of(connection))
        else:
            self._poller.register(connection.fd, _events_of(connection))
            connection.is_registered = True

    def suspend(self, connection: Connection) -> None:
        """Watch for nothing, hang-up included, until the next ``update``."""
        if connection.is_registered:
            self._poller.unregister(connection.fd)
            connection.is_registered = False

    def remove(self, connection: Connection) -> None:
        """Forget a connection; to be called before its descriptor is closed."""
        # First here: whatever the kernel says, we have nothing more to do with it.
        self.connections.pop(connection.fd, None)
        self.suspend(connection)

    async def wait_ready(self) -> None:
        """Return when at least one connection is ready.

        Cancellation: loses nothing, readiness is level-triggered.
        """
        await trio.lowlevel.wait_readable(self._poller.fileno())

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """Up to ``limit`` ready descriptors with their events, without waiting.

        The kernel rotates what it reports, so nobody starves beyond ``limit``.
        """
        return self._poller.poll(0, limit)

    @property
    def is_ready(self) -> bool:
        """Whether ``ready`` would report anything, not after ``close``; a system call, 1 µs."""
        return not self._is_closed and bool(self._poller.poll(0, 1))

    def close(self) -> None:
        """Close the selector's own descriptor; connections are not closed."""
        self._is_closed = True
        trio.lowlevel.notify_closing(self._poller.fileno())
        self._poller.close()


def _events_of(connection: Connection) -> int:
    # Silent reads still watch for the peer's FIN: it is how a parked request learns that nobody
    # waits for it any more. After it was seen there is nothing more to learn.
    events = 0 if connection.peer_gone else PEER_CLOSED
    if connection.reads_interest:
        events |= READABLE | PEER_CLOSED
    if connection.writes_interest:
        events |= WRITABLE
    return events
