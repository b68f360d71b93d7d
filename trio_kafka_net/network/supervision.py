"""How many unexpected failures a role survives.

One bad step of an Acceptor or Processor must not stop the others: it is logged with its
traceback, counted, and the loop goes on. But a broken invariant must not go unseen either, and a
server that fails in every step is worse than one that stops and is started again. So the third
failure within ten seconds propagates, and the nurseries above carry it out of the server.
"""

from __future__ import annotations

import logging
from collections import deque

import trio

log = logging.getLogger(__name__)

_TOLERATED = 2
_WINDOW_SECONDS = 10.0


class FailureCount:
    """Unexpected failures in the loop of one role."""

    def __init__(self, role: str) -> None:
        """Count for ``role``, as it shall be named in the log."""
        self._role = role
        self._recent: deque[float] = deque()
        self.total = 0
        """Failures since the start."""

    def survive(self, error: Exception) -> None:
        """Log ``error`` and return, or raise it again if there were too many lately.

        Raises:
            Exception: ``error`` itself, with a note that names the role.
        """
        now = trio.current_time()
        self.total += 1
        recent = self._recent
        while recent and recent[0] <= now - _WINDOW_SECONDS:
            recent.popleft()
        recent.append(now)
        if len(recent) > _TOLERATED:
            error.add_note(
                f"{self._role}: failure {len(recent)} within {_WINDOW_SECONDS:.0f} s; giving up"
            )
            raise error
        log.error("%s: a step failed, going on", self._role, exc_info=error)
