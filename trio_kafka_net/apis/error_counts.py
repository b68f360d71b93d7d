"""The error codes of a response, NONE included.

In Kafka every response class counts its own. Here it is one rule: every field named
``error_code`` that the response's version has, wherever it is. A function that walks to those
fields is made once per class and version, from source text, as the codecs are: it runs once per
request, and looking fields up by name would cost more than the handler of a small one.

Source: Kafka ``AbstractResponse.errorCounts``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message, Struct

from .kept_answers import KeptAnswer

GatherErrors = Callable[[Any, list[int]], None]
"""Appends the error codes of a response to a list."""


class Succeeded:
    """Stands for a response that was never a message, because it tells success and no more."""

    error_codes: Final = (ErrorCode.NONE.value,)
    """All that are in it."""


SUCCEEDED: Final = Succeeded()


class ErrorGatherers:
    """Functions that gather error codes, by class and version of the response."""

    def __init__(self) -> None:
        """Know no class yet."""
        self._known: dict[tuple[type[Message], int], GatherErrors] = {}

    def of(self, response: type[Message | KeptAnswer | Succeeded], version: int) -> GatherErrors:
        """The function for a class of responses as ``version`` of it is sent."""
        if not issubclass(response, Message):
            return _gather_kept
        key = response, version
        gather = self._known.get(key)
        if gather is None:
            gather = self._known[key] = _compile(response, version)
        return gather


def _gather_kept(response: KeptAnswer | Succeeded, codes: list[int]) -> None:
    codes += response.error_codes


def _compile(response: type[Message], version: int) -> GatherErrors:
    lines = [
        "def gather(s0, codes):",
        "    add = codes.append",
        *_walk(response, version, 0),
    ]
    namespace: dict[str, GatherErrors] = {}
    # Of names of fields of our own classes, nothing else.
    exec("\n".join(lines), namespace)  # noqa: S102 - see above
    return namespace["gather"]


def _walk(struct: type[Struct], version: int, depth: int) -> Iterator[str]:
    """Lines that gather the codes of the struct in variable ``s<depth>``; none if it has none."""
    here, below = f"s{depth}", f"s{depth + 1}"
    indent = "    " * (depth + 1)
    for field in struct.FIELDS:
        if not field.exists_in(version):
            continue
        if field.name == "error_code":
            yield f"{indent}add({here}.error_code)"
        inner = struct.STRUCTS.get(field.type.removeprefix("[]"))
        lines = [] if inner is None else list(_walk(inner, version, depth + 1))
        if lines and field.is_array:
            yield f"{indent}for {below} in {here}.{field.name} or ():"
            yield from lines
        elif lines:
            yield f"{indent}{below} = {here}.{field.name}"
            yield f"{indent}if {below} is not None:"
            yield from lines
