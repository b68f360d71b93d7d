"""Tables: which columns there is room for, in which order the rows stand, and how cells look.

Columns never jump: their widths are fixed, figures stand on the right, and only one column (the
name) takes what is left over. A column is there whole or not at all. Which one the rows are sorted
by says a mark in its head.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from .numbers import Format, figure, in_one_unit, of_bytes, plain, size, written
from .theme import Role
from .ui_state import UiState
from .widgets import Spans, fill, fit, fit_number

RAW_WIDTH: Final = 9
"""Cells of a number that is written out."""


class TableRow(Protocol):
    """What a row of any table has."""

    @property
    def key(self) -> str:
        """What identifies it; empty: it belongs to the row above, and is not selected."""

    @property
    def searched(self) -> str:
        """What a filter is looked for in."""


Row = TypeVar("Row", bound=TableRow)
Value = float | str | None
"""A text is shown on the left, a number on the right."""


@attrs.frozen
class Column(Generic[Row]):
    """A column of a table of ``Row``."""

    title: str
    """Its head."""
    width: int
    """Cells, at least."""
    get: Callable[[Row], Value]
    """What it shows and is sorted by."""
    how: Format = figure
    """How its numbers are written."""
    key: str = ""
    """Of what it is sorted by, as ``columns.SORTS`` has it."""
    least: int = 0
    """Cells that the table must have for this column to be there."""
    most: int | None = None
    """Cells that the table may have."""
    is_name: bool = False
    """Whether it takes what is left over."""
    is_scaled: bool = False
    """Whether its numbers have prefixes, and are longer when written out."""
    one_unit: bool = False
    """Whether all its numbers have the same prefix even if it is not sorted by."""
    before: str = " "
    """What separates it from the column before it."""
    left: bool = False
    """Whether its head stands on the left."""
    role: Callable[[Row], Role] | None = None
    """What its value means; None: just a value."""
    draw: Callable[[Row, int], Spans] | None = None
    """Draws the cell, in so many cells, instead of writing it."""


@attrs.frozen
class Table(Generic[Row]):
    """What is in a table, and where it is."""

    columns: Sequence[Column[Row]]
    """From left to right, for all widths."""
    rows: Sequence[Row]
    """In their order, filtered."""
    ui: UiState
    """What is selected and sorted by."""
    sorted_by: str = ""
    """Key of the column that the rows are sorted by."""
    descending: bool = True
    """Whether the greatest is first."""
    selected: int | None = None
    """Number of the selected row among those that have a key; None: none is."""

    def lines(self, width: int, height: int) -> list[Spans]:
        """The head and the rows, ``height`` lines at most, ``width`` cells each."""
        columns = self._fitting(width)
        formats = [self._format(column) for column in columns]
        lines = [self._head(columns, width)]
        first, selected = self._visible(height - 1)
        for at, row in enumerate(self.rows[first : first + max(0, height - 1)], first):
            lines.append(self._row(row, columns, formats, width, is_selected=at == selected))
        return lines[: max(0, height)]

    def _visible(self, room: int) -> tuple[int, int | None]:
        """The first row that is shown, and the index of the selected one."""
        if self.selected is None or not self.rows:
            return 0, None
        keyed = [at for at, row in enumerate(self.rows) if row.key]
        if not keyed:
            return 0, None
        selected = keyed[min(self.selected, len(keyed) - 1)]
        return max(0, min(selected - room + 1, len(self.rows) - room)), selected

    def _fitting(self, width: int) -> list[tuple[Column[Row], int]]:
        """The columns that there is room for, with their widths."""
        wide = self.ui.wide
        columns = [
            column
            for column in self.columns
            if (wide or column.least <= width) and (column.most is None or width <= column.most)
        ]
        while columns and self._least_width(columns) > width:
            columns.remove(self._first_to_go(columns, width))
        spare = width - self._least_width(columns)
        return [
            (column, self._width(column) + (spare if column.is_name else 0)) for column in columns
        ]

    def _first_to_go(self, columns: list[Column[Row]], width: int) -> Column[Row]:
        """Who needs most room; if somebody wants to see those, the last one of the others."""
        optional = [column for column in columns if column.least]
        if self.ui.wide:
            optional = [column for column in optional if column.least <= width] or optional
            return optional[-1] if optional else columns[-1]
        return max(optional, key=lambda column: column.least) if optional else columns[-1]

    def _width(self, column: Column[Row]) -> int:
        return max(column.width, RAW_WIDTH) if self.ui.raw and column.is_scaled else column.width

    def _least_width(self, columns: Sequence[Column[Row]]) -> int:
        return sum(self._width(column) + len(column.before) for column in columns)

    def _format(self, column: tuple[Column[Row], int]) -> Format:
        how = column[0]
        if not how.is_scaled:
            return how.how
        if self.ui.raw:
            cells = column[1]
            return lambda value: text if len(text := plain(value)) <= cells else how.how(value)
        is_sorted = how.key == self.sorted_by and how.how in {of_bytes, size}
        if how.one_unit or is_sorted:
            values = [how.get(row) for row in self.rows]
            known = [value for value in values if value is not None and not isinstance(value, str)]
            return in_one_unit(known, column[1])
        return how.how

    def _head(self, columns: Sequence[tuple[Column[Row], int]], width: int) -> Spans:
        spans: Spans = []
        mark = "▼" if self.descending else "▲"
        for column, cells in columns:
            gap, title, role = column.before, column.title, _HEAD
            if (
                column.key
                and column.key == self.sorted_by
                and (self.descending or self.selected is not None)
            ):
                role = _SORTED_HEAD
                title += mark
            spare = cells - len(title)
            if spare < 0 and not column.left and gap.endswith(" "):
                # The head of a narrow column begins in the blank before it.
                gap, cells, spare = gap[:-1], cells + 1, spare + 1
            if spare < 0:
                title = title[-cells:] if cells > 0 else ""
            spans += [(gap, "dim"), (fit(title, cells, right=not column.left), role)]
        return fill(spans, width)

    def _row(
        self,
        row: Row,
        columns: Sequence[tuple[Column[Row], int]],
        formats: Sequence[Format],
        width: int,
        *,
        is_selected: bool,
    ) -> Spans:
        spans: Spans = []
        for (column, cells), how in zip(columns, formats, strict=True):
            spans.append((column.before, "dim"))
            if column.draw is not None:
                spans += fill(column.draw(row, cells), cells)
                continue
            value = column.get(row)
            if isinstance(value, str):
                text = fit(value, cells, right=not column.left)
            elif value is None and not row.key:
                # What belongs to another row says only what it has to say.
                text = " " * cells
            else:
                text = fit_number(written(value, how), cells)
            role = "value" if column.role is None else column.role(row)
            spans.append((text, role))
        if is_selected:
            return [(text, "select") for text, _ in fill(spans, width)]
        return fill(spans, width)


_HEAD: Final[Role] = "label"
_SORTED_HEAD: Final[Role] = "accent"


def arranged(
    rows: Sequence[Row], columns: Sequence[Column[Row]], by: str, *, descending: bool
) -> list[Row]:
    """``rows`` sorted by the column with the key ``by``; those without a value come last."""
    get = next((column.get for column in columns if column.key == by), None)
    rows = sorted(rows, key=lambda row: row.key)
    if get is None:
        return list(rows)
    known = [(value, row) for row in rows if not _is_unknown(value := get(row))]
    unknown = [row for row in rows if _is_unknown(get(row))]
    known.sort(key=lambda pair: _order(pair[0]), reverse=descending)
    return [row for _, row in known] + unknown


def filtered(rows: Sequence[Row], ui: UiState) -> list[Row]:
    """Those of ``rows`` that the filter lets through."""
    if not ui.filter:
        return list(rows)
    try:
        pattern = re.compile(ui.filter)
    except re.error:
        # Keys let through expressions alone; who was asked for another text means that.
        pattern = re.compile(re.escape(ui.filter))
    return [row for row in rows if (pattern.search(row.searched) is None) == ui.inverted]


def _is_unknown(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _order(value: Value) -> tuple[bool, Any]:
    return isinstance(value, str), value
