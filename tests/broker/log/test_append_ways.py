"""The usual way into the log and the careful one: whatever comes, the log cannot tell which it was.

Bytes that may not be written to always take the careful way, so the same batches go to two logs,
writable to one and read-only to the other.
"""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path

import attrs
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broker.storage_helpers import START_MS, Clock, Storage
from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.errors import KafkaError, TrioKafkaError
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.records import Record, TimestampType, build_batch

CRC_AT, COUNTED_FROM, LAST_DELTA_AT, TIMES_AT, COUNT_AT = 17, 21, 23, 27, 57
FAR_MS = 3_600_000

USUAL_CONFIGS = st.builds(
    LogConfig,
    segment_bytes=st.sampled_from([450, 1000, 100_000]),
    index_interval_bytes=st.sampled_from([150, 10_000]),
    segment_ms=st.sampled_from([5, 10**9]),
    max_message_bytes=st.sampled_from([150, 10_000]),
)
CONFIGS = st.one_of(
    USUAL_CONFIGS,
    USUAL_CONFIGS,
    st.builds(
        LogConfig,
        segment_bytes=st.sampled_from([300, 100_000]),
        index_interval_bytes=st.sampled_from([0, 250]),
        segment_index_bytes=st.sampled_from([16, 10_000]),
        message_timestamp_type=st.sampled_from([*TimestampType]),
        message_timestamp_before_max_ms=st.sampled_from([100, 2**63 - 1]),
        cleanup_policy=st.sampled_from([frozenset({"delete"}), frozenset({"compact"})]),
    ),
)
GOES_ON = -9
"""Stands for the sequence number that is next."""


@attrs.frozen
class Produced:
    """One batch that a client sends, and the epoch of who takes it."""

    sizes: list[int]
    age_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    compression: Compression
    is_transactional: bool
    is_control: bool
    timestamp_type: TimestampType
    claims: int
    """Records that the header has, if not 0; the CRC fits."""
    damaged_at: int | None
    """Byte of the header that is something else."""
    leader_epoch: int
    times: tuple[int, int] | None = None
    """First and largest timestamp, whatever the records have; the CRC fits."""

    def data(self, next_sequence: int = 0) -> bytes:
        records = [
            Record(timestamp=START_MS - self.age_ms, value=bytes(size)) for size in self.sizes
        ]
        data = bytearray(
            build_batch(
                records,
                compression=self.compression,
                producer_id=self.producer_id,
                producer_epoch=self.producer_epoch,
                base_sequence=next_sequence
                if self.base_sequence == GOES_ON
                else self.base_sequence,
                is_transactional=self.is_transactional,
                is_control=self.is_control,
                timestamp_type=self.timestamp_type,
            )
        )
        if self.claims:
            struct.pack_into(">i", data, LAST_DELTA_AT, self.claims - 1)
            struct.pack_into(">i", data, COUNT_AT, self.claims)
        if self.times is not None:
            struct.pack_into(">qq", data, TIMES_AT, *self.times)
        if self.claims or self.times is not None:
            struct.pack_into(">I", data, CRC_AT, crc32c(data[COUNTED_FROM:]))
        if self.damaged_at is not None:
            data[self.damaged_at] ^= 0x81
        return bytes(data)


PLAIN = Produced([1], 0, -1, -1, -1, Compression.NONE, False, False, TimestampType(0), 0, None, 0)
GOING_ON = attrs.evolve(PLAIN, producer_id=1, producer_epoch=0, base_sequence=GOES_ON)
TIMES = st.sampled_from([-(2**63), -(2**40), -2, -1, 0, START_MS, START_MS + 7, 2**63 - 1])
RARELY = st.sampled_from([False] * 9 + [True])
BATCHES = st.one_of(
    st.builds(
        lambda sizes, age_ms: attrs.evolve(PLAIN, sizes=sizes, age_ms=age_ms),
        st.lists(st.integers(0, 40), min_size=1, max_size=3),
        st.integers(-5, 5),
    ),
    st.builds(
        lambda sequence, epoch, producer, count: attrs.evolve(
            PLAIN,
            sizes=[3] * count,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=sequence,
        ),
        st.sampled_from([GOES_ON] * 9 + [0, 1, 2, 2**31 - 2, 2**31 - 1]),
        st.sampled_from([0] * 9 + [1]),
        st.integers(1, 2),
        st.integers(1, 2),
    ),
    st.builds(lambda first, largest: attrs.evolve(PLAIN, times=(first, largest)), TIMES, TIMES),
    st.builds(
        Produced,
        sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3),
        age_ms=st.sampled_from([0, 1, 200, -FAR_MS, -FAR_MS - 1, START_MS + 1]),
        producer_id=st.sampled_from([-2, -1, 1]),
        producer_epoch=st.integers(-1, 1),
        base_sequence=st.integers(-1, 2),
        compression=st.sampled_from([Compression.NONE, Compression.LZ4]),
        is_transactional=RARELY,
        is_control=RARELY,
        timestamp_type=st.sampled_from([*TimestampType, TimestampType.CREATE_TIME]),
        claims=st.sampled_from([0, 0, 0, -1, 1, 2**30, 2**31 - 1]),
        damaged_at=st.none() | st.integers(0, 62),
        leader_epoch=st.integers(0, 2),
    ),
)
ACTIONS = st.one_of(
    st.just(PLAIN),
    st.just(GOING_ON),
    *[BATCHES] * 4,
    CONFIGS,
    st.sampled_from(["reopen", "crash", "flush"]),
    st.tuples(st.just("truncate"), st.integers(1, 4)),
)


