"""Answers that are given again, byte for byte, as long as nothing has changed.

Clients ask for Metadata in the same words over and over, and what they are told changes rarely.
So the encoded answer is kept under the bytes of the question, which need not even be decoded:
a look into a dictionary instead of work in proportion to the number of partitions.

An answer is true as long as a *version* stands, a number that grows with whatever the answer is
made of. Who makes the answer says at which version it began to (``RequestContext.keep_answer``);
who serves the API says how to ask for the present one (``KafkaApis.add``). The first question
after a change forgets everything. An API with an interceptor keeps nothing: what happens between
question and answer is not ours to repeat.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from trio_kafka_net.network.framing import SIZE_BYTES
from trio_kafka_net.protocol.codec import decode
from trio_kafka_net.protocol.headers import response_header
from trio_kafka_net.protocol.message import Message

if TYPE_CHECKING:
    from trio_kafka_net.broker.local_broker import LocalBroker

    from .dispatch import KafkaRequest

KEPT_BYTES: Final = 16 * 1024 * 1024
"""Of questions and answers together, for one API of one plane."""
_LONGEST_QUESTION: Final = 256 * 1024
_DECODED: Final = 8
"""A question is kept decoded as well, which takes so many times as much at the most."""

_START: Final = struct.Struct(">ii")
"""Of a response: size of the frame, correlation id."""
_DELAY: Final = struct.Struct(">i")

VersionOf = Callable[["LocalBroker"], int]
"""Grows whenever an answer may be another one than before."""


@attrs.define(eq=False)
class KeptAnswer:
    """An answer as it was encoded, without the header of the response."""

    question: Message
    """The request that it answers."""
    body: bytes
    """The response."""
    error_codes: list[int]
    """All that are in it, NONE included."""
    response_type: type[Message]
    version: int
    """Of the API."""
    _tags: bytes = attrs.field(init=False)
    """What a response has between its correlation id and ``body``."""

    def __attrs_post_init__(self) -> None:
        assert self.response_type.API_KEY is not None
        header = response_header(self.response_type.API_KEY, self.version, 0)
        self._tags = bytes(header[_START.size - SIZE_BYTES :])

    def frame(self, correlation_id: int, delay_ms: int = 0) -> bytes:
        """The whole frame that answers a request.

        Args:
            correlation_id: of the request.
            delay_ms: for how long its client is held back, which not every version can say.
        """
        tags, body = self._tags, self.body
        if delay_ms and self.tells_delay:
            body = _DELAY.pack(delay_ms) + body[_DELAY.size :]
        size = _START.size - SIZE_BYTES + len(tags) + len(body)
        return b"".join((_START.pack(size, correlation_id), tags, body))

    @property
    def tells_delay(self) -> bool:
        """Whether the response begins with the time for which its client is held back."""
        first = self.response_type.FIELDS[0]
        return first.name == "throttle_time_ms" and first.exists_in(self.version)

    def decoded(self) -> Message:
        """The response."""
        return decode(self.response_type, self.version, self.body)


class KeptAnswers:
    """Those of one API of one plane of one broker."""

    def __init__(self, version_of: VersionOf) -> None:
        """Keep nothing yet."""
        self._version_of = version_of
        self._version = -1
        self._size = 0
        # {(listener, version of the API, question): answer}
        self._answers: dict[tuple[str, int, bytes], KeptAnswer] = {}

    @property
    def size_in_bytes(self) -> int:
        """Of all that is kept; at most ``KEPT_BYTES``."""
        return self._size

    def find(self, request: KafkaRequest, broker: LocalBroker) -> KeptAnswer | None:
        """The answer to the same question, if it is still true."""
        version_of = self._version_of
        version = version_of(broker)
        if version != self._version:
            self._answers.clear()
            self._size = 0
            self._version = version
            return None
        if not self._answers or len(request.payload) > _LONGEST_QUESTION:
            return None
        return self._answers.get(_key(request))

    def keep(self, request: KafkaRequest, answer: KeptAnswer) -> None:
        """Keep an answer, unless something has changed since its handler began to make it."""
        size = _DECODED * len(request.payload) + len(answer.body) + 8 * len(answer.error_codes)
        if (
            request.kept_at != self._version
            or len(request.payload) > _LONGEST_QUESTION
            or size > KEPT_BYTES
        ):
            return
        if self._size + size > KEPT_BYTES:
            self._answers.clear()
            self._size = 0
        self._answers[_key(request)] = answer
        self._size += size


def _key(request: KafkaRequest) -> tuple[str, int, bytes]:
    question = bytes(request.payload[request.body_position :])
    return request.connection.listener_name, request.api_version, question
