"""``monitor``: what a broker does, on the terminal, in a pipe, or as a picture.

Exit codes: 0 is a clean end, 2 a broker that cannot be reached at the start (or usage), 3 with
``--check`` an alert that somebody should look at, 74 a recording or an output that finds no room.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import click
import trio
from rich.console import Console

from trio_kafka_net.cli.output import forget_output
from trio_kafka_net.cli.watch import can_watch
from trio_kafka_net.monitor.alerts import active
from trio_kafka_net.monitor.anonymize import AnonymizingSource
from trio_kafka_net.monitor.app import Options, new_window, run_monitor
from trio_kafka_net.monitor.columns import SORTS, View
from trio_kafka_net.monitor.export import DARK_COLORS, LIGHT_COLORS, Picture
from trio_kafka_net.monitor.frame import frame
from trio_kafka_net.monitor.http_client import Address, HttpClient, SourceError
from trio_kafka_net.monitor.recording import Recorder, ReplaySource, recorded_needs
from trio_kafka_net.monitor.sources import EndOfRecording, HttpSource, Source
from trio_kafka_net.monitor.stream import StreamOptions, run_stream
from trio_kafka_net.monitor.theme import THEMES, Theme
from trio_kafka_net.monitor.ui_state import UiState, needs
from trio_kafka_net.monitor.window import Window

EXIT_UNREACHABLE = 2
"""No first snapshot."""
EXIT_STORAGE = 74
"""A recording, or the output, cannot be written."""
EXIT_ALERT = 3
"""With ``--check``: something is wrong."""

_HINT = " (does a broker run there, with trio.metrics.listener set?)"

_FORMATS = ("tui", "plain", "json", "prom")
_VIEWS = {view.title.lower(): view for view in View}
_EXPORT_SIZE = (120, 40)


@attrs.frozen
class Arguments:
    """The options of the command line, as they were given."""

    address: str | None
    interval: float
    count: int | None
    view: str
    sort: str | None
    filter: str | None
    limit: int
    once: bool
    format: str | None
    record: Path | None
    replay: Path | None
    speed: float
    at: float
    svg: Path | None
    html: Path | None
    size: tuple[int, int] | None
    theme: str
    ascii: bool
    no_color: bool
    no_header: bool
    raw_units: bool
    anonymize: bool
    check: bool


class _Size(click.ParamType[tuple[int, int]]):
    """``120x40``: columns and lines."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", str(value))
        if match is None or not int(match[1]) or not int(match[2]):
            self.fail(f"{value}: must be columns and lines, such as 120x40", param, ctx)
        return int(match[1]), int(match[2])


class _Seconds(click.ParamType[float]):
    """``120`` or ``120s``."""

    name = "SECONDS"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            seconds = float(str(value).removesuffix("s"))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            self.fail(f"{value}: must be seconds, such as 120 or 120s", param, ctx)
        return seconds


