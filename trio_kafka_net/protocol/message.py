"""Message classes: one class per message, whose fields know the versions they belong to.

A class carries the union of a message's fields over all its versions, so that a handler reads and
builds messages without looking at a version:

* a field that the version on the wire lacks is not written, and has its default after decoding;
* every field has a default (Kafka's), so only what is meant needs to be given;
* a tagged struct that is absent is ``None``, and ``None`` is not written. Kafka's own classes
  would hold a struct of defaults there; the bytes are the same;
* uuids are 16 raw bytes; ``bytes`` and ``records`` decode to a ``memoryview`` of the buffer.

The structs of a message are nested classes, flat as in Kafka's generated code
(``FetchResponse.PartitionData``, not ``FetchResponse.FetchableTopicResponse.PartitionData``). Their
names are Kafka's, without the message's or else the API's name in front where what remains is a
unique capitalised name: ``MetadataResponse.MetadataResponseTopic`` is ``MetadataResponse.Topic``.

Why not attrs, as elsewhere in this package: attrs writes and compiles ``__init__``, ``__eq__`` and
``__repr__`` for each class when it is defined, 200 to 400 µs per class, and a broker needs about
200 of these classes before it can answer its first client. Here a class costs 20 µs when it is
defined, and its ``__init__`` is compiled when the first instance is built. Decoders do not use
``__init__`` at all. (``docs/design/message-classes.md`` has the measurements.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, cast, dataclass_transform

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.primitives import FIXED_WIDTH, ZERO_UUID

Kind: TypeAlias = Literal["request", "response", "data"]
"""What a message is: half of an API, or ``data`` that travels inside records or other fields."""

VersionRange: TypeAlias = tuple[int, int | None]
"""First and last version (inclusive); ``None`` is the message's latest."""

Bytes: TypeAlias = bytes | bytearray | memoryview
"""An opaque field: decoders give a ``memoryview``, encoders take any of these."""

Records: TypeAlias = Any
"""Record batches. Decoders give a ``memoryview``. Encoders take a buffer, any other object with a
length in bytes (a file region), or a list or tuple of such pieces; none of it is copied or read."""

_UNSET: Final = object()
_ZERO_VALUES: Final[dict[str, object]] = {
    "bool": False,
    "float64": 0.0,
    "string": "",
    "bytes": b"",
    "records": None,
    "uuid": ZERO_UUID,
}
_ABBREVIATED_LENGTH: Final = 32


class Field:
    """One field of a message: its wire type and the versions it belongs to."""

    __slots__ = ("default", "name", "nullable", "tag", "type", "versions")

    def __init__(
        self,
        type: str,  # noqa: A002 - Kafka's word in the schema, and only a parameter
        versions: VersionRange,
        nullable: VersionRange | None,
        tag: int | None,
        default: object,
    ) -> None:
        """Keep what ``field()`` was given; ``message`` fills in the name."""
        self.name = ""
        self.type = type
        self.versions = versions
        self.nullable = nullable
        self.tag = tag
        self.default = default

    def exists_in(self, version: int) -> bool:
        """Whether ``version`` of the message has this field."""
        first, last = self.versions
        return first <= version and (last is None or version <= last)

    def nullable_in(self, version: int) -> bool:
        """Whether ``version`` of the message may carry null here."""
        if self.nullable is None:
            return False
        first, last = self.nullable
        return first <= version and (last is None or version <= last)

    @property
    def is_array(self) -> bool:
        """Whether the value is a list."""
        return self.type.startswith("[]")

    @property
    def is_struct(self) -> bool:
        """Whether the value is a struct (an array of structs is not)."""
        return self.type[0].isupper()

    @property
    def is_default_struct(self) -> bool:
        """Whether the default is a fresh struct of defaults rather than a plain value."""
        return self.is_struct and self.tag is None and self.nullable is None


def field(
    type: str,  # noqa: A002 - Kafka's word in the schema
    *,
    versions: VersionRange = (0, None),
    nullable: VersionRange | None = None,
    tag: int | None = None,
    default: object = _UNSET,
) -> Any:
    """Declare a field of a message or struct.

    Args:
        type: Kafka's schema type: ``int8`` to ``int64``, ``uint16``, ``uint32``, ``float64``,
            ``bool``, ``string``, ``uuid``, ``bytes``, ``records``, the name of a struct of the same
            message, or ``[]`` and one of these.
        versions: message versions that have the field.
        nullable: message versions in which it may be null.
        tag: number of the tagged field; tagged in every version that has it.
        default: Kafka's default, when it is not the type's zero value.
    """
    if default is _UNSET:
        default = [] if type.startswith("[]") else _ZERO_VALUES.get(type, _zero_value(type))
    return Field(type, versions, nullable, tag, default)


def _zero_value(type_name: str) -> object:
    return 0 if type_name in FIXED_WIDTH else None


