"""One client of the metrics endpoint and what is said to it in HTTP/1.1, over ``h11``.

What it may take is said in ``endpoint``, which also decides who is served.
"""

from __future__ import annotations

import h11
import trio

from .endpoint import (
    ANSWER_SECONDS,
    IDLE_SECONDS,
    MAX_HEADER_BYTES,
    RECEIVE_BYTES,
    REQUEST_SECONDS,
    let_read,
)
from .routes import Answer, Observed, RefusedError, answer, check_host, error_answer


async def serve_requests(
    stream: trio.abc.HalfCloseableStream, observed: Observed, *, is_loopback: bool
) -> None:
    """Answer one request after the other, until the client goes or one of them is refused.

    Args:
        stream: to the client; left open.
        observed: the broker.
        is_loopback: whether only this machine is served, so that names of hosts are checked.

    Raises:
        trio.BrokenResourceError: the client is gone.
        trio.TooSlowError: it does not read.

    Cancellation: an answer in progress is cut.
    """
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
    idle_seconds = REQUEST_SECONDS
    while await _wait_for_bytes(http, stream, idle_seconds):
        idle_seconds = IDLE_SECONDS
        request: h11.Request | None = None
        try:
            request = await _read_request(http, stream)
            if request is None:
                return
            found = await answer(observed, _target(request, is_loopback=is_loopback))
            is_over = False
        except RefusedError as refused:
            found, is_over = error_answer(refused.status, str(refused)), True
        has_body = request is None or request.method != b"HEAD"
        await _send(http, stream, found, is_over=is_over, has_body=has_body)
        if is_over or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return
        http.start_next_cycle()


def _target(request: h11.Request, *, is_loopback: bool) -> str:
    """Path and query of a request that may be answered.

    Raises:
        RefusedError: it may not.
    """
    if request.method != b"GET":
        raise RefusedError(405, "only GET is served")
    if is_loopback:
        hosts = [value for name, value in request.headers if name == b"host"]
        if hosts:  # HTTP/1.0 has none; no browser speaks it
            check_host(hosts[0].decode("latin-1"))
    return request.target.decode("latin-1")


async def _wait_for_bytes(
    http: h11.Connection, stream: trio.abc.HalfCloseableStream, seconds: float
) -> bool:
    """Wait for the beginning of a request; False if none comes."""
    if http.trailing_data[0]:
        return True
    with trio.move_on_after(seconds):
        data = await stream.receive_some(RECEIVE_BYTES)
        if data:
            http.receive_data(bytes(data))
            return True
    return False


async def _read_request(
    http: h11.Connection, stream: trio.abc.HalfCloseableStream
) -> h11.Request | None:
    """Read a request to its end; None if the client closes before.

    Raises:
        RefusedError: it is none, too slow, too large, or has a body.
    """
    request: h11.Request | None = None
    with trio.move_on_after(REQUEST_SECONDS):
        while True:
            event = await _next_event(http, stream)
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif isinstance(event, h11.Data):
                raise RefusedError(400, "a request has no body here")
            else:
                return None
    raise RefusedError(408, f"a request may take {REQUEST_SECONDS:g} s")


async def _next_event(http: h11.Connection, stream: trio.abc.HalfCloseableStream) -> object:
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            status = 431 if error.error_status_hint == 431 else 400
            raise RefusedError(status, f"not HTTP as it should be: {error}") from error
        if event is not h11.NEED_DATA:
            return event
        http.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))


async def _send(
    http: h11.Connection,
    stream: trio.abc.HalfCloseableStream,
    found: Answer,
    *,
    is_over: bool,
    has_body: bool,
) -> None:
    headers = [
        ("Content-Type", found.content_type),
        ("Content-Length", str(len(found.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if found.status == 405:
        headers.append(("Allow", "GET"))
    if is_over:
        headers.append(("Connection", "close"))
    if http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return  # it broke in a way that allows no answer
    response = h11.Response(status_code=found.status, headers=headers)
    data = http.send(response) or b""
    if has_body:
        data += http.send(h11.Data(data=found.body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    with trio.fail_after(ANSWER_SECONDS):
        await stream.send_all(data)
        if is_over:
            await let_read(stream)
