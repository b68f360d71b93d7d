"""A rate with an explicit burst.

A bucket holds up to one second's worth of tokens and fills at its rate. Within any ``t`` seconds
it therefore gives at most ``rate * (t + 1)`` tokens. Kafka measures a rate as an average over some
ten one-second samples instead, which lets ten times the limit through at once when nothing
happened before, and keeps somebody waiting for what happened ten seconds ago.

The state is one number, the time at which the bucket is full again. Tokens may be taken in
advance; whoever takes one is told when it is there, and those who come after wait behind.

Rules of this file: no clock, no trio; the time is handed in.
"""

from __future__ import annotations

import math

BURST_SECONDS = 1
"""How much of its rate a bucket can save up; why, is in docs/design/0003-connection-quotas.md."""

# The time to full is a sum of many small floats; a token must not be late by their rounding.
_ROUNDING_SECONDS = 1e-6


class TokenBucket:
    """Tokens at a rate; full to begin with."""

    __slots__ = ("_full_at", "_head_start", "_interval")

    def __init__(self, rate: int) -> None:
        """Give ``rate`` tokens per second; 0 is a bucket that never has one."""
        self._interval = 1 / rate if rate else math.inf
        # With all tokens but one missing, the next one is there: so long before it is full.
        burst = max(1, rate * BURST_SECONDS)
        self._head_start = (burst - 1) / rate + _ROUNDING_SECONDS if rate else 0.0
        self._full_at = -math.inf if rate else math.inf

    def due(self, now: float) -> float:
        """When the next token is there, seconds on the clock of ``now``; not before ``now``."""
        return max(now, self._full_at - self._head_start)

    def take(self, now: float) -> float:
        """Take a token, in advance if there is none; returns when it is there."""
        due = self.due(now)
        self._full_at = max(self._full_at, now) + self._interval
        return due

    def is_as_new(self, now: float) -> bool:
        """Whether a fresh bucket of the same rate would behave the same."""
        return self._full_at <= now or self._interval == math.inf
