"""The SocketServer: two planes, each a whole set of channel, handlers, Acceptors and Processors.

::

    SocketServer
    ├─ control plane   handler pool (1) · request channel (20) · Acceptor · Processor
    └─ data plane      handler pool (num.io.threads) · request channel (queued.max.requests)
       └─ per listener   Acceptor · Processor × num.network.threads

The planes share nothing but the event loop: each has its own queue, handlers, memory and
connection limits, so a request of the control plane never waits behind data, whatever the data
plane is full of. The work that the data plane does between two checkpoints is bounded.

``max.connections`` and ``max.connection.creation.rate`` say what the data plane may take; for the
control plane only those count that are prefixed with its listener's name, so that no limit on
data locks administration out. ``max.connections.per.ip`` protects from one peer and holds on each
plane by itself.

Start: every port is bound by the constructor, before anything is served. ``run`` starts the
control plane first. Stop: ``stop`` closes the ports, reads no more requests, lets those in hand
finish, flushes, closes; cancelling ``run`` cuts all of it short.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import count as count_from

import trio

from trio_kafka_net.config import ListenerConfig, SocketServerConfig
from trio_kafka_net.errors import ConfigError

from .acceptor import Acceptor
from .connection_quotas import ConnectionQuotas
from .deadlines import Patience
from .framing import Buffer, BytesSend, Send, frame_of
from .handler_pool import Handle, RequestHandlerPool
from .ip_quotas import resolve_overrides
from .listener import Listener
from .memory_pool import MemoryPool
from .processor import ParseRequest, Processor, ReceiveType
from .request_channel import OnFinished, Request, RequestChannel
from .turn import CONTROL_PLANE_TURN_NS, DATA_PLANE_TURN_NS, Turn

CONTROL_PLANE_QUEUE = 20
"""Capacity of the control plane's request queue; Kafka's constant."""
_AT_WORK_TURNS = 200
"""How many turns a request of the control plane counts as work for: some 20 ms, a write to a slow
disk. What takes longer shall not slow down the data plane."""


class Plane:
    """One of the two sets of request channel, handlers, Acceptors and Processors."""

    def __init__(
        self,
        name: str,
        listeners: Sequence[Listener],
        config: SocketServerConfig,
        *,
        parse: ParseRequest,
        handle: Handle,
        receive_type: ReceiveType | None,
        connection_quotas: ConnectionQuotas,
        processor_ids: Iterator[int],
        on_finished: OnFinished | None = None,
        gives_way_to: Plane | None = None,
    ) -> None:
        """Put a plane together; nothing runs yet.

        Args:
            name: "data" or "control".
            listeners: bound, one Acceptor each.
            config: sizes of everything; the control plane uses Kafka's constants instead.
            parse: makes a request of a frame.
            handle: runs a request.
            receive_type: makes the ``Receive`` of a connection.
            connection_quotas: its limits; the listeners are registered with them here.
            processor_ids: ids that are unique within the server.
            on_finished: told once about every request that was queued, when it is over.
            gives_way_to: rest while that plane is at work.
        """
        is_control = name == "control"
        self.name = name
        self._on_finished = on_finished
        self._finished = 0
        self._moved = 0  # requests begun and ended, when last looked at
        self._turns_unmoved = 0
        self.request_channel = RequestChannel(
            CONTROL_PLANE_QUEUE if is_control else config.queued_max_requests,
            self._note_finished if is_control else on_finished,
        )
        self._turn = Turn(
            CONTROL_PLANE_TURN_NS if is_control else DATA_PLANE_TURN_NS,
            None if gives_way_to is None else gives_way_to.is_at_work,
        )
        self.memory_pool = MemoryPool(config.queued_max_request_bytes)
        self.connection_quotas = connection_quotas
        for listener in listeners:
            connection_quotas.add_listener(
                listener.name,
                max_connections=listener.config.max_connections,
                max_connection_creation_rate=listener.config.max_connection_creation_rate,
            )
        self.handler_pool = RequestHandlerPool(
            self.request_channel, handle, 1 if is_control else config.num_io_threads, self._turn
        )
        self._new_processor = partial(
            Processor,
            is_privileged=is_control,
            request_channel=self.request_channel,
            memory_pool=self.memory_pool,
            parse=parse,
            max_frame_bytes=config.socket_request_max_bytes,
            patience=_patience(config),
            receive_type=receive_type,
            turn=self._turn,
        )
        self._processor_ids = processor_ids
        self.acceptors = [
            Acceptor(
                listener,
                self._make_processors(
                    listener.name, 1 if is_control else _network_threads(listener, config)
                ),
                self.connection_quotas,
            )
            for listener in listeners
        ]
        self._network: trio.Nursery | None = None
        self._resizing = trio.Lock()
        self._accepting = trio.CancelScope()

    def _make_processors(self, listener_name: str, count: int) -> list[Processor]:
        return [
            self._new_processor(next(self._processor_ids), listener_name=listener_name)
            for _ in range(count)
        ]

    @property
    def processors(self) -> list[Processor]:
        """The Processors of all listeners of this plane."""
        return [p for acceptor in self.acceptors for p in acceptor.processors]

    @property
    def connection_count(self) -> int:
        """Connections open now."""
        return sum(processor.connection_count for processor in self.processors)

    def is_at_work(self) -> bool:
        """Whether a request is between its first byte and its end, to be asked once a turn.

        One that has been for many turns, while no other began or ended, waits for something else,
        its client perhaps, and does not count. Known of a control plane only.
        """
        begun = self.request_channel.received
        if begun + self._finished != self._moved:
            self._moved, self._turns_unmoved = begun + self._finished, 0
        self._turns_unmoved += 1
        if begun != self._finished and self._turns_unmoved <= _AT_WORK_TURNS:
            return True
        return any(processor.is_ready for processor in self.processors)

    def _note_finished(self, request: Request) -> None:
        self._finished += 1
        if self._on_finished is not None:
            self._on_finished(request)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped or cancelled.

        Cancellation: requests in hand are cut, connections closed.
        """
        trio.lowlevel.add_instrument(self._turn)
        try:
            async with trio.open_nursery() as handlers:
                await handlers.start(self.handler_pool.run)
                async with trio.open_nursery() as network:
                    self._network = network
                    for processor in self.processors:
                        await network.start(processor.run)
                    network.start_soon(self._accept)
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            trio.lowlevel.remove_instrument(self._turn)
            self.request_channel.clear()

    async def _accept(self) -> None:
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for acceptor in self.acceptors:
                    nursery.start_soon(acceptor.run)

    async def resize_processors(self, acceptor: Acceptor, count: int) -> None:
        """Have ``count`` Processors for a listener; connections of removed ones move to others.

        Args:
            acceptor: that of the listener.
            count: at least one.

        Cancellation: as many were started as were.
        """
        assert self._network is not None
        processors = acceptor.processors
        async with self._resizing:
            for processor in self._make_processors(acceptor.listener.name, count - len(processors)):
                await self._network.start(processor.run)
                processors.append(processor)
            retired = processors[count:]
            del processors[count:]  # first, so that the Acceptor gives them nothing more
            for processor in retired:
                await processor.retire(processors)

    async def drain(self) -> None:
        """Accept and read no more; return when every request in hand is answered.

        Cancellation: what is left is cut by cancelling ``run``.
        """
        self._accepting.cancel()
        async with trio.open_nursery() as nursery:
            for processor in self.processors:
                nursery.start_soon(processor.drain)


