from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.metrics.routes import RefusedError, answer, check_host

from .observed import FakeObserved


async def get(target, observed=None):
    found = await answer(observed or FakeObserved(), target)
    return found.status, json.loads(found.body)


async def test_the_page_of_metrics_is_text():
    found = await answer(FakeObserved(), "/metrics?ignored=1")
    assert (200, b"metric 1\n") == (found.status, found.body)
    assert found.content_type.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/connections", ("connections", "out", False, 50, "")),
        (
            "/connections?sort=age&reverse=1&limit=7&filter=a%20b%7C%5Ec",
            ("connections", "age", True, 7, "a b|^c"),
        ),
        ("/connections?limit=999999999", ("connections", "out", False, 100_000, "")),
        ("/log?level=error&limit=3", ("log", "error", 3)),
        ("/log", ("log", "warning", 200)),
        ("/groups", ("groups", 200)),
    ],
)
async def test_parameters_have_defaults_and_bounds(target, asked):
    observed = FakeObserved()
    status, _ = await get(target, observed)
    assert (200, [asked]) == (status, observed.asked)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/topic?name=orders", 200),
        ("/topic?name=other", 404),
        ("/topic", 400),
        ("/group?name=sink", 200),
        ("/group?name=", 404),
        ("/tasks", 200),
        ("/", 404),
        ("/metrics/", 404),
        ("", 404),
        ("/connections?limit=-1", 400),
        ("/connections?limit=1e3", 400),
        ("/connections?limit=٣", 400),
        ("/connections?reverse=yes", 400),
        ("/connections?sort=nothing", 400),
        ("/connections?" + "&".join(f"a{n}=1" for n in range(100)), 400),
        ("http://[", 400),
    ],
)
async def test_what_is_not_there_or_not_understood_is_said(target, status):
    found, document = await get(target)
    assert status == found
    assert (status == 200) != bool(document.get("error"))


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_a_status_with_reasons(path):
    assert (200, {"status": "ok"}) == await get(path)
    status, document = await get(path, FakeObserved(reasons=["the broker is stopping"]))
    assert (503, ["the broker is stopping"]) == (status, document["reasons"])


async def test_a_failure_is_logged_and_answered(caplog):
    status, document = await get("/metrics", FakeObserved(failure=ZeroDivisionError()))
    assert 503 == status
    assert "the log says why" in document["error"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1:9404", "localhost", "LOCALHOST:1", "[::1]:9", "::1"])
def test_a_request_may_name_an_address_or_localhost(host):
    if host != "::1":
        check_host(host)
    else:  # an IPv6 address has brackets there
        with pytest.raises(RefusedError):
            check_host(host)


@pytest.mark.parametrize(
    "host",
    ["example.com", "127.0.0.1.example.com:9404", "", "localhost.example.com", "[", "a\nb", "@"],
)
def test_a_name_that_anybody_can_register_is_refused(host):
    """DNS rebinding: a page in a browser points its own name at this machine."""
    with pytest.raises(RefusedError):
        check_host(host)


@given(st.text())
async def test_any_target_is_answered(target):
    found = await answer(FakeObserved(), target)
    assert found.status in {200, 400, 404}


@given(st.text())
def test_any_host_is_allowed_or_refused(host):
    with contextlib.suppress(RefusedError):
        check_host(host)
