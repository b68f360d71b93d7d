"""The Processor: reads requests from its connections; ``responder`` writes the responses out.

Kafka's network thread runs seven steps in a loop. Here they are tasks that share one set of
connections (``connection_set``: selector, deadlines, close), because each waits for something else:

=====================  ===========================================================
task                   Kafka's step
=====================  ===========================================================
take new connections   configureNewConnections
take responses         processNewResponses, processCompletedSends
poll                   poll, processCompletedReceives, processDisconnected
deadlines              the idle expiry within poll
=====================  ===========================================================

Between two checkpoints each of them has the connections to itself; nothing here needs a lock.
The parts of a request's way that must not be torn are marked ``no checkpoint``.

Nothing in this file blocks on a queue: a full request channel holds the request at the side.

A request is handed over by the pass that reads it, and most are over before the pass looks at the
next connection: run, answered, and their connection reads again (``request_channel`` says when). So
any connection of the pass may be closed, its own included, by the time a handler returns. The pass
ends with the turn as before; it does not count the handlers' time as its own.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from time import perf_counter_ns

import trio

from trio_kafka_net.errors import FatalExitError, RemoteProtocolError

from .connection import Connection, DisconnectCause, NewConnection
from .connection_set import ConnectionSet
from .deadlines import Patience
from .framing import SIZE_BYTES, Allocate, EndOfStream, Receive
from .memory_pool import MemoryPool
from .processor_statistics import ProcessorCounters, ProcessorStatistics
from .receive_ahead import ReceiveAhead
from .request_channel import Request, RequestChannel
from .responder import Responder
from .selector import WRITABLE, Selector
from .supervision import FailureCount
from .turn import Turn

log = logging.getLogger(__name__)

ParseRequest = Callable[[Connection, memoryview], Request]
"""Turns a frame into a request; raises RemoteProtocolError for one that cannot be answered."""

ReceiveType = Callable[[int, Allocate], Receive]
"""Makes the ``Receive`` of a new connection: (largest payload in bytes, where memory is from)."""

NEW_CONNECTIONS = 20
"""Connections that may wait for a Processor; Kafka's constant."""

_OUT_OF_MEMORY = frozenset({errno.ENOMEM, errno.ENOBUFS})
"""What is no fault of the peer: the kernel has no memory for its frame."""

_READY_PER_PASS = 128
"""Connections looked at between two checkpoints; fewer are served if the turn ends before."""


