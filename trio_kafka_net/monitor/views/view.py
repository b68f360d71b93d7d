"""What views have in common: a table of rows, a summary, and a detail of one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic

import attrs

from ..columns import View
from ..table import Column, Row, Table, arranged, filtered
from ..theme import Role
from ..ui_state import UiState
from ..widgets import Spans, fit, gauge
from ..window import Window


@attrs.frozen
class TableView(Generic[Row]):
    """A view that is a table."""

    view: View
    """Which one it is."""
    needs: tuple[str, ...]
    """Names of metrics one of which must be exported, or of documents."""
    rows: Callable[[Window, UiState], list[Row]]
    """Every row, in any order."""
    columns: Sequence[Column[Row]]
    """Of the table."""
    detail: Callable[[Window, UiState, int], list[Spans]]
    """Lines about the row with the key ``ui.subject``, for so many cells."""
    caption: Callable[[Window, UiState, list[Row]], str] = lambda _window, _ui, _rows: ""
    """What stands after the title."""
    summary: Callable[[Window, int], list[Spans]] = lambda _window, _width: []
    """Lines below the table."""
    complete: Callable[[Window, UiState, list[Row]], list[Row]] = lambda _window, _ui, rows: rows
    """Adds rows that belong to others, once these are in order."""
    is_ordered: bool = False
    """Whether the rows are sorted and filtered already, by the server."""

    def is_exported(self, window: Window) -> bool:
        """Whether there is anything to show."""
        return any(window.exports(name) or window.document(name) is not None for name in self.needs)

    def chosen(self, window: Window, ui: UiState) -> list[Row]:
        """The rows as they are shown: filtered, sorted, completed."""
        own = ui if _is_own(ui, self.view) else UiState(self.view, slow_axis=ui.slow_axis)
        found = self.rows(window, own)
        if not self.is_ordered or own.inverted:
            found = filtered(found, own)
        if not self.is_ordered:
            by, descending = own.sorted_by.column, own.descending
            found = arranged(found, self.columns, by, descending=descending)
        return self.complete(window, own, found)

    def table(self, window: Window, ui: UiState) -> Table[Row]:
        """The table, with a selected row if this is what the screen is about."""
        is_own = _is_own(ui, self.view)
        order = ui if is_own else UiState(self.view)
        return Table(
            self.columns,
            self.chosen(window, ui),
            ui,
            sorted_by=order.sorted_by.column,
            descending=order.descending,
            selected=ui.row if is_own else None,
        )


def _is_own(ui: UiState, view: View) -> bool:
    """Whether keys are about this view; on the overview they are about the requests."""
    return ui.view is view or (ui.view is View.OVERVIEW and view is View.REQUESTS)


# -- lines of details -----------------------------------------------------------------------------


def heading(text: str) -> Spans:
    """What the lines below are about."""
    return [(" " + text, "title")]


def fields(pairs: Sequence[tuple[str, str]], width: int) -> list[Spans]:
    """Names and texts, as many beside each other as there is room for."""
    lines: list[Spans] = []
    line: Spans = []
    left = 0
    for name, text in pairs:
        needed = len(name) + len(text) + 4
        if needed > left:
            line, left = [], width
            lines.append(line)
        line += [(f" {name} ", "label"), (text, "value"), ("  ", "value")]
        left -= needed
    return lines


LABEL_WIDTH: Final = 18
"""Cells of what stands before a bar."""


def bar_width(width: int, beside: int, label_width: int = LABEL_WIDTH) -> int:
    """Cells of a bar in a line of ``width`` with ``beside`` cells of text after it."""
    return max(4, min(40, width - label_width - beside - 5))


def bar_line(
    label: str,
    share: float | None,
    text: str,
    width: int,
    role: Role = "graph",
    label_width: int = LABEL_WIDTH,
) -> Spans:
    """A label, a bar for a share (0 to 1), and what it stands for."""
    return [
        (" " + fit(label, label_width), "label"),
        (" ", "value"),
        *gauge(share, bar_width(width, len(text), label_width), role),
        ("  " + text, "value"),
    ]
