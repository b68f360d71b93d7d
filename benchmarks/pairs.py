"""Side by side, in turn, and what is said about it.

A shared machine drifts. So contestants run alternately in one invocation, each round gives one
ratio, and the median of the ratios is what counts. Beside it stand the quartiles of the ratios, the
middle half of them: a goal that lies between them is neither reached nor missed for sure, and its
verdict has a question mark.

A contestant that cannot be had here, or that fails, is absent with a reason; only ours has to work.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import attrs
from peers import OURS

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
    obstacle: str = ""
    """One word: what stands in the way while it is missed."""

    def is_reached_by(self, figure: float) -> bool:
        """Whether a figure will do."""
        return figure <= self.limit if self.is_most else figure >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {self.limit:g}"


@attrs.frozen
class Spread:
    """A median and the quartiles around it; of few figures these are their ends."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Of one figure or more."""
        if len(figures) < 2:
            return cls(figures[0], figures[0], figures[0])
        low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        if self.low == self.high:
            return "–"
        digits = 2 if self.high < 10 else _digits(self.high)
        return f"{self.low:,.{digits}f}–{self.high:,.{digits}f}"


@attrs.frozen
class Row:
    """One line of the table."""

    what: str
    unit: str = ""
    ours: float | None = None
    peer: str = "–"
    theirs: float | None = None
    judged: Spread | None = None
    """Ours / theirs, of the pairs; without a peer ours. What the goal is for."""
    goal: Goal | None = None
    work: str = "–"
    """What the servers' processes worked, ours/theirs."""
    absent: str = ""
    """Why there are no figures."""

    def __str__(self) -> str:
        if self.absent:
            return f"{self.what:<44} {self.peer:>36}   not measured: {self.absent}"
        ratio = "–" if self.theirs is None or self.judged is None else f"{self.judged.median:.2f}"
        return (
            f"{self.what:<44} {self.unit:>5} {_short(self.ours):>8} {self.peer:>9}"
            f" {_short(self.theirs):>8} {ratio:>6} {self.judged or '–'!s:>11} {self.work:>15}"
            f" {self.goal or '–'!s:>6} {self.verdict}"
        )

    @property
    def is_reached(self) -> bool:
        """Whether the goal, if there is one, is reached."""
        if self.goal is None or self.judged is None:
            return True
        return self.goal.is_reached_by(self.judged.median)

    @property
    def verdict(self) -> str:
        """Whether the goal is reached, how sure that is, and what stands in the way."""
        if self.goal is None or self.judged is None:
            return "–"
        quartiles = {self.goal.is_reached_by(self.judged.low)}
        quartiles.add(self.goal.is_reached_by(self.judged.high))
        doubt = "?" if len(quartiles) > 1 else ""
        if self.is_reached:
            return f"yes{doubt}"
        return f"NO{doubt} {self.goal.obstacle}".rstrip()


HEAD = (
    f"{'':<44} {'':>5} {'ours':>8} {'peer':>9} {'theirs':>8} {'ratio':>6} {'quartiles':>11}"
    f" {'servers worked':>15} {'goal':>6} reached"
)


def _short(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:,.{_digits(figure)}f}"


def _digits(figure: float) -> int:
    return 0 if figure >= 100 else 1 if figure >= 10 else 2


class Results(dict[str, list[T]]):
    """{contestant: what its runs returned}."""

    def __init__(self, names: Iterable[str], absent: Mapping[str, str] | None = None) -> None:
        """Nothing measured yet."""
        super().__init__((name, []) for name in names)
        self.absent = dict(absent or {})
        """{contestant that did not run: why}."""


def alternately(
    contestants: Iterable[str],
    pairs: int,
    run: Callable[[str], T],
    absent: Mapping[str, str] | None = None,
) -> Results[T]:
    """Let each run in turn, ``pairs`` times.

    Args:
        contestants: those that take part, ours among them.
        pairs: how many rounds.
        run: measures a contestant once.
        absent: {contestant that is not asked at all: why}; becomes part of the results.

    Raises:
        Exception: whatever ``run`` raises for ours. A peer that fails is left out and absent.
    """
    results: Results[T] = Results(contestants, absent)
    for number in range(pairs):
        # The second of a pair finds a warmer machine; so who is first changes.
        for name in list(results) if number % 2 == 0 else list(reversed(results)):
            try:
                results[name].append(run(name))
            except Exception as error:
                if name == OURS:
                    raise
                print(f"without {name}: {error}", file=sys.stderr)
                results.absent[name] = _one_line(error)
                del results[name]
    return results


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:60] or type(error).__name__


def against_peers(
    what: str,
    unit: str,
    results: Results[T],
    figure: Callable[[T], float],
    goals: Mapping[str, Goal],
    work: tuple[str, Callable[[T], float]] | None = None,
) -> list[Row]:
    """A line for each contestant that is not ours, those that were absent included.

    Args:
        what: the first column.
        unit: of the figures.
        results: of ``alternately``.
        figure: what counts of a run.
        goals: {peer: goal for the ratio ours / theirs}.
        work: unit and figure of what the server worked.
    """
    ours = [figure(run) for run in results[OURS]]
    rows = []
    for name, runs in results.items():
        if name == OURS:
            continue
        theirs = [figure(run) for run in runs]
        rows.append(
            Row(
                what,
                unit,
                statistics.median(ours),
                name,
                statistics.median(theirs),
                Spread.of([mine / other for mine, other in zip(ours, theirs, strict=True)]),
                goals.get(name),
                _work(results[OURS], runs, *work) if work else "–",
            )
        )
    if not rows:
        rows.append(alone(what, unit, ours))
    rows += [Row(what, peer=name, absent=reason) for name, reason in results.absent.items()]
    return rows


def _work(ours: list[T], theirs: list[T], unit: str, worked: Callable[[T], float]) -> str:
    both = (statistics.median(map(worked, runs)) for runs in (ours, theirs))
    return "/".join(map(_short, both)) + f" {unit}"


def alone(what: str, unit: str, figures: Sequence[float], goal: Goal | None = None) -> Row:
    """A line without a peer; the goal is for the figure itself."""
    spread = Spread.of(figures)
    return Row(what, unit, spread.median, judged=spread, goal=goal)


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
