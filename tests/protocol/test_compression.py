"""Codecs: round trips, Kafka's framings, and bombs."""

from __future__ import annotations

import contextlib

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.errors import CorruptRecordError
from trio_kafka_net.protocol.compression import Compression, compress, decompress
from trio_kafka_net.protocol.compression_codecs import XERIAL_HEADER

CODECS = [codec for codec in Compression if codec is not Compression.NONE]


@pytest.mark.parametrize("codec", Compression)
@given(data=st.binary(max_size=100_000))
def test_decompress_returns_what_was_compressed(codec, data):
    assert bytes(decompress(codec, compress(codec, data), max_bytes=len(data))) == data


@pytest.mark.parametrize("codec", Compression)
def test_decompress_accepts_output_of_exactly_the_limit_and_no_byte_more(codec):
    data = bytes(range(256)) * 1000
    compressed = compress(codec, data)

    assert len(decompress(codec, compressed, max_bytes=len(data))) == len(data)
    with pytest.raises(CorruptRecordError):
        decompress(codec, compressed, max_bytes=len(data) - 1)


@pytest.mark.parametrize("codec", CODECS)
def test_decompress_refuses_a_bomb(codec):
    bomb = compress(codec, bytes(20_000_000))

    with pytest.raises(CorruptRecordError):
        decompress(codec, bomb, max_bytes=100_000)


@pytest.mark.parametrize("codec", CODECS)
@given(junk=st.binary(max_size=200))
def test_decompress_of_junk_raises_nothing_else(codec, junk):
    with contextlib.suppress(CorruptRecordError):
        decompress(codec, junk, max_bytes=10_000)


@pytest.mark.parametrize("codec", CODECS)
def test_decompress_refuses_data_cut_off_anywhere(codec):
    data = bytes(range(256)) * 4
    compressed = compress(codec, data)

    for length in range(len(compressed)):
        try:
            output = bytes(decompress(codec, compressed[:length], max_bytes=10_000))
        except CorruptRecordError:
            continue
        # A codec may end cleanly before its last byte; it may not make things up.
        assert data.startswith(output)


def test_snappy_is_written_in_xerial_frames():
    compressed = compress(Compression.SNAPPY, bytes(100_000))

    assert compressed.startswith(XERIAL_HEADER)
    first_block = int.from_bytes(compressed[16:20], "big")
    assert len(bytes(cramjam.snappy.decompress_raw(compressed[20 : 20 + first_block]))) == 32 * 1024


def test_snappy_without_frame_is_read():
    raw = bytes(cramjam.snappy.compress_raw(b"no frame" * 10))

    assert bytes(decompress(Compression.SNAPPY, raw, max_bytes=1000)) == b"no frame" * 10


@pytest.mark.parametrize("length", [-1, 0, 2**31 - 1])
def test_snappy_frame_with_impossible_block_length_is_refused(length):
    framed = XERIAL_HEADER + length.to_bytes(4, "big", signed=True) + b"abc"

    with pytest.raises(CorruptRecordError):
        decompress(Compression.SNAPPY, framed, max_bytes=1000)


def test_snappy_block_that_claims_gigabytes_costs_no_memory():
    claims_4_gib = b"\xff\xff\xff\xff\x0f" + b"a"

    with pytest.raises(CorruptRecordError, match="4294967295"):
        decompress(Compression.SNAPPY, claims_4_gib, max_bytes=1000)


def test_lz4_blocks_are_independent():
    """The Java client cannot read linked blocks."""
    flags = compress(Compression.LZ4, bytes(200_000))[4]

    assert flags & 0b0010_0000
