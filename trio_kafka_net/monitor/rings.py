"""The last minute and the last ten of a figure, a point for every second and every ten."""

from __future__ import annotations

import math
from typing import Final

POINTS: Final = 60
"""Points that are kept."""

Points = tuple[float | None, ...]
"""Of equal length in time, oldest first, no more than ``POINTS``; None is not known."""


class Ring:
    """Points of equal length in time.

    What falls into the same point is averaged. A figure that comes less often than there are
    points fills those since the last one, because it tells about all that time; if it did not
    come for longer than the ring is long, the past is forgotten.
    """

    __slots__ = ("_number", "_points", "_sum", "_unit")

    def __init__(self, point_s: float) -> None:
        """Of points that are ``point_s`` seconds long."""
        self._unit = point_s
        self._points: dict[int, float | None] = {}
        self._sum = 0.0
        self._number = 0

    def add(self, at: float, value: float | None) -> None:
        """Put down ``value`` (None: not known) at the moment ``at`` (s); moments ascend."""
        point = math.floor(at / self._unit)
        points = self._points
        if points and point not in points:
            last = next(reversed(points))
            for missed in range(max(last + 1, point - POINTS), point):
                points[missed] = value
            self._sum = self._number = 0
        if value is not None and math.isfinite(value):
            self._sum += value
            self._number += 1
        points[point] = self._sum / self._number if self._number else None
        while (oldest := next(iter(points))) <= point - POINTS:
            del points[oldest]

    @property
    def points(self) -> Points:
        """What is kept."""
        return tuple(self._points.values())

    def copy(self) -> Ring:
        """One that goes on by itself."""
        ring = Ring(self._unit)
        ring._points = dict(self._points)
        ring._sum, ring._number = self._sum, self._number
        return ring


class History:
    """One figure: its last 60 seconds and its last 10 minutes."""

    __slots__ = ("_minute", "_ten_minutes")

    def __init__(self) -> None:
        """Begin."""
        self._minute = Ring(1.0)
        self._ten_minutes = Ring(10.0)

    def add(self, at: float, value: float | None) -> None:
        """Put down ``value`` at the moment ``at`` (s)."""
        self._minute.add(at, value)
        self._ten_minutes.add(at, value)

    def copy(self) -> History:
        """One that goes on by itself."""
        history = History()
        history._minute, history._ten_minutes = self._minute.copy(), self._ten_minutes.copy()
        return history

    def points(self, *, slow: bool) -> Points:
        """The last minute in seconds or, ``slow``, the last ten in points of ten seconds."""
        return (self._ten_minutes if slow else self._minute).points
