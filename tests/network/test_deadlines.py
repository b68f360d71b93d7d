from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
import trio.testing

from trio_kafka_net.network.connection import DisconnectCause
from trio_kafka_net.network.deadlines import Deadlines, Patience

PATIENCE = Patience(idle_seconds=600, frame_seconds=30, bytes_per_second=100, stall_seconds=120)


def connection(**state) -> SimpleNamespace:
    receive = SimpleNamespace(announced_size=0, awaits_memory=False)
    defaults = {
        "is_open": True,
        "last_active": 0.0,
        "frame_begun": None,
        "frame_is_watched": False,
        "send_is_watched": False,
        "pending_send": None,
        "request": None,
        "receive": receive,
    }
    return SimpleNamespace(**{**defaults, **state})


def test_silence_ends_a_connection_and_activity_keeps_it():
    """SEL-14, SEL-17."""
    deadlines = Deadlines(PATIENCE)
    silent, active = connection(), connection()
    deadlines.connection_opened(silent)
    deadlines.connection_opened(active)
    active.last_active = 500.0
    assert [] == deadlines.expired(599.9)
    assert [(silent, DisconnectCause.IDLE)] == deadlines.expired(600)
    assert 1100 == deadlines.next()
    assert [(active, DisconnectCause.IDLE)] == deadlines.expired(1100)


def test_a_request_in_progress_is_never_idle():
    """SS-16, SS-17, SEL-16, otherwise than Kafka: such a connection is kept."""
    deadlines = Deadlines(PATIENCE)
    busy = connection(request=object())
    deadlines.connection_opened(busy)
    assert [] == deadlines.expired(600)
    busy.request, busy.last_active = None, 700.0
    assert [] == deadlines.expired(1200)
    assert [(busy, DisconnectCause.IDLE)] == deadlines.expired(1300)


def test_a_frame_has_its_time_and_that_of_its_size():
    """GX-08, GX-09: a byte now and then does not keep a frame alive."""
    deadlines = Deadlines(PATIENCE)
    trickling = connection()
    trickling.receive.announced_size = 1000
    deadlines.frame_begun(trickling, 5.0)
    trickling.last_active = 44.0
    assert [] == deadlines.expired(44.9)
    assert [(trickling, DisconnectCause.SLOW_WRITER)] == deadlines.expired(45.0)


def test_a_frame_that_became_whole_is_forgotten_and_the_next_one_watched():
    deadlines = Deadlines(PATIENCE)
    subject = connection()
    for begun in range(1000):
        deadlines.frame_begun(subject, float(begun % 20))
        subject.frame_begun = None
    assert [] == deadlines.expired(100)
    assert float("inf") == deadlines.next()
    deadlines.frame_begun(subject, 100.0)
    assert [(subject, DisconnectCause.SLOW_WRITER)] == deadlines.expired(130)


def test_the_time_of_a_frame_that_waits_for_memory_does_not_run():
    deadlines = Deadlines(PATIENCE)
    waiting = connection()
    waiting.receive.awaits_memory = True
    deadlines.frame_begun(waiting, 0.0)
    assert [] == deadlines.expired(1000)
    waiting.receive.awaits_memory = False
    assert [] == deadlines.expired(1029)
    assert [(waiting, DisconnectCause.SLOW_WRITER)] == deadlines.expired(1030)


def test_a_response_that_nobody_reads_ends_and_one_that_moves_does_not():
    """GX-08: the slow reader."""
    deadlines = Deadlines(PATIENCE)
    stalled, moving = connection(pending_send=object()), connection(pending_send=object())
    deadlines.send_stalled(stalled, 0.0)
    deadlines.send_stalled(moving, 0.0)
    moving.last_active = 100.0
    assert [(stalled, DisconnectCause.SLOW_READER)] == deadlines.expired(120)
    moving.pending_send = None
    assert [] == deadlines.expired(220)
    assert float("inf") == deadlines.next()


def test_closed_connections_do_not_pile_up():
    deadlines = Deadlines(PATIENCE)
    survivor = connection()
    deadlines.connection_opened(survivor)
    for _ in range(10_000):
        gone = connection()
        deadlines.connection_opened(gone)
        gone.is_open = False
        deadlines.connection_closed()
    assert len(deadlines._heap) < 200
    assert [(survivor, DisconnectCause.IDLE)] == deadlines.expired(600)


async def test_a_trickling_peer_is_closed_and_its_memory_returned(serve, connect, mock_clock):
    """GX-08, difference 11: pool memory is not held for ever by a slow writer."""
    server = await serve(lambda request: b"", trio_frame_timeout_ms=30_000)
    client = await connect(server.bound_port())
    await client.stream.send_all(struct.pack(">i", 1000))
    for _ in range(3):
        await client.stream.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked(0.005)
        mock_clock.jump(9.9)
        await trio.testing.wait_all_tasks_blocked(0.005)
    assert 1000 == server.data_plane.memory_pool.used
    mock_clock.jump(1)
    assert b"" == await client.wait_closed()
    assert 0 == server.data_plane.memory_pool.used


@pytest.mark.parametrize("reads", [True, False])
async def test_a_peer_that_takes_nothing_of_a_response_is_closed(serve, connect, mock_clock, reads):
    """GX-08: unless it takes some of it now and then."""
    server = await serve(lambda request: b"z" * 50_000_000)
    client = await connect(server.bound_port())
    await client.send(b"x")
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked(0.005)
        mock_clock.jump(100)
        if reads:
            for _ in range(100):
                await client.stream.receive_some(100_000)
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert (1 if reads else 0) == server.data_plane.connection_count


async def test_a_response_that_was_read_in_the_end_leaves_no_deadline(serve, connect, mock_clock):
    server = await serve(lambda request: b"z" * 8_000_000)
    client = await connect(server.bound_port())
    assert 8_000_000 == len(await client.ask(b"x"))
    for _ in range(4):
        await trio.testing.wait_all_tasks_blocked(0.005)
        mock_clock.jump(100)
    await trio.testing.wait_all_tasks_blocked(0.005)
    assert 1 == server.data_plane.connection_count
