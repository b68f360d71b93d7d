"""FindCoordinator: which broker looks after a group.

Versions: FindCoordinator 0-6.
Behaviour:
    * the coordinator of a group is the broker that leads its partition of the topic for groups;
      asking makes that topic, if it is missing; COORDINATOR_NOT_AVAILABLE as long as nobody leads
    * transactional ids and share groups have no coordinator here: INVALID_REQUEST with a text
Version notes:
    v1 key type · v3 throttling before the answer · v4 several keys, each with its own error
    (KIP-699) · v6 share groups
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_GROUP = 0
_SEVERAL_KEYS_SINCE = 4


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        find_coordinator,
        key=FindCoordinatorRequest.API_KEY,
        error_response=_find_coordinator_error,
    )


def find_coordinator(
    ctx: RequestContext, request: FindCoordinatorRequest
) -> Steps[FindCoordinatorResponse] | Awaitable[FindCoordinatorResponse]:
    """Name the coordinators, at the endpoints of the listener that is asked."""
    keys = request.coordinator_keys if ctx.api_version >= _SEVERAL_KEYS_SINCE else [request.key]
    if request.key_type == _GROUP and keys and ctx.broker.groups.lacks_topic(keys[0]):
        return _find_with_topic(ctx, request)
    return _found(ctx, request)


async def _find_with_topic(
    ctx: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    async with ctx.parked("FindCoordinator"):
        await ctx.broker.groups.ensure_topic()
    return await ctx.in_turns(_found(ctx, request))


def _found(ctx: RequestContext, request: FindCoordinatorRequest) -> Steps[FindCoordinatorResponse]:
    code, text = ErrorCode.NONE, None
    if request.key_type != _GROUP:
        code = ErrorCode.INVALID_REQUEST
        text = f"no coordinator for keys of type {request.key_type}, only for groups (0)"
    if ctx.api_version < _SEVERAL_KEYS_SINCE:
        found = _coordinator(ctx, request.key, code, text)
        return FindCoordinatorResponse(
            error_code=found.error_code,
            error_message=found.error_message,
            node_id=found.node_id,
            host=found.host,
            port=found.port,
        )
    response = FindCoordinatorResponse()
    for key in request.coordinator_keys:
        response.coordinators.append(_coordinator(ctx, key, code, text))
        yield
    return response


def _coordinator(
    ctx: RequestContext, key: str, code: ErrorCode, text: str | None
) -> FindCoordinatorResponse.Coordinator:
    if code:
        return _nobody(key, code, text)
    broker = ctx.broker
    try:
        index = broker.offsets.partition_of(key)
    except KafkaError as error:
        return _nobody(key, error_code_of(error), error.message)
    leader = broker.leader(broker.offsets.topic, index, ctx.listener_name)
    if leader is None or leader.endpoint is None:
        return _nobody(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, None)
    endpoint = leader.endpoint
    return FindCoordinatorResponse.Coordinator(
        key=key, node_id=leader.node_id, host=endpoint.host, port=endpoint.port
    )


def _nobody(key: str, code: ErrorCode, text: str | None) -> FindCoordinatorResponse.Coordinator:
    return FindCoordinatorResponse.Coordinator(
        key=key, error_code=code, error_message=text, node_id=-1, port=-1
    )


def _find_coordinator_error(
    request: FindCoordinatorRequest, code: ErrorCode, text: str | None
) -> FindCoordinatorResponse:
    return FindCoordinatorResponse(
        error_code=code,
        error_message=text,
        node_id=-1,
        port=-1,
        coordinators=[_nobody(key, code, text) for key in request.coordinator_keys],
    )
