"""Letting go of a large message a little at a time.

Whoever drops the last reference to fifty thousand structs frees them all, and the event loop stands
still for as long as it took to decode them. So somebody else takes hold of the elements first. The
message goes, which costs nothing then, and they follow step by step. Nothing is taken out of the
message itself: a handler may have kept it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.message import Message, Struct
from trio_kafka_net.protocol.primitives import FIXED_WIDTH
from trio_kafka_net.protocol.source_writer import ELEMENTS_PER_STEP


def hollow(message: Message) -> Message:
    """What is left of a message without the elements of its arrays: a copy."""
    copy = object.__new__(type(message))
    for field in message.FIELDS:
        value = getattr(message, field.name)
        setattr(copy, field.name, [] if isinstance(value, list) else value)
    return copy


def hold(messages: Iterable[Message]) -> Steps[list[list[Any]]]:
    """Take hold of the elements of arrays that have many.

    Whoever has the result may drop the messages at no cost, and then calls ``let_go``.
    """
    held: list[list[Any]] = []
    for message in messages:
        yield from _hold([message], type(message), held)
    return held


def _hold(structs: Iterable[Struct], cls: type[Struct], held: list[list[Any]]) -> Steps[None]:
    arrays = [
        (field.name, cls.STRUCTS.get(field.type.removeprefix("[]")))
        for field in cls.FIELDS
        if field.is_array and field.type.removeprefix("[]") not in FIXED_WIDTH
    ]
    if not arrays:
        return
    for struct in structs:
        for name, inner in arrays:
            items = getattr(struct, name)
            if not items:
                continue
            if inner is not None:
                yield from _hold(items, inner, held)
            if len(items) > ELEMENTS_PER_STEP:
                held.append(list(items))
        yield


def let_go(held: list[list[Any]]) -> Steps[None]:
    """Let go of what ``hold`` returned, the outermost arrays last."""
    for items in held:
        while items:
            del items[-ELEMENTS_PER_STEP:]
            yield