class Way:
    """One of the two logs."""

    def __init__(self, path: Path, buffer: type, config: LogConfig) -> None:
        self.storage = Storage(path, Clock())
        self.buffer = buffer
        self.config = config
        self.log = self.storage.open_log(config)

    def do(self, action) -> object:
        """What a caller sees of it."""
        if isinstance(action, Produced):
            last = {each.producer_id: each.last_sequence for each in self.log.producers}
            following = (last.get(action.producer_id, -1) + 1) % 2**31
            view = memoryview(self.buffer(action.data(following)))
            return self.log.append(view, leader_epoch=action.leader_epoch)
        if isinstance(action, LogConfig):
            self.config = action
            return self.log.update_config(action)
        if action == "flush":
            return self.log.flush()
        if action in {"reopen", "crash"}:
            if action == "reopen":
                self.log.close()
            self.log = self.storage.open_log(self.config, is_clean=action == "reopen")
            return None
        return self.log.truncate_to(max(0, self.log.log_end_offset - action[1]))

    def outcome(self, action) -> object:
        try:
            return self.do(action)
        except TrioKafkaError as error:
            return type(error), str(error)

    def state(self) -> object:
        log = self.log
        return (
            log.log_end_offset,
            log.leader_epochs.entries,
            log.producers.to_snapshot(),
            [each.batches for each in log.producers],
            [(each.base_offset, each.size, each.max_timestamp) for each in log.segments],
        )

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.storage.path.iterdir()}


@settings(max_examples=150, deadline=None)
@given(config=CONFIGS, actions=st.lists(ACTIONS, min_size=6, max_size=20))
def test_both_ways_lead_to_the_same_log(config, actions):
    with tempfile.TemporaryDirectory() as directory:
        ways = []
        for buffer in (bytearray, bytes):
            path = Path(directory, buffer.__name__)
            path.mkdir()
            ways.append(Way(path, buffer, config))
        usual, careful = ways
        for action in [PLAIN, GOING_ON, *actions, GOING_ON, PLAIN]:
            told = str(usual.outcome(action)).replace("/bytearray", "/bytes")
            assert told == str(careful.outcome(action))
            assert usual.state() == careful.state()
        for way in ways:
            way.log.close()
        assert usual.files() == careful.files()


def test_a_batch_that_goes_the_usual_way_is_stamped_where_it_lies(storage):
    """Nothing is copied; and the log has what a reader of it may be given."""
    log = storage.open_log()
    storage.append(log, b"first")
    batch = storage.batch(b"second")
    size = log.size_in_bytes

    log.append(batch, leader_epoch=0)

    content = (storage.path / "00000000000000000000.log").read_bytes()
    assert content[size:] == bytes(batch)


def test_a_batch_out_of_reach_of_the_index_begins_a_segment(storage):
    """A header may claim more offsets than 32 bits hold, in 61 bytes."""
    log = storage.open_log()
    data = attrs.evolve(PLAIN, claims=2**31 - 1).data()
    for _ in range(3):
        log.append(memoryview(bytearray(data)), leader_epoch=0)

    assert [each.base_offset for each in log.segments] == [0, 2**31 - 1, 2 * (2**31 - 1)]


@pytest.mark.parametrize(("distance_ms", "accepted"), [(FAR_MS, True), (FAR_MS + 1, False)])
def test_the_usual_batch_is_not_from_the_future(storage, clock, distance_ms, accepted):
    log = storage.open_log()
    storage.append(log, b"first")

    late = storage.batch(b"second", timestamp=clock.now_ms + distance_ms)
    outcome = contextlib.nullcontext() if accepted else pytest.raises(KafkaError, match="between")
    with outcome:
        log.append(late, leader_epoch=0)

    assert log.log_end_offset == 1 + accepted


@pytest.mark.parametrize("buffer", [bytes, bytearray])
def test_no_time_is_too_early_where_there_is_no_limit(storage, buffer):
    log = storage.open_log()
    storage.append(log, b"first")
    data = attrs.evolve(PLAIN, times=(-(2**63), START_MS)).data()

    log.append(memoryview(buffer(data)), leader_epoch=0)

    assert log.log_end_offset == 2


def test_the_usual_way_ends_where_records_span_too_much(storage, clock):
    log = storage.open_log(LogConfig(segment_ms=5))
    for age_ms in (0, 0, -5, -6):
        storage.append(log, b"x", timestamp=clock.now_ms - age_ms)

    assert [each.base_offset for each in log.segments] == [0, 3]


def test_the_usual_way_is_closed_while_the_file_is(storage, read_log):
    log = storage.open_log()
    storage.append(log, b"a")
    storage.append(log, b"b")
    log.segments[-1].release()

    storage.append(log, b"c")

    assert read_log(log) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_a_truncation_begins_the_limits_anew(storage, clock):
    """The largest timestamp is read again, and bytes until the next index entry count from here."""
    log = storage.open_log(LogConfig(index_interval_bytes=150))
    for newer_ms in (9, 0, 0, 0, 0, 0, 0, 0):
        storage.append(log, b"x", timestamp=clock.now_ms + newer_ms)
    log.truncate_to(1)
    for newer_ms in (1, 2, 3, 4):
        storage.append(log, b"x", timestamp=clock.now_ms + newer_ms)
    log.close()

    assert log.segments[-1].max_timestamp == (clock.now_ms + 9, 0)
    assert (storage.path / "00000000000000000000.index").stat().st_size == 8


def test_records_without_a_time_wait_by_the_clock(storage, clock):
    log = storage.open_log(LogConfig(segment_ms=5))
    for _ in range(2):
        storage.append(log, b"x", timestamp=-1)
    clock.now_ms += 6
    storage.append(log, b"x", timestamp=-1)

    assert [each.base_offset for each in log.segments] == [0, 2]
