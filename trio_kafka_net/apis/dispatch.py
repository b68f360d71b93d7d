"""From a frame to a handler, and from its answer to a frame.

Both directions run without a checkpoint unless the handler makes one:

1. ``parse``, in the Processor: the header, and whether this plane serves that API and version.
   What cannot be answered closes the connection: that is what Kafka does, and a client that
   negotiated versions never meets it.
2. ``handle``, in a request handler: the body, the registered function, the response.

What is large takes turns: a request of many elements is decoded, handled, answered and freed in
steps (``_handle_in_turns``), and so is an answer that a handler makes in steps (docs/design/0016).

What a client has said before is not read again: its header (``habits``), a question whose answer
is known (``kept_answers``), a request that its API has a shortcut for (``produce_again``).

A handler's failure becomes that API's error response. Only bytes that are no request, and an API
that has no response to put an error into, end the connection. Bytes behind a request are ignored,
as Kafka ignores them: librdkafka 2.12 asks for the Metadata of all topics with three of them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Generator
from functools import partial
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from trio_kafka_net.errors import (
    CloseConnection,
    FatalExitError,
    KafkaError,
    LocalProtocolError,
    RemoteProtocolError,
    StorageError,
)
from trio_kafka_net.network.connection import Connection, DisconnectCause
from trio_kafka_net.network.framing import Send, frame_of, frame_of_pieces
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.request_channel import Request
from trio_kafka_net.network.set_aside import SetAside
from trio_kafka_net.network.turn import Steps, finish
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.headers import decode_request_header, response_header
from trio_kafka_net.protocol.message import Message

from .cluster import unsupported_api_versions
from .context import NO_RESPONSE, LargeRequestContext, RequestContext
from .delayed_answer import DelayedAnswer
from .dismantling import hold, hollow, let_go
from .error_counts import SUCCEEDED, ErrorGatherers, Gathered, Succeeded
from .habits import Habits
from .kept_answers import KeptAnswer, KeptAnswers
from .registry import Answer, Api, ApiTable, Handler
from .throttling import ClientThrottle

if TYPE_CHECKING:
    from trio_kafka_net.broker.client_quotas import MutationQuota
    from trio_kafka_net.broker.local_broker import LocalBroker

log = logging.getLogger(__name__)
_request_log = logging.getLogger("trio_kafka_net.request")
"""That of ``request_log``; whoever listens wants to see every message."""

_SMALL_BYTES: Final = 2048
"""Frames up to this size are decoded at once; they cannot have elements for a whole turn."""
_STEPS_AT_ONCE: Final = 100
"""Of a handler that works in steps, before others get a turn."""


class KafkaRequest(Request):
    """A request with its Kafka header; the body is decoded when a handler takes it."""

    __slots__ = (
        "api",
        "api_version",
        "body_position",
        "client_id",
        "client_software_name",
        "client_software_version",
        "correlation_id",
        "kept_at",
        "message",
        "mutation_quota",
        "response",
        "response_version",
    )

    api: Api
    api_version: int
    correlation_id: int
    client_id: str | None
    body_position: int
    client_software_name: str
    """What the client had called itself when the request came (KIP-511)."""
    client_software_version: str
    message: Message | None
    """The body, once a handler has decoded it, until the request is over."""
    kept_at: int | None
    """Version of what the answer is made of, if it may be given again."""
    mutation_quota: MutationQuota | None
    """What it may change of the cluster, if its handler asked."""
    response: Message | KeptAnswer | Gathered | Succeeded | None
    """What it is answered with, unless that is just bytes, until the request is over."""
    response_version: int

    def __repr__(self) -> str:
        return (
            f"<{self.api.key.name} v{self.api_version} #{self.correlation_id}"
            f" of {self.client_id!r} from {self.connection.connection_id}>"
        )


class ApiDispatcher:
    """Serves the requests of one plane of one broker.

    Source: Kafka ``KafkaApis.handle`` and ``Processor.parseRequestHeader``.
    """

    def __init__(self, broker: LocalBroker, table: ApiTable) -> None:
        """Serve what ``table`` has; ``pool`` must be set before the first request."""
        self._broker = broker
        self._table = table
        self._quotas = broker.quotas
        self._throttle = ClientThrottle(broker.quotas, broker.throttler)
        self._errors = ErrorGatherers()
        self.pool: RequestHandlerPool | None = None
        """The handlers of the plane, where parked requests are counted."""

    def parse(self, connection: Connection, payload: memoryview) -> KafkaRequest:
        """Make a request of a frame.

        Raises:
            RemoteProtocolError: the header is malformed, or this plane does not serve that API
                or version.
        """
        habits: Habits | None = connection.attachment
        if habits is None:
            habits = connection.attachment = Habits()
        correlation_id = habits.recognise(payload)
        request = KafkaRequest(connection, payload)
        if correlation_id is not None:
            request.correlation_id = correlation_id
            request.api = habits.api
            request.api_version = habits.api_version
            request.client_id = habits.client_id
            request.body_position = habits.body_position
        else:
            self._read_header(request, habits)
        connection.client_id = request.client_id or ""
        request.client_software_name = connection.client_software_name
        request.client_software_version = connection.client_software_version
        request.message = request.response = request.mutation_quota = request.kept_at = None
        return request

    def _read_header(self, request: KafkaRequest, habits: Habits) -> None:
        connection, payload = request.connection, request.payload
        header, body_position = decode_request_header(payload)
        api = self._table.get(header.api_key)
        if api is None:
            plane = "control" if connection.is_privileged else "data"
            raise RemoteProtocolError(
                f"API key {header.api_key} is not served on the {plane} plane"
            )
        version = header.api_version
        if not api.min_version <= version <= api.max_version and (
            api.key is not ApiKey.API_VERSIONS
        ):
            raise RemoteProtocolError(
                f"{api.key.name} version {version} is outside {api.min_version}..{api.max_version}"
            )
        request.correlation_id = header.correlation_id
        request.api = api
        request.api_version = version
        request.client_id = header.client_id
        request.body_position = body_position
        habits.learn_header(payload, header, api, body_position)

    def handle(self, request: Request) -> Awaitable[None] | SetAside | None:
        """Run the handler of a request and answer it; returns something only if it waits."""
        assert isinstance(request, KafkaRequest)
        api = request.api
        version = request.api_version
        if not api.min_version <= version <= api.max_version:
            self._respond(request, 0, unsupported_api_versions(api))
            return None
        if api.kept is not None:
            kept = api.kept.find(request, self._broker)
            if kept is not None:
                self._repeat(request, kept)
                return None
        function = api.function
        if api.shortcut is not None and self._may_skip_messages():
            taken = api.shortcut.take(request, self._broker)
            if isinstance(taken, bytes):
                request.response = SUCCEEDED
                request.response_version = version
                request.respond_frame(taken)
                return None
            if taken is not None:
                function = taken
        return self._handle_message(request, function)

    def _may_skip_messages(self) -> bool:
        """Whether nobody wants to see, or change, what is asked and answered."""
        return not self._quotas.is_enforced and not _request_log.isEnabledFor(logging.DEBUG)

    def _handle_message(
        self, request: KafkaRequest, function: Handler
    ) -> Awaitable[None] | SetAside | None:
        api, payload = request.api, request.payload
        try:
            if len(payload) <= _SMALL_BYTES:
                message = api.decoder(request.api_version)(payload, request.body_position, False)
            else:
                decoded = _begin_decoding(request)
                if isinstance(decoded, Generator):
                    return self._handle_in_turns(request, function, decoded)
                message = decoded
            request.message = message
        except RemoteProtocolError as error:
            self._close_malformed(request, error)
            return None
        if api.shortcut is not None:
            api.shortcut.learn(request)
        assert self.pool is not None
        ctx = RequestContext(request, self._broker, self._table, self.pool)
        try:
            answer = function(ctx, message)
            if type(answer) is GeneratorType:
                answer = _begin_answer(ctx, answer)
        except Exception as error:
            self._fail(request, message, error)
            return None
        if type(answer) is CoroutineType:
            return self._answer_later(request, message, answer)
        if isinstance(answer, DelayedAnswer):
            return self._set_aside(request, message, answer)
        self._answer(request, message, answer)
        return None

    @staticmethod
    def _close_malformed(request: KafkaRequest, error: RemoteProtocolError) -> None:
        log.warning("%s: closing: %s", request.connection.connection_id, error)
        request.close_connection(DisconnectCause.INVALID_REQUEST)

    def _set_aside(
        self, request: KafkaRequest, message: Message, answer: DelayedAnswer
    ) -> SetAside:
        assert self.pool is not None
        resume = partial(self._look_again, request, message, answer)
        aside = self.pool.set_aside(request, answer.reason, resume)
        answer.wake = aside.call
        answer.begin()
        return aside

    def _look_again(self, request: KafkaRequest, message: Message, answer: DelayedAnswer) -> bool:
        """Answer a request that was set aside if it is time; returns whether that is over.

        Raises:
            CloseConnection: its client went away.
        """
        connection = request.connection
        if connection.peer_gone or not connection.is_open:
            answer.end()
            raise CloseConnection("the client went away while its request was parked")
        try:
            result = answer.look()
        except Exception as error:
            answer.end()
            self._fail(request, message, error)
            return True
        if result is None:
            return False
        answer.end()
        self._answer(request, message, result)
        return True

    async def _answer_later(
        self,
        request: KafkaRequest,
        message: Message,
        answer: Awaitable[Answer],
        *,
        is_large: bool = False,
    ) -> None:
        """Wait for an answer, and give it in steps if it, or the request, is large."""
        assert self.pool is not None
        try:
            result = await answer
        except Exception as error:
            result = self._error_response(request, message, error)
            if isinstance(result, Generator):
                result = await self.pool.in_turns(result)
        if isinstance(result, Message):
            try:
                is_large = await self._respond_in_turns(request, result, is_large=is_large)
            except LocalProtocolError as error:
                self._fail(request, message, error)
        else:
            self._answer(request, message, result)
        if is_large:
            whole = [each for each in (message, result) if isinstance(each, Message)]
            held = await self.pool.in_turns(hold(whole))
            del message, answer, result
            await self.pool.in_turns(let_go(held))

    def _answer(self, request: KafkaRequest, message: Message, answer: Answer) -> None:
        if answer is NO_RESPONSE:
            if self._quotas.is_enforced:
                self._throttle.charge_unanswered(request)
            request.respond_nothing()
        elif isinstance(answer, Send):
            if self._quotas.is_enforced:
                self._throttle.charge_opaque(request)
            request.respond(answer)
        elif answer is None:
            forgotten = LocalProtocolError(f"the handler of {request.api.key.name} returned None")
            self._fail(request, message, forgotten)
        else:
            try:
                self._respond(request, request.api_version, answer)
            except LocalProtocolError as error:
                self._fail(request, message, error)

    def _respond(self, request: KafkaRequest, version: int, response: Message) -> None:
        api = request.api
        if self._quotas.is_enforced:
            response = self._throttle.charge(request, version, response)
        request.response = response
        request.response_version = version
        out = response_header(api.key, version, request.correlation_id)
        pieces = api.encoder(version)(response, out)
        if api.kept is not None and request.kept_at is not None:
            codes: list[int] = []
            self._errors.of(type(response), version)(response, codes)
            self._keep(api.kept, request, type(response), codes, out)
        _send(request, pieces)

    async def _respond_in_turns(
        self, request: KafkaRequest, response: Message, *, is_large: bool
    ) -> bool:
        """Answer a request; returns whether it, or the response, is large.

        Raises:
            LocalProtocolError: the response cannot be encoded.
        """
        assert self.pool is not None
        api, version = request.api, request.api_version
        if self._quotas.is_enforced:
            response = self._throttle.charge(request, version, response)
        request.response = response
        request.response_version = version
        out = response_header(api.key, version, request.correlation_id)
        encoding = api.stepwise_encoder(version)(response, out)
        try:
            next(encoding)
        except StopIteration as end:
            pieces = end.value
        else:
            is_large = True
            pieces = await self.pool.in_turns(encoding)
        may_keep = api.kept is not None and request.kept_at is not None
        if is_large or may_keep:
            codes: list[int] = []
            gather = self._errors.stepwise(type(response), version)
            await self.pool.in_turns(gather(response, codes))
            if api.kept is not None and may_keep:
                self._keep(api.kept, request, type(response), codes, out)
        if is_large and not _request_log.isEnabledFor(logging.DEBUG):
            # So that who counts the request later need not go through all of it at once.
            assert request.message is not None
            request.response, request.message = Gathered(codes), hollow(request.message)
        _send(request, pieces)
        return is_large

    def _keep(
        self,
        kept: KeptAnswers,
        request: KafkaRequest,
        response: type[Message],
        codes: list[int],
        out: bytearray,
    ) -> None:
        """Keep an answer that was encoded into ``out``, unless it is for its client alone."""
        if request.message is None or request.throttle_time_ms:
            return
        version = request.response_version
        header = len(response_header(request.api.key, version, 0))
        body = bytes(memoryview(out)[header:])
        kept.keep(request, KeptAnswer(request.message, body, codes, response, version))

    def _repeat(self, request: KafkaRequest, kept: KeptAnswer) -> None:
        """Answer as somebody else was answered who asked the same."""
        request.message = kept.question
        request.response = kept
        request.response_version = kept.version
        if self._quotas.is_enforced:
            self._throttle.charge_opaque(request)
        request.respond_frame(kept.frame(request.correlation_id, request.throttle_time_ms))

    def _fail(self, request: KafkaRequest, message: Message, error: Exception) -> None:
        """Answer with the error response of the API.

        Raises:
            CloseConnection: ``error`` is one.
            FatalExitError, MemoryError: ``error`` is one.
            LocalProtocolError: the API has no place for an error.
        """
        response = self._error_response(request, message, error)
        if isinstance(response, Generator):
            response = finish(response)
        self._respond(request, request.api_version, response)

    def _error_response(
        self, request: KafkaRequest, message: Message, error: Exception
    ) -> Message | Steps[Message]:
        """The error response of the API; raises as ``_fail``."""
        if isinstance(error, CloseConnection | FatalExitError | MemoryError):
            try:
                raise error
            finally:
                del error  # its traceback keeps this frame, which must not keep it in turn
        code, text = ErrorCode.UNKNOWN_SERVER_ERROR, None
        if isinstance(error, KafkaError):
            code, text = error_code_of(error), error.message
            log.debug("%r: %s", request, error)
        elif isinstance(error, StorageError):
            code = ErrorCode.KAFKA_STORAGE_ERROR
            log.error("%r: %s", request, error)
        else:
            log.error("%r: its handler failed", request, exc_info=error)
        return request.api.error_response(message, code, text)

    async def _handle_in_turns(
        self, request: KafkaRequest, function: Handler, decoding: Steps[Message]
    ) -> None:
        """Decode and handle a request of many elements, a little in each turn."""
        assert self.pool is not None
        try:
            request.message = await self.pool.in_turns(decoding)
        except RemoteProtocolError as error:
            self._close_malformed(request, error)
            return
        ctx = LargeRequestContext(request, self._broker, self._table, self.pool)
        # No local name for the message: the last one who has it lets go of it in steps.
        answer = _call(function, ctx, request.message)
        await self._answer_later(request, request.message, answer, is_large=True)


async def _call(function: Handler, ctx: RequestContext, message: Message) -> Answer:
    answer = function(ctx, message)
    if isinstance(answer, Generator):
        return await ctx.in_turns(answer)
    return await answer if isinstance(answer, Awaitable) else answer


def _begin_decoding(request: KafkaRequest) -> Message | Steps[Message]:
    """The message of a large frame, if it has few elements; or else how decoding goes on."""
    decoder = request.api.stepwise_decoder(request.api_version)
    steps = decoder(request.payload, request.body_position, False)
    try:
        next(steps)
    except StopIteration as end:
        message: Message = end.value
        return message
    return steps


def _begin_answer(ctx: RequestContext, steps: Steps[Answer]) -> Answer | Awaitable[Answer]:
    """The answer that steps make, if they are few; or else how it goes on."""
    try:
        for _ in range(_STEPS_AT_ONCE):
            next(steps)
    except StopIteration as end:
        return end.value
    return ctx.in_turns(steps)


def _send(request: Request, pieces: list[Any]) -> None:
    """Answer with an encoded response; records apart, that is one piece."""
    frame = frame_of(pieces[0]) if len(pieces) == 1 else frame_of_pieces(pieces)
    if frame is None:
        request.respond(Send(pieces))
    else:
        request.respond_frame(frame)
