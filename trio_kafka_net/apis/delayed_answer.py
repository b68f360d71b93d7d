"""An answer that is not there yet, and needs no task to wait for it.

A handler that cannot answer yet may return one of these in place of a coroutine. The dispatcher
sets its request aside, and looks again whenever it is told to. Whoever wants the answer itself, an
interceptor or a handler that calls another one, awaits it like any other; then it is a task that
waits, parked.

An answer may be in one purgatory while it waits, or be told by anybody else. If its message has no
view of the request's frame, it should forget that frame when it begins to wait.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import trio

from trio_kafka_net.broker.purgatory import DelayedOperation

if TYPE_CHECKING:
    from trio_kafka_net.protocol.message import Message

    from .context import RequestContext


class DelayedAnswer(DelayedOperation):
    """The answer to one request, some time.

    Source: Kafka ``DelayedOperation`` (``tryComplete``, ``onComplete``).
    """

    __slots__ = ("ctx",)

    ctx: RequestContext
    """Of the request."""
    reason = ""
    """What it waits for; the label of the count and of the metric."""

    def begin(self) -> None:
        """Begin to wait: from now on ``wake`` is called when it may be time to look."""

    def look(self) -> Message | None:
        """The answer, if it is time; None if not.

        Raises:
            Exception: as a handler; there will be no answer.
        """
        return None

    def end(self) -> None:
        """Wait no longer, whether there was an answer or not."""

    def __await__(self) -> Generator[Any, Any, Message]:
        """Wait in a task, parked.

        Raises:
            CloseConnection: the client went away.

        Cancellation: there will be no answer.
        """
        return self._wait().__await__()

    async def _wait(self) -> Message:
        async with self.ctx.parked(self.reason):
            told = trio.Event()
            self.wake = told.set
            self.begin()
            try:
                while (answer := self.look()) is None:
                    await told.wait()
                    told = trio.Event()
                    self.wake = told.set
            finally:
                self.end()
        return answer
