"""Sparse indexes of a segment: offset to position, timestamp to offset. No I/O here.

An entry is added about every ``index.interval.bytes`` of log, so a lookup gives a place to begin
scanning headers, not an answer. Entries are kept in the very bytes of the file: a whole index
file is a valid buffer for these classes, whether it is mapped, read, or being built.

``.index``, 8 bytes an entry: last offset of a batch minus the segment's base offset (int32),
position of that batch in the segment (int32). ``.timeindex``, 12 bytes: timestamp, ms since the
epoch (int64), offset minus base offset (int32); it says that no record up to that offset is later
than the timestamp.

Kafka creates these files at their full size and trims them when a segment is closed; here they
grow, which its tools read as well, and which keeps thousands of idle partitions small.

Source: Kafka ``OffsetIndex``, ``TimeIndex``.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left, bisect_right
from typing import ClassVar, NamedTuple, TypeAlias

from trio_kafka_net.errors import StorageError

IndexBuffer: TypeAlias = bytes | bytearray | mmap.mmap

MAX_RELATIVE_OFFSET = 2**31 - 1
"""Largest distance between an offset and its segment's base offset."""


class OffsetPosition(NamedTuple):
    """Where a batch begins."""

    offset: int
    position: int
    """Byte in the segment's log file."""


class TimestampOffset(NamedTuple):
    """A timestamp and the offset that carries it, or up to which it is the largest."""

    timestamp: int
    """ms since the epoch; -1 is none."""
    offset: int


class SparseIndex:
    """What both indexes share: fixed-size entries in one buffer, sorted by offset."""

    entry: ClassVar[struct.Struct]
    """Layout of an entry."""
    offset_field: ClassVar[int]
    """Which field of an entry is the relative offset."""

    def __init__(self, base_offset: int, buffer: IndexBuffer = b"") -> None:
        """Index the segment at ``base_offset``.

        Args:
            base_offset: what the relative offsets of the entries count from.
            buffer: the index file's content; kept, and copied before the first change.

        Raises:
            StorageError: the buffer is not a whole number of entries.
        """
        if len(buffer) % self.entry.size:
            raise StorageError(
                f"index of {len(buffer)} bytes; an entry has {self.entry.size} bytes"
            )
        self.base_offset = base_offset
        self._buffer = buffer

    def __len__(self) -> int:
        """Count of entries."""
        return len(self._buffer) // self.entry.size

    @property
    def size_in_bytes(self) -> int:
        """Size of the file with these entries."""
        return len(self._buffer)

    def tail(self, start: int) -> bytes:
        """The bytes of the index from byte ``start`` on."""
        return bytes(self._buffer[start:])

    def truncate_to(self, offset: int) -> None:
        """Drop the entries at and after ``offset``."""
        relative = offset - self.base_offset
        count = bisect_left(range(len(self)), relative, key=self._relative_offset_at)
        if count < len(self):
            del self._writable()[count * self.entry.size :]

    def _append(self, first: int, second: int) -> None:
        self._writable().extend(self.entry.pack(first, second))

    def _last_fields(self) -> tuple[int, ...]:
        """The last entry as it is stored; there must be one."""
        return self.entry.unpack_from(self._buffer, len(self._buffer) - self.entry.size)

    def _writable(self) -> bytearray:
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray(self._buffer)
        return self._buffer

    def _relative_offset_at(self, number: int) -> int:
        entry = self.entry.unpack_from(self._buffer, number * self.entry.size)
        relative: int = entry[self.offset_field]
        return relative

    def _relative(self, offset: int) -> int:
        relative = offset - self.base_offset
        if not 0 <= relative <= MAX_RELATIVE_OFFSET:
            raise StorageError(f"offset {offset} is out of reach of base offset {self.base_offset}")
        return relative


_FIRST_FIELD = struct.Struct(">i")


class OffsetIndex(SparseIndex):
    """From an offset to the position of a batch at or before it."""

    entry = struct.Struct(">ii")
    offset_field = 0

    def append(self, offset: int, position: int) -> None:
        """Add the batch that ends at ``offset`` and begins at byte ``position``.

        Raises:
            StorageError: the offset does not come after those before; nothing was added.
        """
        relative = self._relative(offset)
        if self._buffer and relative <= self._last_fields()[0]:
            raise StorageError(f"offset {offset} does not come after the last one of the index")
        self._append(relative, position)

    def last(self) -> OffsetPosition:
        """The last entry; base offset and position 0 when there is none."""
        return self._entry_before(len(self))

    def lookup(self, offset: int) -> OffsetPosition:
        """The last entry at or before ``offset``; base offset and position 0 if there is none.

        Cost: a binary search, about 0.2 µs a step.
        """
        relative = offset - self.base_offset
        return self._entry_before(
            bisect_right(range(len(self)), relative, key=self._relative_offset_at)
        )

    def position_before(self, offset: int) -> int:
        """The position of ``lookup``, for who reads; about 0.1 µs a step."""
        buffer, unpack_from = self._buffer, _FIRST_FIELD.unpack_from
        relative = offset - self.base_offset
        low, high = 0, len(buffer) >> 3
        while low < high:
            middle = (low + high) >> 1
            if unpack_from(buffer, middle << 3)[0] <= relative:
                low = middle + 1
            else:
                high = middle
        position: int = unpack_from(buffer, (low << 3) - 4)[0] if low else 0
        return position

    def fits(self, log_bytes: int) -> bool:
        """Whether the index can belong to a log file of so many bytes."""
        last = self.last()
        return not len(self) or (last.offset >= self.base_offset and 0 <= last.position < log_bytes)

    def _entry_before(self, count: int) -> OffsetPosition:
        if count == 0:
            return OffsetPosition(self.base_offset, 0)
        relative, position = self.entry.unpack_from(self._buffer, (count - 1) * self.entry.size)
        return OffsetPosition(self.base_offset + relative, position)


class TimeIndex(SparseIndex):
    """From a timestamp to an offset before which nothing is later than it."""

    entry = struct.Struct(">qi")
    offset_field = 1

    def maybe_append(self, timestamp: int, offset: int) -> None:
        """Add the largest timestamp up to ``offset``, unless it is not later than the last one.

        Raises:
            StorageError: the offset lies before the last one; nothing was added.
        """
        last, last_relative = self._last_fields() if self._buffer else (-1, 0)
        if timestamp <= last:
            return
        relative = self._relative(offset)
        if relative < last_relative:
            raise StorageError(f"offset {offset} lies before the last one of the time index")
        self._append(timestamp, relative)

    def last(self) -> TimestampOffset:
        """The last entry; timestamp -1 at the base offset when there is none."""
        return self._entry_before(len(self))

    def lookup(self, timestamp: int) -> TimestampOffset:
        """The last entry at or before ``timestamp``; timestamp -1 at the base offset if none is."""
        return self._entry_before(bisect_right(range(len(self)), timestamp, key=self._timestamp_at))

    def _entry_before(self, count: int) -> TimestampOffset:
        if count == 0:
            return TimestampOffset(-1, self.base_offset)
        timestamp, relative = self.entry.unpack_from(self._buffer, (count - 1) * self.entry.size)
        return TimestampOffset(timestamp, self.base_offset + relative)

    def _timestamp_at(self, number: int) -> int:
        timestamp: int = self.entry.unpack_from(self._buffer, number * self.entry.size)[0]
        return timestamp
