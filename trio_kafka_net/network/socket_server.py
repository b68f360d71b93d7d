"""The SocketServer: two planes, each a whole set of channel, handlers, Acceptors and Processors.

::

    SocketServer
    ├─ control plane   handler pool (1) · request channel (20) · Acceptor · Processor
    └─ data plane      handler pool (num.io.threads) · request channel (queued.max.requests)
       └─ per listener   Acceptor · Processor × num.network.threads

The planes share nothing but the event loop: each has its own queue, handlers, memory and
connection limits, so a request of the control plane never waits behind data, whatever the data
plane is full of. The work that the data plane does between two checkpoints is bounded.

Start: every port is bound by the constructor, before anything is served. ``run`` starts the
control plane first. Stop: ``stop`` closes the ports, reads no more requests, lets those in hand
finish, flushes, closes; cancelling ``run`` cuts all of it short.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count

import trio

from trio_kafka_net.config import ListenerConfig, SocketServerConfig

from .acceptor import Acceptor
from .connection_quotas import ConnectionQuotas
from .framing import Buffer, BytesSend, Send
from .handler_pool import Handle, RequestHandlerPool
from .listener import Listener
from .memory_pool import MemoryPool
from .processor import ParseRequest, Processor
from .request_channel import OnFinished, Request, RequestChannel

CONTROL_PLANE_QUEUE = 20
"""Capacity of the control plane's request queue; Kafka's constant."""


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
        processor_ids: Iterator[int],
        on_finished: OnFinished | None = None,
    ) -> None:
        """Put a plane together; nothing runs yet.

        Args:
            name: "data" or "control".
            listeners: bound, one Acceptor each.
            config: sizes of everything; the control plane uses Kafka's constants instead.
            parse: makes a request of a frame.
            handle: runs a request.
            processor_ids: ids that are unique within the server.
            on_finished: told once about every request that was queued, when it is over.
        """
        is_control = name == "control"
        self.name = name
        self.request_channel = RequestChannel(
            CONTROL_PLANE_QUEUE if is_control else config.queued_max_requests, on_finished
        )
        self.memory_pool = MemoryPool(config.queued_max_request_bytes)
        self.connection_quotas = ConnectionQuotas(
            max_connections=config.max_connections,
            max_connections_per_ip=config.max_connections_per_ip,
        )
        self.handler_pool = RequestHandlerPool(
            self.request_channel, handle, 1 if is_control else config.num_io_threads
        )
        idle_ms = config.connections_max_idle_ms
        self.acceptors = [
            Acceptor(
                listener,
                [
                    Processor(
                        next(processor_ids),
                        listener_name=listener.name,
                        is_privileged=is_control,
                        request_channel=self.request_channel,
                        memory_pool=self.memory_pool,
                        parse=parse,
                        max_frame_bytes=config.socket_request_max_bytes,
                        idle_seconds=math.inf if idle_ms < 0 else idle_ms / 1000,
                    )
                    for _ in range(1 if is_control else config.num_network_threads)
                ],
                self.connection_quotas,
            )
            for listener in listeners
        ]
        self._accepting = trio.CancelScope()

    @property
    def processors(self) -> list[Processor]:
        """The Processors of all listeners of this plane."""
        return [p for acceptor in self.acceptors for p in acceptor.processors]

    @property
    def connection_count(self) -> int:
        """Connections open now."""
        return sum(processor.connection_count for processor in self.processors)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped or cancelled.

        Cancellation: requests in hand are cut, connections closed.
        """
        try:
            async with trio.open_nursery() as handlers:
                await handlers.start(self.handler_pool.run)
                async with trio.open_nursery() as network:
                    for processor in self.processors:
                        await network.start(processor.run)
                    network.start_soon(self._accept)
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self.request_channel.clear()

    async def _accept(self) -> None:
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for acceptor in self.acceptors:
                    nursery.start_soon(acceptor.run)

    async def drain(self) -> None:
        """Accept and read no more; return when every request in hand is answered.

        Cancellation: what is left is cut by cancelling ``run``.
        """
        self._accepting.cancel()
        async with trio.open_nursery() as nursery:
            for processor in self.processors:
                nursery.start_soon(processor.drain)


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
            on_finished: told once about every request of the data plane that was queued, when it
                is over; it must not block. What it raises is logged.
            control_on_finished: the same for the control plane; ``on_finished`` if not given.

        Raises:
            OSError: a port could not be bound; those bound before are closed again.
        """
        config = SocketServerConfig() if config is None else config
        self._graceful_seconds = config.trio_graceful_timeout_ms / 1000
        bound = self._bind(listeners, config)
        ids = count()
        control = [listener for listener in bound if listener.is_control_plane]
        self.control_plane: Plane | None = None
        """The control plane, if a listener is marked for it."""
        if control:
            self.control_plane = Plane(
                "control",
                control,
                config,
                parse=control_parse or parse,
                handle=control_handle or handle,
                processor_ids=ids,
                on_finished=control_on_finished or on_finished,
            )
        self.data_plane = Plane(
            "data",
            [listener for listener in bound if not listener.is_control_plane],
            config,
            parse=parse,
            handle=handle,
            processor_ids=ids,
            on_finished=on_finished,
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

    def close(self) -> None:
        """Close the ports of a server that never ran."""
        for listener in self.listeners:
            listener.close()

    async def run(
        self, *, task_status: trio.TaskStatus[SocketServer] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until ``stop`` is done or this is cancelled.

        Cancellation: requests in hand are cut short, every connection is closed.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                for plane in self.planes:
                    await nursery.start(plane.run)
                task_status.started(self)

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
            request.respond(BytesSend(reply))
            return None
        if isinstance(reply, Send):
            request.respond(reply)
            return None
        return _answer_later(request, reply)

    return handle


async def _answer_later(request: Request, reply: Awaitable[Buffer | Send]) -> None:
    result = await reply
    request.respond(result if isinstance(result, Send) else BytesSend(result))
