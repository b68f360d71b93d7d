"""What is around every view: the header, the tabs, the line of alerts, the keys, and help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ..metrics import names
from .alerts import Alert
from .columns import SORTS, View
from .numbers import duration
from .theme import Role
from .ui_state import UiState
from .widgets import (
    Span,
    Spans,
    clean,
    cut_end,
    cut_middle,
    fill,
    fit,
    sides,
    spans_width,
    width_of,
)
from .window import Window

_DAY: Final = 86_400
_FULL_WIDTH: Final = 100
"""Cells from which on everything is written out."""


# -- header ---------------------------------------------------------------------------------------


def header(window: Window, ui: UiState, width: int) -> Spans:
    """Who it is, whether it lives, since when; where from, how often, and what time it is there.

    What does not fit is left out, the least important first.
    """
    about = _about(window)
    is_full = width >= _FULL_WIDTH
    name: Spans = [(" trio-kafka-net   " if is_full else " tkn  ", "title")]
    name += [(f"broker {about.get('node_id', '?')} ", "value"), _state(window, ui)]
    source = cut_end(clean(window.source), max(9, width // 4))
    clock: Span = (_clock(window) + " ", "value")
    ends: list[Spans] = [[(f" {source}  {ui.interval_s:.1f}s  ", "dim"), clock], [clock], []]
    for end in ends:
        for facts in _facts(about, _up_s(window), is_full=is_full):
            line = [*name, (facts, "dim")]
            if spans_width(line) + spans_width(end) < width:
                return sides(line, end, width)
    return fill(name, width)


def _facts(about: dict[str, str], up_s: float | None, *, is_full: bool) -> list[str]:
    """What else there is to say, ever shorter."""
    if not is_full:
        return [f"  up {duration(up_s)}", ""] if up_s is not None else [""]
    facts = [
        f"v{about['version']}" if about.get("version") else "",
        cut_middle(about.get("cluster_id", ""), 12),
        _roles(about.get("roles", "")),
        f"up {_long(up_s)}" if up_s is not None else "",
    ]
    known = [fact for fact in facts if fact]
    return ["   " + " · ".join(known[at:]) for at in range(len(known))] + [""]


def state(window: Window, ui: UiState) -> Spans:
    """The beginning of the header, for a screen that is hardly there."""
    about = _about(window)
    return [(f" broker {about.get('node_id', '?')} ", "title"), _state(window, ui)]


def _state(window: Window, ui: UiState) -> Span:
    if window.stale_s is not None:
        return (f"○ STALE {duration(window.stale_s)}", "bad")
    if ui.paused:
        return ("● PAUSED", "accent")
    if window.now is None:
        return ("○ WAITING", "dim")
    return ("● RESTARTED", "warn") if window.is_restarted else ("● LIVE", "good")


def _about(window: Window) -> dict[str, str]:
    """What the server says of itself."""
    samples = {} if window.now is None else window.now.samples.get(names.BUILD_INFO.name, {})
    for labels in samples:
        return {name: clean(value, 40) for name, value in labels}
    return {}


def _roles(roles: str) -> str:
    """Those that are not clear from ``broker 1``."""
    return ",".join(role for role in roles.replace(" ", "").split(",") if role != "broker")


def _up_s(window: Window) -> float | None:
    started = window.value(names.PROCESS_START_TIME.name)
    if started is None or window.now is None:
        return None
    up = window.now.time - started
    return max(0.0, up) if math.isfinite(up) else None


def _long(seconds: float) -> str:
    """``2d 04:11``, below a day as ever."""
    if seconds < _DAY or seconds >= 100_000 * _DAY:
        return duration(seconds)
    minutes = int(seconds) // 60
    return f"{minutes // 1440}d {minutes // 60 % 24:02}:{minutes % 60:02}"


def _clock(window: Window) -> str:
    if window.now is None or not math.isfinite(window.now.time + window.utc_offset_s):
        return "--:--:--"
    seconds = int(window.now.time + window.utc_offset_s) % _DAY
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


# -- tabs -----------------------------------------------------------------------------------------


def tabs(view: View, width: int) -> Spans:
    """The views by number, the shown one in brackets; names give way if there is no room."""
    shown = View.REQUESTS if view is View.OVERVIEW else view
    for with_names in (True, False):
        spans: Spans = [("─", "dim")]
        for one in list(View)[1:]:
            title = f"{one.value} {one.title}" if with_names or one is shown else f"{one.value}"
            tab: Span = (f"[{title}]", "title") if one is shown else (f" {title} ", "label")
            spans += [tab, ("─", "dim")]
        if spans_width(spans) <= width:
            break
    return fill([*spans, ("─" * max(0, width - spans_width(spans)), "dim")], width)


def rule(title: Sequence[Span], width: int) -> Spans:
    """A title on a line of its own, where there are no boxes."""
    spans: Spans = [("─ ", "dim"), *title, (" ", "dim")]
    return fill([*spans, ("─" * max(0, width - spans_width(spans)), "dim")], width)


# -- alerts ---------------------------------------------------------------------------------------


def alert_line(alerts: Sequence[Alert], width: int) -> Spans:
    """As many as there is room for, the worst first; shortened if that shows more of them."""
    if not alerts:
        return fill([(" no alerts", "dim")], width)
    long = _as_many_as_fit(alerts, [alert.in_words for alert in alerts], width)
    if long[0] == len(alerts):
        return fill(long[1], width)
    return fill(_as_many_as_fit(alerts, [alert.in_short for alert in alerts], width)[1], width)


def _as_many_as_fit(alerts: Sequence[Alert], texts: Sequence[str], width: int) -> tuple[int, Spans]:
    for shown in range(len(alerts), 0, -1):
        hidden = len(alerts) - shown
        spans: Spans = []
        for alert, text in zip(alerts[:shown], texts, strict=False):
            spans += [("   " if spans else " ", "value"), (f"▲ {text}", alert.level)]
        if hidden:
            spans.append((f"   +{hidden} more (!)", "accent"))
        if spans_width(spans) <= width:
            return shown, spans
    more = f"   +{len(alerts) - 1} more (!)" if len(alerts) > 1 else ""
    text = cut_end(f" ▲ {texts[0]}", max(0, width - len(more)))
    return 1, [(text, alerts[0].level), (more, "accent")]


def alert_list(alerts: Sequence[Alert], width: int, height: int) -> list[Spans]:
    """Each on a line of its own."""
    lines = [fill([(f" ▲ {alert.in_words}", alert.level)], width) for alert in alerts[:height]]
    return lines or [fill([(" no alerts", "dim")], width)]


# -- keys -----------------------------------------------------------------------------------------

_KEYS: Final = (
    ("0-6", "view", 0),
    ("↑↓", "row", 0),
    ("←→", "sort col", 2),
    ("r", "reverse", 6),
    ("/", "filter", 1),
    ("⏎", "detail", 1),
    ("p", "pause", 1),
    ("+-", "rate", 5),
    ("s", "save svg", 4),
    ("?", "help", 0),
    ("q", "quit", 0),
)
"""Key, what it does, and how early it gives way where there is no room."""

_SHORT: Final = {"sort col": "sort", "save svg": "save"}


def key_line(ui: UiState, width: int) -> Spans:
    """What may be pressed; instead of it what is typed, or said, or that all stands still."""
    if ui.editing is not None:
        typed = f" filter: {_end_of(ui.editing, max(1, width - 40))}▏"
        hint = ui.notice or "⏎ apply   esc clear"
        return fill([(typed, "accent"), ("   " + clean(hint), "dim")], width)
    if ui.notice:
        return fill([(f" {clean(ui.notice)}", "accent")], width)
    if ui.paused:
        text = " PAUSED   the screen stands still, data is still collected   p goes on"
        return [(fit(cut_end(text, width), width), "select")]
    if ui.filter:
        shown = f" filter: {'!' if ui.inverted else ''}{ui.filter}   "
        return fill([(cut_end(shown, width // 2), "accent"), *_keys(width - width // 2)], width)
    return fill(_keys(width), width)


def _keys(width: int) -> Spans:
    """The keys that there is room for, with their names as long as possible."""
    for is_long in (True, False):
        if not is_long or width >= _FULL_WIDTH:
            for given_way in range(7, -1, -1):
                keys = [key for key in _KEYS if key[2] < given_way]
                spans = _key_spans(keys, is_long=is_long)
                if spans_width(spans) <= width and (not is_long or given_way == 7):
                    return spans
    return []


def _key_spans(keys: Sequence[tuple[str, str, int]], *, is_long: bool) -> Spans:
    spans: Spans = []
    for key, text, _ in keys:
        spans.append(("  " if is_long and spans else " ", "value"))
        spans += [(key, "accent"), (" " + (text if is_long else _SHORT.get(text, text)), "dim")]
    return spans


def _end_of(text: str, width: int) -> str:
    while width_of(text) > width:
        text = text[1:]
    return text


# -- help -----------------------------------------------------------------------------------------

_EXPLAINED: Final = (
    ("0-6, Tab", "view"),
    ("up down j k", "row, as do PgUp PgDn Home End"),
    ("left right < >", "column to sort by"),
    ("r", "reverse the order"),
    ("/", "filter by regular expression; /! inverts; Esc clears"),
    ("Enter, Esc", "detail of the row, and back"),
    ("p, Space", "pause; data is still collected"),
    ("+ -", "faster, slower"),
    ("u", "numbers with units, or written out"),
    ("w", "wide columns"),
    ("t", "history of 60 seconds, or of 10 minutes"),
    ("!", "all alerts"),
    ("L", "log: warnings and worse"),
    ("s S", "save the screen as SVG; as SVG, HTML, text and JSON"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
)

_ABOUT: Final = {
    View.OVERVIEW: "Is it healthy, what is it doing, and for whom. Keys are about the requests.",
    View.REQUESTS: "Requests by API. Phases: means in ms over the last seconds; p50, p99: total.",
    View.PROCESSORS: "Idle: the share of the time without own work; a busy loop may still be late.",
    View.CONNECTIONS: "The server sorts, filters and limits the list.",
    View.TOPICS: "Skew: what the busiest partition gets, as a multiple of the average one's.",
    View.GROUPS: "ETA: when the lag is gone at the last minute's pace.",
    View.TASKS: "Lag: how late the event loop runs what is due. Enter: the tree of tasks.",
}


def help_lines(ui: UiState) -> list[Spans]:
    """What keys do here."""
    lines: list[Spans] = [[(" " + _ABOUT[ui.view], "value")], []]
    lines += [[(f" {key:<16}", "accent"), (text, "value")] for key, text in _EXPLAINED]
    shortcuts = [sort for sort in SORTS[ui.view] if sort.shortcut]
    if shortcuts:
        texts = "  ".join(f"{sort.shortcut} {sort.column.replace('_', ' ')}" for sort in shortcuts)
        lines += [[], [(" sort by         ", "accent"), (texts, "value")]]
    return lines


def colour_of(level: str) -> Role:
    """How a log record of this level looks."""
    return "bad" if level.upper() in {"ERROR", "CRITICAL"} else "warn"
