"""Which parts of the screen there is room for, and where they are.

A part is there whole or not at all. By width: boxes from 120 cells on, bare lines below, no
sparklines and phases below 80, and below 60 (or with fewer than 12 lines) one line of figures. By
height: what is least important goes first, and the table takes what is left.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final

from ..metrics import names
from . import gauges
from .alerts import active
from .chrome import colour_of, help_lines, rule, tabs
from .columns import View
from .documents import number_of, rows_of, text_of
from .ui_state import UiState
from .views import VIEWS
from .views.processors import summary as closed_connections
from .views.topics import summary as counted_topics
from .views.view import TableView
from .widgets import Span, Spans, beside, fill, panel, spans_width, wrapped
from .window import Window

ALERT_LINES: Final = 10
"""Lines of alerts when all of them are listed."""

_DAY: Final = 86_400
_LOG_INDENT: Final = 20
"""Cells before the second line of a message."""
_MAX_MESSAGE: Final = 1_000
"""Characters of a message that are shown."""
_FIVE_LINES_FROM: Final = 17
"""Lines of a body in which figures may have five of them."""


class Preset(enum.IntEnum):
    """What fits; the value is the least width for it."""

    LINE = 0
    SLIM = 60
    NARROW = 80
    PLAIN = 100
    BOXED = 120

    @classmethod
    def of(cls, width: int, height: int) -> Preset:
        """The preset for a terminal of so many cells and lines."""
        if height < 12:
            return cls.LINE
        return max(preset for preset in cls if preset <= width)


def body(window: Window, ui: UiState, width: int, height: int) -> list[Spans]:
    """Everything between the header and the line of alerts, ``height`` lines at most."""
    preset = Preset.of(width, height + 3)
    if preset is Preset.BOXED:
        if ui.view is View.OVERVIEW and not (ui.help or ui.log):
            return _overview(window, ui, width, height)
        title, lines = content(window, ui, width - 2, height - 2)
        return panel(title, lines, width, height)
    return _plain(window, ui, width, height, preset)


def content(
    window: Window, ui: UiState, width: int, height: int
) -> tuple[Sequence[Span], list[Spans]]:
    """Title and lines of what the screen is about: help, log, a detail or a table."""
    text = _text(window, ui, width)
    if text is not None:
        title, lines = text
        return title, _scrolled(lines, ui, height)
    view = VIEWS[ui.view]
    if not _has_figures(view, window):
        return [(f"{view.view.value} {view.view.title}", "title")], [_missing(window)]
    return _tabled(view, window, ui, width, height)


def row_keys(window: Window, ui: UiState, size: tuple[int, int] = (120, 40)) -> list[str]:
    """What ``UiState.press`` has to know of the rows: their keys, in their order.

    A text has a number for every line that may be its first one on a screen of this ``size``.
    """
    width, height = size
    foot = max(1, min(ALERT_LINES, height // 3, len(active(window)))) if ui.alerts else 1
    width, room = _room(width, height - int(ui.header) - foot - 1)
    text = _text(window, ui, width)
    if text is not None:
        return [str(at) for at in range(max(1, len(text[1]) - room + 1))]
    return [row.key for row in VIEWS[ui.view].chosen(window, ui) if row.key]


def _room(width: int, height: int) -> tuple[int, int]:
    """Cells and lines of a text in a body of so many."""
    preset = Preset.of(width, height + 3)
    if preset is Preset.BOXED:
        return width - 2, height - 2
    figures = 2 if preset is Preset.SLIM or height < _FIVE_LINES_FROM else 5
    return width, height - figures - 2


# -- the overview in boxes ------------------------------------------------------------------------


def _overview(window: Window, ui: UiState, width: int, height: int) -> list[Spans]:
    top = _top_boxes(window, ui, width) if height >= 17 else gauges.two_lines(window, ui, width)
    lines = [fill(line, width) for line in top]
    left = height - len(lines)
    extra = max(0, left - 29)
    middle = 8 + extra // 4 if left >= 18 else 0
    bottom = 6 + extra // 4 if left >= 27 else 0
    lines += _box(window, ui, View.REQUESTS, width, left - middle - bottom)
    right = 48 + (width - 120) * 2 // 5
    for rows, first, second in (
        (middle, View.PROCESSORS, View.TOPICS),
        (bottom, View.CONNECTIONS, View.GROUPS),
    ):
        if rows:
            lines += beside(
                _box(window, ui, first, width - right, rows),
                _box(window, ui, second, right, rows),
            )
    return lines


def _top_boxes(window: Window, ui: UiState, width: int) -> list[Spans]:
    spare = width - 120
    first, second = 43 + spare // 3, 41 + spare // 3
    third = width - first - second
    if window.now is None:
        boxes = [[_missing(window)]] * 3
    else:
        boxes = [
            gauges.throughput(window, ui, first - 2),
            gauges.saturation(window, second - 2),
            gauges.latency(window, ui, third - 2),
        ]
    return beside(
        panel([("Throughput", "title")], boxes[0], first, 8),
        panel([("Saturation", "title")], boxes[1], second, 8),
        panel(gauges.LATENCY_TITLE, boxes[2], third, 8),
    )


_SUMMARIES: Final = {View.PROCESSORS: closed_connections, View.TOPICS: counted_topics}
"""What the boxes of the overview say below their tables."""


def _box(window: Window, ui: UiState, view: View, width: int, height: int) -> list[Spans]:
    table = VIEWS[view]
    title = f"{view.value} {view.title}"
    inner = width - 2
    if window.now is None or not table.is_exported(window):
        return panel([(title, "title")], [_missing(window)], width, height)
    # On the left there is a blank before the border; on the right names need every cell.
    cells = inner - 1 if view in {View.PROCESSORS, View.CONNECTIONS} else inner
    below = _SUMMARIES[view](window, inner) if view in _SUMMARIES else []
    shown = table.table(window, ui)
    lines = shown.lines(cells, height - 2 - len(below))
    lines += [[] for _ in range(height - 2 - len(below) - len(lines))]
    caption = table.caption(window, ui, list(shown.rows))
    return panel(_titled(title, caption), lines + below, width, height)


# -- without boxes --------------------------------------------------------------------------------


def _plain(window: Window, ui: UiState, width: int, height: int, preset: Preset) -> list[Spans]:
    if window.now is None:
        top = [_missing(window)]
    elif preset is Preset.SLIM or height < _FIVE_LINES_FROM:
        top = gauges.two_lines(window, ui, width)
    else:
        top = gauges.five_lines(window, ui, width)
    lines = [fill(line, width) for line in top]
    lines.append(tabs(ui.view, width))
    left = height - len(lines)
    below: list[Spans] = []
    if (
        preset is Preset.PLAIN
        and ui.view is View.OVERVIEW
        and left >= 20
        and not (ui.help or ui.log)
    ):
        below = _below(window, ui, width, left)
    _, shown = content(window, ui, width, left - len(below))
    if ui.help or ui.log or ui.detail:
        title, shown = content(window, ui, width, left - 1)
        shown = [rule(title, width), *shown]
    lines += [fill(line, width) for line in shown]
    lines += [fill([], width) for _ in range(height - len(lines) - len(below))]
    return [*lines, *below]


def _below(window: Window, ui: UiState, width: int, left: int) -> list[Spans]:
    """Processors and, with more room, connections below the requests."""
    lines: list[Spans] = []
    for view, rows in ((View.PROCESSORS, 5), (View.CONNECTIONS, 4 if left >= 25 else 0)):
        if rows:
            table = VIEWS[view]
            title = f"{view.value} {view.title}"
            lines.append(rule([(title, "title")], width))
            if table.is_exported(window):
                shown = table.table(window, ui).lines(width, rows)
            else:
                shown = [_missing(window)]
            shown += [[] for _ in range(rows - len(shown))]
            lines += [fill(line, width) for line in shown]
    return lines


def _missing(window: Window) -> Spans:
    """Why there is nothing to see."""
    if window.now is None:
        return [(" waiting for the first answer", "dim")]
    # A server of ours leaves out families that have no series yet.
    is_ours = window.exports(names.BUILD_INFO.name)
    return [(" nothing yet" if is_ours else " not exported here", "dim")]


# -- parts ----------------------------------------------------------------------------------------


def _tabled(
    view: TableView[Any], window: Window, ui: UiState, width: int, height: int
) -> tuple[Sequence[Span], list[Spans]]:
    below = view.summary(window, width)
    if len(below) > height - 6:
        # What a view is about is there in part, if not whole.
        below = below[: max(0, height - 6)] if view.view is View.TASKS else []
    table = view.table(window, ui)
    rows = min(height - len(below), len(table.rows) + 1)
    lines = table.lines(width, rows)
    if view.view is not View.TASKS:
        # A summary stands at the bottom, unless it is what the view is about.
        lines += [[] for _ in range(height - len(below) - len(lines))]
    caption = view.caption(window, ui, list(table.rows))
    title = _titled(f"{view.view.value} {view.view.title}", caption)
    return title, lines + below


def _titled(title: str, caption: str) -> list[Span]:
    return [(title, "title"), (f"   {caption}" if caption else "", "dim")]


def _text(window: Window, ui: UiState, width: int) -> tuple[Sequence[Span], list[Spans]] | None:
    """Title and lines of what is read, and scrolled: help, the log, a detail; None for a table."""
    view = VIEWS[ui.view]
    if ui.help:
        return [(f"Help: {View(ui.view).title}", "title")], help_lines(ui)
    if ui.log:
        return [("Log: warnings and worse, newest first", "title")], _log(window, width)
    if ui.detail and _has_figures(view, window):
        subject = f" of {_shown(ui.subject)}" if ui.subject else ""
        title = f"{view.view.value} {view.view.title}{subject}"
        return [(title, "title"), ("   esc back", "dim")], view.detail(window, ui, width)
    return None


def _has_figures(view: TableView[Any], window: Window) -> bool:
    return window.now is not None and view.is_exported(window)


def _scrolled(lines: list[Spans], ui: UiState, height: int) -> list[Spans]:
    """``height`` lines from the selected one on, or from where the last ones fit."""
    first = max(0, min(ui.row, len(lines) - height))
    return lines[first : first + max(0, height)]


def _shown(subject: str | None) -> str:
    return text_of({"name": subject}, "name")


def _log(window: Window, width: int) -> list[Spans]:
    """Every record, with as many lines as its message needs."""
    lines: list[Spans] = []
    for record in rows_of(window.document("log"), "records"):
        level = text_of(record, "level")
        at = number_of(record, "time")
        head: Spans = [
            (f" {_time_of_day(at, window.utc_offset_s)}  ", "dim"),
            (f"{level.upper():<8} ", colour_of(level)),
            (text_of(record, "logger").removeprefix("trio_kafka_net.") + "  ", "label"),
        ]
        message = text_of(record, "message", _MAX_MESSAGE)
        first, *others = wrapped(message, width - spans_width(head), width - _LOG_INDENT)
        lines.append([*head, (first, "value")])
        lines += [[(" " * _LOG_INDENT + text, "value")] for text in others]
    if not lines:
        known = window.document("log") is not None
        lines = [[(" no warnings", "dim")] if known else _missing(window)]
    return lines


def _time_of_day(at: float | None, offset_s: float) -> str:
    if at is None or not abs(at) < 1e15:
        return "--:--:--"
    seconds = int(at + offset_s) % _DAY
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
