"""Walking through a log file from front to back: by headers, for a search, or batch by batch.

Both read in chunks, and keep the file that they were given open as long as they go on. Neither
checks a CRC.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from trio_kafka_net.broker.log.segment_file import SegmentFile
from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.records import (
    HEADER_BYTES,
    LENGTH_OVERHEAD_BYTES,
    RecordBatch,
    iter_batches,
    parse_header,
)

# Base offset, length and last offset delta: all that a search for an offset needs.
_SEARCHED_FIELDS = struct.Struct(">qi11xi")
_SEARCH_CHUNK_BYTES = 8 * 1024
_SCAN_CHUNK_BYTES = 256 * 1024


Location: TypeAlias = tuple[int, int, int, int]
"""A batch in the log file: base offset, last offset, position, size in bytes with its header. One
is made for every batch that a search passes, so it has no names."""


def walk_headers(file: SegmentFile, position: int, end: int) -> Iterator[Location]:
    """Step from header to header, reading nothing else.

    Args:
        file: the log file.
        position: where a batch begins, byte of the file.
        end: where the last one ends.

    Raises:
        CorruptRecordError: the file does not consist of whole batches.
        OSError: it could not be read.
    """
    chunk, chunk_at = b"", position
    while position < end:
        at = position - chunk_at
        if at + _SEARCHED_FIELDS.size > len(chunk):
            chunk, chunk_at, at = file.read(_SEARCH_CHUNK_BYTES, position), position, 0
            if len(chunk) < _SEARCHED_FIELDS.size:
                raise _cut_off(position, end)
        base_offset, length, last_offset_delta = _SEARCHED_FIELDS.unpack_from(chunk, at)
        size = length + LENGTH_OVERHEAD_BYTES
        if not HEADER_BYTES <= size <= end - position:
            raise _cut_off(position, end)
        yield base_offset, base_offset + last_offset_delta, position, size
        position += size


def read_batches(file: SegmentFile, position: int, end: int) -> Iterator[tuple[int, RecordBatch]]:
    """Read batches whole; position and batch.

    Args:
        file: the log file.
        position: where a batch begins, byte of the file.
        end: where the last one ends.

    Raises:
        CorruptRecordError: a batch breaks the format or is cut off.
        OSError: the file could not be read.
    """
    wanted = _SCAN_CHUNK_BYTES
    while position < end:
        wanted = min(wanted, end - position)
        chunk = file.read(wanted, position)
        if len(chunk) < wanted:
            raise _cut_off(position, end)
        start = position
        for batch in iter_batches(memoryview(chunk), partial_tail=True):
            yield position, batch
            position += batch.size_in_bytes
        wanted = _SCAN_CHUNK_BYTES
        if position == start:
            wanted = _size_at(chunk, position, end)


def _size_at(chunk: bytes, position: int, end: int) -> int:
    """Size of the batch that begins with ``chunk`` but is longer."""
    if len(chunk) >= HEADER_BYTES:
        size = parse_header(chunk).size_in_bytes
        if len(chunk) < size <= end - position:
            return size
    raise _cut_off(position, end)


def _cut_off(position: int, end: int) -> CorruptRecordError:
    return CorruptRecordError(f"no whole batch at byte {position} of {end}")