@click.command()
@click.argument("address", metavar="[URL|HOST:PORT]", required=False)
@click.option(
    "-d",
    "--interval",
    type=click.FloatRange(0.5, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two snapshots, 0.5 to 60.",
)
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after so many snapshots.")
@click.option(
    "--view",
    type=click.Choice(list(_VIEWS)),
    default="overview",
    show_default=True,
    help="What to show first.",
)
@click.option(
    "--sort", metavar="COLUMN", help="Sort the view by this column; with - in front, reversed."
)
@click.option("--filter", metavar="REGEX", help="Show only rows that match; with ! in front, not.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Connections to ask for.",
)
@click.option("--once", is_flag=True, help="One second, then exit.")
@click.option(
    "--format",
    type=click.Choice(_FORMATS),
    help="tui is the screen; plain a line per interval (as without a terminal); json a document "
    "per line; prom the page of metrics as it is.",
)
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE", help="Keep snapshots.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Show a recording in place of a broker.",
)
@click.option("--speed", type=click.FloatRange(0.01, 1000), default=1.0, help="Of the replay.")
@click.option("--at", type=_Seconds(), default=0.0, help="Where the replay begins.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Save and exit.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Save and exit.")
@click.option("--size", type=_Size(), help="Of what is saved or printed once; 120x40.")
@click.option(
    "--theme", type=click.Choice(list(THEMES)), default="dark", show_default=True, help="Colours."
)
@click.option("--ascii", is_flag=True, help="No glyphs beyond ASCII.")
@click.option("--no-color", is_flag=True, help="As the theme mono.")
@click.option("--no-header", is_flag=True, help="No header.")
@click.option("--raw-units", is_flag=True, help="Numbers without k, M, G.")
@click.option("--anonymize", is_flag=True, help="Hashes in place of names.")
@click.option("--check", is_flag=True, help="Exit with 3 if an alert is bad at the end.")
def monitor(**given: Any) -> None:
    """Watch a broker: http://127.0.0.1:9404 if nothing else is said.

    On a terminal it is a screen (press ? there); in a pipe a line per second.
    """
    arguments = Arguments(**given)
    try:
        code = trio.run(run, arguments)
    except* SourceError as group:
        click.echo(f"{_first_of(group)}{_HINT if _is_refused(group) else ''}", err=True)
        sys.exit(EXIT_UNREACHABLE)
    except* BrokenPipeError:
        # Whoever read has seen enough.
        forget_output()
        sys.exit(0)
    except* KeyboardInterrupt:
        sys.exit(0)
    except* OSError as group:
        error = _first_of(group)
        assert isinstance(error, OSError)
        if error.filename is None:
            forget_output()
        click.echo(
            f"cannot write {error.filename or 'the output'}: {error.strerror or error}", err=True
        )
        sys.exit(EXIT_STORAGE)
    sys.exit(code)


def _is_refused(error: BaseException) -> bool:
    return str(_first_of(error)).endswith("connection refused")


def _first_of(error: BaseException) -> BaseException:
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def run(arguments: Arguments) -> int:
    """Do what the command line asks for.

    Returns:
        The exit code.

    Raises:
        SourceError: the broker cannot be reached, or the recording cannot be read.
        click.UsageError: options that exclude each other.
        OSError: a file cannot be written.

    Cancellation: the terminal is as it was.
    """
    ui = _ui(arguments)
    if arguments.format == "prom":
        return await _print_page(arguments)
    source = _source(arguments)
    recorder = _recorder(arguments)
    try:
        window = new_window(source)
        output = _output(arguments)
        if output == "tui":
            options = Options(
                ui=ui,
                theme=_theme(arguments),
                is_light=arguments.theme == "light",
                recorder=recorder,
                count=arguments.count,
            )
            window = await run_monitor(source, options)
        elif output in {"frame", "check"}:
            await _sample(source, window, ui, arguments.interval, recorder)
            _show(window, ui, arguments, is_check=output == "check")
        else:
            await run_stream(source, _stream_options(arguments, recorder), window, click.echo)
    finally:
        if recorder is not None:
            recorder.close()
        with trio.CancelScope(shield=True):
            await source.aclose()
    is_bad = any(alert.level == "bad" for alert in active(window))
    return EXIT_ALERT if arguments.check and is_bad else 0


# -- what is asked for ----------------------------------------------------------------------------


def _source(arguments: Arguments) -> Source:
    source: Source
    if arguments.replay is None:
        source = HttpSource(_address(arguments))
    elif arguments.address is not None:
        raise click.UsageError("--replay has no address")
    else:
        source = ReplaySource(arguments.replay, speed=arguments.speed, at=arguments.at)
    return AnonymizingSource(source) if arguments.anonymize else source


def _address(arguments: Arguments) -> Address:
    try:
        return Address.parse(arguments.address or "")
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _recorder(arguments: Arguments) -> Recorder | None:
    if arguments.record is None:
        return None
    try:
        return Recorder(arguments.record)
    except OSError as error:
        raise click.UsageError(f"--record {arguments.record}: {error.strerror}") from error


def _output(arguments: Arguments) -> str:
    """What is written: tui, frame, check, plain or json."""
    if arguments.svg is not None or arguments.html is not None:
        return "frame"
    is_terminal = can_watch()
    if arguments.format is not None and arguments.format != "tui":
        return arguments.format
    if arguments.check:
        return "check"
    if arguments.once and (is_terminal or arguments.size or arguments.format == "tui"):
        return "frame"
    if arguments.format == "tui" and not is_terminal:
        raise click.UsageError("--format tui needs a terminal")
    return "tui" if is_terminal else "plain"


