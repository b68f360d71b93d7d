"""View 1: what clients ask for, and where the time of their requests goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from ...metrics import names
from ..columns import View
from ..distribution import Distribution
from ..figures import errors_by
from ..interval import Key
from ..numbers import figure, milliseconds, tenths, written
from ..rings import Points
from ..table import Column, Value
from ..theme import Role
from ..ui_state import UiState
from ..widgets import Spans, clean, sparkline, split_bar
from ..window import Window
from .view import LABEL_WIDTH, TableView, bar_line, bar_width, fields, heading

PHASES: Final = ("queue", "local", "remote", "throttle", "response_queue", "send")
"""Kafka's, in the order in which a request goes through them."""

PARKED_FOR: Final = {
    "Fetch": "FetchConsumer",
    "Produce": "Produce",
    "JoinGroup": "JoinGroup",
    "Rebalance": "JoinGroup",
    "FindCoordinator": "FindCoordinator",
}
"""{what requests are parked for, as the metric's label has it: their API}."""


@attrs.frozen
class RequestRow:
    """One API, or the requests of it that are parked."""

    key: str
    name: str
    version: float | None = None
    requests: float | None = None
    errors: float | None = None
    bytes: float | None = None
    total: Distribution | None = None
    phases: tuple[float | None, ...] = (None,) * len(PHASES)
    """Mean seconds, in the order of ``PHASES``."""
    p99: float | None = None
    trend: Points = ()
    main_error: str = ""

    @property
    def searched(self) -> str:
        """What a filter is looked for in."""
        return self.name

    @property
    def megabytes(self) -> float | None:
        """Requests and responses, MB per second."""
        return None if self.bytes is None else self.bytes / 1e6

    def quantile(self, q: float) -> float | None:
        """Of the time from first to last, in seconds."""
        return None if self.total is None else self.total.quantile(q)


def rows(window: Window, ui: UiState) -> list[RequestRow]:
    """One row for every API that was called since the server began."""
    rates = window.rates(names.REQUESTS.name, "request")
    known = window.values(names.REQUESTS.name, "request")
    errors = errors_by(window, "request")
    totals = window.distributions(names.REQUEST_PHASE.name, "request", phase="total")
    sums = window.increases(f"{names.REQUEST_PHASE.name}_sum", "request", "phase")
    counts = window.increases(f"{names.REQUEST_PHASE.name}_count", "request", "phase")
    volumes = _volumes(window)
    versions = _versions(window)
    main_errors = _main_errors(window)
    found = []
    for key in known:
        api = key[0]
        total = totals.get(key)
        means = tuple(_mean(sums, counts, api, phase) for phase in PHASES)
        row = RequestRow(
            key=api,
            name=clean(api),
            version=versions.get(api),
            requests=rates.get(key),
            # who exports errors at all has none where there is no series
            errors=errors.get(key, 0.0 if errors else None),
            bytes=volumes.get(api),
            total=total,
            phases=means,
            p99=None if total is None else total.quantile(0.99),
            trend=window.history(names.REQUESTS.name, api, slow=ui.slow_axis),
            main_error=main_errors.get(api, ""),
        )
        found.append(row)
    return found


def with_parked(window: Window, ui: UiState, found: list[RequestRow]) -> list[RequestRow]:
    """``found`` with a row after every API of which requests are parked now."""
    parked: dict[str, tuple[float, str]] = {}
    for (operation,), number in window.values(
        names.PURGATORY_SIZE.name, "delayedOperation"
    ).items():
        if number > 0 and operation in PARKED_FOR:
            api = PARKED_FOR[operation]
            before, _ = parked.get(api, (0.0, ""))
            parked[api] = (before + number, operation)
    every = []
    for row in found:
        every.append(row)
        if row.key in parked:
            every.append(_parked(window, ui, row.key, *parked[row.key]))
    return every


