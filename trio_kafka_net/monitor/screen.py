"""The terminal that frames are drawn on.

Only lines that changed are written, and between the marks of a synchronized update (a terminal that
does not know them ignores them; whether it does is never asked, because some print the question).
That is what keeps a terminal behind ssh or in tmux calm.

What comes from clients is on the screen too: names of topics, of groups, of programs. A control
character among them would be a command to the terminal, so none is ever written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.text import Text

from .theme import Role
from .widgets import Line

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_BEGIN_UPDATE: Final = "\x1b[?2026h"
_END_UPDATE: Final = "\x1b[?2026l"
_CLEAR: Final = "\x1b[2J"


def harmless(text: str) -> str:
    """``text`` without what a terminal would obey, one character for another."""
    return _CONTROL.sub("·", text)


class Screen:
    """The alternate screen of a terminal, and what is on it.

    ::

        screen.enter()
        screen.draw(lines, size)
        screen.leave()
    """

    def __init__(self, console: Console, styles: Mapping[Role, str]) -> None:
        """Draw on ``console``.

        Args:
            console: a terminal.
            styles: {role: how it looks, in rich's words}.
        """
        self._console = console
        self._marks = {role: _marks(console, Style.parse(style)) for role, style in styles.items()}
        self._drawn: list[str] = []
        self._size = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        size = self._console.size
        return size.width, size.height

    def enter(self) -> None:
        """Switch to the alternate screen, also if somebody else has switched back."""
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        self._drawn = []

    def leave(self) -> None:
        """Bring back what was on the terminal before."""
        self._console.set_alt_screen(False)
        self._console.show_cursor(True)

    def draw(self, lines: Sequence[Line], size: tuple[int, int]) -> int:
        """Have ``lines`` on the screen.

        Args:
            lines: from the top; what is outside the screen is left out.
            size: of the screen.

        Returns:
            How many lines were written; the others were there.
        """
        width, height = size
        drawn = [self._rendered(_cropped(line, width)) for line in lines[:height]]
        out = []
        if size != self._size or len(drawn) < len(self._drawn):
            out.append(_CLEAR)
            self._drawn, self._size = [], size
        before = self._drawn
        for number, text in enumerate(drawn):
            if number >= len(before) or before[number] != text:
                out.append(f"\x1b[{number + 1};1H{text}")
        if out:
            self._write(_BEGIN_UPDATE + "".join(out) + _END_UPDATE)
        self._drawn = drawn
        return len(out)

    def _rendered(self, line: Line) -> str:
        marks = self._marks
        pieces = []
        for text, role in line:
            begin, end = marks[role]
            pieces.append(f"{begin}{harmless(text)}{end}")
        return "".join(pieces)

    def _write(self, text: str) -> None:
        file = self._console.file
        encoding = self._console.encoding
        file.write(text.encode(encoding, "replace").decode(encoding))
        file.flush()


def _cropped(line: Line, width: int) -> Line:
    """As much of ``line`` as a terminal shows; frames have a least width, terminals have none."""
    if sum(cell_len(text) for text, _ in line) <= width:
        return line
    cropped = []
    for text, role in line:
        cropped.append((set_cell_size(text, min(width, cell_len(text))), role))
        width -= cell_len(cropped[-1][0])
    return tuple(cropped)


def _marks(console: Console, style: Style) -> tuple[str, str]:
    """What the terminal needs to be told before and after a text of this style."""
    with console.capture() as capture:
        console.print(Text("x", style=style), end="")
    begin, _, end = capture.get().partition("x")
    return begin, end
