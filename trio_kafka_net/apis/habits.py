"""What a client says each time, remembered per connection so that it need not be read again.

Requests of one connection mostly begin with the same bytes: API, version and client id stay, only
the correlation id changes. So the last header is kept as bytes beside what it means, and a request
that begins with those bytes means the same. Two comparisons take the place of decoding, looking
the API up and checking its version.

One header is enough: clients have a connection to themselves for whatever they do often, and what
comes in between is rare. It is remembered when the same is asked for the second time in a row, so
that a client which asks for one thing after the other pays for a comparison and nothing else.
Nothing here is trusted that was not compared byte by byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trio_kafka_net.protocol.headers import RequestHeader

    from .produce_again import ProduceHabit
    from .registry import Api

LONGEST_HEADER: Final = 256
"""Bytes of a header that is remembered; it is kept as long as its connection."""

_CLIENT_ID_AT: Final = 8
"""Behind the API, its version and the correlation id, of which only the last changes."""


_NOTHING: Final = struct.Struct(">4si0s").unpack_from


class Habits:
    """What one client says each time."""

    __slots__ = (
        "_asked",
        "_cut",
        "_rest",
        "_start",
        "api",
        "api_version",
        "body_position",
        "client_id",
        "produce",
        "produced",
        "times_produced",
    )

    api: Api
    """What the remembered header asks for; set if ``recognise`` knows one, as those below."""
    api_version: int
    client_id: str | None
    body_position: int
    """Length of the header."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._cut: Callable[[memoryview], tuple[bytes, int, bytes]] = _NOTHING
        self._start = self._rest = b""
        self._asked = -1  # API and version of the last header, if that was not the remembered one
        self.produce: ProduceHabit | None = None
        """How the client produces, if that has become a habit."""
        self.produced: tuple[object, ...] | None = None
        """What the last Produce said, if that was something else."""
        self.times_produced = 0
        """How many times in a row."""

    def learn_header(
        self, payload: memoryview, header: RequestHeader, api: Api, body_position: int
    ) -> None:
        """Look at a header that was decoded and found good, and perhaps remember it."""
        asked = header.api_key << 16 | header.api_version
        if asked != self._asked or body_position > LONGEST_HEADER:
            self._asked = asked
            return
        self._cut = struct.Struct(f">4si{body_position - _CLIENT_ID_AT}s").unpack_from
        self._start, _, self._rest = self._cut(payload)
        self.api = api
        self.api_version = header.api_version
        self.client_id = header.client_id
        self.body_position = body_position

    def recognise(self, payload: memoryview) -> int | None:
        """The correlation id of a request that has the remembered header; None if it has not."""
        cut = self._cut
        try:
            start, correlation_id, rest = cut(payload)
        except struct.error:
            return None  # too short for it
        if rest != self._rest or start != self._start:
            return None
        self._asked = -1
        return correlation_id
