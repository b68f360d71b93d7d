"""The first look: how much goes through, how full everything is, and how long requests take.

Three boxes where there is room, five lines where there is less, and two lines at last.
"""

from __future__ import annotations

import math
from typing import Final

from ..metrics import names
from . import figures
from .numbers import (
    UNKNOWN,
    figure,
    in_one_unit,
    percent,
    size,
    tenths,
    tenths_of_ms,
    with_unit,
    written,
)
from .theme import Role
from .ui_state import UiState
from .views.processors import idle_role
from .widgets import Span, Spans, as_many_as_fit, fill, fit, gauge, sparkline
from .window import Window

_LOW: Final = 0.3
_FULL: Final = 0.5
_BUSY: Final = 0.9

_ALWAYS: Final = ("Produce", "FetchConsumer")
_SHORT: Final = {"FetchConsumer": "FetchCons", "FetchFollower": "FetchFoll"}
_APIS: Final = 4


# -- throughput -----------------------------------------------------------------------------------

_FLOWS: Final = (
    ("in", "in", "bytes_in", "B"),
    ("out", "out", "bytes_out", "B"),
    ("messages", "msg", "messages_in", ""),
    ("requests", "req", "requests", ""),
    ("errors", "err", "errors", ""),
)
"""Name, short name, figure, unit."""


def throughput(window: Window, ui: UiState, width: int) -> list[Spans]:
    """Six lines: what goes through the server."""
    lines = []
    cells = max(4, width - 25)
    for title, _, name, unit in _FLOWS:
        number, per = with_unit(figures.TRACKED[name](window), unit, raw=ui.raw)
        role: Role = "bad" if name == "errors" and number not in {"0.0", UNKNOWN} else "value"
        lines.append(_flow(title, window, ui, name, cells, number, per, role))
    number, added = _connections(window)
    lines.append(_flow("conns", window, ui, "connections", cells, number, added, "value"))
    return lines


def _flow(
    title: str,
    window: Window,
    ui: UiState,
    name: str,
    cells: int,
    number: str,
    unit: str,
    role: Role,
) -> Spans:
    points = window.history(name, slow=ui.slow_axis)
    return [
        (f" {title:<9} ", "label"),
        *sparkline(points, cells),
        (f" {number:>6} ", role),
        (f"{unit:<6}", "unit"),
    ]


def _connections(window: Window) -> tuple[str, str]:
    """How many there are, and how many come per second."""
    came = window.rate(names.CONNECTIONS_CREATED.name)
    added = "" if came is None else f"+{written(came, tenths)}/s"
    return written(figures.connections(window), figure), added


# -- saturation -----------------------------------------------------------------------------------


def saturation(window: Window, width: int) -> list[Spans]:
    """Six lines: how full everything is."""
    cells = max(4, width - 27)
    lines = [
        [(f" {title:<10}  ", "label"), *gauge(share, cells, role), ("  ", "value"), *text]
        for title, share, role, text in (
            ("event loop", *_loop(window, "busy")),
            ("net idle", *_idle(figures.processors_idle(window), "ok")),
            ("hnd idle", *_idle(figures.handlers_idle(window), "ok")),
            ("request q", *_queue(window, " / ")),
            ("mem pool", *_pool(window)),
        )
    ]
    fetch, produce = _parked(window)
    parked = f"fetch {written(fetch, figure)}   produce {written(produce, figure)}"
    return [*lines, [(" parked      ", "label"), (parked, "value")]]


_Gauge = tuple[float | None, Role, Spans]
"""The share that is filled, what that means, and what stands beside it."""


def _loop(window: Window, word: str) -> _Gauge:
    busy = figures.loop_busy(window)
    role: Role = "bad" if busy is not None and busy > _BUSY else "graph"
    shown = f"{written(busy, percent):>3}"
    return busy, role, [(shown, "value"), (f" {word}" if word and busy is not None else "", "unit")]


