"""Frames: a signed 32-bit big-endian size, then that many bytes."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class FileRegion:
    """A stretch of an open file, sent without passing through user space.

    Whoever hands out a region keeps the descriptor open until the region is garbage: ``owner``
    is any object whose lifetime does that (a segment's file object, for instance).
    """

    fd: int
    """Open file descriptor, readable."""
    position: int
    """First byte, counted from the beginning of the file."""
    count: int
    """Length in bytes."""
    owner: object
    """Keeps ``fd`` open as long as this region lives."""

    def __len__(self) -> int:
        return self.count