class Processor(Responder):
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
        patience: Patience | None = None,
        receive_type: ReceiveType | None = None,
        turn: Turn | None = None,
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
            patience: how slow a peer may be; as slow as it likes if not given.
            receive_type: makes the ``Receive`` of a connection, if it is not Kafka's framing.
            turn: when to let others work; never before everything is served if not given.
            selector: for tests; a fresh one otherwise.
        """
        self.processor_id = processor_id
        self.listener_name = listener_name
        self.is_privileged = is_privileged
        self._request_channel = request_channel
        self._pool = memory_pool
        self._parse = parse
        self._new_receive: Callable[[], Receive]
        if receive_type is None:
            allocate, reserve = memory_pool.try_allocate, memory_pool.try_reserve
            self._new_receive = partial(ReceiveAhead, max_frame_bytes, allocate, reserve)
        else:
            self._new_receive = partial(receive_type, max_frame_bytes, memory_pool.try_allocate)
        counters = ProcessorCounters()
        super().__init__(
            ConnectionSet(
                Selector() if selector is None else selector,
                memory_pool,
                Patience() if patience is None else patience,
                counters,
            ),
            counters,
            Turn() if turn is None else turn,
            FailureCount(f"Processor {processor_id}"),
        )
        self._next_index = 0
        self._running = trio.CancelScope()
        self._ended = trio.Event()
        self._heirs: Sequence[Processor] = ()
        # (descriptor, events) reported but not served, because the turn was over
        self._unserved: list[tuple[int, int]] = []
        self.new_connections, self._accepted = trio.open_memory_channel[NewConnection](
            NEW_CONNECTIONS
        )
        """Where an Acceptor puts connections for this Processor."""

    @property
    def connection_count(self) -> int:
        """Connections open now."""
        return len(self._set)

    @property
    def idle_time_ns(self) -> int:
        """Time since its start in which it had nothing to do, or waited for the event loop."""
        return self._counters.elapsed_time_ns - self._counters.busy_time_ns

    @property
    def connections(self) -> list[Connection]:
        """Those that are open now, oldest first."""
        return list(self._set)

    @property
    def is_ready(self) -> bool:
        """Whether a connection has something to be served, perhaps a request."""
        return self._set.selector.is_ready

    def statistics(self) -> ProcessorStatistics:
        """What it did since its start, and what it has now."""
        return self._counters.snapshot(
            self.processor_id,
            self.listener_name,
            self._set,
            self.response_queue_size,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve connections until cancelled.

        Cancellation: every connection is closed, responses in progress are cut.
        """
        try:
            with self._running:
                await self._run(task_status)
        finally:
            heirs = [heir for heir in self._heirs if not heir._ended.is_set()]
            try:
                if heirs:
                    self._hand_over(heirs)
            finally:
                self._close_all()
                self._ended.set()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_new_connections)
            nursery.start_soon(self._take_responses)
            nursery.start_soon(self._poll)
            nursery.start_soon(self._set.run_deadlines)
            task_status.started()

    def evict(self, connection: Connection) -> None:
        """Close a connection because its place in the limits is needed."""
        self._set.close(connection, DisconnectCause.EVICTED)

    async def drain(self) -> None:
        """Read no more requests, finish those in progress, close every connection.

        Returns when the last connection is closed; new ones are refused from now on.

        Cancellation: what is still open stays open, cancelling ``run`` closes it.
        """
        self._is_draining = True
        for connection in self._set:
            if connection.request is None:
                self._set.part_with(connection)
        await self._set.wait_empty()

    async def retire(self, heirs: Sequence[Processor]) -> None:
        """End ``run`` and hand every connection over; none is closed.

        What each was in the middle of goes on in its heir: a frame half read, a request in a
        handler, a response half written.

        Args:
            heirs: other Processors of the listener, at least one; they are served in turn.

        Cancellation: it happens all the same, a moment later.
        """
        self._heirs = heirs
        self._running.cancel()
        await self._ended.wait()

    def _hand_over(self, heirs: Sequence[Processor]) -> None:
        # No task of this Processor is left, so nobody has a connection or a response in hand.
        next_heir = cycle(heirs)
        while True:
            try:
                next(next_heir).register(self._accepted.receive_nowait())
            except trio.WouldBlock:
                break
        for connection in self._set:
            heir = next(next_heir)
            try:
                self._set.take_out(connection)
                heir._adopt(connection)
            except (FatalExitError, MemoryError):
                raise
            except Exception as error:
                heir._fail(connection, error)
        while True:
            try:
                response = self._responses.receive_nowait()
            except trio.WouldBlock:
                break
            self._queued_responses -= 1
            response.request.connection.processor.enqueue_response(response)

    def _adopt(self, connection: Connection) -> None:
        """Take over a connection that another Processor had."""
        connection.processor = self
        # It may have the descriptor of one that is among these; what still holds is reported again.
        self._unserved = []
        self._set.add(connection, trio.current_time())
        if connection.receive.awaits_memory:
            self._set.await_memory(connection, self._retry_with_memory)

    # -- new connections ----------------------------------------------------------------------

    async def _take_new_connections(self) -> None:
        async for new in self._accepted:
            self.register(new)

    def register(self, new: NewConnection) -> None:
        """Serve a new connection from now on, or close it if that cannot be.

        Checkpoints: none; afterwards the connection is in the selector, or closed.
        """
        if self._is_draining or new.is_closed:
            new.close()
            return
        try:
            self._register_at(new, trio.current_time())
        except (FatalExitError, MemoryError):
            new.close()
            raise
        except Exception as error:
            new.close()
            self._failures.survive(error)

    def _register_at(self, new: NewConnection, now: float) -> None:
        local, remote = new.local_address, new.remote_address
        index = self._next_index
        self._next_index = (index + 1) & 0x7FFF_FFFF
        connection = Connection(
            f"{local[0]}:{local[1]}-{remote[0]}:{remote[1]}-{self.processor_id}-{index}",
            new.transport,
            receive=self._new_receive(),
            processor=self,
            slot=new.slot,
            local_address=local,
            remote_address=remote,
        )
        connection.last_active = connection.opened_at = now
        self._set.add(connection, now)
        new.slot.holder = connection
        self._counters.connections_created += 1

    # -- poll: completed receives and room to write -------------------------------------------

    async def _poll(self) -> None:
        selector, turn = self._set.selector, self._turn
        while True:
            await selector.wait_ready()
            while turn.is_rest:
                await trio.lowlevel.checkpoint()
            # no checkpoint until the end of the pass
            started = perf_counter_ns()
            handled = self._request_channel.run_time_ns
            self._look_at_clock()
            try:
                # What the last pass left over comes first, or the busiest would starve the rest.
                ready, self._unserved = self._unserved or selector.ready(_READY_PER_PASS), []
                self._serve_ready(ready)
            except (FatalExitError, MemoryError):
                raise
            except Exception as error:
                self._failures.survive(error)
            handled -= self._request_channel.run_time_ns  # somebody else's time, now negative
            self._counters.busy_time_ns += perf_counter_ns() - started + handled

    def _serve_ready(self, ready: list[tuple[int, int]]) -> None:
        connections = self._set.selector.connections
        ends_ns = self._turn.end_for(perf_counter_ns())
        for served, (fd, events) in enumerate(ready, start=1):
            connection = connections.get(fd)
            if connection is None:
                continue  # closed earlier in this pass, or since it was reported
            try:
                self._serve(connection, events)
            except (FatalExitError, MemoryError):
                raise
            except Exception as error:
                self._fail(connection, error)
            if perf_counter_ns() >= ends_ns:
                self._unserved = ready[served:]
                return

    def _serve(self, connection: Connection, events: int) -> None:
        if events & WRITABLE:
            self._continue_send(connection)
            if events == WRITABLE or not connection.is_open:
                return
        if connection.is_lingering:
            self._set.discard_unread(connection)
        elif connection.mute_state or (
            connection.frame_begun is not None and connection.receive.awaits_memory
        ):
            self._set.silence(connection, events)
        else:
            request = self._receive(connection)
            if request is not None:
                self._request_channel.hand_over(request)

    def _receive(self, connection: Connection) -> Request | None:
        """Read once, at most to the end of the frame; returns the request if it is whole."""
        receive = connection.receive
        try:
            is_whole = receive.read_from(connection.transport)
        except BlockingIOError:
            return None
        except EndOfStream:
            self._set.close(connection, DisconnectCause.PEER_CLOSED)
            return None
        except RemoteProtocolError as error:
            self._refuse(connection, error)
            return None
        except OSError as error:
            if error.errno in _OUT_OF_MEMORY:
                self._fail(connection, error)
            else:
                self._set.close(connection, DisconnectCause.PEER_RESET)
            return None
        connection.last_active = self._now
        if is_whole:
            connection.frame_begun = None
            return self._make_request(connection, receive.take_payload())
        if connection.frame_begun is None:
            self._set.frame_begun(connection, self._now)
        if receive.awaits_memory:
            self._set.await_memory(connection, self._retry_with_memory)
        return None

    def _make_request(self, connection: Connection, payload: memoryview) -> Request | None:
        """Make a request of a frame, and keep its connection from reading the next."""
        counters = self._counters
        size, parse = len(payload), self._parse
        counters.requests_received += 1
        counters.payload_bytes_in += size
        connection.bytes_in += size + SIZE_BYTES
        try:
            request = parse(connection, payload)
        except RemoteProtocolError as error:
            self._pool.release(size)
            self._refuse(connection, error)
            return None
        except (FatalExitError, MemoryError):
            self._pool.release(size)
            raise
        except Exception:
            self._pool.release(size)
            log.exception("%s: parsing a request failed", connection.connection_id)
            self._set.close(connection, DisconnectCause.UNEXPECTED)
            return None
        request.pool = self._pool
        request.pool_bytes = size
        request.start_time_ns = perf_counter_ns()
        connection.request = request
        connection.on_request()
        return request

    def _receive_and_queue(self, connection: Connection) -> None:
        request = self._receive(connection)
        if request is not None:
            self._request_channel.put(request)

    def _retry_with_memory(self, connection: Connection) -> None:
        if self._is_draining:
            return  # what comes now is forgotten, and may be the middle of a frame
        self._now = trio.current_time()
        try:
            self._receive_and_queue(connection)
            if connection.is_open:
                self._set.listen_again(connection)
        except (FatalExitError, MemoryError):
            raise
        except Exception as error:
            # Not the failure of whoever freed the memory.
            self._fail(connection, error)

    # -- the end of a connection --------------------------------------------------------------

    def _refuse(self, connection: Connection, error: RemoteProtocolError) -> None:
        log.warning("%s: closing: %s", connection.connection_id, error)
        self._set.close(connection, DisconnectCause.INVALID_REQUEST)

    def _close_all(self) -> None:
        self.new_connections.close()
        while True:
            try:
                self._accepted.receive_nowait().close()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        self._set.close_all()
        self._counters.end()
