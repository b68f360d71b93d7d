"""One client connection: what is being read, what is being written, and whether it may be read.

Rules of this file: no sockets, no clocks, no trio. It holds the state of a connection and the
table that decides when the next request may be read; the Processor does the reading.

The theory. A connection has at most one request between "read" and "answered": it is *muted*
meanwhile, whatever the peer pipelines stays in the kernel. Quotas mute it for longer than that:
the response goes out at once (KIP-219), yet the next request waits until the delay is over *and*
the response is flushed. Hence five states:

================================= ==========================================================
NOT_MUTED                         reads
MUTED                             between two states: a request is whole, not yet on its way;
                                  or its response is out, and nobody has unmuted yet
MUTED_AND_RESPONSE_PENDING        a request is queued, handled, or its response being written
MUTED_AND_THROTTLED               the response is out, the delay is not over
MUTED_AND_THROTTLED_AND_...       both
================================= ==========================================================

``MUTE_TABLE`` is the whole logic; a move that is not in it is a bug of ours and raises.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from trio_kafka_net.errors import LocalProtocolError

from .framing import Receive, Send
from .principal import ANONYMOUS, KafkaPrincipal
from .transport import TransportLayer

if TYPE_CHECKING:
    from .connection_quotas import ConnectionSlot
    from .processor import Processor
    from .request_channel import Request


class MuteState(enum.IntEnum):
    """Why a connection is not read, if it is not.

    Source: Kafka ``KafkaChannel.ChannelMuteState``.
    """

    NOT_MUTED = 0
    MUTED = 1
    MUTED_AND_RESPONSE_PENDING = 2
    MUTED_AND_THROTTLED = 3
    MUTED_AND_THROTTLED_AND_RESPONSE_PENDING = 4


class MuteEvent(enum.IntEnum):
    """What moves a connection from one mute state to another.

    MUTE and UNMUTE are Kafka's ``mute()`` and ``maybeUnmute()``; the others its
    ``ChannelMuteEvent``.
    """

    MUTE = 0
    REQUEST_RECEIVED = 1
    RESPONSE_SENT = 2
    THROTTLE_STARTED = 3
    THROTTLE_ENDED = 4
    UNMUTE = 5


_NOT, _MUTED = MuteState.NOT_MUTED, MuteState.MUTED
_RESP, _THR = MuteState.MUTED_AND_RESPONSE_PENDING, MuteState.MUTED_AND_THROTTLED
_BOTH = MuteState.MUTED_AND_THROTTLED_AND_RESPONSE_PENDING

# Row: state. Column: MUTE, REQUEST_RECEIVED, RESPONSE_SENT, THROTTLE_STARTED, THROTTLE_ENDED,
# UNMUTE. None: illegal.
MUTE_TABLE: tuple[tuple[MuteState | None, ...], ...] = (
    (_MUTED, None, None, None, None, _NOT),
    (_MUTED, _RESP, None, None, None, _NOT),
    (_RESP, None, _MUTED, _BOTH, None, _RESP),
    (_THR, None, None, None, _MUTED, _THR),
    (_BOTH, None, _THR, None, _RESP, _BOTH),
)


def _both(first: MuteEvent, second: MuteEvent) -> tuple[MuteState | None, ...]:
    """A column for two events at once, for states in which the first is legal."""
    between = [row[first] for row in MUTE_TABLE]
    return tuple(None if state is None else MUTE_TABLE[state][second] for state in between)


_RECEIVED = _both(MuteEvent.MUTE, MuteEvent.REQUEST_RECEIVED)
_ANSWERED = _both(MuteEvent.RESPONSE_SENT, MuteEvent.UNMUTE)


class DisconnectCause(enum.Enum):
    """Why a connection ended; the value is the label in logs and metrics."""

    PEER_CLOSED = "peer closed"
    PEER_RESET = "peer reset"
    INVALID_REQUEST = "invalid request"
    HANDLER = "closed by handler"
    HANDLER_FAILED = "handler failed"
    IDLE = "idle"
    SLOW_WRITER = "frame not finished in time"
    SLOW_READER = "response not read in time"
    SEND_FAILED = "send failed"
    EVICTED = "evicted"
    UNEXPECTED = "unexpected error"
    SHUTDOWN = "shutdown"

    @property
    def label(self) -> str:
        """The text for logs and metrics."""
        return self.value


class NewConnection:
    """What an Acceptor hands over: a connected transport and its place in the limits."""

    __slots__ = (
        "is_closed",
        "last_active",
        "local_address",
        "remote_address",
        "slot",
        "transport",
    )

    is_busy = False
    """It has no request yet."""

    def __init__(
        self,
        transport: TransportLayer,
        slot: ConnectionSlot,
        local_address: tuple[str, int],
        remote_address: tuple[str, int],
        *,
        accepted_at: float = 0.0,
    ) -> None:
        """Addresses are (host, port) as the kernel gave them; the time is trio's, in seconds."""
        self.transport = transport
        self.slot = slot
        self.local_address = local_address
        self.remote_address = remote_address
        self.is_closed = False
        """Whether it was closed before a Processor took it."""
        self.last_active = accepted_at
        """When it was accepted."""
        slot.holder = self

    def close(self) -> None:
        """Drop it before any Processor has taken it; a second call does nothing."""
        self.is_closed = True
        self.transport.close()
        self.slot.release()

    def evict(self) -> None:
        """Close it because its place is needed."""
        self.close()


