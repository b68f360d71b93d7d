"""G1 to G7 of one connection, whatever order things happen in (GX-15).

A hypothesis state machine drives a Processor step by step, without sockets and without trio's
scheduler: the peer sends, the selector reports, the handler answers or throttles, delays end, the
socket takes a little or nothing, the peer goes away. The guarantees are checked after every step.
"""

from __future__ import annotations

import struct
from collections import deque
from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_kafka_net.network.connection import MuteState, NewConnection
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.memory_pool import MemoryPool
from trio_kafka_net.network.processor import Processor
from trio_kafka_net.network.selector import PEER_CLOSED, READABLE, WRITABLE, Selector


class Wire:
    """Both directions of one connection: what the peer sent, what it got, how much it takes."""

    def __init__(self) -> None:
        self.inbound = bytearray()
        self.ended = False
        self.outbound = bytearray()
        self.room = 0
        self.is_open = True
        self.fd = 42

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        self.is_open = False

    def recv_into(self, buffer) -> int:
        if not self.inbound:
            if self.ended:
                return 0
            raise BlockingIOError
        count = min(len(buffer), len(self.inbound))
        buffer[:count] = self.inbound[:count]
        del self.inbound[:count]
        return count

    def send(self, data) -> int:
        if not self.room:
            raise BlockingIOError
        count = min(self.room, len(data))
        self.room -= count
        self.outbound += data[:count]
        return count


