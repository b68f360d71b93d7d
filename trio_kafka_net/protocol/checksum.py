"""CRC-32C, in hardware where there is any.

The package behind it is imported by the first checksum, and not with this module: it asks for its
own version, and the standard library's answer brings mail parsers and archives along, 7 ms and
2 MB that a broker without records can do without. Later checksums find what was imported in a
cache, which costs a tenth of what an import of a known module costs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from trio_kafka_net.protocol.compression import Buffer


def crc32c(data: Buffer, begun: int = 0) -> int:
    """Compute a checksum, or go on with one.

    Args:
        data: the bytes.
        begun: checksum of the bytes before them.
    """
    return _compute()(data, begun)


@cache
def _compute() -> Callable[[Buffer, int], int]:
    from crc32c import crc32c as compute

    function: Callable[[Buffer, int], int] = compute
    return function
