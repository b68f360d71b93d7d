"""What one address may do: how many connections it may have, and how fast it may make them.

Addresses are literals without a scope, IPv4 ones in IPv4 notation, as in Kafka, which compares
the bytes of an address and nothing else. Memory is bounded by what is open or happened within the
last second: counts of addresses without a connection are absent, and a bucket that is full again
is dropped.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Mapping

from trio_kafka_net.config.settings import MAX_INT
from trio_kafka_net.errors import (
    ConfigError,
    ConnectionThrottledError,
    TooManyConnectionsError,
)

from .listener import plain_address
from .token_bucket import TokenBucket

MAX_IP_DELAY_SECONDS = 1.0
"""Longest time that a connection over its address's rate is kept open; Kafka's default for it,
``quota.window.size.seconds``."""

_SWEEP_ABOVE = 1024
"""Buckets below which sweeping is not worth it: some 100 KiB."""


def resolve_overrides(limits: Mapping[str, int]) -> dict[str, int]:
    """Resolve ``max.connections.per.ip.overrides``: a name stands for all of its addresses.

    Asks the resolver, which may block for seconds: call it before the event loop serves anybody,
    or in a thread.

    Args:
        limits: {name or literal address: connections}; of two that are the same address the
            later one counts.

    Returns:
        {literal address: connections}.

    Raises:
        ConfigError: a name does not resolve.

    Source: Kafka ``ConnectionQuotas``, which takes the first address of a name only.
    """
    resolved = {}
    for host, limit in limits.items():
        try:
            found = socket.getaddrinfo(without_scope(host), None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"max.connections.per.ip.overrides={host}:{limit}: {host} does not resolve: "
                f"{reason}"
            ) from error
        for *_, address in found:
            resolved[plain_address(str(address[0]))] = limit
    return resolved


def without_scope(address: str) -> str:
    """An address without the interface that ``%`` names in a link-local one."""
    return address.partition("%")[0]


class IpQuotas:
    """Connections and rates per address; the part of ``ConnectionQuotas`` that knows addresses.

    Source: Kafka ``ConnectionQuotas``, KIP-308 and KIP-612.
    """

    def __init__(self, *, max_connections: int, overrides: Mapping[str, int]) -> None:
        """Allow each address ``max_connections``, and those in ``overrides`` their own number."""
        self.max_connections = max_connections
        """Connections of an address without a number of its own."""
        self.overrides = overrides
        """{literal address: connections}."""
        # {address: open connections from it}; addresses without any are absent
        self._open: Counter[str] = Counter()
        # {address: connections per second}, None for all others
        self._rates: dict[str | None, int] = {}
        # {address: its bucket}; one that is missing is full
        self._buckets: dict[str, TokenBucket] = {}
        self._sweep_above = _SWEEP_ABOVE

    def count(self, address: str) -> int:
        """Connections open now from ``address``."""
        return self._open[without_scope(address)]

    def rate(self, address: str) -> int:
        """Connections per second that ``address`` may make."""
        rates = self._rates
        return rates.get(without_scope(address), rates.get(None, MAX_INT))

    @property
    def addresses(self) -> int:
        """Addresses with at least one connection."""
        return len(self._open)

    def set_rate(self, address: str | None, rate: int | None) -> None:
        """Limit how many connections per second an address may make.

        Args:
            address: IPv4 or IPv6 literal, or None for all addresses without a rate of their own.
            rate: connections per second, 0 for none at all; None takes the limit away.

        Raises:
            ConfigError: ``address`` is no literal, or ``rate`` is negative; nothing changed.

        Source: Kafka ``updateIpConnectionRateQuota``; KIP-612.
        """
        key = None if address is None else literal_address(address)
        if rate is not None and rate < 0:
            raise ConfigError(f"connection_creation_rate={rate}: must be 0 or more")
        if self._rates.get(key) == rate:
            return  # whoever sets what is set already must not fill the buckets
        if rate is None:
            del self._rates[key]
        else:
            self._rates[key] = rate
        if key is None:
            self._buckets = {a: b for a, b in self._buckets.items() if a in self._rates}
        else:
            self._buckets.pop(key, None)

    def admit(self, address: str, now: float) -> str:
        """Take a token of an address's rate if it may have one more connection.

        Returns:
            The key to ``add`` and ``remove`` its connection with.

        Raises:
            TooManyConnectionsError: it has as many as it may; nothing was taken.
            ConnectionThrottledError: it is over its rate; nothing was taken.
        """
        key = without_scope(address)
        limit = self.overrides.get(key, self.max_connections)
        if self._open[key] >= limit:
            raise TooManyConnectionsError(
                f"{address} has {self._open[key]} connections, max.connections.per.ip is {limit}"
            )
        rate = self.rate(key)
        if rate < MAX_INT:
            self._take_token(key, rate, now)
        return key

    def add(self, key: str) -> None:
        """Count a connection."""
        self._open[key] += 1

    def remove(self, key: str) -> None:
        """Count a connection that was added no more."""
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def _take_token(self, key: str, rate: int, now: float) -> None:
        bucket = self._buckets.get(key)
        if bucket is None:
            self._sweep(now)
            bucket = self._buckets[key] = TokenBucket(rate)
        due = bucket.due(now)
        if due > now:
            raise ConnectionThrottledError(
                f"{key} makes more than {rate} connections per second",
                delay_seconds=min(due - now, MAX_IP_DELAY_SECONDS),
            )
        bucket.take(now)

    def _sweep(self, now: float) -> None:
        """Drop what says nothing; each sweep is paid for by as many new buckets."""
        if len(self._buckets) < self._sweep_above:
            return
        self._buckets = {a: b for a, b in self._buckets.items() if not b.is_as_new(now)}
        self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._buckets))


def literal_address(address: str) -> str:
    """An address in its one spelling, without a scope.

    Raises:
        ConfigError: it is none; names are not looked up.
    """
    try:
        parsed = ipaddress.ip_address(without_scope(plain_address(address)))
    except ValueError:
        raise ConfigError(f"ip={address}: must be an IPv4 or IPv6 address") from None
    return str(parsed)
