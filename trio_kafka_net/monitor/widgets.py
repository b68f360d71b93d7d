"""The parts that screens are made of, measured in cells of the terminal.

Everything here returns *spans*, texts with a role, of exactly the width that was asked for: what
is too long is cut, what is too short is filled. Names are cut in the middle, because topics and
clients differ at their ends; numbers are not cut at all.

Texts come from whoever connects to the server. What is not printable (escape sequences, marks that
turn the direction of writing) is replaced before it gets here or on the way in; see ``clean``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len

from .rings import POINTS
from .theme import Role

Span = tuple[str, Role]
"""A text and what it means."""

Spans = list[Span]
Line = tuple[Span, ...]
"""A line of the screen."""

EIGHTHS: Final = "▁▂▃▄▅▆▇█"
"""Bars of a sparkline, lowest first."""

_LEAST_LINE: Final = 8
"""Cells of a line that something can be read in."""

MAX_CHARACTERS: Final = 200
"""Of a name."""

CUT: Final = "…"
"""Stands for what did not fit."""


def clean(text: object, limit: int = MAX_CHARACTERS) -> str:
    """What may be shown of a text that somebody else made up.

    Source: whatever ``str.isprintable`` refuses: control and format characters, surrogates.
    """
    known = text if isinstance(text, str) else str(text)
    known = known[:limit]
    if known.isprintable():
        return known
    return "".join(character if character.isprintable() else "?" for character in known)


def width_of(text: str) -> int:
    """Cells that ``text`` takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """``text`` in exactly ``width`` cells, cut in the middle or filled with blanks."""
    size = width_of(text)
    if size > width:
        text = cut_middle(text, width)
        size = width_of(text)
    blanks = " " * (width - size)
    return blanks + text if right else text + blanks


def fit_number(text: str, width: int) -> str:
    """``text`` in exactly ``width`` cells, on the right; a number that does not fit is not told."""
    return fit(text if width_of(text) <= width else CUT, width, right=True)


