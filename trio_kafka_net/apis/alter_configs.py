"""AlterConfigs, IncrementalAlterConfigs.

Versions: AlterConfigs 0-2, IncrementalAlterConfigs 0-1.
Behaviour:
    * resources are topics, this broker (by its node id), all brokers (no name) and this broker's
      loggers (incrementally only; levels are not stored); groups and client metrics have no
      settings yet, so every key of theirs is unknown
    * a resource is changed as a whole or not at all, each for itself; topics of one request are
      written down in one step
    * a change is checked, stored, and in force in every log, Acceptor and Processor before the
      answer goes out
    * what Kafka fixes at the start is fixed here as well, and so is what has no effect here; a key
      that nobody knows is refused, where Kafka stores it for somebody's plugin
    * APPEND and SUBTRACT work on what is in force, not on what is built in
Version notes:
    AlterConfigs v2 flexible · IncrementalAlterConfigs v1 flexible (KIP-339)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from trio_kafka_net.broker.config_entries import list_keys
from trio_kafka_net.broker.dynamic_config import ALL_BROKERS, Change
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.config.settings import settings_of, to_text
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from trio_kafka_net.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

from .configs import ResourceType, check_node, count_resources
from .context import RequestContext
from .log_levels import check_log_levels, set_log_levels

if TYPE_CHECKING:
    from .registry import KafkaApis

Incremental: TypeAlias = IncrementalAlterConfigsRequest.AlterConfigsResource
Operation: TypeAlias = IncrementalAlterConfigsRequest.AlterableConfig
Resource: TypeAlias = AlterConfigsRequest.Resource | Incremental
Failures: TypeAlias = dict[tuple[int, str], KafkaError]
"""{type and name of a resource: why it is as it was}."""
InForce: TypeAlias = Callable[[str], str | None]
"""The text in force for a key that the resource does not set itself."""


class OperationType(enum.IntEnum):
    """What is done to one setting; Kafka's ``AlterConfigOp.OpType``."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(alter_configs, key=AlterConfigsRequest.API_KEY, error_response=_alter_error)
    apis.add(
        incremental_alter_configs,
        key=IncrementalAlterConfigsRequest.API_KEY,
        error_response=_incremental_error,
    )


async def alter_configs(ctx: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """Let resources set what is named and nothing else.

    Source: Kafka ``ConfigAdminManager``, ``ConfigurationControlManager.legacyAlterConfigs``.
    """
    failures = await _alter(ctx, request.resources, _replacement, request.validate_only)
    response = AlterConfigsResponse()
    breaks = ctx.breaks()
    for kind, name, code, text in _outcomes(request.resources, failures):
        response.responses.append(
            AlterConfigsResponse.ResourceResponse(
                error_code=code, error_message=text, resource_type=kind, resource_name=name
            )
        )
        if breaks.is_due():
            await breaks.take()
    return response


async def incremental_alter_configs(
    ctx: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    """Change the settings that are named and leave the others.

    Source: Kafka ``ConfigAdminManager``, ``ConfigurationControlManager.incrementalAlterConfigs``.
    """
    operations = partial(_operations, ctx)
    failures = await _alter(ctx, request.resources, operations, request.validate_only)
    response = IncrementalAlterConfigsResponse()
    breaks = ctx.breaks()
    for kind, name, code, text in _outcomes(request.resources, failures):
        response.responses.append(
            IncrementalAlterConfigsResponse.AlterConfigsResourceResponse(
                error_code=code, error_message=text, resource_type=kind, resource_name=name
            )
        )
        if breaks.is_due():
            await breaks.take()
    return response


async def _alter(
    ctx: RequestContext,
    resources: Sequence[Resource],
    change_of: Callable[[Any], Steps[Change]],
    validate_only: bool,
) -> Failures:
    failures: Failures = {}
    topics: dict[str, Change] = {}
    times = await ctx.in_turns(count_resources(resources))
    breaks = ctx.breaks()
    for resource in resources:
        kind, name = resource.resource_type, resource.resource_name
        try:
            if times[kind, name] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "Each resource must appear at most once."
                )
            change = await ctx.in_turns(change_of(resource))
            if kind == ResourceType.TOPIC:
                topics[name] = change
            else:
                await _alter_other(ctx, resource, change, validate_only)
        except KafkaError as error:
            failures[kind, name] = error
        if breaks.is_due():
            await breaks.take()
    failed = await ctx.broker.controller.alter_topic_configs(topics, validate_only=validate_only)
    failures.update({(ResourceType.TOPIC, name): error for name, error in failed.items()})
    return failures


async def _alter_other(
    ctx: RequestContext, resource: Resource, change: Change, validate_only: bool
) -> None:
    name = resource.resource_name
    match resource.resource_type:
        case ResourceType.BROKER:
            dynamic_config = ctx.broker.dynamic_config
            if name != ALL_BROKERS:
                check_node(ctx, name)
                name = dynamic_config.node_scope
            await dynamic_config.alter(name, change, validate_only=validate_only)
        case ResourceType.BROKER_LOGGER if isinstance(resource, Incremental):
            check_node(ctx, name)
            _alter_loggers(resource.configs, validate_only)
        case ResourceType.GROUP:
            if not name:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "Default group resources are not allowed."
                )
            for key in change({}):
                raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown group config name: {key}")
        case ResourceType.CLIENT_METRICS:
            if not name:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
            for key in change({}):
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {key}"
                )
        case unknown:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {unknown}")


