"""Writes the decoder of one message version.

The function that is written here reads as one would write it by hand for speed::

    def decode(view, position=0, strict=True):
        end = len(view)
        structs_left = 1000000
        try:
            m1 = new(ProduceRequest)
            n2 = view[position]; position += 1          # first byte of a compact length
            if n2 > 127: n2, position = finish_uvarint(view, position, n2)
            ...
            m7.index, n8 = unpack9(view, position); position += 5       # a run

Three rules make it safe on any bytes:

1. A read past the end raises by itself (``IndexError``, ``struct.error``), because the position
   never becomes negative; only slices need a check, since Python shortens them silently.
2. A length is compared with the bytes left before anything is sliced or allocated, and so is a
   count times the smallest encoded size of its elements.
3. Structs, and in requests strings, are counted over the whole message, see ``primitives``.

There is no recursion at run time: structs are written in line, loop in loop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from trio_kafka_net.protocol.message import Field, Message, Struct
from trio_kafka_net.protocol.primitives import (
    FIXED_WIDTH,
    MAX_ARRAY_LENGTH,
    MAX_REQUEST_ELEMENTS,
    MAX_STRING_LENGTH,
    MAX_TAGGED_FIELDS,
    MalformedError,
    finish_uvarint,
    read_uvarint,
    skip_tagged_fields,
)
from trio_kafka_net.protocol.source_writer import STRUCT_CODES, SourceWriter

DECODE_FAILURES = (MalformedError, IndexError, struct.error, UnicodeDecodeError)
"""What a generated decoder raises on bad bytes."""

_PAST_END = "raise MalformedError('length runs past the end')"
_NULL = "raise MalformedError('null is not allowed here')"
_NEGATIVE = "raise MalformedError('negative length')"


def compile_decoder(
    message: type[Message],
    version: int,
    explain: Callable[..., Exception],
) -> Callable[..., Any]:
    """Compile ``decode(view, position=0, strict=True) -> message``.

    Args:
        message: class to decode into.
        version: one of its valid versions.
        explain: called as ``explain(view, position, strict)`` on bad bytes; returns what to raise.
    """
    source = _DecoderSource(message, version)
    source.namespace["explain"] = explain
    with source.block("def decode(view, position=0, strict=True):"):
        source.emit("start = position")
        with source.block("try:"):
            source.write_body()
        with source.block("except FAILURES:"):
            # The explanation decodes once more: let go of what this attempt has built.
            source.emit(f"{' = '.join(source.holders)} = None")
            source.emit("raise explain(view, start, strict) from None")
    return source.compile("decode")


def compile_traced_decoder(message: type[Message], version: int) -> Callable[..., Any]:
    """Compile ``trace(view, position, strict, where) -> message``.

    It keeps the path of the field and its position in the list ``where``, and lets
    ``DECODE_FAILURES`` out as they come.
    """
    source = _DecoderSource(message, version, traced=True)
    with source.block("def trace(view, position, strict, where):"):
        source.write_body()
    return source.compile("trace")


def compile_stepwise_decoder(
    message: type[Message],
    version: int,
    explain: Callable[..., Exception],
) -> Callable[..., Any]:
    """Compile ``decode(view, position=0, strict=True)``, a generator that returns the message.

    Args:
        message: class to decode into.
        version: one of its valid versions.
        explain: called as ``explain(position, failure)`` on bad bytes; returns what to raise.
    """
    source = _DecoderSource(message, version, in_steps=True)
    source.namespace["explain"] = explain
    with source.block("def decode(view, position=0, strict=True):"):
        with source.block("try:"):
            source.write_body()
        # Not decoded once more to find the field, as that would be in one step.
        with source.block("except FAILURES as failure:"):
            source.emit("raise explain(position, failure) from None")
    return source.compile("decode")


class _DecoderSource(SourceWriter):
    """The source of one decoder."""

    def __init__(
        self, message: type[Message], version: int, *, traced: bool = False, in_steps: bool = False
    ) -> None:
        super().__init__(message, version, traced=traced, in_steps=in_steps)
        self.namespace |= {
            "new": object.__new__,
            "unpack_from": struct.unpack_from,
            "MalformedError": MalformedError,
            "finish_uvarint": finish_uvarint,
            "read_uvarint": read_uvarint,
            "skip_tagged_fields": skip_tagged_fields,
            "FAILURES": DECODE_FAILURES,
        }
        self.holders: list[str] = []
        self.is_request = message.KIND == "request"

    def write_body(self) -> None:
        """Emit the reading of the whole message, up to its return."""
        most = MAX_REQUEST_ELEMENTS if self.is_request else MAX_ARRAY_LENGTH
        self.emit("end = len(view)", f"structs_left = {most}")
        self.begin_steps()
        result = self.struct(self.message, self.message.__name__)
        self.trace(f"{self.message.__name__}, end")
        self.flush()
        with self.block("if position != end and strict:"):
            self.emit("raise MalformedError(f'{end - position} bytes after the message')")
        self.emit(f"return {result}")

    def holder(self, prefix: str) -> str:
        """Return a fresh name for a local that keeps decoded objects alive."""
        name = self.fresh(prefix)
        self.holders.append(name)
        return name

    def read(self, code: str, target: str) -> None:
        """Queue a fixed-width value for the current run."""
        self.run.append((code, target))
        if self.traced:
            self.flush()

    def flush(self) -> None:
        """Emit the reads of the run."""
        if not self.run:
            return
        codes = "".join(code for code, _ in self.run)
        targets = [target for _, target in self.run]
        width = sum(STRUCT_CODES[code] for code, _ in self.run)
        self.run = []
        if codes == "B":
            self.emit(f"{targets[0]} = view[position]", "position += 1")
            return
        unpack = self.packed(codes, "unpack_from")
        self.emit(f"{', '.join(targets)}, = {unpack}(view, position)", f"position += {width}")

    def trace(self, path: str) -> None:
        """In the traced variant, note where we are."""
        if self.traced:
            self.flush()
            self.emit(f"where[:] = {path!r}, position")

    def struct(self, cls: type[Struct], path: str) -> str:
        """Emit the reading of one struct and return the local name that holds it."""
        made = self.holder("m")
        self.emit(f"{made} = new({self.bind(cls.__name__, cls)})")
        untagged, tagged = self.fields_of(cls)
        for each in cls.FIELDS:
            if each not in untagged:
                self.emit(f"{made}.{each.name} = {self.default(each)}")
        for each in untagged:
            target = f"{made}.{each.name}"
            self.value(each.type, target, f"{path}.{each.name}", each.nullable_in(self.version))
        if self.flexible:
            self.tagged_fields(made, tagged, path)
        return made

    def default(self, each: Field) -> str:
        if each.is_default_struct:
            return f"{self.bind(each.type, self.struct_class(each.type))}()"
        return repr(each.default)

    def value(self, type_name: str, target: str, path: str, nullable: bool) -> None:
        """Emit the reading of one value into ``target``."""
        self.trace(path)
        if type_name.startswith("[]"):
            self.array(type_name[2:], target, path, nullable)
        elif type_name in FIXED_WIDTH:
            self.read(FIXED_WIDTH[type_name][0], target)
        elif type_name in {"string", "bytes", "records"}:
            self.text_or_bytes(type_name, target, nullable)
        elif nullable:
            self.nullable_struct(type_name, target, path)
        else:
            made = self.struct(self.struct_class(type_name), path)
            self.emit(f"{target} = {made}")

    def nullable_struct(self, type_name: str, target: str, path: str) -> None:
        # KIP-893: a signed byte in front, negative for null.
        marker = self.fresh("marker")
        self.read("b", marker)
        self.flush()
        with self.block(f"if {marker} >= 0:"):
            made = self.struct(self.struct_class(type_name), path)
            self.flush()
            self.emit(f"{target} = {made}")
        with self.block("else:"):
            self.emit(f"{target} = None")

    def length(self, legacy_code: str) -> str:
        """Emit the reading of a length and return its name; compact lengths are still one up."""
        length = self.fresh("n")
        self.read("B" if self.flexible else legacy_code, length)
        self.flush()
        if self.flexible:
            with self.block(f"if {length} > 127:"):
                self.emit(f"{length}, position = finish_uvarint(view, position, {length})")
                if legacy_code == "h":
                    with self.block(f"if {length} > {MAX_STRING_LENGTH + 1}:"):
                        self.emit("raise MalformedError('string too long')")
        return length

    def null_branch(self, length: str, target: str, nullable: bool) -> None:
        """Emit what follows the ``if`` of a present value: null, or a refusal."""
        if nullable:
            with self.block("else:" if self.flexible else f"elif {length} == -1:"):
                self.emit(f"{target} = None")
            if self.flexible:
                return
        with self.block("else:"):
            self.emit(_NULL if self.flexible else _NEGATIVE)

    def text_or_bytes(self, type_name: str, target: str, nullable: bool) -> None:
        length = self.length("h" if type_name == "string" else "i")
        with self.block(f"if {length}:" if self.flexible else f"if {length} >= 0:"):
            self.emit(f"stop = position + {length}" + (" - 1" if self.flexible else ""))
            with self.block("if stop > end:"):
                self.emit(_PAST_END)
            piece = "view[position:stop]"
            text = f"{piece}.tobytes().decode()"  # a quarter faster than str(…, "utf-8")
            self.emit(f"{target} = {text if type_name == 'string' else piece}", "position = stop")
        self.null_branch(length, target, nullable)

    def array(self, element: str, target: str, path: str, nullable: bool) -> None:
        length = self.length("i")
        with self.block(f"if {length}:" if self.flexible else f"if {length} >= 0:"):
            if self.flexible:
                self.emit(f"{length} -= 1")
            self.check_count(element, length)
            if element in FIXED_WIDTH and not (self.in_steps and element == "uuid"):
                self.fixed_width_elements(element, target, length)
                self.count_elements(length)
            else:
                self.other_elements(element, target, path, length)
        self.null_branch(length, target, nullable)

    def check_count(self, element: str, length: str) -> None:
        smallest = self.smallest_size(element)
        needed = length if smallest == 1 else f"{length} * {smallest}"
        too_many = f"{length} > {MAX_ARRAY_LENGTH}"
        if element in self.message.STRUCTS or self.is_request:
            self.emit(f"structs_left -= {length}")
            too_many = "structs_left < 0"
        with self.block(f"if {needed} > end - position or {too_many}:"):
            self.emit("raise MalformedError('more elements than can follow')")

    def fixed_width_elements(self, element: str, target: str, length: str) -> None:
        code, width = FIXED_WIDTH[element]
        if element == "uuid":
            self.emit(
                f"{target} = [bytes(view[at:at + 16]) "
                f"for at in range(position, position + 16 * {length}, 16)]"
            )
        else:
            # The usual array is a list of one to three replicas: a table beats a format string.
            few = tuple(struct.Struct(f">{count}{code}").unpack_from for count in range(4))
            table = self.bind("few", few)
            self.emit(
                f"{target} = list({table}[{length}](view, position) if {length} < 4 "
                f"else unpack_from('>%d{code}' % {length}, view, position))"
            )
        self.emit(f"position += {length} * {width}" if width > 1 else f"position += {length}")

    def other_elements(self, element: str, target: str, path: str, length: str) -> None:
        items = self.holder("items")
        append = self.holder("append")
        self.emit(f"{items} = []", f"{append} = {items}.append")
        with self.block(f"for _ in range({length}):"):
            if element in self.message.STRUCTS:
                item = self.struct(self.struct_class(element), path)
            else:
                item = self.fresh("item")
                self.value(element, item, path, nullable=False)
            self.flush()
            self.emit(f"{append}({item})")
            self.count_elements("1")
        self.emit(f"{target} = {items}")

    def tagged_fields(self, made: str, tagged: list[Field], path: str) -> None:
        self.trace(f"{path}, tagged fields")
        count = self.fresh("tags")
        self.read("B", count)
        self.flush()
        with self.block(f"if {count}:"):
            if not tagged:
                self.emit(f"position = skip_tagged_fields(view, position, {count})")
                self.count_elements(count)
                return
            with self.block(f"if {count} > 127:"):
                self.emit(f"{count}, position = finish_uvarint(view, position, {count})")
                with self.block(f"if {count} > {MAX_TAGGED_FIELDS}:"):
                    self.emit("raise MalformedError('too many tagged fields')")
            with self.block(f"for _ in range({count}):"):
                self.tagged_field(made, tagged, path)
                self.count_elements("1")

    def tagged_field(self, made: str, tagged: list[Field], path: str) -> None:
        stop = self.fresh("stop")
        tag = self.fresh("tag")
        self.emit(
            f"{tag}, position = read_uvarint(view, position)",
            f"{stop}, position = read_uvarint(view, position)",
            f"{stop} += position",
        )
        with self.block(f"if {stop} > end:"):
            self.emit(_PAST_END)
        word = "if"
        for each in tagged:
            with self.block(f"{word} {tag} == {each.tag}:"):
                nullable = each.nullable_in(self.version)
                self.value(each.type, f"{made}.{each.name}", f"{path}.{each.name}", nullable)
                self.flush()
                with self.block(f"if position != {stop}:"):
                    self.emit("raise MalformedError('tagged field is not as long as it says')")
            word = "elif"
        with self.block("else:"):
            self.emit(f"position = {stop}")

    def smallest_size(self, type_name: str) -> int:
        """Return the fewest bytes that a value of this type takes in this version."""
        if type_name in FIXED_WIDTH:
            return FIXED_WIDTH[type_name][1]
        if type_name not in self.message.STRUCTS:
            return 1 if self.flexible else 2 if type_name == "string" else 4
        untagged, _ = self.fields_of(self.struct_class(type_name))
        sizes = (
            1
            if each.is_struct and each.nullable_in(self.version)
            else self.smallest_size(each.type)
            for each in untagged
        )
        return max(1, sum(sizes) + self.flexible)
