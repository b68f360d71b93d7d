"""An answer is written by whoever gives it, unless something speaks for the queue."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace

import pytest
import trio.testing

from trio_kafka_net.errors import FatalExitError
from trio_kafka_net.network.connection import DisconnectCause, NewConnection
from trio_kafka_net.network.framing import BytesSend
from trio_kafka_net.network.memory_pool import MemoryPool
from trio_kafka_net.network.processor import Processor
from trio_kafka_net.network.request_channel import Request
from trio_kafka_net.network.selector import READABLE, Selector
from trio_kafka_net.network.turn import Turn

from .test_interleavings import FakePoller, Wire

FRAME = struct.pack(">i", 2) + b"ok"


class Desk:
    """A Processor with connections that have a request each; nothing runs unless a test says so."""

    def __init__(self, connections: int) -> None:
        self.turn = Turn()
        self.requests: list[Request] = []
        self.processor = Processor(
            0,
            listener_name="PLAINTEXT",
            is_privileged=False,
            request_channel=SimpleNamespace(
                hand_over=self.requests.append, put=self.requests.append
            ),
            memory_pool=MemoryPool(-1),
            max_frame_bytes=1000,
            turn=self.turn,
            selector=Selector(FakePoller()),
        )
        self.wires = []
        for number in range(connections):
            wire = Wire()
            wire.fd, wire.room = number, 1000
            wire.inbound += struct.pack(">i", 1) + b"x"
            self.wires.append(wire)
            slot = SimpleNamespace(release=lambda: None)
            self.processor._register_at(NewConnection(wire, slot, ("a", 1), ("b", 2)), now=0.0)
        self.processor._serve_ready([(wire.fd, READABLE) for wire in self.wires])

    @property
    def written(self) -> list[bytes]:
        return [bytes(wire.outbound) for wire in self.wires]


async def test_an_answer_is_written_at_once():
    desk = Desk(1)
    desk.requests[0].respond(BytesSend(b"ok"))
    assert [FRAME] == desk.written
    assert desk.processor.response_queue_size == 0
    assert desk.processor.statistics().responses_sent == 1


async def test_when_the_turn_is_over_answers_wait_in_their_order(nursery):
    """Those of a turn with time left stand behind them."""
    desk = Desk(2)
    desk.turn.ends_ns = 0
    desk.requests[1].respond(BytesSend(b"ok"))
    desk.turn.ends_ns = math.inf
    desk.requests[0].respond(BytesSend(b"ok"))
    assert [b"", b""] == desk.written
    assert desk.processor.response_queue_size == 2
    nursery.start_soon(desk.processor._take_responses)
    await trio.testing.wait_all_tasks_blocked()
    assert [FRAME, FRAME] == desk.written
    assert desk.processor.response_queue_size == 0
    nursery.cancel_scope.cancel()


async def test_the_failure_of_writing_is_the_processors(nursery, monkeypatch, caplog):
    """Whoever answers does not see it; the connection is closed, as for any step that fails."""

    def write_to(self, transport) -> bool:
        raise RuntimeError("a bug")

    desk = Desk(1)
    monkeypatch.setattr(BytesSend, "write_to", write_to)
    desk.requests[0].respond(BytesSend(b"ok"))
    assert desk.wires[0].is_open
    nursery.start_soon(desk.processor._take_responses)
    await trio.testing.wait_all_tasks_blocked()
    assert not desk.wires[0].is_open
    assert desk.requests[0].connection.cause is DisconnectCause.UNEXPECTED
    assert "a bug" in caplog.text
    nursery.cancel_scope.cancel()


async def test_what_must_stop_the_server_is_raised_where_it_happens(monkeypatch):
    def write_to(self, transport) -> bool:
        raise FatalExitError("broken")

    desk = Desk(1)
    monkeypatch.setattr(BytesSend, "write_to", write_to)
    with pytest.raises(FatalExitError):
        desk.requests[0].respond(BytesSend(b"ok"))


async def test_a_held_answer_goes_when_the_handlers_have_let_go_of_the_request():
    """Its memory is given back first: the next request may be read there and then."""
    desk = Desk(1)
    request = desk.requests[0]
    request.holds_answer = True
    request.respond(BytesSend(b"ok"))
    assert [b""] == desk.written
    request.leave_handlers()
    assert [FRAME] == desk.written
    assert request.connection.request is None


async def test_an_answer_that_is_held_no_more_goes_at_once():
    desk = Desk(2)
    for request in desk.requests:
        request.holds_answer = True
    early, late = desk.requests
    early.respond(BytesSend(b"ok"))
    early.let_answer_go()
    assert [FRAME, b""] == desk.written
    late.let_answer_go()
    late.respond(BytesSend(b"ok"))
    assert [FRAME, FRAME] == desk.written
