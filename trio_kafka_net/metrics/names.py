"""The catalogue of metrics: name, labels, unit, and what Kafka calls it.

Names that exist in Kafka are those that the usual JMX exporter rules make of them, so that boards
and alerts written for Kafka find them: ``kafka_<domain>_<type>_<name>`` in lower case, ``PerSec``
becomes ``total``. Where Kafka splits a name by plane (the ``ControlPlane`` prefix) there is a label
``plane`` here, and where its wording is that of a client (requests of the selector are what a
server sends) the name says what the server does. Ours start with ``trio_kafka_``, in base units.

Rates and quantiles are not here: whoever reads two snapshots computes them.
"""

from __future__ import annotations

from typing import Final

from .registry import Metric

_MS = 1_000_000  # ns

PHASE_BOUNDS_NS: Final = tuple(
    int(ms * _MS) for ms in (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 100, 500, 2_500, 10_000)
)
"""From what a request costs at least to what a client waits at most."""

SIZE_BOUNDS: Final = tuple(4**n for n in range(3, 14))
"""64 bytes to 64 MiB."""

NS: Final = 1e-9
"""Seconds in a nanosecond."""

# -- requests -------------------------------------------------------------------------------------

REQUESTS: Final = Metric(
    "kafka_network_requestmetrics_requests_total",
    "counter",
    ("plane", "request", "version"),
    "Requests that are over, whatever their end.",
    origin="kafka.network:type=RequestMetrics,name=RequestsPerSec",
)
DEPRECATED_REQUESTS: Final = Metric(
    "kafka_network_requestmetrics_deprecatedrequests_total",
    "counter",
    ("plane", "request", "version", "clientSoftwareName", "clientSoftwareVersion"),
    "Requests in a version that Kafka has deprecated.",
    origin="kafka.network:type=RequestMetrics,name=DeprecatedRequestsPerSec",
)
ERRORS: Final = Metric(
    "kafka_network_requestmetrics_errors_total",
    "counter",
    ("plane", "request", "error"),
    "Error codes in responses, NONE included; one response may hold many.",
    origin="kafka.network:type=RequestMetrics,name=ErrorsPerSec",
)
REQUEST_PHASE: Final = Metric(
    "trio_kafka_request_phase_seconds",
    "histogram",
    ("plane", "request", "phase"),
    "Time that requests spent: queue, local, remote, throttle, response_queue, send, total.",
    bounds=PHASE_BOUNDS_NS,
    scale=NS,
    origin="kafka.network:type=RequestMetrics,name={RequestQueue,Local,Remote,Throttle,"
    "ResponseQueue,ResponseSend,Total}TimeMs",
)
REQUEST_BYTES: Final = Metric(
    "trio_kafka_request_bytes",
    "histogram",
    ("plane", "request"),
    "Size of requests without header and frame size, in bytes.",
    bounds=SIZE_BOUNDS,
    origin="kafka.network:type=RequestMetrics,name=RequestBytes",
)
RESPONSE_BYTES: Final = Metric(
    "trio_kafka_response_bytes_total",
    "counter",
    ("plane", "request"),
    "Size of responses as framed, in bytes.",
)

# -- channel and handlers -------------------------------------------------------------------------

REQUEST_QUEUE_SIZE: Final = Metric(
    "kafka_network_requestchannel_requestqueuesize",
    "gauge",
    ("plane",),
    "Requests that wait for a handler, those that found no room in the queue included.",
    origin="kafka.network:type=RequestChannel,name=RequestQueueSize",
)
REQUEST_QUEUE_CAPACITY: Final = Metric(
    "trio_kafka_request_queue_capacity",
    "gauge",
    ("plane",),
    "Requests that the queue holds.",
)
RESPONSE_QUEUE_SIZE: Final = Metric(
    "kafka_network_requestchannel_responsequeuesize",
    "gauge",
    ("plane", "listener", "networkProcessor"),
    "Responses that wait for their Processor.",
    origin="kafka.network:type=RequestChannel,name=ResponseQueueSize",
)
HANDLERS: Final = Metric(
    "trio_kafka_handlers",
    "gauge",
    ("plane", "state"),
    "Request handlers: running, idle, parked.",
)
HANDLER_IDLE: Final = Metric(
    "trio_kafka_handler_idle_seconds_total",
    "counter",
    ("plane",),
    "Time that handlers waited for a request, added up over handlers.",
    scale=NS,
    origin="kafka.server:type=KafkaRequestHandlerPool,name=RequestHandlerAvgIdlePercent",
)
PURGATORY_SIZE: Final = Metric(
    "kafka_server_delayedoperationpurgatory_purgatorysize",
    "gauge",
    ("plane", "delayedOperation"),
    "Requests that are parked, by what they wait for.",
    origin="kafka.server:type=DelayedOperationPurgatory,name=PurgatorySize",
)

# -- client quotas --------------------------------------------------------------------------------

# The names are those of the JMX exporter's example rules; ``resource`` is Kafka's kind of quota.
_SHARED_BY = ("resource", "user", "clientId")

