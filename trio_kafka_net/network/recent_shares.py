"""Kafka's percentages of a SocketServer: idle Processors and handlers, blocked Acceptors.

Kafka tells shares of a moving window. Here they are of the last second, or of whatever time lies
between the last two calls of ``read``. Whoever can should compute them from the totals, over the
time that he looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.event_loop import Share
from trio_kafka_net.metrics.registry import Family, Labels, Metric, Sample

if TYPE_CHECKING:
    from .socket_server import Plane, SocketServer


class RecentShares:
    """The shares of one server over the last second."""

    def __init__(self, server: SocketServer) -> None:
        """Know nothing before the second ``read``."""
        self._server = server
        # {what it is of: the share}; of what is gone there are none
        self._shares: dict[tuple[Metric, Labels], Share] = {}

    def read(self) -> None:
        """Take a reading of everything; call it about once a second."""
        now_ns = perf_counter_ns()
        known, self._shares = self._shares, {}
        for key, total_ns, workers in self._totals():
            share = self._shares[key] = known.get(key) or Share()
            # Of the average worker: as if each second had as many as there are workers.
            share.read(total_ns // max(workers, 1), now_ns)

    def _totals(self) -> Iterator[tuple[tuple[Metric, Labels], int, int]]:
        """What is shared, how much of it so far (ns), among how many."""
        for plane in self._server.planes:
            handlers = plane.handler_pool.statistics()
            yield (names.HANDLER_IDLE_PERCENT, (plane.name,)), handlers.idle_time_ns, handlers.size
            yield from self._processors(plane)
            for acceptor in plane.acceptors:
                labels = (plane.name, acceptor.listener.name)
                yield (names.ACCEPTOR_BLOCKED_PERCENT, labels), acceptor.blocked_time_ns, 1

    @staticmethod
    def _processors(plane: Plane) -> Iterator[tuple[tuple[Metric, Labels], int, int]]:
        processors = plane.processors
        for processor in processors:
            labels = (plane.name, processor.listener_name, str(processor.processor_id))
            yield (names.PROCESSOR_IDLE_PERCENT, labels), processor.idle_time_ns, 1
        together = sum(processor.idle_time_ns for processor in processors)
        yield (names.PROCESSORS_IDLE_PERCENT, (plane.name,)), together, len(processors)

    def families(self) -> Iterator[Family]:
        """Every share that is known."""
        for (metric, labels), share in self._shares.items():
            if share.value is not None:
                yield Family(metric, (Sample(labels, share.value),))