class Connection:
    """One client: its transport, the frame being read, the frame being written.

    Owned by one Processor, whose tasks are the only ones to touch it.

    Source: Kafka ``KafkaChannel``; the one name that differs, because in trio a channel is a
    memory channel.
    """

    __slots__ = (
        "attachment",
        "bytes_in",
        "bytes_out",
        "cause",
        "client_id",
        "client_software_name",
        "client_software_version",
        "connection_id",
        "fd",
        "frame_begun",
        "frame_is_watched",
        "is_lingering",
        "is_privileged",
        "is_registered",
        "last_active",
        "listener_name",
        "local_address",
        "mute_state",
        "opened_at",
        "peer_gone",
        "pending_send",
        "principal",
        "processor",
        "reads_interest",
        "receive",
        "remote_address",
        "request",
        "send_is_watched",
        "slot",
        "transport",
        "writes_interest",
    )

    def __init__(
        self,
        connection_id: str,
        transport: TransportLayer,
        *,
        receive: Receive,
        processor: Processor,
        slot: ConnectionSlot | None = None,
        local_address: tuple[str, int] = ("", 0),
        remote_address: tuple[str, int] = ("", 0),
    ) -> None:
        """A connection that reads; registering it with a selector is the Processor's part."""
        self.connection_id = connection_id
        """``localHost:localPort-remoteHost:remotePort-processor-index``, as Kafka's."""
        self.transport = transport
        self.fd = transport.fileno()
        self.receive = receive
        self.processor = processor
        """Who owns it now; responses go there."""
        self.slot = slot
        """Its place in the connection limits, given back when it closes."""
        self.listener_name = processor.listener_name
        self.is_privileged = processor.is_privileged
        """Whether it came over the control plane."""
        self.local_address = local_address
        self.remote_address = remote_address
        """Host and port of the peer, as the kernel said at accept."""
        self.principal: KafkaPrincipal = ANONYMOUS
        """Who the peer is; set by whoever authenticates it."""
        self.client_id = ""
        """What the client called itself in its last request."""
        self.client_software_name = "unknown"
        self.client_software_version = "unknown"
        self.attachment: Any = None
        """Free for whoever parses requests."""
        self.mute_state = _NOT
        self.request: Request | None = None
        """The request between "read" and "answered", if there is one."""
        self.pending_send: Send | None = None
        """The rest of a response that the socket did not take at once."""
        self.reads_interest = True
        """Whether the selector watches for bytes to read."""
        self.writes_interest = False
        """Whether the selector watches for room to write."""
        self.is_registered = False
        """Whether the selector knows the descriptor."""
        self.is_lingering = False
        """Whether we have sent our last byte and only wait for the peer to have read it."""
        self.peer_gone = False
        """Whether the peer closed or reset while a request was in progress."""
        self.bytes_in = 0
        """Bytes of whole frames that were read."""
        self.bytes_out = 0
        """Bytes of whole frames that were written."""
        self.opened_at = 0.0
        """When a Processor began to serve it, seconds on trio's clock."""
        self.last_active = 0.0
        """When bytes last moved, seconds on trio's clock."""
        self.frame_begun: float | None = None
        """When the frame in progress began, if it did not come at once; seconds, trio's clock."""
        self.frame_is_watched = False
        """Whether a deadline for a frame is pending."""
        self.send_is_watched = False
        """Whether a deadline for a stalled response is pending."""
        self.cause: DisconnectCause | None = None
        """Why it ended; None while open."""

    @property
    def is_open(self) -> bool:
        """Whether it is still open on this side."""
        return self.cause is None

    @property
    def is_muted(self) -> bool:
        """Whether the next request must wait."""
        return self.mute_state is not _NOT

    @property
    def is_busy(self) -> bool:
        """Whether a request is between "read" and "answered"."""
        return self.request is not None

    def evict(self) -> None:
        """Close because the place in the limits is needed for another connection."""
        self.processor.evict(self)

    def on(self, event: MuteEvent) -> None:
        """Move the mute state.

        Raises:
            LocalProtocolError: ``event`` is illegal in this state; the state is unchanged.
        """
        state = MUTE_TABLE[self.mute_state][event]
        if state is None:
            raise self._illegal(event.name)
        self.mute_state = state

    def on_request(self) -> None:
        """MUTE and REQUEST_RECEIVED in one step: every request makes both.

        Raises:
            LocalProtocolError: that is illegal in this state; the state is unchanged.
        """
        state = _RECEIVED[self.mute_state]
        if state is None:
            raise self._illegal("a request")
        self.mute_state = state

    def on_response(self) -> None:
        """RESPONSE_SENT and UNMUTE in one step: every response makes both.

        Raises:
            LocalProtocolError: that is illegal in this state; the state is unchanged.
        """
        state = _ANSWERED[self.mute_state]
        if state is None:
            raise self._illegal("a response")
        self.mute_state = state

    def _illegal(self, what: str) -> LocalProtocolError:
        return LocalProtocolError(
            f"{self.connection_id}: {what} is illegal in {self.mute_state.name}"
        )

    def __repr__(self) -> str:
        ended = "open" if self.cause is None else self.cause.label
        return f"<Connection {self.connection_id} {self.mute_state.name} {ended}>"
