"""The records of a batch, compressed and not.

The broker stores compressed batches as they came; it decompresses only where it must see a
record. The codecs themselves, with the library behind them, are imported when one is first used.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from trio_kafka_net.errors import CorruptRecordError

Buffer: TypeAlias = bytes | bytearray | memoryview


class Compression(enum.IntEnum):
    """The codec of a batch: the low three bits of its attributes.

    Source: Kafka ``CompressionType``.
    """

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def compress(compression: Compression, data: Buffer) -> bytes:
    """Compress the records of one batch.

    Args:
        compression: the codec; ``NONE`` returns a copy of the data.
        data: the records, back to back.

    Returns:
        What stands after the header of the batch.
    """
    if compression == Compression.NONE:
        return bytes(data)
    from trio_kafka_net.protocol.compression_codecs import COMPRESSORS

    return COMPRESSORS[compression](data)


def decompress(compression: Compression, data: Buffer, *, max_bytes: int) -> Buffer:
    """Decompress the records of one batch, refusing to produce more than allowed.

    Args:
        compression: the codec; ``NONE`` returns ``data`` itself.
        data: what stands after the header of the batch.
        max_bytes: the most output to produce, bytes.

    Returns:
        The records, back to back; at most ``max_bytes`` long.

    Raises:
        CorruptRecordError: the data is not of this codec, or is larger than ``max_bytes``.
    """
    if compression == Compression.NONE:
        if len(data) > max_bytes:
            raise CorruptRecordError(f"{len(data)} bytes of records, allowed are {max_bytes}")
        return data
    from trio_kafka_net.protocol.compression_codecs import DECOMPRESSORS, DecompressionError

    try:
        return DECOMPRESSORS[compression](data, max_bytes)
    except DecompressionError as exc:
        raise CorruptRecordError(
            f"{compression.name.lower()} data of {len(data)} bytes does not decompress "
            f"to at most {max_bytes} bytes: {exc}"
        ) from exc
