"""The monitor without a screen: a line per interval, for files, pipes and other programs.

``plain`` is for people, in the manner of ``vmstat``; ``json`` is one document per line, with the
figures that ``plain`` shows in base units, those of each API, and the alerts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import attrs
import trio

from ..metrics import names
from . import figures
from .alerts import Alert, active
from .http_client import SourceError
from .recording import Recorder, recorded_needs
from .sources import EndOfRecording, Source
from .ui_state import UiState, needs
from .window import Window

Format = Literal["plain", "json"]

HEADER_EVERY: Final = 20
"""Lines between two headers."""

_UNKNOWN = "-"


@attrs.frozen
class StreamOptions:
    """What is written, and how often."""

    format: Format = "plain"
    """For whom."""
    interval_s: float = 1.0
    """Seconds between two lines."""
    count: int | None = None
    """Lines to write; None: until somebody ends it."""
    with_header: bool = True
    """Whether ``plain`` says what the columns are."""
    raw: bool = False
    """Whether ``plain`` has bytes and seconds in place of MB and ms."""
    recorder: Recorder | None = None
    """Told every snapshot."""


async def run_stream(
    source: Source,
    options: StreamOptions,
    window: Window,
    write: Callable[[str], object],
) -> list[Alert]:
    """Write a line per interval, the first one when there are rates.

    Args:
        source: the broker.
        options: what to write.
        window: over the source, empty.
        write: takes a line without its end.

    Returns:
        The alerts that were active at the end.

    Raises:
        SourceError: the first snapshot could not be had. Later ones are waited for, and the lines
            of that time are not written.
        OSError: ``write`` or the recorder cannot write.

    Cancellation: lines are whole.
    """
    for snapshot in source.past():
        window.add(snapshot)
    if window.now is None:
        await _take(source, options, window)
    lines = _PlainLines(options) if options.format == "plain" else None
    written = 0
    due = trio.current_time()
    while options.count is None or written < options.count:
        due += options.interval_s
        if source.is_live:
            await trio.sleep_until(due)
        try:
            await _take(source, options, window)
        except SourceError:
            continue
        except EndOfRecording:
            break
        for line in [json_line(window)] if lines is None else lines.next(window):
            write(line)
        written += 1
    return active(window)


async def _take(source: Source, options: StreamOptions, window: Window) -> None:
    ui = UiState()
    wanted = needs(ui) if options.recorder is None else recorded_needs(ui)
    snapshot = await source.take(wanted)
    if options.recorder is not None:
        options.recorder.write(snapshot)
    window.add(snapshot)


# -- figures --------------------------------------------------------------------------------------


def summary(window: Window) -> dict[str, float | None]:
    """The figures of the overview, in base units; None is not known."""

    def p99(api: str) -> float | None:
        return window.quantile(names.REQUEST_PHASE.name, 0.99, request=api, phase="total")

    return {
        "in_bytes_per_second": figures.bytes_in(window),
        "out_bytes_per_second": figures.bytes_out(window),
        "messages_per_second": figures.messages_in(window),
        "requests_per_second": figures.requests(window),
        "errors_per_second": figures.errors(window),
        "connections": figures.connections(window),
        "event_loop_busy": figures.loop_busy(window),
        "processors_idle": figures.processors_idle(window),
        "handlers_idle": figures.handlers_idle(window),
        "request_queue": window.value(names.REQUEST_QUEUE_SIZE.name),
        "parked": window.value(names.PURGATORY_SIZE.name),
        "produce_p99_seconds": p99("Produce"),
        "fetch_p99_seconds": p99("FetchConsumer"),
        "event_loop_lag_p99_seconds": figures.loop_lag_p99(window),
    }


def json_line(window: Window) -> str:
    """One document: time, figures, APIs, alerts."""
    known: dict[str, Any] = {"time": None if window.now is None else window.now.time}
    known |= summary(window)
    known["apis"] = _apis(window)
    known["alerts"] = [{"level": alert.level, "text": alert.in_words} for alert in active(window)]
    return json.dumps(known, separators=(",", ":"), ensure_ascii=False)


def _apis(window: Window) -> dict[str, dict[str, float | None]]:
    rates = window.rates(names.REQUESTS.name, "request")
    errors = figures.errors_by(window, "request")
    totals = window.distributions(names.REQUEST_PHASE.name, "request", phase="total")
    told = {}
    for key, rate in sorted(rates.items()):
        total = totals.get(key)
        told[key[0]] = {
            "requests_per_second": rate,
            "errors_per_second": errors.get(key),
            "p50_seconds": None if total is None else total.quantile(0.5),
            "p99_seconds": None if total is None else total.quantile(0.99),
        }
    return told


# -- plain ----------------------------------------------------------------------------------------


@attrs.frozen
class _Column:
    title: str
    raw_title: str
    figure: str
    scale: float = 1.0
    """From the base unit to that of the title."""
    decimals: int = 0

    def heading(self, raw: bool) -> str:
        """Its title."""
        return (self.raw_title if raw else self.title).rjust(self.width(raw))

    def width(self, raw: bool) -> int:
        """Characters; numbers have at least seven."""
        return max(11 if raw else 7, len(self.raw_title if raw else self.title))

    def cell(self, value: float | None, raw: bool) -> str:
        """The number, in the unit of the title."""
        if value is None:
            return _UNKNOWN.rjust(self.width(raw))
        if raw:
            return f"{value:.6g}".rjust(self.width(raw))
        return f"{value * self.scale:.{self.decimals}f}".rjust(self.width(raw))


_COLUMNS: Final[Sequence[_Column]] = (
    _Column("in MB/s", "in B/s", "in_bytes_per_second", 1e-6, 1),
    _Column("out MB/s", "out B/s", "out_bytes_per_second", 1e-6, 1),
    _Column("msg/s", "msg/s", "messages_per_second"),
    _Column("req/s", "req/s", "requests_per_second"),
    _Column("err/s", "err/s", "errors_per_second", 1, 1),
    _Column("conns", "conns", "connections"),
    _Column("loop%", "loop busy", "event_loop_busy", 100),
    _Column("net%", "net idle", "processors_idle", 100),
    _Column("hnd%", "hnd idle", "handlers_idle", 100),
    _Column("rqueue", "rqueue", "request_queue"),
    _Column("parked", "parked", "parked"),
    _Column("prod.p99", "prod.p99 s", "produce_p99_seconds", 1e3, 1),
    _Column("fetch.p99", "fetch.p99 s", "fetch_p99_seconds", 1e3, 1),
    _Column("lag.p99", "lag.p99 s", "event_loop_lag_p99_seconds", 1e3, 1),
)


class _PlainLines:
    """Lines of numbers under a header that comes again and again."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._written = 0

    def next(self, window: Window) -> list[str]:
        """The next line, with a header before it if it is time for one."""
        raw = self._options.raw
        lines = []
        if self._options.with_header and self._written % HEADER_EVERY == 0:
            headings = " ".join(column.heading(raw) for column in _COLUMNS)
            lines.append(f"{'time':<8} {headings} alerts")
        self._written += 1
        values = summary(window)
        cells = " ".join(column.cell(values[column.figure], raw) for column in _COLUMNS)
        lines.append(f"{_clock(window)} {cells} {len(active(window)):>6}")
        return lines


def _clock(window: Window) -> str:
    assert window.now is not None, "a line is about a snapshot"
    return time.strftime("%H:%M:%S", time.gmtime(window.now.time + window.utc_offset_s))
