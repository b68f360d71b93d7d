"""Records of __consumer_offsets: Kafka's bytes, both ways."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.coordinator import kafka_log
from trio_kafka_net.broker.coordinator.group_records import (
    CommittedOffset,
    GroupChange,
    OffsetChange,
    group_key,
    group_value,
    offset_key,
    offset_value,
    partition_for,
    read_record,
)
from trio_kafka_net.errors import CorruptRecordError

KAFKA = kafka_log.records()
KNOWN = [offset for offset in KAFKA if offset not in kafka_log.UNKNOWN]

KEY_1 = offset_key("g", "t", 3)


def encoded(change):
    if isinstance(change, OffsetChange):
        value = None if change.committed is None else offset_value(change.committed)
        return offset_key(change.group_id, change.topic, change.partition), value
    value = None if change.value is None else group_value(change.value)
    return group_key(change.group_id), value


@pytest.mark.parametrize("offset", KNOWN)
def test_what_kafka_wrote_is_written_again_byte_for_byte(offset):
    record = KAFKA[offset]

    assert encoded(read_record(record.key, record.value)) == (record.key, record.value)


@pytest.mark.parametrize(
    ("offset", "change"),
    [
        (
            0,
            OffsetChange("simple", "t", 0, CommittedOffset(42, 3, "née", 1795244656763)),
        ),
        (
            2,  # an old client's, which said how long
            OffsetChange(
                "simple", "gone", 0, CommittedOffset(1, -1, "old", 1795244656838, 1795331056838)
            ),
        ),
        (
            3,  # by topic id
            OffsetChange(
                "by-id",
                "t",
                0,
                CommittedOffset(99, 0, "m", 1795244656861, topic_id=kafka_log.TOPIC_ID),
            ),
        ),
        (6, OffsetChange("deleted", "t", 1, None)),
    ],
)
def test_offsets_that_kafka_wrote_are_read(offset, change):
    record = KAFKA[offset]

    assert read_record(record.key, record.value) == change


def test_group_that_kafka_wrote_is_read():
    record = KAFKA[12]

    change = read_record(record.key, record.value)

    assert isinstance(change, GroupChange)
    assert change.group_id == "classic"
    assert (change.value.protocol_type, change.value.protocol) == ("consumer", "range")
    assert change.value.generation == 1
    (member,) = change.value.members
    assert member.member_id == change.value.leader
    assert (member.client_id, member.client_host) == ("client", "/127.0.0.1")
    assert (member.session_timeout, member.rebalance_timeout) == (45_000, 300_000)


@pytest.mark.parametrize("offset", kafka_log.UNKNOWN)
def test_record_of_another_kind_is_refused(offset):
    record = KAFKA[offset]

    with pytest.raises(CorruptRecordError, match=r"key of kind [3-8]; known are 0 to 2"):
        read_record(record.key, record.value)


@pytest.mark.parametrize(
    ("layout", "fields", "committed"),
    [
        (0, struct.pack(">qh1sq", 7, 1, b"m", 9), CommittedOffset(7, -1, "m", 9)),
        (1, struct.pack(">qh1sqq", 7, 1, b"m", 9, 99), CommittedOffset(7, -1, "m", 9, 99)),
        (2, struct.pack(">qh1sq", 7, 1, b"m", 9), CommittedOffset(7, -1, "m", 9)),
        (3, struct.pack(">qih1sq", 7, 4, 1, b"m", 9), CommittedOffset(7, 4, "m", 9)),
        (4, struct.pack(">qib1sqb", 7, 4, 2, b"m", 9, 0), CommittedOffset(7, 4, "m", 9)),
    ],
)
@pytest.mark.parametrize("key_layout", [0, 1])
def test_every_layout_of_an_offset_is_read(layout, fields, committed, key_layout):
    key = struct.pack(">h", key_layout) + KEY_1[2:]

    change = read_record(key, struct.pack(">h", layout) + fields)

    assert change == OffsetChange("g", "t", 3, committed)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, None, "key without its number"),
        (b"", None, "key without its number"),
        (b"\0", None, "key without its number"),
        (b"\xff\xff", None, "key of number -1"),
        (b"\0\1", None, "OffsetCommitKey"),
        (KEY_1 + b"x", None, "OffsetCommitKey"),
        (KEY_1, b"", "value without its number"),
        (KEY_1, b"\0\5", "value of layout 5; known are 0 to 4"),
        (KEY_1, b"\xff\xfe", "value of number -2"),
        (KEY_1, b"\0\4", "OffsetCommitValue"),
        (b"\0\2", None, "GroupMetadataKey"),
        (group_key("g"), b"\0\5", "value of layout 5; known are 0 to 4"),
        (group_key("g"), b"\0\3\0", "GroupMetadataValue"),
    ],
)
def test_damaged_record_is_refused(key, value, reason):
    with pytest.raises(CorruptRecordError, match=reason):
        read_record(key, value)


@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(bytes.__add__, st.sampled_from([b"\0\1", b"\0\2"]), st.binary()),
        st.sampled_from([KEY_1, group_key("g")]),
    ),
    st.none() | st.builds(bytes.__add__, st.sampled_from([b"\0\1", b"\0\3", b"\0\4"]), st.binary()),
)
def test_any_bytes_are_read_or_refused(key, value):
    with contextlib.suppress(CorruptRecordError):
        read_record(key, value)


@pytest.mark.parametrize(
    ("group_id", "partition"),
    [
        # Java: Utils.abs("...".hashCode()) % 50
        ("", 0),
        ("g", 3),
        ("off-g", 33),
        ("a group with a longer name, 0123456789", 2),
        ("näme", 48),
        ("\U0001f600", 49),
        # The smallest int, whose absolute value does not exist.
        ("polygenelubricants", 0),
    ],
)
def test_partition_of_a_group_is_the_one_that_java_computes(group_id, partition):
    assert partition_for(group_id, 50) == partition
