"""The channel between Processors and request handlers, and what travels through it.

Towards the handlers: a bounded queue of requests, one per plane. Back: the response channel of the
Processor that owns the connection.

Both ways are short as long as nobody has to wait. A request is *handed over*: if a handler waits
for one, and no request is queued, and the turn lasts, it is run there and then by whoever hands it
over, in the place of that handler, and its answer is written before ``hand_over`` returns. In every
other case it is queued. What a handler cannot finish without waiting is left to the handler task
whose place was taken. Only a Processor's pass hands over: where a handler may be at work already
(memory that it gives back lets another connection read, an answer that is out lets its own)
requests are ``put``, or one would run in the middle of another.

What is different from Kafka, on purpose. There a network thread blocks when the request queue is
full, and with it every other connection of that thread. Here the request that found no room
waits at the side, in the order of arrival, and only its own connection waits with it: it is
muted anyway. What waits at the side is bounded by the number of connections, one request each,
and a request moves into the channel as soon as a handler takes one out.

When a request is over. Two parties hold it: the handlers, from ``put`` on until its handler is
done with it (or the queue is cleared), and its connection, until the response is out, or there is
none to send, or the connection is gone. Either may be the last: a client can vanish while its
request is queued, handled or parked, and a handler may go on after it has answered. Whoever lets
go last finishes the request, and the finishing consumes the observer; so a request is reported
once, whatever happened to it, and an ending that nobody thought of cannot report it twice.

When an answer goes to the Processor. At once, if the handler waits for anything; else when the
handler has returned, a moment later. The Processor may write the answer and read the next request
there and then, and nothing of this one, its memory and its report, shall be left over by that time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING

import attrs
import trio

from trio_kafka_net.errors import FatalExitError, LocalProtocolError

from .connection import DisconnectCause
from .framing import FrameSend, Send

if TYPE_CHECKING:
    from .connection import Connection
    from .memory_pool import MemoryPool
    from .set_aside import SetAside

log = logging.getLogger(__name__)

OnFinished = Callable[["Request"], None]
"""Told once about every request that was queued, when it is over. That is before its connection
reads the next one, unless a handler goes on after it has answered."""


_NO_BYTES = memoryview(b"")


class Request:
    """One request, from the last byte of its frame to the last byte of its response.

    It is answered exactly once, by ``respond``, ``respond_nothing`` or ``close_connection``;
    a second answer is an error of the caller.

    All times are ``perf_counter_ns`` values, 0 as long as they have not happened.

    Source: Kafka ``RequestChannel.Request``.
    """

    __slots__ = (
        "_held_answer",
        "_is_with_connection",
        "_is_with_handlers",
        "_on_finished",
        "connection",
        "dequeue_time_ns",
        "end_time_ns",
        "holds_answer",
        "is_answered",
        "local_complete_time_ns",
        "parked_scope",
        "parked_time_ns",
        "payload",
        "payload_bytes",
        "pool",
        "pool_bytes",
        "response_bytes",
        "response_complete_time_ns",
        "response_dequeue_time_ns",
        "start_time_ns",
        "throttle_time_ms",
    )

    pool_bytes: int
    """How many bytes are counted there; set if ``pool`` is."""

    def __init__(self, connection: Connection, payload: memoryview) -> None:
        """A request with a whole ``payload``; ``connection`` gets the answer."""
        self.connection = connection
        self.payload = payload
        """The frame without its size, a view of memory that is this request's own; empty when it is
        forgotten."""
        self.payload_bytes = len(payload)
        """Its length, also when it is forgotten."""
        self.pool: MemoryPool | None = None
        """Where the payload's bytes are counted, until they are given back."""
        self._is_with_connection = True
        self._is_with_handlers = False
        self.holds_answer = False
        """Whether an answer is kept until ``leave_handlers`` or ``let_answer_go``."""
        self._held_answer: Response | bytes | None = None
        self._on_finished: OnFinished | None = None
        self.is_answered = False
        """Whether its one final response has been given."""
        self.parked_scope: trio.CancelScope | SetAside | None = None
        """Set while its handler is parked, or it is set aside: cancelling it ends the wait."""
        self.start_time_ns = 0
        """The frame was whole."""
        self.dequeue_time_ns = 0
        """A handler took it."""
        self.local_complete_time_ns = 0
        """The handler had its result, or returned."""
        self.parked_time_ns = 0
        """How long its handler was parked, in all: a duration, not a time."""
        self.response_complete_time_ns = 0
        """The response was handed to the Processor."""
        self.response_dequeue_time_ns = 0
        """The Processor took the response."""
        self.end_time_ns = 0
        """The last byte was out, or it was clear that none would be."""
        self.response_bytes = 0
        """Size of the response's frame; 0 if there is none. The peer may not have got it all."""
        self.throttle_time_ms = 0
        """How long its client was told to wait (a quota's decision, not the time waited)."""

    def release_memory(self) -> None:
        """Give the payload's bytes back to the pool's count; a second call does nothing."""
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.release(self.pool_bytes)

    def forget_payload(self) -> None:
        """Have the frame no longer, because its handler has read it and waits for something else.

        Frames that wait are not what the pool bounds: those whom they wait for need memory, too.
        """
        self.payload = _NO_BYTES
        self.release_memory()

    def respond(self, send: Send) -> None:
        """Answer with a frame.

        Raises:
            LocalProtocolError: it was answered before; the first answer stands.
        """
        self._answer(SendResponse(self, send))
        self.response_bytes = send.size

    def respond_frame(self, frame: bytes) -> None:
        """Answer with a frame that is one piece, its size in front: the short way.

        Raises:
            LocalProtocolError: it was answered before; the first answer stands.
        """
        if not self.holds_answer:
            self._answer(SendResponse(self, FrameSend(frame)))
        else:
            self._note_answer()
            self._held_answer = frame
        self.response_bytes = len(frame)

    def respond_nothing(self) -> None:
        """Finish without an answer; the connection goes on (a Produce with acks=0).

        Raises:
            LocalProtocolError: it was answered before.
        """
        self._answer(NoOpResponse(self))

    def close_connection(self, cause: DisconnectCause = DisconnectCause.HANDLER) -> None:
        """Finish by closing the connection without an answer.

        Raises:
            LocalProtocolError: it was answered before.
        """
        self._answer(CloseConnectionResponse(self, cause))

    def start_throttling(self) -> None:
        """Keep the connection muted, beyond the response, until ``end_throttling``."""
        self.connection.processor.enqueue_response(StartThrottlingResponse(self))

    def end_throttling(self) -> None:
        """Allow the next request to be read once the response is out."""
        self.connection.processor.enqueue_response(EndThrottlingResponse(self))

    def let_answer_go(self) -> None:
        """Hand the answer over when it is given, and at once if it was; nothing holds it any more.

        Raises:
            FatalExitError, MemoryError: acting on the answer raised one.
        """
        self.holds_answer = False
        answer, self._held_answer = self._held_answer, None
        if isinstance(answer, bytes):
            self.connection.processor.send_frame(self, answer)
        elif answer is not None:
            self.connection.processor.enqueue_response(answer)

    def leave_handlers(self) -> None:
        """No handler has to do with it any more; its memory is given back, once.

        Raises:
            FatalExitError, MemoryError: acting on the answer raised one.
        """
        self._is_with_handlers = False
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.release(self.pool_bytes)
        if not self._is_with_connection:
            if self._on_finished is not None:
                self._finish()
        else:
            self.holds_answer = False
            answer, self._held_answer = self._held_answer, None
            if isinstance(answer, bytes):
                self.connection.processor.send_frame(self, answer)
            elif answer is not None:
                self.connection.processor.enqueue_response(answer)

    def leave_connection(self) -> None:
        """Its connection is done with it, or closed; a second call reports nothing."""
        if self.is_answered:
            self.end_time_ns = perf_counter_ns()
        self._is_with_connection = False
        if not self._is_with_handlers:
            if self._on_finished is not None:
                self._finish()
            elif self.pool is not None:
                self.release_memory()  # nobody queued it, because what came before that failed

    def _finish(self) -> None:
        on_finished, self._on_finished = self._on_finished, None
        assert on_finished is not None
        if not self.end_time_ns:
            # The connection was gone first. What its handler did until now was still spent on it.
            self.end_time_ns = perf_counter_ns()
        try:
            on_finished(self)
        except (FatalExitError, MemoryError):
            raise
        except Exception:
            log.exception("%r: reporting its end failed", self)

    def _answer(self, response: Response) -> None:
        self._note_answer()
        if self.holds_answer:
            self._held_answer = response
        else:
            self.connection.processor.enqueue_response(response)

    def _note_answer(self) -> None:
        if self.is_answered:
            raise LocalProtocolError(f"{self!r} was answered already")
        self.is_answered = True
        now = perf_counter_ns()
        self.response_complete_time_ns = now
        if not self.local_complete_time_ns:
            self.local_complete_time_ns = now

    def __repr__(self) -> str:
        size = self.payload_bytes
        return f"<{type(self).__name__} of {size} bytes from {self.connection.connection_id}>"


