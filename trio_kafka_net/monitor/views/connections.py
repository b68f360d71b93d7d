"""View 3: the connections, the busiest ones first, as the server sorts and filters them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from ..columns import View
from ..documents import number_of, rows_of, text_of
from ..numbers import age, duration, figure, of_bytes, size, written
from ..table import Column
from ..theme import Role
from ..ui_state import UiState
from ..widgets import Spans
from ..window import Window
from .view import TableView, fields, heading

_ROLES: Final[Mapping[str, Role]] = {
    "throttled": "warn",
    "auth": "accent",
    "handshake": "accent",
    "idle": "dim",
}


@attrs.frozen
class ConnectionRow:
    """One connection, as the document has it."""

    document: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its id."""
        return self.text("id") or f"{self.text('client_id')} {self.text('remote')}"

    @property
    def searched(self) -> str:
        """What a filter is looked for in, if the server cannot do it."""
        return " ".join(
            self.text(name)
            for name in ("client_id", "software", "principal", "remote", "listener", "state", "api")
        )

    @property
    def client(self) -> str:
        """What it calls itself."""
        return self.text("client_id") or "–"

    @property
    def software(self) -> str:
        """Name and version."""
        known = {self.text(name): None for name in ("software", "software_version")}
        return " ".join(known).strip() or "–"

    @property
    def processor(self) -> str:
        """Listener and number."""
        return f"{self.text('listener')}/{self.text('processor')}"

    def text(self, name: str) -> str:
        """A field as text."""
        return text_of(self.document, name)

    def number(self, name: str) -> float | None:
        """A field as number."""
        return number_of(self.document, name)

    @property
    def total(self) -> float | None:
        """Bytes in both directions."""
        into, out = self.number("bytes_in"), self.number("bytes_out")
        return None if into is None or out is None else into + out


def rows(window: Window, _ui: UiState) -> list[ConnectionRow]:
    """The rows in the order of the server."""
    return [ConnectionRow(row) for row in rows_of(window.document("connections"), "connections")]


COLUMNS: Final[tuple[Column[ConnectionRow], ...]] = (
    Column("client", 14, lambda row: row.client, key="client", left=True, is_name=True),
    Column("software", 18, lambda row: row.software, key="software", left=True, least=69),
    Column("principal", 16, lambda row: row.text("principal"), left=True, least=150),
    Column("remote", 22, lambda row: row.text("remote"), left=True, least=150),
    Column("listener", 14, lambda row: row.processor, left=True, least=105),
    Column(
        "state",
        10,
        lambda row: row.text("state"),
        key="state",
        left=True,
        role=lambda row: _ROLES.get(row.text("state"), "value"),
    ),
    Column("api", 9, lambda row: row.text("api"), key="api", left=True, most=104),
    Column("api", 15, lambda row: row.text("api"), key="api", left=True, least=105),
    Column("age", 5, lambda row: row.number("api_age_s"), age, "age"),
    Column(
        "in/s",
        7,
        lambda row: row.number("in_per_s"),
        of_bytes,
        "in",
        78,
        is_scaled=True,
        one_unit=True,
    ),
    Column(
        "out/s",
        7,
        lambda row: row.number("out_per_s"),
        of_bytes,
        "out",
        is_scaled=True,
        one_unit=True,
    ),
    Column("idle", 6, lambda row: row.number("idle_s"), duration, "idle", 100),
    Column("total", 7, lambda row: row.total, size, "total", 113, is_scaled=True),
)


def caption(window: Window, ui: UiState, found: list[ConnectionRow]) -> str:
    """What they are sorted by and how many there are."""
    on_top = {"client": "client", "in": "in/s", "out": "out/s"}
    column = ui.sorted_by.column if ui.view is View.CONNECTIONS else "out"
    text = f"top by {on_top.get(column, column)}"
    total = number_of(window.document("connections"), "total")
    if ui.view is View.CONNECTIONS and total is not None:
        text += f" · {len(found)} of {written(total, figure)}"
    return text


def detail(window: Window, ui: UiState, width: int) -> list[Spans]:
    """Everything that the server tells about one connection."""
    row = next((row for row in rows(window, ui) if row.key == ui.subject), None)
    if row is None:
        return [[(" no longer among the connections that the server lists", "dim")]]
    texts = [
        (title, row.text(name) or "–")
        for title, name in (
            ("client", "client_id"),
            ("software", "software"),
            ("version", "software_version"),
            ("principal", "principal"),
            ("remote", "remote"),
            ("listener", "listener"),
            ("plane", "plane"),
            ("processor", "processor"),
            ("state", "state"),
            ("api", "api"),
        )
    ]
    figures = [
        ("api for", written(row.number("api_age_s"), age)),
        ("in/s", written(row.number("in_per_s"), of_bytes)),
        ("out/s", written(row.number("out_per_s"), of_bytes)),
        ("bytes in", written(row.number("bytes_in"), size)),
        ("bytes out", written(row.number("bytes_out"), size)),
        ("idle for", written(row.number("idle_s"), duration)),
        ("open for", written(row.number("age_s"), duration)),
    ]
    return [
        heading("who"),
        *fields(texts, width),
        [],
        heading("what it does"),
        *fields(figures, width),
    ]


CONNECTIONS: Final = TableView(
    View.CONNECTIONS,
    ("connections",),
    rows,
    COLUMNS,
    detail,
    caption=caption,
    is_ordered=True,
)
"""See the top of this file."""
