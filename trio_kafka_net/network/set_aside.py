"""A request that waits without a handler.

``RequestHandlerPool.parked`` lets a handler wait in the middle of a request: a task stays where it
is, and another takes its place. That is the right thing for what waits now and then. What waits by
the thousand, all day long (a Fetch at the end of its log), is *set aside* instead: no task, no
cancel scope, nothing but a record that knows how the request goes on::

    set aside --call--> in the request queue again --a handler--> resume() --> answered
        ^                                                            |
        +------------------------ False: not yet --------------------+

``call`` only queues the request, behind whoever came before, so it may be called from anywhere and
costs next to nothing; what it takes to answer is done by a handler, within its turns. So a thousand
that one event calls are answered in as many turns as they need.

The client that goes away is an event like any other: it calls, and ``resume`` sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import perf_counter_ns

from .request_channel import Request, RequestChannel

Resume = Callable[[], bool]
"""Goes on with a request that was called; returns whether it is over, or else waits on.

Raises ``CloseConnection`` if the client is to be left without an answer."""


class SetAside:
    """One such request; made by ``RequestHandlerPool.set_aside``."""

    __slots__ = (
        "_channel",
        "_counts",
        "_is_called",
        "_is_waiting",
        "_reason",
        "_since_ns",
        "request",
        "resume",
    )

    def __init__(
        self,
        request: Request,
        reason: str,
        resume: Resume,
        channel: RequestChannel,
        counts: Counter[str],
    ) -> None:
        """Wait from now on; counted under ``reason`` in ``counts``."""
        self.request = request
        self.resume = resume
        """What to do when it was called."""
        self._channel = channel
        self._reason = reason
        self._counts = counts
        self._since_ns = perf_counter_ns()
        self._is_called = False
        # Not while it is resumed, nor when it is over: nobody would know it again in the queue.
        self._is_waiting = True
        counts[reason] += 1

    def call(self) -> None:
        """Have a handler resume the request; calls before that happens count as one.

        One that comes while it is resumed has it resumed again, if it is not over. One that comes
        later does nothing.
        """
        if not self._is_called:
            self._is_called = True
            if self._is_waiting:
                self._channel.put_back(self.request)

    cancel = call
    """The client went away; the name that a parked request's scope has for it."""

    def begin(self) -> None:
        """A handler has taken it: the time until now was spent waiting."""
        self._is_called = self._is_waiting = False
        self.request.parked_time_ns += perf_counter_ns() - self._since_ns

    def wait_on(self) -> None:
        """It was not time yet."""
        self._since_ns = perf_counter_ns()
        self._is_waiting = True
        if self._is_called:
            self._channel.put_back(self.request)

    def end(self) -> None:
        """It is over."""
        counts, reason = self._counts, self._reason
        self.request.parked_scope = None
        counts[reason] -= 1
        if not counts[reason]:
            del counts[reason]
