"""Lets throttled connections go when their delay is over.

A throttled connection has its answer already, with the time that it shall wait; whether the client
waits or not, the next request is not read before the delay is over (KIP-219). One task ends all
delays of a broker, in the order of their deadlines.

A delay may be long: bytes over a small quota make hours. So what is kept for it is small, and what
belongs to connections that are gone is thrown out before it can outnumber the rest.
"""

from __future__ import annotations

import math
from collections import Counter
from heapq import heapify, heappop, heappush
from typing import Final

import trio

from trio_kafka_net.network.request_channel import Request

_COMPACT_ABOVE: Final = 64
"""Delays below which looking for closed connections is not worth it."""


_Delay = tuple[float, int, Request, str]
"""Deadline (trio's clock), number, the request, the kind of quota."""


class Throttler:
    """The delays of a broker's connections.

    Source: Kafka ``ThrottledChannel`` and ``ClientQuotaManager.ThrottledChannelReaper``.
    """

    def __init__(self) -> None:
        """Hold nobody back."""
        self.throttled_ms: Counter[str] = Counter()
        """{kind of quota: time that clients were told to wait, added up}."""
        self._heap: list[_Delay] = []
        self._count = 0
        self._compact_above = _COMPACT_ABOVE
        self._sooner = trio.Event()
        self._awaited = math.inf

    @property
    def waiting(self) -> Counter[str]:
        """{kind of quota: connections that it holds back now}."""
        return Counter(reason for _, _, request, reason in self._heap if request.connection.is_open)

    @property
    def next_deadline(self) -> float:
        """When the next connection may go on, seconds on trio's clock; infinite if none waits."""
        return self._heap[0][0] if self._heap else math.inf

    def throttle(self, request: Request, delay_ms: int, reason: str) -> None:
        """Keep the connection of a request muted, beyond its answer, for ``delay_ms``.

        Called once per request, before its answer; ``reason`` is the kind of quota.
        """
        if not request.connection.is_open:
            return
        self.throttled_ms[reason] += delay_ms
        request.start_throttling()
        if len(self._heap) >= self._compact_above:
            self._compact()
        deadline = trio.current_time() + delay_ms / 1000
        self._count += 1
        heappush(self._heap, (deadline, self._count, request, reason))
        if deadline < self._awaited:
            self._sooner.set()

    def _compact(self) -> None:
        self._heap = [delay for delay in self._heap if delay[2].connection.is_open]
        heapify(self._heap)
        self._compact_above = max(_COMPACT_ABOVE, 2 * len(self._heap))

    async def run(self) -> None:
        """End delays when they are over, until cancelled.

        Cancellation: the connections stay muted; they are about to be closed.
        """
        while True:
            self._sooner = trio.Event()
            self._awaited = self.next_deadline
            with trio.move_on_at(self._awaited):
                await self._sooner.wait()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                _, _, request, _ = heappop(self._heap)
                if request.connection.is_open:
                    request.end_throttling()
