"""Standard output that takes no more: a pipe whose reader has left, a disk that is full.

At its end Python writes what is still buffered, fails again, and exits with a code of its own. So
whoever ends the program because of that first puts something in place that takes everything.
"""

from __future__ import annotations

import os
import sys


def forget_output() -> None:
    """Have standard output take whatever is written, and keep nothing of it."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
