"""The endpoint under clients that behave, that are slow, and that are hostile."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import sys

import attrs
import h11
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.metrics import endpoint as endpoint_module
from trio_kafka_net.metrics.endpoint import (
    ANSWER_SECONDS,
    IDLE_SECONDS,
    MAX_CLIENTS,
    MAX_HEADER_BYTES,
    MAX_REFUSED,
    REQUEST_SECONDS,
    MetricsEndpoint,
)

from .observed import FakeObserved

GET = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@attrs.define
class Served:
    """An endpoint, and clients over streams in memory."""

    endpoint: MetricsEndpoint
    nursery: trio.Nursery

    def connect(self) -> trio.StapledStream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.endpoint.serve_client, theirs)
        return ours


@pytest.fixture
async def observed():
    return FakeObserved()


@pytest.fixture
async def served(observed, nursery):
    made = MetricsEndpoint("127.0.0.1", 0, observed)
    with contextlib.closing(made):
        yield Served(made, nursery)


async def receive_all(stream) -> bytes:
    return b"".join([part async for part in stream])


def parsed(data: bytes, count: int = 1) -> list[tuple[int, dict, bytes]]:
    """Status, headers and body of each of ``count`` answers."""
    client = h11.Connection(h11.CLIENT)
    client.receive_data(data)
    client.receive_data(b"")
    answers = []
    for number in range(count):
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        response = client.next_event()
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        answers.append((response.status_code, dict(response.headers), body))
        if number + 1 < count:
            client.start_next_cycle()
    return answers


async def ask(served, request: bytes) -> tuple[int, dict, bytes]:
    """Send bytes, and read until the server closes."""
    stream = served.connect()
    await stream.send_all(request)
    await stream.send_eof()
    (answer,) = parsed(await receive_all(stream))
    return answer


async def test_a_get_is_answered(served):
    status, headers, body = await ask(served, GET)
    assert (200, b"metric 1\n") == (status, body)
    assert b"no-store" == headers[b"cache-control"]


async def test_a_connection_is_kept_and_requests_may_be_pipelined(served):
    stream = served.connect()
    await stream.send_all(GET * 3)
    await stream.send_eof()
    assert [200, 200, 200] == [each[0] for each in parsed(await receive_all(stream), 3)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\nhi", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"\x00\x00\x00\x10\x00\x12\x00\x03", 400),
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEADER_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * (MAX_HEADER_BYTES + 1), 431),
    ],
)
async def test_what_is_wrong_is_answered_and_the_connection_ends(served, request_, status):
    found, headers, body = await ask(served, request_)
    assert status == found
    if status != 200:
        assert json.loads(body)["error"]
    if status in {400, 405, 431}:
        assert b"close" == headers[b"connection"]


async def test_head_gets_no_body(served):
    stream = served.connect()
    await stream.send_all(b"HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await stream.send_eof()
    data = await receive_all(stream)
    assert data.startswith(b"HTTP/1.1 405 ")
    assert data.endswith(b"\r\n\r\n")


async def test_any_host_will_do_where_the_network_is_served(observed, nursery):
    with contextlib.closing(MetricsEndpoint("", 0, observed)) as everywhere:
        served = Served(everywhere, nursery)
        request = b"GET /metrics HTTP/1.1\r\nHost: broker.example\r\n\r\n"
        assert 200 == (await ask(served, request))[0]


async def test_an_answer_that_failed_does_not_end_the_endpoint(served, observed):
    observed.failure = ZeroDivisionError()
    assert 503 == (await ask(served, GET))[0]
    observed.failure = None
    assert 200 == (await ask(served, GET))[0]


# Slow clients; the clock is the test's


async def test_a_client_is_closed_if_http_cannot_be_imported(served, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "trio_kafka_net.metrics.http_exchange", None)
    with trio.fail_after(1):
        assert await receive_all(served.connect()) == b""
    assert "serving a client of the metrics endpoint failed" in caplog.text

    monkeypatch.undo()
    stream = served.connect()
    await stream.send_all(GET)
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    await stream.aclose()


async def test_a_client_that_says_nothing_is_closed(served, autojump_clock):
    stream = served.connect()
    assert b"" == await receive_all(stream)
    assert REQUEST_SECONDS == trio.current_time()


async def test_a_request_that_drips_in_is_cut_off(served, autojump_clock):
    """Slow loris: every byte comes, but the request does not."""
    stream = served.connect()
    begun = trio.current_time()
    with contextlib.suppress(trio.BrokenResourceError):
        for byte in GET[:-1]:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.5)
            if trio.current_time() > begun + REQUEST_SECONDS:
                break
    with trio.move_on_after(1):
        data = await stream.receive_some()
    assert data.startswith(b"HTTP/1.1 408 ")


async def test_a_kept_connection_ends_when_nobody_asks(served, autojump_clock):
    stream = served.connect()
    await stream.send_all(GET)
    assert 200 == parsed(await receive_all(stream))[0][0]
    assert IDLE_SECONDS == trio.current_time()


async def test_a_client_that_does_not_read_is_cut_off(observed, nursery, autojump_clock):
    with contextlib.closing(MetricsEndpoint("127.0.0.1", 0, observed)) as made:
        ours, theirs = trio.testing.lockstep_stream_pair()
        ended = trio.Event()

        async def serve():
            await made.serve_client(theirs)
            ended.set()

        nursery.start_soon(serve)
        await ours.send_all(GET)
        await ended.wait()
    assert ANSWER_SECONDS == trio.current_time()


async def test_a_fifth_client_is_told_so_and_the_next_one_is_served(served):
    waiting = [served.connect() for _ in range(MAX_CLIENTS)]
    await trio.testing.wait_all_tasks_blocked()
    status, headers, body = await ask(served, GET)
    assert 503 == status
    assert "4 clients" in json.loads(body)["error"]
    assert b"1" == headers[b"retry-after"]
    await waiting[0].aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert 200 == (await ask(served, GET))[0]


async def test_a_flood_of_clients_is_closed_at_once(served):
    streams = [served.connect() for _ in range(MAX_CLIENTS + MAX_REFUSED + 1)]
    received = []

    async def receive(stream):
        received.append(await stream.receive_some())

    async with trio.open_nursery() as clients:
        for stream in streams:
            clients.start_soon(receive, stream)
        await trio.testing.wait_all_tasks_blocked()
        clients.cancel_scope.cancel()
    assert 1 == received.count(b"")
    assert MAX_REFUSED == sum(b" 503 " in each for each in received)


# Hostile bytes


@given(st.binary(max_size=300))
async def test_any_bytes_are_answered_or_closed(data):
    await exchange(data)


@given(
    st.lists(
        st.sampled_from(
            [
                b"GET ", b"/metrics", b" HTTP/1.1", b"\r\n", b"Host: 127.0.0.1\r\n", b"Host: \r\n",
                b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n",
                b"0\r\n\r\n", b"\r\n\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
                b"Connection: upgrade\r\n", b"\0", b" ", b"PRI * HTTP/2.0", b"CONNECT x:1",
            ]
        ),
        max_size=14,
    )
)  # fmt: skip
async def test_pieces_of_http_are_answered_or_closed(pieces):
    await exchange(b"".join(pieces))


async def exchange(data: bytes) -> None:
    made = MetricsEndpoint("127.0.0.1", 0, FakeObserved())
    ours, theirs = trio.testing.memory_stream_pair()
    failures = []
    log = endpoint_module.log
    with contextlib.closing(made), pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "exception", lambda *arguments: failures.append(arguments))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.serve_client, theirs)
            await ours.send_all(data)
            await ours.send_eof()
            with trio.fail_after(5):
                answer = await receive_all(ours)
    assert not failures
    assert not answer or answer.startswith(b"HTTP/1.1 ")


# Ports


async def test_a_real_client_is_served_over_a_socket(observed, nursery):
    made = MetricsEndpoint("127.0.0.1", 0, observed)
    await nursery.start(made.run)
    async with await trio.open_tcp_stream(*made.bound_address) as stream:
        await stream.send_all(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert 200 == parsed(await receive_all(stream))[0][0]
    nursery.cancel_scope.cancel()


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"METRICS 127.0.0.1:{port}") as caught:
            MetricsEndpoint("127.0.0.1", port, FakeObserved())
    assert errno.EADDRINUSE == caught.value.errno
