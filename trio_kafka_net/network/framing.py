"""Frames: a signed 32-bit big-endian size, then that many bytes.

Both directions are resumable at every byte. A ``Receive`` collects one frame, a ``Send`` writes
one; neither knows a socket, only the calls of a transport, and a call that would block raises
``BlockingIOError``.

How a frame is read:

1. Four bytes of size, into a buffer that the ``Receive`` keeps. The size is checked before
   anything is allocated.
2. Memory of exactly that size, from the memory pool. The pool may say "not now"; then the frame
   waits, and so does everything the peer sends after it, in the kernel.
3. The payload, straight into that memory. It is never copied again: the request's payload, and
   every slice of it, is a view of this buffer.

Another framing is a subclass of both: a ``Receive`` needs ``read_from``, ``take_payload`` and
``discard``, and ``has_buffered`` if it reads beyond the end of a frame; a ``Send`` needs
``write_to`` and ``size``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

from trio_kafka_net.errors import RemoteProtocolError

Buffer = bytes | bytearray | memoryview
"""Bytes as they travel: anything the socket takes without a conversion."""

_SIZE = struct.Struct(">i")
SIZE_BYTES = _SIZE.size
"""Length of the size field, bytes."""

_JOIN_LIMIT = 16 * 1024
"""Up to here one copy and one ``send`` cost less than a ``sendmsg`` of the pieces."""

_COPY_LIMIT = 256 * 1024
"""Bytes of files up to which reading them and one ``send`` cost less than their ``sendfile``."""

_MAX_IOVECS = 512
"""Buffers per ``sendmsg``; the kernel's IOV_MAX is 1024."""


class EndOfStream(Exception):
    """The peer has closed its side."""


class FrameTransport(Protocol):
    """What framing needs of a transport; see ``network.transport`` for the real ones."""

    def recv_into(self, buffer: Buffer, /) -> int:
        """Receive into the front of ``buffer``; 0 is the end of the stream."""
        ...

    def send(self, data: Buffer, /) -> int:
        """Send the front of ``data``; returns how much of it."""
        ...

    def sendmsg(self, buffers: list[Buffer], /) -> int:
        """Send the front of ``buffers``, one after the other; returns how many bytes."""
        ...

    def sendfile(self, fd: int, offset: int, count: int, /) -> int:
        """Send up to ``count`` bytes of a file; returns how many."""
        ...


Allocate = Callable[[int], memoryview | None]
"""Takes a size in bytes; returns writable memory of that size, or None for "not now"."""


