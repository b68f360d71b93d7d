"""How many connections there may be: in all, and from one address.

A place in the limits is an object, ``ConnectionSlot``, that belongs to a connection from the
accept on and gives its counts back exactly once, however the connection ends. Nothing is parsed
back out of a connection id, and no error path has to remember to decrement.
"""

from __future__ import annotations

from collections import Counter

import trio

from trio_kafka_net.errors import TooManyConnectionsError


class ConnectionSlot:
    """One connection's place in the limits."""

    __slots__ = ("_address", "_quotas")

    def __init__(self, quotas: ConnectionQuotas, address: str) -> None:
        """Made by ``ConnectionQuotas.acquire`` only."""
        self._quotas: ConnectionQuotas | None = quotas
        self._address = address

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        quotas, self._quotas = self._quotas, None
        if quotas is not None:
            quotas._give_back(self._address)


class ConnectionQuotas:
    """Counts connections of one plane against its limits.

    The two limits differ in kind, as in Kafka: a full server leaves new connections in the
    kernel's backlog until there is room, an address over its limit is refused at once.

    Source: Kafka ``ConnectionQuotas``.
    """

    def __init__(self, *, max_connections: int, max_connections_per_ip: int) -> None:
        """Limit the plane to ``max_connections``, and each address to its own number."""
        self._max_connections = max_connections
        self._max_per_ip = max_connections_per_ip
        # {address: open connections from it}; addresses without any are absent
        self._per_ip: Counter[str] = Counter()
        self._total = 0
        self._room = trio.Event()

    @property
    def total(self) -> int:
        """Connections open now."""
        return self._total

    @property
    def has_room(self) -> bool:
        """Whether the server is below its limit."""
        return self._total < self._max_connections

    def count(self, address: str) -> int:
        """Connections open now from ``address``."""
        return self._per_ip[address]

    async def wait_for_room(self) -> None:
        """Return when the server is below its limit.

        Cancellation: takes nothing, so loses nothing.
        Checkpoints: only if it has to wait.
        """
        while not self.has_room:
            self._room = trio.Event()
            await self._room.wait()

    def acquire(self, address: str) -> ConnectionSlot:
        """Take a place for a connection from ``address``.

        Raises:
            TooManyConnectionsError: the address has as many as it may; nothing was counted.
        """
        if self._per_ip[address] >= self._max_per_ip:
            raise TooManyConnectionsError(
                f"{address} has {self._per_ip[address]} connections, "
                f"max.connections.per.ip is {self._max_per_ip}"
            )
        self._per_ip[address] += 1
        self._total += 1
        return ConnectionSlot(self, address)

    def _give_back(self, address: str) -> None:
        self._total -= 1
        self._per_ip[address] -= 1
        if not self._per_ip[address]:
            del self._per_ip[address]
        self._room.set()
