"""What ``__consumer_offsets`` holds: records of committed offsets and of groups.

A record's key begins with a number, int16, that says what the record is about; its value begins
with the number of its own layout. A null value is a tombstone: what the key names is gone. Written
are the layouts that Kafka 4.1 writes, read are all that it ever wrote:

====== ========================= =============================================
key    is                        value written
====== ========================= =============================================
0, 1   an offset of a partition  4; 1 if the commit says when it expires
2      a classic group           3
3-     others (KIP-848, KIP-932) nothing here reads or writes them
====== ========================= =============================================

A group has its records in one partition of the topic, chosen by Java's hash of its id, so that
a data directory means the same to Kafka.

No clock, no input or output. Bytes from a disk may be anything: whatever is wrong with them is
``CorruptRecordError``.

Source: Kafka ``GroupCoordinatorRecordHelpers``, ``GroupCoordinatorRecordSerde`` (4.1).
"""

from __future__ import annotations

import struct

import attrs

from trio_kafka_net.errors import CorruptRecordError, RemoteProtocolError
from trio_kafka_net.protocol.codec import decoder, encoder
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.group_metadata_records import (
    GroupMetadataKey,
    GroupMetadataValue,
)
from trio_kafka_net.protocol.messages.offset_records import OffsetCommitKey, OffsetCommitValue
from trio_kafka_net.protocol.primitives import ZERO_UUID

NO_EXPIRY = -1
"""``CommittedOffset.expire_timestamp`` of a commit that left it to the broker."""

_VERSION = struct.Struct(">h")
_OFFSET_KEY = 1
_OFFSET_VALUE, _EXPIRING_OFFSET_VALUE = 4, 1
_GROUP_KEY = 2
_GROUP_VALUE = 3

_MASK = 2**32 - 1
_SIGN = 2**31


@attrs.define
class CommittedOffset:
    """How far a group has come in one partition."""

    offset: int
    """Of the next record to read; clients may commit any number."""
    leader_epoch: int = -1
    """Of the record read last, -1 if the client did not say."""
    metadata: str = ""
    """Whatever the client wants to remember."""
    commit_timestamp: int = -1
    """ms since the epoch."""
    expire_timestamp: int = NO_EXPIRY
    """ms since the epoch; -1 if the broker's retention decides."""
    topic_id: bytes = ZERO_UUID
    """16 bytes, zero if the client named the topic."""


@attrs.define
class OffsetChange:
    """A record read: an offset was committed, or removed."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset | None
    """None if it was removed."""


@attrs.define
class GroupChange:
    """A record read: a group was saved, or removed."""

    group_id: str
    value: GroupMetadataValue | None
    """None if it was removed."""


Change = OffsetChange | GroupChange


def partition_for(group_id: str, partitions: int) -> int:
    """The partition of ``__consumer_offsets``, of so many, that has a group's records.

    Source: Kafka ``GroupCoordinatorService.partitionFor``; Java ``String.hashCode``, which is
        over UTF-16 units.
    """
    encoded = group_id.encode("utf-16-be")
    code = 0
    for unit in struct.unpack(f">{len(encoded) // 2}H", encoded):
        code = (31 * code + unit) & _MASK
    if code > _SIGN:
        code = _MASK + 1 - code
    # The smallest int has no opposite; Kafka takes 0 for it.
    return 0 if code == _SIGN else code % partitions


def offset_key(group_id: str, topic: str, partition: int) -> bytes:
    """The key of an offset's records."""
    return _encode(
        OffsetCommitKey(group=group_id, topic=topic, partition=partition), _OFFSET_KEY, _OFFSET_KEY
    )


def offset_value(committed: CommittedOffset) -> bytes:
    """The value of the record of a committed offset."""
    version = _OFFSET_VALUE if committed.expire_timestamp == NO_EXPIRY else _EXPIRING_OFFSET_VALUE
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_timestamp,
        expire_timestamp=committed.expire_timestamp,
        topic_id=committed.topic_id,
    )
    return _encode(value, version, version)


def group_key(group_id: str) -> bytes:
    """The key of a group's records."""
    return _encode(GroupMetadataKey(group=group_id), _GROUP_KEY, _GROUP_KEY)


def group_value(value: GroupMetadataValue) -> bytes:
    """The value of a group's record.

    Raises:
        LocalProtocolError: a field cannot carry its value.
    """
    return _encode(value, _GROUP_VALUE, _GROUP_VALUE)


def read_record(key: bytes | None, value: bytes | None) -> Change:
    """What a record says.

    Args:
        key: of the record.
        value: of the record; None is a tombstone.

    Raises:
        CorruptRecordError: the record is damaged, or of a kind or layout that is not known.
    """
    kind = _version(key, "key")
    assert key is not None
    try:
        if kind <= _OFFSET_KEY:
            return _read_offset(key, kind, value)
        if kind == _GROUP_KEY:
            return _read_group(key, value)
    except RemoteProtocolError as exc:
        raise CorruptRecordError(str(exc)) from exc
    raise CorruptRecordError(f"key of kind {kind}; known are 0 to {_GROUP_KEY}")


def _read_offset(key: bytes, kind: int, value: bytes | None) -> OffsetChange:
    about = decoder(OffsetCommitKey, kind)(memoryview(key), _VERSION.size)
    committed = None
    if value is not None:
        decode = decoder(OffsetCommitValue, _layout(value, OffsetCommitValue))
        read = decode(memoryview(value), _VERSION.size)
        committed = CommittedOffset(
            read.offset,
            read.leader_epoch,
            read.metadata,
            read.commit_timestamp,
            read.expire_timestamp,
            read.topic_id,
        )
    return OffsetChange(about.group, about.topic, about.partition, committed)


def _read_group(key: bytes, value: bytes | None) -> GroupChange:
    about = decoder(GroupMetadataKey, _GROUP_KEY)(memoryview(key), _VERSION.size)
    if value is None:
        return GroupChange(about.group, None)
    decode = decoder(GroupMetadataValue, _layout(value, GroupMetadataValue))
    return GroupChange(about.group, decode(memoryview(value), _VERSION.size))


def _layout(value: bytes, cls: type[Message]) -> int:
    version = _version(value, "value")
    first, last = cls.VALID_VERSIONS
    if not first <= version <= last:
        raise CorruptRecordError(f"value of layout {version}; known are {first} to {last}")
    return version


def _version(encoded: bytes | None, what: str) -> int:
    if encoded is None or len(encoded) < _VERSION.size:
        raise CorruptRecordError(f"{what} without its number")
    version: int = _VERSION.unpack_from(encoded)[0]
    if version < 0:
        raise CorruptRecordError(f"{what} of number {version}")
    return version


def _encode(message: Message, number: int, version: int) -> bytes:
    """Encode ``message`` in ``version``, with ``number`` in front."""
    return b"".join(encoder(type(message), version)(message, bytearray(_VERSION.pack(number))))
