"""What somebody chose with keys, and what the next key makes of it.

A state is a value: ``press`` returns another one, or an ``Action`` that only the program around
the screen can do. Keys that mean nothing here do nothing, and no key changes the server.

Names of keys are those of ``KEY_NAMES``; every other key is the character that it types.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from .columns import SORTS, Sort, View, sort_by

KEY_NAMES: Final = frozenset(
    {
        *("up", "down", "left", "right", "pgup", "pgdn", "home", "end"),
        *("tab", "shift-tab", "enter", "esc", "space", "backspace", "ctrl-c", "ctrl-z"),
    }
)
"""Keys that type no character."""

INTERVALS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between two snapshots to choose from."""

PAGE_ROWS: Final = 10
"""Rows that a page up or down moves."""

MAX_FILTER: Final = 200
"""Characters of a filter."""

LAST_ROW: Final = 1 << 30
"""Stands for the last row as long as nobody says how many there are."""


class Action(enum.Enum):
    """What a key asks of the program around the screen; the state stays as it is."""

    QUIT = enum.auto()
    SUSPEND = enum.auto()
    SAVE_SVG = enum.auto()
    SAVE_EVERYTHING = enum.auto()


@attrs.frozen
class Need:
    """A JSON document that a screen is made of."""

    name: str
    """Of the document, and of its path."""
    query: tuple[tuple[str, str], ...] = ()
    """What is asked for, pairs of name and text."""


@attrs.frozen
class UiState:
    """What somebody chose."""

    view: View = View.OVERVIEW
    """What the screen is about."""
    row: int = 0
    """Selected row of the table; a screen with fewer rows selects its last one."""
    sort: str | None = None
    """Key of the column to sort by; None: the view's own choice."""
    reverse: bool = False
    """Whether the natural order of that column is turned round."""
    filter: str = ""
    """Regular expression that rows have to match somewhere; always a valid one."""
    inverted: bool = False
    """Whether rows have to not match it."""
    editing: str | None = None
    """The filter as far as it is typed; None while none is typed."""
    paused: bool = False
    """Whether the screen stands still."""
    interval_s: float = 1.0
    """Seconds between two snapshots."""
    raw: bool = False
    """Whether numbers are written out instead of with units."""
    wide: bool = False
    """Whether columns are shown that usually need a wider screen."""
    slow_axis: bool = False
    """Whether history is that of ten minutes instead of one."""
    detail: bool = False
    """Whether the screen is about one row only."""
    subject: str | None = None
    """Key of that row; None if there was none."""
    help: bool = False
    """Whether the keys are explained."""
    alerts: bool = False
    """Whether every alert is listed."""
    log: bool = False
    """Whether log records are shown instead of the view."""
    notice: str = ""
    """What the program has to say, until the next key."""
    header: bool = True
    """Whether there is a header."""
    limit: int = 50
    """Connections to ask for."""

    def press(self, key: str, rows: Sequence[str] = ()) -> UiState | Action:
        """What ``key`` makes of this state.

        Args:
            key: one of ``KEY_NAMES``, or the character that was typed.
            rows: keys of the rows that the table has now, as ``layout.row_keys`` lists them; what
                Enter opens is one of them.
        """
        if key == "ctrl-c":
            return Action.QUIT
        if key == "ctrl-z":
            return Action.SUSPEND
        state = attrs.evolve(self, notice="") if self.notice else self
        if rows and state.row >= len(rows):
            state = attrs.evolve(state, row=len(rows) - 1)
        if state.editing is not None:
            return _typed(state, state.editing, key)
        if key in _ACTIONS:
            return _ACTIONS[key]
        if key in _MOVES:
            last = len(rows) - 1 if rows else LAST_ROW
            return attrs.evolve(state, row=min(max(0, _MOVES[key](state.row)), last))
        if key == "enter":
            return _opened(state, rows)
        change = _CHANGES.get(key)
        return _column_shortcut(state, key) if change is None else change(state)

    def opened(self, view: View) -> UiState:
        """Another view, as it is at first."""
        return attrs.evolve(
            self,
            view=view,
            row=0,
            sort=None,
            reverse=False,
            filter="",
            inverted=False,
            detail=False,
            subject=None,
            help=False,
            log=False,
        )

    @property
    def sorted_by(self) -> Sort:
        """The column that the table is sorted by."""
        return sort_by(self.view, self.sort)

    @property
    def descending(self) -> bool:
        """Whether the table begins with the greatest."""
        return self.sorted_by.ascending == self.reverse


def needs(ui: UiState) -> frozenset[Need]:
    """The documents that the screen of this state is made of."""
    if ui.log:
        return frozenset({Need("log", (("level", "warning"), ("limit", "200")))})
    if ui.view is View.CONNECTIONS or ui.view is View.OVERVIEW:
        return frozenset({_connections(ui)})
    if ui.view is View.TASKS:
        return frozenset({Need("tasks")})
    if ui.view is View.GROUPS:
        groups = Need("groups", (("limit", "200"),))
        if ui.detail and ui.subject is not None:
            return frozenset({groups, Need("group", (("name", ui.subject),))})
        return frozenset({groups})
    if ui.view is View.TOPICS and ui.detail and ui.subject is not None:
        return frozenset({Need("topic", (("name", ui.subject),))})
    return frozenset()


