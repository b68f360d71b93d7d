"""The four codecs, over cramjam; imported by the first batch that is compressed.

What is decompressed came from a peer, so the output is bounded *while* it is produced: every codec
writes into a buffer that we allocated, and none may ask for a larger one than the caller allows.

Two formats are Kafka's own habit rather than the codec's:

* **snappy** is framed as snappy-java does it ("xerial"): a 16-byte header, then blocks, each an
  int32 length and a raw snappy block. Some clients send one raw snappy block without the frame;
  that is accepted on read.
* **lz4** is the frame format with *independent* blocks; the Java client cannot read linked ones.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cramjam

from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.compression import Buffer, Compression

XERIAL_HEADER = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
"""Magic, then version 1, readable by version 1."""
_XERIAL_MAGIC_LENGTH = 8
_XERIAL_BLOCK_BYTES = 32 * 1024
_FIRST_GUESS_BYTES = 64 * 1024
_INT32 = struct.Struct(">i")

DecompressionError = cramjam.DecompressionError
"""What a decompressor raises."""


def _gzip_compress(data: Buffer) -> bytes:
    return bytes(cramjam.gzip.compress(data))


def _zstd_compress(data: Buffer) -> bytes:
    return bytes(cramjam.zstd.compress(data, level=3))


def _lz4_compress(data: Buffer) -> bytes:
    compressor = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
    compressor.compress(bytes(data))
    return bytes(compressor.finish())


def _snappy_compress(data: Buffer) -> bytes:
    parts = [XERIAL_HEADER]
    view = memoryview(data)
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_INT32.pack(len(block)), block)
    return b"".join(parts)


def _growing(decompress_into: Callable[[Any, Any], int]) -> Callable[[Buffer, int], Buffer]:
    """A decompressor that tries larger and larger outputs, up to the limit.

    The streaming codecs do not say beforehand how long their output is. Every failure is tried
    again with more room, whatever its text says: corrupt data then costs a few attempts, never
    more memory than honest data may use.
    """

    def decompress_growing(data: Buffer, max_bytes: int) -> Buffer:
        size = min(max_bytes, max(_FIRST_GUESS_BYTES, 4 * len(data)))
        while True:
            output = bytearray(size)
            try:
                return memoryview(output)[: decompress_into(data, output)]
            except cramjam.DecompressionError:
                if size >= max_bytes:
                    raise
            size = min(max_bytes, 8 * size)

    return decompress_growing


def _snappy_decompress(data: Buffer, max_bytes: int) -> Buffer:
    view = memoryview(data)
    if view[:_XERIAL_MAGIC_LENGTH] != XERIAL_HEADER[:_XERIAL_MAGIC_LENGTH]:
        return _snappy_block(view, max_bytes)
    output = bytearray()
    position = len(XERIAL_HEADER)
    while position < len(view):
        if len(view) - position < _INT32.size:
            raise CorruptRecordError(f"snappy block header cut off at byte {position}")
        (length,) = _INT32.unpack_from(view, position)
        position += _INT32.size
        if not 0 < length <= len(view) - position:
            raise CorruptRecordError(
                f"snappy block of {length} bytes where {len(view) - position} are left"
            )
        output += _snappy_block(view[position : position + length], max_bytes - len(output))
        position += length
    return output


def _snappy_block(block: memoryview, max_bytes: int) -> bytearray:
    # A snappy block begins with its uncompressed length: believed only after the check.
    length = cramjam.snappy.decompress_raw_len(block)
    if length > max_bytes:
        raise CorruptRecordError(f"snappy block of {length} bytes, allowed are {max_bytes}")
    output = bytearray(length)
    cramjam.snappy.decompress_raw_into(block, output)
    return output


COMPRESSORS: dict[Compression, Callable[[Buffer], bytes]] = {
    Compression.GZIP: _gzip_compress,
    Compression.SNAPPY: _snappy_compress,
    Compression.LZ4: _lz4_compress,
    Compression.ZSTD: _zstd_compress,
}
DECOMPRESSORS: dict[Compression, Callable[[Buffer, int], Buffer]] = {
    Compression.GZIP: _growing(cramjam.gzip.decompress_into),
    Compression.SNAPPY: _snappy_decompress,
    Compression.LZ4: _growing(cramjam.lz4.decompress_into),
    Compression.ZSTD: _growing(cramjam.zstd.decompress_into),
}
"""Take the data and the most bytes to produce."""