@attrs.define(eq=False)
class SendResponse:
    """Write a frame, then read the next request."""

    request: Request
    send: Send


@attrs.define(eq=False)
class NoOpResponse:
    """Write nothing, read the next request."""

    request: Request


@attrs.define(eq=False)
class CloseConnectionResponse:
    """Write nothing, close the connection."""

    request: Request
    cause: DisconnectCause


@attrs.define(eq=False)
class FailedResponse:
    """A step of answering failed; the connection is to be closed by its Processor."""

    request: Request
    error: Exception


@attrs.define(eq=False)
class StartThrottlingResponse:
    """Not a final response: the connection stays muted until the matching end."""

    request: Request


@attrs.define(eq=False)
class EndThrottlingResponse:
    """Not a final response: the delay is over."""

    request: Request


Response = (
    SendResponse
    | NoOpResponse
    | CloseConnectionResponse
    | FailedResponse
    | StartThrottlingResponse
    | EndThrottlingResponse
)


@attrs.frozen
class RequestChannelStatistics:
    """A snapshot of a request channel."""

    queued: int
    """Requests in the channel."""
    capacity: int
    """How many the channel holds."""
    waiting: int
    """Requests beside the full channel, each with its connection muted."""


class RequestChannel:
    """The request queue of one plane.

    A queue and the handlers that wait at it, instead of trio's memory channel, because of how
    handlers are woken: a memory channel wakes one for every request, here one is woken for as many
    as come before it runs. It takes them one after the other, and calls the next handler
    (``pass_on``) when it is about to wait in the middle of one.

    Source: Kafka ``RequestChannel``.
    """

    def __init__(self, capacity: int, on_finished: OnFinished | None = None) -> None:
        """Queue up to ``capacity`` requests; ``on_finished`` is told the end of each."""
        self._on_finished = on_finished
        self._capacity = capacity
        self.received = 0
        """Requests that were ever put or handed over."""
        # All requests; those beyond the capacity are the ones that wait at the side.
        self._requests: deque[Request] = deque()
        # Handlers that wait, the first one first; one that was called is no longer among them, and
        # one that is cancelled at once. Not trio's ParkingLot, which is slow to say whether it is
        # empty, and every request asks.
        self._takers: dict[trio.lowlevel.Task, None] = {}
        self._is_waking = False  # a taker was woken and has not run yet
        self._is_served = False  # a taker runs a request; it comes back, or says ``pass_on``
        self.is_awaited = False
        """Whether somebody comes back for the next request without being called."""
        self.may_run: Callable[[int], bool] = lambda now_ns: False
        """Whether a request may be run where it is handed over; the handlers set it."""
        self.run: Callable[[Request], None] = self.put
        """How that is done; called while a handler waits, in whose place it happens."""
        self.run_time_ns = 0
        """Time that this took until now, all runs together; that of one going on is not in it."""

    def hand_over(self, request: Request) -> None:
        """Run a request in the place of a handler that waits for one, or ``put`` it.

        Not to be called inside of a handler: one would run in the middle of another. Its
        ``start_time_ns`` is taken for now.

        Raises:
            FatalExitError, MemoryError: running it raised one.
        """
        may_run, run = self.may_run, self.run
        if self._requests or not self._takers or not may_run(request.start_time_ns):
            self.put(request)
            return
        request._is_with_handlers = True
        request._on_finished = self._on_finished
        self.received += 1
        run(request)

    def put(self, request: Request) -> None:
        """Queue a request; never blocks, see the top of this file."""
        request._is_with_handlers = True
        request._on_finished = self._on_finished
        self.received += 1
        self._requests.append(request)
        self._call()

    def put_back(self, request: Request) -> None:
        """Queue a request again that was set aside, behind those that have come meanwhile."""
        self._requests.append(request)
        if not self._is_served:
            self._call()

    def get_nowait(self) -> Request:
        """The next request, in the order of arrival.

        Raises:
            trio.WouldBlock: there is none.
        """
        if not self._requests:
            raise trio.WouldBlock
        self._is_served = True
        return self._requests.popleft()

    @property
    def is_empty(self) -> bool:
        """Whether no request is queued."""
        return not self._requests

    def call_one(self) -> None:
        """Wake a handler, if one waits, for something that is not a request of the queue."""
        if self._takers:
            self._wake_first()

    def pass_on(self) -> None:
        """Have somebody else take the next request: the caller is busy, or leaves."""
        self._is_served = False
        self._call()

    def _call(self) -> None:
        if self._requests and self._takers and not (self._is_waking or self.is_awaited):
            self._is_waking = True
            self._wake_first()

    def _wake_first(self) -> None:
        taker = next(iter(self._takers))
        del self._takers[taker]
        trio.lowlevel.reschedule(taker)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Promise to come back for the next request: nobody else needs to be called."""
        self.is_awaited = True
        try:
            yield
        finally:
            self.is_awaited = False

    async def wait_to_be_called(self) -> None:
        """Wait until there are requests that nobody else comes for, or for ``call_one``.

        Cancellation: nothing happens.
        """
        self._is_served = False
        taker = trio.lowlevel.current_task()
        self._takers[taker] = None

        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._takers[taker]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        self._is_waking = False

    def clear(self) -> None:
        """Drop every request, unanswered, because the plane ends.

        Source: Kafka ``RequestChannel.clear``.
        """
        while self._requests:
            self._requests.popleft().leave_handlers()

    def statistics(self) -> RequestChannelStatistics:
        """How full it is."""
        count = len(self._requests)
        queued = min(count, self._capacity)
        return RequestChannelStatistics(queued, self._capacity, count - queued)
