"""The catalogue of metrics: name, labels, unit, and what Kafka calls it.

Names that exist in Kafka are those that the usual JMX exporter rules make of them, so that boards
and alerts written for Kafka find them: ``kafka_<domain>_<type>_<name>`` in lower case, ``PerSec``
becomes ``total``. Where Kafka splits a name by plane (the ``ControlPlane`` prefix) there is a label
``plane`` here, and where its wording is that of a client (requests of the selector are what a
server sends) the name says what the server does. Ours start with ``trio_kafka_``, in base units.

Rates and quantiles are not here: whoever reads two snapshots computes them. Kafka's percentages
are, over the last second, for boards that know no better.

A label value that a client can choose is bounded: see the limits below. What is beyond a limit is
counted under ``other``, or left out where adding up makes no sense (offsets). A series goes away
with what it is about, a topic or a group that was deleted; the others are unaffected, so add up
rates and not totals.
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


def _counter(
    name: str, labels: tuple[str, ...], text: str, *, origin: str = "", scale: float = 1.0
) -> Metric:
    return Metric(name, "counter", labels, text, origin=origin, scale=scale)


def _gauge(name: str, labels: tuple[str, ...], text: str, *, origin: str = "") -> Metric:
    return Metric(name, "gauge", labels, text, origin=origin)


# -- limits: series of one kind, before "other" ---------------------------------------------------

CLIENT_LABELS: Final = 100
"""Combinations of names and versions that clients give themselves; Kafka's limit."""

TOPIC_LABELS: Final = 1_000
"""Topics with counters of their own."""

PARTITION_LABELS: Final = 10_000
"""Partitions with figures of their own; of further ones there are none."""

GROUP_LABELS: Final = 1_000
"""Groups with figures of their own; of further ones there are none but their number."""

LAG_LABELS: Final = 10_000
"""Partitions of groups whose lag is told; of further ones it is not."""

# -- requests -------------------------------------------------------------------------------------