def _parked(window: Window, ui: UiState, api: str, number: float, operation: str) -> RequestRow:
    """What is known of those that were parked: the first bucket is those that were not."""
    remote = window.distribution(names.REQUEST_PHASE.name, request=api, phase="remote")
    mean = p99 = None
    if remote is not None and remote.bounds:
        waited = Distribution(remote.bounds, (0.0, *remote.counts[1:]), remote.sum)
        mean, p99 = waited.mean, waited.quantile(0.99)
    trend = window.history(names.PURGATORY_SIZE.name, operation, slow=ui.slow_axis)
    phases = tuple(mean if phase == "remote" else None for phase in PHASES)
    return RequestRow("", "  parked now", requests=number, phases=phases, p99=p99, trend=trend)


def _mean(
    sums: Mapping[Key, float], counts: Mapping[Key, float], api: str, phase: str
) -> float | None:
    count = counts.get((api, phase))
    spent = sums.get((api, phase))
    return spent / count if count and spent is not None else None


def _volumes(window: Window) -> dict[str, float]:
    """Bytes per second of requests and responses, {API: rate}."""
    volumes: dict[str, float] = {}
    for name in (f"{names.REQUEST_BYTES.name}_sum", names.RESPONSE_BYTES.name):
        for (api,), rate in window.rates(name, "request").items():
            volumes[api] = volumes.get(api, 0.0) + rate
    return volumes


def _versions(window: Window) -> dict[str, float]:
    """The highest version that came in the window, else since the server began: {API: version}."""
    highest: dict[str, tuple[bool, float]] = {}
    grown = window.increases(names.REQUESTS.name, "request", "version")
    for api, version in window.values(names.REQUESTS.name, "request", "version"):
        if version.isascii() and version.isdigit() and len(version) < 6:
            rank = (grown.get((api, version), 0.0) > 0, float(version))
            highest[api] = max(highest.get(api, rank), rank)
    return {api: version for api, (_, version) in highest.items()}


def _main_errors(window: Window) -> dict[str, str]:
    """The most frequent error of each API and how often it comes."""
    worst: dict[str, tuple[float, str]] = {}
    for (api, error), rate in window.rates(names.ERRORS.name, "request", "error").items():
        if error != "NONE" and rate > 0:
            worst[api] = max(worst.get(api, (0.0, "")), (rate, error))
    return {api: f"{clean(error)} {written(rate, tenths)}" for api, (rate, error) in worst.items()}


# -- the table ------------------------------------------------------------------------------------

NARROW: Final = 80
PLAIN: Final = 118
"""Cells below which there are no boxes, and columns are set closer."""


def _phase(phase: str, title: str, width: int, **more: Any) -> Column[RequestRow]:
    at = PHASES.index(phase)
    return Column(title, width, lambda row: row.phases[at], how=milliseconds, key=phase, **more)


def where(row: RequestRow, width: int) -> Spans:
    """Where the time goes, as a bar."""
    queue, local, remote, _, response_queue, send = (phase or 0.0 for phase in row.phases)
    parts: list[tuple[float, str, Role]] = [
        (queue + response_queue, "░", "dim"),
        (local, "█", "graph"),
        (remote, "▒", "warn"),
        (send, "▓", "accent"),
    ]
    return split_bar(parts, width)


def _errors_role(row: RequestRow) -> Role:
    return "bad" if row.errors is not None and row.errors > 0 else "value"


def _requests(row: RequestRow) -> Value:
    return row.requests


COLUMNS: Final[tuple[Column[RequestRow], ...]] = (
    Column("API", 15, lambda row: row.name, key="api", is_name=True, left=True),
    Column("ver", 3, lambda row: row.version, key="version", least=PLAIN),
    Column("req/s", 9, _requests, key="requests", least=PLAIN, is_scaled=True),
    Column("req/s", 8, _requests, key="requests", most=PLAIN - 1, is_scaled=True),
    Column("err/s", 5, lambda row: row.errors, tenths, "errors", NARROW, role=_errors_role),
    Column("MB/s", 6, lambda row: row.megabytes, tenths, "bytes", 100),
    Column("p50", 6, lambda row: row.quantile(0.5), milliseconds, "p50", NARROW),
    Column("p99", 6, lambda row: row.p99, milliseconds, "p99"),
    Column("p99.9", 6, lambda row: row.quantile(0.999), milliseconds, least=150),
    _phase("queue", "queue", 5, least=PLAIN, before=" │ "),
    _phase("queue", "queue", 6, least=NARROW, most=PLAIN - 1),
    _phase("local", "local", 6, least=PLAIN),
    _phase("local", "local", 5, least=NARROW, most=PLAIN - 1),
    _phase("remote", "remote", 6, least=NARROW),
    _phase("throttle", "throt", 5, least=PLAIN),
    _phase("response_queue", "respq", 5, least=PLAIN),
    _phase("send", "send", 6, least=PLAIN),
    _phase("send", "send", 5, least=NARROW, most=PLAIN - 1),
    Column("where", 8, lambda _: None, draw=where, left=True, least=PLAIN, before=" │ "),
    Column("where", 7, lambda _: None, draw=where, left=True, most=PLAIN - 1, before="  "),
    Column(
        "trend",
        8,
        lambda _: None,
        draw=lambda row, width: sparkline(row.trend, width),
        left=True,
        least=96,
    ),
    Column("main error", 24, lambda row: row.main_error, left=True, least=150, before="  "),
)
"""See ``table.Column``; what differs with boxes and without is there twice."""