QUOTA_BYTE_RATE: Final = Metric(
    "kafka_server_quota_byte_rate",
    "gauge",
    _SHARED_BY,
    "Bytes per second as they are compared with the quota, of clients that have one.",
    origin="kafka.server:type={Produce,Fetch},user=*,client-id=* byte-rate",
)
QUOTA_REQUEST_TIME: Final = Metric(
    "kafka_server_quota_request_time",
    "gauge",
    _SHARED_BY,
    "Percent of one request handler's time, of clients that have a quota for it.",
    origin="kafka.server:type=Request,user=*,client-id=* request-time",
)
QUOTA_TOKENS: Final = Metric(
    "kafka_server_quota_tokens",
    "gauge",
    _SHARED_BY,
    "Partitions that may be made or deleted at once, of clients that have a quota for it.",
    origin="kafka.server:type=ControllerMutation,user=*,client-id=* tokens",
)
QUOTA_QUEUE_SIZE: Final = Metric(
    "kafka_server_quota_queue_size",
    "gauge",
    ("resource",),
    "Connections that are held back now.",
    origin="kafka.server:type={Produce,Fetch,Request,ControllerMutation} queue-size",
)
QUOTA_THROTTLES: Final = Metric(
    "trio_kafka_quota_throttles_total",
    "counter",
    _SHARED_BY,
    "Requests whose clients were told to wait.",
)
QUOTA_THROTTLE_TIME: Final = Metric(
    "trio_kafka_quota_throttle_seconds_total",
    "counter",
    _SHARED_BY,
    "Time that they were told to wait, added up.",
    scale=1e-3,
    origin="kafka.server:type={Produce,Fetch,Request,ControllerMutation} throttle-time",
)
QUOTA_EXEMPT_TIME: Final = Metric(
    "trio_kafka_quota_exempt_seconds_total",
    "counter",
    (),
    "Time of request handlers that no client was charged for; counted while there are quotas.",
    scale=NS,
    origin="kafka.server:type=Request exempt-request-time",
)

# -- Processors -----------------------------------------------------------------------------------

_PROCESSOR = ("plane", "listener", "networkProcessor")

CONNECTION_COUNT: Final = Metric(
    "kafka_server_socket_server_metrics_connection_count",
    "gauge",
    _PROCESSOR,
    "Connections that are open.",
    origin="socket-server-metrics connection-count",
)
CONNECTIONS_CREATED: Final = Metric(
    "trio_kafka_connections_accepted_total",
    "counter",
    _PROCESSOR,
    "Connections that a Processor began to serve.",
    origin="socket-server-metrics connection-creation-total",
)
DISCONNECTS: Final = Metric(
    "trio_kafka_disconnects_total",
    "counter",
    (*_PROCESSOR, "cause"),
    "Connections that ended, by cause.",
    origin="socket-server-metrics connection-close-total",
)
CONNECTIONS_BY_SOFTWARE: Final = Metric(
    "kafka_server_socket_server_metrics_connections_software",
    "gauge",
    ("plane", "listener", "clientSoftwareName", "clientSoftwareVersion"),
    "Connections that are open, by what the client calls itself (KIP-511).",
    origin="socket-server-metrics connections",
)
BYTES_IN: Final = Metric(
    "trio_kafka_bytes_in_total",
    "counter",
    _PROCESSOR,
    "Bytes read from connections, frame sizes included.",
    origin="socket-server-metrics incoming-byte-total",
)
BYTES_OUT: Final = Metric(
    "trio_kafka_bytes_out_total",
    "counter",
    _PROCESSOR,
    "Bytes written to connections, frame sizes included.",
    origin="socket-server-metrics outgoing-byte-total",
)
FRAMES_RECEIVED: Final = Metric(
    "trio_kafka_requests_received_total",
    "counter",
    _PROCESSOR,
    "Whole frames read, those included that were refused.",
    origin="socket-server-metrics response-total (a client's view)",
)
RESPONSES_SENT: Final = Metric(
    "trio_kafka_responses_sent_total",
    "counter",
    _PROCESSOR,
    "Responses written to their last byte.",
    origin="socket-server-metrics request-total (a client's view)",
)
PROCESSOR_BUSY: Final = Metric(
    "trio_kafka_processor_busy_seconds_total",
    "counter",
    _PROCESSOR,
    "Time that a Processor spent in its own steps.",
    scale=NS,
    origin="socket-server-metrics io-time-ns-total",
)
PROCESSOR_IDLE: Final = Metric(
    "trio_kafka_processor_idle_seconds_total",
    "counter",
    _PROCESSOR,
    "Time that a Processor had nothing to do, or waited for the event loop.",
    scale=NS,
    origin="socket-server-metrics io-wait-time-ns-total; type=Processor,name=IdlePercent",
)
ACCEPTOR_BLOCKED: Final = Metric(
    "trio_kafka_acceptor_blocked_seconds_total",
    "counter",
    ("plane", "listener"),
    "Time that an Acceptor waited for room: in the limits, or in a Processor's queue.",
    scale=NS,
    origin="kafka.network:type=Acceptor,name=AcceptorBlockedPercent",
)

# -- memory ---------------------------------------------------------------------------------------

MEMORY_POOL_AVAILABLE: Final = Metric(
    "kafka_network_socketserver_memorypoolavailable",
    "gauge",
    ("plane",),
    "Bytes that the pool has left; infinite if it has no bound.",
    origin="kafka.network:type=SocketServer,name=MemoryPoolAvailable",
)
MEMORY_POOL_USED: Final = Metric(
    "kafka_network_socketserver_memorypoolused",
    "gauge",
    ("plane",),
    "Bytes of requests that are being received or handled.",
    origin="kafka.network:type=SocketServer,name=MemoryPoolUsed",
)
MEMORY_POOL_DEPLETED: Final = Metric(
    "trio_kafka_memory_pool_depleted_seconds_total",
    "counter",
    ("plane",),
    "Time during which connections were refused memory.",
    scale=NS,
    origin="socket-server-metrics MemoryPoolDepletedTimeTotal",
)
