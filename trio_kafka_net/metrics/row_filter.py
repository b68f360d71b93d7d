"""A filter over rows of text, in the part of regular expressions that cannot take for ever.

Python's ``re`` tries all ways to match and holds the interpreter while it does: a short pattern of
a client could stop the broker with it. So only this much is understood: literals and escapes,
``.``, ``[...]``, ``.*`` and ``.+``, ``^`` and ``$`` at the ends, ``|`` between alternatives. An
alternative is then pieces of fixed length that follow one another at any distance, and finding them
from left to right needs no second try.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

MAX_PATTERN: Final = 200
"""Characters of a pattern."""

_TOKEN = re.compile(
    r"""\.(?P<any>[*+])            # a gap
    |(?P<one>\.|\\[^A-Za-z0-9]|\\[dDsSwW]|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\\[\](){}*+?|^$.])
    |(?P<bar>\|)|(?P<start>\^)|(?P<end>\$)""",
    re.VERBOSE,
)


class FilterError(ValueError):
    """A pattern that is not understood; the text says why."""


@attrs.define
class _Alternative:
    """Pieces of fixed length that follow one another at any distance."""

    pieces: list[str] = attrs.field(factory=lambda: [""])
    lengths: list[int] = attrs.field(factory=lambda: [0])
    at_start: bool = False
    at_end: bool = False

    def compiled(self) -> _Pieces:
        try:
            pieces = [re.compile(piece, re.IGNORECASE) for piece in self.pieces]
        except re.error as error:
            raise FilterError(f"not a pattern: {error}") from error
        return _Pieces(pieces, self.lengths[-1], self.at_start, self.at_end)


@attrs.frozen
class _Pieces:
    """An alternative that is ready."""

    pieces: list[re.Pattern[str]]
    last_length: int
    at_start: bool
    at_end: bool

    def matches(self, text: str) -> bool:
        position = 0
        last = len(self.pieces) - 1
        for number, piece in enumerate(self.pieces):
            if number == last and self.at_end:
                start = len(text) - self.last_length
                is_fixed = number == 0 and self.at_start
                if start < position or (is_fixed and start):
                    return False
                return piece.match(text, start) is not None
            found = (
                piece.match(text) if number == 0 and self.at_start else piece.search(text, position)
            )
            if found is None:
                return False
            position = found.end()
        return True


class RowFilter:
    """Chooses rows; upper and lower case are the same."""

    def __init__(self, pattern: str) -> None:
        """Understand a pattern; a ``!`` in front chooses the other rows.

        Raises:
            FilterError: it is too long, or has more than is understood.
        """
        if len(pattern) > MAX_PATTERN:
            raise FilterError(f"longer than {MAX_PATTERN} characters")
        self._is_inverted = pattern.startswith("!")
        self._alternatives = _parse(pattern[self._is_inverted :])

    def matches(self, text: str) -> bool:
        """Whether a row is chosen."""
        return self._is_inverted != any(each.matches(text) for each in self._alternatives)


def _parse(pattern: str) -> list[_Pieces]:
    alternatives = [_Alternative()]
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            raise FilterError(
                f"{pattern[position]!r} at {position}: only literals, '.', '[...]', '.*', '.+', "
                "'^', '$' and '|' are understood; write \\ before a literal"
            )
        position = token.end()
        if token["bar"]:
            alternatives.append(_Alternative())
        else:
            _add(alternatives[-1], token)
    return [each.compiled() for each in alternatives]


def _add(alternative: _Alternative, token: re.Match[str]) -> None:
    if alternative.at_end:
        raise FilterError("'$' is only understood at the end")
    if token["any"]:
        if token["any"] == "+":
            alternative.pieces[-1] += "."
            alternative.lengths[-1] += 1
        alternative.pieces.append("")
        alternative.lengths.append(0)
    elif token["start"]:
        if alternative.pieces != [""] or alternative.at_start:
            raise FilterError("'^' is only understood at the beginning")
        alternative.at_start = True
    elif token["end"]:
        alternative.at_end = True
    else:
        alternative.pieces[-1] += token["one"]
        alternative.lengths[-1] += 1
