"""Python source under construction: lines, names, and runs of fixed-width values.

The compilers in ``decoder_source`` and ``encoder_source`` write straight-line Python for one
version of one message. What both need is here: indentation, fresh local names, objects that the
source refers to by name, and the *run*: consecutive fixed-width values wait in ``run`` until
something of variable width follows, and then cost one ``struct.Struct`` call together.

With ``in_steps`` the function becomes a generator, which yields whenever it has gone through some
elements and returns what the function would: for what is too large to be done at once.

With ``traced`` the same source keeps, before every field, the field's path in ``where`` and gives
up runs. It is slower, and only ever executed on a value that the fast source has already refused,
to find out which field was wrong.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from trio_kafka_net.protocol.message import Field, Message, Struct
from trio_kafka_net.protocol.primitives import FIXED_WIDTH

STRUCT_CODES: Final = dict(FIXED_WIDTH.values()) | {"B": 1, "x": 1}
"""{format character: bytes}; ``B`` is the first byte of a varint, ``x`` a constant zero byte."""

ELEMENTS_PER_STEP: Final = 100
"""Elements of arrays between two yields: some 50 to 250 µs, and as much again for whoever handles
them. What has fewer is done when the first step is."""


class SourceWriter:
    """Lines of one function, and the namespace in which it will be executed."""

    def __init__(
        self, message: type[Message], version: int, *, traced: bool = False, in_steps: bool = False
    ) -> None:
        """Start empty source for ``version`` of ``message``."""
        self.message = message
        self.version = version
        self.flexible = message.FLEXIBLE_SINCE is not None and version >= message.FLEXIBLE_SINCE
        self.traced = traced
        self.in_steps = in_steps
        self.namespace: dict[str, Any] = {}
        self.run: list[tuple[str, str]] = []
        self._lines: list[str] = []
        self._depth = 0
        self._names = 0

    def emit(self, *lines: str) -> None:
        """Append lines at the current indentation."""
        self._lines += ["    " * self._depth + line for line in lines]

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Emit ``head`` (``if …:``) and indent what is emitted inside the ``with``."""
        self.emit(head)
        self._depth += 1
        yield
        self._depth -= 1

    def begin_steps(self) -> None:
        """Emit the beginning of the first step, if there are steps."""
        if self.in_steps:
            self.emit(f"room = {ELEMENTS_PER_STEP}")
            with self.block("if room < 0:"):
                self.emit("yield")  # a generator, even if no version of the message has arrays

    def count_elements(self, count: str) -> None:
        """Emit that so many elements were gone through, which may end the step."""
        if self.in_steps:
            self.emit(f"room -= {count}")
            with self.block("if room <= 0:"):
                self.emit("yield", f"room = {ELEMENTS_PER_STEP}")

    def fresh(self, prefix: str) -> str:
        """Return a local name that the source does not use yet."""
        self._names += 1
        return f"{prefix}{self._names}"

    def bind(self, prefix: str, value: object) -> str:
        """Return a name under which the source can refer to ``value``; the same one next time."""
        for name, bound in self.namespace.items():
            if bound is value:
                return name
        name = self.fresh(prefix)
        self.namespace[name] = value
        return name

    def packed(self, codes: str, method: str) -> str:
        """Return the name of a ``Struct``'s bound method, for a run of format characters."""
        name = f"{method}_{codes.replace('?', 't')}"
        if name not in self.namespace:
            self.namespace[name] = getattr(struct.Struct(f">{codes}"), method)
        return name

    def struct_class(self, name: str) -> type[Struct]:
        """Return the message's struct of that name."""
        return self.message.STRUCTS[name]

    def fields_of(self, cls: type[Struct]) -> tuple[list[Field], list[Field]]:
        """Return the fields that this version has: untagged in wire order, tagged by tag."""
        present = [each for each in cls.FIELDS if each.exists_in(self.version)]
        untagged = [each for each in present if each.tag is None]
        tagged = [each for each in present if each.tag is not None]
        return untagged, sorted(tagged, key=lambda each: each.tag or 0)

    def compile(self, name: str) -> Callable[..., Any]:
        """Execute the source and return its function ``name``."""
        filename = f"<{name} {self.message.__qualname__} v{self.version}>"
        code = compile("\n".join(self._lines), filename, "exec")
        exec(code, self.namespace)  # noqa: S102 - written here, from schema names alone
        function: Callable[..., Any] = self.namespace[name]
        return function
