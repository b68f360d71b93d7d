"""View 2: the Processors, each with its connections, and the Acceptors that feed them."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ...metrics import names
from ..columns import View
from ..interval import Key
from ..numbers import figure, of_bytes, percent, tenths, written
from ..table import Column
from ..theme import Role
from ..ui_state import UiState
from ..widgets import Spans, clean, cut_end
from ..window import Window
from .view import TableView, bar_line, fields, heading

_STATE_WIDTH: Final = 28
"""Cells of the longest name of a mute state."""

_LABELS: Final = ("plane", "listener", "networkProcessor")
_LOW: Final = 0.3
_VERY_LOW: Final = 0.1

_ROOMY: Final = 69
"""Cells of the table in its box on the overview."""

_CAUSES: Final = 4
"""Causes of disconnects that the summary has room for."""


@attrs.frozen
class ProcessorRow:
    """One Processor."""

    labels: Key
    """Plane, listener, id."""
    connections: float | None = None
    idle: float | None = None
    responses: float | None = None
    muted: float | None = None
    throttled: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None
    accepted: float | None = None
    closed: float | None = None
    """Per minute."""

    @property
    def key(self) -> str:
        """Its labels."""
        return "/".join(self.labels)

    @property
    def searched(self) -> str:
        """What a filter is looked for in."""
        return self.key

    @property
    def id(self) -> float | None:
        """Its number."""
        text = self.labels[2]
        return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def rows(window: Window, _ui: UiState) -> list[ProcessorRow]:
    """One row for every Processor."""
    connections = window.values(names.CONNECTION_COUNT.name, *_LABELS)
    idle = _idle(window)
    responses = window.values(names.RESPONSE_QUEUE_SIZE.name, *_LABELS)
    muted = window.values(names.CONNECTIONS_MUTED.name, *_LABELS)
    throttled: dict[Key, float] = dict.fromkeys(muted, 0.0)
    for (*labels, state), number in window.values(
        names.CONNECTIONS_MUTED.name, *_LABELS, "state"
    ).items():
        if "THROTTLED" in state.upper():
            throttled[tuple(labels)] = throttled.get(tuple(labels), 0.0) + number
        elif state.upper() == "NOT_MUTED":
            muted = {**muted, tuple(labels): muted[tuple(labels)] - number}
    bytes_in = window.rates(names.BYTES_IN.name, *_LABELS)
    bytes_out = window.rates(names.BYTES_OUT.name, *_LABELS)
    accepted = window.rates(names.CONNECTIONS_CREATED.name, *_LABELS)
    closed = window.rates(names.DISCONNECTS.name, *_LABELS)
    return [
        ProcessorRow(
            key,
            connections.get(key),
            idle.get(key),
            responses.get(key),
            muted.get(key),
            throttled.get(key),
            bytes_in.get(key),
            bytes_out.get(key),
            accepted.get(key),
            None if key not in closed else closed[key] * 60,
        )
        for key in sorted({*connections, *idle, *responses})
    ]


def _idle(window: Window) -> dict[Key, float]:
    """The share of the time that each was idle: computed, or as a plain Kafka tells it."""
    busy = window.rates(names.PROCESSOR_BUSY.name, *_LABELS)
    if busy:
        return {key: min(1.0, max(0.0, 1 - share)) for key, share in busy.items()}
    return dict(window.values(names.PROCESSOR_IDLE_PERCENT.name, *_LABELS))


def idle_role(share: float | None) -> Role:
    """How good it is to be idle for this share of the time."""
    if share is None:
        return "dim"
    if share < _VERY_LOW:
        return "bad"
    return "warn" if share < _LOW else "good"


def _count(title: str, width: int, name: str, **more: Any) -> Column[ProcessorRow]:
    return Column(title, width, lambda row: getattr(row, name), **more)


COLUMNS: Final[tuple[Column[ProcessorRow], ...]] = (
    Column("id", 2, lambda row: row.id, key="id"),
    Column(
        "listener", 10, lambda row: clean(row.labels[1]), key="listener", left=True, is_name=True
    ),
    Column("plane", 7, lambda row: clean(row.labels[0]), key="plane", left=True),
    _count("conns", 5, "connections", key="connections"),
    _count("idle", 5, "idle", how=percent, key="idle", role=lambda row: idle_role(row.idle)),
    _count("resp q", 6, "responses", key="response_queue", least=_ROOMY),
    _count("muted", 5, "muted", key="muted", least=_ROOMY),
    _count("throt", 5, "throttled", key="throttled", least=_ROOMY),
    _count("in", 7, "bytes_in", how=of_bytes, key="in", is_scaled=True),
    _count("out", 7, "bytes_out", how=of_bytes, key="out", is_scaled=True),
    _count("accept/s", 9, "accepted", how=tenths, key="accepted", least=80),
    _count("closed/min", 10, "closed", how=tenths, key="closed", least=95),
)


def summary(window: Window, width: int) -> list[Spans]:
    """Why connections ended in the last minute, as far as it is known."""
    rates = window.rates(names.DISCONNECTS.name, "cause")
    ordered = sorted(rates.items(), key=lambda item: (-item[1], item[0]))
    causes = [
        f"{clean(cause) or 'unknown'} {written(rate * 60, figure)}"
        for (cause,), rate in ordered[:_CAUSES]
        if rate > 0
    ]
    is_told = window.exports(names.DISCONNECTS.name) or window.exports(names.BUILD_INFO.name)
    if not is_told:
        return [[(" closed/min   not exported here", "dim")]]
    text = " · ".join(causes) or "none"
    return [[(" closed/min   ", "label"), (cut_end(text, width - 15), "value")]]


def full_summary(window: Window, width: int) -> list[Spans]:
    """That, and a line for every Acceptor."""
    lines = summary(window, width)
    blocked = window.rates(names.ACCEPTOR_BLOCKED.name, "plane", "listener")
    if not blocked:
        blocked = window.values(names.ACCEPTOR_BLOCKED_PERCENT.name, "plane", "listener")
    for (plane, listener), share in sorted(blocked.items())[:8]:
        shown = f"{written(min(1.0, share), percent)} of the time blocked"
        role: Role = "warn" if share > 0.1 else "value"
        lines.append(
            [
                (" acceptor     ", "label"),
                (f"{clean(listener)} {clean(plane)}  ", "value"),
                (shown, role),
            ]
        )
    return lines


def detail(window: Window, ui: UiState, width: int) -> list[Spans]:
    """Why connections of one Processor are not read, why they ended, and what it costs."""
    labels = dict(zip(_LABELS, (ui.subject or "").split("/"), strict=False))
    states = window.values(names.CONNECTIONS_MUTED.name, "state", **labels)
    total = sum(states.values())
    lines = [heading("connections by mute state")]
    lines += [
        bar_line(
            clean(state)
            .lower()
            .removeprefix("muted_and_")
            .replace("_", " ")
            .replace(" and ", ", "),
            number / total if total else None,
            written(number, figure),
            width,
            label_width=_STATE_WIDTH,
        )
        for (state,), number in sorted(states.items())
    ] or [[(" not exported here", "dim")]]
    lines += [[], heading("time")]
    busy = window.rate(names.PROCESSOR_BUSY.name, **labels)
    idle = None if busy is None else max(0.0, 1 - busy)
    lines.append(bar_line("idle", idle, written(idle, percent), width, idle_role(idle)))
    lines += [[], heading("connections closed per minute, by cause")]
    causes = window.rates(names.DISCONNECTS.name, "cause", **labels)
    pairs = [(clean(cause), written(rate * 60, tenths)) for (cause,), rate in causes.items()]
    lines += fields(sorted(pairs) or [("none", "")], width)
    lines += [[], heading("bytes of responses")]
    lines += fields(
        [
            ("taken from files by the kernel", _rate(window, names.SENDFILE_BYTES.name, labels)),
            ("copied", _rate(window, names.COPIED_BYTES.name, labels)),
        ],
        width,
    )
    return lines


def _rate(window: Window, name: str, labels: dict[str, str]) -> str:
    return written(window.rate(name, **labels), of_bytes) + "/s"


PROCESSORS: Final = TableView(
    View.PROCESSORS,
    (names.CONNECTION_COUNT.name, names.PROCESSOR_IDLE_PERCENT.name),
    rows,
    COLUMNS,
    detail,
    summary=full_summary,
)
"""See the top of this file."""
