"""DescribeConfigs, ListConfigResources.

Versions: DescribeConfigs 1-4, ListConfigResources 0-1.
Behaviour:
    * resources are topics, this broker (by its node id), what is set for all brokers (no name) and
      this broker's loggers (those of the package); groups and client metrics have no settings yet
    * each resource succeeds or fails for itself; one that is named twice fails, so that a small
      request cannot have an answer of any size (Kafka describes it twice)
    * no names are all names; settings are in the order of their names
    * a setting whose synonym says it in other units shows who says so (retention.ms behind a
      log.retention.hours in server.properties), where Kafka calls it a default
Version notes:
    DescribeConfigs v1 synonyms (KIP-226) · v3 types and texts (KIP-569) · v4 flexible
    ListConfigResources v0 client metrics (KIP-714) · v1 all types (KIP-1142)
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from trio_kafka_net.broker.config_entries import (
    ConfigEntry,
    ConfigSource,
    Synonym,
    TopicDescriber,
    all_brokers_entries,
    broker_entries,
    wanted,
)
from trio_kafka_net.broker.dynamic_config import ALL_BROKERS
from trio_kafka_net.broker.metadata_cache import validate_topic_name
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResponse,
)
from trio_kafka_net.protocol.messages.list_config_resources import (
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

from .context import RequestContext
from .log_levels import log_levels

if TYPE_CHECKING:
    from .registry import KafkaApis

_ALL_TYPES_SINCE = 1
_NUMBER = re.compile(r"[+-]?[0-9]{1,10}")

Result = DescribeConfigsResponse.Result
ResourceResult = DescribeConfigsResponse.ResourceResult
ConfigResource = ListConfigResourcesResponse.ConfigResource


class ResourceType(enum.IntEnum):
    """What settings belong to; Kafka's ``ConfigResource.Type``."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        describe_configs,
        key=DescribeConfigsRequest.API_KEY,
        error_response=_describe_configs_error,
    )
    apis.add(list_config_resources, key=ListConfigResourcesRequest.API_KEY)


def check_node(ctx: RequestContext, name: str, *, what: str = "Node", expected: str = "") -> None:
    """Refuse the name of another node, or of none.

    Args:
        ctx: of the request.
        name: of the resource.
        what: the id is called in the texts.
        expected: what else would be right.

    Raises:
        KafkaError: INVALID_REQUEST.
    """
    if _NUMBER.fullmatch(name) is None:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"{what} id must be an integer, but it is: {name}"
        )
    if int(name) != ctx.broker.node_id:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Unexpected broker id, expected {ctx.broker.node_id}{expected}, but received {name}",
        )


async def describe_configs(
    ctx: RequestContext, request: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    """Say what settings are, and who says so.

    Source: Kafka ``ConfigHelper.handleDescribeConfigsRequest``.
    """
    description = _Description(ctx, request.include_synonyms, request.include_documentation)
    times = await ctx.in_turns(count_resources(request.resources))
    results = []
    breaks = ctx.breaks()
    for resource in request.resources:
        result = Result(resource_type=resource.resource_type, resource_name=resource.resource_name)
        results.append(result)
        try:
            if times[resource.resource_type, resource.resource_name] > 1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST, "Each resource must appear at most once."
                )
            result.configs = description.configs(resource)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        if breaks.is_due():
            await breaks.take()
    return DescribeConfigsResponse(results=results)


def count_resources(resources: Iterable[Any]) -> Steps[Counter[tuple[int, str]]]:
    """How often each resource is named: {type and name: times}."""
    times: Counter[tuple[int, str]] = Counter()
    for each in resources:
        times[each.resource_type, each.resource_name] += 1
        yield
    return times