class Struct:
    """A part of a message: keyword-only constructor, equality by value, mutable, unhashable."""

    __slots__ = ()

    FIELDS: ClassVar[tuple[Field, ...]] = ()
    """Fields over all versions, in the order in which they travel."""
    STRUCTS: ClassVar[dict[str, type[Struct]]] = {}
    """{name in a field's type: class}, for all structs of the message."""

    def __init__(self, **values: object) -> None:
        """Set the given fields, the others to their defaults."""
        cls = type(self)
        type.__setattr__(cls, "__init__", _compile_init(cls))
        cls.__init__(self, **values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in self.FIELDS)

    def __repr__(self) -> str:
        shown = (
            f"{each.name}={_abbreviated(value)}"
            for each in self.FIELDS
            if (value := getattr(self, each.name)) != each.default
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"


class Message(Struct):
    """A request, a response, or a value that is stored or sent inside other messages."""

    __slots__ = ()

    API_KEY: ClassVar[ApiKey | None] = None
    """The API of a request or response."""
    KIND: ClassVar[Kind] = "data"
    """Which half of the API it is."""
    VALID_VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    """First and last version, both inclusive."""
    FLEXIBLE_SINCE: ClassVar[int | None] = None
    """First version with compact lengths and tagged fields (KIP-482); ``None``: no version."""
    DECODERS: ClassVar[dict[int, Any]] = {}
    """{version: compiled function}, filled by ``codec``, one dict per class."""
    ENCODERS: ClassVar[dict[int, Any]] = {}
    """{version: compiled function}, filled by ``codec``, one dict per class."""
    TRACED_DECODERS: ClassVar[dict[int, Any]] = {}
    """{version: compiled function}, filled by ``codec``, one dict per class."""
    STEPWISE_DECODERS: ClassVar[dict[int, Any]] = {}
    """{version: compiled function}, filled by ``codec``, one dict per class."""
    STEPWISE_ENCODERS: ClassVar[dict[int, Any]] = {}
    """{version: compiled function}, filled by ``codec``, one dict per class."""


S = TypeVar("S", bound=Struct)
M = TypeVar("M", bound=Message)


@dataclass_transform(kw_only_default=True)
def struct(cls: type[S]) -> type[S]:
    """Make a slots class of a declaration whose class attributes are ``field()``."""
    fields = []
    for name, value in vars(cls).items():
        if isinstance(value, Field):
            value.name = name
            fields.append(value)
    # Slots must be known when a class is made, so the declaration is made again with them.
    namespace = {
        name: value
        for name, value in vars(cls).items()
        if not isinstance(value, Field) and name not in {"__dict__", "__weakref__"}
    }
    namespace["__qualname__"] = cls.__qualname__
    namespace["__slots__"] = tuple(each.name for each in fields)
    namespace["FIELDS"] = tuple(fields)
    return cast("type[S]", type(cls.__name__, cls.__bases__, namespace))


@dataclass_transform(kw_only_default=True)
def message(
    *,
    versions: tuple[int, int],
    flexible_since: int | None = None,
    api_key: ApiKey | None = None,
    kind: Kind = "data",
) -> Callable[[type[M]], type[M]]:
    """Make a message class of a declaration with ``field()`` attributes and nested structs.

    Args:
        versions: first and last version, both inclusive.
        flexible_since: first version with compact lengths and tagged fields, if any.
        api_key: the API of a request or response.
        kind: ``request``, ``response`` or ``data``.
    """

    def decorate(cls: type[M]) -> type[M]:
        made = struct(cls)
        made.API_KEY = api_key
        made.KIND = kind
        made.VALID_VERSIONS = versions
        made.FLEXIBLE_SINCE = flexible_since
        made.DECODERS, made.ENCODERS, made.TRACED_DECODERS = {}, {}, {}
        made.STEPWISE_DECODERS, made.STEPWISE_ENCODERS = {}, {}
        structs = {
            name: value
            for name, value in vars(made).items()
            if isinstance(value, type) and issubclass(value, Struct)
        }
        made.STRUCTS = structs
        for each in structs.values():
            each.STRUCTS = structs
        return made

    return decorate


def _compile_init(cls: type[Struct]) -> Callable[..., None]:
    """Write the constructor of ``cls``: one keyword per field, a new list where none was given."""
    parameters = []
    body = []
    constants: dict[str, object] = {"unset": _UNSET}
    for each in cls.FIELDS:
        name = each.name
        if each.is_array and each.default is not None:
            parameters.append(f"{name}=unset")
            body.append(f"self.{name} = [] if {name} is unset else {name}")
        elif each.is_default_struct:
            constants[each.type] = cls.STRUCTS[each.type]
            parameters.append(f"{name}=unset")
            body.append(f"self.{name} = {each.type}() if {name} is unset else {name}")
        else:
            parameters.append(f"{name}={each.default!r}")
            body.append(f"self.{name} = {name}")
    signature = ", ".join(["self", *(["*"] if parameters else []), *parameters])
    source = f"def __init__({signature}):\n    " + "\n    ".join(body or ["pass"])
    exec(source, constants)  # noqa: S102 - written above, from schema names alone
    init = cast("Callable[..., None]", constants["__init__"])
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _abbreviated(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview) and len(value) > _ABBREVIATED_LENGTH:
        return f"<{len(value)} bytes>"
    return repr(bytes(value)) if isinstance(value, memoryview) else repr(value)
