"""What tests of connection limits have in common: three listeners, and somebody who connects."""

from __future__ import annotations

import attrs
import trio

from trio_kafka_net.errors import ConnectionThrottledError
from trio_kafka_net.network.connection_quotas import ConnectionQuotas, ConnectionSlot

LISTENERS = ("EXTERNAL", "ADMIN", "REPLICATION")
IP = "10.0.0.1"


def quotas_with(*, listener_limits=None, listeners=LISTENERS, **limits) -> ConnectionQuotas:
    """Three listeners, of which REPLICATION is the one for other brokers."""
    quotas = ConnectionQuotas(protected_listener="REPLICATION", **limits)
    for name in listeners:
        quotas.add_listener(name, **(listener_limits or {}).get(name, {}))
    return quotas


def figures(quotas: ConnectionQuotas, listener: str):
    return next(x for x in quotas.statistics().listeners if x.name == listener)


def acquire(quotas, listener, times=1, address=IP) -> list[ConnectionSlot]:
    return [quotas.acquire_nowait(listener, address) for _ in range(times)]


async def offer(quotas, listener, per_second, seconds, address=IP) -> list[float]:
    """Offer connections at a rate, as an Acceptor does; returns when each is to be served.

    Those over the rate of their address are left out.
    """
    started = trio.current_time()
    served = []
    for number in range(per_second * seconds):
        await trio.sleep_until(started + number / per_second)
        await quotas.wait_for_room(listener)
        try:
            served.append(quotas.acquire_nowait(listener, address).ready_at - started)
        except ConnectionThrottledError:
            continue
    return served


def within(times: list[float], begin: float, end: float) -> int:
    return sum(begin <= time < end for time in times)


@attrs.define
class Holder:
    """A connection that can be evicted."""

    slot: ConnectionSlot
    last_active: float
    is_busy: bool = False
    is_closed: bool = False

    def __attrs_post_init__(self):
        self.slot.holder = self

    def evict(self):
        assert not self.is_closed
        self.is_closed = True
        self.slot.release()