def caption(window: Window, _ui: UiState, found: list[RequestRow]) -> str:
    """How many of the APIs do something, and what the bars are made of."""
    known = [row for row in found if row.key]
    active = sum(1 for row in known if row.requests)
    counted = f"{active} of {len(known)} APIs" if window.base is not None else f"{len(known)} APIs"
    return f"{counted} · mean ms per phase · ░queue █local ▒remote ▓send"


# -- the detail -----------------------------------------------------------------------------------


def detail(window: Window, ui: UiState, width: int) -> list[Spans]:
    """The phases of one API, its errors and its versions."""
    api = ui.subject or ""
    lines: list[Spans] = []
    lines += _phase_lines(window, api, width)
    lines += [[], heading("errors per second")]
    errors = window.rates(names.ERRORS.name, "error", request=api)
    lines += fields(_by_rate({key: n for key, n in errors.items() if key != ("NONE",)}), width)
    lines += [[], heading("requests per second by version")]
    versions = window.rates(names.REQUESTS.name, "version", request=api)
    lines += fields(_by_rate(versions), width)
    deprecated = window.values(
        names.DEPRECATED_REQUESTS.name,
        "version",
        "clientSoftwareName",
        "clientSoftwareVersion",
        request=api,
    )
    if deprecated:
        lines += [[], heading("requests in deprecated versions, by client software")]
        lines += fields(_by_rate(deprecated), width)
    return lines


def _phase_lines(window: Window, api: str, width: int) -> list[Spans]:
    spread = window.distributions(names.REQUEST_PHASE.name, "phase", request=api)
    total = spread.get(("total",))
    whole = None if total is None else total.mean
    titles = "  ".join(f"{title:>6}" for title in ("mean", "p50", "p99", "max <="))
    bar = bar_width(width, len(titles))
    head = f"{'phases, ms':<{LABEL_WIDTH}} {'share of the mean':<{bar}.{bar}}  {titles}"
    lines = [heading(head)]
    for phase in (*PHASES, "total"):
        found = spread.get((phase,))
        mean = None if found is None else found.mean
        # What a client is told to wait is no part of the time that its request took.
        is_part = phase != "throttle" and mean is not None
        share = mean / whole if is_part and mean is not None and whole else None
        figures = [mean]
        figures += (
            [None, None, None]
            if found is None
            else [found.quantile(0.5), found.quantile(0.99), found.maximum]
        )
        text = "  ".join(f"{written(number, milliseconds):>6}" for number in figures)
        lines.append(bar_line(phase.replace("_", " "), share, text, width))
    return lines


def _by_rate(rates: Mapping[Key, float]) -> list[tuple[str, str]]:
    """Names and figures, the greatest first; what does not happen is left out."""
    ordered = sorted(rates.items(), key=lambda item: (-item[1], item[0]))
    return [(clean(" ".join(key)), written(rate, figure)) for key, rate in ordered if rate > 0] or [
        ("none", "")
    ]


REQUESTS: Final = TableView(
    View.REQUESTS,
    (names.REQUESTS.name,),
    rows,
    COLUMNS,
    detail,
    caption=caption,
    complete=with_parked,
)
"""See the top of this file."""