def _ui(arguments: Arguments) -> UiState:
    view = _VIEWS[arguments.view]
    ui = UiState(interval_s=arguments.interval, raw=arguments.raw_units, limit=arguments.limit)
    ui = attrs.evolve(ui, view=view, header=not arguments.no_header)
    if arguments.sort is not None:
        column = arguments.sort.removeprefix("-")
        known = [sort.column for sort in SORTS[view]]
        if column not in known:
            raise click.UsageError(f"--sort {column}: must be one of {', '.join(known)}")
        ui = attrs.evolve(ui, sort=column, reverse=column != arguments.sort)
    if arguments.filter is not None:
        expression = arguments.filter.removeprefix("!")
        try:
            re.compile(expression)
        except re.error as error:
            raise click.UsageError(f"--filter {expression}: {error}") from None
        inverted = expression != arguments.filter
        ui = attrs.evolve(ui, filter=expression, inverted=inverted)
    return ui


def _theme(arguments: Arguments) -> Theme:
    mono = arguments.no_color or "NO_COLOR" in os.environ
    theme = THEMES["mono" if mono else arguments.theme]
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    can_draw = encoding.lower().replace("-", "").startswith("utf")
    return attrs.evolve(theme, ascii=arguments.ascii or not can_draw)


def _stream_options(arguments: Arguments, recorder: Recorder | None) -> StreamOptions:
    return StreamOptions(
        format="json" if _output(arguments) == "json" else "plain",
        interval_s=arguments.interval,
        count=1 if arguments.once or (arguments.check and not arguments.count) else arguments.count,
        with_header=not arguments.no_header,
        raw=arguments.raw_units,
        recorder=recorder,
    )


# -- one frame ------------------------------------------------------------------------------------


async def _sample(
    source: Source, window: Window, ui: UiState, interval: float, recorder: Recorder | None
) -> None:
    """Take snapshots until there are rates."""
    for snapshot in source.past():
        window.add(snapshot)
    for is_first in (True, False):
        if source.is_live and not is_first:
            await trio.sleep(interval)
        try:
            wanted = needs(ui) if recorder is None else recorded_needs(ui)
            snapshot = await source.take(wanted)
        except EndOfRecording:
            return
        if recorder is not None:
            recorder.write(snapshot)
        window.add(snapshot)


def _show(window: Window, ui: UiState, arguments: Arguments, *, is_check: bool) -> None:
    if is_check:
        for alert in active(window):
            click.echo(f"{alert.level.upper()}: {alert.in_words}")
        if not active(window):
            click.echo("OK")
        return
    size = arguments.size or _EXPORT_SIZE
    if arguments.svg is None and arguments.html is None:
        console = Console()
        size = arguments.size or (console.size.width, console.size.height - 1)
    theme = _theme(arguments)
    colors = LIGHT_COLORS if arguments.theme == "light" else DARK_COLORS
    picture = Picture(frame(window, size, ui, theme), size[0], theme.styles, colors)
    if arguments.svg is not None:
        _write(arguments.svg, picture.svg())
    if arguments.html is not None:
        _write(arguments.html, picture.html())
    if arguments.svg is None and arguments.html is None:
        picture.print(Console())


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from error


async def _print_page(arguments: Arguments) -> int:
    """The page of metrics, as it is; once, or once per interval."""
    if arguments.replay is not None or arguments.record is not None or arguments.check:
        raise click.UsageError("--format prom is the page of a broker that runs, and nothing else")
    client = HttpClient(_address(arguments))
    try:
        remaining = 1 if arguments.once else arguments.count
        while remaining != 0:
            click.echo(await client.get("/metrics"), nl=False)
            remaining = None if remaining is None else remaining - 1
            if remaining != 0:
                await trio.sleep(arguments.interval)
    finally:
        with trio.CancelScope(shield=True):
            await client.aclose()
    return 0