class FakePoller:
    """Remembers what is registered, as epoll would."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}

    def fileno(self) -> int:
        return 43

    def register(self, fd: int, events: int) -> None:
        assert fd not in self.registered
        self.registered[fd] = events

    def modify(self, fd: int, events: int) -> None:
        assert fd in self.registered
        self.registered[fd] = events

    def unregister(self, fd: int) -> None:
        del self.registered[fd]

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        pass


class Interleavings(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.wire = Wire()
        self.poller = FakePoller()
        self.queue: deque = deque()
        self.responses: deque = deque()
        self.pool = MemoryPool(-1)
        self.processor = Processor(
            0,
            listener_name="PLAINTEXT",
            is_privileged=False,
            request_channel=SimpleNamespace(hand_over=self.queue.append, put=self.queue.append),
            memory_pool=self.pool,
            max_frame_bytes=100,
            selector=Selector(self.poller),
        )
        self.processor.enqueue_response = self.responses.append
        self.released = 0
        slot = SimpleNamespace(release=self._release)
        self.processor._register_at(NewConnection(self.wire, slot, ("a", 1), ("b", 2)), now=0.0)
        (self.connection,) = self.processor._set.selector.connections.values()
        self.sent = 0
        self.partial = b""
        self.received: list[int] = []
        self.answered: list[int] = []
        self.throttled: list = []
        self.handled = None

    def _release(self) -> None:
        self.released += 1

    # The peer

    @rule(count=st.integers(1, 3))
    def peer_sends(self, count: int) -> None:
        if not self.wire.ended:
            for _ in range(count):
                self.wire.inbound += self.partial
                self.partial = b""
                self.wire.inbound += struct.pack(">ii", 4, self.sent)
                self.sent += 1

    @precondition(lambda self: not self.partial and not self.wire.ended)
    @rule(cut=st.integers(1, 7))
    def peer_sends_a_part(self, cut: int) -> None:
        frame = struct.pack(">ii", 4, self.sent)
        self.sent += 1
        self.wire.inbound += frame[:cut]
        self.partial = frame[cut:]

    @precondition(lambda self: self.partial and not self.wire.ended)
    @rule()
    def peer_sends_the_rest(self) -> None:
        self.wire.inbound += self.partial
        self.partial = b""

    @rule(room=st.integers(1, 20))
    def peer_reads(self, room: int) -> None:
        self.wire.room += room

    @rule()
    def peer_ends(self) -> None:
        self.wire.ended = True

    # The selector: level-triggered, reports what is registered and true

    @rule()
    def selector_reports(self) -> None:
        interest = self.poller.registered.get(42, 0)
        events = 0
        if self.wire.inbound or self.wire.ended:
            events |= READABLE
        if self.wire.ended:
            events |= PEER_CLOSED
        if self.wire.room:
            events |= WRITABLE
        events &= interest
        if events:
            self.processor._serve_ready([(42, events)])

    # The handler

    @precondition(lambda self: self.queue and self.handled is None)
    @rule()
    def handler_takes(self) -> None:
        self.handled = self.queue.popleft()
        self.received.append(int.from_bytes(self.handled.payload, "big"))
        self.handled.release_memory()

    @precondition(lambda self: self.handled is not None)
    @rule(kind=st.sampled_from(["respond", "nothing"]), throttle=st.booleans())
    def handler_answers(self, kind: str, throttle: bool) -> None:
        request, self.handled = self.handled, None
        if throttle:
            request.start_throttling()
            self.throttled.append(request)
        if kind == "respond":
            self.answered.append(int.from_bytes(request.payload, "big"))
            request.respond(BytesSend(bytes(request.payload)))
        else:
            request.respond_nothing()

    @precondition(lambda self: self.throttled)
    @rule()
    def delay_ends(self) -> None:
        self.throttled.pop(0).end_throttling()

    @precondition(lambda self: self.responses)
    @rule()
    def processor_takes_a_response(self) -> None:
        self.processor._act_on(self.responses.popleft())

    # What must hold

    @invariant()
    def requests_arrive_once_and_in_order(self) -> None:
        """Nothing is lost or doubled on the way in, and G6: nothing follows a close."""
        if hasattr(self, "received"):
            assert list(range(len(self.received))) == self.received

    @invariant()
    def responses_leave_in_the_order_of_requests(self) -> None:
        """G1."""
        if hasattr(self, "wire"):
            frames = bytes(self.wire.outbound)
            whole = len(frames) // 8
            leaving = [struct.unpack_from(">i", frames, 8 * n + 4)[0] for n in range(whole)]
            assert self.answered[:whole] == leaving

    @invariant()
    def one_request_at_a_time(self) -> None:
        """G3: between "queued" and "answered and flushed and not throttled" there is one."""
        if hasattr(self, "connection"):
            in_hand = len(self.queue) + (self.handled is not None)
            assert in_hand <= 1
            if in_hand and self.connection.is_open:
                assert self.connection.mute_state == MuteState.MUTED_AND_RESPONSE_PENDING
            if self.throttled and self.connection.is_open:
                assert self.connection.mute_state is not MuteState.NOT_MUTED or self.responses

    @invariant()
    def everything_is_given_back_exactly_once(self) -> None:
        """G7."""
        if hasattr(self, "connection"):
            assert (0 if self.connection.is_open else 1) == self.released
            assert self.connection.is_open == self.wire.is_open
            assert (42 in self.processor._set.selector.connections) == self.connection.is_open
            if not self.connection.is_open:
                assert 42 not in self.poller.registered
                held = sum(len(request.payload) for request in self.queue)
                held += 0 if self.handled is None or self.handled.pool is None else 4
                assert held == self.pool.used

    def teardown(self) -> None:
        """Let everything happen that still can: every whole frame before the end is served (G5)."""
        if not hasattr(self, "connection"):
            return
        was_open = self.connection.is_open
        self.wire.ended = True
        self.wire.room = 10**6
        for _ in range(20 * (self.sent + 2)):
            self.selector_reports()
            if self.queue and self.handled is None:
                self.handler_takes()
            if self.handled is not None:
                self.handler_answers("respond", throttle=False)
            if self.throttled:
                self.delay_ends()
            if self.responses:
                self.processor_takes_a_response()
        assert not self.connection.is_open
        self.everything_is_given_back_exactly_once()
        if was_open:
            complete = self.sent - (1 if self.partial else 0)
            assert complete == len(self.received)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
