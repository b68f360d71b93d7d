"""The Processor: reads requests from its connections and writes the responses out.

Kafka's network thread runs seven steps in a loop. Here they are three tasks that share one
selector and one table of connections, because each waits for something else:

=====================  ===========================================================
task                   Kafka's step
=====================  ===========================================================
take new connections   configureNewConnections
take responses         processNewResponses, processCompletedSends
poll                   poll, processCompletedReceives, processDisconnected
expire                 the idle expiry within poll
=====================  ===========================================================

Between two checkpoints each of them has the connections to itself; nothing here needs a lock.
The parts of a request's way that must not be torn are marked ``no checkpoint``.

Nothing in this file blocks on a queue: a full request channel holds the request at the side, and
responses go into a channel without a bound, which in fact holds at most three entries per
connection (start of throttling, response, end of throttling).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from time import perf_counter_ns

import trio

from trio_kafka_net.errors import FatalExitError, RemoteProtocolError

from .connection import Connection, DisconnectCause, MuteEvent
from .connection_quotas import ConnectionSlot
from .framing import EndOfStream, Receive, Send
from .memory_pool import MemoryPool
from .processor_statistics import ProcessorCounters, ProcessorStatistics
from .request_channel import (
    CloseConnectionResponse,
    EndThrottlingResponse,
    NoOpResponse,
    Request,
    RequestChannel,
    Response,
    SendResponse,
    StartThrottlingResponse,
)
from .selector import BROKEN, PEER_CLOSED, WRITABLE, IdleQueue, Selector
from .supervision import FailureCount
from .transport import TransportLayer

log = logging.getLogger(__name__)

ParseRequest = Callable[[Connection, memoryview], Request]
"""Turns a frame into a request; raises RemoteProtocolError for one that cannot be answered."""

NEW_CONNECTIONS = 20
"""Connections that may wait for a Processor; Kafka's constant."""

_READY_PER_PASS = 128
"""Connections served between two checkpoints, so that handlers get their turn."""

_RESPONSES_PER_PASS = 128


class NewConnection:
    """What an Acceptor hands over: a connected transport and its place in the limits."""

    __slots__ = ("local_address", "remote_address", "slot", "transport")

    def __init__(
        self,
        transport: TransportLayer,
        slot: ConnectionSlot,
        local_address: tuple[str, int],
        remote_address: tuple[str, int],
    ) -> None:
        """Addresses are (host, port) as the kernel gave them."""
        self.transport = transport
        self.slot = slot
        self.local_address = local_address
        self.remote_address = remote_address

    def close(self) -> None:
        """Drop it before any Processor has taken it."""
        self.transport.close()
        self.slot.release()