def cut_middle(text: str, width: int) -> str:
    """The beginning and the end of ``text``, in no more than ``width`` cells."""
    if width_of(text) <= width:
        return text
    if width < 3:
        return _first_cells(text, width)
    kept = width - 1
    head = _first_cells(text, kept // 2)
    tail = _first_cells(text[::-1], kept - kept // 2)[::-1]
    return head + CUT + tail


def cut_end(text: str, width: int) -> str:
    """The beginning of ``text``, in no more than ``width`` cells."""
    if width_of(text) <= width:
        return text
    return _first_cells(text, max(0, width - 1)) + CUT[: max(0, width)]


def wrapped(text: str, first: int, others: int) -> list[str]:
    """``text`` in lines of up to ``first`` and then ``others`` cells, broken at blanks if it can.

    Where there is no room to speak of, what is left is one line, for somebody else to cut.
    """
    lines = []
    width = first
    while width_of(text) > width > _LEAST_LINE:
        line = _first_cells(text, width)
        blank = line.rfind(" ", width // 2)
        if blank > 0 and text[len(line)] != " ":
            line = line[:blank]
        lines.append(line)
        text = text[len(line) :].lstrip(" ")
        width = others
    return [*lines, text]


def fill(spans: Iterable[Span], width: int) -> Spans:
    """``spans`` in exactly ``width`` cells, cut at the end or filled with blanks."""
    found: Spans = []
    left = width
    for text, role in spans:
        size = width_of(text)
        if size > left:
            text = cut_end(text, left)
            size = width_of(text)
        if text:
            found.append((text, role))
            left -= size
        if left <= 0:
            break
    if left > 0:
        found.append((" " * left, "value"))
    return found


def spans_width(spans: Iterable[Span]) -> int:
    """Cells that ``spans`` take."""
    return sum(width_of(text) for text, _ in spans)


def as_many_as_fit(parts: Iterable[Spans], width: int) -> Spans:
    """The first ones of ``parts``, each whole, in no more than ``width`` cells."""
    found: Spans = []
    left = width
    for part in parts:
        left -= spans_width(part)
        if left < 0:
            break
        found += part
    return found


def sides(left: Sequence[Span], right: Sequence[Span], width: int) -> Spans:
    """``left`` and ``right`` at the ends of ``width`` cells; what is right gives way."""
    taken = spans_width(left) + spans_width(right)
    if taken > width:
        return fill(left, width)
    return [*left, (" " * (width - taken), "value"), *right]


def gauge(share: float | None, width: int, role: Role) -> Spans:
    """A bar that is filled from the left by ``share`` (0 to 1); blank if that is not known."""
    if share is None or math.isnan(share):
        return [(" " * width, "value")]
    full = round(min(1.0, max(0.0, share)) * width)
    return [("█" * full, role), ("░" * (width - full), "dim")]


def sparkline(points: Sequence[float | None], width: int) -> Spans:
    """Points as bars, the last one on the right; the highest one touches the top.

    There are fewer cells than points, mostly: a cell is the mean of the points that it stands
    for. Where nothing is known there is a blank.
    """
    padded = (None,) * (POINTS - len(points)) + tuple(points[-POINTS:])
    edges = [cell * POINTS // width for cell in range(width + 1)] if width > 0 else []
    cells = [_mean(padded[start : max(end, start + 1)]) for start, end in itertools.pairwise(edges)]
    top = max((cell for cell in cells if cell is not None), default=0.0)
    glyphs = "".join(" " if cell is None else EIGHTHS[_eighth(cell, top)] for cell in cells)
    runs = itertools.groupby(glyphs, lambda glyph: glyph == EIGHTHS[-1])
    return [("".join(run), "graph_peak" if peak else "graph") for peak, run in runs]


def split_bar(parts: Sequence[tuple[float, str, Role]], width: int) -> Spans:
    """A bar that is shared by ``parts``, (how much, glyph, role) each; blanks if there is nothing.

    Every cell belongs to one part; who lost most by rounding gets what is left over.
    """
    shares = [amount if math.isfinite(amount) and amount > 0 else 0.0 for amount, _, _ in parts]
    total = sum(shares)
    if not 0 < total < math.inf:
        return [(" " * width, "value")]
    exact = [share / total * width for share in shares]
    cells = [int(amount) for amount in exact]
    by_loss = sorted(range(len(parts)), key=lambda part: cells[part] - exact[part])
    for part in by_loss[: width - sum(cells)]:
        cells[part] += 1
    return [
        (glyph * count, role) for count, (_, glyph, role) in zip(cells, parts, strict=True) if count
    ]


def panel(title: Sequence[Span], lines: Sequence[Spans], width: int, height: int) -> list[Spans]:
    """A box of exactly ``width`` by ``height`` cells, at least 2 by 2, around ``lines``."""
    inner = width - 2
    shown = fill([("─ ", "dim"), *title, (" ", "title")], inner)
    head = _without_blanks(shown)
    rule = "─" * (inner - spans_width(head))
    box: list[Spans] = [[("╭", "dim"), *head, (rule + "╮", "dim")]]
    for row in range(height - 2):
        content = fill(lines[row], inner) if row < len(lines) else [(" " * inner, "value")]
        box.append([("│", "dim"), *content, ("│", "dim")])
    box.append([("╰" + "─" * inner + "╯", "dim")])
    return box


def beside(*columns: Sequence[Spans]) -> list[Spans]:
    """Blocks of the same height, side by side."""
    return [[span for part in parts for span in part] for parts in zip(*columns, strict=True)]


def joined(spans: Iterable[Span]) -> Line:
    """``spans`` with neighbours of the same role put together: less to draw."""
    line: Spans = []
    for text, role in spans:
        if line and line[-1][1] == role:
            line[-1] = (line[-1][0] + text, role)
        elif text:
            line.append((text, role))
    return tuple(line)


def _without_blanks(spans: Spans) -> Spans:
    """Without the filling at the end, but for one blank."""
    kept = list(spans)
    while kept and not kept[-1][0].strip():
        kept.pop()
    if kept:
        text, role = kept[-1]
        kept[-1] = (text.rstrip(), role)
        if spans_width(kept) < spans_width(spans):
            kept.append((" ", "dim"))
    return kept


def _first_cells(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for at, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return text[:at]
    return text


def _mean(points: Sequence[float | None]) -> float | None:
    known = [point for point in points if point is not None and math.isfinite(point)]
    return sum(known) / len(known) if known else None


def _eighth(value: float, top: float) -> int:
    return min(7, max(0, round(value / top * 7))) if top > 0 else 0
