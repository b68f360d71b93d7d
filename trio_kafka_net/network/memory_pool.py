"""Bounded memory for request payloads.

What the pool counts are sizes: ``try_allocate`` takes one, ``release`` gives it back. When the
bound is reached the connection waits, not the Processor: whoever was refused asks
``notify_when_free`` to be called once, in the order of refusal.

As in Kafka the pool is not strict: a request is granted while a single byte is free, so that a
large frame cannot starve; the overshoot is at most one frame.

Very large payloads come from ``mmap``: the kernel commits their pages as the bytes arrive, so a
peer that announces 100 MiB and sends ten bytes costs address space and one page. The mapping is
private and asks for huge pages. A MiB of those costs 40 µs on a virtual machine, in small pages
420 µs, and in those of a shared mapping, which is what ``mmap`` makes by default, 750 µs.

Below that a ``bytearray`` is used, although it is committed at once. The last few of the larger
ones are remembered and used again, for the C library gives the memory of several that come and go
back to the kernel, and each new one would then cost 256 page faults for a MiB, more than receiving
the bytes. Only one that nobody looks at any more is used again: whether a view of it is left is
what Python itself knows, so a view that outlives its request, for whatever reason, never sees the
bytes of another.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns

import attrs

_HUGE_PAGE_BYTES = 2 * 1024 * 1024

_MMAP_FROM = _HUGE_PAGE_BYTES
"""Payloads from this size on, in bytes, are mapped."""

_REMEMBERED_FROM = 256 * 1024
"""Buffers of payloads from this size on, in bytes, are remembered, in multiples of it; a new one
of 64 KiB costs less than a look at eight that are in use."""

_REMEMBERED = 8
"""How many buffers; up to 2 MiB each stay with the process when the load is gone."""


@attrs.frozen
class MemoryPoolStatistics:
    """A snapshot of a memory pool."""

    size: int
    """Bound in bytes; 0 or less is none."""
    used: int
    """Bytes handed out and not given back."""
    waiting: int
    """Connections that were refused and wait."""
    depleted_time_ns: int
    """Time during which connections were refused, in all."""

    @property
    def available(self) -> float:
        """Bytes left; infinite without a bound, negative by the overshoot of one frame."""
        return self.size - self.used if self.size > 0 else float("inf")


class MemoryPool:
    """Counts the bytes of payloads that are being received or handled.

    Source: Kafka ``SimpleMemoryPool`` (non-strict), ``MemoryPool.NONE`` for an unbounded one.
    """

    __slots__ = (
        "_depleted_since_ns",
        "_depleted_time_ns",
        "_is_waking",
        "_remembered",
        "_waiters",
        "size",
        "used",
    )

    def __init__(self, size: int) -> None:
        """Bound the pool to ``size`` bytes; 0 or less is unbounded.

        Source: Kafka ``queued.max.request.bytes``.
        """
        self.size = size
        """Bound in bytes; 0 or less is none."""
        self.used = 0
        """Bytes handed out and not given back."""
        self._waiters: deque[Callable[[], None]] = deque()
        self._is_waking = False
        # Some of these are in use.
        self._remembered: deque[bytearray] = deque(maxlen=_REMEMBERED)
        self._depleted_since_ns = 0  # 0 while nobody is refused
        self._depleted_time_ns = 0

    @property
    def waiting(self) -> int:
        """How many connections wait for memory."""
        return len(self._waiters)

    def try_allocate(self, size: int) -> memoryview | None:
        """Writable memory of ``size`` bytes, or None if the pool is used up.

        What is in it is not defined; nobody else has a view of it.

        Raises:
            OSError: the kernel has no such mapping to give; nothing is counted.
            MemoryError: the same of memory.
        """
        if 0 < self.size <= self.used and size:
            if not self._depleted_since_ns:
                self._depleted_since_ns = perf_counter_ns()
            return None
        if size < _REMEMBERED_FROM:
            memory = memoryview(bytearray(size))
        elif size < _MMAP_FROM:
            memory = memoryview(self._buffer_for(size))[:size]
        else:
            memory = _map(size)
        self.used += size
        return memory

    def try_reserve(self, size: int) -> bool:
        """Count ``size`` bytes that somebody has by himself, unless the pool is used up."""
        if 0 < self.size <= self.used and size:
            return False
        self.used += size
        return True

    def _buffer_for(self, size: int) -> bytearray:
        """A buffer of ``size`` bytes or somewhat more, of which there is no view."""
        for buffer in reversed(self._remembered):
            if size <= len(buffer) <= 2 * size and _is_unseen(buffer):
                return buffer
        buffer = bytearray(-(-size // _REMEMBERED_FROM) * _REMEMBERED_FROM)
        self._remembered.append(buffer)
        return buffer

    def release(self, size: int) -> None:
        """Give ``size`` bytes back, and wake waiters while there is room."""
        self.used -= size
        assert self.used >= 0
        if self._depleted_since_ns and self.used < self.size:
            self._depleted_time_ns += perf_counter_ns() - self._depleted_since_ns
            self._depleted_since_ns = 0
        # Whoever is woken may release again; that must not become a recursion as deep as there
        # are waiters.
        if self._waiters and not self._is_waking:
            self._is_waking = True
            try:
                while self._waiters and self.used < self.size:
                    self._waiters.popleft()()
            finally:
                self._is_waking = False

    def statistics(self) -> MemoryPoolStatistics:
        """How much is used, and for how long there was nothing left.

        Source: Kafka ``MemoryPoolDepletedTimeTotal``, which a dry spell enters only at its end.
        """
        since = self._depleted_since_ns
        ongoing = perf_counter_ns() - since if since else 0
        return MemoryPoolStatistics(
            self.size, self.used, self.waiting, self._depleted_time_ns + ongoing
        )

    def notify_when_free(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called once when memory is free; it may allocate at once."""
        self._waiters.append(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """Take a waiter back; one that is not waiting is ignored."""
        if wake in self._waiters:
            self._waiters.remove(wake)


def _is_unseen(buffer: bytearray) -> bool:
    try:
        # A bytearray of which there is a view cannot be resized; this one is as it was.
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True


def _map(size: int) -> memoryview:
    # Whole huge pages: what remains of a payload would be made of small ones otherwise.
    pages = -(-size // _HUGE_PAGE_BYTES)
    mapping = mmap.mmap(-1, pages * _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them; small pages will do
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(mapping)[:size]
