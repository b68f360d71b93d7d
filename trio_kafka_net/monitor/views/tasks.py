"""View 6: the event loop and its tasks, which is what only a trio server can show."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ...metrics import names
from ..columns import View
from ..documents import number_of, rows_of, text_of
from ..figures import loop_busy
from ..numbers import age, duration, figure, milliseconds, percent, size, written
from ..table import Column
from ..theme import Role
from ..ui_state import UiState
from ..widgets import Spans, clean, cut_end
from ..window import Window
from .view import TableView, bar_line, fields, heading

_BUSY: Final = 0.9
_LABEL_WIDTH: Final = 28
_MAX_DEPTH: Final = 40
_MAX_NODES: Final = 2_000


@attrs.frozen
class RoleRow:
    """The tasks that do the same."""

    key: str
    living: float | None = None
    runnable: float | None = None

    @property
    def searched(self) -> str:
        """What a filter is looked for in."""
        return self.key


def rows(window: Window, _ui: UiState) -> list[RoleRow]:
    """One row for every role; ``all`` is the whole event loop."""
    living = window.values(names.TASKS.name, "role", state="living")
    runnable = window.values(names.TASKS.name, "role", state="runnable")
    if living:
        return [RoleRow(key[0], number, runnable.get(key)) for key, number in living.items()]
    document = window.document("tasks")
    roles = document.get("roles") if isinstance(document, dict) else None
    return (
        [RoleRow(str(role), number_of(roles, role)) for role in roles]
        if isinstance(roles, dict)
        else []
    )


COLUMNS: Final[tuple[Column[RoleRow], ...]] = (
    Column("role", 24, lambda row: clean(row.key), key="role", left=True, is_name=True),
    Column("living", 8, lambda row: row.living, key="living"),
    Column("runnable", 9, lambda row: row.runnable),
)


def summary(window: Window, width: int) -> list[Spans]:
    """The event loop, the process, and how full the channels are."""
    document = window.document("tasks")
    busy = loop_busy(window)
    busy_role: Role = "good" if busy is None or busy < _BUSY else "bad"
    lines = [
        heading("event loop"),
        bar_line("busy", busy, written(busy, percent), width, busy_role, _LABEL_WIDTH),
        *_lag(window, width),
        heading("process"),
        *fields(_process(window), width),
    ]
    threads = document.get("threads") if isinstance(document, dict) else None
    channels = rows_of(document, "channels")
    if threads is not None or channels:
        lines.append(heading("threads and channels"))
        lines += [_filled("threads", threads, "total", width)] if threads is not None else []
        lines += [_filled(text_of(one, "name"), one, "capacity", width) for one in channels[:12]]
    deadlines = rows_of(document, "deadlines")
    if deadlines:
        lines.append(heading("nearest deadlines"))
        pairs = [
            (text_of(one, "name"), written(number_of(one, "in_s"), age)) for one in deadlines[:8]
        ]
        lines += fields(pairs, width)
    return lines


def _lag(window: Window, width: int) -> list[Spans]:
    lag = window.distribution(names.LOOP_LAG.name)
    quantiles = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    pairs = [
        (f"lag {title} ms", written(None if lag is None else lag.quantile(q), milliseconds))
        for title, q in quantiles
    ]
    return fields(pairs, width)


def _process(window: Window) -> list[tuple[str, str]]:
    started = window.value(names.PROCESS_START_TIME.name)
    up = None if started is None or window.now is None else max(0.0, window.now.time - started)
    return [
        ("cpu", written(window.rate(names.PROCESS_CPU.name), percent)),
        ("memory", written(window.value(names.PROCESS_MEMORY.name), size)),
        ("descriptors", written(window.value(names.PROCESS_OPEN_FDS.name), figure)),
        ("of", written(window.value(names.PROCESS_MAX_FDS.name), figure)),
        ("up", written(up, duration)),
    ]


def _filled(name: str, document: Any, total: str, width: int) -> Spans:
    used, capacity = number_of(document, "used"), number_of(document, total)
    share = used / capacity if used is not None and capacity else None
    room = "unbounded" if capacity is None else written(capacity, figure)
    role: Role = "graph" if share is None or share < 0.5 else "warn"
    shown = f"{written(used, figure)} / {room}"
    return bar_line(name, share, shown, width, role, _LABEL_WIDTH)


def detail(window: Window, _ui: UiState, width: int) -> list[Spans]:
    """The nursery tree."""
    document = window.document("tasks")
    tree = document.get("tree") if isinstance(document, dict) else None
    lines: list[Spans] = []
    # (node, what is drawn before it, what is drawn before its children)
    waiting: list[tuple[Any, str, str]] = [(tree, "", "")]
    while waiting and len(lines) < _MAX_NODES:
        node, before, below = waiting.pop()
        if not isinstance(node, dict):
            continue
        state, waits_on = text_of(node, "state"), text_of(node, "waits_on")
        lines.append(
            [
                (" " + before, "dim"),
                (text_of(node, "name") or "–", "value"),
                (f"  {state}" if state else "", "dim"),
                (f"  {cut_end(waits_on, width)}" if waits_on else "", "accent"),
            ]
        )
        children = rows_of(node, "children")
        if len(below) < 3 * _MAX_DEPTH:
            for at in range(len(children) - 1, -1, -1):
                is_last = at == len(children) - 1
                waiting.append(
                    (
                        children[at],
                        below + ("└─ " if is_last else "├─ "),
                        below + ("   " if is_last else "│  "),
                    )
                )
    return lines or [[(" not told by this server", "dim")]]


TASKS: Final = TableView(
    View.TASKS,
    (names.TASKS.name, "tasks", names.IO_WAIT.name, names.PROCESS_CPU.name),
    rows,
    COLUMNS,
    detail,
    summary=summary,
)
"""See the top of this file."""
