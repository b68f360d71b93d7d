r"""Reading ``server.properties``: the syntax of ``java.util.Properties``.

A line is ``key=value``, ``key:value`` or ``key value``; ``#`` and ``!`` begin a comment; a line
that ends in an odd number of backslashes goes on in the next one, whose indentation is dropped;
``\t \n \r \f`` and ``\uXXXX`` are escapes, any other escaped character stands for itself. Files
are ISO-8859-1, as in Java; what lies outside it is written ``\uXXXX``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from trio_kafka_net.errors import ConfigError

_LINE_END = re.compile(r"\r\n|\r|\n")
_BLANKS = " \t\f"
# An escaped pair is one unit, so an escaped separator does not end the key.
_KEY_AND_VALUE = re.compile(
    r"(?P<key>(?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(?P<value>.*)", re.DOTALL
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.|$)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def read_properties(path: str | os.PathLike[str]) -> dict[str, str]:
    r"""Read a file in Java's properties syntax.

    Args:
        path: the file; ISO-8859-1 with ``\uXXXX`` escapes.

    Returns:
        {key: value}, both unescaped; the last of several equal keys wins.

    Raises:
        ConfigError: the file cannot be read, or a ``\u`` is not followed by four hexadecimal
            digits; the text names file and line.

    Source: ``java.util.Properties.load``.
    """
    try:
        text = Path(path).read_bytes().decode("iso-8859-1")
    except OSError as error:
        raise ConfigError(f"cannot read {os.fspath(path)}: {error.strerror}") from error
    properties: dict[str, str] = {}
    for number, line in _logical_lines(text):
        match = _KEY_AND_VALUE.fullmatch(line)
        assert match is not None, "every part of the pattern may be empty"
        try:
            properties[_unescape(match["key"])] = _unescape(match["value"])
        except ValueError as error:
            raise ConfigError(f"{os.fspath(path)}, line {number}: {error}") from None
    return properties


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, continuations joined, each with the number it begins at."""
    pending: str | None = None
    begin = 0
    for number, natural in enumerate(_LINE_END.split(text), start=1):
        line = natural.lstrip(_BLANKS)
        if pending is None:
            begin = number
            if not line or line[0] in "#!":
                continue
        is_continued = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        line = (pending or "") + (line[:-1] if is_continued else line)
        pending = line if is_continued else None
        if not is_continued:
            yield begin, line
    if pending:
        yield begin, pending


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    unescaped = _ESCAPE.sub(_replacement, text)
    # Java escapes what lies beyond U+FFFF as two surrogates: make them one character.
    return unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _replacement(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped == "u":
        raise ValueError("\\u must be followed by four hexadecimal digits")
    if escaped[:1] == "u":
        return chr(int(escaped[1:], 16))
    return _CONTROL.get(escaped, escaped)