def _alter_loggers(operations: Sequence[Operation], validate_only: bool) -> None:
    levels: dict[str, str | None] = {}
    for each in operations:
        if each.config_operation in {OperationType.APPEND, OperationType.SUBTRACT}:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"{OperationType(each.config_operation).name} operation is not allowed for the "
                "BROKER_LOGGER resource",
            )
        is_deletion = each.config_operation == OperationType.DELETE
        levels[each.name] = None if is_deletion else each.value
    check_log_levels(levels)
    if not validate_only:
        set_log_levels(levels)


def _replacement(resource: AlterConfigsRequest.Resource) -> Steps[Change]:
    """Let the resource set what is named and nothing else."""
    texts = yield from _checked((config.name, config.value) for config in resource.configs)
    return lambda _before: dict(texts)


def _operations(ctx: RequestContext, resource: Incremental) -> Steps[Change]:
    """Do what is asked to the settings of the resource, in the order given."""
    is_topic = resource.resource_type == ResourceType.TOPIC
    texts = yield from _checked(
        (
            config.name,
            "" if config.config_operation == OperationType.DELETE else config.value,
        )
        for config in resource.configs
    )
    operations = []
    for config in resource.configs:
        try:
            kind = OperationType(config.config_operation)
        except ValueError:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"Unknown operations type {config.config_operation}"
            ) from None
        operations.append((kind, config.name, texts[config.name]))
        yield
    return partial(_operate, operations, partial(_in_force, ctx, is_topic))


def _checked(pairs: Iterable[tuple[str, str | None]]) -> Steps[dict[str, str]]:
    texts: dict[str, str] = {}
    without: dict[str, None] = {}
    has_duplicates = False
    for name, text in pairs:
        has_duplicates |= name in texts or name in without
        if text is None:
            without[name] = None
        else:
            texts[name] = text
        yield
    if has_duplicates:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    if any(without):
        named = ", ".join(without)
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {named}")
    return texts


def _operate(
    operations: Sequence[tuple[OperationType, str, str]],
    in_force: InForce,
    before: dict[str, str],
) -> dict[str, str]:
    after = dict(before)
    for kind, name, text in operations:
        match kind:
            case OperationType.SET:
                after[name] = text
            case OperationType.DELETE:
                after.pop(name, None)
            case OperationType.APPEND | OperationType.SUBTRACT:
                if name not in list_keys():
                    raise KafkaError(
                        ErrorCode.INVALID_CONFIG,
                        f"Can't {kind.name} to key {name} because its type is not LIST.",
                    )
                present = _parts(before.get(name, in_force(name)))
                after[name] = ",".join(_combined(kind, present, _parts(text)))
    return after


def _combined(kind: OperationType, present: list[str], named: list[str]) -> list[str]:
    if kind is OperationType.SUBTRACT:
        return [part for part in present if part not in named]
    return list(dict.fromkeys([*present, *named]))


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _in_force(ctx: RequestContext, is_topic: bool, key: str) -> str | None:
    if is_topic:
        return dict(ctx.broker.controller.log_defaults.to_texts()).get(key)
    field = settings_of(BrokerConfig).get(key)
    return None if field is None else to_text(getattr(ctx.broker.config, field.name))


def _outcomes(
    resources: Iterable[Resource], failures: Failures
) -> Iterator[tuple[int, str, int, str | None]]:
    """What became of each resource: (type, name, error code, text)."""
    for each in resources:
        error = failures.get((each.resource_type, each.resource_name))
        code, text = (0, None) if error is None else (error.code, error.message)
        yield each.resource_type, each.resource_name, code, text


def _alter_error(
    request: AlterConfigsRequest, code: ErrorCode, text: str | None
) -> Steps[AlterConfigsResponse]:
    response = AlterConfigsResponse()
    for each in request.resources:
        response.responses.append(
            AlterConfigsResponse.ResourceResponse(
                error_code=code,
                error_message=text,
                resource_type=each.resource_type,
                resource_name=each.resource_name,
            )
        )
        yield
    return response


def _incremental_error(
    request: IncrementalAlterConfigsRequest, code: ErrorCode, text: str | None
) -> Steps[IncrementalAlterConfigsResponse]:
    response = IncrementalAlterConfigsResponse()
    for each in request.resources:
        response.responses.append(
            IncrementalAlterConfigsResponse.AlterConfigsResourceResponse(
                error_code=code,
                error_message=text,
                resource_type=each.resource_type,
                resource_name=each.resource_name,
            )
        )
        yield
    return response
