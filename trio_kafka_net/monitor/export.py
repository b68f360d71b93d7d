"""Frames as files: a picture, a page, a text; and the snapshot that they show."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from .screen import harmless
from .snapshot import Snapshot
from .svg import svg
from .theme import Role
from .widgets import Line

DARK_COLORS: Final = TerminalTheme(
    (21, 25, 32),
    (208, 212, 220),
    [
        (59, 66, 79),
        (240, 98, 104),
        (126, 200, 110),
        (230, 180, 90),
        (97, 160, 240),
        (200, 130, 225),
        (86, 190, 200),
        (208, 212, 220),
    ],
    [
        (120, 130, 147),
        (255, 120, 124),
        (150, 220, 130),
        (250, 205, 120),
        (130, 185, 255),
        (220, 155, 240),
        (120, 215, 225),
        (240, 243, 248),
    ],
)
"""The sixteen colours of a dark terminal, for files; a terminal has its own."""

LIGHT_COLORS: Final = TerminalTheme(
    (252, 252, 250),
    (48, 52, 60),
    [
        (48, 52, 60),
        (190, 40, 45),
        (45, 125, 45),
        (150, 100, 0),
        (30, 95, 180),
        (140, 60, 165),
        (0, 115, 130),
        (110, 116, 126),
    ],
    [
        (130, 136, 146),
        (210, 50, 55),
        (55, 145, 55),
        (175, 120, 0),
        (40, 110, 205),
        (160, 75, 185),
        (0, 135, 150),
        (20, 22, 26),
    ],
)
"""The sixteen colours of a light terminal."""

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<title>trio-kafka-net monitor</title>
<style>
{stylesheet}
body {{ color: {foreground}; background: {background}; }}
pre {{ font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }}
</style>
</head>
<body><pre>{code}</pre></body>
</html>
"""


@attrs.frozen
class Picture:
    """A frame, and what is needed to make a file of it."""

    lines: Sequence[Line]
    """The frame."""
    width: int
    """Its columns."""
    styles: Mapping[Role, str]
    """{role: how it looks, in rich's words}."""
    colors: TerminalTheme = DARK_COLORS
    """What the colours are."""

    def svg(self) -> str:
        """As a picture that needs no font and no server."""
        return svg(self.lines, self.width, self.styles, self.colors)

    def html(self) -> str:
        """As a page."""
        console = Console(
            width=self.width,
            record=True,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
            _environ={},
        )
        self.print(console)
        return console.export_html(theme=self.colors, code_format=_PAGE)

    def print(self, console: Console) -> None:
        """To a terminal, where it stays; or to a file, without colours."""
        for line in self.lines:
            text = Text(no_wrap=True, overflow="ignore")
            for piece, role in line:
                text.append(harmless(piece), Style.parse(self.styles[role]))
            console.print(text, crop=False, soft_wrap=True)

    def text(self) -> str:
        """As lines of text, without blanks at their ends."""
        plain = ("".join(harmless(piece) for piece, _ in line).rstrip() for line in self.lines)
        return "\n".join(plain) + "\n"


def save(
    picture: Picture, snapshot: Snapshot | None, stem: Path, *, everything: bool
) -> list[Path]:
    """Write files beside each other.

    Args:
        picture: of the screen.
        snapshot: what it shows, None if nothing is known.
        stem: their path without the ending.
        everything: page, text and snapshot as well, not only the picture.

    Returns:
        What was written.

    Raises:
        OSError: it could not be; earlier ones are there.
    """
    contents = {".svg": picture.svg()}
    if everything:
        contents |= {".html": picture.html(), ".txt": picture.text()}
        if snapshot is not None:
            contents[".json"] = snapshot.to_json() + "\n"
    written = []
    for ending, content in contents.items():
        path = stem.with_name(stem.name + ending)
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written
