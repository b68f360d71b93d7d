"""DescribeAcls, CreateAcls, DeleteAcls, as a broker without an authorizer answers them.

Versions: DescribeAcls 1-3, CreateAcls 1-3, DeleteAcls 1-3.
Behaviour:
    * SECURITY_DISABLED: admin tools know this answer, and say "no authorizer" instead of hanging
      on an API that is missing
    * nothing of a request is looked at; Kafka closes the connection for kinds that are none
Version notes:
    v1 patterns (KIP-290) · v2 flexible · v3 user resources (KIP-373)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.create_acls import CreateAclsRequest, CreateAclsResponse
from trio_kafka_net.protocol.messages.delete_acls import DeleteAclsRequest, DeleteAclsResponse
from trio_kafka_net.protocol.messages.describe_acls import (
    DescribeAclsRequest,
    DescribeAclsResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_NO_AUTHORIZER: Final = "No Authorizer is configured."


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(describe_acls, key=DescribeAclsRequest.API_KEY)
    apis.add(create_acls, key=CreateAclsRequest.API_KEY, error_response=_create_acls_error)
    apis.add(delete_acls, key=DeleteAclsRequest.API_KEY, error_response=_delete_acls_error)


def describe_acls(ctx: RequestContext, request: DescribeAclsRequest) -> DescribeAclsResponse:
    """Say that there are none, and cannot be.

    Source: Kafka ``AclApis.handleDescribeAcls``.
    """
    return DescribeAclsResponse(
        error_code=ErrorCode.SECURITY_DISABLED,
        error_message="No Authorizer is configured on the broker",
    )


def create_acls(ctx: RequestContext, request: CreateAclsRequest) -> Steps[CreateAclsResponse]:
    """Refuse each of them.

    Source: Kafka ``AclApis.handleCreateAcls``.
    """
    return _create_acls_error(request, ErrorCode.SECURITY_DISABLED, _NO_AUTHORIZER)


def _create_acls_error(
    request: CreateAclsRequest, code: ErrorCode, text: str | None
) -> Steps[CreateAclsResponse]:
    response = CreateAclsResponse()
    for _ in request.creations:
        response.results.append(
            CreateAclsResponse.AclCreationResult(error_code=code, error_message=text)
        )
        yield
    return response


def delete_acls(ctx: RequestContext, request: DeleteAclsRequest) -> Steps[DeleteAclsResponse]:
    """Refuse each filter.

    Source: Kafka ``AclApis.handleDeleteAcls``.
    """
    return _delete_acls_error(request, ErrorCode.SECURITY_DISABLED, _NO_AUTHORIZER)


def _delete_acls_error(
    request: DeleteAclsRequest, code: ErrorCode, text: str | None
) -> Steps[DeleteAclsResponse]:
    response = DeleteAclsResponse()
    for _ in request.filters:
        response.filter_results.append(
            DeleteAclsResponse.FilterResult(error_code=code, error_message=text)
        )
        yield
    return response
