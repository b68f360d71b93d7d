"""What parts of the screen mean, and how that looks.

A screen is made of texts with a *role*; a theme says how a role looks. The defaults are the
sixteen colours of the terminal, so that the user's palette rules, and nothing is said by colour
alone.

Screens are drawn with block elements and box drawing; a terminal that has none gets them replaced
one by one, which is why every glyph is one cell wide in both sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs
from rich.cells import cell_len

Role = Literal[
    "title",
    "label",
    "value",
    "unit",
    "dim",
    "good",
    "warn",
    "bad",
    "accent",
    "select",
    "graph",
    "graph_peak",
]

_DARK: Final[Mapping[Role, str]] = {
    "title": "bold",
    "label": "default",
    "value": "bold",
    "unit": "bright_black",
    "dim": "bright_black",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "accent": "cyan",
    "select": "reverse",
    "graph": "blue",
    "graph_peak": "bright_blue",
}

_LIGHT: Final[Mapping[Role, str]] = {
    **_DARK,
    "value": "default",
    "unit": "default",
    "warn": "magenta",
    "accent": "blue",
    "graph_peak": "blue",
}

_MONO: Final[Mapping[Role, str]] = {
    **dict.fromkeys(_DARK, "default"),
    "title": "bold",
    "dim": "dim",
    "warn": "bold",
    "bad": "bold underline",
    "select": "reverse",
}

_ASCII: Final = str.maketrans(
    "▁▂▃▄▅▆▇█░▒▓╭╮╰╯─│├└▲▼●○–…·∞↑↓←→⏎▏",
    ".:-=+*#@.+#++++-||`^v*o-~,*^v<>E|",
)


@attrs.frozen
class Theme:
    """How roles look, and with which glyphs."""

    styles: Mapping[Role, str]
    """{role: style in rich's words}."""
    ascii: bool = False
    """Whether the terminal has nothing but ASCII."""

    def drawn(self, text: str) -> str:
        """``text`` as this terminal can show it; one cell wide characters stay that."""
        if not self.ascii or text.isascii():
            return text
        text = text.translate(_ASCII)
        if text.isascii():
            return text
        return "".join(
            character if character.isascii() else "?" * cell_len(character) for character in text
        )


THEMES: Final[Mapping[str, Theme]] = {
    "dark": Theme(_DARK),
    "light": Theme(_LIGHT),
    "mono": Theme(_MONO),
}
"""By the names that users know."""
