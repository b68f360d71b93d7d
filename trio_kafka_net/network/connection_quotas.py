"""How many connections there may be, and how fast they may come.

============== ============================ ===========================================
limit          number                       rate
============== ============================ ===========================================
of the plane   new ones wait; those of the  new ones wait
               protected listener do not
of a listener  new ones wait                new ones wait
of an address  closed at once               kept open unread for the delay, then closed
============== ============================ ===========================================

A place in the limits is an object, ``ConnectionSlot``, that belongs to a connection from the
accept on and gives its counts back exactly once, however the connection ends. Nothing is parsed
back out of a connection id, and no error path has to remember to decrement.

Nobody waits in here for a token: a slot says when its connection is due, and whoever accepted it
waits with it. So one connection that must wait delays no other. What is over a *number* waits in
the kernel's backlog, because only an end of another connection can help it; so does what would
have to wait for its token longer than ``MAX_DELAY_SECONDS``.

The protected listener is the one for other brokers, if it is not the only one. It is not bound by
the plane's number and rate; when it pushes the plane above its number, the connection of another
listener that was silent for longest is closed, one for each that is too many.

All of it belongs to one event loop and one plane; between two checkpoints it is consistent.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Protocol

import attrs
import trio
from trio.lowlevel import ParkingLot

from trio_kafka_net.config.settings import MAX_INT
from trio_kafka_net.errors import (
    ConfigError,
    ConnectionThrottledError,
    TooManyConnectionsError,
    UnknownListenerError,
)

from .ip_quotas import IpQuotas
from .listener_quota import ListenerQuota, ListenerQuotaStatistics, bucket_of

MAX_DELAY_SECONDS = 1.0
"""Longest time that a connection waits for its token after it was accepted. Kafka bounds its delay
by the same figure, ``quota.window.size.seconds``; it also bounds how long a rate that was raised
or taken away goes on to be felt."""


class SlotHolder(Protocol):
    """Whoever a slot belongs to now: what can be closed to make room for somebody else."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is in progress."""
        ...

    @property
    def last_active(self) -> float:
        """When bytes last moved, seconds on trio's clock."""
        ...

    def evict(self) -> None:
        """Close, and release the slot."""
        ...


class ConnectionSlot:
    """One connection's place in the limits."""

    __slots__ = ("_address", "_quota", "_quotas", "holder", "ready_at")

    def __init__(
        self, quotas: ConnectionQuotas, quota: ListenerQuota, address: str, ready_at: float
    ) -> None:
        """Made by ``ConnectionQuotas.acquire_nowait`` only."""
        self._quotas: ConnectionQuotas | None = quotas
        self._quota = quota
        self._address = address
        self.ready_at = ready_at
        """When the connection may be served, seconds on trio's clock."""
        self.holder: SlotHolder | None = None
        """Who is closed if this place is needed; set by whoever takes the connection over."""

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        quotas, self._quotas = self._quotas, None
        self.holder = None
        if quotas is not None:
            quotas._give_back(self, self._quota, self._address)


@attrs.frozen
class ConnectionQuotasStatistics:
    """Figures of one plane."""

    total: int
    """Connections open now."""
    addresses: int
    """Addresses that they come from."""
    evicted: int
    """Connections closed to make room, since the start."""
    waiting: int
    """Listeners that wait for room now."""
    listeners: tuple[ListenerQuotaStatistics, ...]
    """One per listener, in order of registration."""