def _idle(share: float | None, word: str) -> _Gauge:
    """Bad if low; then a word says so, whatever the terminal's colours are."""
    role = idle_role(share)
    spans: Spans = [(f"{written(share, percent):>3}", "value")]
    if share is not None and share < _LOW:
        spans.append((" LOW", role))
    elif share is not None and word:
        spans.append((f" {word}", "unit"))
    return share, role, spans


def _queue(window: Window, slash: str) -> _Gauge:
    share = figures.queue_fill(window)
    used, room = figures.fullest_queue(window)
    role: Role = "graph"
    if share is not None and share > _FULL:
        role = "bad" if share >= 1 else "warn"
    shown = f"{written(used, figure)}{slash}{written(room, figure)}"
    return share, role, [(shown, role if role != "graph" else "value")]


def _pool(window: Window) -> _Gauge:
    used = window.value(names.MEMORY_POOL_USED.name)
    left = window.value(names.MEMORY_POOL_AVAILABLE.name)
    if used is None or left is None:
        return None, "graph", [(UNKNOWN, "value")]
    if math.isinf(left):
        return 0.0, "graph", [(f"{written(used, size)}B / ∞", "value")]
    whole = used + left
    share = used / whole if whole else None
    role: Role = "warn" if share is not None and share > _BUSY else "graph"
    return share, role, [(_of_whole(used, whole, " / ", " ") + "B", "value")]


def _of_whole(used: float, whole: float, slash: str, blank: str) -> str:
    """Both in the same unit, without decimals: ``12 / 64 M``."""
    unit = in_one_unit([whole])(whole)[-1]
    power = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}.get(unit, 1.0)
    prefix = unit if unit.isalpha() else ""
    return f"{used / power:.0f}{slash}{whole / power:.0f}{blank}{prefix}"


def _parked(window: Window) -> tuple[float | None, float | None]:
    """Fetch and Produce requests that wait; a server that counts handlers has those it names."""
    nothing = 0.0 if window.exports(names.HANDLERS.name) else None
    found = window.values(names.PURGATORY_SIZE.name, "delayedOperation")
    return found.get(("Fetch",), nothing), found.get(("Produce",), nothing)


# -- latency --------------------------------------------------------------------------------------

LATENCY_TITLE: Final[tuple[Span, ...]] = (("Latency ms p50   p99", "title"),)
"""Its columns stand over those of the box."""


def latency(window: Window, ui: UiState, width: int) -> list[Spans]:
    """Six lines: the APIs that matter, all of them, and the event loop."""
    cells = max(2, width - 24)
    spread = window.distributions(names.REQUEST_PHASE.name, "request", phase="total")
    lines = []
    for api in _of_interest(window, [key[0] for key in spread]):
        found = spread[api,]
        points = window.history(names.REQUEST_PHASE.name, api, slow=ui.slow_axis)
        lines.append(
            [
                *_quantiles(_SHORT.get(api, api), found.quantile(0.5), found.quantile(0.99)),
                *sparkline(points, cells),
            ]
        )
    while len(lines) < _APIS:
        lines.append([])
    every = figures.total_time(window)
    for title, q50, q99, history in (
        (
            "all",
            None if every is None else every.quantile(0.5),
            None if every is None else every.quantile(0.99),
            "latency",
        ),
        (
            "loop lag",
            window.quantile(names.LOOP_LAG.name, 0.5),
            window.quantile(names.LOOP_LAG.name, 0.99),
            "loop_lag_p99",
        ),
    ):
        points = window.history(history, slow=ui.slow_axis)
        lines.append([*_quantiles(title, q50, q99), *sparkline(points, cells)])
    return lines


def _of_interest(window: Window, known: list[str]) -> list[str]:
    """Produce and Fetch, and what is called most often beside them."""
    rates = window.rates(names.REQUESTS.name, "request")
    always = [api for api in _ALWAYS if api in known]
    others = sorted(
        (api for api in known if api not in always and rates.get((api,))),
        key=lambda api: (-rates.get((api,), 0.0), api),
    )
    return (always + others)[:_APIS]


