"""Log records while a screen is up: they would tear it, so they wait.

What a broker logs is on the monitor's own log view; when the screen is gone, everything is written
where it would have been, so nothing is lost but by its age.
"""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MAX_HELD: Final = 1_000
"""Records that wait for a terminal; older ones are dropped."""


class _Held(logging.Handler):
    """In place of a handler that writes on the terminal."""

    def __init__(self, replaced: logging.Handler) -> None:
        super().__init__(replaced.level)
        self.replaced = replaced
        self.records: deque[logging.LogRecord] = deque(maxlen=MAX_HELD)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def logs_held() -> Iterator[None]:
    """Have nothing logged on a terminal for the time of a block; it is written at its end.

    Handlers that write into files go on as they are.
    """
    root = logging.getLogger()
    held = [_Held(each) for each in root.handlers if _is_on_terminal(each)]
    for each in held:
        root.removeHandler(each.replaced)
        root.addHandler(each)
    try:
        yield
    finally:
        for each in held:
            root.removeHandler(each)
            root.addHandler(each.replaced)
            for record in each.records:
                each.replaced.handle(record)


def _is_on_terminal(handler: logging.Handler) -> bool:
    if not isinstance(handler, logging.StreamHandler):
        return False
    stream = handler.stream
    return isinstance(stream, io.IOBase) and not stream.closed and stream.isatty()
