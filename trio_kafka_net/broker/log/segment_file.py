"""The file under a segment: appended whole or not at all, readable as long as someone holds it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from trio_kafka_net.protocol.compression import Buffer


class OpenFile(Protocol):
    """Opens log files: ``SegmentFile`` itself, or what a test or simulation puts in its place."""

    def __call__(self, path: Path, *, create: bool) -> SegmentFile:
        """Open one; see ``SegmentFile``."""


class SegmentFile:
    """An open log file.

    The descriptor is closed when the last reference goes: a ``FileRegion`` on its way to a client
    holds one, so a segment may be rolled, released or deleted under it.
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the file for reading and appending.

        Args:
            path: the log file.
            create: whether to create it if it is not there.

        Raises:
            OSError: the file cannot be opened.
        """
        self.fd = -1
        self.path = path
        # Appending mode, so that a write after a truncation lands at the new end.
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self.fd = os.open(path, flags, 0o644)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def append(self, data: Buffer, size: int) -> None:
        """Write all of ``data`` at the end of a file of ``size`` bytes.

        Raises:
            OSError: not everything could be written; what was is cut off again, so that the file
                has ``size`` bytes unless that failed as well.
        """
        try:
            written = self._write(data)
            while written < len(data):
                written += self._write(memoryview(data)[written:])
        except OSError:
            self.truncate(size)
            raise

    def _write(self, data: Buffer) -> int:
        return os.write(self.fd, data)

    def read(self, count: int, position: int) -> bytes:
        """Read at most ``count`` bytes at ``position``; fewer at the end of the file."""
        return os.pread(self.fd, count, position)

    def truncate(self, size: int) -> None:
        """Cut the file off after ``size`` bytes."""
        os.ftruncate(self.fd, size)

    def sync(self) -> None:
        """Wait until data and size are on the device; blocks, for a worker thread."""
        os.fdatasync(self.fd)