@attrs.define
class _Description:
    """One request's description of resources."""

    _ctx: RequestContext
    _with_synonyms: bool
    _with_documentation: bool
    # {names asked for: what describes topics}
    _topics: dict[tuple[str, ...], TopicDescriber] = attrs.field(factory=dict, init=False)

    def configs(self, resource: DescribeConfigsRequest.Resource) -> list[ResourceResult]:
        """The settings of a resource.

        Raises:
            KafkaError: there is no such resource.
        """
        name, keys = resource.resource_name, tuple(resource.configuration_keys or ())
        match resource.resource_type:
            case ResourceType.TOPIC:
                return self._convert(self._topic(name, keys))
            case ResourceType.BROKER:
                return self._convert(self._broker(name, keys))
            case ResourceType.BROKER_LOGGER:
                return self._loggers(name, keys)
            case ResourceType.CLIENT_METRICS | ResourceType.GROUP:
                return _nothing(resource.resource_type, name)
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Unsupported resource type {resource.resource_type}"
        )

    def _topic(self, name: str, keys: tuple[str, ...]) -> Sequence[ConfigEntry]:
        validate_topic_name(name)
        broker = self._ctx.broker
        topic = broker.controller.topics.topic_or_raise(name)
        describer = self._topics.get(keys)
        if describer is None:
            describer = self._topics[keys] = TopicDescriber(
                broker.dynamic_config, broker.controller.log_defaults, wanted(keys)
            )
        return describer.entries(topic.configs)

    def _broker(self, name: str, keys: tuple[str, ...]) -> Sequence[ConfigEntry]:
        dynamic_config = self._ctx.broker.dynamic_config
        if name == ALL_BROKERS:
            return all_brokers_entries(dynamic_config, wanted(keys))
        check_node(self._ctx, name, what="Broker", expected=" or empty string")
        return broker_entries(dynamic_config, wanted(keys))

    def _loggers(self, name: str, keys: tuple[str, ...]) -> list[ResourceResult]:
        check_node(self._ctx, name, what="Broker")
        is_wanted = wanted(keys)
        return [
            ResourceResult(
                name=logger, value=level, config_source=ConfigSource.DYNAMIC_BROKER_LOGGER
            )
            for logger, level in log_levels().items()
            if is_wanted(logger)
        ]

    def _convert(self, entries: Sequence[ConfigEntry]) -> list[ResourceResult]:
        return [
            ResourceResult(
                name=entry.name,
                value=entry.value,
                read_only=entry.is_read_only,
                config_source=entry.source,
                synonyms=[_synonym(each) for each in entry.synonyms] if self._with_synonyms else [],
                config_type=entry.kind,
                documentation=entry.documentation if self._with_documentation else None,
            )
            for entry in entries
        ]


def _synonym(synonym: Synonym) -> DescribeConfigsResponse.Synonym:
    return DescribeConfigsResponse.Synonym(
        name=synonym.name, value=synonym.value, source=synonym.source
    )


def _nothing(resource_type: int, name: str) -> list[ResourceResult]:
    if not name:
        what = "Group" if resource_type == ResourceType.GROUP else "Client metrics subscription"
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{what} name must not be empty")
    return []


def _describe_configs_error(
    request: DescribeConfigsRequest, code: ErrorCode, text: str | None
) -> Steps[DescribeConfigsResponse]:
    response = DescribeConfigsResponse()
    for each in request.resources:
        response.results.append(
            Result(
                error_code=code,
                error_message=text,
                resource_type=each.resource_type,
                resource_name=each.resource_name,
            )
        )
        yield
    return response


def list_config_resources(
    ctx: RequestContext, request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    """List what has settings: all types, or those asked for.

    Source: Kafka ``KafkaApis.handleListConfigResources``.
    """
    if ctx.api_version < _ALL_TYPES_SINCE:
        return ListConfigResourcesResponse()
    types = dict.fromkeys(request.resource_types or ResourceType)
    if any(each not in set(ResourceType) for each in types):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    nodes = [str(node_id) for node_id, _ in ctx.broker.endpoints(ctx.listener_name)]
    names = {
        ResourceType.TOPIC: [topic.name for topic in ctx.broker.metadata],
        ResourceType.BROKER: nodes,
        ResourceType.BROKER_LOGGER: nodes,
    }
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_type=each, resource_name=name)
            for each in types
            for name in names.get(ResourceType(each), [])
        ]
    )
