"""When the patience with a connection ends.

A peer may be slow in three ways, and each has its own limit:

==============  ======================================================  =========================
silent          nothing moves, nothing is in progress                   connections.max.idle.ms
slow writer     a frame has begun and does not become whole             trio.frame.timeout.ms, and
                                                                        a minimum rate for its size
slow reader     no byte of a response is taken                          trio.write.stall.timeout.ms
==============  ======================================================  =========================

A request in progress has no limit of this kind: it is ours to finish. (Kafka has one timer for all
of this, which kills connections whose request takes long, and lets a peer that sends a byte now and
then hold memory for ever.)

How it costs nothing. A heap holds (deadline, number, connection, kind), at most one entry per
connection and kind. Activity only writes ``connection.last_active``; when an entry comes up, it is
looked at whether the deadline has really passed, and if not, the entry goes back with the new one.
So a request that arrives and leaves in one piece touches no heap.
"""

from __future__ import annotations

import enum
import math
from heapq import heapify, heappop, heappush

import attrs

from .connection import Connection, DisconnectCause


@attrs.frozen(kw_only=True)
class Patience:
    """The limits, in seconds; infinite is for ever."""

    idle_seconds: float = math.inf
    """Silence without a request in progress."""
    frame_seconds: float = math.inf
    """From the first byte of a frame to its last, the time for its size not counted."""
    bytes_per_second: float = math.inf
    """What a peer must reach in the long run: a frame has size / this longer."""
    stall_seconds: float = math.inf
    """Between two bytes of a response that the peer takes."""


class _Kind(enum.IntEnum):
    IDLE = 0
    FRAME = 1
    STALL = 2


_Entry = tuple[float, int, Connection, _Kind]

_DONE = math.inf


class Deadlines:
    """The deadlines of a Processor's connections, in seconds on its clock."""

    def __init__(self, patience: Patience) -> None:
        """Watch nothing yet."""
        self._patience = patience
        self._heap: list[_Entry] = []
        self._count = 0
        self._closed = 0  # entries of closed connections; an estimate that is never too low

    def connection_opened(self, connection: Connection) -> None:
        """Watch for silence from ``connection.last_active`` on."""
        if self._patience.idle_seconds < math.inf:
            self._push(connection.last_active + self._patience.idle_seconds, connection, _Kind.IDLE)

    def frame_begun(self, connection: Connection, now: float) -> None:
        """Watch a frame of which a part has come at ``now``."""
        connection.frame_begun = now
        if self._patience.frame_seconds < math.inf and not connection.frame_is_watched:
            connection.frame_is_watched = True
            self._push(self._frame_deadline(connection, now), connection, _Kind.FRAME)

    def send_stalled(self, connection: Connection, now: float) -> None:
        """Watch a response that the socket did not take at once."""
        if self._patience.stall_seconds < math.inf and not connection.send_is_watched:
            connection.send_is_watched = True
            self._push(now + self._patience.stall_seconds, connection, _Kind.STALL)

    def connection_closed(self) -> None:
        """Note that a watched connection has closed; its entries go away sooner or later."""
        self._closed += 1
        if self._closed > 64 and self._closed * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].is_open]
            heapify(self._heap)
            self._closed = 0

    def next(self) -> float:
        """When to look again; infinite if nothing is watched."""
        return self._heap[0][0] if self._heap else math.inf

    def expired(self, now: float) -> list[tuple[Connection, DisconnectCause]]:
        """Take out the connections with which our patience is over at ``now``, and why."""
        over = []
        while self._heap and self._heap[0][0] <= now:
            _, _, connection, kind = heappop(self._heap)
            if not connection.is_open:
                continue
            deadline, cause = self._current(connection, kind, now)
            if deadline <= now:
                over.append((connection, cause))
            elif deadline < _DONE:
                self._push(deadline, connection, kind)
        return over

    def _current(
        self, connection: Connection, kind: _Kind, now: float
    ) -> tuple[float, DisconnectCause]:
        """The deadline as of now: past, later, or done with."""
        if kind is _Kind.FRAME:
            connection.frame_is_watched = connection.frame_begun is not None
            return self._frame_deadline(connection, now), DisconnectCause.SLOW_WRITER
        if kind is _Kind.STALL:
            connection.send_is_watched = connection.pending_send is not None
            deadline = connection.last_active + self._patience.stall_seconds
            return deadline if connection.send_is_watched else _DONE, DisconnectCause.SLOW_READER
        if connection.request is not None or connection.receive.awaits_memory:
            return now + self._patience.idle_seconds, DisconnectCause.IDLE
        return connection.last_active + self._patience.idle_seconds, DisconnectCause.IDLE

    def _frame_deadline(self, connection: Connection, now: float) -> float:
        if connection.frame_begun is None:
            return _DONE
        if connection.receive.awaits_memory:
            connection.frame_begun = now  # it waits for us, not we for it
        size = connection.receive.announced_size
        patience = self._patience
        return connection.frame_begun + patience.frame_seconds + size / patience.bytes_per_second

    def _push(self, deadline: float, connection: Connection, kind: _Kind) -> None:
        self._count += 1
        heappush(self._heap, (deadline, self._count, connection, kind))
