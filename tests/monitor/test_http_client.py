"""Pages over HTTP: kept connections, every way a body can come, and servers that are none."""

from __future__ import annotations

import contextlib

import pytest
import trio

from trio_kafka_net.monitor.http_client import (
    Address,
    HttpClient,
    PageRefusedError,
    SourceError,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Address("127.0.0.1", 9404)),
        ("broker", Address("broker", 9404)),
        ("broker:1", Address("broker", 1)),
        (":1", Address("127.0.0.1", 1)),
        ("[::1]:1", Address("::1", 1)),
        ("http://broker:1", Address("broker", 1)),
        ("http://broker:1/", Address("broker", 1)),
        ("http://broker:1/metrics", Address("broker", 1)),
        ("http://broker/kafka/metrics", Address("broker", 9404, "/kafka")),
    ],
)
def test_an_address_is_whatever_a_person_would_type(text, expected):
    assert expected == Address.parse(text)


@pytest.mark.parametrize("text", ["https://broker:1", "broker:port", "broker:70000", "[::1"])
def test_what_is_no_address_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match=r"^"):
        Address.parse(text)


class Server:
    """Answers each request with the next of ``answers``: bytes, or None to say nothing."""

    def __init__(self):
        self.answers = []
        self.requests = []
        self.connections = 0
        self.closes = False

    async def serve(self, stream):
        self.connections += 1
        # A client that has seen enough hangs up.
        with contextlib.suppress(trio.BrokenResourceError):
            await self.converse(stream)

    async def converse(self, stream):
        async with stream:
            while self.answers:
                received = b""
                while not received.endswith(b"\r\n\r\n"):
                    data = await stream.receive_some()
                    if not data:
                        return
                    received += data
                self.requests.append(received.split(b"\r\n")[0].decode())
                answer = self.answers.pop(0)
                if answer is None:
                    await trio.sleep_forever()
                for piece in answer if isinstance(answer, list) else [answer]:
                    await stream.send_all(piece)
                if self.closes:
                    return


@pytest.fixture
async def server(nursery):
    server = Server()
    listeners = await nursery.start(
        lambda task_status: trio.serve_tcp(
            server.serve, 0, host="127.0.0.1", task_status=task_status
        )
    )
    server.address = Address("127.0.0.1", listeners[0].socket.getsockname()[1])
    return server


@pytest.fixture
async def client(server):
    client = HttpClient(server.address, max_page_bytes=1000)
    yield client
    await client.aclose()


def page(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


CHUNKED = [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"3\r\none\r\n",
    b"3\r\ntwo\r\n0\r\n\r\n",
]


async def test_pages_come_over_one_connection_whatever_their_form(server, client):
    server.answers = [page("first"), CHUNKED, page("third")]

    assert [b"first", b"onetwo", b"third"] == [await client.get(f"/{n}") for n in range(3)]
    assert ["GET /0 HTTP/1.1", "GET /1 HTTP/1.1", "GET /2 HTTP/1.1"] == server.requests
    assert server.connections == 1


async def test_a_body_may_end_with_its_connection(server, client):
    server.closes = True
    server.answers = [b"HTTP/1.0 200 OK\r\n\r\nall of it", page("next")]

    assert b"all of it" == await client.get("/")
    assert b"next" == await client.get("/")
    assert server.connections == 2


async def test_a_kept_connection_that_is_gone_is_opened_again(server, client):
    server.answers = [page("first"), page("second")]
    server.closes = True

    assert [b"first", b"second"] == [await client.get("/"), await client.get("/")]
    assert server.connections == 2


async def test_a_page_that_is_missing_does_not_cost_the_connection(server, client):
    server.answers = [page("{}", "404 Not Found"), page("there")]

    with pytest.raises(PageRefusedError, match="says 404 Not Found to /connections"):
        await client.get("/connections")
    assert b"there" == await client.get("/metrics")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (page("", "503 Service Unavailable"), "says 503 Service Unavailable to /"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "without an HTTP answer"),
        (page("x" * 1001), "sends more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "that is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "that is no HTTP"),
        (b"", "closed the connection without an HTTP answer"),
    ],
)
async def test_whatever_is_no_page_is_one_sentence(server, client, answer, said):
    server.closes = True
    server.answers = [answer]

    with pytest.raises(SourceError, match=said) as caught:
        await client.get("/")
    assert "\n" not in str(caught.value)


async def test_a_server_that_says_nothing_is_given_up(server, client, autojump_clock):
    server.answers = [None]

    with pytest.raises(SourceError, match="no answer in 5 s"):
        await client.get("/")
    assert trio.current_time() == pytest.approx(5)


async def test_nobody_there_is_said_in_the_words_of_the_system():
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(SourceError, match=f"{address.port}: connection refused"):
            await HttpClient(address).get("/metrics")
