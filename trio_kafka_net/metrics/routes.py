"""What the endpoint answers: from a request's target to a page or document.

No sockets and no HTTP framing here. Every document is made on the event loop in bounded time, from
an object that the broker hands in.

*Host.* A page in a browser can have its own name point at 127.0.0.1 and read whatever listens there
(DNS rebinding). So as long as the endpoint listens on a loopback address only, a request has to
name an address or ``localhost``; a name that anybody can register is refused.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

import attrs

from .exposition import CONTENT_TYPE as PAGE_TYPE
from .log_buffer import CAPACITY as LOG_CAPACITY

log = logging.getLogger(__name__)

_JSON_TYPE = "application/json"
_MAX_PARAMETERS = 16
_MAX_LIMIT = 100_000


class Observed(Protocol):
    """A broker as the endpoint sees it."""

    async def page(self) -> bytes:
        """Every figure as Prometheus reads it."""

    def connections(self, sort: str, reverse: bool, limit: int, pattern: str) -> dict[str, Any]:
        """Connections in some order; ValueError if there is no such order or pattern."""

    def tasks(self) -> dict[str, Any]:
        """Event loop and tasks."""

    def log(self, level: str, limit: int) -> dict[str, Any]:
        """The last log records; ValueError if there is no such level."""

    def topic(self, name: str) -> dict[str, Any] | None:
        """One topic."""

    def groups(self, limit: int) -> dict[str, Any]:
        """Groups."""

    def group(self, name: str) -> dict[str, Any] | None:
        """One group."""

    def unhealthy(self) -> list[str]:
        """Why it is not healthy."""

    def unready(self) -> list[str]:
        """Why it is not ready."""


@attrs.frozen
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    content_type: str = _JSON_TYPE


class RefusedError(Exception):
    """A request that gets an error; the text is for whoever sent it."""

    def __init__(self, status: int, text: str) -> None:
        """Answer with an HTTP status."""
        super().__init__(text)
        self.status = status


def json_answer(status: int, document: Mapping[str, Any]) -> Answer:
    """A document."""
    return Answer(status, json.dumps(document, allow_nan=False).encode())


def error_answer(status: int, text: str) -> Answer:
    """What is wrong with a request."""
    return json_answer(status, {"error": text})


def check_host(host: str) -> None:
    """Refuse a request to a loopback address that names another host.

    Raises:
        RefusedError: 400, neither an address nor ``localhost``.
    """
    try:
        name = urlsplit(f"//{host}").hostname if host.isprintable() else None
        if name != "localhost":
            ipaddress.ip_address(name or "")
    except ValueError:
        raise RefusedError(
            400, "this endpoint listens on loopback only: ask for it by address"
        ) from None


async def answer(observed: Observed, target: str) -> Answer:
    """Answer a GET.

    Args:
        observed: the broker.
        target: path and query.

    Cancellation: safe.
    """
    try:
        path, parameters = _split(target)
        if path == "/metrics":
            return Answer(200, await observed.page(), PAGE_TYPE)
        document = _DOCUMENTS.get(path)
        if document is None:
            raise RefusedError(404, f"no such page; there are {', '.join(sorted(PATHS))}")
        return document(observed, parameters)
    except RefusedError as refused:
        return error_answer(refused.status, str(refused))
    except Exception:
        log.exception("%s: making the answer failed", target[:200])
        return error_answer(503, "making the answer failed; the log says why")


def _split(target: str) -> tuple[str, dict[str, str]]:
    try:
        parts = urlsplit(target)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise RefusedError(400, f"not a target: {error}") from error
    return parts.path, dict(pairs)


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise RefusedError(400, f"{name} must be a number")
    return min(int(text), _MAX_LIMIT)


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters.get(name, "0")
    if text not in {"0", "1"}:
        raise RefusedError(400, f"{name} must be 0 or 1")
    return text == "1"


def _named(parameters: Mapping[str, str]) -> str:
    name = parameters.get("name")
    if name is None:
        raise RefusedError(400, "name is missing")
    return name


def _connections(observed: Observed, parameters: Mapping[str, str]) -> Answer:
    try:
        document = observed.connections(
            parameters.get("sort") or "out",
            _flag(parameters, "reverse"),
            _number(parameters, "limit", 50),
            parameters.get("filter", ""),
        )
    except ValueError as error:
        raise RefusedError(400, str(error)) from error
    return json_answer(200, document)


def _tasks(observed: Observed, parameters: Mapping[str, str]) -> Answer:
    return json_answer(200, observed.tasks())


def _log(observed: Observed, parameters: Mapping[str, str]) -> Answer:
    limit = _number(parameters, "limit", LOG_CAPACITY)
    try:
        document = observed.log(parameters.get("level") or "warning", limit)
    except ValueError as error:
        raise RefusedError(400, str(error)) from error
    return json_answer(200, document)


def _topic(observed: Observed, parameters: Mapping[str, str]) -> Answer:
    document = observed.topic(_named(parameters))
    if document is None:
        raise RefusedError(404, "no such topic")
    return json_answer(200, document)


def _groups(observed: Observed, parameters: Mapping[str, str]) -> Answer:
    return json_answer(200, observed.groups(_number(parameters, "limit", 200)))


def _group(observed: Observed, parameters: Mapping[str, str]) -> Answer:
    document = observed.group(_named(parameters))
    if document is None:
        raise RefusedError(404, "no such group")
    return json_answer(200, document)


def _health(reasons: list[str], what_is_wrong: str) -> Answer:
    if not reasons:
        return json_answer(200, {"status": "ok"})
    return json_answer(503, {"status": what_is_wrong, "reasons": reasons})


_DOCUMENTS: Final[Mapping[str, Callable[[Observed, Mapping[str, str]], Answer]]] = {
    "/connections": _connections,
    "/tasks": _tasks,
    "/log": _log,
    "/topic": _topic,
    "/groups": _groups,
    "/group": _group,
    "/healthz": lambda observed, _: _health(observed.unhealthy(), "unhealthy"),
    "/readyz": lambda observed, _: _health(observed.unready(), "not ready"),
}

PATHS: Final = frozenset({"/metrics", *_DOCUMENTS})
"""Everything that can be asked for."""
