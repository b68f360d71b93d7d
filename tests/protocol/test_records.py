"""Record batches: golden bytes, other people's builders and readers, hostile input."""

from __future__ import annotations

import struct

import attrs
import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AiokafkaBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.errors import CorruptRecordError, KafkaError, RecordTooLargeError
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.records import (
    HEADER_BYTES,
    Record,
    TimestampType,
    build_batch,
    check_usual,
    iter_batches,
    parse_header,
    stamp,
    validate_produced,
)

RECORDS = [
    Record(timestamp=1_700_000_000_000, key=b"k", value=b"v" * 100),
    Record(timestamp=1_700_000_000_007, headers=(("h", b"x"), ("h", None))),
    Record(timestamp=1_699_999_999_999, key=b"", value=b""),
]

# One record, key "k", value "v", timestamp 1000, offset 0; written out by hand from the format.
GOLDEN = bytes.fromhex(
    "0000000000000000"  # base offset
    "0000003a"  # length: 49 of the header + 9
    "ffffffff"  # leader epoch
    "02"  # magic
    "00000000"  # CRC, filled in below
    "0000"  # attributes
    "00000000"  # last offset delta
    "00000000000003e8"  # base timestamp
    "00000000000003e8"  # max timestamp
    "ffffffffffffffff"  # producer id
    "ffff"  # producer epoch
    "ffffffff"  # base sequence
    "00000001"  # record count
    "10"  # record length 8
    "00"  # attributes
    "00"  # timestamp delta
    "00"  # offset delta
    "02" + b"k".hex() + "02" + b"v".hex() + "00"
)
GOLDEN = GOLDEN[:17] + struct.pack(">I", crc32c(GOLDEN[21:])) + GOLDEN[21:]


def only_batch(data):
    (batch,) = iter_batches(memoryview(data))
    return batch


def validate(data, max_batch_bytes=1_000_000):
    return validate_produced(memoryview(bytearray(data)), max_batch_bytes=max_batch_bytes)


