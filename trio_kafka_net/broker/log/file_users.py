"""Who works on a log's files by their names, in a thread, right now.

A partition's directory is renamed when the partition is deleted, and its name is free at once. A
thread that is still at work must not find the files of a new partition under the old names, so the
new one waits until it is done::

    with log.file_users:
        log.check_online()      # a deleted log is not
        ...
"""

from __future__ import annotations

import threading


class FileUsers:
    """Counts the threads inside its ``with`` blocks."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work."""
        return self._count > 0

    def wait(self) -> None:
        """Wait until no thread is at work; blocks, for a worker thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)
