"""The controller's way to one broker: requests in order, one in flight, until each is answered.

A request that was sent and not answered may have been carried out, or may be carried out later: it
may still lie in a queue of the broker, behind a connection that is gone. So before it is sent again
the controller takes a new epoch, and a late copy of the old request is refused as stale, whatever
came after it.

There are two transports. A broker with a control plane is reached over a real connection to it. One
without is in the same process, and its ``ControllerRequests`` are asked directly; then nothing has
to run in the background, and whoever waits for an answer carries the requests over himself.

Source: Kafka ``ControllerChannelManager``, ``RequestSendThread`` (3.9).
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from trio_kafka_net.errors import RemoteProtocolError
from trio_kafka_net.protocol.api_keys import ApiKey, response_class
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import decode_response, encode_request
from trio_kafka_net.protocol.message import Message

from .controller_messages import ControllerRequest

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 30.0
"""How long one answer may take before the connection is given up; controller.socket.timeout.ms."""
BACK_OFF_SECONDS: Final = 0.1
"""Pause before the next attempt."""

_REST_SECONDS: Final = 60.0
"""After that a connection is made anew: the broker may have closed it, being idle."""
_SIZE: Final = struct.Struct(">i")
_MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
_CHUNK_BYTES: Final = 65_536
_VERSIONS: Final = {
    ApiKey.LEADER_AND_ISR: 7,
    ApiKey.STOP_REPLICA: 4,
    ApiKey.UPDATE_METADATA: 8,
    ApiKey.CONTROLLED_SHUTDOWN: 3,
}


class Transport(Protocol):
    """Carries one request after the other to a broker."""

    is_direct: bool
    """Whether it works without anything that runs in the background."""

    async def ask(self, request: Message) -> Any:
        """Carry a request over and return its response.

        Raises:
            OSError: the broker cannot be reached; the request was not carried out.
            trio.BrokenResourceError: the connection broke; it may have been carried out.
            RemoteProtocolError: the answer is none.

        Cancellation: it may have been carried out; call ``close`` before the next request.
        """

    def close(self) -> None:
        """Give up the connection; the next request makes a new one."""

    def again(self) -> Transport:
        """Another way to the same broker."""


class DirectTransport:
    """Asks a broker in the same process."""

    is_direct = True

    def __init__(self, handle: Callable[[Any], Awaitable[Message]]) -> None:
        """Ask ``handle``."""
        self._handle = handle

    async def ask(self, request: Message) -> Any:
        """Have a request carried out; see ``Transport.ask``.

        Cancellation: as there.
        """
        return await self._handle(request)

    def close(self) -> None:
        """Do nothing."""

    def again(self) -> Transport:
        """The same: nothing is kept from one request to the next."""
        return self


class StreamTransport:
    """Asks a broker over a connection to its control plane."""

    is_direct = False

    def __init__(
        self, connect: Callable[[], Awaitable[trio.SocketStream]], client_id: str = "controller"
    ) -> None:
        """Connect with ``connect`` when there is something to say.

        Args:
            connect: makes a connected stream.
            client_id: goes into every request header.
        """
        self._connect = connect
        self._client_id = client_id
        self._stream: trio.SocketStream | None = None
        self._received = bytearray()
        self._correlation_id = 0
        self._last_used = 0.0

    async def ask(self, request: Message) -> Any:
        """Send a request and receive its response; see ``Transport.ask``.

        Cancellation: as there.
        """
        if trio.current_time() - self._last_used > _REST_SECONDS:
            self.close()
        if self._stream is None:
            self._stream = await self._connect()
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        assert request.API_KEY is not None
        version = _VERSIONS[request.API_KEY]
        payload = b"".join(encode_request(request, version, self._correlation_id, self._client_id))
        await self._stream.send_all(_SIZE.pack(len(payload)) + payload)
        frame = await self._receive_frame(self._stream)
        told, response = decode_response(response_class(request.API_KEY), version, frame)
        if told != self._correlation_id:
            raise RemoteProtocolError(f"answer to request {told}, not to {self._correlation_id}")
        self._last_used = trio.current_time()
        return response

    async def _receive_frame(self, stream: trio.abc.Stream) -> bytes:
        await self._fill(stream, _SIZE.size)
        (size,) = _SIZE.unpack_from(self._received)
        if not 0 <= size <= _MAX_RESPONSE_BYTES:
            raise RemoteProtocolError(f"answer of {size} bytes announced")
        await self._fill(stream, _SIZE.size + size)
        frame = bytes(memoryview(self._received)[_SIZE.size : _SIZE.size + size])
        del self._received[: _SIZE.size + size]
        return frame

    async def _fill(self, stream: trio.abc.Stream, wanted: int) -> None:
        while len(self._received) < wanted:
            chunk = await stream.receive_some(_CHUNK_BYTES)
            if not chunk:
                raise trio.BrokenResourceError("the broker closed the connection")
            self._received += chunk

    def close(self) -> None:
        """Give up the connection; the next request makes a new one."""
        stream, self._stream = self._stream, None
        self._received.clear()
        if stream is not None:
            stream.socket.close()  # nothing is to be flushed, so nobody has to wait

    def again(self) -> Transport:
        """Another connection to the same broker."""
        return StreamTransport(self._connect, self._client_id)


class ControllerChannel:
    """What a broker has still to be told."""

    def __init__(
        self,
        node_id: int,
        broker_epoch: int,
        transport: Transport,
        *,
        epoch: Callable[[], int],
        renew_epoch: Callable[[], None],
    ) -> None:
        """Begin with nothing to tell.

        Args:
            node_id: of the broker.
            broker_epoch: of its registration; goes into every request.
            transport: carries requests.
            epoch: the controller's epoch now; goes into every request when it is sent.
            renew_epoch: makes that a new one.
        """
        self.node_id = node_id
        self.transport = transport
        """Carries requests to it."""
        self._broker_epoch = broker_epoch
        self._epoch = epoch
        self._renew_epoch = renew_epoch
        self._queue: deque[ControllerRequest] = deque()
        self._put = 0
        self._done = 0
        self._is_closed = False
        self._wake = trio.Event()
        self._progress = trio.Event()
        self._carrying = trio.Lock()

    @property
    def has_delivered(self) -> bool:
        """Whether the broker was told everything, or is gone."""
        return self._is_closed or not self._queue

    def put(self, request: ControllerRequest) -> None:
        """Tell the broker something, after all that it is to be told already."""
        if not self._is_closed:
            request.broker_epoch = self._broker_epoch
            self._queue.append(request)
            self._put += 1
            self._wake.set()

    def close(self) -> None:
        """Forget what was not delivered, because the broker is gone."""
        self._is_closed = True
        self._queue.clear()
        self.transport.close()
        self._wake.set()
        self._note_progress()

    async def delivered(self) -> None:
        """Return when everything that was put until now is answered, or the broker is gone.

        Cancellation: what is left is delivered all the same, by ``run``; a direct transport is
        not interrupted.
        """
        if self.transport.is_direct:
            with trio.CancelScope(shield=True):
                await self._carry_over()
            return
        target = self._put
        while self._done < target and not self._is_closed:
            await self._progress.wait()

    async def run(self) -> None:
        """Deliver until the broker is gone or this is cancelled.

        Cancellation: the request in flight may be carried out; what is left stays in the queue.
        """
        try:
            while not self._is_closed:
                await self._carry_over()
                self._wake = trio.Event()
                if not self._queue and not self._is_closed:
                    await self._wake.wait()
        finally:
            self.transport.close()

    async def _carry_over(self) -> None:
        async with self._carrying:
            while self._queue:
                request = self._queue[0]
                response = await self._answer_to(request)
                if response is None:
                    return
                _report(self.node_id, request, response)
                if self._queue:  # it was not closed meanwhile
                    self._queue.popleft()
                self._done += 1
                self._note_progress()

    def _note_progress(self) -> None:
        progress, self._progress = self._progress, trio.Event()
        progress.set()

    async def _answer_to(self, request: ControllerRequest) -> Any:
        """Ask until there is an answer; None if the broker is gone."""
        level = logging.WARNING
        while not self._is_closed:
            request.controller_epoch = self._epoch()
            try:
                with trio.fail_after(ANSWER_SECONDS):
                    return await self.transport.ask(request)
            except (
                OSError,
                trio.BrokenResourceError,
                trio.ClosedResourceError,
                trio.TooSlowError,
                RemoteProtocolError,
            ) as error:
                if self._is_closed:
                    return None
                log.log(
                    level,
                    "broker %d did not answer %s, asking again: %s",
                    self.node_id,
                    type(request).__name__,
                    error or type(error).__name__,
                )
                level = logging.DEBUG  # said once is enough, ten times a second is too much
            self.transport.close()
            self._renew_epoch()
            await trio.sleep(BACK_OFF_SECONDS)
        return None


def _report(node_id: int, request: ControllerRequest, response: Any) -> None:
    """Say in the log what a broker did not accept."""
    code = response.error_code
    if code:
        what = ErrorCode(code).name if code in set(ErrorCode) else code
        log.error("broker %d refused %s: %s", node_id, type(request).__name__, what)
    refused = [each for each in getattr(response, "partition_errors", []) if each.error_code]
    for topic in getattr(response, "topics", []):
        refused += [each for each in topic.partition_errors if each.error_code]
    if refused:
        log.warning(
            "broker %d refused %s for %d partitions, first %d with code %d",
            node_id,
            type(request).__name__,
            len(refused),
            refused[0].partition_index,
            refused[0].error_code,
        )