def with_field(data, layout, position, value):
    """A batch with one field changed and a CRC that fits again."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, position, value)
    struct.pack_into(">I", changed, 17, crc32c(memoryview(changed)[21:]))
    return bytes(changed)


def test_build_batch_makes_the_golden_bytes():
    assert build_batch([Record(timestamp=1000, key=b"k", value=b"v")]) == GOLDEN


def test_iter_batches_reads_the_golden_bytes():
    batch = only_batch(GOLDEN)

    batch.ensure_valid()
    assert batch.size_in_bytes == len(GOLDEN)
    assert list(batch.records()) == [Record(0, 1000, b"k", b"v", ())]


@pytest.mark.parametrize("codec", Compression)
def test_records_written_by_us_are_read_by_aiokafka(codec):
    batch = AiokafkaBatch(build_batch(RECORDS, base_offset=40, compression=codec))

    assert batch.validate_crc()
    read = [Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]
    assert read == [attrs.evolve(r, offset=40 + i) for i, r in enumerate(RECORDS)]


@pytest.mark.parametrize("codec", Compression)
def test_records_written_by_aiokafka_are_read_by_us(codec):
    builder = AiokafkaBuilder(2, int(codec), 0, 7, 1, 3, 1_000_000)
    for i, r in enumerate(RECORDS):
        builder.append(i, r.timestamp, r.key, r.value, list(r.headers))

    batch = validate(builder.build())

    assert batch.compression is codec
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 3)
    assert batch.last_sequence == 5
    assert list(batch.records()) == [attrs.evolve(r, offset=i) for i, r in enumerate(RECORDS)]


@given(
    codec=st.sampled_from(Compression),
    values=st.lists(st.none() | st.binary(max_size=50), min_size=1, max_size=20),
    timestamps=st.lists(st.integers(0, 2**62), min_size=20, max_size=20),
)
def test_build_and_iterate_round_trip(codec, values, timestamps):
    records = [
        Record(i, t, None, v) for i, (v, t) in enumerate(zip(values, timestamps, strict=False))
    ]

    batch = validate(build_batch(records, compression=codec))

    assert list(batch.records()) == records
    assert batch.max_timestamp == max(record.timestamp for record in records)


def test_append_time_batch_gives_every_record_its_max_timestamp():
    batch = only_batch(build_batch(RECORDS, timestamp_type=TimestampType.LOG_APPEND_TIME))

    assert {record.timestamp for record in batch.records()} == {batch.max_timestamp}


def test_last_sequence_wraps_from_the_largest_number_to_zero():
    batch = only_batch(build_batch(RECORDS, producer_id=1, base_sequence=2**31 - 2))

    assert batch.last_sequence == 0


def test_build_batch_refuses_no_records():
    with pytest.raises(ValueError, match="at least one"):
        build_batch([])


# Iteration over several batches


def test_iter_batches_yields_batches_back_to_back():
    data = build_batch(RECORDS) + build_batch(RECORDS, base_offset=3)

    assert [batch.base_offset for batch in iter_batches(memoryview(data))] == [0, 3]


def test_iter_batches_cut_off_anywhere_is_refused_or_leaves_the_tail_out():
    first = build_batch(RECORDS)
    data = first + build_batch(RECORDS, base_offset=3)

    for length in range(len(first) + 1, len(data)):
        cut = memoryview(data)[:length]
        with pytest.raises(CorruptRecordError):
            list(iter_batches(cut))
        assert len(list(iter_batches(cut, partial_tail=True))) == 1


@given(junk=st.binary(max_size=200), partial_tail=st.booleans())
def test_iter_batches_of_junk_raises_nothing_else(junk, partial_tail):
    try:
        for batch in iter_batches(memoryview(junk), partial_tail=partial_tail):
            list(batch.records(max_bytes=1000))
    except CorruptRecordError:
        pass


@given(data=st.data())
def test_records_of_a_damaged_batch_raise_nothing_else(data):
    codec = data.draw(st.sampled_from(Compression))
    damaged = bytearray(build_batch(RECORDS, compression=codec))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        for batch in iter_batches(memoryview(damaged)):
            list(batch.records(max_bytes=10_000))
    except CorruptRecordError:
        pass


@pytest.mark.parametrize(
    ("position", "layout", "value"),
    [(8, ">i", 48), (8, ">i", -5), (16, ">b", 1), (23, ">i", -1), (0, ">q", -1)],
)
def test_parse_header_refuses_what_cannot_be(position, layout, value):
    with pytest.raises(CorruptRecordError):
        parse_header(with_field(GOLDEN, layout, position, value))


@pytest.mark.parametrize("count", [0, 2, 4, 2**31 - 1, -1])
def test_records_refuse_a_wrong_count(count):
    batch = only_batch(with_field(build_batch(RECORDS), ">i", 57, count))

    with pytest.raises(CorruptRecordError):
        list(batch.records())


def test_records_refuse_offsets_beyond_the_header():
    batch = only_batch(with_field(build_batch(RECORDS), ">i", 23, 1))

    with pytest.raises(CorruptRecordError, match="offset delta 2"):
        list(batch.records())


@pytest.mark.parametrize("codec", Compression)
def test_records_refuse_a_decompression_bomb(codec):
    bomb = only_batch(build_batch([Record(value=bytes(1_000_000))], compression=codec))

    with pytest.raises(CorruptRecordError):
        list(bomb.records(max_bytes=100_000))


# What a client may produce


def test_validate_accepts_a_batch_of_exactly_the_size_limit():
    assert validate(GOLDEN, max_batch_bytes=len(GOLDEN)).record_count == 1


def test_validate_refuses_a_larger_batch():
    with pytest.raises(RecordTooLargeError, match=str(len(GOLDEN))):
        validate(GOLDEN, max_batch_bytes=len(GOLDEN) - 1)


INVALID = pytest.mark.parametrize(
    ("name", "data"),
    [
        ("no batch", b""),
        ("two batches", GOLDEN + GOLDEN),
        ("old magic", with_field(GOLDEN, ">b", 16, 1)),
        ("no records", with_field(with_field(GOLDEN, ">i", 57, 0), ">i", 23, -1)),
        ("count above the offsets", with_field(GOLDEN, ">i", 57, 2)),
        ("offsets above the count", with_field(GOLDEN, ">i", 23, 1)),
        ("control batch", build_batch(RECORDS, is_control=True)),
        ("base offset", build_batch(RECORDS, base_offset=1)),
        ("producer without sequence", build_batch(RECORDS, producer_id=5, producer_epoch=0)),
    ],
)


@INVALID
def test_validate_answers_invalid_record(name, data):
    with pytest.raises(KafkaError) as caught:
        validate(data)
    assert caught.value.code is ErrorCode.INVALID_RECORD


def test_validate_answers_unsupported_compression_type():
    with pytest.raises(KafkaError) as caught:
        validate(with_field(GOLDEN, ">h", 21, 5))
    assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_validate_refuses_a_batch_cut_off_anywhere():
    for length in range(1, len(GOLDEN)):
        with pytest.raises(KafkaError) as caught:
            validate(GOLDEN[:length])
        assert caught.value.code is ErrorCode.INVALID_RECORD


def test_validate_refuses_trailing_bytes():
    with pytest.raises(CorruptRecordError):
        validate(GOLDEN + b"x")


@pytest.mark.parametrize("position", range(17, len(GOLDEN)))
def test_validate_notices_every_flipped_byte_under_the_crc(position):
    damaged = bytearray(GOLDEN)
    damaged[position] ^= 0x40

    with pytest.raises((CorruptRecordError, KafkaError)):
        validate(damaged)


@given(junk=st.binary(max_size=200))
def test_validate_of_junk_raises_nothing_else(junk):
    with pytest.raises((CorruptRecordError, RecordTooLargeError, KafkaError)):
        validate(junk)


@pytest.mark.parametrize("codec", Compression)
def test_the_usual_batch_is_known_by_its_header(codec):
    data = build_batch(RECORDS, compression=codec, producer_id=7, producer_epoch=3, base_sequence=5)
    batch = validate(data)

    assert check_usual(memoryview(data), len(data)) == (
        batch.batch_length,
        batch.last_offset_delta,
        batch.max_timestamp,
        batch.producer_id,
        batch.producer_epoch,
        batch.base_sequence,
    )
    assert check_usual(memoryview(data), len(data) - 1) is None


@INVALID
def test_what_is_invalid_is_not_called_usual(name, data):
    """But for the sequence, which the log looks at if there is a producer."""
    is_usual = check_usual(memoryview(data), 1_000_000) is not None
    assert is_usual is (name == "producer without sequence")


@given(
    field=st.sampled_from([(">q", 0), (">i", 8), (">b", 16), (">H", 21), (">i", 23), (">i", 57)]),
    value=st.integers(-3, 70),
    is_signed=st.booleans(),
    flipped=st.none() | st.integers(0, len(GOLDEN) - 1),
)
def test_what_is_called_usual_is_valid(field, value, is_signed, flipped):
    layout, position = field
    data = bytearray(with_field(GOLDEN, layout, position, abs(value) if layout == ">H" else value))
    if flipped is not None:
        data[flipped] ^= 1 + 0x7F * is_signed

    if check_usual(memoryview(data), 1_000_000) is not None:
        assert validate(bytes(data)).attributes < len(Compression)


# Stamping


def test_stamp_changes_offset_and_epoch_and_nothing_else():
    buffer = bytearray(build_batch(RECORDS))
    before = bytes(buffer)
    batch = only_batch(buffer)

    stamp(batch, base_offset=2**40, leader_epoch=9)

    assert buffer[16:] == before[16:]
    again = only_batch(buffer)
    again.ensure_valid()
    assert (again.base_offset, again.partition_leader_epoch) == (2**40, 9)
    assert [record.offset for record in again.records()] == [2**40, 2**40 + 1, 2**40 + 2]


def test_stamp_with_append_time_leaves_a_valid_batch():
    buffer = bytearray(build_batch(RECORDS, compression=Compression.GZIP))

    stamp(only_batch(buffer), base_offset=5, leader_epoch=0, append_time_ms=123)

    again = only_batch(buffer)
    again.ensure_valid()
    assert again.timestamp_type is TimestampType.LOG_APPEND_TIME
    assert again.compression is Compression.GZIP
    assert {record.timestamp for record in again.records()} == {123}


def test_stamp_refuses_a_read_only_buffer():
    with pytest.raises(TypeError):
        stamp(only_batch(GOLDEN), base_offset=1, leader_epoch=1)


def test_header_size_is_what_the_format_says():
    assert HEADER_BYTES == 61