class Processor:
    """One network task group with its own selector; several share a listener.

    Source: Kafka ``SocketServer.Processor``.
    """

    def __init__(
        self,
        processor_id: int,
        *,
        listener_name: str,
        is_privileged: bool,
        request_channel: RequestChannel,
        memory_pool: MemoryPool,
        parse: ParseRequest = Request,
        max_frame_bytes: int,
        idle_seconds: float,
        selector: Selector | None = None,
    ) -> None:
        """Serve nothing yet; ``run`` does.

        Args:
            processor_id: unique within the server, part of connection ids.
            listener_name: whose connections these are.
            is_privileged: whether this is the control plane.
            request_channel: where requests go.
            memory_pool: where payloads come from.
            parse: makes a request of a whole frame.
            max_frame_bytes: larger announced frames close the connection.
            idle_seconds: silence after which a connection without a request is closed.
            selector: for tests; a fresh one otherwise.
        """
        self.processor_id = processor_id
        self.listener_name = listener_name
        self.is_privileged = is_privileged
        self._request_channel = request_channel
        self._pool = memory_pool
        self._parse = parse
        self._max_frame_bytes = max_frame_bytes
        self._idle_seconds = idle_seconds
        self._selector = Selector() if selector is None else selector
        self._idle = IdleQueue(idle_seconds)
        self._idle_added = trio.Event()
        self._failures = FailureCount(f"Processor {processor_id}")
        self._next_index = 0
        self._counters = ProcessorCounters()
        self._now = 0.0
        self._is_draining = False
        self._empty = trio.Event()
        # {connection: the memory pool's way to wake it}, connections whose frame awaits memory
        self._memory_waiters: dict[Connection, Callable[[], None]] = {}
        self.new_connections, self._accepted = trio.open_memory_channel[NewConnection](
            NEW_CONNECTIONS
        )
        """Where an Acceptor puts connections for this Processor."""
        self._responses_in, self._responses = trio.open_memory_channel[Response](math.inf)
        self.enqueue_response: Callable[[Response], None] = self._responses_in.send_nowait
        """Hands over a response, from any task; never blocks."""

    @property
    def connection_count(self) -> int:
        """Connections open now."""
        return len(self._selector.connections)

    @property
    def response_queue_size(self) -> int:
        """Responses that wait to be taken."""
        return self._responses_in.statistics().current_buffer_used

    def statistics(self) -> ProcessorStatistics:
        """What it did since its start, and what it has now."""
        return self._counters.snapshot(
            self.processor_id,
            self.listener_name,
            self._selector.connections.values(),
            self.response_queue_size,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve connections until cancelled.

        Cancellation: every connection is closed, responses in progress are cut.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._take_new_connections)
                nursery.start_soon(self._take_responses)
                nursery.start_soon(self._poll)
                if self._idle_seconds < math.inf:
                    nursery.start_soon(self._expire)
                task_status.started()
        finally:
            self._close_all()

    async def drain(self) -> None:
        """Read no more requests, finish those in progress, close every connection.

        Returns when the last connection is closed; new ones are refused from now on.

        Cancellation: what is still open stays open, cancelling ``run`` closes it.
        """
        self._is_draining = True
        for connection in list(self._selector.connections.values()):
            if connection.request is None:
                self._close(connection, DisconnectCause.SHUTDOWN)
        while self._selector.connections:
            self._empty = trio.Event()
            await self._empty.wait()

    # -- new connections ----------------------------------------------------------------------

    async def _take_new_connections(self) -> None:
        async for new in self._accepted:
            # no checkpoint until the connection is in the selector, or closed
            if self._is_draining:
                new.close()
                continue
            try:
                self._register(new)
            except Exception as error:
                new.close()
                self._failures.survive(error)

    def _register(self, new: NewConnection) -> None:
        local, remote = new.local_address, new.remote_address
        index = self._next_index
        self._next_index = (index + 1) & 0x7FFF_FFFF
        connection = Connection(
            f"{local[0]}:{local[1]}-{remote[0]}:{remote[1]}-{self.processor_id}-{index}",
            new.transport,
            receive=Receive(self._max_frame_bytes, self._pool.try_allocate),
            processor=self,
            slot=new.slot,
            local_address=local,
            remote_address=remote,
        )
        connection.last_active = trio.current_time()
        self._selector.register(connection)
        self._counters.connections_created += 1
        if self._idle_seconds < math.inf:
            self._idle.add(connection)
            self._idle_added.set()

    # -- poll: completed receives and room to write -------------------------------------------

    async def _poll(self) -> None:
        selector = self._selector
        while True:
            await selector.wait_ready()
            # no checkpoint until the end of the pass
            started = perf_counter_ns()
            self._now = trio.current_time()
            try:
                self._serve_ready(selector.ready(_READY_PER_PASS))
            except (FatalExitError, MemoryError):
                raise
            except Exception as error:
                self._failures.survive(error)
            self._counters.busy_time_ns += perf_counter_ns() - started

    def _serve_ready(self, ready: list[tuple[int, int]]) -> None:
        connections = self._selector.connections
        for fd, events in ready:
            connection = connections.get(fd)
            if connection is None:
                continue  # closed earlier in this pass
            if events & WRITABLE:
                self._continue_send(connection)
            if connection.mute_state or connection.receive.awaits_memory:
                if events & ~WRITABLE and connection.is_open:
                    self._silence(connection, events)
            elif events & ~WRITABLE:
                self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        """Read once, at most to the end of the frame; queue the request if it is whole."""
        receive = connection.receive
        try:
            is_whole = receive.read_from(connection.transport)
        except BlockingIOError:
            return
        except EndOfStream:
            self._close(connection, DisconnectCause.PEER_CLOSED)
            return
        except RemoteProtocolError as error:
            self._refuse(connection, error)
            return
        except OSError:
            self._close(connection, DisconnectCause.PEER_RESET)
            return
        connection.last_active = self._now
        if is_whole:
            self._queue_request(connection, receive.take_payload())
        elif receive.awaits_memory:
            self._await_memory(connection)

    def _queue_request(self, connection: Connection, payload: memoryview) -> None:
        counters = self._counters
        counters.requests_received += 1
        counters.payload_bytes_in += len(payload)
        try:
            request = self._parse(connection, payload)
        except RemoteProtocolError as error:
            self._pool.release(len(payload))
            self._refuse(connection, error)
            return
        except Exception:
            self._pool.release(len(payload))
            log.exception("%s: parsing a request failed", connection.connection_id)
            self._close(connection, DisconnectCause.UNEXPECTED)
            return
        request.hold_memory(self._pool, len(payload))
        request.start_time_ns = perf_counter_ns()
        connection.request = request
        connection.on(MuteEvent.MUTE)
        connection.on(MuteEvent.REQUEST_RECEIVED)
        self._request_channel.put(request)

    def _silence(self, connection: Connection, events: int) -> None:
        """Something arrived for a connection that is not to be read now."""
        if events & (PEER_CLOSED | BROKEN) and not connection.peer_gone:
            connection.peer_gone = True
            request = connection.request
            if request is not None and request.parked_scope is not None:
                request.parked_scope.cancel()
        connection.reads_interest = False
        if events & BROKEN:
            self._selector.suspend(connection)  # would be reported for ever
        else:
            self._selector.update(connection)

    def _listen_again(self, connection: Connection) -> None:
        if not connection.reads_interest:
            connection.reads_interest = True
            self._selector.update(connection)

    def _await_memory(self, connection: Connection) -> None:
        def wake() -> None:
            del self._memory_waiters[connection]
            self._now = trio.current_time()
            self._receive(connection)
            if connection.is_open:
                self._listen_again(connection)

        self._memory_waiters[connection] = wake
        self._pool.notify_when_free(wake)

    # -- responses ----------------------------------------------------------------------------

    async def _take_responses(self) -> None:
        receive, receive_nowait = self._responses.receive, self._responses.receive_nowait
        while True:
            response = await receive()
            # no checkpoint between taking a response and its bytes being the connection's
            started = perf_counter_ns()
            self._now = trio.current_time()
            for _ in range(_RESPONSES_PER_PASS - 1):
                self._act_on(response)
                try:
                    response = receive_nowait()
                except trio.WouldBlock:
                    break
            else:
                self._act_on(response)
            self._counters.busy_time_ns += perf_counter_ns() - started

    def _act_on(self, response: Response) -> None:
        try:
            self._apply(response)
        except (FatalExitError, MemoryError):
            raise
        except Exception as error:
            connection = response.request.connection
            if connection.is_open:
                self._close(connection, DisconnectCause.UNEXPECTED)
            self._failures.survive(error)

    def _apply(self, response: Response) -> None:
        request = response.request
        connection = request.connection
        if not connection.is_open:
            return
        if type(response) is SendResponse:
            request.response_dequeue_time_ns = perf_counter_ns()
            self._send(connection, response.send)
        elif type(response) is NoOpResponse:
            request.response_dequeue_time_ns = perf_counter_ns()
            self._complete(connection)
        elif type(response) is CloseConnectionResponse:
            request.response_dequeue_time_ns = perf_counter_ns()
            self._close(connection, response.cause)
        elif type(response) is StartThrottlingResponse:
            connection.on(MuteEvent.THROTTLE_STARTED)
        elif type(response) is EndThrottlingResponse:
            connection.on(MuteEvent.THROTTLE_ENDED)
            self._unmute(connection)

    def _send(self, connection: Connection, send: Send) -> None:
        try:
            is_done = send.write_to(connection.transport)
        except BlockingIOError:
            is_done = False
        except OSError as error:
            log.debug("%s: sending failed: %s", connection.connection_id, error)
            connection.pending_send = send  # what went out before the failure is counted
            self._close(connection, DisconnectCause.SEND_FAILED)
            return
        connection.last_active = self._now
        if is_done:
            counters = self._counters
            counters.responses_sent += 1
            counters.bytes_out += send.size
            self._complete(connection)
        else:
            connection.pending_send = send
            connection.writes_interest = True
            self._selector.update(connection)

    def _continue_send(self, connection: Connection) -> None:
        send = connection.pending_send
        if send is None:
            return
        try:
            is_done = send.write_to(connection.transport)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("%s: sending failed: %s", connection.connection_id, error)
            self._close(connection, DisconnectCause.SEND_FAILED)
            return
        connection.last_active = self._now
        if is_done:
            counters = self._counters
            counters.responses_sent += 1
            counters.bytes_out += send.size
            connection.pending_send = None
            connection.writes_interest = False
            self._selector.update(connection)
            self._complete(connection)

    def _complete(self, connection: Connection) -> None:
        """The response of the request in progress is out, or there is none to send."""
        self._end_request(connection)
        connection.on(MuteEvent.RESPONSE_SENT)
        self._unmute(connection)

    def _unmute(self, connection: Connection) -> None:
        connection.on(MuteEvent.UNMUTE)
        if not connection.mute_state:
            if self._is_draining:
                self._close(connection, DisconnectCause.SHUTDOWN)
            else:
                self._listen_again(connection)

    def _end_request(self, connection: Connection) -> None:
        request, connection.request = connection.request, None
        if request is not None:
            request.leave_connection()

    # -- the end of a connection --------------------------------------------------------------

    def _refuse(self, connection: Connection, error: RemoteProtocolError) -> None:
        log.warning("%s: closing: %s", connection.connection_id, error)
        self._close(connection, DisconnectCause.INVALID_REQUEST)

    def _close(self, connection: Connection, cause: DisconnectCause) -> None:
        """Close and give everything back: descriptor, memory, place in the limits."""
        connection.cause = cause
        self._counters.connection_ends(connection, cause)
        log.debug("%s: closed: %s", connection.connection_id, cause.label)
        self._selector.remove(connection)
        self._idle.discard()
        wake = self._memory_waiters.pop(connection, None)
        if wake is not None:
            self._pool.forget(wake)
        held = connection.receive.discard()
        if held:
            self._pool.release(held)
        connection.pending_send = None
        request = connection.request
        self._end_request(connection)
        if request is not None and request.parked_scope is not None:
            request.parked_scope.cancel()
        connection.transport.close()
        if connection.slot is not None:
            connection.slot.release()
        if not self._selector.connections:
            self._empty.set()

    def _close_all(self) -> None:
        self.new_connections.close()
        while True:
            try:
                self._accepted.receive_nowait().close()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        for connection in list(self._selector.connections.values()):
            self._close(connection, DisconnectCause.SHUTDOWN)
        self._selector.close()
        self._counters.end()

    async def _expire(self) -> None:
        while True:
            self._idle_added = trio.Event()
            deadline = self._idle.next_deadline()
            if deadline == math.inf:
                await self._idle_added.wait()
                continue
            await trio.sleep_until(deadline)
            now = trio.current_time()
            for connection in self._idle.expired(now):
                # A request in progress is ours to finish, however long it takes; a response that
                # nobody reads is not.
                if connection.request is None or connection.pending_send is not None:
                    self._close(connection, DisconnectCause.IDLE)
                else:
                    connection.last_active = now
                    self._idle.add(connection)
