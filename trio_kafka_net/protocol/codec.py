"""Encodes and decodes messages, with functions compiled once per message and version.

A message class describes itself (``message``); ``decoder_source`` and ``encoder_source`` write
straight-line Python for one version of it. Compiling takes about a millisecond and happens on
first use; whoever handles many messages keeps the function from ``decoder()`` or ``encoder()``, or
calls ``decode()`` and ``encode()``, which look it up.

The error path costs nothing until it is taken: the fast function only says *that* the bytes are
wrong. A second, traced variant of it then reads the same bytes again to say where.

What may be large is decoded and encoded *in steps*: a generator does the same, and yields every so
many elements, so that a server can do something else in between. It says where bytes are wrong to
the byte, but not which field that is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.protocol.decoder_source import (
    DECODE_FAILURES,
    compile_decoder,
    compile_stepwise_decoder,
    compile_traced_decoder,
)
from trio_kafka_net.protocol.encoder_source import (
    ENCODE_FAILURES,
    compile_encoder,
    compile_stepwise_encoder,
    compile_traced_encoder,
)
from trio_kafka_net.protocol.message import Bytes, Message

Piece: TypeAlias = Any
"""What an encoder returns a list of: bytes-like objects, and regions as they were given."""

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)


class Decoder(Protocol[M_co]):
    """A compiled decoder."""

    def __call__(self, view: memoryview, position: int = 0, strict: bool = True) -> M_co:
        """Decode the message that starts at ``position`` and fills ``view`` to its end.

        Raises:
            RemoteProtocolError: bad bytes, or (``strict``) bytes behind the message.
        """


Encoder: TypeAlias = Callable[[M, bytearray], list[Piece]]
"""A compiled encoder: appends to the bytearray and returns the buffers to send, in order.