def _quantiles(title: str, p50: float | None, p99: float | None) -> Spans:
    shown = title[:10] if title.isascii() else fit(title, 10)
    return [
        (f" {shown:<10}", "label"),
        (f"{written(p50, tenths_of_ms):>5} {written(p99, tenths_of_ms):>5}", "value"),
        ("  ", "value"),
    ]


# -- lines ----------------------------------------------------------------------------------------


def five_lines(window: Window, ui: UiState, width: int) -> list[Spans]:
    """What boxes would show, for a narrower screen."""
    half = width // 2
    cells = max(4, half - 26)
    gauges = (
        ("loop busy", _loop(window, "")),
        ("net idle", _idle(figures.processors_idle(window), "")),
        ("hnd idle", _idle(figures.handlers_idle(window), "")),
        ("request q", _queue(window, "/")),
    )
    lines = []
    for (_, title, name, unit), (label, (share, role, text)) in zip(_FLOWS, gauges, strict=False):
        number, per = with_unit(figures.TRACKED[name](window), unit, raw=ui.raw)
        left: Spans = [
            (f" {title:<5}", "label"),
            *sparkline(window.history(name, slow=ui.slow_axis), cells),
            (f" {number:>5} ", "value"),
            (per, "unit"),
        ]
        right: Spans = [(f"{label:<9}  ", "label"), *gauge(share, 12 + (width - 80) // 2, role)]
        lines.append([*fill(left, half), *right, ("  ", "value"), *text])
    return [*lines, _fifth_line(window)]


def _fifth_line(window: Window) -> Spans:
    number, added = _connections(window)
    fetch, produce = _parked(window)
    lag = window.quantile(names.LOOP_LAG.name, 0.99)
    return [
        (" conns ", "label"),
        (f"{number} {added}".rstrip(), "value"),
        ("   parked ", "label"),
        (f"F{written(fetch, figure)} P{written(produce, figure)}", "value"),
        ("   pool ", "label"),
        (_short_pool(window), "value"),
        ("   loop lag p99 ", "label"),
        (written(lag, tenths_of_ms), "value"),
        (" ms", "unit"),
    ]


def _short_pool(window: Window) -> str:
    used = window.value(names.MEMORY_POOL_USED.name)
    left = window.value(names.MEMORY_POOL_AVAILABLE.name)
    if used is None or left is None or math.isinf(left):
        return written(used, size) + "B"
    return _of_whole(used, used + left, "/", "") + "B"


def two_lines(window: Window, ui: UiState, width: int) -> list[Spans]:
    """The figures alone, as many of them as there is room for."""
    first: list[Spans] = []
    for _, title, name, unit in _FLOWS:
        number, per = with_unit(figures.TRACKED[name](window), unit, raw=ui.raw)
        first.append([(f" {title} ", "label"), (number, "value"), (f" {per} ", "unit")])
    second: list[Spans] = [
        [(f" {label} ", "label"), *text, (" ", "value")]
        for label, (_, _, text) in (
            ("loop", _loop(window, "")),
            ("net idle", _idle(figures.processors_idle(window), "")),
            ("hnd idle", _idle(figures.handlers_idle(window), "")),
            ("queue", _queue(window, "/")),
        )
    ]
    return [as_many_as_fit(first, width), as_many_as_fit(second, width)]


def one_line(window: Window, width: int) -> Spans:
    """What matters most, for a screen that is hardly there."""
    busy = written(figures.loop_busy(window), percent)
    parts: list[Spans] = []
    for _, title, name, unit in (_FLOWS[3], _FLOWS[0], _FLOWS[1]):
        number, per = with_unit(figures.TRACKED[name](window), unit)
        parts.append([(f" {title} ", "label"), (f"{number} {per}", "value")])
    parts.insert(1, [(" loop ", "label"), (busy, "value")])
    return as_many_as_fit(parts, width)
