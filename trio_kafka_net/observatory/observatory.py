"""One object through which a running broker is looked at.

The endpoint serves it over HTTP, and a monitor in the same process asks it directly. Everything is
read on the event loop, between two checkpoints of the broker's own tasks, in bounded time; only the
rendering of figures belongs into a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any, Final, Literal

import trio

from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker.quota_metrics import quota_families
from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.event_loop import LoopProbe
from trio_kafka_net.metrics.exposition import render
from trio_kafka_net.metrics.log_buffer import LogBuffer
from trio_kafka_net.metrics.process import process_families
from trio_kafka_net.metrics.registry import Family, MetricsRegistry
from trio_kafka_net.network.metric_families import metric_families
from trio_kafka_net.network.recent_shares import RecentShares
from trio_kafka_net.network.socket_server import SocketServer

from . import task_tree
from .connection_rows import ConnectionRows
from .families import (
    build_info,
    controller_families,
    disk_families,
    family,
    group_families,
    replica_families,
    topic_families,
)
from .group_figures import group_document, groups_document
from .topic_document import topic_document

Phase = Literal["starting", "running", "stopping"]

MAX_GROUPS: Final = 1_000
"""Groups of a document."""

_LEVELS: Final = {
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class Observatory:
    """What can be seen of one broker."""

    def __init__(
        self,
        broker: LocalBroker,
        server: SocketServer,
        registry: MetricsRegistry,
        *,
        watches_io: bool = True,
    ) -> None:
        """Register every figure of the broker; nothing is measured before ``run``.

        Args:
            broker: what it knows and stores.
            server: its planes.
            registry: where its figures are.
            watches_io: whether the waiting of the event loop is measured.
        """
        self.phase: Phase = "starting"
        """Where the broker is in its life."""
        self.root_task: trio.lowlevel.Task | None = None
        """The broker's own task, above all others of it."""
        self._broker = broker
        self._server = server
        self._registry = registry
        self._connections = ConnectionRows(server)
        self._log = LogBuffer()
        self._build_info: Family | None = None
        # One page at a time, whoever asks: pages must not be what keeps the broker busy.
        self._rendering = trio.CapacityLimiter(1)
        self._probe = LoopProbe(registry, watches_io=watches_io)
        shares = RecentShares(server)
        self._probe.every_second.append(shares.read)
        for source in (
            lambda: metric_families(server),
            shares.families,
            lambda: quota_families(broker.quotas, broker.throttler),
            lambda: topic_families(broker.replicas.traffic),
            lambda: replica_families(broker.replicas),
            lambda: controller_families(broker),
            lambda: group_families(broker),
            self._task_families,
        ):
            registry.add_source(source)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the event loop and keep warnings, until cancelled.

        Without it there are no figures of the event loop, no shares of the last second, and no log.

        Cancellation: safe.
        """
        with self._log.installed():
            await self._probe.run(task_status=task_status)

    # Figures

    def collect(self) -> dict[str, Family]:
        """Every figure of the broker at this moment: {name: family}."""
        return self._registry.collect()

    def exposition(self) -> bytes:
        """Every figure as Prometheus reads it; blocks for some 7 µs a sample.

        On an event loop that serves, ``page`` is better.
        """
        return self._render(self.collect().values(), rests=False)

    async def page(self) -> bytes:
        """As ``exposition``, but collected in turns with others, and rendered in a thread.

        Cancellation: the thread completes its work for nobody.
        """
        families = await self._registry.collect_in_turns()
        work = partial(self._render, families.values(), rests=True)
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._rendering)

    def _render(self, families: Iterable[Family], *, rests: bool) -> bytes:
        if self._build_info is None:
            self._build_info = build_info(self._broker)
        return render(
            chain(families, [self._build_info], disk_families(self._broker), process_families()),
            rests=rests,
        )

    def _task_families(self) -> list[Family]:
        loop = trio.lowlevel.current_statistics()
        found = [
            (("all", "living"), loop.tasks_living),
            (("all", "runnable"), loop.tasks_runnable),
        ]
        if self.root_task is not None:
            roles = task_tree.roles(self.root_task)
            found += [((role, "living"), count) for role, count in sorted(roles.items())]
        return [family(names.TASKS, found)]

    # Documents

    def connections(
        self, sort: str = "out", reverse: bool = False, limit: int = 50, pattern: str = ""
    ) -> dict[str, Any]:
        """Connections in some order; see ``ConnectionRows.document``.

        Raises:
            SortError: there is no such order.
            FilterError: ``pattern`` is not understood.
        """
        return _at_this_time(self._connections.document(sort, reverse, limit, pattern))

    def tasks(self) -> dict[str, Any]:
        """The event loop, its tasks and threads, and what fills up."""
        loop = trio.lowlevel.current_statistics()
        lately = self._probe.statistics()
        threads = trio.to_thread.current_default_thread_limiter()
        root = self.root_task
        return _at_this_time(
            {
                "event_loop": {
                    "busy": lately.busy,
                    "lag_p50_s": lately.lag_p50_s,
                    "lag_p99_s": lately.lag_p99_s,
                    "lag_max_s": lately.lag_max_s,
                },
                "tasks": {"living": loop.tasks_living, "runnable": loop.tasks_runnable},
                "roles": {} if root is None else dict(task_tree.roles(root).most_common()),
                "threads": {"used": threads.borrowed_tokens, "total": int(threads.total_tokens)},
                "channels": self._channels(),
                "deadlines": self._deadlines(loop.seconds_to_next_deadline),
                "tree": None if root is None else task_tree.tree(root),
            }
        )

    def _channels(self) -> list[dict[str, Any]]:
        channels: list[tuple[str, int, int | None]] = []
        for plane in self._server.planes:
            requests = plane.request_channel.statistics()
            used = requests.queued + requests.waiting
            channels.append((f"{plane.name} request channel", used, requests.capacity))
            for processor in plane.processors:
                name = f"{processor.listener_name} {processor.processor_id}"
                new = processor.new_connections.statistics()
                channels += [
                    (
                        f"{name} new connections",
                        new.current_buffer_used,
                        int(new.max_buffer_size),
                    ),
                    (f"{name} responses", processor.response_queue_size, None),
                ]
        return [
            {"name": name, "used": used, "capacity": capacity} for name, used, capacity in channels
        ]

    def _deadlines(self, next_of_all: float) -> list[dict[str, Any]]:
        now = trio.current_time()
        deadlines = {
            "event loop": next_of_all,
            "groups": self._broker.groups.next_deadline() - now,
            "throttled clients": self._broker.throttler.next_deadline - now,
        }
        return [
            {"name": name, "in_s": max(seconds, 0.0)}
            for name, seconds in sorted(deadlines.items(), key=lambda item: item[1])
            if seconds < float("inf")
        ]

    def log(self, level: str = "warning", limit: int = 200) -> dict[str, Any]:
        """The last log records, the newest first.

        Args:
            level: "warning", "error" or "critical"; nothing below is kept.
            limit: records at most.

        Raises:
            ValueError: no such level.
        """
        number = _LEVELS.get(level.lower())
        if number is None:
            raise ValueError(f"level must be one of {', '.join(_LEVELS)}")
        return _at_this_time(
            {
                "records": [
                    {
                        "time": each.time,
                        "level": logging.getLevelName(each.level),
                        "logger": each.logger,
                        "message": each.message,
                    }
                    for each in self._log.records(number, max(limit, 0))
                ]
            }
        )

    def topic(self, name: str) -> dict[str, Any] | None:
        """The partitions of a topic; None if there is none of that name."""
        found = topic_document(self._broker, name)
        return None if found is None else _at_this_time(found)

    def groups(self, limit: int = 200) -> dict[str, Any]:
        """The groups that this broker coordinates, those with the largest lag first."""
        return _at_this_time(groups_document(self._broker, min(max(limit, 0), MAX_GROUPS)))

    def group(self, name: str) -> dict[str, Any] | None:
        """A group with its members and partitions; None if there is none of that name."""
        found = group_document(self._broker, name)
        return None if found is None else _at_this_time(found)

    # Health

    def unhealthy(self) -> list[str]:
        """Why the broker is not what it should be; empty if it is."""
        offline = sum(partition.is_offline for partition in self._broker.replicas)
        return [f"{offline} logs are offline"] if offline else []

    def unready(self) -> list[str]:
        """Why the broker should not be sent clients now; empty if it should."""
        reasons = self.unhealthy()
        return reasons if self.phase == "running" else [f"the broker is {self.phase}", *reasons]


def _at_this_time(document: dict[str, Any]) -> dict[str, Any]:
    return {"time": time.time(), **document}
