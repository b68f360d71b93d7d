"""Where snapshots come from: another process, this process, or a recording.

A source is asked for one snapshot at a time, with the documents that the screen needs just now;
it keeps no history. What it cannot have is a ``SourceError`` of one sentence: whoever asked decides
whether that ends the program (at first contact) or makes the screen stale (later).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import attrs
import trio

from .http_client import Address, HttpClient, PageRefusedError, SourceError
from .page import PageError
from .snapshot import Snapshot
from .ui_state import Need

CLOCK_TOLERANCE_S: Final = 2.0
"""Seconds that two clocks may differ before that is more than the time of a page's way here."""


class Source(Protocol):
    """One server, or what was kept of it."""

    name: str
    """What the header calls it."""
    is_live: bool
    """Whether it has a snapshot whenever it is asked; a recording has one when it is due."""
    shares_event_loop: bool
    """Whether time spent on the event loop is the server's time as well."""

    def past(self) -> Iterable[Snapshot]:
        """What is known from before now, oldest first.

        Raises:
            SourceError: it cannot be read.
        """

    async def take(self, needs: Collection[Need]) -> Snapshot:
        """Take a snapshot.

        Args:
            needs: documents to take along; those that the server has not got are left out.

        Raises:
            SourceError: there is none; the next attempt may succeed.
            EndOfRecording: there will be no more.

        Cancellation: nothing is taken.
        """

    async def aclose(self) -> None:
        """Let go of the server.

        Cancellation: it is let go of all the same.
        """


class EndOfRecording(Exception):
    """The recording has been shown to its end."""


class HttpSource:
    """The metrics endpoint of a broker, here or elsewhere; or the page of a JMX exporter."""

    is_live = True
    shares_event_loop = False

    def __init__(self, address: Address | str, *, clock: Callable[[], float] = time.time) -> None:
        """Connect when the first snapshot is taken.

        Args:
            address: of the endpoint, or what a person would type for it.
            clock: seconds since the epoch.

        Raises:
            ValueError: ``address`` is none.
        """
        self._client = HttpClient(Address.parse(address) if isinstance(address, str) else address)
        self.name = str(self._client.address)
        self._clock = clock
        self._server_is_ahead_s = 0.0

    def past(self) -> Iterable[Snapshot]:
        """Nothing: a server tells what is."""
        return ()

    async def take(self, needs: Collection[Need]) -> Snapshot:
        """See ``Source.take``; documents are those of the same moment, give or take a page."""
        page = (await self._client.get("/metrics")).decode("utf-8", "replace")
        parse = partial(Snapshot.parse, page, time=self._now(), taken=trio.current_time())
        try:
            # The largest page that is read takes seconds, in which keys are obeyed.
            snapshot = await trio.to_thread.run_sync(parse, abandon_on_cancel=True)
        except PageError as error:
            raise SourceError(f"http://{self.name}/metrics is {error}") from error
        documents = {}
        for need in sorted(needs, key=str):
            document = await self._document(need)
            if document is not None:
                documents[need.name] = document
        return attrs.evolve(snapshot, time=self._now(), documents=documents)

    async def _document(self, need: Need) -> Any:
        query = f"?{urlencode(need.query)}" if need.query else ""
        try:
            body = await self._client.get(f"/{need.name}{query}")
        except PageRefusedError:
            return None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"http://{self.name}/{need.name} is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise SourceError(f"http://{self.name}/{need.name} is no JSON object")
        self._compare_clocks(document.get("time"))
        return document

    def _compare_clocks(self, server_time: object) -> None:
        """Documents say what time it is there; how long it runs is said in that time."""
        if isinstance(server_time, int | float):
            ahead = server_time - self._clock()
            self._server_is_ahead_s = ahead if abs(ahead) > CLOCK_TOLERANCE_S else 0.0

    def _now(self) -> float:
        return self._clock() + self._server_is_ahead_s

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class Observatory(Protocol):
    """What a broker in this process tells about itself; documents are those of its endpoint."""

    async def page(self) -> bytes:
        """The page of metrics, made without holding the event loop for long."""

    def connections(self, sort: str, reverse: bool, limit: int, pattern: str) -> Mapping[str, Any]:
        """Connections, sorted and cut."""

    def tasks(self) -> Mapping[str, Any]:
        """What the event loop does."""

    def log(self, level: str, limit: int) -> Mapping[str, Any]:
        """The latest log records."""

    def topic(self, name: str) -> Mapping[str, Any] | None:
        """The partitions of a topic; None if there is no such topic."""

    def groups(self, limit: int) -> Mapping[str, Any]:
        """Consumer groups."""

    def group(self, name: str) -> Mapping[str, Any] | None:
        """One consumer group; None if there is no such group."""


class InProcessSource:
    """A broker in this process.

    What takes long happens in a worker thread, because the event loop is the broker's.
    """

    is_live = True
    shares_event_loop = True

    def __init__(self, observatory: Observatory, *, name: str = "in this process") -> None:
        """Look at a broker through its ``observatory``."""
        self.name = name
        self._observatory = observatory

    def past(self) -> Iterable[Snapshot]:
        """Nothing: a server tells what is."""
        return ()

    async def take(self, needs: Collection[Need]) -> Snapshot:
        """See ``Source.take``; documents are those of the very moment."""
        page = await self._observatory.page()
        taken = trio.current_time()
        found = {need.name: self._document(need) for need in needs}
        documents = {name: document for name, document in found.items() if document is not None}
        parse = partial(Snapshot.parse, time=time.time(), taken=taken, documents=documents)
        return await trio.to_thread.run_sync(parse, page.decode())

    def _document(self, need: Need) -> Mapping[str, Any] | None:
        query = dict(need.query)
        observatory = self._observatory
        match need.name:
            case "connections":
                return observatory.connections(
                    query["sort"],
                    query["reverse"] == "1",
                    int(query["limit"]),
                    query.get("filter", ""),
                )
            case "tasks":
                return observatory.tasks()
            case "log":
                return observatory.log(query["level"], int(query["limit"]))
            case "topic":
                return observatory.topic(query["name"])
            case "groups":
                return observatory.groups(int(query["limit"]))
            case "group":
                return observatory.group(query["name"])
        return None

    async def aclose(self) -> None:
        """Nothing to let go of."""
        await trio.lowlevel.checkpoint()
