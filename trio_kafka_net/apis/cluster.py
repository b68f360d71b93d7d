"""ApiVersions, Metadata, DescribeCluster: what a client asks before it asks for anything.

Versions: ApiVersions 0-4, Metadata 0-13, DescribeCluster 0-2.
Behaviour:
    * ApiVersions lists what is registered for the plane that it is asked on; Produce is listed from
      version 0, as Kafka 4 lists it for old librdkafka, and served from version 3
    * Metadata names the endpoints of the listener that it is asked on, so a client stays there
    * without an authorizer every operation is authorized (KIP-430), as Kafka says then
    * a topic asked for several times is described once
    * auto creation answers when the topic is there, so the client need not ask again; it makes at
      most 100 topics a request (the rest is unknown until the client asks again), and never an
      internal one
    * brokers that are gone, and this one if the log of a partition is offline, are among its
      offline replicas
    * a leader that is gone, or has no such listener, is named by nobody
    * the controller is the living broker with the lowest id, as all of them know it
    * ApiVersions tells the features of ``features``, each finalized at its one level
Version notes:
    ApiVersions v3 client software name and version (KIP-511), features (KIP-584)
    Metadata v1 null topics are all topics, an empty list is none (v0: empty is all)
    Metadata v4 auto topic creation can be declined · v6 LISTENER_NOT_FOUND, before that it was
    LEADER_NOT_AVAILABLE · v10, v11 topic ids in the answer only: in a request they, or a null name,
    are INVALID_REQUEST · v12 topic ids (KIP-516)
    DescribeCluster v1 endpoint type (KIP-919) · v2 fenced brokers: there are none
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from trio_kafka_net.broker.metadata_cache import (
    INTERNAL_TOPICS,
    NO_LEADER,
    MetadataCache,
    TopicMetadata,
    validate_topic_name,
)
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from trio_kafka_net.protocol.messages.describe_cluster import (
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from trio_kafka_net.protocol.messages.metadata import MetadataRequest, MetadataResponse
from trio_kafka_net.protocol.primitives import ZERO_UUID

from .context import RequestContext
from .features import FEATURES, FEATURES_EPOCH

if TYPE_CHECKING:
    from trio_kafka_net.broker.local_broker import LocalBroker

    from .registry import Api, KafkaApis

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")

_CLUSTER_OPERATIONS = 0b1_1111_1010_0000
"""One bit each: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS,
IDEMPOTENT_WRITE."""
TOPIC_OPERATIONS = 0b1101_1111_1000
"""One bit each: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS."""
_NOT_ASKED = -(2**31)
_LISTENER_ERRORS_SINCE = 6

_BROKER_ENDPOINTS, _CONTROLLER_ENDPOINTS = 1, 2
_TOPIC_IDS_SINCE = 12
_NEVER_STRICT = 32767
"""Whoever asks for metadata does not know the refusal of a change; Kafka's rule as well."""
_MAX_TOPICS_MADE = 100
"""Topics that one Metadata request may make; each costs a few small files."""
_MAKING_MS = 15_000
"""How long a Metadata request waits for brokers to hear of the topics that it makes."""

_PARTITIONS_PER_PASS = 500
"""Described at once: about a millisecond. What is more takes turns."""
_TOPICS_PER_STEP = 100
"""And partitions, of what takes turns: a fifth of a millisecond."""

_AskedTopic = tuple[bytes, "str | None"]
"""Topic id (zero if not given) and name."""
_Found = TopicMetadata | MetadataResponse.Topic
"""A topic; or, if it is not there, how that is answered."""


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(api_versions, key=ApiVersionsRequest.API_KEY)
    apis.add(
        metadata,
        key=MetadataRequest.API_KEY,
        error_response=_metadata_error,
        kept_version=_metadata_version,
    )
    apis.add(describe_cluster, key=DescribeClusterRequest.API_KEY)


def api_versions(ctx: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse:
    """List what this plane serves, and remember what the client calls itself."""
    if ctx.api_version >= 3:
        name, version = request.client_software_name, request.client_software_version
        if not (_SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(version)):
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        connection = ctx.request.connection
        connection.client_software_name = name
        connection.client_software_version = version
    return ApiVersionsResponse(
        api_keys=[api.advertised for api in ctx.apis.values()],
        supported_features=[
            ApiVersionsResponse.SupportedFeatureKey(
                name=each.name, min_version=each.level, max_version=each.level
            )
            for each in FEATURES
        ],
        finalized_features_epoch=FEATURES_EPOCH,
        finalized_features=[
            ApiVersionsResponse.FinalizedFeatureKey(
                name=each.name, min_version_level=each.level, max_version_level=each.level
            )
            for each in FEATURES
        ],
    )


def unsupported_api_versions(api: Api) -> ApiVersionsResponse:
    """The answer, in version 0, to a version of ApiVersions that is not served (KIP-511)."""
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[api.advertised])


