"""The two indexes of one segment, and when they are in files, mapped, or in memory.

The indexes of a sealed segment are mapped by the first lookup; they cost a descriptor each as long
as they are, for Python's ``mmap`` keeps one. Those of the active segment are ``bytearray`` objects
that reach their files when the segment is flushed or sealed: after a crash they are rebuilt from
the log anyway, so an append need not write them.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path

from trio_kafka_net.broker.log.index import (
    IndexBuffer,
    OffsetIndex,
    SparseIndex,
    TimeIndex,
)
from trio_kafka_net.errors import StorageError


class _IndexFile:
    """One index file and how much of it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written_bytes = 0

    def map(self) -> IndexBuffer:
        with self.path.open("rb") as file:
            self._written_bytes = os.fstat(file.fileno()).st_size
            if self._written_bytes == 0:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def forget(self) -> None:
        """What is in the file is not the index any more."""
        self._written_bytes = 0

    def write(self, index: SparseIndex) -> bool:
        """Bring the file up to date; returns whether its content changed.

        A flush in a thread and a seal may do this at once: both write the same bytes at the same
        place.
        """
        written = self._written_bytes
        if 0 < written == index.size_in_bytes:
            return False
        tail = index.tail(written)
        has_changed = bool(tail)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not written and os.fstat(fd).st_size:  # of an index that was forgotten
                has_changed = True
                os.ftruncate(fd, 0)
            while tail:
                count = os.pwrite(fd, tail, written)
                tail, written = tail[count:], written + count
        finally:
            os.close(fd)
        self._written_bytes = written
        return has_changed

    def cut(self, index: SparseIndex) -> None:
        """Cut the file off where the index ends now."""
        if self._written_bytes > index.size_in_bytes:
            os.truncate(self.path, index.size_in_bytes)
            self._written_bytes = index.size_in_bytes

    def is_written(self, index: SparseIndex) -> bool:
        return self._written_bytes == index.size_in_bytes

    def sync(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


class SegmentIndexes:
    """Offset index and time index of one segment."""

    def __init__(self, base_offset: int, offset_path: Path, time_path: Path) -> None:
        """Begin with empty indexes; the files are not touched.

        Args:
            base_offset: the segment's.
            offset_path: file of the offset index.
            time_path: file of the time index.
        """
        self.base_offset = base_offset
        self._offset_file = _IndexFile(offset_path)
        self._time_file = _IndexFile(time_path)
        self.offset = OffsetIndex(base_offset)
        self.time = TimeIndex(base_offset)

    def open(self, log_bytes: int) -> bool:
        """Map the files.

        Args:
            log_bytes: size of the log file that they should belong to.

        Returns:
            Whether they do; if not, the indexes are empty.
        """
        try:
            self.offset = OffsetIndex(self.base_offset, self._offset_file.map())
            self.time = TimeIndex(self.base_offset, self._time_file.map())
        except (FileNotFoundError, StorageError):
            self.reset()
            return False
        if not self.offset.fits(log_bytes):
            self.reset()
            return False
        return True

    def reset(self) -> None:
        """Empty both; the files are overwritten by the next ``write``."""
        self.offset = OffsetIndex(self.base_offset)
        self.time = TimeIndex(self.base_offset)
        self._offset_file.forget()
        self._time_file.forget()

    def append(
        self, offset: int, position: int, max_timestamp: int, max_timestamp_offset: int
    ) -> None:
        """Add an entry to each.

        Args:
            offset: last offset of a batch.
            position: where that batch begins, byte of the log file.
            max_timestamp: the largest timestamp up to that batch, ms since the epoch.
            max_timestamp_offset: the offset that carries it.
        """
        self.offset.append(offset, position)
        self.time.maybe_append(max_timestamp, max_timestamp_offset)

    def truncate_to(self, offset: int) -> None:
        """Drop the entries at and after ``offset``, in the files too.

        Raises:
            OSError: a file could not be cut.
        """
        self.offset.truncate_to(offset)
        self.time.truncate_to(offset)
        self._offset_file.cut(self.offset)
        self._time_file.cut(self.time)

    def is_full(self, max_bytes: int) -> bool:
        """Whether one more entry, and the last one at the seal, would exceed ``max_bytes``."""
        return max(self.offset.size_in_bytes, self.time.size_in_bytes) + 24 > max_bytes

    @property
    def written(self) -> bool:
        """Whether the files hold all entries."""
        return self._offset_file.is_written(self.offset) and self._time_file.is_written(self.time)

    def write(self) -> bool:
        """Bring the files up to date, without waiting for the device.

        Returns:
            Whether there is something to wait for.

        Raises:
            OSError: a file could not be written.
        """
        has_changed = self._offset_file.write(self.offset)
        return self._time_file.write(self.time) or has_changed

    def sync(self) -> None:
        """Wait until the files are on the device; blocks, for a worker thread."""
        self._offset_file.sync()
        self._time_file.sync()
