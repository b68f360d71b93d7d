"""Names of people's things replaced before anybody sees them, for screens that others look at.

A name becomes its kind and a hash, the same one every time: two figures about one topic can still
be seen to be. It hides names from whoever looks; whoever can guess a name can check the guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from .snapshot import Snapshot
from .sources import Source
from .ui_state import Need

_LABELS: Final[Mapping[str, str]] = {
    "topic": "topic",
    "consumergroup": "group",
    "group": "group",
    "user": "user",
    "clientId": "client",
}
"""{label of a metric: what it names}."""

_FIELDS: Final[Mapping[str, str]] = {
    "topic": "topic",
    "group": "group",
    "client_id": "client",
    "principal": "user",
    "remote": "host",
    "host": "host",
    "member_id": "member",
    "instance_id": "member",
    "message": "message",
}
"""{field of a document: what it names}; a log record's message may name anything."""

_PUBLIC: Final = frozenset({"", "ANONYMOUS", "User:ANONYMOUS"})


def pseudonym(kind: str, name: str) -> str:
    """What stands for ``name``; Kafka's own topics keep theirs."""
    if name in _PUBLIC or (kind == "topic" and name.startswith("__")):
        return name
    return f"{kind}-{hashlib.blake2s(name.encode(), digest_size=4).hexdigest()}"


class AnonymizingSource:
    """Another source, without its names."""

    def __init__(self, source: Source) -> None:
        """Take snapshots from ``source``."""
        self._source = source
        self.is_live = source.is_live
        self.shares_event_loop = source.shares_event_loop
        self.name = pseudonym("host", source.name)
        # {pseudonym: name}, of what the last snapshot knew: what is asked for is one of these.
        self._names: dict[str, str] = {}

    def past(self) -> Iterator[Snapshot]:
        """See ``Source.past``."""
        return map(self._anonymous, self._source.past())

    async def take(self, needs: Collection[Need]) -> Snapshot:
        """See ``Source.take``; documents are asked for by their real names."""
        real = [
            attrs.evolve(need, query=tuple((k, self._names.get(v, v)) for k, v in need.query))
            for need in needs
        ]
        return self._anonymous(await self._source.take(real))

    async def aclose(self) -> None:
        """Let go of the other one."""
        await self._source.aclose()

    def _anonymous(self, snapshot: Snapshot) -> Snapshot:
        self._names = {}
        samples = {
            name: {self._labels(labels): value for labels, value in family.items()}
            for name, family in snapshot.samples.items()
        }
        documents = {name: self._fields(each) for name, each in snapshot.documents.items()}
        return attrs.evolve(snapshot, samples=samples, documents=documents)

    def _labels(self, labels: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple(
            (label, self._hidden(_LABELS[label], value) if label in _LABELS else value)
            for label, value in labels
        )

    def _fields(self, value: Any, kind: str | None = None) -> Any:
        if isinstance(value, dict):
            return {key: self._fields(inner, _FIELDS.get(key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._fields(inner) for inner in value]
        return self._hidden(kind, value) if kind is not None and isinstance(value, str) else value

    def _hidden(self, kind: str, name: str) -> str:
        hidden = pseudonym(kind, name)
        self._names[hidden] = name
        return hidden
