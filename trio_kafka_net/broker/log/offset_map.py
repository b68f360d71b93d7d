"""The last offset of every key in the dirty part of a log, in bounded memory.

A key of 16 bytes or more is kept as its digest of 16 bytes, a shorter one as it is, so neither can
be taken for the other. Kafka's digest is MD5, for which two keys with the same digest can be made:
one of them would delete the other.

Source: Kafka ``SkimpyOffsetMap`` (4.1).
"""

from __future__ import annotations

from hashlib import blake2b

_DIGEST_BYTES = 16
ENTRY_BYTES = 200
"""What an entry takes, everything counted, right after the dictionary has grown."""


class OffsetMap:
    """{key: last offset}, until it is full."""

    def __init__(self, max_bytes: int) -> None:
        """Begin empty.

        Args:
            max_bytes: what the map may take; there is always room for one key.
        """
        self._max_keys = max(1, max_bytes // ENTRY_BYTES)
        self._offsets: dict[bytes, int] = {}
        self.end_offset = 0
        """Offset before which the map knows every key; set by whoever fills it."""

    def __len__(self) -> int:
        """Count of keys."""
        return len(self._offsets)

    def reserve(self, count: int) -> bool:
        """Leave room for keys that are kept elsewhere for now; a negative number gives it back.

        Returns:
            Whether there is so much room; if not, there is none for any key from now on.
        """
        self._max_keys -= count
        return len(self._offsets) <= self._max_keys

    def put(self, key: bytes, offset: int) -> bool:
        """Note that a key is at ``offset``; an earlier one than the known one changes nothing.

        Returns:
            Whether there was room for it.
        """
        offsets = self._offsets
        if len(key) >= _DIGEST_BYTES:
            key = blake2b(key, digest_size=_DIGEST_BYTES).digest()
        known = offsets.get(key)
        if known is None:
            if len(offsets) >= self._max_keys:
                return False
            offsets[key] = offset
        elif known < offset:
            offsets[key] = offset
        return True

    def is_last(self, key: bytes, offset: int) -> bool:
        """Whether no later record has the key, as far as the map knows."""
        if len(key) >= _DIGEST_BYTES:
            key = blake2b(key, digest_size=_DIGEST_BYTES).digest()
        return offset >= self._offsets.get(key, -1)
