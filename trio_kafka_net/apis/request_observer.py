"""What is done with a Kafka request when it is over: it is counted, and logged on demand.

One observer per plane, handed to the SocketServer as ``on_finished``; the network layer promises
to call it once per request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from trio_kafka_net.metrics.registry import MetricsRegistry
from trio_kafka_net.metrics.request_metrics import ApiMetrics, RequestMetrics
from trio_kafka_net.network.request_channel import Request
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.fetch import FetchRequest

from .dispatch import KafkaRequest
from .error_counts import ErrorCounter
from .request_log import log as request_log
from .request_log import log_completed

_LAST_DEPRECATED: Final = {
    ApiKey.PRODUCE: 6,
    ApiKey.METADATA: 3,
    ApiKey.FIND_COORDINATOR: 0,
    ApiKey.JOIN_GROUP: 1,
    ApiKey.DELETE_GROUPS: 0,
    ApiKey.SASL_HANDSHAKE: 0,
}
"""{API: its last deprecated version}, as far as those versions are still served (KIP-896)."""

_NOT_SERVED: Final = -1
"""Version under which an ApiVersions of any other version is counted: clients choose it."""

_ERROR_NAMES: Final = {code.value: code.name for code in ErrorCode}


class RequestObserver:
    """Counts and logs the finished requests of one plane of one broker."""

    def __init__(
        self,
        registry: MetricsRegistry,
        plane: str,
        security_protocols: Mapping[str, str] | None = None,
    ) -> None:
        """Register the plane's request figures.

        Args:
            registry: of the broker.
            plane: "data" or "control".
            security_protocols: {listener name: its protocol}, for the request log.
        """
        self._metrics = RequestMetrics(registry, plane)
        self._security_protocols = {} if security_protocols is None else dict(security_protocols)
        self._errors = ErrorCounter()
        # {API: figures under its own name}
        self._apis: dict[ApiKey, ApiMetrics] = {}

    def __call__(self, request: Request) -> None:
        """Count and log a request that is over.

        Source: Kafka ``RequestChannel.Request.updateRequestMetrics``.
        """
        assert isinstance(request, KafkaRequest)
        api = request.api
        version = request.api_version
        if not api.min_version <= version <= api.max_version:
            version = _NOT_SERVED
        self._count(request, version)
        if request_log.isEnabledFor(logging.DEBUG):
            log_completed(
                request,
                security_protocol=self._security_protocols.get(
                    request.connection.listener_name, ""
                ),
                is_deprecated=_is_deprecated(api.key, version),
            )
        # An idle handler keeps its last request alive; it need not keep a whole response.
        request.message = request.response = None

    def _count(self, request: KafkaRequest, version: int) -> None:
        key = request.api.key
        figures = self._apis.get(key)
        if figures is None:
            figures = self._apis[key] = self._metrics.api(key.label)
        size = len(request.payload) - request.body_position
        message = request.message
        if key is ApiKey.FETCH and message is not None:
            self._metrics.api(_fetch_name(message)).record(request, version, size)
        if key is ApiKey.ADD_PARTITIONS_TO_TXN and _only_verifies(message):
            self._metrics.api("AddPartitionsToTxnVerification").record(request, version, size)
        else:
            figures.record(request, version, size)
        if request.response is not None:
            counts = self._errors.count(request.response, request.response_version)
            figures.record_errors(
                {_ERROR_NAMES.get(code, "UNKNOWN"): count for code, count in counts.items()}
            )
        if _is_deprecated(key, version):
            figures.record_deprecated(
                version, request.client_software_name, request.client_software_version
            )


def _is_deprecated(key: ApiKey, version: int) -> bool:
    return 0 <= version <= _LAST_DEPRECATED.get(key, _NOT_SERVED)


def _fetch_name(message: Message) -> str:
    """Which of Kafka's two kinds of Fetch it is."""
    assert isinstance(message, FetchRequest)
    state = message.replica_state
    replica_id = message.replica_id if state is None else state.replica_id
    return "FetchConsumer" if replica_id < 0 else "FetchFollower"


def _only_verifies(message: Message | None) -> bool:
    """Whether it asks only if partitions are part of a transaction (KIP-890).

    Source: Kafka ``AddPartitionsToTxnRequest.allVerifyOnlyRequest``.
    """
    # By name: its module is loaded only where transactions are used.
    transactions = getattr(message, "transactions", ())
    return len(transactions) > 0 and all(each.verify_only for each in transactions)
