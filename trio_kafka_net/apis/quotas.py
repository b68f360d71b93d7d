"""DescribeClientQuotas, AlterClientQuotas: who may use how much (KIP-546).

Versions: DescribeClientQuotas 0-1, AlterClientQuotas 0-1.
Behaviour:
    * every entity is changed as a whole or not at all, whatever becomes of the others
    * an entity that comes twice is changed by the first, and answered with the refusal of the
      second, as in Kafka
    * a quota counts when it is on the disk, and from then on for clients that are connected
    * addresses are literals; Kafka also takes host names
    * NaN is no quota; Kafka takes it
    * at most 10000 changes at once, and 10000 entities in all
Version notes:
    v1 flexible
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker.quota_entities import QuotaFilter
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
)
from trio_kafka_net.protocol.messages.describe_client_quotas import (
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        describe_client_quotas,
        key=DescribeClientQuotasRequest.API_KEY,
        error_response=_describe_error,
    )
    apis.add(alter_client_quotas, key=AlterClientQuotasRequest.API_KEY, error_response=_alter_error)


def describe_client_quotas(
    ctx: RequestContext, request: DescribeClientQuotasRequest
) -> DescribeClientQuotasResponse:
    """List the quotas of the entities that a filter lets through."""
    wanted = QuotaFilter.parse(
        ((each.entity_type, each.match_type, each.match) for each in request.components),
        is_strict=request.strict,
    )
    return DescribeClientQuotasResponse(
        error_message=None,
        entries=[
            DescribeClientQuotasResponse.EntryData(
                entity=[
                    DescribeClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
                    for kind, name in entity.names().items()
                ],
                values=[
                    DescribeClientQuotasResponse.ValueData(key=key, value=value)
                    for key, value in values.items()
                ],
            )
            for entity, values in ctx.broker.quotas
            if wanted.matches(entity)
        ],
    )


def _describe_error(
    request: DescribeClientQuotasRequest, code: ErrorCode, text: str | None
) -> DescribeClientQuotasResponse:
    return DescribeClientQuotasResponse(error_code=code, error_message=text, entries=None)


async def alter_client_quotas(
    ctx: RequestContext, request: AlterClientQuotasRequest
) -> AlterClientQuotasResponse:
    """Set quotas and take them away, or only check whether that could be done."""
    outcomes = await ctx.broker.quotas.alter(
        [
            Alteration(
                names=_names(entry),
                changes=[(op.key, None if op.remove else op.value) for op in entry.ops],
            )
            for entry in request.entries
        ],
        validate_only=request.validate_only,
    )
    return AlterClientQuotasResponse(
        entries=[
            AlterClientQuotasResponse.EntryData(
                error_code=ErrorCode.NONE if outcome.error is None else outcome.error.code,
                error_message=None if outcome.error is None else outcome.error.message,
                entity=[
                    AlterClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
                    for kind, name in outcome.names.items()
                ],
            )
            for outcome in outcomes
        ]
    )


def _names(entry: AlterClientQuotasRequest.EntryData) -> dict[str, str | None]:
    return {each.entity_type: each.entity_name for each in entry.entity}


def _alter_error(
    request: AlterClientQuotasRequest, code: ErrorCode, text: str | None
) -> AlterClientQuotasResponse:
    return AlterClientQuotasResponse(
        entries=[
            AlterClientQuotasResponse.EntryData(
                error_code=code,
                error_message=text,
                entity=[
                    AlterClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
                    for kind, name in _names(entry).items()
                ],
            )
            for entry in request.entries
        ]
    )
