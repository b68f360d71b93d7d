"""Sources: a page and the documents of a screen become a snapshot, wherever they are from."""

from __future__ import annotations

import json

import h11
import pytest
import trio

from trio_kafka_net.monitor.http_client import SourceError
from trio_kafka_net.monitor.sources import HttpSource, InProcessSource
from trio_kafka_net.monitor.ui_state import Need

PAGE = 'requests_total{request="Fetch"} 7\n'
CONNECTIONS = Need("connections", (("sort", "out"), ("reverse", "0"), ("limit", "5")))


class Endpoint:
    """An endpoint that has the pages that it is given: {target: (status, body)}."""

    def __init__(self, pages):
        self.pages = pages
        self.targets = []

    async def serve(self, stream):
        connection = h11.Connection(h11.SERVER)
        async with stream:
            while True:
                event = connection.next_event()
                while event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some())
                    event = connection.next_event()
                if isinstance(event, h11.ConnectionClosed):
                    return
                if isinstance(event, h11.EndOfMessage):
                    connection.start_next_cycle()
                    continue
                target = event.target.decode()
                self.targets.append(target)
                status, body = self.pages.get(target, (404, "{}"))
                response = h11.Response(
                    status_code=status, headers=[("Content-Length", str(len(body)))]
                )
                data = h11.Data(data=body.encode())
                out = [connection.send(each) for each in (response, data, h11.EndOfMessage())]
                await stream.send_all(b"".join(out))


@pytest.fixture
async def endpoint(nursery):
    endpoint = Endpoint({"/metrics": (200, PAGE)})
    listeners = await nursery.start(
        lambda task_status: trio.serve_tcp(
            endpoint.serve, 0, host="127.0.0.1", task_status=task_status
        )
    )
    endpoint.address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    return endpoint


@pytest.fixture
async def source(endpoint):
    source = HttpSource(endpoint.address, clock=lambda: 1000.0)
    yield source
    await source.aclose()


async def test_a_snapshot_has_the_page_and_the_documents_that_were_needed(endpoint, source):
    target = "/connections?sort=out&reverse=0&limit=5"
    endpoint.pages[target] = (200, json.dumps({"time": 1000.5, "total": 3}))

    snapshot = await source.take([CONNECTIONS])

    assert {"requests_total": {(("request", "Fetch"),): 7.0}} == snapshot.samples
    assert {"connections": {"time": 1000.5, "total": 3}} == snapshot.documents
    assert 1000.0 == snapshot.time
    assert ["/metrics", target] == endpoint.targets


async def test_names_are_quoted_in_what_is_asked_for(endpoint, source):
    await source.take([Need("topic", (("name", "a b&c/é"),))])

    assert "/topic?name=a+b%26c%2F%C3%A9" == endpoint.targets[1]


async def test_documents_that_the_server_has_not_got_are_left_out(endpoint, source):
    """Kafka behind a JMX exporter has the page, and nothing else."""
    endpoint.pages["/tasks"] = (400, "{}")

    snapshot = await source.take([Need("tasks"), CONNECTIONS])

    assert {} == snapshot.documents
    assert "requests_total" in snapshot.samples


async def test_the_time_is_the_servers_if_its_clock_is_another(endpoint, source):
    endpoint.pages["/tasks"] = (200, json.dumps({"time": 5000.0}))

    assert 5000.0 == (await source.take([Need("tasks")])).time
    assert 5000.0 == (await source.take([])).time, "also when no document says so"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({"/metrics": (200, "<html>")}, "not a line of a metrics page"),
        ({"/metrics": (200, "<html>"), "/tasks": (200, "<html>")}, "not a line of a metrics page"),
        ({"/metrics": (404, "")}, "says 404 to /metrics"),
        ({"/metrics": (200, PAGE), "/tasks": (200, "[")}, "/tasks is no JSON"),
        ({"/metrics": (200, PAGE), "/tasks": (200, "[" * 100_000)}, "/tasks is no JSON"),
        ({"/metrics": (200, PAGE), "/tasks": (200, "[]")}, "/tasks is no JSON object"),
        ({"/metrics": (200, PAGE), "/tasks": (503, "")}, "says 503 to /tasks"),
    ],
)
async def test_what_is_no_endpoint_of_a_broker_is_said_in_a_sentence(endpoint, source, pages, said):
    endpoint.pages = pages

    with pytest.raises(SourceError, match=said):
        await source.take([Need("tasks")])


class Observatory:
    """What a broker tells, and what it was asked."""

    def __init__(self):
        self.asked = []

    async def page(self):
        return PAGE.encode()

    def connections(self, sort, reverse, limit, pattern):
        self.asked.append((sort, reverse, limit, pattern))
        return {"total": 1}

    def tasks(self):
        return {"tasks": {"living": 9}}

    def log(self, level, limit):
        return {"records": [level, limit]}

    def topic(self, name):
        return {"topic": name} if name == "orders" else None

    def groups(self, limit):
        return {"limit": limit}

    def group(self, name):
        return {"group": name}


async def test_a_broker_in_this_process_is_asked_for_the_same_documents():
    observatory = Observatory()
    source = InProcessSource(observatory)
    filtered = Need("connections", (*CONNECTIONS.query, ("filter", "a.*")))
    needs = [filtered, Need("tasks"), Need("log", (("level", "warning"), ("limit", "2")))]
    needs += [Need("groups", (("limit", "3"),)), Need("group", (("name", "g"),))]
    needs += [Need("topic", (("name", "orders"),))]

    snapshot = await source.take(needs)

    assert [("out", False, 5, "a.*")] == observatory.asked
    assert {
        "connections": {"total": 1},
        "tasks": {"tasks": {"living": 9}},
        "log": {"records": ["warning", 2]},
        "topic": {"topic": "orders"},
        "groups": {"limit": 3},
        "group": {"group": "g"},
    } == snapshot.documents
    assert {"requests_total": {(("request", "Fetch"),): 7.0}} == snapshot.samples
    await source.aclose()


async def test_what_is_gone_in_this_process_is_left_out():
    snapshot = await InProcessSource(Observatory()).take([Need("topic", (("name", "gone"),))])

    assert {} == snapshot.documents
