"""What a client has used up, and how long it must wait until that is within its quota.

Two estimators, both Kafka's, because clients are promised their numbers:

* ``SampledRate`` for bytes and request time: the sum of the last ``samples`` windows over the time
  that they cover. After a quiet time ``samples - 1`` windows' worth may come at once; whoever goes
  beyond waits until the average is the quota again.
* ``MutationBucket`` for changes of the cluster (KIP-599), which are few and large: a bucket that
  may go below zero. An average over windows would make somebody who created a topic of many
  partitions wait for all windows to pass, however little it was above the quota.

Rules of this file: no clock, no trio; the time is handed in, in ms of a clock that never goes back.
"""

from __future__ import annotations

import math
from collections import deque

_MS_PER_SECOND = 1000

_ROUNDING = 1e-9
"""A bucket is refilled in many small floats."""


class SampledRate:
    """A rate over sliding windows.

    Source: Kafka ``SampledStat``, ``Rate`` and ``QuotaUtils.throttleTime`` (4.0).
    """

    __slots__ = ("_samples", "_total", "_window_ms", "last_used_ms", "quota")

    def __init__(self, quota: float, *, samples: int, window_ms: int, now_ms: int) -> None:
        """Have seen nothing, in ``samples`` windows of ``window_ms`` each."""
        self.quota = quota
        """Units per second that are allowed; may be changed at any time."""
        # (start, last change, sum) of each window with a change, oldest first. One more than is
        # looked at: the oldest may reach into the time that is.
        self._samples: deque[list[int]] = deque(maxlen=samples + 1)
        self._total = 0
        self._window_ms = window_ms
        self.last_used_ms = now_ms
        """When something was recorded last."""

    @property
    def _span_ms(self) -> int:
        return ((self._samples.maxlen or 1) - 1) * self._window_ms

    def record(self, amount: int, now_ms: int) -> None:
        """Add ``amount``; a negative one takes back what was added before."""
        self.last_used_ms = now_ms
        samples = self._samples
        if not samples or now_ms - samples[-1][0] >= self._window_ms:
            if len(samples) == samples.maxlen:
                self._total -= samples[0][2]
            samples.append([now_ms, now_ms, 0])
        current = samples[-1]
        current[1] = now_ms
        current[2] += amount
        self._total += amount

    def total(self, now_ms: int) -> int:
        """What the windows that count have seen."""
        samples = self._samples
        while samples and now_ms - samples[0][1] >= self._span_ms:
            self._total -= samples.popleft()[2]
        return self._total

    def covered_ms(self, now_ms: int) -> int:
        """The time that ``total`` is about: at least all windows but the current one, whole."""
        self.total(now_ms)
        elapsed = now_ms - self._samples[0][0] if self._samples else 0
        missing = self._span_ms // self._window_ms - 1 - elapsed // self._window_ms
        return max(1, elapsed + max(0, missing) * self._window_ms)

    def per_second(self, now_ms: int) -> float:
        """The rate as it is compared with a quota."""
        return self.total(now_ms) * _MS_PER_SECOND / self.covered_ms(now_ms)

    def delay_ms(self, now_ms: int) -> int:
        """How long nothing may be added until the rate is the quota again; 0 if not above.

        The rate R is over a time W; after a wait of X it is R * W / (W + X), which shall be the
        quota.
        """
        wanted_ms = self.total(now_ms) * _MS_PER_SECOND / self.quota
        return max(0, round(wanted_ms - self.covered_ms(now_ms)))

    def is_as_new(self, now_ms: int) -> bool:
        """Whether a fresh one would behave the same."""
        return not self._samples or now_ms - self.last_used_ms >= self._span_ms


class MutationBucket:
    """Tokens for changes: refilled at the quota, full to begin with, below zero when overdrawn.

    Source: Kafka ``TokenBucket`` and ``ControllerMutationQuotaManager`` (4.0), KIP-599.
    """

    __slots__ = ("_counted_ms", "_span_seconds", "_tokens", "last_used_ms", "quota")

    def __init__(self, quota: float, *, samples: int, window_ms: int, now_ms: int) -> None:
        """Hold up to ``samples`` windows' worth of the quota."""
        self.quota = quota
        """Tokens per second that come; may be changed at any time."""
        self._span_seconds = samples * window_ms / _MS_PER_SECOND
        self._tokens = math.inf  # full, whatever the quota is
        self._counted_ms = now_ms
        self.last_used_ms = now_ms
        """When tokens were taken last."""

    def tokens(self, now_ms: int) -> float:
        """How many there are; negative if overdrawn."""
        refilled = (now_ms - self._counted_ms) / _MS_PER_SECOND * self.quota
        self._counted_ms = now_ms
        self._tokens = min(self._span_seconds * self.quota, self._tokens + refilled)
        return self._tokens

    def record(self, amount: int, now_ms: int) -> None:
        """Take ``amount`` tokens, whether they are there or not."""
        self._tokens = self.tokens(now_ms) - amount
        self.last_used_ms = now_ms

    def delay_ms(self, now_ms: int) -> int:
        """How long until nothing is overdrawn; 0 if nothing is."""
        return max(0, round(-self.tokens(now_ms) / self.quota * _MS_PER_SECOND))

    def is_as_new(self, now_ms: int) -> bool:
        """Whether a fresh one would behave the same."""
        burst = self._span_seconds * self.quota
        return self.tokens(now_ms) >= burst * (1 - _ROUNDING)
