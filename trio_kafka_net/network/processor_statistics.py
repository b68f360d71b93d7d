"""What a Processor counts about its connections, and how it is told.

Counted where bytes move, once per frame and not per read: what a frame in progress has moved so
far is added when somebody looks, or when its connection ends. So a request costs four additions,
and the figures are exact all the same.

Busy is the time between two checkpoints in which the Processor does its own work; everything else
is idle, also the time in which it waits for the event loop because somebody else is at work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from time import perf_counter_ns

import attrs

from .connection import Connection, DisconnectCause, MuteState
from .framing import SIZE_BYTES

SOFTWARE_NAMES = 100
"""Client software told apart; Kafka's limit. The connections that are open longest come first."""

OTHER_SOFTWARE = ("other", "other")
"""Name and version under which the rest is counted."""


@attrs.frozen
class ProcessorStatistics:
    """A snapshot of a Processor; totals since its start.

    Source: Kafka ``Selector.SelectorMetrics``, named by what the server does.
    """

    processor_id: int
    listener_name: str
    connections: int
    """Open now."""
    connections_created: int
    """Taken over from the Acceptor."""
    disconnects: Mapping[DisconnectCause, int]
    """{cause: connections that ended so}; causes that did not happen are absent."""
    client_software: Mapping[tuple[str, str], int]
    """{(name, version): open connections of it}, at most ``SOFTWARE_NAMES`` and one for others."""
    bytes_in: int
    """Read, frame sizes included."""
    bytes_out: int
    """Written, frame sizes included."""
    file_bytes_out: int
    """Of those written, the bytes that the kernel took from files by itself."""
    requests_received: int
    """Whole frames read, those included that were refused."""
    responses_sent: int
    """Frames written to their last byte."""
    response_queue_size: int
    """Responses that wait to be taken."""
    muted: Mapping[MuteState, int]
    """{state: connections in it}, of those that are not read now."""
    busy_time_ns: int
    """Spent in its own steps."""
    elapsed_time_ns: int
    """Since it was made, until it ended."""

    @property
    def idle_time_ns(self) -> int:
        """Spent waiting; Kafka's io-wait time."""
        return self.elapsed_time_ns - self.busy_time_ns

    @property
    def connections_closed(self) -> int:
        """Connections that ended, whatever the cause."""
        return sum(self.disconnects.values())

    def idle_ratio_since(self, earlier: ProcessorStatistics) -> float:
        """The share of time, 0 to 1, that it was idle since ``earlier``; 0 once it has ended.

        Source: Kafka's ``IdlePercent``.
        """
        elapsed = self.elapsed_time_ns - earlier.elapsed_time_ns
        return (self.idle_time_ns - earlier.idle_time_ns) / elapsed if elapsed > 0 else 0.0


class ProcessorCounters:
    """The running totals behind ``ProcessorStatistics``; the Processor adds to them itself."""

    __slots__ = (
        "_ended_ns",
        "_started_ns",
        "busy_time_ns",
        "bytes_in_cut_off",
        "bytes_out",
        "connections_created",
        "disconnects",
        "file_bytes_out",
        "payload_bytes_in",
        "requests_received",
        "responses_sent",
    )

    def __init__(self) -> None:
        """Start at 0, and the time from now."""
        self.connections_created = 0
        self.disconnects: Counter[DisconnectCause] = Counter()
        self.payload_bytes_in = 0
        """Of whole frames, without their size fields."""
        self.bytes_in_cut_off = 0
        """Of frames in progress when their connection ended."""
        self.bytes_out = 0
        """Of whole frames, and of frames in progress when their connection ended."""
        self.file_bytes_out = 0
        """Part of ``bytes_out``."""
        self.requests_received = 0
        self.responses_sent = 0
        self.busy_time_ns = 0
        self._started_ns = perf_counter_ns()
        self._ended_ns: int | None = None

    @property
    def elapsed_time_ns(self) -> int:
        """Since it was made, until it ended."""
        return (self._ended_ns or perf_counter_ns()) - self._started_ns

    def connection_ends(self, connection: Connection, cause: DisconnectCause) -> None:
        """Count an end, and the bytes of the frames that it cuts off."""
        self.disconnects[cause] += 1
        self.bytes_in_cut_off += connection.receive.partial_bytes
        self.bytes_out += _partially_sent(connection)
        if connection.pending_send is not None:
            self.file_bytes_out += connection.pending_send.file_bytes

    def end(self) -> None:
        """Let no more time pass; a second call does nothing."""
        if self._ended_ns is None:
            self._ended_ns = perf_counter_ns()

    def snapshot(
        self,
        processor_id: int,
        listener_name: str,
        connections: Iterable[Connection],
        response_queue_size: int,
    ) -> ProcessorStatistics:
        """Everything at this moment; ``connections`` are the open ones, oldest first."""
        count = partly_sent = file_bytes = 0
        read = self.bytes_in_cut_off + self.payload_bytes_in + SIZE_BYTES * self.requests_received
        software: Counter[tuple[str, str]] = Counter()
        muted: Counter[MuteState] = Counter()
        for connection in connections:
            count += 1
            read += connection.receive.partial_bytes
            if connection.pending_send is not None:
                partly_sent += _partially_sent(connection)
                file_bytes += connection.pending_send.file_bytes
            if connection.mute_state:
                muted[connection.mute_state] += 1
            name = connection.client_software_name, connection.client_software_version
            if name not in software and len(software) >= SOFTWARE_NAMES:
                name = OTHER_SOFTWARE
            software[name] += 1
        return ProcessorStatistics(
            processor_id=processor_id,
            listener_name=listener_name,
            connections=count,
            connections_created=self.connections_created,
            disconnects=dict(self.disconnects),
            client_software=dict(software),
            bytes_in=read,
            bytes_out=self.bytes_out + partly_sent,
            file_bytes_out=self.file_bytes_out + file_bytes,
            requests_received=self.requests_received,
            responses_sent=self.responses_sent,
            response_queue_size=response_queue_size,
            muted=muted,
            busy_time_ns=self.busy_time_ns,
            elapsed_time_ns=self.elapsed_time_ns,
        )


def _partially_sent(connection: Connection) -> int:
    send = connection.pending_send
    return 0 if send is None else send.size - send.unsent_bytes
