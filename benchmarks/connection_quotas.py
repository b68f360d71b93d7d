"""What the connection limits cost: a place taken and given back, an eviction, a waiting task.

python benchmarks/connection_quotas.py
"""

from __future__ import annotations

import tracemalloc
from time import perf_counter

import attrs
import trio
import trio.testing

from trio_kafka_net.config.settings import MAX_INT
from trio_kafka_net.network.connection_quotas import ConnectionQuotas, ConnectionSlot

_ROUNDS = 20_000
_WAITING = 1_000


@attrs.define
class Holder:
    """A connection as the quotas see it."""

    slot: ConnectionSlot
    last_active: float
    is_busy: bool = False

    def evict(self) -> None:
        """Give the place back."""
        self.slot.release()


def microseconds_per_place(limit: int) -> float:
    """Ask for room, take a place, give it back; every limit set to ``limit``."""
    quotas = ConnectionQuotas(
        max_connections=limit, max_connections_per_ip=limit, max_connection_creation_rate=limit
    )
    quotas.add_listener("EXTERNAL")
    quotas.set_ip_rate(None, limit)
    started = perf_counter()
    for _ in range(_ROUNDS):
        quotas.has_room("EXTERNAL")
        quotas.acquire_nowait("EXTERNAL", "192.0.2.1").release()
    return (perf_counter() - started) / _ROUNDS * 1e6


def milliseconds_per_eviction(connections: int) -> float:
    """The inter-broker listener takes places of a full plane."""
    quotas = ConnectionQuotas(max_connections=connections, protected_listener="INTERNAL")
    quotas.add_listener("EXTERNAL")
    quotas.add_listener("INTERNAL", max_connections=MAX_INT)
    for number in range(connections):
        slot = quotas.acquire_nowait("EXTERNAL", "192.0.2.1")
        slot.holder = Holder(slot, float(number * 7919 % connections))
    started = perf_counter()
    for _ in range(20):
        quotas.acquire_nowait("INTERNAL", "192.0.2.2")
    return (perf_counter() - started) / 20 * 1e3


async def bytes_per_waiting_task() -> float:
    """A task that waits for its connection's token."""
    async with trio.open_nursery() as nursery:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(_WAITING):
            nursery.start_soon(trio.sleep_until, trio.current_time() + 1e6)
        await trio.testing.wait_all_tasks_blocked()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        nursery.cancel_scope.cancel()
    return (after - before) / _WAITING


async def main() -> None:
    """Print one line per figure."""
    print(f"a place, without limits           {microseconds_per_place(MAX_INT):8.2f} µs")
    print(f"a place, with every limit         {microseconds_per_place(10**8):8.2f} µs")
    for connections in (1_000, 10_000):
        took = milliseconds_per_eviction(connections)
        print(f"an eviction of {connections:6} connections {took:8.2f} ms")
    print(f"a waiting task                    {await bytes_per_waiting_task():8.0f} bytes")


if __name__ == "__main__":
    trio.run(main)
