"""Limits and figures of one listener; the part of ``ConnectionQuotas`` that there is one of each.

A listener without a number or rate of its own has the plane's. For most listeners that says
nothing new, since the plane's limits bind them anyway; it is what bounds the protected one.
"""

from __future__ import annotations

import attrs

from trio_kafka_net.config.settings import MAX_INT

from .token_bucket import TokenBucket


@attrs.frozen
class ListenerQuotaStatistics:
    """Figures of one listener; all but ``open`` count from its registration on."""

    name: str
    is_protected: bool
    """Whether the plane's number and rate do not bind it now."""
    open: int
    """Connections open now, those that wait for their token included."""
    accepted: int
    """Connections that got a place."""
    refused: int
    """Connections closed because their address had too many."""
    throttled: int
    """Connections that had to wait for a token of the listener or the plane."""
    throttle_seconds: float
    """How long those had to wait, in all."""
    ip_throttled: int
    """Connections closed, after a delay, because their address was over its rate."""
    ip_throttle_seconds: float
    """Their delays, in all."""


class ListenerQuota:
    """One listener's limits, and what has happened on it.

    Source: Kafka ``ConnectionQuotas.ListenerConnectionQuota``.
    """

    __slots__ = (
        "_rate",
        "accepted",
        "bucket",
        "ip_throttle_seconds",
        "ip_throttled",
        "max_connections",
        "name",
        "open",
        "own_rate",
        "refused",
        "throttle_seconds",
        "throttled",
    )

    def __init__(
        self, name: str, max_connections: int | None, own_rate: int | None, *, plane_rate: int
    ) -> None:
        """Begin with a full bucket; None is the plane's number or rate."""
        self.name = name
        self.max_connections = max_connections
        """Connections it may have; None is the plane's number."""
        self.own_rate = own_rate
        """New connections per second; None is the plane's rate."""
        self._rate = plane_rate if own_rate is None else own_rate
        self.bucket = bucket_of(self._rate)
        """Its tokens; None without a rate."""
        self.open = 0
        self.accepted = 0
        self.refused = 0
        self.throttled = 0
        self.throttle_seconds = 0.0
        self.ip_throttled = 0
        self.ip_throttle_seconds = 0.0

    def set_rate(self, own_rate: int | None, *, plane_rate: int) -> None:
        """Change the rate, or go by the plane's; the bucket is full if that is a change."""
        self.own_rate = own_rate
        rate = plane_rate if own_rate is None else own_rate
        if rate != self._rate:
            self._rate = rate
            self.bucket = bucket_of(rate)

    def statistics(self, *, is_protected: bool) -> ListenerQuotaStatistics:
        """The figures as they are now."""
        return ListenerQuotaStatistics(
            name=self.name,
            is_protected=is_protected,
            open=self.open,
            accepted=self.accepted,
            refused=self.refused,
            throttled=self.throttled,
            throttle_seconds=self.throttle_seconds,
            ip_throttled=self.ip_throttled,
            ip_throttle_seconds=self.ip_throttle_seconds,
        )


def bucket_of(rate: int) -> TokenBucket | None:
    """A full bucket, or None for what is no limit."""
    return None if rate >= MAX_INT else TokenBucket(rate)
