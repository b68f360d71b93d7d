"""A ``Receive`` that reads size and payload of a small frame by one call.

A client mostly asks for the same again, in frames of the same length. So as many bytes are asked
for as the longest of its small frames had. A frame that is not longer has come whole by that,
and its payload is a view of the very buffer; a longer one goes the way of ``Receive`` from there.

What is read beyond the end of a frame belongs to the next one: the peer pipelines. That happens
once on a connection: it is kept for the next frame, and from then on no byte is asked for before
the size is known, so that whatever else the peer sends waits in the kernel.

A frame of which the pool wants to know nothing yet, because it is used up, waits in here with at
most ``LONGEST_LIKELY`` bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, cast

from .framing import SIZE_BYTES, Allocate, Buffer, EndOfStream, FrameTransport, Receive

LONGEST_LIKELY: Final = 1024
"""Bytes of payload that are asked for before the size is known, at most."""

Reserve = Callable[[int], bool]
"""Takes a size in bytes; counts it as taken from the pool, or returns False for "not now"."""

_read_size: Final = struct.Struct(">i").unpack_from


class ReceiveAhead(Receive):
    """One frame being received, small ones by one call; see the top of this file."""

    __slots__ = ("_ahead", "_is_begun", "_likely", "_reserve", "has_buffered")

    def __init__(self, max_size: int, allocate: Allocate, reserve: Reserve) -> None:
        """Accept payloads of up to ``max_size`` bytes.

        Args:
            max_size: bytes.
            allocate: where the memory of longer frames is from.
            reserve: counts that of a small one, which is there already.
        """
        super().__init__(max_size, allocate)
        self._reserve = reserve
        self._ahead = b""
        self.has_buffered = False
        self._is_begun = False  # whether anything has come of a frame that is not whole
        self._likely = 0  # negative: the peer pipelines

    def read_from(self, transport: FrameTransport) -> bool:
        """Read what is there; see ``Receive.read_from``."""
        if self._is_begun or self._likely <= 0:
            return self._go_on(transport)
        buffer = bytearray(self._likely + SIZE_BYTES)
        # On their own, here and in other hot places: Python 3.11 looks functions that are kept in
        # attributes up fast if they are not called in the same expression.
        receive, reserve = transport.recv_into, self._reserve
        received = receive(buffer)
        if received >= SIZE_BYTES:
            (size,) = _read_size(buffer)
            if size == received - SIZE_BYTES and reserve(size):
                self._payload = memoryview(buffer)[SIZE_BYTES:received]
                return True
        elif not received:
            raise EndOfStream
        self._ahead = bytes(memoryview(buffer)[:received])
        return self._go_on(transport)

    def _go_on(self, transport: FrameTransport) -> bool:
        """Continue a frame with what has been read ahead, then with what the socket has."""
        self._is_begun = True
        is_whole = self._use_ahead(transport) if self._ahead else super().read_from(transport)
        if is_whole:
            size = self._size
            if self._ahead:
                self._likely = -1
            elif self._likely >= 0:
                self._likely = max(size, self._likely) if size <= LONGEST_LIKELY else 0
        return is_whole

    def _use_ahead(self, transport: FrameTransport) -> bool:
        source = _Ahead(self._ahead, transport)
        both = cast("FrameTransport", source)  # nothing but received from
        try:
            # The bytes may end within the size, or within the payload.
            return super().read_from(both) or super().read_from(both)
        except BlockingIOError:
            return False  # something of the frame has come all the same
        finally:
            self._ahead = source.left
            self.has_buffered = bool(self._ahead)

    def take_payload(self) -> memoryview:
        """Hand the whole payload over and be ready for the next frame."""
        if self._is_begun:
            self._is_begun = False
            return super().take_payload()
        payload, self._payload = self._payload, None
        assert payload is not None
        return payload

    def discard(self) -> int:
        """Forget what has come; returns how many bytes of the pool it held."""
        self._ahead = b""
        self._is_begun = self.has_buffered = False
        return super().discard()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the next frame has been read yet."""
        return not self._ahead and super().is_empty

    @property
    def partial_bytes(self) -> int:
        """Bytes that have been read and are of no whole frame yet."""
        return len(self._ahead) + super().partial_bytes


class _Ahead:
    """A transport that gives some bytes before its own."""

    __slots__ = ("_transport", "left")

    def __init__(self, data: bytes, transport: FrameTransport) -> None:
        self.left = data
        """Those that were not taken yet."""
        self._transport = transport

    def recv_into(self, buffer: Buffer, /) -> int:
        if not self.left:
            return self._transport.recv_into(buffer)
        count = min(len(self.left), len(buffer))
        memoryview(buffer)[:count] = self.left[:count]
        self.left = self.left[count:]
        return count
