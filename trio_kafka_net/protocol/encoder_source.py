"""Writes the encoder of one message version.

``encode(message, out)`` appends to the bytearray ``out``, which may already hold a header, and
returns the list of buffers to send. Small fields are gathered in ``out``. A file region, or a
``bytes`` or ``records`` value above ``GATHER_LIMIT``, ends the bytearray, is put into the list as
it is, and a new bytearray goes on behind it: batches and regions reach the socket without a copy.

Fixed-width fields are packed in runs together with the length that follows them, as in
``decoder_source``. Types and ranges are not checked one by one: ``struct``, ``len`` and ``encode``
refuse what they cannot take, and the traced variant then finds the field.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from trio_kafka_net.protocol.message import Field, Message, Struct
from trio_kafka_net.protocol.primitives import (
    FIXED_WIDTH,
    MAX_STRING_LENGTH,
    encode_uvarint,
)
from trio_kafka_net.protocol.source_writer import SourceWriter

ENCODE_FAILURES = (struct.error, TypeError, AttributeError, ValueError, OverflowError)
"""What a generated encoder raises on a value that its field cannot carry."""

GATHER_LIMIT: Final = 512
"""Bytes up to which a value is copied between its neighbours: cheaper than one more buffer."""

_BUFFERS: Final = frozenset({bytes, bytearray, memoryview})


def compile_encoder(
    message: type[Message],
    version: int,
    explain: Callable[..., Exception],
) -> Callable[..., list[Any]]:
    """Compile ``encode(message, out) -> list of buffers``.

    Args:
        message: class to encode.
        version: one of its valid versions.
        explain: called as ``explain(message)`` on a bad value; returns what to raise.
    """
    source = _EncoderSource(message, version)
    source.namespace["explain"] = explain
    with source.block("def encode(message, out):"):
        with source.block("try:"):
            source.write_body()
        with source.block("except FAILURES:"):
            source.emit("raise explain(message) from None")
    return source.compile("encode")


def compile_traced_encoder(message: type[Message], version: int) -> Callable[..., list[Any]]:
    """Compile ``trace(message, out, where) -> list of buffers``.

    It keeps the path of the field in the list ``where``, and lets ``ENCODE_FAILURES`` out as they
    come.
    """
    source = _EncoderSource(message, version, traced=True)
    with source.block("def trace(message, out, where):"):
        source.write_body()
    return source.compile("trace")


def compile_stepwise_encoder(
    message: type[Message],
    version: int,
    explain: Callable[..., Exception],
) -> Callable[..., Any]:
    """Compile ``encode(message, out)``, a generator that returns the list of buffers.

    Arguments as for ``compile_encoder``.
    """
    source = _EncoderSource(message, version, in_steps=True)
    source.namespace["explain"] = explain
    with source.block("def encode(message, out):"):
        with source.block("try:"):
            source.write_body()
        with source.block("except FAILURES:"):
            source.emit("raise explain(message) from None")
    return source.compile("encode")


def _length_of(value: Any) -> int:
    """Length in bytes of an opaque region or of a list or tuple of pieces."""
    if isinstance(value, list | tuple):
        return sum(map(_length_of, value))
    if isinstance(value, str):
        raise TypeError("text where bytes belong")
    return len(value)


def _append_pieces(parts: list[Any], out: bytearray, value: Any) -> bytearray:
    """Put ``out`` and then ``value`` into ``parts``; return the bytearray to go on with."""
    parts.append(out)
    if isinstance(value, list | tuple):
        parts += value
    else:
        parts.append(value)
    return bytearray()


class _EncoderSource(SourceWriter):
    """The source of one encoder."""

    def __init__(
        self, message: type[Message], version: int, *, traced: bool = False, in_steps: bool = False
    ) -> None:
        super().__init__(message, version, traced=traced, in_steps=in_steps)
        self.namespace |= {
            "pack": struct.pack,
            "encode_uvarint": encode_uvarint,
            "length_of": _length_of,
            "append_pieces": _append_pieces,
            "BUFFERS": _BUFFERS,
            "FAILURES": ENCODE_FAILURES,
        }
        self.out = "out"

    def write_body(self) -> None:
        """Emit the writing of the whole message, up to its return."""
        self.emit("parts = []")
        self.begin_steps()
        self.struct(self.message, "message", self.message.__name__)
        self.flush()
        with self.block("if out:"):
            self.emit("parts.append(out)")
        self.emit("return parts")

    def put(self, code: str, expression: str = "") -> None:
        """Queue a fixed-width value for the current run."""
        self.run.append((code, expression))
        if self.traced:
            self.flush()

    def take_run(self, *extra: tuple[str, str]) -> str:
        """Return the expression that packs the run and ``extra``; the run stays queued."""
        run = [*self.run, *extra]
        codes = "".join(code for code, _ in run)
        if set(codes) == {"x"}:
            return repr(bytes(len(codes)))
        arguments = ", ".join(expression for code, expression in run if code != "x")
        return f"{self.packed(codes, 'pack')}({arguments})"

    def flush(self) -> None:
        """Emit the packing of the run."""
        if self.run:
            self.emit(f"{self.out} += {self.take_run()}")
            self.run = []

    def length(self, length: str, legacy_code: str) -> None:
        """Emit a length; a compact one was already counted one up."""
        if not self.flexible:
            self.put(legacy_code, length)
            self.flush()
            return
        with self.block(f"if {length} < 128:"):
            fused = f" += {self.take_run(('B', length))}" if self.run else f".append({length})"
            self.emit(f"{self.out}{fused}")
        with self.block("else:"):
            if legacy_code == "h":
                with self.block(f"if {length} > {MAX_STRING_LENGTH + 1}:"):
                    self.emit("raise ValueError('string too long')")
            self.flush()
            self.emit(f"{self.out} += encode_uvarint({length})")
        self.run = []

    def trace(self, path: str) -> None:
        """In the traced variant, note where we are."""
        if self.traced:
            self.flush()
            self.emit(f"where[0] = {path!r}")

    def struct(self, cls: type[Struct], source: str, path: str) -> None:
        """Emit the writing of the struct that the local name ``source`` holds."""
        untagged, tagged = self.fields_of(cls)
        for each in untagged:
            nullable = each.nullable_in(self.version)
            self.value(each.type, f"{source}.{each.name}", f"{path}.{each.name}", nullable)
        if not self.flexible:
            return
        if tagged:
            self.tagged_fields(tagged, source, path)
        else:
            self.put("x")

    def value(self, type_name: str, expression: str, path: str, nullable: bool) -> None:
        """Emit the writing of one value."""
        self.trace(path)
        if type_name.startswith("[]"):
            self.array(type_name[2:], expression, path, nullable)
        elif type_name == "uuid":
            self.uuid(expression)
        elif type_name in FIXED_WIDTH:
            self.put(FIXED_WIDTH[type_name][0], expression)
        elif type_name == "string":
            self.text(expression, nullable)
        elif type_name in {"bytes", "records"}:
            self.opaque(expression, nullable)
        else:
            self.nested_struct(type_name, expression, path, nullable)

    def uuid(self, expression: str) -> None:
        # struct would pad or cut a value of another length without a word.
        value = self.fresh("v")
        self.emit(f"{value} = {expression}")
        with self.block(f"if len({value}) != 16:"):
            self.emit("raise ValueError('a uuid is 16 bytes')")
        self.put("16s", value)

    def nested_struct(self, type_name: str, expression: str, path: str, nullable: bool) -> None:
        value = self.fresh("m")
        self.emit(f"{value} = {expression}")
        cls = self.struct_class(type_name)
        if not nullable:
            self.struct(cls, value, path)
            return
        self.flush()
        with self.block(f"if {value} is None:"):
            self.emit(f"{self.out}.append(255)")
        with self.block("else:"):
            self.put("b", "1")
            self.struct(cls, value, path)
            self.flush()

    def counted(self, length: str, expression: str) -> str:
        """Return the assignment of a length, one up if compact."""
        return f"{length} = {expression}" + (" + 1" if self.flexible else "")

    @property
    def null_length(self) -> int:
        return 0 if self.flexible else -1

    def text(self, expression: str, nullable: bool) -> None:
        text, length = self.fresh("text"), self.fresh("n")
        if nullable:
            self.emit(f"{text} = {expression}")
            with self.block(f"if {text} is None:"):
                self.emit(f"{text} = b''", f"{length} = {self.null_length}")
            with self.block("else:"):
                self.emit(f"{text} = {text}.encode()", self.counted(length, f"len({text})"))
        else:
            self.emit(f"{text} = {expression}.encode()", self.counted(length, f"len({text})"))
        self.length(length, "h")
        self.emit(f"{self.out} += {text}")

    def opaque(self, expression: str, nullable: bool) -> None:
        value, length = self.fresh("v"), self.fresh("n")
        self.emit(f"{value} = {expression}")
        word = "if"
        if nullable:
            with self.block(f"if {value} is None:"):
                self.emit(f"{value} = b''", f"{length} = {self.null_length}")
            word = "elif"
        with self.block(f"{word} type({value}) in BUFFERS:"):
            self.emit(self.counted(length, f"len({value})"))
        with self.block("else:"):
            self.emit(self.counted(length, f"length_of({value})"))
        self.length(length, "i")
        if self.out != "out":
            self.emit(f"{self.out} += {value}")
            return
        with self.block(f"if {length} <= {GATHER_LIMIT} and type({value}) in BUFFERS:"):
            self.emit(f"out += {value}")
        with self.block("else:"):
            self.emit(f"out = append_pieces(parts, out, {value})")

    def array(self, element: str, expression: str, path: str, nullable: bool) -> None:
        items, length = self.fresh("items"), self.fresh("n")
        self.emit(f"{items} = {expression}")
        if nullable:
            with self.block(f"if {items} is None:"):
                self.emit(f"{items} = ()", f"{length} = {self.null_length}")
            with self.block("else:"):
                self.emit(self.counted(length, f"len({items})"))
        else:
            self.emit(self.counted(length, f"len({items})"))
        self.length(length, "i")
        if element in FIXED_WIDTH and element != "uuid":
            self.fixed_width_elements(element, items)
            self.count_elements(f"len({items})")
            return
        item = self.fresh("m")
        with self.block(f"for {item} in {items}:"):
            if element in self.message.STRUCTS:
                self.struct(self.struct_class(element), item, path)
            else:
                self.value(element, item, path, nullable=False)
            self.flush()
            self.count_elements("1")

    def fixed_width_elements(self, element: str, items: str) -> None:
        code, _ = FIXED_WIDTH[element]
        table = self.bind("few", tuple(struct.Struct(f">{n}{code}").pack for n in range(4)))
        self.emit(
            f"{self.out} += {table}[len({items})](*{items}) if len({items}) < 4 "
            f"else pack('>%d{code}' % len({items}), *{items})"
        )

    def tagged_fields(self, tagged: list[Field], source: str, path: str) -> None:
        self.flush()
        outer, count, body = self.out, self.fresh("tags"), self.fresh("body")
        defaults = [self.is_default(each, f"{source}.{each.name}") for each in tagged]
        with self.block(f"if {' and '.join(defaults)}:"):
            self.emit(f"{outer}.append(0)")
        with self.block("else:"):
            section = self.fresh("section")
            self.emit(f"{count} = 0", f"{section} = bytearray()")
            for each in tagged:
                value = f"{source}.{each.name}"
                with self.block(f"if not ({self.is_default(each, value, exact=True)}):"):
                    self.emit(f"{count} += 1", f"{body} = bytearray()")
                    self.out = body
                    nullable = each.nullable_in(self.version)
                    self.value(each.type, value, f"{path}.{each.name}", nullable)
                    self.flush()
                    self.out = outer
                    self.emit(
                        f"{section} += encode_uvarint({each.tag})",
                        f"{section} += encode_uvarint(len({body}))",
                        f"{section} += {body}",
                    )
            self.emit(f"{outer} += encode_uvarint({count})", f"{outer} += {section}")

    def is_default(self, each: Field, value: str, *, exact: bool = False) -> str:
        """Return the condition under which a tagged field is not sent.

        A struct equal to a struct of defaults is not sent either; that comparison is left out
        where only a quick answer for the usual case is wanted (``exact`` is false).
        """
        if each.is_struct and each.nullable is None and exact:
            zero = self.bind("default", self.struct_class(each.type)())
            return f"{value} is None or {value} == {zero}"
        if each.default is None:
            return f"{value} is None"
        return f"{value} == {each.default!r}"
