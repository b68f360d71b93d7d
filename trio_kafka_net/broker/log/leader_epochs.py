"""Which leader epoch began at which offset: how a reader learns that a log was cut and rewritten.

The list changes once per leadership, not once per append, so it is kept in memory and written by
the next flush. A crash before that loses nothing: the recovery point moves only after a flush, and
recovery finds the epochs in the batches after it.

Source: Kafka ``LeaderEpochFileCache`` (4.0); KIP-101, KIP-320.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1

_epoch = itemgetter(0)


class LeaderEpochCache:
    """(epoch, first offset) pairs of one log, both strictly increasing."""

    __slots__ = ("_entries", "is_dirty", "latest_epoch")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        """Begin with what a checkpoint file held."""
        # No list: what cannot change, and holds only numbers, is nothing to a garbage collector.
        self._entries: tuple[tuple[int, int], ...] = ()
        self.latest_epoch = UNDEFINED_EPOCH
        """The last epoch, or -1."""
        self.is_dirty = False
        """Whether it changed since ``take_entries``."""
        self._keep(entries)

    def _keep(self, entries: Iterable[tuple[int, int]]) -> None:
        self._entries = tuple(entries)
        self.latest_epoch = self._entries[-1][0] if self._entries else UNDEFINED_EPOCH

    @property
    def entries(self) -> tuple[tuple[int, int], ...]:
        """All pairs, oldest first."""
        return self._entries

    def take_entries(self) -> tuple[tuple[int, int], ...]:
        """All pairs, for whoever writes them to a file now."""
        self.is_dirty = False
        return self.entries

    def assign(self, epoch: int, first_offset: int) -> None:
        """Note that ``epoch`` appends at ``first_offset``; nothing unless the epoch is newer.

        Cost: one comparison when the epoch is known.
        """
        if epoch <= self.latest_epoch:
            return
        # An epoch that appended nothing would share its offset with the next one.
        kept = (entry for entry in self._entries if entry[1] < first_offset)
        self._keep((*kept, (epoch, first_offset)))
        self.is_dirty = True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """Where an epoch ended in this log.

        Args:
            epoch: the epoch that the reader last saw.
            log_end_offset: end of the epoch that is still being written.

        Returns:
            The largest epoch not above ``epoch``, and the offset after its last record; -1 and -1
            if the log cannot tell.
        """
        if epoch == UNDEFINED_EPOCH or epoch > self.latest_epoch:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.latest_epoch:
            return epoch, log_end_offset
        following = bisect_right(self._entries, epoch, key=_epoch)
        end_offset = self._entries[following][1]
        if following == 0:
            # Older than anything known: what it wrote is gone.
            return epoch, end_offset
        return self._entries[following - 1][0], end_offset

    def epoch_at(self, offset: int) -> int:
        """The epoch that wrote ``offset``, or -1."""
        count = bisect_right(self._entries, offset, key=itemgetter(1))
        return self._entries[count - 1][0] if count else UNDEFINED_EPOCH

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget the epochs that began at or after ``end_offset``."""
        if self._entries and self._entries[-1][1] >= end_offset:
            self._keep(entry for entry in self._entries if entry[1] < end_offset)
            self.is_dirty = True

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget what ended before ``start_offset``; the epoch that holds it begins there."""
        kept = [entry for entry in self._entries if entry[1] > start_offset]
        if len(kept) == len(self._entries):
            return
        covering = self._entries[len(self._entries) - len(kept) - 1]
        self._keep([(covering[0], max(covering[1], start_offset)), *kept])
        self.is_dirty = True
