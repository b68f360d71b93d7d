"""Who works on a log's files by their names, in a thread, right now.

A partition's directory is renamed when the partition is deleted, and its name is free at once. A
thread that is still at work must not find the files of a new partition under the old names, so the
new one waits until it is done::

    with log.file_users:
        log.check_online()      # a deleted log is not
        ...

There is one of these for each partition, so it is small: one lock, held for an instant, guards the
counts of all of them, and what to wait on is made when somebody waits.
"""

from __future__ import annotations

import threading
from typing import ClassVar


class FileUsers:
    """Counts the threads inside its ``with`` blocks."""

    __slots__ = ("_count", "_idle")

    _counting: ClassVar = threading.Lock()

    def __init__(self) -> None:
        """Begin with nobody."""
        self._count = 0
        self._idle: threading.Event | None = None

    def __enter__(self) -> None:
        with self._counting:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._counting:
            self._count -= 1
            if self._count == 0 and self._idle is not None:
                self._idle.set()
                self._idle = None

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work."""
        return self._count > 0

    def wait(self) -> None:
        """Wait until no thread is at work; blocks, for a worker thread."""
        while True:
            with self._counting:
                if self._count == 0:
                    return
                if self._idle is None:
                    self._idle = threading.Event()
                idle = self._idle
            idle.wait()
