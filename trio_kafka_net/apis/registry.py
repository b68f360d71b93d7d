"""KafkaApis: which function serves which API, and what a broker says about itself.

The registry is the truth. An API is served because a handler was registered for it, ApiVersions
is computed from what was registered, and so nothing can be advertised without code behind it::

    apis = KafkaApis.default()

    @apis.handler(replace=True)
    def describe_cluster(ctx: RequestContext, request: DescribeClusterRequest) -> ...:
        ...

Each plane serves its own selection (``ApiTable``): the control plane has an allow-list of
controller requests and administration, the data plane refuses what only a controller may send.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

import attrs

from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.api_keys import (
    ApiKey,
    last_stable_version,
    request_class,
    response_class,
    valid_versions,
)
from trio_kafka_net.protocol.codec import (
    Decoder,
    Encoder,
    StepwiseDecoder,
    StepwiseEncoder,
    decoder,
    encoder,
    stepwise_decoder,
    stepwise_encoder,
)
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.api_versions import ApiVersionsResponse

from .context import RequestContext
from .kept_answers import KeptAnswers, VersionOf

if TYPE_CHECKING:
    from trio_kafka_net.broker.local_broker import LocalBroker
    from trio_kafka_net.network.turn import Steps

    from .dispatch import KafkaRequest

Answer = Any
"""What a handler returns: a message, a ``Send``, or ``NO_RESPONSE``."""

Handler = Callable[[RequestContext, Any], "Answer | Steps[Answer] | Awaitable[Answer]"]
"""Serves one API; plain, ``async``, or a generator function that yields after each element of what
may be large, and is gone on with in the same turn of the event loop or in another one."""

Interceptor = Callable[[RequestContext, Any, Handler], "Answer | Awaitable[Answer]"]
"""Sees a request before its handler, and decides what becomes of it."""

ErrorResponse = Callable[[Any, ErrorCode, "str | None"], "Message | Steps[Message]"]
"""Makes the error response to a request of an API that has no top-level error code; plain, or a
generator function like a handler."""


class Shortcut(Protocol):
    """A way past decoder, handler and encoder, for requests that a client has sent before."""

    def learn(self, request: KafkaRequest) -> None:
        """Look at a request that went the long way; it is decoded, and not handled yet."""
        ...

    def take(self, request: KafkaRequest, broker: LocalBroker) -> bytes | Handler | None:
        """Do what a request asks for without decoding it.

        Returns:
            The frame of the answer, which tells success and nothing else; or what is to be called
            in place of the handler, part of the work being done; or None, nothing being done.
        """
        ...


CONTROLLER_APIS = frozenset(
    {
        ApiKey.LEADER_AND_ISR,
        ApiKey.STOP_REPLICA,
        ApiKey.UPDATE_METADATA,
        ApiKey.CONTROLLED_SHUTDOWN,
    }
)
"""Only a controller sends these, only the control plane serves them."""

CONTROL_PLANE_APIS = CONTROLLER_APIS | {
    ApiKey.API_VERSIONS,
    ApiKey.METADATA,
    ApiKey.DESCRIBE_CLUSTER,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS,
    ApiKey.SASL_HANDSHAKE,
    ApiKey.SASL_AUTHENTICATE,
    ApiKey.ELECT_LEADERS,
    ApiKey.ALTER_PARTITION_REASSIGNMENTS,
    ApiKey.LIST_PARTITION_REASSIGNMENTS,
    ApiKey.UPDATE_FEATURES,
    ApiKey.CREATE_TOPICS,
    ApiKey.DELETE_TOPICS,
    ApiKey.CREATE_PARTITIONS,
    ApiKey.DESCRIBE_CONFIGS,
    ApiKey.ALTER_CONFIGS,
    ApiKey.INCREMENTAL_ALTER_CONFIGS,
    ApiKey.LIST_CONFIG_RESOURCES,
    ApiKey.DESCRIBE_CLIENT_QUOTAS,
    ApiKey.ALTER_CLIENT_QUOTAS,
    ApiKey.DESCRIBE_ACLS,
    ApiKey.CREATE_ACLS,
    ApiKey.DELETE_ACLS,
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS,
}
"""What the control plane serves, if a handler is registered: never anything that carries data."""


@attrs.define(eq=False)
class Api:
    """One API as one plane serves it."""

    key: ApiKey
    min_version: int
    """First version served."""
    max_version: int
    """Last version served."""
    function: Handler
    """The handler inside its interceptors."""
    error_response: ErrorResponse
    kept: KeptAnswers | None = None
    """Answers that may be given again; None if none may."""
    shortcut: Shortcut | None = None
    """Past the handler; None if it has to see every request."""
    advertised: ApiVersionsResponse.ApiVersion = attrs.field(init=False)
    """What ApiVersions says of it."""
    _decoders: dict[int, Decoder[Message]] = attrs.field(factory=dict)
    _encoders: dict[int, Encoder[Message]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        # librdkafka up to 2.8 takes Produce 0 as the sign that it may compress, and never sends
        # it. Kafka 4 says so too, for that reason, and like here refuses versions 0 to 2
        # (KAFKA-18659).
        self.advertised = ApiVersionsResponse.ApiVersion(
            api_key=self.key,
            min_version=0 if self.key is ApiKey.PRODUCE else self.min_version,
            max_version=self.max_version,
        )

    def decoder(self, version: int) -> Decoder[Message]:
        """The decoder of ``version`` of the request."""
        found = self._decoders.get(version)
        if found is None:
            found = self._decoders[version] = decoder(request_class(self.key), version)
        return found

    def encoder(self, version: int) -> Encoder[Message]:
        """The encoder of ``version`` of the response."""
        found = self._encoders.get(version)
        if found is None:
            found = self._encoders[version] = encoder(response_class(self.key), version)
        return found

    def stepwise_decoder(self, version: int) -> StepwiseDecoder[Message]:
        """The decoder in steps of ``version`` of the request."""
        return stepwise_decoder(request_class(self.key), version)

    def stepwise_encoder(self, version: int) -> StepwiseEncoder[Message]:
        """The encoder in steps of ``version`` of the response."""
        return stepwise_encoder(response_class(self.key), version)


ApiTable = dict[int, Api]
"""{API key: what serves it}, for one plane."""


@attrs.define(eq=False)
class _Registration:
    function: Handler
    versions: tuple[int, int]
    stable: int
    """Last version that is served without asking for unstable ones."""
    error_response: ErrorResponse | None
    kept_version: VersionOf | None
    shortcut: Shortcut | None


class KafkaApis:
    """A registry of API handlers; one per broker, or shared by brokers that serve the same.

    Source: Kafka ``KafkaApis``, with the dispatch of its ``handle`` turned into data.
    """

    def __init__(self) -> None:
        """Serve nothing."""
        self._registrations: dict[ApiKey, _Registration] = {}
        # {API: its interceptors}, the outermost first
        self._interceptors: dict[ApiKey, list[Interceptor]] = {}

    @classmethod
    def default(cls) -> KafkaApis:
        """A fresh registry with every API that a broker serves by itself."""
        from . import families  # which imports what serves

        apis = cls()
        families.register_all(apis)
        return apis

    def add(
        self,
        function: Handler,
        *,
        key: ApiKey | None = None,
        versions: tuple[int, int] | None = None,
        error_response: ErrorResponse | None = None,
        kept_version: VersionOf | None = None,
        shortcut: Shortcut | None = None,
        replace: bool = False,
    ) -> None:
        """Serve an API with ``function``.

        Args:
            function: called with a ``RequestContext`` and the decoded request.
            key: the API; without it, the one whose request class annotates the second parameter.
            versions: first and last version served; if not given every version of the message,
                those that Kafka has not released (``table``) among them.
            error_response: makes the response to a failed request, for an API whose response
                has no top-level error code; without it, a replaced handler's stays.
            kept_version: of what answers are made of, if ``function`` lets them be given again
                (``RequestContext.keep_answer``).
            shortcut: does what ``function`` does for requests that it knows already.
            replace: whether to take the place of a handler registered before.

        Raises:
            LocalProtocolError: the API has a handler and ``replace`` is not set, or ``versions``
                goes beyond those of the message, or no API is annotated.
        """
        if key is None:
            key = _annotated_api(function)
        replaced = self._registrations.get(key)
        if replaced is not None and not replace:
            raise LocalProtocolError(f"{key.name} has a handler; say replace=True to replace it")
        valid = valid_versions(key)
        stable = last_stable_version(key) if versions is None else versions[1]
        if versions is None:
            versions = valid
        if not valid[0] <= versions[0] <= versions[1] <= valid[1]:
            raise LocalProtocolError(f"{key.name} has versions {valid}, not {versions}")
        if replaced is not None and error_response is None:
            error_response = replaced.error_response
        self._registrations[key] = _Registration(
            function, versions, stable, error_response, kept_version, shortcut
        )

    def handler(
        self,
        *,
        key: ApiKey | None = None,
        versions: tuple[int, int] | None = None,
        error_response: ErrorResponse | None = None,
        replace: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Serve an API with the decorated function; see ``add``."""

        def register(function: Handler) -> Handler:
            self.add(
                function,
                key=key,
                versions=versions,
                error_response=error_response,
                replace=replace,
            )
            return function

        return register

    def interceptor(self, *keys: ApiKey) -> Callable[[Interceptor], Interceptor]:
        """Let the decorated function see requests of ``keys`` before their handlers.

        It is called with the context, the request, and ``call_next``, which runs the rest and is
        awaited. What it returns is the answer. Later registrations run inside earlier ones.
        """

        def register(function: Interceptor) -> Interceptor:
            for key in keys:
                self._interceptors.setdefault(key, []).append(function)
            return function

        return register

    def table(self, *, is_control_plane: bool, unstable: bool = False) -> ApiTable:
        """What one plane serves, as registered at this moment.

        Args:
            is_control_plane: which plane.
            unstable: whether with the versions that Kafka has not released, of APIs that were
                registered without ``versions``.
        """
        return {
            key: self.api(key, unstable=unstable)
            for key in sorted(self._registrations)
            if (key in CONTROL_PLANE_APIS if is_control_plane else key not in CONTROLLER_APIS)
        }

    def api(self, key: ApiKey, *, unstable: bool = False) -> Api:
        """One API as it is registered at this moment; see ``table``.

        Raises:
            KeyError: it is not registered.
        """
        registration = self._registrations[key]
        function = registration.function
        interceptors = self._interceptors.get(key, [])
        for interceptor in reversed(interceptors):
            function = _intercepted(interceptor, function)
        kept_version = None if interceptors else registration.kept_version
        return Api(
            key=key,
            min_version=registration.versions[0],
            max_version=registration.versions[1] if unstable else registration.stable,
            function=function,
            error_response=registration.error_response or _top_level_error(response_class(key)),
            kept=None if kept_version is None else KeptAnswers(kept_version),
            shortcut=None if interceptors else registration.shortcut,
        )


