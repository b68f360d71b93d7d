"""Sparse indexes: searches against a plain scan, file formats, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.log.index import OffsetIndex, OffsetPosition, TimeIndex, TimestampOffset
from trio_kafka_net.errors import StorageError

BASE = 1000
rising = st.lists(st.integers(0, 500), unique=True).map(sorted)


def offset_index(relative_offsets):
    index = OffsetIndex(BASE)
    for number, relative in enumerate(relative_offsets):
        index.append(BASE + relative, number * 10)
    return index


def test_offset_index_has_kafkas_format():
    index = OffsetIndex(BASE)
    index.append(BASE + 5, 4097)

    assert index.tail(0) == bytes.fromhex("00000005 00001001")


def test_time_index_has_kafkas_format():
    index = TimeIndex(BASE)
    index.maybe_append(1_700_000_000_000, BASE + 5)

    assert index.tail(0) == bytes.fromhex("0000018bcfe56800 00000005")


@given(offsets=rising, wanted=st.integers(-10, 510))
def test_offset_lookup_finds_the_last_entry_at_or_before(offsets, wanted):
    index = offset_index(offsets)
    entries = [OffsetPosition(BASE + o, n * 10) for n, o in enumerate(offsets)]

    expected = [entry for entry in entries if entry.offset <= BASE + wanted]
    assert index.lookup(BASE + wanted) == (expected or [OffsetPosition(BASE, 0)])[-1]
    for relative in (wanted, *offsets):
        position = index.lookup(BASE + relative).position
        assert index.position_before(BASE + relative) == position


@given(timestamps=rising, wanted=st.integers(-10, 510))
def test_time_lookup_finds_the_last_entry_at_or_before(timestamps, wanted):
    index = TimeIndex(BASE)
    for number, timestamp in enumerate(timestamps):
        index.maybe_append(timestamp, BASE + number)
    entries = [TimestampOffset(t, BASE + n) for n, t in enumerate(timestamps)]

    expected = [entry for entry in entries if entry.timestamp <= wanted]
    assert index.lookup(wanted) == (expected or [TimestampOffset(-1, BASE)])[-1]


@given(offsets=rising, at=st.integers(-10, 510))
def test_truncate_drops_entries_at_and_after(offsets, at):
    index = offset_index(offsets)

    index.truncate_to(BASE + at)

    assert index.tail(0) == offset_index([o for o in offsets if o < at]).tail(0)


@given(offsets=rising)
def test_an_index_file_is_a_buffer_and_is_copied_before_a_change(offsets):
    content = offset_index(offsets).tail(0)
    index = OffsetIndex(BASE, content)
    assert index.last() == offset_index(offsets).last()

    index.append(BASE + 600, 7)

    assert index.tail(0) == content + bytes.fromhex("0000025800000007")


def test_time_index_ignores_what_is_not_later():
    index = TimeIndex(BASE)
    index.maybe_append(50, BASE + 1)
    index.maybe_append(50, BASE + 2)
    index.maybe_append(49, BASE + 3)

    assert len(index) == 1


@pytest.mark.parametrize("offset", [BASE - 1, BASE + 2**31, BASE + 5])
def test_offset_index_refuses_offsets_out_of_order_or_out_of_reach(offset):
    index = offset_index([5])

    with pytest.raises(StorageError):
        index.append(offset, 0)
    assert len(index) == 1


def test_time_index_refuses_an_earlier_offset_with_a_later_timestamp():
    index = TimeIndex(BASE)
    index.maybe_append(50, BASE + 5)

    with pytest.raises(StorageError):
        index.maybe_append(60, BASE + 4)


def test_a_buffer_of_broken_entries_is_refused():
    with pytest.raises(StorageError):
        OffsetIndex(BASE, bytes(7))


@pytest.mark.parametrize(
    ("entry", "log_bytes", "fits"),
    [
        ("00000001 00000064", 101, True),
        ("00000001 00000064", 100, False),
        ("ffffffff 00000000", 100, False),
        ("00000001 ffffffff", 100, False),
        ("", 0, True),
    ],
)
def test_fits_compares_the_last_entry_with_the_log(entry, log_bytes, fits):
    assert OffsetIndex(BASE, bytes.fromhex(entry)).fits(log_bytes) is fits
