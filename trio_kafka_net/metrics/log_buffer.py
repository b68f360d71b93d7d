"""The last warnings, for whoever looks at a broker from outside.

A handler of the ``trio_kafka_net`` loggers that keeps texts and nothing else: what a record refers
to is not kept alive. It belongs to one broker and is there as long as that runs; several brokers of
a process see the same records.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

CAPACITY: Final = 200
"""Records that are kept."""
MAX_CHARACTERS: Final = 2_000
"""Of a message; the rest is cut off."""

_PACKAGE = "trio_kafka_net"


@attrs.frozen
class KeptRecord:
    """What is kept of a log record."""

    time: float
    """Seconds since the epoch."""
    level: int
    logger: str
    message: str
    """With the error it was logged with, without its traceback."""


class LogBuffer(logging.Handler):
    """Keeps the last records of WARNING and above."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Keep up to ``capacity`` records."""
        super().__init__(logging.WARNING)
        self._records: deque[KeptRecord] = deque(maxlen=capacity)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; called by ``logging``, in any thread."""
        try:
            message = record.getMessage()
        except Exception:
            # Somebody's message does not fit its values.
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            message = f"{message}: {type(error).__name__}: {error}"
        self._records.append(
            KeptRecord(record.created, record.levelno, record.name, message[:MAX_CHARACTERS])
        )

    def records(self, level: int = logging.WARNING, limit: int = CAPACITY) -> list[KeptRecord]:
        """The last ``limit`` records of at least ``level``, the newest first."""
        found = [each for each in reversed(list(self._records)) if each.level >= level]
        return found[:limit]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be a handler of the package's loggers for the time of a ``with`` block."""
        logger = logging.getLogger(_PACKAGE)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