def _annotated_api(function: Handler) -> ApiKey:
    parameters = list(inspect.signature(function).parameters)
    hints = get_type_hints(function)
    annotated = hints.get(parameters[1]) if len(parameters) > 1 else None
    key = getattr(annotated, "API_KEY", None)
    if not isinstance(key, ApiKey):
        raise LocalProtocolError(
            f"{function!r}: annotate its second parameter with a request class, or give key="
        )
    return key


def _intercepted(interceptor: Interceptor, inner: Handler) -> Handler:
    async def call_next(ctx: RequestContext, request: Any) -> Answer:
        answer = inner(ctx, request)
        if isinstance(answer, Generator):
            return await ctx.in_turns(answer)
        return await answer if isinstance(answer, Awaitable) else answer

    async def intercepted(ctx: RequestContext, request: Any) -> Answer:
        answer = interceptor(ctx, request, call_next)
        return await answer if isinstance(answer, Awaitable) else answer

    return intercepted


def _top_level_error(response: type[Message]) -> ErrorResponse:
    fields = {each.name for each in response.FIELDS}

    def error_response(request: Any, code: ErrorCode, text: str | None) -> Message:
        if "error_code" not in fields:
            raise LocalProtocolError(f"{response.__name__} has no place for error {code.name}")
        made = response(error_code=code)
        if "error_message" in fields:
            made.error_message = text  # type: ignore[attr-defined]  # looked up above
        return made

    return error_response
