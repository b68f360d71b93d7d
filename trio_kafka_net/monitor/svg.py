"""A frame as a picture.

Written here and not by a library for three reasons. A picture must not fetch a font from
anybody's server. It must look the same whatever fonts there are, so bars, sparklines and borders
are drawn as shapes and every word is put where it belongs. And it must be the same, byte for byte,
whenever it is made from the same frame, so that a test can tell whether the one in the
documentation is still true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from rich.cells import cell_len
from rich.color import blend_rgb
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from .screen import harmless
from .theme import Role
from .widgets import Line

_FONTS: Final = (
    "ui-monospace,'Cascadia Mono','JetBrains Mono',Menlo,Consolas,"
    "'DejaVu Sans Mono','Liberation Mono',monospace"
)
_CELL_WIDTH: Final = 8.4
_CELL_HEIGHT: Final = 18
_FONT_SIZE: Final = 14
_BASELINE: Final = 13.5
_MARGIN: Final = 14
_GAP: Final = 2

# What begins where in a cell of 1 by 1: (x, y, width, height, opacity).
_BLOCKS: Final[Mapping[str, tuple[float, float, float, float, float]]] = {
    **{chr(0x2580 + n): (0, 1 - n / 8, 1, n / 8, 1) for n in range(1, 9)},
    **{chr(0x2590 - n): (0, 0, n / 8, 1, 1) for n in range(1, 8)},
    "▀": (0, 0, 1, 0.5, 1),
    "░": (0, 0, 1, 1, 0.25),
    "▒": (0, 0, 1, 1, 0.5),
    "▓": (0, 0, 1, 1, 0.75),
}
# Which sides of a cell a line reaches from its middle: left, right, top, bottom.
_BORDERS: Final[Mapping[str, str]] = {
    "─": "lr",
    "│": "tb",
    "┌": "rb",
    "╭": "rb",
    "┐": "lb",
    "╮": "lb",
    "└": "rt",
    "╰": "rt",
    "┘": "lt",
    "╯": "lt",
    "├": "rtb",
    "┤": "ltb",
    "┬": "lrb",
    "┴": "lrt",
    "┼": "lrtb",
}
_ROUND: Final = frozenset("╭╮╰╯")
_ENDS: Final[Mapping[str, tuple[float, float]]] = {
    "l": (0, 0.5),
    "r": (1, 0.5),
    "t": (0.5, 0),
    "b": (0.5, 1),
}
# Words with single blanks between them; a bar, and a border, are runs of their own.
_SHAPES: Final = "".join({*_BLOCKS, *_BORDERS})
_RUN: Final = re.compile(f"([{_SHAPES}])\\1*|[^ {_SHAPES}]+(?: [^ {_SHAPES}]+)*")


def svg(
    lines: Sequence[Line], width: int, styles: Mapping[Role, str], colors: TerminalTheme
) -> str:
    """Draw a frame.

    Args:
        lines: of the frame.
        width: columns of the screen.
        styles: {role: how it looks, in rich's words}.
        colors: what the terminal's colours are.

    Returns:
        A document that needs nothing else.
    """
    looks = {role: _Look(Style.parse(style), colors) for role, style in styles.items()}
    used = sorted({role for line in lines for _, role in line})
    rules = "\n".join(
        f".{_class(role)}{{fill:{looks[role].color}"
        f"{';font-weight:bold' if looks[role].is_bold else ''}}}"
        for role in used
    )
    picture_width = round(width * _CELL_WIDTH) + 2 * _MARGIN
    picture_height = len(lines) * _CELL_HEIGHT + 2 * _MARGIN
    body = "\n".join(tag for y, line in enumerate(lines) for tag in _line(line, y, looks))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture_width} {picture_height}"'
        f' font-family="{_FONTS}" font-size="{_FONT_SIZE}">\n'
        # Bars side by side are one shape to the eye.
        f"<style>\ng rect{{shape-rendering:crispEdges}}\n{rules}\n</style>\n"
        f'<rect width="{picture_width}" height="{picture_height}" rx="8"'
        f' fill="{colors.background_color.hex}"/>\n'
        f'<g transform="translate({_MARGIN},{_MARGIN})">\n{body}\n</g>\n</svg>\n'
    )


class _Look:
    """A style in the colours of a terminal."""

    def __init__(self, style: Style, colors: TerminalTheme) -> None:
        color, ground = colors.foreground_color, colors.background_color
        if style.color is not None and not style.color.is_default:
            color = style.color.get_truecolor(colors)
        self.has_ground = style.bgcolor is not None and not style.bgcolor.is_default
        if style.bgcolor is not None and self.has_ground:
            ground = style.bgcolor.get_truecolor(colors)
        if style.reverse:
            color, ground = ground, color
            self.has_ground = True
        if style.dim:
            color = blend_rgb(color, ground, 0.45)
        self.color = color.hex
        self.ground = ground.hex
        self.is_bold = bool(style.bold)


def _class(role: str) -> str:
    return role.replace("_", "-")


def _line(line: Line, row: int, looks: Mapping[Role, _Look]) -> Iterator[str]:
    top = row * _CELL_HEIGHT
    column = 0
    for text, role in line:
        look = looks[role]
        if look.has_ground:
            yield (
                f'<rect x="{_x(column)}" y="{top}" width="{_x(cell_len(text))}"'
                f' height="{_CELL_HEIGHT}" fill="{look.ground}"/>'
            )
        for run in _RUN.finditer(harmless(text)):
            at = column + cell_len(text[: run.start()])
            yield from _run(run.group(), at, top, _class(role), look)
        column += cell_len(text)


def _run(text: str, column: int, top: float, role: str, look: _Look) -> Iterator[str]:
    if text[0] in _BLOCKS:
        yield _block(text, column, top, role)
    elif text[0] in _BORDERS:
        yield _border(text, column, top, look)
    else:
        yield (
            f'<text class="{role}" x="{_x(column)}" y="{top + _BASELINE:g}"'
            f' textLength="{_x(cell_len(text))}" lengthAdjust="spacingAndGlyphs">'
            f"{escape(text, quote=False)}</text>"
        )


def _block(text: str, column: int, top: float, role: str) -> str:
    x, y, width, height, opacity = _BLOCKS[text[0]]
    # A partial width belongs to one cell, a whole one goes on in the next.
    cells = len(text) if width == 1 else width
    faint = f' opacity="{opacity}"' if opacity < 1 else ""
    # A gap above, so that one row's bars do not touch those of the next.
    room = _CELL_HEIGHT - _GAP
    return (
        f'<rect class="{role}" x="{_x(column + x)}" y="{top + _GAP + y * room:g}"'
        f' width="{_x(cells)}" height="{height * room:g}"{faint}/>'
    )


def _border(text: str, column: int, top: float, look: _Look) -> str:
    character = text[0]
    cells = len(text)
    middle = _at(column, top, 0.5, 0.5)
    points = [_ENDS[side] for side in _BORDERS[character]]
    if character == "─":
        path = f"M{_x(column)} {top + _CELL_HEIGHT / 2:g}h{_x(cells)}"
    elif character in _ROUND:
        (x1, y1), (x2, y2) = points
        path = (
            f"M{_at(column, top, x1, y1)}Q{_at(column, top, 0.5, 0.5)} {_at(column, top, x2, y2)}"
        )
    else:
        middle = _at(column, top, 0.5, 0.5)
        path = "".join(f"M{_at(column, top, x, y)}L{middle}" for x, y in points)
    return f'<path d="{path}" stroke="{look.color}" fill="none"/>'


def _at(column: int, top: float, x: float, y: float) -> str:
    return f"{_x(column + x)} {top + y * _CELL_HEIGHT:g}"


def _x(columns: float) -> str:
    return f"{columns * _CELL_WIDTH:.1f}".removesuffix(".0")
