"""Curves as SVG, without a plotting library: logarithmic axes, a line per series, a legend.

A white card with a thin edge, so that it can be read on a dark page as well; nothing is scripted
or linked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 80, 196, 44, 56
COLOURS = ("#3b82c4", "#d9822b", "#4a9d5b", "#b04a8f", "#8a7a3d")

Series = Mapping[str, Iterable[tuple[float, float]]]
"""{name: points}; every coordinate is above zero."""


def curves(path: Path, title: str, x_label: str, y_label: str, series: Series) -> None:
    """Write one picture."""
    lines = {name: sorted(points) for name, points in series.items()}
    points = [point for line in lines.values() for point in line]
    x_axis = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6" fill="#ffffff" '
        'stroke="#d0d0d0"/>',
        _text(LEFT, 26, title, weight="bold"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, x_label, anchor="middle"),
        _upward(22, (TOP + HEIGHT - BOTTOM) / 2, y_label),
    ]
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(_text(x, HEIGHT - BOTTOM + 16, _short(value), anchor="middle"))
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 6, y + 4, _short(value), anchor="end"))
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in line]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = TOP + 16 * number + 8
        x = WIDTH - RIGHT + 12
        parts.append(f'<rect x="{x}" y="{y - 8}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 16, y + 1, name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


class _Axis:
    """Places values between two coordinates, by their logarithm."""

    def __init__(self, values: list[float], begin: float, end: float) -> None:
        self._low, self._high = min(values) / 1.15, max(values) * 1.15
        self._begin, self._end = begin, end

    def place(self, value: float) -> float:
        share = math.log(value / self._low) / math.log(self._high / self._low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
        all_steps = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        inside = [value for value in all_steps if self._low <= value <= self._high]
        if len(inside) <= 8:
            return inside
        return [value for value in inside if math.log10(value) % 1 < 0.01]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        'stroke="#d0d0d0" stroke-width="1"/>'
    )


def _upward(x: float, y: float, text: str) -> str:
    """Beside an axis; the coordinates are of its middle."""
    return (
        f'<g transform="translate({x:.1f} {y:.1f}) rotate(-90)">{_text(0, 0, text, "middle")}</g>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="#404040">{escaped}</text>'
    )
