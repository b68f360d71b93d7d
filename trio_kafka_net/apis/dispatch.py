"""From a frame to a handler, and from its answer to a frame.

Both directions run without a checkpoint unless the handler makes one:

1. ``parse``, in the Processor: the header, and whether this plane serves that API and version.
   What cannot be answered closes the connection: that is what Kafka does, and a client that
   negotiated versions never meets it.
2. ``handle``, in a request handler: the body, the registered function, the response.

What a client has said before is not read again: its header (``habits``), a question whose answer
is known (``kept_answers``), a request that its API has a shortcut for (``produce_again``).

A handler's failure becomes that API's error response. Only bytes that are no request, and an API
that has no response to put an error into, end the connection. Bytes behind a request are ignored,
as Kafka ignores them: librdkafka 2.12 asks for the Metadata of all topics with three of them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING

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
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.headers import decode_request_header, response_header
from trio_kafka_net.protocol.message import Message

from .cluster import unsupported_api_versions
from .context import NO_RESPONSE, RequestContext
from .delayed_answer import DelayedAnswer
from .error_counts import SUCCEEDED, ErrorGatherers, Succeeded
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
    response: Message | KeptAnswer | Succeeded | None
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
        api = request.api
        try:
            message = api.decoder(request.api_version)(
                request.payload, request.body_position, False
            )
            request.message = message
        except RemoteProtocolError as error:
            log.warning("%s: closing: %s", request.connection.connection_id, error)
            request.close_connection(DisconnectCause.INVALID_REQUEST)
            return None
        if api.shortcut is not None:
            api.shortcut.learn(request)
        assert self.pool is not None
        ctx = RequestContext(request, self._broker, self._table, self.pool)
        try:
            answer = function(ctx, message)
        except Exception as error:
            self._fail(request, message, error)
            return None
        if type(answer) is CoroutineType:
            return self._answer_later(request, message, answer)
        if isinstance(answer, DelayedAnswer):
            return self._set_aside(request, message, answer)
        self._answer(request, message, answer)
        return None

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
        self, request: KafkaRequest, message: Message, answer: Awaitable[Answer]
    ) -> None:
        try:
            result = await answer
        except Exception as error:
            self._fail(request, message, error)
        else:
            self._answer(request, message, result)

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
            self._keep(api.kept, request, response, out)
        # Records apart, a response is one piece.
        frame = frame_of(pieces[0]) if len(pieces) == 1 else frame_of_pieces(pieces)
        if frame is None:
            request.respond(Send(pieces))
        else:
            request.respond_frame(frame)

    def _keep(
        self, kept: KeptAnswers, request: KafkaRequest, response: Message, out: bytearray
    ) -> None:
        """Keep an answer that was encoded into ``out``, unless it is for its client alone."""
        if request.message is None or request.throttle_time_ms:
            return
        version = request.response_version
        codes: list[int] = []
        self._errors.of(type(response), version)(response, codes)
        header = len(response_header(request.api.key, version, 0))
        body = bytes(memoryview(out)[header:])
        kept.keep(request, KeptAnswer(request.message, body, codes, type(response), version))

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
        response = request.api.error_response(message, code, text)
        self._respond(request, request.api_version, response)
