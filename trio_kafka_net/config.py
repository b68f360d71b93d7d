"""Configuration: names and values are Kafka's, with dots as underscores."""

from __future__ import annotations

import sys

import attrs


@attrs.frozen(kw_only=True)
class SocketServerConfig:
    """What the network layer needs to know; every number in the unit of its name."""

    num_network_threads: int = 3
    """Processors per data-plane listener."""
    num_io_threads: int = 8
    """Request handlers of the data plane."""
    queued_max_requests: int = 500
    """Capacity of the data plane's request queue."""
    queued_max_request_bytes: int = -1
    """Bytes of request payloads held at once; -1 is unlimited."""
    socket_request_max_bytes: int = 104_857_600
    """Largest frame, bytes."""
    socket_send_buffer_bytes: int = -1
    """SO_SNDBUF of accepted sockets; -1 leaves it to the system."""
    socket_receive_buffer_bytes: int = -1
    """SO_RCVBUF of the listening socket; -1 leaves it to the system."""
    socket_listen_backlog_size: int = 50
    """Backlog of listen(2)."""
    connections_max_idle_ms: int = 600_000
    """A connection silent for so long is closed; negative is never."""
    max_connections: int = sys.maxsize
    """Connections of the whole broker, control plane apart."""
    max_connections_per_ip: int = sys.maxsize
    """Connections from one address."""
    trio_graceful_timeout_ms: int = 30_000
    """How long a stop waits for requests in hand."""


@attrs.frozen(kw_only=True)
class ListenerConfig:
    """One endpoint to listen on."""

    name: str
    """Upper case, unique within a server."""
    host: str
    """Address or name; empty is every address."""
    port: int
    """0 takes a free one."""
    is_control_plane: bool = False
    """Whether it makes the control plane."""