def _connections(ui: UiState) -> Need:
    """Sorted and cut by the server, because there may be many; it cannot invert a filter."""
    on_overview = ui.view is View.OVERVIEW
    sort = sort_by(View.CONNECTIONS, None if on_overview else ui.sort)
    query = [
        ("sort", sort.column),
        ("reverse", "1" if ui.reverse and not on_overview else "0"),
        ("limit", str(min(ui.limit, PAGE_ROWS) if on_overview else ui.limit)),
    ]
    if ui.filter and not ui.inverted and not on_overview:
        query.append(("filter", ui.filter))
    return Need("connections", tuple(query))


# -- keys -----------------------------------------------------------------------------------------

_ACTIONS: Final[Mapping[str, Action]] = {
    "q": Action.QUIT,
    "s": Action.SAVE_SVG,
    "S": Action.SAVE_EVERYTHING,
}

_MOVES: Final[Mapping[str, Callable[[int], int]]] = {
    "up": lambda row: row - 1,
    "k": lambda row: row - 1,
    "down": lambda row: row + 1,
    "j": lambda row: row + 1,
    "pgup": lambda row: row - PAGE_ROWS,
    "pgdn": lambda row: row + PAGE_ROWS,
    "home": lambda _: 0,
    "end": lambda _: LAST_ROW,
}


def _typed(state: UiState, text: str, key: str) -> UiState:
    """A key while a filter is typed."""
    if key == "esc":
        return attrs.evolve(state, editing=None, filter="", inverted=False, row=0)
    if key == "enter":
        return _filtered(state, text)
    if key == "backspace":
        return attrs.evolve(state, editing=text[:-1] if text else None)
    character = " " if key == "space" else key
    if len(character) != 1 or not character.isprintable() or len(text) >= MAX_FILTER:
        return state
    return attrs.evolve(state, editing=text + character)


def _filtered(state: UiState, text: str) -> UiState:
    expression = text.removeprefix("!")
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return attrs.evolve(state, notice=f"not a regular expression: {error}")
    inverted = text != expression and bool(expression)
    return attrs.evolve(state, editing=None, filter=expression, inverted=inverted, row=0)


def _opened(state: UiState, rows: Sequence[str]) -> UiState:
    """The detail of the selected row; the overview's table is that of the requests."""
    if state.detail or state.log or state.help:
        return state
    subject = rows[min(state.row, len(rows) - 1)] if rows else None
    view = View.REQUESTS if state.view is View.OVERVIEW else state.view
    if view is View.TASKS:
        subject = None  # the tree is that of all tasks
    elif subject is None:
        return state
    return attrs.evolve(state, view=view, detail=True, subject=subject, row=0)


def _back(state: UiState) -> UiState:
    """Away with what came last: help, log, alerts, detail, filter."""
    if state.help:
        return attrs.evolve(state, help=False, row=0)
    if state.log:
        return attrs.evolve(state, log=False, row=0)
    if state.alerts:
        return attrs.evolve(state, alerts=False)
    if state.detail:
        return attrs.evolve(state, detail=False, subject=None, row=0)
    return attrs.evolve(state, filter="", inverted=False)


def _next_view(step: int) -> Callable[[UiState], UiState]:
    return lambda state: state.opened(View((state.view + step) % len(View)))


def _to_view(view: View) -> Callable[[UiState], UiState]:
    return lambda state: state.opened(view)


def _next_column(step: int) -> Callable[[UiState], UiState]:
    def change(state: UiState) -> UiState:
        sorts = SORTS[state.view]
        at = sorts.index(state.sorted_by) + step
        column = sorts[min(max(0, at), len(sorts) - 1)].column
        return attrs.evolve(state, sort=column, reverse=False)

    return change


def _column_shortcut(state: UiState, key: str) -> UiState:
    for sort in SORTS[state.view]:
        if sort.shortcut == key:
            again = sort == state.sorted_by
            return attrs.evolve(
                state, sort=sort.column, reverse=not state.reverse if again else False
            )
    return state


def _slower(step: int) -> Callable[[UiState], UiState]:
    def change(state: UiState) -> UiState:
        """The next one of ``INTERVALS_S``, from wherever the interval is."""
        if step > 0:
            longer = [one for one in INTERVALS_S if one > state.interval_s]
            interval = min(longer, default=state.interval_s)
        else:
            shorter = [one for one in INTERVALS_S if one < state.interval_s]
            interval = max(shorter, default=state.interval_s)
        return attrs.evolve(state, interval_s=interval)

    return change


def _toggle(name: str) -> Callable[[UiState], UiState]:
    def change(state: UiState) -> UiState:
        toggled: dict[str, Any] = {name: not getattr(state, name)}
        return attrs.evolve(state, **toggled)

    return change


def _start_typing(state: UiState) -> UiState:
    return attrs.evolve(state, editing="")


def _help(state: UiState) -> UiState:
    return attrs.evolve(state, help=not state.help, row=0)


def _log(state: UiState) -> UiState:
    return attrs.evolve(state, log=not state.log, row=0, help=False)


_CHANGES: Final[Mapping[str, Callable[[UiState], UiState]]] = {
    **{str(view.value): _to_view(view) for view in View},
    "tab": _next_view(1),
    "shift-tab": _next_view(-1),
    "esc": _back,
    "/": _start_typing,
    "left": _next_column(-1),
    "<": _next_column(-1),
    "right": _next_column(1),
    ">": _next_column(1),
    "r": _toggle("reverse"),
    "p": _toggle("paused"),
    "space": _toggle("paused"),
    "+": _slower(-1),
    "-": _slower(1),
    "u": _toggle("raw"),
    "w": _toggle("wide"),
    "t": _toggle("slow_axis"),
    "!": _toggle("alerts"),
    "?": _help,
    "L": _log,
}
