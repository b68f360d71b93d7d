"""What is done with a Kafka request when it is over: it is counted, and logged on demand.

One observer per plane, handed to the SocketServer as ``on_finished``; the network layer promises
to call it once per request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from trio_kafka_net.metrics.registry import MetricsRegistry
from trio_kafka_net.metrics.request_metrics import RequestMetrics, RequestRows
from trio_kafka_net.network.request_channel import Request
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.fetch import FetchRequest

from .dispatch import KafkaRequest
from .error_counts import SUCCEEDED, ErrorGatherers, Gathered, GatherErrors, Succeeded
from .kept_answers import KeptAnswer
from .registry import Api
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

_NO_ERROR: Final = ErrorCode.NONE.value

_NO_BYTES: Final = memoryview(b"")

_ERROR_NAMES: Final = {code.value: code.name for code in ErrorCode}


def _gather_nothing(response: Message | KeptAnswer, codes: list[int]) -> None:
    """Before anything was answered there is nothing to be found."""


_NamesOf = Callable[[Message], tuple[str, ...]]


@attrs.define(eq=False)
class _Served:
    """What is the same for all requests of one version of an API."""

    version: int
    """As it is counted."""
    rows: RequestRows
    """Of requests that are counted under the API's own name only."""
    names_of: _NamesOf | None
    """The names under which a request is counted, if they depend on what it says."""
    is_deprecated: bool
    rows_of: dict[tuple[str, ...], RequestRows] = attrs.field(factory=dict)
    """{names under which requests are counted: where they go}"""
    response_type: type[Message | KeptAnswer | Gathered | Succeeded] | None = None
    """What was answered last, in ``response_version``; mostly the only thing that ever is."""
    response_version: int = -1
    gather: GatherErrors = _gather_nothing
    """Finds the error codes in it."""


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
        self._metrics = RequestMetrics(registry, plane, _ERROR_NAMES)
        self._errors = ErrorGatherers()
        self._security_protocols = {} if security_protocols is None else dict(security_protocols)
        self._served: dict[tuple[Api, int], _Served] = {}

    def __call__(self, request: Request) -> None:
        """Count and log a request that is over.

        Source: Kafka ``RequestChannel.Request.updateRequestMetrics``.
        """
        assert isinstance(request, KafkaRequest)
        served = self._served.get((request.api, request.api_version))
        if served is None:
            served = self._learn(request.api, request.api_version)
        rows = served.rows
        if served.names_of is not None and request.message is not None:
            rows = self._rows_by_names(request, served, served.names_of(request.message))
        rows.record(request, request.payload_bytes - request.body_position)
        response = request.response
        if response is SUCCEEDED:
            rows.error_codes.append(_NO_ERROR)
        elif response is not None:
            gather = served.gather
            if (
                type(response) is not served.response_type
                or request.response_version != served.response_version
            ):
                gather = self._learn_answer(served, type(response), request.response_version)
            gather(response, rows.error_codes)
        if served.is_deprecated:
            self._metrics.api(request.api.key.label).record_deprecated(
                served.version, request.client_software_name, request.client_software_version
            )
        if request_log.isEnabledFor(logging.DEBUG):
            log_completed(
                request,
                security_protocol=self._security_protocols.get(
                    request.connection.listener_name, ""
                ),
                is_deprecated=served.is_deprecated,
            )
        # An idle handler keeps its last request alive, and so does a throttled connection: neither
        # need keep a whole frame or response.
        request.message = request.response = None
        request.payload = _NO_BYTES

    def _learn(self, api: Api, version: int) -> _Served:
        if not api.min_version <= version <= api.max_version:
            version = _NOT_SERVED
        known = self._served.get((api, version))
        if known is not None:
            return known
        key = api.key
        served = self._served[api, version] = _Served(
            version=version,
            rows=self._metrics.rows(version, key.label),
            names_of=_NAMES_OF.get(key),
            is_deprecated=0 <= version <= _LAST_DEPRECATED.get(key, _NOT_SERVED),
        )
        return served

    def _rows_by_names(
        self, request: KafkaRequest, served: _Served, names: tuple[str, ...]
    ) -> RequestRows:
        named = served.rows_of.get(names)
        if named is None:
            named = served.rows_of[names] = self._metrics.rows(
                served.version, *names, errors_of=request.api.key.label
            )
        return named

    def _learn_answer(
        self,
        served: _Served,
        response_type: type[Message | KeptAnswer | Gathered | Succeeded],
        version: int,
    ) -> GatherErrors:
        gather = self._errors.of(response_type, version)
        served.response_type = response_type
        served.response_version = version
        served.gather = gather
        return gather


def _names_of_fetch(message: Message) -> tuple[str, ...]:
    """A Fetch is counted as such, and as one of Kafka's two kinds of it."""
    assert isinstance(message, FetchRequest)
    state = message.replica_state
    replica_id = message.replica_id if state is None else state.replica_id
    return ("Fetch", "FetchConsumer" if replica_id < 0 else "FetchFollower")


def _names_of_add_partitions(message: Message) -> tuple[str, ...]:
    """One that only asks whether partitions are part of a transaction has a name of its own.

    Source: Kafka ``AddPartitionsToTxnRequest.allVerifyOnlyRequest`` (KIP-890).
    """
    # By name: its module is loaded only where transactions are used.
    transactions = getattr(message, "transactions", ())
    only_verifies = len(transactions) > 0 and all(each.verify_only for each in transactions)
    return ("AddPartitionsToTxnVerification" if only_verifies else "AddPartitionsToTxn",)


_NAMES_OF: Final[Mapping[ApiKey, _NamesOf]] = {
    ApiKey.FETCH: _names_of_fetch,
    ApiKey.ADD_PARTITIONS_TO_TXN: _names_of_add_partitions,
}
