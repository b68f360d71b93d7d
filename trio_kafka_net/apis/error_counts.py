"""The error codes of a response, NONE included.

In Kafka every response class counts its own. Here it is one rule: every field named
``error_code`` that the response's version has, wherever it is. A function that walks to those
fields is made once per class and version, from source text, as the codecs are: it runs once per
request, and looking fields up by name would cost more than the handler of a small one. For large
responses it is made a second time, in steps.

Source: Kafka ``AbstractResponse.errorCounts``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message, Struct
from trio_kafka_net.protocol.source_writer import ELEMENTS_PER_STEP

from .kept_answers import KeptAnswer

GatherErrors = Callable[[Any, list[int]], None]
"""Appends the error codes of a response to a list."""


StepwiseGatherErrors = Callable[[Any, list[int]], Generator[None, None, None]]
"""The same in steps."""


class Gathered:
    """Stands for a response whose error codes are known already."""

    __slots__ = ("error_codes",)

    def __init__(self, error_codes: list[int]) -> None:
        """Of all that is in it."""
        self.error_codes = error_codes
        """All that are in it."""


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
        self._stepwise: dict[tuple[type[Message], int], StepwiseGatherErrors] = {}

    def of(
        self, response: type[Message | KeptAnswer | Gathered | Succeeded], version: int
    ) -> GatherErrors:
        """The function for a class of responses as ``version`` of it is sent."""
        if not issubclass(response, Message):
            return _gather_kept
        key = response, version
        gather = self._known.get(key)
        if gather is None:
            gather = self._known[key] = _compile(response, version)
        return gather

    def stepwise(self, response: type[Message], version: int) -> StepwiseGatherErrors:
        """The function that gathers in steps, ``ELEMENTS_PER_STEP`` elements each."""
        key = response, version
        gather = self._stepwise.get(key)
        if gather is None:
            gather = self._stepwise[key] = _compile(response, version, in_steps=True)
        return gather


def _gather_kept(response: KeptAnswer | Gathered | Succeeded, codes: list[int]) -> None:
    codes += response.error_codes


def _compile(response: type[Message], version: int, *, in_steps: bool = False) -> Any:
    lines = [
        "def gather(s0, codes):",
        "    add = codes.append",
        *([f"    room = {ELEMENTS_PER_STEP}", "    yield"] if in_steps else []),
        *_walk(response, version, 0, in_steps=in_steps),
    ]
    namespace: dict[str, Any] = {}
    # Of names of fields of our own classes, nothing else.
    exec("\n".join(lines), namespace)  # noqa: S102 - see above
    return namespace["gather"]


def _walk(
    struct: type[Struct], version: int, depth: int, *, in_steps: bool = False
) -> Iterator[str]:
    """Lines that gather the codes of the struct in variable ``s<depth>``; none if it has none."""
    here, below = f"s{depth}", f"s{depth + 1}"
    indent = "    " * (depth + 1)
    for field in struct.FIELDS:
        if not field.exists_in(version):
            continue
        if field.name == "error_code":
            yield f"{indent}add({here}.error_code)"
        inner = struct.STRUCTS.get(field.type.removeprefix("[]"))
        lines = [] if inner is None else list(_walk(inner, version, depth + 1, in_steps=in_steps))
        if lines and field.is_array:
            yield f"{indent}for {below} in {here}.{field.name} or ():"
            yield from lines
            if in_steps:
                yield f"{indent}    room -= 1"
                yield f"{indent}    if room <= 0:"
                yield f"{indent}        yield"
                yield f"{indent}        room = {ELEMENTS_PER_STEP}"
        elif lines:
            yield f"{indent}{below} = {here}.{field.name}"
            yield f"{indent}if {below} is not None:"
            yield from lines
