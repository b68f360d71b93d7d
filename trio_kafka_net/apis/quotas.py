"""DescribeClientQuotas, AlterClientQuotas: who may use how much (KIP-546).

Versions: DescribeClientQuotas 0-1, AlterClientQuotas 0-1.
Behaviour:
    * every entity is changed as a whole or not at all, whatever becomes of the others
    * an entity that comes twice is changed by the first, and answered with the refusal of the
      second, as in Kafka
    * a quota counts when it is on the disk, and from then on for clients that are connected
    * addresses are literals; Kafka also takes host names
    * NaN is no quota; Kafka takes it
    * an entity of more than three kinds of parts is refused, and the answer names four of them
    * at most 10000 changes at once, and 10000 entities in all
Version notes:
    v1 flexible
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio

from trio_kafka_net.broker.client_quotas import ENTITIES_PER_PASS, Alteration, Outcome
from trio_kafka_net.broker.quota_entities import EntityNames, QuotaEntity, QuotaFilter
from trio_kafka_net.errors import KafkaError
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

_KINDS = 3
"""Of parts that an entity may have: user, client id, address."""


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        describe_client_quotas,
        key=DescribeClientQuotasRequest.API_KEY,
        error_response=_describe_error,
    )
    apis.add(alter_client_quotas, key=AlterClientQuotasRequest.API_KEY, error_response=_alter_error)


async def describe_client_quotas(
    ctx: RequestContext, request: DescribeClientQuotasRequest
) -> DescribeClientQuotasResponse:
    """List the quotas of the entities that a filter lets through."""
    wanted = QuotaFilter.parse(
        ((each.entity_type, each.match_type, each.match) for each in request.components),
        is_strict=request.strict,
    )
    entries = []
    for number, (entity, values) in enumerate(ctx.broker.quotas, 1):
        if wanted.matches(entity):
            entries.append(_described(entity, values))
        if number % ENTITIES_PER_PASS == 0:
            await trio.lowlevel.checkpoint()
    return DescribeClientQuotasResponse(error_message=None, entries=entries)


def _described(
    entity: QuotaEntity, values: Mapping[str, float]
) -> DescribeClientQuotasResponse.EntryData:
    return DescribeClientQuotasResponse.EntryData(
        entity=[
            DescribeClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
            for kind, name in entity.names().items()
        ],
        values=[
            DescribeClientQuotasResponse.ValueData(key=key, value=value)
            for key, value in values.items()
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
    alterations = []
    for number, entry in enumerate(request.entries, 1):
        changes = [(op.key, None if op.remove else op.value) for op in entry.ops]
        alterations.append(Alteration(_names(entry), changes))
        if number % ENTITIES_PER_PASS == 0:
            await trio.lowlevel.checkpoint()
    try:
        outcomes = await ctx.broker.quotas.alter(alterations, validate_only=request.validate_only)
    except KafkaError as error:
        outcomes = [Outcome(each.names, error) for each in alterations]
    entries = []
    for number, outcome in enumerate(outcomes, 1):
        entries.append(_changed(outcome.names, outcome.error))
        if number % ENTITIES_PER_PASS == 0:
            await trio.lowlevel.checkpoint()
    return AlterClientQuotasResponse(entries=entries)


def _changed(names: EntityNames, error: KafkaError | None) -> AlterClientQuotasResponse.EntryData:
    return AlterClientQuotasResponse.EntryData(
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message=None if error is None else error.message,
        entity=[
            AlterClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
            for kind, name in names.items()
        ],
    )


def _names(entry: AlterClientQuotasRequest.EntryData) -> dict[str, str | None]:
    """The parts of an entity. One of so many kinds that it is refused has no more than it takes."""
    names: dict[str, str | None] = {}
    for each in entry.entity:
        names[each.entity_type] = each.entity_name
        if len(names) > _KINDS:
            break
    return names


def _alter_error(
    request: AlterClientQuotasRequest, code: ErrorCode, text: str | None
) -> AlterClientQuotasResponse:
    error = KafkaError(code, text)
    return AlterClientQuotasResponse(
        entries=[_changed(_names(entry), error) for entry in request.entries]
    )
