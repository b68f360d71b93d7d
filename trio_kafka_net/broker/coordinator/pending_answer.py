"""What a join or a sync gets: a result, now or when the others have done their part."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

from .classic_member import JoinResult, SyncResult

R = TypeVar("R", JoinResult, SyncResult)


class PendingAnswer(Generic[R]):
    """The result of a join or sync, now or later."""

    __slots__ = ("_event", "group_id", "result")

    def __init__(self, group_id: str) -> None:
        """Begin without a result."""
        self.group_id = group_id
        self.result: R | None = None
        """The result, as soon as it is there."""
        self._event = trio.Event()

    def give(self, result: R) -> None:
        """Have the result."""
        self.result = result
        self._event.set()

    async def wait(self) -> R:
        """Wait for the result.

        Cancellation: safe; whoever gives up for good calls ``GroupCoordinator.abandon``.
        """
        await self._event.wait()
        assert self.result is not None
        return self.result