REQUESTS: Final = _counter(
    "kafka_network_requestmetrics_requests_total",
    ("plane", "request", "version"),
    "Requests that are over, whatever their end.",
    origin="kafka.network:type=RequestMetrics,name=RequestsPerSec",
)
DEPRECATED_REQUESTS: Final = _counter(
    "kafka_network_requestmetrics_deprecatedrequests_total",
    ("plane", "request", "version", "clientSoftwareName", "clientSoftwareVersion"),
    "Requests in a version that Kafka has deprecated.",
    origin="kafka.network:type=RequestMetrics,name=DeprecatedRequestsPerSec",
)
ERRORS: Final = _counter(
    "kafka_network_requestmetrics_errors_total",
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
RESPONSE_BYTES: Final = _counter(
    "trio_kafka_response_bytes_total",
    ("plane", "request"),
    "Size of responses as framed, in bytes.",
)

# -- channel and handlers -------------------------------------------------------------------------

REQUEST_QUEUE_SIZE: Final = _gauge(
    "kafka_network_requestchannel_requestqueuesize",
    ("plane",),
    "Requests that wait for a handler, those that found no room in the queue included.",
    origin="kafka.network:type=RequestChannel,name=RequestQueueSize",
)
REQUEST_QUEUE_CAPACITY: Final = _gauge(
    "trio_kafka_request_queue_capacity",
    ("plane",),
    "Requests that the queue holds.",
)
RESPONSE_QUEUE_SIZE: Final = _gauge(
    "kafka_network_requestchannel_responsequeuesize",
    ("plane", "listener", "networkProcessor"),
    "Responses that wait for their Processor.",
    origin="kafka.network:type=RequestChannel,name=ResponseQueueSize",
)
HANDLERS: Final = _gauge(
    "trio_kafka_handlers",
    ("plane", "state"),
    "Request handlers: running, idle, parked.",
)
HANDLER_IDLE: Final = _counter(
    "trio_kafka_handler_idle_seconds_total",
    ("plane",),
    "Time that handlers waited for a request, added up over handlers.",
    scale=NS,
    origin="kafka.server:type=KafkaRequestHandlerPool,name=RequestHandlerAvgIdlePercent",
)
HANDLER_IDLE_PERCENT: Final = _gauge(
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    ("plane",),
    "Share of the last second, 0 to 1, that the average handler waited for a request.",
    origin="kafka.server:type=KafkaRequestHandlerPool,name=RequestHandlerAvgIdlePercent",
)
PURGATORY_SIZE: Final = _gauge(
    "kafka_server_delayedoperationpurgatory_purgatorysize",
    ("plane", "delayedOperation"),
    "Requests that are parked, by what they wait for.",
    origin="kafka.server:type=DelayedOperationPurgatory,name=PurgatorySize",
)

# -- topics and their logs ------------------------------------------------------------------------

MESSAGES_IN: Final = _counter(
    "kafka_server_brokertopicmetrics_messagesin_total",
    ("topic",),
    "Records that were appended.",
    origin="kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec",
)
TOPIC_BYTES_IN: Final = _counter(
    "kafka_server_brokertopicmetrics_bytesin_total",
    ("topic",),
    "Bytes of records that were appended.",
    origin="kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec",
)
TOPIC_BYTES_OUT: Final = _counter(
    "kafka_server_brokertopicmetrics_bytesout_total",
    ("topic",),
    "Bytes of records in responses to consumers.",
    origin="kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec",
)
TOPIC_BYTES_REJECTED: Final = _counter(
    "kafka_server_brokertopicmetrics_bytesrejected_total",
    ("topic",),
    "Bytes of records that were refused because a batch of them was too large.",
    origin="kafka.server:type=BrokerTopicMetrics,name=BytesRejectedPerSec",
)
PRODUCE_REQUESTS: Final = _counter(
    "kafka_server_brokertopicmetrics_totalproducerequests_total",
    ("topic",),
    "Appends to partitions, failed ones included.",
    origin="kafka.server:type=BrokerTopicMetrics,name=TotalProduceRequestsPerSec",
)
FETCH_REQUESTS: Final = _counter(
    "kafka_server_brokertopicmetrics_totalfetchrequests_total",
    ("topic",),
    "Reads of partitions for Fetch requests, failed ones and later looks of parked ones included.",
    origin="kafka.server:type=BrokerTopicMetrics,name=TotalFetchRequestsPerSec",
)
FAILED_PRODUCE_REQUESTS: Final = _counter(
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    ("topic",),
    "Appends that were refused; not for being led elsewhere, too large, damaged, or offline.",
    origin="kafka.server:type=BrokerTopicMetrics,name=FailedProduceRequestsPerSec",
)
FAILED_FETCH_REQUESTS: Final = _counter(
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    ("topic",),
    "Reads of a partition that met damaged records.",
    origin="kafka.server:type=BrokerTopicMetrics,name=FailedFetchRequestsPerSec",
)

_PARTITION = ("topic", "partition")

LOG_SIZE: Final = _gauge(
    "kafka_log_log_size",
    _PARTITION,
    "Bytes of the log's segments.",
    origin="kafka.log:type=Log,name=Size",
)
LOG_SEGMENTS: Final = _gauge(
    "kafka_log_log_numlogsegments",
    _PARTITION,
    "Segments of the log.",
    origin="kafka.log:type=Log,name=NumLogSegments",
)
LOG_START_OFFSET: Final = _gauge(
    "kafka_log_log_logstartoffset",
    _PARTITION,
    "First offset that can be read.",
    origin="kafka.log:type=Log,name=LogStartOffset",
)
LOG_END_OFFSET: Final = _gauge(
    "kafka_log_log_logendoffset",
    _PARTITION,
    "Offset that the next record gets.",
    origin="kafka.log:type=Log,name=LogEndOffset",
)
OFFLINE_LOG_DIRS: Final = _gauge(
    "kafka_log_logmanager_offlinelogdirectorycount",
    (),
    "Data directories with a log that failed.",
    origin="kafka.log:type=LogManager,name=OfflineLogDirectoryCount",
)
LOG_DIR_FREE: Final = _gauge(
    "trio_kafka_log_dir_free_bytes",
    (),
    "Bytes that the file system of the data directory has left for us.",
)
LOG_DIR_SIZE: Final = _gauge(
    "trio_kafka_log_dir_size_bytes",
    (),
    "Bytes that the file system of the data directory has in all.",
)

# -- replicas and controller ----------------------------------------------------------------------

PARTITION_COUNT: Final = _gauge(
    "kafka_server_replicamanager_partitioncount",
    (),
    "Partitions that this broker has a replica of.",
    origin="kafka.server:type=ReplicaManager,name=PartitionCount",
)
LEADER_COUNT: Final = _gauge(
    "kafka_server_replicamanager_leadercount",
    (),
    "Partitions that this broker leads.",
    origin="kafka.server:type=ReplicaManager,name=LeaderCount",
)
UNDER_REPLICATED: Final = _gauge(
    "kafka_server_replicamanager_underreplicatedpartitions",
    (),
    "Partitions that this broker leads and that have a replica out of sync.",
    origin="kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions",
)
UNDER_MIN_ISR: Final = _gauge(
    "kafka_server_replicamanager_underminisrpartitioncount",
    (),
    "Partitions that this broker leads and that have fewer replicas in sync than acks=all needs.",
    origin="kafka.server:type=ReplicaManager,name=UnderMinIsrPartitionCount",
)
OFFLINE_REPLICAS: Final = _gauge(
    "kafka_server_replicamanager_offlinereplicacount",
    (),
    "Replicas of this broker whose log failed.",
    origin="kafka.server:type=ReplicaManager,name=OfflineReplicaCount",
)
ACTIVE_CONTROLLERS: Final = _gauge(
    "kafka_controller_kafkacontroller_activecontrollercount",
    (),
    "1 on the broker that the cluster's controller is told as, else 0.",
    origin="kafka.controller:type=KafkaController,name=ActiveControllerCount",
)
OFFLINE_PARTITIONS: Final = _gauge(
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    (),
    "Partitions of the cluster that nobody leads.",
    origin="kafka.controller:type=KafkaController,name=OfflinePartitionsCount",
)
GLOBAL_TOPICS: Final = _gauge(
    "kafka_controller_kafkacontroller_globaltopiccount",
    (),
    "Topics of the cluster.",
    origin="kafka.controller:type=KafkaController,name=GlobalTopicCount",
)
GLOBAL_PARTITIONS: Final = _gauge(
    "kafka_controller_kafkacontroller_globalpartitioncount",
    (),
    "Partitions of the cluster.",
    origin="kafka.controller:type=KafkaController,name=GlobalPartitionCount",
)

# -- groups ---------------------------------------------------------------------------------------

GROUPS: Final = _gauge(
    "trio_kafka_groups",
    ("protocol", "state"),
    "Groups that this broker coordinates, by state.",
    origin="kafka.coordinator.group:type=GroupMetadataManager,name=NumGroups*",
)
GROUP_MEMBERS: Final = _gauge(
    "trio_kafka_group_members",
    ("group",),
    "Members of the group.",
)
GROUP_STATE_SECONDS: Final = _gauge(
    "trio_kafka_group_state_seconds",
    ("group", "state"),
    "Time since the group came into the state that it is in.",
)
GROUP_COMMITS: Final = _counter(
    "trio_kafka_group_commits_total",
    ("group",),
    "Offsets that the group committed.",
    origin="group-coordinator-metrics offset-commit-count",
)
GROUP_LAG: Final = _gauge(
    "kafka_consumergroup_lag",
    ("consumergroup", "topic", "partition"),
    "Records that the group has not committed yet, of partitions that this broker leads.",
)

# -- client quotas --------------------------------------------------------------------------------

# The names are those of the JMX exporter's example rules; ``resource`` is Kafka's kind of quota.
_SHARED_BY = ("resource", "user", "clientId")

QUOTA_BYTE_RATE: Final = _gauge(
    "kafka_server_quota_byte_rate",
    _SHARED_BY,
    "Bytes per second as they are compared with the quota, of clients that have one.",
    origin="kafka.server:type={Produce,Fetch},user=*,client-id=* byte-rate",
)
QUOTA_REQUEST_TIME: Final = _gauge(
    "kafka_server_quota_request_time",
    _SHARED_BY,
    "Percent of one request handler's time, of clients that have a quota for it.",
    origin="kafka.server:type=Request,user=*,client-id=* request-time",
)
QUOTA_TOKENS: Final = _gauge(
    "kafka_server_quota_tokens",
    _SHARED_BY,
    "Partitions that may be made or deleted at once, of clients that have a quota for it.",
    origin="kafka.server:type=ControllerMutation,user=*,client-id=* tokens",
)
QUOTA_QUEUE_SIZE: Final = _gauge(
    "kafka_server_quota_queue_size",
    ("resource",),
    "Connections that are held back now.",
    origin="kafka.server:type={Produce,Fetch,Request,ControllerMutation} queue-size",
)
QUOTA_THROTTLES: Final = _counter(
    "trio_kafka_quota_throttles_total",
    _SHARED_BY,
    "Requests whose clients were told to wait.",
)
QUOTA_THROTTLE_TIME: Final = _counter(
    "trio_kafka_quota_throttle_seconds_total",
    _SHARED_BY,
    "Time that they were told to wait, added up.",
    scale=1e-3,
    origin="kafka.server:type={Produce,Fetch,Request,ControllerMutation} throttle-time",
)
THROTTLE_TIME: Final = _counter(
    "trio_kafka_throttle_seconds_total",
    ("resource",),
    "Time that clients were told to wait, those included that are forgotten by now.",
    scale=1e-3,
)
QUOTA_EXEMPT_TIME: Final = _counter(
    "trio_kafka_quota_exempt_seconds_total",
    (),
    "Time of request handlers that no client was charged for; counted while there are quotas.",
    scale=NS,
    origin="kafka.server:type=Request exempt-request-time",
)

# -- Processors -----------------------------------------------------------------------------------

_PROCESSOR = ("plane", "listener", "networkProcessor")

CONNECTION_COUNT: Final = _gauge(
    "kafka_server_socket_server_metrics_connection_count",
    _PROCESSOR,
    "Connections that are open.",
    origin="socket-server-metrics connection-count",
)
CONNECTIONS_CREATED: Final = _counter(
    "trio_kafka_connections_accepted_total",
    _PROCESSOR,
    "Connections that a Processor began to serve.",
    origin="socket-server-metrics connection-creation-total",
)
DISCONNECTS: Final = _counter(
    "trio_kafka_disconnects_total",
    (*_PROCESSOR, "cause"),
    "Connections that ended, by cause.",
    origin="socket-server-metrics connection-close-total",
)
CONNECTIONS_BY_SOFTWARE: Final = _gauge(
    "kafka_server_socket_server_metrics_connections_software",
    ("plane", "listener", "clientSoftwareName", "clientSoftwareVersion"),
    "Connections that are open, by what the client calls itself (KIP-511).",
    origin="socket-server-metrics connections",
)
BYTES_IN: Final = _counter(
    "trio_kafka_bytes_in_total",
    _PROCESSOR,
    "Bytes read from connections, frame sizes included.",
    origin="socket-server-metrics incoming-byte-total",
)
BYTES_OUT: Final = _counter(
    "trio_kafka_bytes_out_total",
    _PROCESSOR,
    "Bytes written to connections, frame sizes included.",
    origin="socket-server-metrics outgoing-byte-total",
)
FRAMES_RECEIVED: Final = _counter(
    "trio_kafka_requests_received_total",
    _PROCESSOR,
    "Whole frames read, those included that were refused.",
    origin="socket-server-metrics response-total (a client's view)",
)
RESPONSES_SENT: Final = _counter(
    "trio_kafka_responses_sent_total",
    _PROCESSOR,
    "Responses written to their last byte.",
    origin="socket-server-metrics request-total (a client's view)",
)
PROCESSOR_BUSY: Final = _counter(
    "trio_kafka_processor_busy_seconds_total",
    _PROCESSOR,
    "Time that a Processor spent in its own steps.",
    scale=NS,
    origin="socket-server-metrics io-time-ns-total",
)
PROCESSOR_IDLE: Final = _counter(
    "trio_kafka_processor_idle_seconds_total",
    _PROCESSOR,
    "Time that a Processor had nothing to do, or waited for the event loop.",
    scale=NS,
    origin="socket-server-metrics io-wait-time-ns-total; type=Processor,name=IdlePercent",
)
PROCESSOR_IDLE_PERCENT: Final = _gauge(
    "kafka_network_processor_idle_percent",
    _PROCESSOR,
    "Share of the last second, 0 to 1, that a Processor was idle.",
    origin="kafka.network:type=Processor,name=IdlePercent",
)
PROCESSORS_IDLE_PERCENT: Final = _gauge(
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    ("plane",),
    "Share of the last second, 0 to 1, that the average Processor was idle.",
    origin="kafka.network:type=SocketServer,name=NetworkProcessorAvgIdlePercent",
)
CONNECTIONS_MUTED: Final = _gauge(
    "trio_kafka_connections_muted",
    (*_PROCESSOR, "state"),
    "Connections that are not read now, by why: the names of Kafka's mute states.",
    origin="KafkaChannel.ChannelMuteState",
)
SENDFILE_BYTES: Final = _counter(
    "trio_kafka_sendfile_bytes_total",
    _PROCESSOR,
    "Bytes of responses that the kernel took from log files by itself.",
)
COPIED_BYTES: Final = _counter(
    "trio_kafka_copied_bytes_total",
    _PROCESSOR,
    "Bytes of responses that were copied to the kernel.",
)
ACCEPTOR_BLOCKED: Final = _counter(
    "trio_kafka_acceptor_blocked_seconds_total",
    ("plane", "listener"),
    "Time that an Acceptor waited for room: in the limits, or in a Processor's queue.",
    scale=NS,
    origin="kafka.network:type=Acceptor,name=AcceptorBlockedPercent",
)
ACCEPTOR_BLOCKED_PERCENT: Final = _gauge(
    "kafka_network_acceptor_acceptorblocked_percent",
    ("plane", "listener"),
    "Share of the last second, 0 to 1, that an Acceptor waited for room.",
    origin="kafka.network:type=Acceptor,name=AcceptorBlockedPercent",
)

# -- memory ---------------------------------------------------------------------------------------

MEMORY_POOL_AVAILABLE: Final = _gauge(
    "kafka_network_socketserver_memorypoolavailable",
    ("plane",),
    "Bytes that the pool has left; infinite if it has no bound.",
    origin="kafka.network:type=SocketServer,name=MemoryPoolAvailable",
)
MEMORY_POOL_USED: Final = _gauge(
    "kafka_network_socketserver_memorypoolused",
    ("plane",),
    "Bytes of requests that are being received or handled.",
    origin="kafka.network:type=SocketServer,name=MemoryPoolUsed",
)
MEMORY_POOL_DEPLETED: Final = _counter(
    "trio_kafka_memory_pool_depleted_seconds_total",
    ("plane",),
    "Time during which connections were refused memory.",
    scale=NS,
    origin="socket-server-metrics MemoryPoolDepletedTimeTotal",
)

# -- event loop and process -----------------------------------------------------------------------

LAG_BOUNDS_NS: Final = tuple(
    int(ms * _MS) for ms in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1_000)
)
"""From what a quiet loop has to what clients time out at."""

