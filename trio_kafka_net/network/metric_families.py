"""The figures of a SocketServer as named families, made when somebody looks.

The network layer counts for itself (``statistics()`` of its parts) and knows no registry; this is
where its figures get their names. Everything carries the plane, so that neither two planes nor
the servers of two brokers in a process can be taken for one another.

Register it with ``registry.add_source(lambda: metric_families(server))``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import Family, Labels, Metric, Sample

from .connection import MuteState
from .processor_statistics import ProcessorStatistics

if TYPE_CHECKING:
    from .socket_server import Plane, SocketServer


def metric_families(server: SocketServer) -> Iterator[Family]:
    """Every figure of both planes at this moment."""
    for plane in server.planes:
        yield from _channel_and_handlers(plane)
        yield from _memory(plane)
        processors = [processor.statistics() for processor in plane.processors]
        for processor in processors:
            yield from _processor(plane.name, processor)
        yield _client_software(plane.name, processors)
        for acceptor in plane.acceptors:
            labels = (plane.name, acceptor.listener.name)
            blocked = acceptor.blocked_time_ns * names.NS
            yield _family(names.ACCEPTOR_BLOCKED, {labels: blocked})


def _family(metric: Metric, samples: dict[Labels, float]) -> Family:
    return Family(metric, tuple(Sample(labels, value) for labels, value in samples.items()))


def _channel_and_handlers(plane: Plane) -> Iterator[Family]:
    name = plane.name
    channel = plane.request_channel.statistics()
    handlers = plane.handler_pool.statistics()
    yield _family(names.REQUEST_QUEUE_SIZE, {(name,): channel.queued + channel.waiting})
    yield _family(names.REQUEST_QUEUE_CAPACITY, {(name,): channel.capacity})
    states = {
        "running": handlers.running,
        "idle": handlers.idle,
        "parked": sum(handlers.parked.values()),
    }
    yield _family(names.HANDLERS, {(name, state): count for state, count in states.items()})
    yield _family(names.HANDLER_IDLE, {(name,): handlers.idle_time_ns * names.NS})
    yield _family(
        names.PURGATORY_SIZE, {(name, reason): count for reason, count in handlers.parked.items()}
    )


def _memory(plane: Plane) -> Iterator[Family]:
    labels = (plane.name,)
    memory = plane.memory_pool.statistics()
    yield _family(names.MEMORY_POOL_AVAILABLE, {labels: memory.available})
    yield _family(names.MEMORY_POOL_USED, {labels: memory.used})
    yield _family(names.MEMORY_POOL_DEPLETED, {labels: memory.depleted_time_ns * names.NS})


def _processor(plane: str, processor: ProcessorStatistics) -> Iterator[Family]:
    labels = (plane, processor.listener_name, str(processor.processor_id))
    numbers = {
        names.RESPONSE_QUEUE_SIZE: processor.response_queue_size,
        names.CONNECTION_COUNT: processor.connections,
        names.CONNECTIONS_CREATED: processor.connections_created,
        names.BYTES_IN: processor.bytes_in,
        names.BYTES_OUT: processor.bytes_out,
        names.SENDFILE_BYTES: processor.file_bytes_out,
        names.COPIED_BYTES: processor.bytes_out - processor.file_bytes_out,
        names.FRAMES_RECEIVED: processor.requests_received,
        names.RESPONSES_SENT: processor.responses_sent,
        names.PROCESSOR_BUSY: processor.busy_time_ns * names.NS,
        names.PROCESSOR_IDLE: processor.idle_time_ns * names.NS,
    }
    for metric, value in numbers.items():
        yield _family(metric, {labels: value})
    yield _family(
        names.DISCONNECTS,
        {(*labels, cause.label): count for cause, count in processor.disconnects.items()},
    )
    yield _family(
        names.CONNECTIONS_MUTED,
        {(*labels, state.name): processor.muted.get(state, 0) for state in MuteState if state},
    )


def _client_software(plane: str, processors: list[ProcessorStatistics]) -> Family:
    # Added up over the Processors of a listener: which of them has a connection is chance.
    software: Counter[Labels] = Counter()
    for processor in processors:
        for (name, version), count in processor.client_software.items():
            software[plane, processor.listener_name, name, version] += count
    return _family(names.CONNECTIONS_BY_SOFTWARE, dict(software))