Raises ``LocalProtocolError`` for a value that its field cannot carry; the bytearray is then
spoilt."""


class StepwiseDecoder(Protocol[M_co]):
    """A compiled decoder that works in steps."""

    def __call__(
        self, view: memoryview, position: int = 0, strict: bool = True
    ) -> Generator[None, None, M_co]:
        """Decode as a ``Decoder`` does; ``ELEMENTS_PER_STEP`` elements of arrays a step.

        Raises:
            RemoteProtocolError: bad bytes, or (``strict``) bytes behind the message.
        """


def decoder(cls: type[M], version: int) -> Decoder[M]:
    """Return the decoder of ``version`` of ``cls``, compiling it the first time.

    Raises:
        LocalProtocolError: ``cls`` has no such version.
    """
    return cls.DECODERS.get(version) or _compile_decoder(cls, version)


def encoder(cls: type[M], version: int) -> Encoder[M]:
    """Return the encoder of ``version`` of ``cls``, compiling it the first time.

    Raises:
        LocalProtocolError: ``cls`` has no such version.
    """
    return cls.ENCODERS.get(version) or _compile_encoder(cls, version)


StepwiseEncoder: TypeAlias = Callable[[M, bytearray], Generator[None, None, list[Piece]]]
"""An encoder in steps; as ``Encoder`` otherwise. The message must not change meanwhile."""


def stepwise_decoder(cls: type[M], version: int) -> StepwiseDecoder[M]:
    """Return the decoder in steps of ``version`` of ``cls``, compiling it the first time.

    Raises:
        LocalProtocolError: ``cls`` has no such version.
    """
    found = cls.STEPWISE_DECODERS.get(version)
    if found is None:
        require_version(cls, version)
        explain = functools.partial(_explain_step, cls, version)
        found = cls.STEPWISE_DECODERS[version] = compile_stepwise_decoder(cls, version, explain)
    return cast("StepwiseDecoder[M]", found)


def stepwise_encoder(cls: type[M], version: int) -> StepwiseEncoder[M]:
    """Return the encoder in steps of ``version`` of ``cls``, compiling it the first time.

    Raises:
        LocalProtocolError: ``cls`` has no such version.
    """
    found = cls.STEPWISE_ENCODERS.get(version)
    if found is None:
        require_version(cls, version)
        explain = functools.partial(_explain_encoding, cls, version)
        found = cls.STEPWISE_ENCODERS[version] = compile_stepwise_encoder(cls, version, explain)
    return cast("StepwiseEncoder[M]", found)


def decode(cls: type[M], version: int, buffer: Bytes, *, strict: bool = True) -> M:
    """Decode one whole message.

    Args:
        cls: message class.
        version: version in which ``buffer`` is encoded.
        buffer: the encoded message; ``bytes`` and ``records`` fields become views of it.
        strict: refuse bytes behind the message. Data that newer software may have written with
            a longer layout is read without.

    Raises:
        RemoteProtocolError: bad bytes; the text names message, version, field and position.
        LocalProtocolError: ``cls`` has no such version.
    """
    return decoder(cls, version)(memoryview(buffer), 0, strict)


def encode(message: Message, version: int) -> list[Piece]:
    """Encode one message.

    Fields that ``version`` lacks are not written.

    Returns:
        Buffers to send one after the other; large ``bytes`` and ``records`` values are the very
        objects that the message holds.

    Raises:
        LocalProtocolError: a value that its field cannot carry (the text names message, version
            and field), or no such version.
    """
    return encoder(type(message), version)(message, bytearray())


def require_version(cls: type[Message], version: int) -> None:
    """Check that ``cls`` has ``version``.

    Raises:
        LocalProtocolError: it does not.
    """
    first, last = cls.VALID_VERSIONS
    if not first <= version <= last:
        raise LocalProtocolError(
            f"{cls.__name__} has versions {first} to {last}, not version {version}"
        )


def _compile_decoder(cls: type[Message], version: int) -> Callable[..., Any]:
    require_version(cls, version)
    explain = functools.partial(_explain_decoding, cls, version)
    compiled = cls.DECODERS[version] = compile_decoder(cls, version, explain)
    return compiled


def _compile_encoder(cls: type[Message], version: int) -> Callable[..., list[Piece]]:
    require_version(cls, version)
    explain = functools.partial(_explain_encoding, cls, version)
    compiled = cls.ENCODERS[version] = compile_encoder(cls, version, explain)
    return compiled


def _traced_decoder(cls: type[Message], version: int) -> Callable[..., Any]:
    # Kept, for a peer that sends one bad frame after the other must not make us compile each time.
    if version not in cls.TRACED_DECODERS:
        cls.TRACED_DECODERS[version] = compile_traced_decoder(cls, version)
    traced: Callable[..., Any] = cls.TRACED_DECODERS[version]
    return traced


def _explain_decoding(
    cls: type[Message], version: int, view: memoryview, position: int, strict: bool
) -> RemoteProtocolError:
    """Decode again, traced, and say where the bytes are wrong."""
    where: list[Any] = [cls.__name__, position]
    reason = "bad bytes"
    try:
        _traced_decoder(cls, version)(view, position, strict, where)
    except DECODE_FAILURES as failure:
        reason = str(failure) if isinstance(failure, ValueError) else "ends too early"
    path, position = where
    return RemoteProtocolError(f"{path} (v{version}) at byte {position}: {reason}")


def _explain_step(
    cls: type[Message], version: int, position: int, failure: Exception
) -> RemoteProtocolError:
    """Say where the bytes are wrong, without a second look at them."""
    reason = str(failure) if isinstance(failure, ValueError) else "ends too early"
    return RemoteProtocolError(f"{cls.__name__} (v{version}) at byte {position}: {reason}")


def _explain_encoding(cls: type[Message], version: int, message: Message) -> LocalProtocolError:
    """Encode again, traced, and say which field cannot carry its value."""
    where = [cls.__name__]
    reason = "bad value"
    try:
        compile_traced_encoder(cls, version)(message, bytearray(), where)
    except ENCODE_FAILURES as failure:
        reason = str(failure)
    return LocalProtocolError(f"{where[0]} (v{version}): {reason}")