def metadata(
    ctx: RequestContext, request: MetadataRequest
) -> MetadataResponse | Awaitable[MetadataResponse]:
    """Describe brokers and topics; topics that do not exist may be created on the way."""
    if ctx.is_large and request.topics:
        return _metadata_in_turns(ctx, request, request.topics)
    version = _metadata_version(ctx.broker)
    asked = _asked_topics(ctx, request.topics)
    if asked and request.allow_auto_topic_creation and ctx.broker.config.auto_create_topics_enable:
        names = _missing_topics(ctx, asked)
        if names:
            return _create_then_describe(ctx, request, asked, names)
    return _describe(ctx, request, _found_topics(ctx, asked, {}), version)


async def _metadata_in_turns(
    ctx: RequestContext, request: MetadataRequest, topics: list[MetadataRequest.Topic]
) -> MetadataResponse:
    """The same for so many topics that others get turns in between."""
    version = _metadata_version(ctx.broker)
    asked = await ctx.in_turns(_all_asked_topics(ctx, topics))
    failures: dict[str, int] = {}
    if request.allow_auto_topic_creation and ctx.broker.config.auto_create_topics_enable:
        names = await ctx.in_turns(_all_missing_topics(ctx, asked))
        if names:
            failures = await _create_missing(ctx, names)
            version = _metadata_version(ctx.broker)
    found = await ctx.in_turns(_all_found_topics(ctx, asked, failures))
    if not any(isinstance(topic, MetadataResponse.Topic) for topic in found):
        ctx.keep_answer(version)
    describer = _TopicDescriber(ctx, request)
    return await _describe_in_passes(ctx, _describe_cluster(ctx, request), describer, found)


def _all_asked_topics(
    ctx: RequestContext, topics: list[MetadataRequest.Topic]
) -> Steps[list[_AskedTopic]]:
    asked: dict[_AskedTopic, None] = {}
    for first in range(0, len(topics), _TOPICS_PER_STEP):
        some = _asked_topics(ctx, topics[first : first + _TOPICS_PER_STEP]) or ()
        asked.update(dict.fromkeys(some))
        yield
    return list(asked)


def _all_missing_topics(ctx: RequestContext, asked: list[_AskedTopic]) -> Steps[list[str]]:
    names: list[str] = []
    for first in range(0, len(asked), _TOPICS_PER_STEP):
        names += _missing_topics(ctx, asked[first : first + _TOPICS_PER_STEP])
        if len(names) >= _MAX_TOPICS_MADE:
            break
        yield
    return names[:_MAX_TOPICS_MADE]


def _all_found_topics(
    ctx: RequestContext, asked: list[_AskedTopic], failures: dict[str, int]
) -> Steps[list[_Found]]:
    found: list[_Found] = []
    for first in range(0, len(asked), _TOPICS_PER_STEP):
        found += _found_topics(ctx, asked[first : first + _TOPICS_PER_STEP], failures)
        yield
    return found


def _metadata_version(broker: LocalBroker) -> int:
    """Grows whenever Metadata may be answered in another way."""
    return broker.metadata.version + broker.replicas.offline_version


def _asked_topics(
    ctx: RequestContext, topics: list[MetadataRequest.Topic] | None
) -> list[_AskedTopic] | None:
    """The topics that are asked for, each once; None for all.

    Raises:
        KafkaError: INVALID_REQUEST, the version does not allow what is asked.
    """
    if topics is None or (not topics and ctx.api_version == 0):
        return None
    asked = list(dict.fromkeys([(topic.topic_id, topic.name) for topic in topics]))
    if ctx.api_version < _TOPIC_IDS_SINCE and any(
        topic_id != ZERO_UUID or name is None for topic_id, name in asked
    ):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    return asked


def _missing_topics(ctx: RequestContext, asked: list[_AskedTopic]) -> list[str]:
    """Names that do not exist and shall be created."""
    get_topic = ctx.broker.metadata.get_topic
    names = [
        name
        for topic_id, name in asked
        if topic_id == ZERO_UUID
        and name is not None
        and get_topic(name) is None
        and name not in INTERNAL_TOPICS
    ]
    return names[:_MAX_TOPICS_MADE]


