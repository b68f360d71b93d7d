"""The process as the system sees it: the figures that every Prometheus client library has.

Read from ``/proc`` where there is one, in whatever thread renders a page; elsewhere only processor
time is told.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from . import names
from .registry import Family, Metric, Sample

_PROC = Path("/proc")
_START_FIELD = 19
"""Of ``/proc/self/stat``, after the name in parentheses; see proc(5)."""


def process_families() -> Iterator[Family]:
    """Every figure of this process; blocks for a fraction of a millisecond."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield _family(names.PROCESS_CPU, usage.ru_utime + usage.ru_stime)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield _family(names.PROCESS_MAX_FDS, limit)
    with contextlib.suppress(OSError):
        yield _family(names.PROCESS_MEMORY, _resident_bytes())
        yield _family(names.PROCESS_OPEN_FDS, len(os.listdir(_PROC / "self" / "fd")))
        yield _family(names.PROCESS_START_TIME, _start_time())


def _family(metric: Metric, value: float) -> Family:
    return Family(metric, (Sample((), value),))


def _resident_bytes() -> int:
    pages = (_PROC / "self" / "statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _start_time() -> float:
    stat = (_PROC / "self" / "stat").read_bytes()
    ticks = int(stat.rpartition(b")")[2].split()[_START_FIELD])
    for line in (_PROC / "stat").read_bytes().splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    raise OSError("/proc/stat has no btime")
