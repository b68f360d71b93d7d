"""Numbers in no more than six cells, the same number always the same way.

Whatever a server sends is written somehow: what is not known, or no number, is a dash. Larger
numbers never look smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

UNKNOWN: Final = "–"
INFINITE: Final = "∞"

Format = Callable[[float], str]
"""Writes a finite number that is not negative."""

_GREATEST: Final = 1e300
"""Beyond it, units cannot be changed any more."""

_PREFIXES: Final = "kMGTPE"
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400


def written(value: float | None, how: Format) -> str:
    """Any number at all, the ordinary ones by ``how``."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if abs(value) > _GREATEST:
        return INFINITE if value > 0 else "-" + INFINITE
    if value < 0:
        text = how(-value)
        return text if set(text) <= {"0", "."} else "-" + text
    return how(value)


def figure(value: float) -> str:
    """A count, or a rate: 0, 0.4, 3, 12,430, 100.0k."""
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0") or "0"
    if value < 99_999.5:
        return f"{value:,.0f}"
    return _prefixed(value, 4)


def tenths(value: float) -> str:
    """A figure that is mostly small: 0.0, 0.4, 212, 12.4k."""
    return f"{value:.1f}" if value < 99.95 else scaled(value)


def scaled(value: float) -> str:
    """With the prefix that it needs: 812, 1.1k, 48.2k, 18.2G."""
    return f"{value:.0f}" if value < 999.5 else _prefixed(value, 0)


def of_bytes(value: float) -> str:
    """As ``scaled`` in thousands at least: 0.0k, 0.9k, 16.4M."""
    return f"{value / 1e3:.1f}k" if value < 999_950 else _prefixed(value, 0)


def size(value: float) -> str:
    """Bytes that lie somewhere, in five characters: 0, 812, 88M, 18.2G, 454k."""
    number, point, rest = scaled(value).partition(".")
    if point and (rest[0] == "0" or len(number) == 3):
        return number + rest[1:]
    return number + point + rest


def milliseconds(value: float) -> str:
    """Seconds, in ms: 0.11, 41.2, 498., 2.9e3."""
    value *= 1e3
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}." if value < 999.5 else _exponential(value)


def tenths_of_ms(value: float) -> str:
    """Seconds, in ms: 0.2, 41.2, 498.0, 2.9e3."""
    value *= 1e3
    return f"{value:.1f}" if value < 999.95 else _exponential(value)


def percent(value: float) -> str:
    """A share, 0 to 1: 0%, 52%, 100%."""
    value *= 100
    return f"{value:.0f}%" if value < 9_999.5 else ">9999%"


def duration(value: float) -> str:
    """Seconds, as long as that may be: <1s, 12s, 3m10s, 2h05m, 2d04h, 812d."""
    if value < 1:
        return "<1s"
    seconds = int(value)
    if seconds < _MINUTE:
        return f"{seconds}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m{seconds % _MINUTE:02}s"
    if seconds < _DAY:
        return f"{seconds // _HOUR}h{seconds % _HOUR // _MINUTE:02}m"
    if seconds < 100 * _DAY:
        return f"{seconds // _DAY}d{seconds % _DAY // _HOUR:02}h"
    days = seconds // _DAY
    return f"{days}d" if days < 100_000 else f"{days:.0e}d".replace("e+", "e")


def age(value: float) -> str:
    """Seconds, mostly short: 3ms, 212ms, 1.1s, 12s, 3m10s."""
    if value < 0.9995:
        return f"{value * 1e3:.0f}ms"
    return f"{value:.1f}s" if value < 9.95 else duration(value + 0.5)


def plain(value: float) -> str:
    """Written out: 16412345, 0.4; only what would be longer than twelve cells is not."""
    if value >= 1e12:
        return _prefixed(value, 4)
    return f"{value:.1f}" if value < 100 and not value.is_integer() else f"{value:.0f}"


def with_unit(value: float | None, unit: str, *, raw: bool = False) -> tuple[str, str]:
    """A rate and its unit: (``48.2``, ``MB/s``), (``61.4``, ``k/s``), (``0.4``, ``/s``)."""
    if value is None or not math.isfinite(value):
        return written(value, figure), f"{unit}/s"
    if raw:
        return written(value, plain), f"{unit}/s"
    text = written(
        value, lambda number: _prefixed(number, 0) if number >= 999.5 else tenths(number)
    )
    prefix = text[-1] if text[-1].isalpha() else ""
    return text.removesuffix(prefix), f"{prefix}{unit}/s"


def in_one_unit(values: Iterable[float | None], cells: int = 6) -> Format:
    """How to write ``values`` with the prefix that the greatest of them needs.

    Numbers in a column that is sorted by them can then be compared by their looks. If the greatest
    has no room for it in so many ``cells``, there is no decimal.
    """
    known = [abs(value) for value in values if value is not None and math.isfinite(value)]
    greatest = max(known, default=0.0)
    power = min(_power(greatest), len(_PREFIXES))
    if power <= 0 or greatest >= 1e21:
        return scaled if greatest >= 1e21 else figure
    divisor, prefix = 1000.0**power, _PREFIXES[power - 1]
    decimals = 1 if len(f"{greatest / divisor:.1f}{prefix}") <= cells else 0
    return lambda value: f"{value / divisor:.{decimals}f}{prefix}"


def _power(value: float) -> int:
    """Of a thousand, such that ``value`` in it has up to three digits, as it is rounded."""
    power = 0
    while value >= 999.95 and power <= len(_PREFIXES):
        value /= 1000
        power += 1
    return power


def _prefixed(value: float, digits: int) -> str:
    """With a prefix; ``digits`` that are significant, or 0: one decimal."""
    for prefix in _PREFIXES:
        value /= 1000
        if digits:
            for decimals, limit in ((3, 9.9995), (2, 99.995), (1, 999.95)):
                if value < limit:
                    return f"{value:.{decimals}f}{prefix}"
        elif value < 999.95:
            return f"{value:.1f}{prefix}"
    return f"{value:.0e}".replace("e+", "e") + _PREFIXES[-1]


def _exponential(value: float) -> str:
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    text = f"{mantissa}e{int(exponent)}"
    return text if len(text) <= 6 else f"{value:.0e}".replace("e+", "e")
