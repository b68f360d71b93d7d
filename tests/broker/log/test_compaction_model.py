"""Compaction against a list: whatever is appended, cleaned and cut short, nothing is lost.

The process may die between any two operations on files, of any pass. What it had written by then is
there when the next one starts.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest import mock

import attrs
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.broker.log.compaction import (
    Killed,
    cleaner_of,
    compacted,
    killed_after,
    put,
    read_batches,
    read_table,
    seal,
)
from tests.broker.storage_helpers import Clock, Storage
from trio_kafka_net.broker.log import log_cleaner
from trio_kafka_net.protocol.compression import Compression

RETENTION_MS = 1000
KEYS = [b"a", b"b", b"c", b"a key of more than sixteen bytes"]


BATCH = st.tuples(
    st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
    st.sampled_from([False, False, True]),  # whether the keys are deleted
    st.sampled_from(Compression),
    st.sampled_from([0, 1, 2]),  # producer
)


class CompactionMachine(RuleBasedStateMachine):
    """Keyed batches, small segments, passes that complete or do not, restarts, slow consumers."""

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.storage = Storage(self.path, Clock())
        self.records: list[tuple[bytes, bytes | None]] = []
        self.sequences = {1: 0, 2: 0}
        self.checkpoint = 0
        self.counter = 0
        self._rewind()

    def teardown(self):
        shutil.rmtree(self.path)

    def _rewind(self):
        """Begin to consume anew."""
        self.position = 0
        self.consumed: dict[bytes, bytes] = {}

    @initialize(
        segment_bytes=st.sampled_from([300, 600, 2000]),
        interval=st.sampled_from([0, 200]),
        max_map_bytes=st.sampled_from([1024, 10_000]),
        batches=st.lists(BATCH, min_size=8, max_size=16),
    )
    def open(self, segment_bytes, interval, max_map_bytes, batches):
        self.max_map_bytes = max_map_bytes
        self.config = compacted(
            segment_bytes=segment_bytes,
            index_interval_bytes=interval,
            delete_retention_ms=RETENTION_MS,
        )
        # So that groups have several segments.
        self.cleaners_config = attrs.evolve(self.config, segment_bytes=3 * segment_bytes)
        self.log = self.storage.open_log(self.config)
        self.append(batches)

    def _append(self, keys, deleted, codec, producer):
        pairs = []
        for key in keys:
            self.counter += 1
            pairs.append((key, None if deleted else b"%d" % self.counter))
        options = {"compression": codec}
        if producer:
            options |= {
                "producer_id": producer,
                "producer_epoch": 0,
                "base_sequence": self.sequences[producer],
            }
            self.sequences[producer] += len(pairs)
        assert put(self.storage, self.log, *pairs, **options) == len(self.records)
        self.records += pairs

    @rule(batches=st.lists(BATCH, min_size=1, max_size=5))
    def append(self, batches):
        for batch in batches:
            self._append(*batch)

    @rule()
    def seal(self):
        seal(self.log)

    @rule(ms=st.sampled_from([1, RETENTION_MS]))
    def wait(self, ms):
        """A consumer that is behind for longer than the retention may miss a deletion."""
        self.storage.clock.now_ms += ms
        if ms >= RETENTION_MS and self.position < len(self.records):
            self._rewind()

    @rule(operations=st.none() | st.integers(0, 80), busy=st.booleans())
    def clean(self, operations, busy):
        seal(self.log)
        self.log.update_config(self.cleaners_config)
        cleaner = cleaner_of(
            self.storage,
            self.log,
            checkpoint=self._write_checkpoint,
            log_cleaner_dedupe_buffer_size=self.max_map_bytes,
        )
        in_thread = log_cleaner._in_thread

        async def then_append(*args):
            result = await in_thread(*args)
            if busy:
                self._append(KEYS[:1], False, Compression.NONE, 0)
                self.consume(2)
            return result

        with mock.patch.object(log_cleaner, "_in_thread", then_append):
            try:
                with killed_after(operations):
                    trio.run(cleaner.clean_filthiest)
            except Killed:
                self.restart(is_clean=False)
        self.log.update_config(self.config)
        assert not cleaner.uncleanable

    def _write_checkpoint(self):
        self.checkpoint = self.log.first_dirty_offset

    @rule(is_clean=st.booleans())
    def restart(self, is_clean):
        recovery_point = self.log.recovery_point
        if is_clean:
            self.log.close()
        else:
            for snapshot in self.path.glob("*.snapshot"):
                snapshot.unlink()  # not synced, so it may be lost; batches must tell the same
        self.log = self.storage.open_log(
            self.config, is_clean=is_clean, recovery_point=recovery_point
        )
        self.log.first_dirty_offset = self.checkpoint

    @rule(count=st.integers(1, 3))
    def consume(self, count):
        for batch in read_batches(self.log, self.position)[:count]:
            for record in batch.records():
                if record.offset < self.position:
                    continue
                if record.value is None:
                    self.consumed.pop(record.key, None)
                else:
                    self.consumed[record.key] = record.value
            self.position = batch.next_offset

    def _table(self):
        return {key: value for key, value in dict(self.records).items() if value is not None}

    @precondition(lambda self: self.records)
    @rule()
    def consume_the_rest(self):
        self.consume(1_000_000)
        assert self.consumed == self._table()

    @invariant()
    def holds_what_it_must(self):
        assert self.log.log_end_offset == len(self.records)
        assert read_table(self.log) == self._table()
        last = {key: offset for offset, (key, _) in enumerate(self.records)}
        stored = {}
        for batch in read_batches(self.log):
            for record in batch.records():
                assert record.offset > max(stored, default=-1)
                assert self.records[record.offset] == (record.key, record.value)
                stored[record.offset] = record
        for key, offset in last.items():
            assert self.records[offset][1] is None or stored[offset].key == key
        clean = self.records[: self.log.first_dirty_offset]
        last_clean = {key: offset for offset, (key, _) in enumerate(clean)}
        assert {offset for offset in stored if offset < len(clean)} <= set(last_clean.values())

    @invariant()
    def knows_its_producers(self):
        known = {entry.producer_id: entry.last_sequence + 1 for entry in self.log.producers}
        assert known == {number: next_ for number, next_ in self.sequences.items() if next_}


TestCompaction = CompactionMachine.TestCase
TestCompaction.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