class ConnectionQuotas:
    """Counts connections of one plane against its limits.

    Numbers and rates of ``MAX_INT`` or more are no limit, as in Kafka.

    Source: Kafka ``ConnectionQuotas``; KIP-308, KIP-402, KIP-612.
    """

    def __init__(
        self,
        *,
        max_connections: int = MAX_INT,
        max_connection_creation_rate: int = MAX_INT,
        max_connections_per_ip: int = MAX_INT,
        max_connections_per_ip_overrides: Mapping[str, int] | None = None,
        protected_listener: str | None = None,
    ) -> None:
        """Limit a plane that has no listeners yet.

        Args:
            max_connections: open at once, on all listeners together.
            max_connection_creation_rate: new ones per second, on all listeners together.
            max_connections_per_ip: open at once from one address.
            max_connections_per_ip_overrides: {literal address: its own number}.
            protected_listener: name of the listener for other brokers.
        """
        self._max_connections = max_connections
        self._rate = max_connection_creation_rate
        self._bucket = bucket_of(max_connection_creation_rate)
        self._ips = IpQuotas(
            max_connections=max_connections_per_ip,
            overrides=dict(max_connections_per_ip_overrides or {}),
        )
        self._protected_name = protected_listener
        self._listeners: dict[str, ListenerQuota] = {}
        # {slot in use: its listener}, in order of acquisition
        self._slots: dict[ConnectionSlot, ListenerQuota] = {}
        self._changed = ParkingLot()
        self._evicted = 0

    # -- what there is ------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Connections open now."""
        return len(self._slots)

    def count(self, address: str) -> int:
        """Connections open now from ``address``."""
        return self._ips.count(address)

    def ip_rate(self, address: str) -> int:
        """Connections per second that ``address`` may make; ``MAX_INT`` is no limit."""
        return self._ips.rate(address)

    def statistics(self) -> ConnectionQuotasStatistics:
        """The figures as they are now."""
        return ConnectionQuotasStatistics(
            total=self.total,
            addresses=self._ips.addresses,
            evicted=self._evicted,
            waiting=len(self._changed),
            listeners=tuple(
                quota.statistics(is_protected=self._is_protected(quota))
                for quota in self._listeners.values()
            ),
        )

    # -- listeners ----------------------------------------------------------------------------

    def add_listener(
        self,
        name: str,
        *,
        max_connections: int | None = None,
        max_connection_creation_rate: int | None = None,
    ) -> None:
        """Register a listener.

        Args:
            name: unique within the plane.
            max_connections: open at once; None is the plane's number.
            max_connection_creation_rate: new ones per second; None is the plane's rate.
        """
        self._listeners[name] = ListenerQuota(
            name, max_connections, max_connection_creation_rate, plane_rate=self._rate
        )
        self._changed.unpark_all()

    def remove_listener(self, name: str) -> None:
        """Forget a listener; its open connections count for plane and address until they end.

        Whoever waits for room on it gets ``UnknownListenerError``.

        Raises:
            UnknownListenerError: there is no such listener.
        """
        self._listener(name)
        del self._listeners[name]
        self._changed.unpark_all()

    # -- a place for a connection -------------------------------------------------------------

    def has_room(self, listener: str) -> bool:
        """Whether ``listener`` may accept another connection now.

        Raises:
            UnknownListenerError: there is no such listener.
        """
        now = trio.current_time()
        return self._room_at(self._listener(listener), now) <= now

    async def wait_for_room(self, listener: str) -> None:
        """Return when ``listener`` may accept another connection.

        Raises:
            UnknownListenerError: there is no such listener, or it was removed meanwhile.

        Cancellation: takes nothing, so loses nothing.
        Checkpoints: only if it has to wait.
        """
        while True:
            now = trio.current_time()
            room_at = self._room_at(self._listener(listener), now)
            if room_at <= now:
                return
            with trio.move_on_at(room_at):
                await self._changed.park()

    def acquire_nowait(self, listener: str, address: str) -> ConnectionSlot:
        """Take a place for a connection.

        Above the plane's number, which only the protected listener may be, the connection that
        was silent for longest is closed.

        Args:
            listener: where it was accepted.
            address: where it comes from, a literal.

        Returns:
            Its place; not to be served before the slot's ``ready_at``.

        Raises:
            trio.WouldBlock: there is no room.
            TooManyConnectionsError: the address has as many as it may.
            ConnectionThrottledError: the address is over its rate.
            UnknownListenerError: there is no such listener.
            In all cases nothing was counted and no token was taken.

        Source: Kafka ``ConnectionQuotas.inc``. An address is judged first here, so that nobody
            waits in order to be refused.
        """
        now = trio.current_time()
        quota = self._listener(listener)
        if self._room_at(quota, now) > now:
            raise trio.WouldBlock
        try:
            key = self._ips.admit(address, now)
        except TooManyConnectionsError:
            quota.refused += 1
            raise
        except ConnectionThrottledError as error:
            quota.ip_throttled += 1
            quota.ip_throttle_seconds += error.delay_seconds
            raise
        self._evict(self.total + 1 - self._max_connections)
        slot = ConnectionSlot(self, quota, key, self._take_tokens(quota, now))
        self._ips.add(key)
        quota.open += 1
        quota.accepted += 1
        self._slots[slot] = quota
        return slot

    def _give_back(self, slot: ConnectionSlot, quota: ListenerQuota, address: str) -> None:
        del self._slots[slot]
        quota.open -= 1
        self._ips.remove(address)
        self._changed.unpark_all()

    # -- changes at run time ------------------------------------------------------------------

    def reconfigure(
        self,
        *,
        max_connections: int | None = None,
        max_connection_creation_rate: int | None = None,
        max_connections_per_ip: int | None = None,
        max_connections_per_ip_overrides: Mapping[str, int] | None = None,
    ) -> None:
        """Change limits of the plane; None leaves one as it is.

        A raised or removed number lets waiting connections in at once. With a lowered
        ``max_connections`` those that are too many are closed, silent ones first; with a lowered
        number per address they stay. A changed rate holds for connections accepted from now on
        and begins with a full bucket.

        Raises:
            ConfigError: a value is not allowed; nothing changed.

        Source: Kafka ``SocketServer.reconfigure``.
        """
        ips = self._ips
        per_ip = ips.max_connections if max_connections_per_ip is None else max_connections_per_ip
        overrides = (
            ips.overrides
            if max_connections_per_ip_overrides is None
            else dict(max_connections_per_ip_overrides)
        )
        _check("max.connections", max_connections, at_least=0)
        _check("max.connection.creation.rate", max_connection_creation_rate, at_least=0)
        _check("max.connections.per.ip", per_ip, at_least=0 if overrides else 1)
        for address, number in overrides.items():
            _check(f"max.connections.per.ip.overrides={address}", number, at_least=0)
        ips.max_connections, ips.overrides = per_ip, overrides
        if max_connections is not None:
            self._max_connections = max_connections
            self._evict(self.total - max_connections)
        if max_connection_creation_rate is not None:
            self._set_rate(max_connection_creation_rate)
        self._changed.unpark_all()

    def reconfigure_listener(
        self, name: str, *, max_connections: int | None, max_connection_creation_rate: int | None
    ) -> None:
        """Change the limits of a listener; None is the plane's.

        As in ``reconfigure``, except that nobody is closed for a lowered number.

        Raises:
            ConfigError: a value is not allowed; nothing changed.
            UnknownListenerError: there is no such listener.

        Source: Kafka ``ListenerConnectionQuota.reconfigure``.
        """
        quota = self._listener(name)
        prefix = f"listener.name.{name.lower()}"
        _check(f"{prefix}.max.connections", max_connections, at_least=1)
        _check(f"{prefix}.max.connection.creation.rate", max_connection_creation_rate, at_least=1)
        quota.max_connections = max_connections
        quota.set_rate(max_connection_creation_rate, plane_rate=self._rate)
        self._changed.unpark_all()

    def set_ip_rate(self, address: str | None, rate: int | None) -> None:
        """Limit how many connections per second an address may make.

        Args:
            address: IPv4 or IPv6 literal, or None for all addresses without a rate of their own.
            rate: connections per second, 0 for none at all; None takes the limit away.

        Raises:
            ConfigError: ``address`` is no literal, or ``rate`` is negative; nothing changed.

        Source: Kafka ``updateIpConnectionRateQuota``; KIP-612.
        """
        self._ips.set_rate(address, rate)

    # -- within -------------------------------------------------------------------------------

    def _listener(self, name: str) -> ListenerQuota:
        try:
            return self._listeners[name]
        except KeyError:
            raise UnknownListenerError(f"there is no listener {name}") from None

    def _is_protected(self, quota: ListenerQuota) -> bool:
        return quota.name == self._protected_name and len(self._listeners) > 1

    def _set_rate(self, rate: int) -> None:
        if rate == self._rate:
            return  # whoever sets what is set already must not fill the buckets
        self._rate = rate
        self._bucket = bucket_of(rate)
        for quota in self._listeners.values():
            quota.set_rate(quota.own_rate, plane_rate=rate)

    def _room_at(self, quota: ListenerQuota, now: float) -> float:
        """When there is room, seconds; infinite if only a change can make it."""
        own = self._max_connections if quota.max_connections is None else quota.max_connections
        is_bound = not self._is_protected(quota)
        if quota.open >= own or (is_bound and self.total >= self._max_connections):
            return math.inf
        due = now
        if quota.bucket is not None:
            due = quota.bucket.due(now)
        if is_bound and self._bucket is not None:
            due = max(due, self._bucket.due(now))
        return due - MAX_DELAY_SECONDS

    def _take_tokens(self, quota: ListenerQuota, now: float) -> float:
        """Take a token of everything that has a rate; returns when the last one is there."""
        ready_at = now
        if quota.bucket is not None:
            ready_at = quota.bucket.take(now)
        if self._bucket is not None and not self._is_protected(quota):
            ready_at = max(ready_at, self._bucket.take(now))
        if ready_at > now:
            quota.throttled += 1
            quota.throttle_seconds += ready_at - now
        return ready_at

    def _evict(self, excess: int) -> None:
        """Close ``excess`` connections of unprotected listeners, or as many as there are.

        A scan of all connections: it costs nothing while nobody is evicted, and 0.2 ms per
        thousand connections when somebody is (benchmarks/connection_quotas.py).
        """
        if excess <= 0:
            return
        holders = [
            slot.holder
            for slot, quota in self._slots.items()
            if slot.holder is not None and not self._is_protected(quota)
        ]
        for holder in heapq.nsmallest(excess, holders, key=_closes_first):
            self._evicted += 1
            holder.evict()


def _closes_first(holder: SlotHolder) -> tuple[bool, float]:
    return holder.is_busy, holder.last_active


def _check(key: str, number: int | None, *, at_least: int) -> None:
    if number is not None and number < at_least:
        raise ConfigError(f"{key}={number}: must be {at_least} or more")
