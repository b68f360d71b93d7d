"""Connections as rows: who it is, what it does, how much it moves.

A row is made for those that are asked for only; of the others no more than a key to sort by is
looked at. Rates are told by comparing with an earlier look, so the first look knows none: nothing
is kept about connections while nobody looks.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from time import perf_counter_ns
from typing import Any, Final

import trio

from trio_kafka_net.apis.dispatch import KafkaRequest
from trio_kafka_net.metrics.row_filter import RowFilter
from trio_kafka_net.network.connection import Connection, MuteState
from trio_kafka_net.network.socket_server import SocketServer

MAX_LIMIT: Final = 500
"""Rows of a document."""

_COMPARE_AFTER_SECONDS: Final = 0.9
"""Looks that follow one another more quickly are compared with the same earlier one."""
_FORGET_AFTER_SECONDS: Final = 60.0
"""An earlier look is not compared with after that."""

_Look = tuple[float, dict[str, tuple[int, int]]]
"""When (seconds), and {connection id: bytes in and out so far}."""

_THROTTLED: Final = (
    MuteState.MUTED_AND_THROTTLED,
    MuteState.MUTED_AND_THROTTLED_AND_RESPONSE_PENDING,
)


class SortError(ValueError):
    """There is no such order; the text names those that there are."""


class ConnectionRows:
    """Makes the document of a server's connections."""

    def __init__(self, server: SocketServer) -> None:
        """Have not looked yet."""
        self._server = server
        self._earlier: _Look = (-_FORGET_AFTER_SECONDS, {})
        self._latest: _Look = (-_FORGET_AFTER_SECONDS, {})

    def document(
        self, sort: str = "out", reverse: bool = False, limit: int = 50, pattern: str = ""
    ) -> dict[str, Any]:
        """The first connections in some order.

        Args:
            sort: a key of ``SORT_KEYS``; numbers come with the largest first, texts by alphabet.
            reverse: turns that round.
            limit: rows at most; no more than ``MAX_LIMIT`` are given.
            pattern: chooses rows by their texts, see ``RowFilter``; empty chooses all.

        Raises:
            SortError: no such order.
            FilterError: ``pattern`` is not understood.
        """
        key = SORT_KEYS.get(sort)
        if key is None:
            raise SortError(f"sort must be one of {', '.join(SORT_KEYS)}")
        chooses = RowFilter(pattern).matches if pattern else None
        now = trio.current_time()
        found = [
            connection
            for plane in self._server.planes
            for processor in plane.processors
            for connection in processor.connections
        ]
        look = _Looking(now, self._compare_with(now, found))
        chosen = found if chooses is None else [each for each in found if chooses(look.texts(each))]
        pick = heapq.nlargest if (sort in _NUMBERS) != reverse else heapq.nsmallest
        first = pick(min(max(limit, 0), MAX_LIMIT), chosen, key=lambda each: key(look, each))
        return {
            "total": len(found),
            "matched": len(chosen),
            "connections": [look.row(each) for each in first],
        }

    def _compare_with(self, now: float, connections: Iterable[Connection]) -> _Look:
        """The look to compare with; remembers this one."""
        if now - self._latest[0] >= _COMPARE_AFTER_SECONDS:
            self._earlier = self._latest
            self._latest = (
                now,
                {each.connection_id: (each.bytes_in, bytes_out(each)) for each in connections},
            )
        if now - self._earlier[0] > _FORGET_AFTER_SECONDS:
            return (now, {})
        return self._earlier


def bytes_out(connection: Connection) -> int:
    """Bytes written to a connection, those of the response in progress included."""
    send = connection.pending_send
    return connection.bytes_out + (0 if send is None else send.size - send.unsent_bytes)


def state_of(connection: Connection) -> str:
    """What a connection is doing, in one word."""
    request = connection.request
    if request is None:
        if connection.mute_state in _THROTTLED:
            return "throttled"
        return "idle" if connection.receive.is_empty else "receiving"
    if request.response_complete_time_ns:
        return "sending"
    if request.parked_scope is not None:
        return "parked"
    return "handling" if request.dequeue_time_ns else "queued"


def api_of(connection: Connection) -> str | None:
    """Name of the API of the request in progress, if there is one."""
    request = connection.request
    return request.api.key.label if isinstance(request, KafkaRequest) else None


class _Looking:
    """One look at the connections."""

    def __init__(self, now: float, earlier: _Look) -> None:
        self._now = now
        self._now_ns = perf_counter_ns()
        self._since, self._then = earlier

    def api_age(self, connection: Connection) -> float | None:
        request = connection.request
        return None if request is None else (self._now_ns - request.start_time_ns) * 1e-9

    def idle(self, connection: Connection) -> float:
        return max(self._now - connection.last_active, 0.0)

    def rates(self, connection: Connection) -> tuple[float | None, float | None]:
        """Bytes per second in and out since the earlier look; None if it was not there then."""
        then = self._then.get(connection.connection_id)
        seconds = self._now - self._since
        if then is None or seconds <= 0:
            return None, None
        return (
            (connection.bytes_in - then[0]) / seconds,
            (bytes_out(connection) - then[1]) / seconds,
        )

    def texts(self, connection: Connection) -> str:
        """What a filter looks at."""
        parts = (
            connection.client_id,
            connection.client_software_name,
            connection.client_software_version,
            str(connection.principal),
            "{}:{}".format(*connection.remote_address),
            connection.listener_name,
            state_of(connection),
            api_of(connection) or "",
        )
        return " ".join(part[:_MAX_TEXT] for part in parts)

    def row(self, connection: Connection) -> dict[str, Any]:
        in_rate, out_rate = self.rates(connection)
        return {
            "id": connection.connection_id,
            "client_id": connection.client_id[:_MAX_TEXT],
            "software": connection.client_software_name[:_MAX_TEXT],
            "software_version": connection.client_software_version[:_MAX_TEXT],
            "principal": str(connection.principal),
            "remote": "{}:{}".format(*connection.remote_address),
            "listener": connection.listener_name,
            "plane": "control" if connection.is_privileged else "data",
            "processor": connection.processor.processor_id,
            "state": state_of(connection),
            "api": api_of(connection),
            "api_age_s": self.api_age(connection),
            "in_per_s": in_rate,
            "out_per_s": out_rate,
            "bytes_in": connection.bytes_in,
            "bytes_out": bytes_out(connection),
            "idle_s": self.idle(connection),
            "age_s": max(self._now - connection.opened_at, 0.0),
        }


_MAX_TEXT = 256
"""Characters of what clients call themselves."""

_SortKey = Callable[[_Looking, Connection], Any]

SORT_KEYS: Final[dict[str, _SortKey]] = {
    "client": lambda look, each: each.client_id,
    "software": lambda look, each: (each.client_software_name, each.client_software_version),
    "state": lambda look, each: state_of(each),
    "api": lambda look, each: api_of(each) or "",
    "age": lambda look, each: look.api_age(each) or 0.0,
    "in": lambda look, each: (look.rates(each)[0] or 0.0, each.bytes_in),
    "out": lambda look, each: (look.rates(each)[1] or 0.0, bytes_out(each)),
    "idle": lambda look, each: look.idle(each),
    "total": lambda look, each: each.bytes_in + bytes_out(each),
}
"""{name of an order: what is compared}."""
_NUMBERS: Final = frozenset({"age", "in", "out", "idle", "total"})
