"""The request log: one line of JSON per finished request, if somebody wants to read it.

Logger ``trio_kafka_net.request``, level DEBUG; Kafka's is ``kafka.request.logger``. The line is
made when the request is over, of messages that nobody changes after decoding, so it costs one
check of the level as long as the log is off, and is complete from the first request after it was
turned on.

Secrets never enter it: see ``message_json`` and ``config_redaction``.

Source: Kafka ``RequestConvertToJson.requestDescMetrics``, with its order of fields.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from trio_kafka_net.protocol.api_keys import ApiKey

from .config_redaction import loggable_value
from .dispatch import KafkaRequest
from .error_counts import Gathered, Succeeded
from .kept_answers import KeptAnswer
from .message_json import struct_to_json

log = logging.getLogger("trio_kafka_net.request")

_CONFIG_CHANGES: Final = frozenset({ApiKey.ALTER_CONFIGS, ApiKey.INCREMENTAL_ALTER_CONFIGS})


def log_completed(request: KafkaRequest, *, security_protocol: str, is_deprecated: bool) -> None:
    """Write the line of a finished request.

    Args:
        request: finished, its messages still there.
        security_protocol: of its listener.
        is_deprecated: whether Kafka has deprecated that version of the API.
    """
    description = describe_request(
        request, security_protocol=security_protocol, is_deprecated=is_deprecated
    )
    log.debug("Completed request:%s", json.dumps(description, allow_nan=False))


def describe_request(
    request: KafkaRequest, *, security_protocol: str, is_deprecated: bool
) -> dict[str, Any]:
    """What the line says, as values that ``json.dumps`` takes; arguments as ``log_completed``.

    A body is an empty text if there is none: the request was never decoded, or not answered by a
    message.
    """
    connection = request.connection
    return {
        "isForwarded": False,
        "requestHeader": _header(request, is_deprecated),
        "request": _request_body(request),
        "response": _response_body(request),
        "connection": connection.connection_id,
        **_times(request),
        "securityProtocol": security_protocol,
        "principal": _principal(connection.principal),
        "listener": connection.listener_name,
        "clientInformation": {
            "softwareName": request.client_software_name,
            "softwareVersion": request.client_software_version,
        },
    }


def _header(request: KafkaRequest, is_deprecated: bool) -> dict[str, Any]:
    key = request.api.key
    header: dict[str, Any] = {
        "requestApiKey": key.value,
        "requestApiVersion": request.api_version,
        "correlationId": request.correlation_id,
        "clientId": request.client_id,
        "requestApiKeyName": key.name,
    }
    if is_deprecated:
        header["requestApiVersionDeprecated"] = True
    return header


def _request_body(request: KafkaRequest) -> dict[str, Any] | str:
    message = request.message
    if message is None:
        return ""
    body = struct_to_json(message, request.api_version)
    if request.api.key in _CONFIG_CHANGES:
        for resource in body["resources"]:
            for config in resource["configs"]:
                config["value"] = loggable_value(
                    resource["resourceType"], config["name"], config["value"]
                )
    return body


def _response_body(request: KafkaRequest) -> dict[str, Any] | str:
    response = request.response
    if isinstance(response, KeptAnswer):
        response = response.decoded()
    elif isinstance(response, Gathered | Succeeded):
        return ""  # the log was off when it was answered
    return "" if response is None else struct_to_json(response, request.response_version)


def _principal(principal: object) -> str:
    return "User:ANONYMOUS" if principal is None else str(principal)


def _times(request: KafkaRequest) -> dict[str, float]:
    # The same phases as in metrics.request_metrics: what is cut off spends the rest of its time
    # in the phase that it was in.
    end = request.end_time_ns
    dequeued = request.dequeue_time_ns or end
    local = request.local_complete_time_ns or end
    answered = request.response_complete_time_ns or end
    taken = request.response_dequeue_time_ns or end
    parked = request.parked_time_ns
    return {
        "totalTimeMs": _ms(end - request.start_time_ns),
        "requestQueueTimeMs": _ms(dequeued - request.start_time_ns),
        "localTimeMs": _ms(local - dequeued - parked),
        "remoteTimeMs": _ms(parked + answered - local),
        "throttleTimeMs": request.throttle_time_ms,
        "responseQueueTimeMs": _ms(taken - answered),
        "sendTimeMs": _ms(end - taken),
    }


def _ms(duration_ns: int) -> float:
    return round(max(duration_ns, 0) / 1e6, 3)
