"""Every benchmark that has a goal, in one table.

    python benchmarks/run.py [--quick] [--only WORD]... [--pairs 6] [--seconds 1] [--no-save]

Contestants run alternately, each pair gives a ratio, judged is the median of the ratios; beside it
stand their quartiles. A verdict with a question mark has its goal between them. ``servers
worked`` is the processor time of both servers, all threads, per request or per GB. Before the rows
of one measurement a line says how busy the machine was, and warns if that was not only us. The
word behind NO says what stands in the way; docs/design/0005-where-the-time-goes.md has more of it.

``--quick`` makes one short pair of each, in two minutes: whether it works, not how fast it is.
``--only echo`` runs the scripts with that word in their name. The table goes to standard output
and, with date, machine and versions, into ``benchmarks/results``. A peer that cannot run here gets
a row that says why. It takes about nine minutes.

Exit codes: 0, and 1 if something could not be measured at all. Goals do not count, for machines
are noisy.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import sys
import traceback
from collections.abc import Iterator

import attrs
import peers
from neighbours import Moment, Neighbours
from pairs import HEAD, Effort, Row, machine

SCRIPTS = (
    *("echo", "small", "bulk", "codec", "control_plane"),
    *("hostile_requests", "connections", "cold_start"),
)
"""Modules beside this one with a function ``rows``."""
OBSTACLES = "docs/design/0005-where-the-time-goes.md"
SAME_MEASUREMENT_SECONDS = 0.05
"""Rows that come sooner after one another are of the same runs."""


@attrs.define
class Table:
    """What is printed, and kept for the file."""

    lines: list[str] = attrs.Factory(list)
    missed: int = 0
    noisy: int = 0
    """Measurements that something else disturbed."""
    failed: list[str] = attrs.Factory(list)

    def add(self, line: str) -> None:
        """One line, at once."""
        self.lines.append(line)
        print(line, flush=True)

    def measure(self, name: str, effort: Effort) -> None:
        """All rows of a script; what it raises becomes a line, for the others can still run."""
        try:
            for row, neighbours in beside_neighbours(importlib.import_module(name).rows(effort)):
                if neighbours is not None:
                    self.noisy += not neighbours.are_quiet
                    self.add(f"# {neighbours}")
                self.missed += not row.is_reached
                self.add(str(row))
        except Exception as error:
            traceback.print_exc()
            self.failed.append(name)
            self.add(f"# {name} was not measured: {str(error) or type(error).__name__}")


def beside_neighbours(rows: Iterator[Row]) -> Iterator[tuple[Row, Neighbours | None]]:
    """Rows, and for the first of each measurement who else was at work meanwhile."""
    is_first = True
    while True:
        load, before = os.getloadavg()[0], Moment.now()
        row = next(rows, None)
        if row is None:
            return
        after = Moment.now()
        is_new = is_first or after.wall - before.wall > SAME_MEASUREMENT_SECONDS
        is_first = False
        yield row, Neighbours.between(before, after, os.cpu_count() or 1, load) if is_new else None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", metavar="WORD", default=[])
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    effort = Effort(1, 0.3) if options.quick else Effort(options.pairs, options.seconds)
    now = datetime.datetime.now(datetime.UTC)
    table = Table()
    table.add(f"# {now:%Y-%m-%d %H:%M} UTC, {machine()}")
    table.add(f"# {effort.pairs} pairs of {effort.seconds:g} s; peers: {peers.versions()}")
    table.add(HEAD)
    for name in SCRIPTS:
        if not options.only or any(word in name for word in options.only):
            table.measure(name, effort)
    table.add(f"# {table.missed} goals missed: what stands in the way, {OBSTACLES}")
    if table.noisy:
        table.add(
            f"# WARNING: {table.noisy} measurements were disturbed: take their ratios lightly"
        )
    if not options.quick and not options.no_save:
        path = peers.HERE / "results" / f"{now:%Y-%m-%d-%H%M}-bench.txt"
        path.write_text("\n".join(table.lines) + "\n")
        print(f"written to {path}", file=sys.stderr)
    raise SystemExit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
