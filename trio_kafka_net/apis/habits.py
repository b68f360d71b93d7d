"""What a client says each time, remembered per connection so that it need not be read again.

Requests of one connection mostly begin with the same bytes: API, version and client id stay, only
the correlation id changes. So the last header is kept as bytes beside what it means, and a request
that begins with those bytes means the same. Two comparisons take the place of decoding, looking
the API up and checking its version.

One header is enough: clients have a connection of its own for whatever they do often, and what
comes in between is rare. Nothing here is trusted that was not compared byte by byte.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .produce_again import ProduceHabit
    from .registry import Api

LONGEST_HEADER: Final = 256
"""Bytes of a header that is remembered; it is kept as long as its connection."""

_CLIENT_ID_AT: Final = 8
"""Behind the API, its version and the correlation id, of which only the last changes."""


class Habits:
    """What one client says each time."""

    __slots__ = (
        "_cut",
        "_rest",
        "_start",
        "api",
        "api_version",
        "body_position",
        "client_id",
        "produce",
        "produced",
    )

    def __init__(
        self,
        payload: memoryview,
        *,
        api: Api,
        api_version: int,
        client_id: str | None,
        body_position: int,
    ) -> None:
        """Remember the header of ``payload``, which was decoded and found good."""
        # A longer one is not recognised again, so there is no need to copy all of it.
        rest = min(body_position, LONGEST_HEADER) - _CLIENT_ID_AT
        self._cut = struct.Struct(f">4si{rest}s").unpack_from
        self._start, _, self._rest = self._cut(payload)
        self.api = api
        """What the header asks for."""
        self.api_version = api_version
        self.client_id = client_id
        self.body_position = body_position
        """Length of the header."""
        self.produce: ProduceHabit | None = None
        """How the client produces, if that has become a habit."""
        self.produced: tuple[object, ...] | None = None
        """What the last Produce said, if that was something else."""

    def recognise(self, payload: memoryview) -> int | None:
        """The correlation id of a request that has the remembered header; None if it has not."""
        try:
            start, correlation_id, rest = self._cut(payload)
        except struct.error:
            return None  # too short for it
        return correlation_id if rest == self._rest and start == self._start else None