async def _create_then_describe(
    ctx: RequestContext, request: MetadataRequest, asked: list[_AskedTopic], names: list[str]
) -> MetadataResponse:
    failures = await _create_missing(ctx, names)
    version = _metadata_version(ctx.broker)
    answer = _describe(ctx, request, _found_topics(ctx, asked, failures), version)
    return answer if isinstance(answer, MetadataResponse) else await answer


async def _create_missing(ctx: RequestContext, names: list[str]) -> dict[str, int]:
    """Create topics; returns the error codes of those that failed."""
    failures: dict[str, int] = {}
    quota = ctx.mutation_quota(strict_since=_NEVER_STRICT)
    wait = ctx.delivery_wait(_MAKING_MS, "Metadata")
    for name in names:
        try:
            await ctx.broker.controller.create_topic(name, admit=quota.record, wait=wait)
        except KafkaError as error:
            if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:  # somebody was faster: fine
                failures[name] = error.code
    return failures


def _describe(
    ctx: RequestContext, request: MetadataRequest, found: list[_Found], version: int
) -> MetadataResponse | Awaitable[MetadataResponse]:
    """Describe brokers and topics as they are at ``version``."""
    response = _describe_cluster(ctx, request)
    describer = _TopicDescriber(ctx, request)
    if all(isinstance(topic, TopicMetadata) for topic in found):
        # Who asks for a topic that is missing may want it made the next time.
        ctx.keep_answer(version)
    if sum(len(topic.partitions) for topic in found) > _PARTITIONS_PER_PASS:
        return _describe_in_passes(ctx, response, describer, found)
    for topic in found:
        response.topics.append(
            describer.whole(topic) if isinstance(topic, TopicMetadata) else topic
        )
    return response


async def _describe_in_passes(
    ctx: RequestContext,
    response: MetadataResponse,
    describer: _TopicDescriber,
    found: list[_Found],
) -> MetadataResponse:
    """Let others go on when a turn is over; what changes meanwhile is told or not."""
    breaks = ctx.breaks()
    for topic in found:
        if not isinstance(topic, TopicMetadata):
            response.topics.append(topic)
            if breaks.is_due():
                await breaks.take()
            continue
        described = describer.without_partitions(topic)
        response.topics.append(described)
        while len(described.partitions) < len(topic.partitions):
            first = len(described.partitions)
            described.partitions += describer.partitions(topic, first, first + _TOPICS_PER_STEP)
            if breaks.is_due():
                await breaks.take()
    return response


def _describe_cluster(ctx: RequestContext, request: MetadataRequest) -> MetadataResponse:
    broker = ctx.broker
    wants_cluster = request.include_cluster_authorized_operations
    return MetadataResponse(
        brokers=[
            MetadataResponse.Broker(node_id=node_id, host=endpoint.host, port=endpoint.port)
            for node_id, endpoint in broker.endpoints(ctx.listener_name)
        ],
        cluster_id=broker.cluster_id,
        controller_id=broker.metadata.controller_id,
        cluster_authorized_operations=_CLUSTER_OPERATIONS if wants_cluster else _NOT_ASKED,
    )


class UnreachableLeaders:
    """Why clients of a listener cannot go to the leader of a partition, for one answer."""

    __slots__ = ("_alive", "reachable")

    def __init__(
        self, broker: LocalBroker, listener_name: str, *, tells_listeners: bool = True
    ) -> None:
        """Ask what ``broker`` knows now.

        Args:
            broker: the broker that answers.
            listener_name: of the client.
            tells_listeners: whether the client knows LISTENER_NOT_FOUND.
        """
        brokers = broker.metadata.brokers
        self.reachable = {each.node_id for each in brokers if listener_name in each.endpoints}
        """Node ids that clients of the listener can go to."""
        self._alive = {each.node_id for each in brokers} if tells_listeners else ()

    def code(self, leader_id: int) -> ErrorCode:
        """Why a leader that is not in ``reachable`` cannot be named.

        Source: Kafka ``KRaftMetadataCache.getPartitionMetadata`` (4.1).
        """
        if leader_id in self._alive:
            return ErrorCode.LISTENER_NOT_FOUND
        return ErrorCode.LEADER_NOT_AVAILABLE


