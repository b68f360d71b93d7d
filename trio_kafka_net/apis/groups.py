"""FindCoordinator: which broker looks after a group.

Versions: FindCoordinator 0-6.
Behaviour:
    * the coordinator of every group is this broker
    * transactional ids and share groups have no coordinator here: INVALID_REQUEST with a text
Version notes:
    v1 key type · v3 throttling before the answer · v4 several keys (KIP-699) · v6 share groups
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_GROUP = 0


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        find_coordinator,
        key=FindCoordinatorRequest.API_KEY,
        error_response=_find_coordinator_error,
    )


def find_coordinator(
    ctx: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    """Name this broker, at the endpoint of the listener that is asked."""
    if request.key_type != _GROUP:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"no coordinator for keys of type {request.key_type}, only for groups (0)",
        )
    broker = ctx.broker
    here = broker.endpoint(ctx.listener_name)
    return FindCoordinatorResponse(
        node_id=broker.node_id,
        host=here.host,
        port=here.port,
        coordinators=[
            FindCoordinatorResponse.Coordinator(
                key=key, node_id=broker.node_id, host=here.host, port=here.port
            )
            for key in request.coordinator_keys
        ],
    )


def _find_coordinator_error(
    request: FindCoordinatorRequest, code: ErrorCode, text: str | None
) -> FindCoordinatorResponse:
    return FindCoordinatorResponse(
        error_code=code,
        error_message=text,
        node_id=-1,
        port=-1,
        coordinators=[
            FindCoordinatorResponse.Coordinator(
                key=key, error_code=code, error_message=text, node_id=-1, port=-1
            )
            for key in request.coordinator_keys
        ],
    )
