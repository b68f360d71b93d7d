"""The controller's way to one broker: requests in order, a few at a time, until each is answered.

A request that was sent and not answered may have been carried out, or may be carried out later: it
may still lie in a queue of the broker, behind a connection that is gone. So before it is sent again
the controller takes a new epoch, and a late copy of the old request is refused as stale, whatever
came after it.

A decision is two requests as a rule, and they are sent in one piece. The broker reads the next
request of a connection when the one before is answered, so they are carried out in their order.

There are two transports. A broker with a control plane is reached over a real connection to it. One
without is in the same process, and its ``ControllerRequests`` are asked directly; then nothing has
to run in the background, and whoever waits for an answer carries the requests over himself.

Source: Kafka ``ControllerChannelManager``, ``RequestSendThread`` (3.9).
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

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
_MAX_CORRELATION_ID: Final = 0x7FFFFFFF
_REQUESTS_AT_ONCE: Final = 8
"""Sent in one piece; a decision is two of them, if it is small."""
_VERSIONS: Final = {
    ApiKey.LEADER_AND_ISR: 7,
    ApiKey.STOP_REPLICA: 4,
    ApiKey.UPDATE_METADATA: 8,
    ApiKey.CONTROLLED_SHUTDOWN: 3,
}


Heard: TypeAlias = Callable[[Any], None]
"""Told a response."""


class Transport(Protocol):
    """Carries requests to a broker."""

    is_direct: bool
    """Whether it works without anything that runs in the background."""

    async def ask(self, requests: Sequence[Message], heard: Heard) -> None:
        """Carry requests over, in their order; the broker sees one after the other.

        Args:
            requests: a few.
            heard: called with each response, as it comes.

        Raises:
            OSError: the broker cannot be reached; what has no answer was not carried out.
            trio.BrokenResourceError: the connection broke; it may have been carried out.
            RemoteProtocolError: an answer is none.

        Cancellation: what has no answer may have been carried out; call ``close`` before the next
            requests.
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

    async def ask(self, requests: Sequence[Message], heard: Heard) -> None:
        """Have requests carried out; see ``Transport.ask``.

        Cancellation: as there.
        """
        for request in requests:
            heard(await self._handle(request))

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

    async def ask(self, requests: Sequence[Message], heard: Heard) -> None:
        """Send requests in one piece and receive their responses; see ``Transport.ask``.

        Cancellation: as there.
        """
        if trio.current_time() - self._last_used > _REST_SECONDS:
            self.close()
        if self._stream is None:
            self._stream = await self._connect()
        first = self._correlation_id + 1
        await self._stream.send_all(b"".join(map(self._frame, requests)))
        for expected, request in enumerate(requests, start=first):
            assert request.API_KEY is not None
            frame = await self._receive_frame(self._stream)
            version = _VERSIONS[request.API_KEY]
            told, response = decode_response(response_class(request.API_KEY), version, frame)
            if told != expected & _MAX_CORRELATION_ID:
                raise RemoteProtocolError(f"answer to request {told}, not to {expected}")
            self._last_used = trio.current_time()
            heard(response)

    def _frame(self, request: Message) -> bytes:
        self._correlation_id = (self._correlation_id + 1) & _MAX_CORRELATION_ID
        assert request.API_KEY is not None
        version = _VERSIONS[request.API_KEY]
        payload = b"".join(encode_request(request, version, self._correlation_id, self._client_id))
        return _SIZE.pack(len(payload)) + payload

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
        self._is_silent = False
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
                await self._ask(list(islice(self._queue, _REQUESTS_AT_ONCE)))

    async def _ask(self, requests: Sequence[ControllerRequest]) -> None:
        """Ask once; what got no answer stays in the queue, to be asked again."""
        for request in requests:
            request.controller_epoch = self._epoch()
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await self.transport.ask(requests, self._hear)
        except (
            OSError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            trio.TooSlowError,
            RemoteProtocolError,
        ) as error:
            if self._is_closed:
                return
            log.log(
                logging.DEBUG if self._is_silent else logging.WARNING,
                "broker %d did not answer %s, asking again: %s",
                self.node_id,
                type(self._queue[0]).__name__,
                error or type(error).__name__,
            )
            self._is_silent = True  # said once is enough, ten times a second is too much
            self.transport.close()
            self._renew_epoch()
            await trio.sleep(BACK_OFF_SECONDS)

    def _hear(self, response: Any) -> None:
        # It may have been closed meanwhile, and then nobody wants to know.
        self._is_silent = False
        if not self._is_closed:
            _report(self.node_id, self._queue.popleft(), response)
            self._done += 1
            self._note_progress()

    def _note_progress(self) -> None:
        progress, self._progress = self._progress, trio.Event()
        progress.set()


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
