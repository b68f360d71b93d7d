"""Every benchmark that has a goal, in one table.

    python benchmarks/run.py [--quick] [--only WORD]... [--pairs 5] [--seconds 1.5] [--no-save]

Contestants run alternately, each pair gives a ratio, quoted is the median of the ratios beside the
medians of the figures. ``--quick`` makes one short pair of each: whether it works, not how fast
it is. ``--only echo`` runs the scripts with that word in their name. The table goes to standard
output and, with date, machine and versions, into ``benchmarks/results``; peers that cannot run
here are named and left out. It takes about eight minutes.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import sys

import peers
from pairs import HEAD, Effort, Row, machine

SCRIPTS = ("echo", "small", "bulk", "control_plane", "connections", "cold_start")
"""Modules beside this one with a function ``rows``."""


def main() -> None:
    """Print the table; the exit code says nothing about goals, for machines are noisy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", metavar="WORD", default=[])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    effort = Effort(1, 0.3) if options.quick else Effort(options.pairs, options.seconds)
    now = datetime.datetime.now(datetime.UTC)
    lines = [
        f"# {now:%Y-%m-%d %H:%M} UTC, {machine()}",
        f"# {effort.pairs} pairs of {effort.seconds:g} s; peers: {peers.versions()}",
        HEAD,
    ]
    print("\n".join(lines), flush=True)
    missed: list[Row] = []
    for name in SCRIPTS:
        if options.only and not any(word in name for word in options.only):
            continue
        for row in importlib.import_module(name).rows(effort):
            lines.append(str(row))
            print(row, flush=True)
            if not row.is_reached:
                missed.append(row)
    load = "/".join(f"{each:.1f}" for each in os.getloadavg())
    lines.append(f"# {len(missed)} goals missed; load average of the machine {load}")
    print(lines[-1])
    if not options.quick and not options.no_save:
        path = peers.HERE / "results" / f"{now:%Y-%m-%d-%H%M}-bench.txt"
        path.write_text("\n".join(lines) + "\n")
        print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