def _found_topics(
    ctx: RequestContext, asked: list[_AskedTopic] | None, failures: dict[str, int]
) -> list[_Found]:
    """The topics that are asked for; those that are not there as they are answered."""
    if asked is None:
        return list(ctx.broker.metadata)
    return [_found_topic(ctx.broker.metadata, each, failures) for each in asked]


def _found_topic(cache: MetadataCache, asked: _AskedTopic, failures: dict[str, int]) -> _Found:
    topic_id, name = asked
    if topic_id != ZERO_UUID:
        return cache.get_topic_by_id(topic_id) or MetadataResponse.Topic(
            error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id
        )
    if name is None:
        return MetadataResponse.Topic(error_code=ErrorCode.INVALID_REQUEST, name=None)
    return cache.get_topic(name) or MetadataResponse.Topic(
        error_code=_why_missing(name, failures), name=name, is_internal=name in INTERNAL_TOPICS
    )


def _why_missing(name: str, failures: dict[str, int]) -> ErrorCode:
    if name in failures:
        return ErrorCode(failures[name])
    try:
        validate_topic_name(name)
    except KafkaError:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class _TopicDescriber:
    """Describes topics as the client of one request sees them."""

    def __init__(self, ctx: RequestContext, request: MetadataRequest) -> None:
        self._broker = ctx.broker
        self._unreachable = UnreachableLeaders(
            ctx.broker, ctx.listener_name, tells_listeners=ctx.api_version >= _LISTENER_ERRORS_SINCE
        )
        wants = request.include_topic_authorized_operations
        self._operations = TOPIC_OPERATIONS if wants else _NOT_ASKED
        # Partitions mostly have the same replicas. Lists are shared, for ten thousand more objects
        # at once make Python's garbage collector look at everything; but not with an interceptor,
        # which may change them.
        is_ours = ctx.request.api.kept is not None
        self._list_of: Callable[[tuple[int, ...]], list[int]] = (
            functools.cache(list) if is_ours else list
        )

    def whole(self, topic: TopicMetadata) -> MetadataResponse.Topic:
        described = self.without_partitions(topic)
        described.partitions = self.partitions(topic, 0, len(topic.partitions))
        return described

    def without_partitions(self, topic: TopicMetadata) -> MetadataResponse.Topic:
        return MetadataResponse.Topic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.is_internal,
            topic_authorized_operations=self._operations,
        )

    def partitions(
        self, topic: TopicMetadata, first: int, end: int
    ) -> list[MetadataResponse.Partition]:
        node_id, get_partition = self._broker.node_id, self._broker.replicas.get_partition
        unreachable, reachable = self._unreachable, self._unreachable.reachable
        list_of = self._list_of
        return [
            MetadataResponse.Partition(
                error_code=ErrorCode.NONE
                if state.leader_id in reachable
                else unreachable.code(state.leader_id),
                partition_index=index,
                leader_id=state.leader_id if state.leader_id in reachable else NO_LEADER,
                leader_epoch=state.leader_epoch,
                replica_nodes=list_of(state.replicas),
                isr_nodes=list_of(state.isr),
                offline_replicas=[*state.offline_replicas, node_id]
                if (found := get_partition(topic.name, index)) and found.is_offline
                else list_of(state.offline_replicas),
            )
            for index, state in enumerate(topic.partitions[first:end], first)
        ]


def _metadata_error(
    request: MetadataRequest, code: ErrorCode, text: str | None
) -> MetadataResponse:
    return MetadataResponse(
        error_code=code,
        topics=[
            MetadataResponse.Topic(error_code=code, name=topic.name or "", topic_id=topic.topic_id)
            for topic in request.topics or []
        ],
    )


def describe_cluster(
    ctx: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Describe the brokers, as seen from the listener that is asked."""
    if request.endpoint_type != _BROKER_ENDPOINTS:
        if request.endpoint_type != _CONTROLLER_ENDPOINTS:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
                f"Unsupported endpoint type {request.endpoint_type}",
            )
        raise KafkaError(
            ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type "
            "CONTROLLER",
        )
    broker = ctx.broker
    wants = request.include_cluster_authorized_operations
    return DescribeClusterResponse(
        endpoint_type=_BROKER_ENDPOINTS,
        cluster_id=broker.cluster_id,
        controller_id=broker.metadata.controller_id,
        brokers=[
            DescribeClusterResponse.Broker(
                broker_id=node_id, host=endpoint.host, port=endpoint.port
            )
            for node_id, endpoint in broker.endpoints(ctx.listener_name)
        ],
        cluster_authorized_operations=_CLUSTER_OPERATIONS if wants else _NOT_ASKED,
    )
