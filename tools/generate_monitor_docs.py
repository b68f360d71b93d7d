"""Generate what docs/monitor.md shows of the monitor: picture, lines and options.

    python tools/generate_monitor_docs.py

The picture is made from ``tests/data/monitor-demo.jsonl.gz``, a recording of ``make demo``.
``tests/monitor/test_monitor_page.py`` compares what is committed with what this makes.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import trio

from trio_kafka_net.cli.monitor import monitor
from trio_kafka_net.monitor.export import Picture
from trio_kafka_net.monitor.frame import frame
from trio_kafka_net.monitor.recording import ReplaySource, read_recording
from trio_kafka_net.monitor.stream import StreamOptions, run_stream
from trio_kafka_net.monitor.theme import THEMES
from trio_kafka_net.monitor.ui_state import UiState
from trio_kafka_net.monitor.window import Window

ROOT = Path(__file__).parent.parent
RECORDING = ROOT / "tests" / "data" / "monitor-demo.jsonl.gz"
PAGE = ROOT / "docs" / "monitor.md"
PICTURE = ROOT / "docs" / "img" / "monitor.svg"

_SIZE = (120, 40)
_ADDRESS = "127.0.0.1:9404"
_PLAIN_LINES = 3
_HELP_WIDTH = 88


def render_picture() -> str:
    """The overview at the end of the recording."""
    window = Window(source=_ADDRESS)
    for snapshot in read_recording(RECORDING):
        window.add(snapshot)
    theme = THEMES["dark"]
    return Picture(frame(window, _SIZE, UiState(), theme), _SIZE[0], theme.styles).svg()


def render_lines() -> str:
    """The first lines of plain output."""
    source = ReplaySource(RECORDING, at=30, speed=100)
    lines: list[str] = []
    options = StreamOptions(count=_PLAIN_LINES)
    trio.run(run_stream, source, options, Window(source=source.name), lines.append)
    return "\n".join(lines)


def render_options() -> str:
    """The options as ``--help`` has them."""
    context = click.Context(monitor, info_name="trio-kafka-net monitor", max_content_width=100)
    formatter = click.HelpFormatter(width=_HELP_WIDTH)
    monitor.format_options(context, formatter)
    # Without the heading, and as far left as it goes.
    return "\n".join(line.removeprefix("  ") for line in formatter.getvalue().splitlines()[1:])


def render_page(page: str) -> str:
    """The page with its generated blocks renewed."""
    for name, content in (("lines", render_lines()), ("options", render_options())):
        block = f"<!-- generated: {name} -->\n```text\n{content}\n```"
        pattern = rf"<!-- generated: {name} -->\n```text\n.*?\n```"
        page = re.sub(pattern, lambda _match, block=block: block, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(render_picture(), encoding="utf-8")
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