IO_WAIT: Final = _counter(
    "trio_kafka_event_loop_io_wait_seconds_total",
    (),
    "Time that the event loop had nothing to do; the rest of the time it was busy.",
    scale=NS,
)
LOOP_LAG: Final = Metric(
    "trio_kafka_event_loop_lag_seconds",
    "histogram",
    (),
    "How late the event loop was, looked at ten times a second.",
    bounds=LAG_BOUNDS_NS,
    scale=NS,
)
TASKS: Final = _gauge(
    "trio_kafka_tasks",
    ("role", "state"),
    "Tasks of this broker that are living, by role; of the whole event loop (role all), living "
    "and runnable.",
)
PROCESS_CPU: Final = _counter(
    "process_cpu_seconds_total",
    (),
    "Processor time of the process, in user and system mode.",
)
PROCESS_MEMORY: Final = _gauge(
    "process_resident_memory_bytes",
    (),
    "Memory of the process that is in RAM.",
)
PROCESS_OPEN_FDS: Final = _gauge(
    "process_open_fds",
    (),
    "Descriptors that the process has open.",
)
PROCESS_MAX_FDS: Final = _gauge(
    "process_max_fds",
    (),
    "Descriptors that the process may have open.",
)
PROCESS_START_TIME: Final = _gauge(
    "process_start_time_seconds",
    (),
    "When the process began, in seconds since the epoch.",
)
BUILD_INFO: Final = _gauge(
    "trio_kafka_build_info",
    ("version", "python", "trio", "cluster_id", "node_id", "roles"),
    "Always 1; the labels say what runs here.",
)

CATALOGUE: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric, in the order of this file."""
