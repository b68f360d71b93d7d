"""Reading a page of metrics in Prometheus' text format.

Own code, because a monitor reads the same few thousand lines every second: what varies is the
number at the end of a line, so the text of the labels is taken apart once and remembered. Only
samples are kept; comments (``# HELP``, ``# TYPE``) and timestamps say nothing that a screen shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from ..errors import TrioKafkaError

Labels = tuple[tuple[str, str], ...]
"""Pairs of name and value, in the order of the page."""

Samples = Mapping[str, Mapping[Labels, float]]
"""{name of the sample, ``_bucket`` and the like included: {its labels: its number}}."""

REMEMBERED_LABELS: Final = 1 << 16
"""Texts of labels that are kept taken apart: more than a page that is fit to be shown has."""

MAX_SERIES_CHARACTERS: Final = 1 << 18
"""Of a name with its labels: the longest one of a broker is a group's, of 32 KiB and escaped."""

_NAME: Final = re.compile(r"[a-zA-Z_:][\w:]*", re.ASCII)
_PAIR: Final = re.compile(
    r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)', re.ASCII | re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "\\": "\\", '"': '"'}


class PageError(TrioKafkaError):
    """What was read is no page of metrics, or no recording of one; nothing of it was used."""


def parse_page(text: str) -> dict[str, dict[Labels, float]]:
    """Every sample of a page.

    Args:
        text: in the Prometheus text format 0.0.4.

    Raises:
        PageError: a line that is neither a sample nor a comment.

    Cost: a microsecond for a line that came before with another number.
    """
    samples: dict[str, dict[Labels, float]] = {}
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        series, _, number = line.rpartition(" ")
        try:
            name, labels = parse_series(series)
            value = float(number)
        except ValueError:
            if not line.strip() or line.lstrip()[0] == "#":
                continue
            name, labels, value = _parse_at_leisure(line)
        family = samples.get(name)
        if family is None:
            family = samples[name] = {}
        family[labels] = value
    return samples


def _parse_at_leisure(line: str) -> tuple[str, Labels, float]:
    """A line that has more, or other, blanks than the usual one, or a timestamp."""
    head, brace, tail = line.rpartition("}")
    fields = tail.split()
    if not brace and fields:
        head = fields.pop(0)
    try:
        name, labels = parse_series(head + brace)
        if not 1 <= len(fields) <= 2:
            raise ValueError(line)
        return name, labels, float(fields[0])
    except ValueError:
        raise PageError(f"not a line of a metrics page: {line[:80]!r}") from None


@lru_cache(maxsize=REMEMBERED_LABELS)
def parse_series(text: str) -> tuple[str, Labels]:
    """Name and labels, from what stands before the number.

    Raises:
        ValueError: it is nothing of that kind.
    """
    if len(text) > MAX_SERIES_CHARACTERS:
        raise ValueError(text[:80])
    name, brace, rest = text.partition("{")
    name = name.strip()
    if not _NAME.fullmatch(name) or (brace and rest[-1:] != "}"):
        raise ValueError(text)
    return name, parse_labels(rest[:-1]) if brace else ()


@lru_cache(maxsize=REMEMBERED_LABELS)
def parse_labels(text: str) -> Labels:
    """What stands between the braces, taken apart.

    Raises:
        ValueError: it is not a list of ``name="value"``.
    """
    pairs = []
    position = 0
    end = len(text)
    while position < end:
        match = _PAIR.match(text, position)
        if match is None:
            if text[position:].isspace():
                break
            raise ValueError(text[position:])
        name, value = match.groups()
        pairs.append((name, _ESCAPE.sub(_unescaped, value) if "\\" in value else value))
        position = match.end()
    return tuple(pairs)


def format_labels(labels: Labels) -> str:
    """The text that ``parse_labels`` takes apart."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels)


def _unescaped(match: re.Match[str]) -> str:
    character = match[1]
    return _ESCAPED.get(character, "\\" + character)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