def _patience(config: SocketServerConfig) -> Patience:
    idle_ms = config.connections_max_idle_ms
    return Patience(
        idle_seconds=math.inf if idle_ms < 0 else idle_ms / 1000,
        frame_seconds=config.trio_frame_timeout_ms / 1000,
        bytes_per_second=config.trio_frame_bytes_per_second,
        stall_seconds=config.trio_write_stall_timeout_ms / 1000,
    )


def _network_threads(listener: Listener, config: SocketServerConfig) -> int:
    return listener.config.num_network_threads or config.num_network_threads


class SocketServer:
    """Listeners, planes, and their start and stop.

    Source: Kafka ``SocketServer``; the planes as KIP-291 made them.
    """

    def __init__(
        self,
        listeners: Sequence[ListenerConfig],
        *,
        handle: Handle,
        config: SocketServerConfig | None = None,
        parse: ParseRequest = Request,
        control_handle: Handle | None = None,
        control_parse: ParseRequest | None = None,
        receive_type: ReceiveType | None = None,
        on_finished: OnFinished | None = None,
        control_on_finished: OnFinished | None = None,
    ) -> None:
        """Bind every listener; nothing is served before ``run``.

        Args:
            listeners: endpoints; those marked ``is_control_plane`` make the control plane.
            handle: runs a request of the data plane.
            config: sizes and limits.
            parse: makes a request of a whole frame; raises RemoteProtocolError to close the
                connection.
            control_handle: runs a request of the control plane; ``handle`` if not given.
            control_parse: the same for ``parse``.
            receive_type: makes the ``Receive`` of a connection, for another framing.
            on_finished: told once about every request of the data plane that was queued, when it
                is over; it must not block. What it raises is logged.
            control_on_finished: the same for the control plane; ``on_finished`` if not given.

        Raises:
            ConfigError: a name in ``max_connections_per_ip_overrides`` does not resolve.
            OSError: a port could not be bound; those bound before are closed again.
        """
        config = SocketServerConfig() if config is None else config
        self._graceful_seconds = config.trio_graceful_timeout_ms / 1000
        per_ip_overrides = resolve_overrides(config.ip_limits)
        bound = self._bind(listeners, config)
        ids = count_from()
        control = [listener for listener in bound if listener.is_control_plane]
        self.control_plane: Plane | None = None
        """The control plane, if a listener is marked for it."""
        if control:
            self.control_plane = Plane(
                "control",
                control,
                config,
                parse=control_parse or parse,
                receive_type=receive_type,
                handle=control_handle or handle,
                connection_quotas=ConnectionQuotas(
                    max_connections_per_ip=config.max_connections_per_ip,
                    max_connections_per_ip_overrides=per_ip_overrides,
                ),
                processor_ids=ids,
                on_finished=control_on_finished or on_finished,
            )
        self.data_plane = Plane(
            "data",
            [listener for listener in bound if not listener.is_control_plane],
            config,
            parse=parse,
            handle=handle,
            receive_type=receive_type,
            connection_quotas=ConnectionQuotas(
                max_connections=config.max_connections,
                max_connection_creation_rate=config.max_connection_creation_rate,
                max_connections_per_ip=config.max_connections_per_ip,
                max_connections_per_ip_overrides=per_ip_overrides,
                protected_listener=next((x.name for x in listeners if x.is_inter_broker), None),
            ),
            processor_ids=ids,
            on_finished=on_finished,
            gives_way_to=self.control_plane,
        )
        self.listeners = bound
        """Every bound listener, in the order given."""
        self._scope = trio.CancelScope()
        self._is_stopping = False

    @staticmethod
    def _bind(
        listeners: Sequence[ListenerConfig], config: SocketServerConfig
    ) -> tuple[Listener, ...]:
        bound: list[Listener] = []
        try:
            for listener in listeners:
                bound.append(Listener(listener, config))  # noqa: PERF401 - what is bound must be known
        except BaseException:
            for listening in bound:
                listening.close()
            raise
        return tuple(bound)

    @property
    def planes(self) -> list[Plane]:
        """The planes that exist, the control plane first."""
        return (
            [self.data_plane]
            if self.control_plane is None
            else [
                self.control_plane,
                self.data_plane,
            ]
        )

    def bound_port(self, listener_name: str | None = None) -> int:
        """The port of a listener, or of the only one.

        Raises:
            LookupError: there is no such listener.
        """
        for listener in self.listeners:
            if listener_name is None or listener.name == listener_name.upper():
                return listener.bound_address[1]
        raise LookupError(f"no listener {listener_name!r}")

    def resize_io_threads(self, count: int) -> None:
        """Have ``count`` request handlers on the data plane (``num.io.threads``).

        Raises:
            ConfigError: not within half and double of what there is; nothing was changed.

        Source: Kafka ``DynamicThreadPool``.
        """
        pool = self.data_plane.handler_pool
        _check_resize("num.io.threads", pool.statistics().size, count)
        pool.resize(count)

    async def resize_network_threads(self, count: int, listener_name: str | None = None) -> None:
        """Have ``count`` Processors per data listener (``num.network.threads``), or for one.

        No connection is closed. The control plane keeps its one.

        Args:
            count: Processors.
            listener_name: the only listener to change; every data listener if not given.

        Raises:
            ConfigError: not within half and double of what there is; nothing was changed.
            LookupError: no data listener of that name.

        Cancellation: some listeners may have been changed.
        Source: Kafka ``DynamicThreadPool``, which closes the connections of removed Processors.
        """
        acceptors = [
            acceptor
            for acceptor in self.data_plane.acceptors
            if listener_name is None or acceptor.listener.name == listener_name.upper()
        ]
        if not acceptors:
            raise LookupError(f"no data listener {listener_name!r}")
        for acceptor in acceptors:
            _check_resize("num.network.threads", len(acceptor.processors), count)
        for acceptor in acceptors:
            await self.data_plane.resize_processors(acceptor, count)

    def close(self) -> None:
        """Close the ports of a server that never ran."""
        for listener in self.listeners:
            listener.close()

    async def run(
        self,
        before_data: Callable[[], Awaitable[None]] | None = None,
        *,
        task_status: trio.TaskStatus[SocketServer] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until ``stop`` is done or this is cancelled.

        Args:
            before_data: awaited when the control plane serves and the data plane does not yet.
            task_status: started when both do.

        Cancellation: requests in hand are cut short, every connection is closed.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    if self.control_plane is not None:
                        await nursery.start(self.control_plane.run)
                    if before_data is not None:
                        await before_data()
                    await nursery.start(self.data_plane.run)
                    task_status.started(self)
        finally:
            self.close()  # those that no Acceptor had taken over yet

    async def stop(self, graceful_seconds: float | None = None) -> None:
        """Stop gracefully: ``run`` returns when this does.

        Args:
            graceful_seconds: how long requests in hand may take; the configured
                ``trio_graceful_timeout_ms`` if not given.

        Cancellation: cuts the requests in hand and stops at once.
        """
        seconds = self._graceful_seconds if graceful_seconds is None else graceful_seconds
        try:
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    for plane in self.planes:
                        nursery.start_soon(plane.drain)
        finally:
            self._scope.cancel()


def _check_resize(key: str, current: int, wanted: int) -> None:
    low, high = max(1, current // 2), current * 2
    if not low <= wanted <= high:
        raise ConfigError(f"{key}={wanted}: must be {low} to {high}, half and double of {current}")


FrameHandler = Callable[[Request], "Buffer | Send | Awaitable[Buffer | Send]"]
"""Answers one frame, with the payload of the reply or a whole ``Send``."""


async def serve_frames(
    handler: FrameHandler,
    port: int,
    *,
    host: str = "127.0.0.1",
    config: SocketServerConfig | None = None,
    task_status: trio.TaskStatus[SocketServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve size-prefixed frames with one handler, with nothing of Kafka.

    Args:
        handler: takes a ``Request`` whose ``payload`` is the frame; returns the reply's bytes,
            which are framed for it, or a ``Send``. It may be ``async``. An exception closes the
            connection; ``CloseConnection`` does so quietly.
        port: 0 takes a free one; ``task_status`` is told the server, which knows it.
        host: address to listen on.
        config: sizes and limits.
        task_status: started with the ``SocketServer`` when it accepts.

    Raises:
        OSError: the port cannot be bound.

    Cancellation: the only way to end it; replies in progress are cut. For a graceful end call
    ``stop`` of the server.
    """
    listener = ListenerConfig(name="PLAINTEXT", host=host, port=port)
    server = SocketServer([listener], handle=answering(handler), config=config)
    await server.run(task_status=task_status)


def answering(handler: FrameHandler) -> Handle:
    """Make a request handler of a function that returns its reply."""

    def handle(request: Request) -> Awaitable[None] | None:
        reply = handler(request)
        if isinstance(reply, (bytes, bytearray, memoryview)):
            frame = frame_of(reply)
            if frame is None:
                request.respond(BytesSend(reply))
            else:
                request.respond_frame(frame)
            return None
        if isinstance(reply, Send):
            request.respond(reply)
            return None
        return _answer_later(request, reply)

    return handle


async def _answer_later(request: Request, reply: Awaitable[Buffer | Send]) -> None:
    result = await reply
    request.respond(result if isinstance(result, Send) else BytesSend(result))
