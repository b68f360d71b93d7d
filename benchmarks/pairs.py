"""Side by side, in turn, and what is said about it.

A shared machine drifts. So contestants run alternately in one invocation, each round gives one
ratio, and the median of the ratios is what counts.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen
class Effort:
    """How long to measure."""

    pairs: int
    seconds: float


@attrs.frozen
class Goal:
    """What a figure shall be."""

    limit: float
    is_most: bool = False
    """At most, not at least."""

    def is_reached_by(self, figure: float) -> bool:
        """Whether a figure will do."""
        return figure <= self.limit if self.is_most else figure >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {self.limit:g}"


@attrs.frozen
class Row:
    """One line of the table."""

    what: str
    unit: str
    ours: float
    peer: str = "–"
    theirs: float | None = None
    ratio: float | None = None
    """Ours / theirs, median of the pairs; without a peer the goal is for ``ours``."""
    goal: Goal | None = None

    def __str__(self) -> str:
        theirs, ratio = (
            "–" if figure is None else f"{figure:,.{digits}f}"
            for figure, digits in ((self.theirs, _digits(self.ours)), (self.ratio, 2))
        )
        reached = "–" if self.goal is None else ("yes" if self.is_reached else "NO")
        ours = f"{self.ours:,.{_digits(self.ours)}f}"
        return (
            f"{self.what:<46} {self.unit:>6} {ours:>10} {self.peer:>9} {theirs:>10}"
            f" {ratio:>6} {self.goal or '–'!s:>7} {reached:>7}"
        )

    @property
    def is_reached(self) -> bool:
        """Whether the goal, if there is one, is reached."""
        figure = self.ours if self.ratio is None else self.ratio
        return self.goal is None or self.goal.is_reached_by(figure)


HEAD = f"{'':<46} {'':>6} {'ours':>10} {'peer':>9} {'theirs':>10} {'ratio':>6} {'goal':>7} reached"


def _digits(figure: float) -> int:
    return 0 if figure >= 1000 else 1 if figure >= 10 else 3


def alternately(
    contestants: Iterable[str], pairs: int, run: Callable[[str], T]
) -> dict[str, list[T]]:
    """Let each run in turn, ``pairs`` times; {contestant: what its runs returned}."""
    names = list(contestants)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(pairs):
        # The second of a pair finds a warmer machine; so who is first changes.
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(run(name))
    return results


def against_peers(
    what: str,
    unit: str,
    results: Mapping[str, list[float]],
    goals: Mapping[str, Goal | None],
) -> list[Row]:
    """A line for each contestant that is not "ours"."""
    ours = results["ours"]
    return [
        Row(
            what,
            unit,
            statistics.median(ours),
            name,
            statistics.median(theirs),
            statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
            goals.get(name),
        )
        for name, theirs in results.items()
        if name != "ours"
    ]


def machine() -> str:
    """What a figure depends on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"Python {platform.python_version()}, trio {version('trio')}, {os.cpu_count()} CPUs, "
        f"{model}, {platform.system()} {platform.release()}"
    )
