"""The half of a Processor that lets responses out.

Whoever answers acts for the Processor, as long as the turn lasts and no response waits before: the
bytes are written, the request ends, and its connection may be read again, before ``respond``
returns. Otherwise the response goes through a queue that a task takes it from. That queue has no
bound, and holds at most three entries per connection (start of throttling, response, end of
throttling).

What the socket does not take at once is the connection's ``pending_send``; the selector says when
there is room, and ``_continue_send`` goes on.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from time import perf_counter_ns

import trio

from trio_kafka_net.errors import FatalExitError

from .connection import Connection, DisconnectCause, MuteEvent
from .connection_set import ConnectionSet
from .framing import FrameSend, Send
from .processor_statistics import ProcessorCounters
from .request_channel import (
    CloseConnectionResponse,
    EndThrottlingResponse,
    FailedResponse,
    NoOpResponse,
    Request,
    Response,
    SendResponse,
    StartThrottlingResponse,
)
from .supervision import FailureCount
from .turn import Turn

log = logging.getLogger(__name__)


class Responder(ABC):
    """Responses of one Processor, from whoever answered to the last byte.

    Source: Kafka ``Processor.processNewResponses`` and ``processCompletedSends``.
    """

    def __init__(
        self,
        connections: ConnectionSet,
        counters: ProcessorCounters,
        turn: Turn,
        failures: FailureCount,
    ) -> None:
        """Write nothing yet; the arguments are the Processor's own."""
        self._set = connections
        self._counters = counters
        self._turn = turn
        self._failures = failures
        self._is_draining = False
        self._now = 0.0
        self._now_turn = -1
        self._responses_in, self._responses = trio.open_memory_channel[Response](math.inf)
        self._queued_responses = 0

    @property
    def response_queue_size(self) -> int:
        """Responses that wait to be taken."""
        return self._queued_responses

    def enqueue_response(self, response: Response) -> None:
        """Hand over a response, from any task; never blocks, and no error of it comes out here.

        It is acted on at once, unless another one waits before it or the turn is over: then it
        is queued, and a task of the Processor takes it. The way through the queue costs a turn of
        the event loop, which is most of what a client alone would wait for.

        Raises:
            FatalExitError, MemoryError: acting on it raised one.
        """
        started = perf_counter_ns()
        if self._queued_responses or started >= self._turn.ends_ns:
            self._queue_response(response)
            return
        if self._now_turn != self._turn.number:
            self._look_at_clock()
        try:
            self._apply(response, started)
        except (FatalExitError, MemoryError):
            raise
        except Exception as error:
            # Not the failure of whoever answered: a task of this Processor meets it.
            self._queue_response(FailedResponse(response.request, error))
        self._counters.busy_time_ns += perf_counter_ns() - started

    def send_frame(self, request: Request, frame: bytes) -> None:
        """What ``enqueue_response`` does with a frame in one piece, without an object for it.

        Raises:
            FatalExitError, MemoryError: acting on it raised one.
        """
        started = perf_counter_ns()
        turn = self._turn
        if self._queued_responses or started >= turn.ends_ns:
            self._queue_response(SendResponse(request, FrameSend(frame)))
            return
        if self._now_turn != turn.number:
            self._look_at_clock()
        try:
            self._send_frame(request, frame, started)
        except (FatalExitError, MemoryError):
            raise
        except Exception as error:
            self._queue_response(FailedResponse(request, error))
        self._counters.busy_time_ns += perf_counter_ns() - started

    def _look_at_clock(self) -> None:
        # Once a turn is enough: that is what trio itself calls now.
        self._now_turn = self._turn.number
        self._now = trio.current_time()

    def _queue_response(self, response: Response) -> None:
        self._queued_responses += 1
        self._responses_in.send_nowait(response)

    async def _take_responses(self) -> None:
        receive, receive_nowait = self._responses.receive, self._responses.receive_nowait
        turn = self._turn
        while True:
            response = await receive()
            while turn.is_rest:
                # Shielded, or the response would be lost with the task.
                await trio.lowlevel.cancel_shielded_checkpoint()
            # no checkpoint between taking a response and its bytes being the connection's
            started = perf_counter_ns()
            self._now = trio.current_time()
            ends_ns = turn.end_for(started)
            self._act_on(response)
            while perf_counter_ns() < ends_ns:
                try:
                    response = receive_nowait()
                except trio.WouldBlock:
                    break
                self._act_on(response)
            self._counters.busy_time_ns += perf_counter_ns() - started

    def _act_on(self, response: Response) -> None:
        self._queued_responses -= 1
        try:
            self._apply(response, perf_counter_ns())
        except (FatalExitError, MemoryError):
            raise
        except Exception as error:
            self._fail(response.request.connection, error)

    def _apply(self, response: Response, now_ns: int) -> None:
        request = response.request
        connection = request.connection
        if connection.cause is not None:
            return
        if type(response) is SendResponse:
            request.response_dequeue_time_ns = now_ns
            self._send(connection, response.send)
        elif type(response) is NoOpResponse:
            request.response_dequeue_time_ns = now_ns
            self._complete(connection)
        elif type(response) is CloseConnectionResponse:
            request.response_dequeue_time_ns = now_ns
            self._set.close(connection, response.cause)
        elif type(response) is StartThrottlingResponse:
            connection.on(MuteEvent.THROTTLE_STARTED)
        elif type(response) is EndThrottlingResponse:
            connection.on(MuteEvent.THROTTLE_ENDED)
            connection.on(MuteEvent.UNMUTE)
            if not connection.mute_state:
                self._read_again(connection)
        elif type(response) is FailedResponse:
            raise response.error

    def _send(self, connection: Connection, send: Send) -> None:
        try:
            is_done = send.write_to(connection.transport)
        except BlockingIOError:
            is_done = False
        except OSError as error:
            self._end_failed(connection, send, error)
            return
        connection.last_active = self._now
        if is_done:
            self._counters.file_bytes_out += send.file_bytes
            self._end_sent(connection, send.size)
        else:
            self._wait_for_room(connection, send)

    def _send_frame(self, request: Request, frame: bytes, now_ns: int) -> None:
        connection = request.connection
        if connection.cause is not None:
            return
        request.response_dequeue_time_ns = now_ns
        send = connection.transport.send
        try:
            sent = send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end_failed(connection, FrameSend(frame), error)
            return
        connection.last_active = self._now
        if sent == len(frame):
            self._end_sent(connection, sent)
        else:
            self._wait_for_room(connection, FrameSend(frame, sent))

    def _wait_for_room(self, connection: Connection, send: Send) -> None:
        connection.pending_send = send
        connection.writes_interest = True
        self._set.selector.update(connection)
        self._set.send_stalled(connection, self._now)

    def _continue_send(self, connection: Connection) -> None:
        send = connection.pending_send
        if send is None:
            return
        try:
            is_done = send.write_to(connection.transport)
        except BlockingIOError:
            return
        except OSError as error:
            self._end_failed(connection, send, error)
            return
        connection.last_active = self._now
        if is_done:
            connection.pending_send = None
            connection.writes_interest = False
            self._set.selector.update(connection)
            self._counters.file_bytes_out += send.file_bytes
            self._end_sent(connection, send.size)

    def _end_failed(self, connection: Connection, send: Send, error: OSError) -> None:
        log.debug("%s: sending failed: %s", connection.connection_id, error)
        connection.pending_send = send  # what went out before the failure is counted
        self._set.close(connection, DisconnectCause.SEND_FAILED)

    def _end_sent(self, connection: Connection, size: int) -> None:
        counters = self._counters
        counters.responses_sent += 1
        counters.bytes_out += size
        connection.bytes_out += size
        self._complete(connection)

    def _complete(self, connection: Connection) -> None:
        """The response of the request in progress is out, or there is none to send."""
        request = connection.request
        if request is not None:
            connection.request = None
            request.leave_connection()
        if self._is_draining:
            self._set.part_with(connection)
            return
        connection.on_response()
        if not connection.mute_state and (
            connection.receive.has_buffered or not connection.reads_interest
        ):
            self._read_again(connection)

    def _read_again(self, connection: Connection) -> None:
        if not connection.reads_interest:
            self._set.listen_again(connection)
        if connection.receive.has_buffered:
            self._receive_and_queue(connection)  # the selector cannot know of it

    @abstractmethod
    def _receive_and_queue(self, connection: Connection) -> None:
        """Read what has come; what it asks for is queued, for a handler may be at work here."""

    def _fail(self, connection: Connection, error: Exception) -> None:
        """Close a connection because a step of it failed in a way that nobody foresaw.

        Raises:
            Exception: ``error``, if this happened too often lately and the server shall stop.
        """
        if connection.is_open:
            self._set.close(connection, DisconnectCause.UNEXPECTED)
        if isinstance(error, OSError):
            log.warning("%s: closed: %s", connection.connection_id, error)
        else:
            self._failures.survive(error)