class Receive:
    """One frame being received; used again for the next one of the same connection."""

    __slots__ = ("_allocate", "_filled", "_max_size", "_payload", "_size", "_size_view")

    def __init__(self, max_size: int, allocate: Allocate) -> None:
        """Accept payloads of up to ``max_size`` bytes, in memory from ``allocate``."""
        self._max_size = max_size
        self._allocate = allocate
        self._size_view = memoryview(bytearray(SIZE_BYTES))
        self._size = -1
        self._payload: memoryview | None = None
        self._filled = 0

    has_buffered = False
    """Whether bytes of a later frame are in here already, where no selector reports them."""

    @property
    def awaits_memory(self) -> bool:
        """Whether the size is known and the pool had no room for the payload."""
        return self._size >= 0 and self._payload is None

    @property
    def announced_size(self) -> int:
        """Payload bytes of the frame in progress; 0 until its size is known."""
        return max(self._size, 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the next frame has been read yet."""
        return self._size < 0 and self._filled == 0

    @property
    def partial_bytes(self) -> int:
        """Bytes of the frame in progress that have been read, its size included."""
        return self._filled if self._payload is None else SIZE_BYTES + self._filled

    def read_from(self, transport: FrameTransport) -> bool:
        """Read what is there, at most to the end of this frame.

        Returns:
            Whether the frame is whole. If not, either the socket is empty or ``awaits_memory``.

        Raises:
            EndOfStream: the peer closed its side.
            RemoteProtocolError: a size that is negative or above the limit.
            BlockingIOError: nothing (more) to read.
            OSError: as the socket reports it.

        Source: Kafka ``NetworkReceive.readFrom``.
        """
        payload = self._payload
        if payload is None:
            if not self._read_size(transport):
                return False
            payload = self._allocate(self._size)
            if payload is None:
                return False
            self._payload = payload
            self._filled = 0
        filled = self._filled
        missing = self._size - filled
        if missing:
            received = transport.recv_into(payload[filled:] if filled else payload)
            if not received:
                raise EndOfStream
            self._filled = filled + received
            return received == missing
        return True

    def _read_size(self, transport: FrameTransport) -> bool:
        if self._size >= 0:
            return True
        filled = self._filled
        received = transport.recv_into(self._size_view[filled:] if filled else self._size_view)
        if not received:
            raise EndOfStream
        filled += received
        self._filled = filled
        if filled < SIZE_BYTES:
            return False
        (size,) = _SIZE.unpack(self._size_view)
        if not 0 <= size <= self._max_size:
            raise RemoteProtocolError(
                f"frame size {size} is outside 0..{self._max_size} (socket.request.max.bytes)"
            )
        self._size = size
        return True

    def take_payload(self) -> memoryview:
        """Hand the whole payload over and be ready for the next frame."""
        payload = self._payload
        assert payload is not None
        self._payload = None
        self._size = -1
        self._filled = 0
        return payload

    def discard(self) -> int:
        """Forget a frame in progress; returns how many bytes of the pool it held."""
        held = 0 if self._payload is None else self._size
        self._payload = None
        self._size = -1
        self._filled = 0
        return held


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

    def after(self, sent: int) -> FileRegion:
        """What is left of it when its first ``sent`` bytes are out."""
        return FileRegion(self.fd, self.position + sent, self.count - sent, self.owner)


class Send:
    """One frame being sent: the size, then the pieces in their order.

    Buffers of user space go out together (one ``send`` or ``sendmsg``), small regions of files
    among them; a large region by ``sendfile``. What is read of a region is not kept if the socket
    does not take it: a peer that is slow costs no memory, and the region is read again.
    """

    __slots__ = ("_pieces", "file_bytes", "size")

    def __init__(self, pieces: Iterable[Buffer | FileRegion]) -> None:
        """Frame ``pieces``; their sizes are added up for the size field."""
        unsent: list[Buffer | FileRegion] = [b"", *pieces]
        payload_size = sum(map(len, unsent))
        unsent[0] = _SIZE.pack(payload_size)
        self.size = payload_size + SIZE_BYTES
        """Bytes on the wire, size field included."""
        self.file_bytes = 0
        """How many of those that are out the kernel took from files by itself."""
        self._pieces = unsent

    @property
    def unsent_bytes(self) -> int:
        """What is left of a frame that is not out; meaningless for one that is."""
        return sum(map(len, self._pieces))

    def write_to(self, transport: FrameTransport) -> bool:
        """Write as much as the socket takes.

        Returns:
            Whether the frame is out.

        Raises:
            BlockingIOError: the socket takes nothing now; what was written stays written.
            OSError: as the socket or a file reports it, or a file that ends too early.

        Source: Kafka ``ByteBufferSend``, ``MultiRecordsSend``.
        """
        pieces = self._pieces
        while pieces:
            first = pieces[0]
            if isinstance(first, FileRegion) and first.count > _COPY_LIMIT:
                if not self._send_file(transport, first):
                    return False
            elif not self._send_buffers(transport):
                return False
        return True

    def _send_file(self, transport: FrameTransport, region: FileRegion) -> bool:
        sent = transport.sendfile(region.fd, region.position, region.count)
        if sent == 0:
            raise _ended_early(region)
        self.file_bytes += sent
        if sent == region.count:
            del self._pieces[0]
            return True
        self._pieces[0] = region.after(sent)
        return False

    def _send_buffers(self, transport: FrameTransport) -> bool:
        buffers: list[Buffer] = []
        total = copied = 0
        for piece in self._pieces:
            if len(buffers) == _MAX_IOVECS:
                break
            if isinstance(piece, FileRegion):
                copied += piece.count
                if copied > _COPY_LIMIT:
                    break
                buffers.append(_read(piece))
                total += piece.count
            else:
                buffers.append(piece)
                total += len(piece)
        if total <= _JOIN_LIMIT:
            sent = transport.send(b"".join(buffers)) if total else 0
        else:
            sent = transport.sendmsg(buffers)
        if sent == total:
            del self._pieces[: len(buffers)]
            return True
        self._advance(sent)
        return False

    def _advance(self, sent: int) -> None:
        """Drop ``sent`` bytes from the front of the unsent pieces."""
        pieces = self._pieces
        whole = 0
        while sent >= len(pieces[whole]):
            sent -= len(pieces[whole])
            whole += 1
        del pieces[:whole]
        if sent:
            first = pieces[0]
            pieces[0] = (
                first.after(sent) if isinstance(first, FileRegion) else memoryview(first)[sent:]
            )


def _read(region: FileRegion) -> bytes:
    data = os.pread(region.fd, region.count, region.position)
    if len(data) < region.count:
        raise _ended_early(region)
    return data


def _ended_early(region: FileRegion) -> OSError:
    return OSError(f"file ended before the {region.count} bytes at {region.position} promised")


def frame_of(payload: Buffer) -> bytes | None:
    """The frame of a payload in one piece, or None if that would copy much."""
    length = len(payload)
    return b"".join((_SIZE.pack(length), payload)) if length <= _JOIN_LIMIT else None


def frame_of_pieces(pieces: list[Buffer | FileRegion]) -> bytes | None:
    """The frame of several pieces in one, or None if that would copy much, or a file fails.

    Whoever sends the pieces of a file that fails meets its error.
    """
    size = 0
    for piece in pieces:
        size += piece.count if isinstance(piece, FileRegion) else len(piece)
    if size > _JOIN_LIMIT:
        return None
    try:
        buffers = [_read(piece) if isinstance(piece, FileRegion) else piece for piece in pieces]
    except OSError:
        return None
    return b"".join((_SIZE.pack(size), *buffers))


class BytesSend(Send):
    """A frame whose payload is one buffer: the short way for the common case."""

    __slots__ = ()

    def __init__(self, payload: Buffer) -> None:
        """Frame ``payload``."""
        length = len(payload)
        self.size = length + SIZE_BYTES
        self.file_bytes = 0
        if length <= _JOIN_LIMIT:
            self._pieces = [b"".join((_SIZE.pack(length), payload))]
        else:
            self._pieces = [_SIZE.pack(length), payload]

    def write_to(self, transport: FrameTransport) -> bool:
        """Write as much as the socket takes; see ``Send.write_to``."""
        pieces = self._pieces
        if len(pieces) == 1:
            data = pieces[0]
            assert not isinstance(data, FileRegion)
            sent = transport.send(data)
            if sent == len(data):
                return True
            pieces[0] = memoryview(data)[sent:]
            return False
        return super().write_to(transport)


class FrameSend(BytesSend):
    """A frame in one buffer, its size in front already."""

    __slots__ = ()

    def __init__(self, frame: bytes, sent: int = 0) -> None:
        """Send ``frame`` as it is, of which the first ``sent`` bytes are out."""
        self.size = len(frame)
        self.file_bytes = 0
        self._pieces = [memoryview(frame)[sent:] if sent else frame]
