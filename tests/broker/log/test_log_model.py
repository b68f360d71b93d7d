"""The log against a list: whatever is done to both, they hold the same records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.broker.storage_helpers import Clock, Storage, read_values
from trio_kafka_net.broker.log.log_config import LogConfig


class LogMachine(RuleBasedStateMachine):
    """Batches of one to four records, small segments, restarts clean and unclean, torn tails."""

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.storage = Storage(self.path, Clock())
        self.batches: list[tuple[int, list[bytes]]] = []  # base offset, values
        self.start = self.end = self.flushed = 0
        self.counter = 0

    def teardown(self):
        shutil.rmtree(self.path)

    @initialize(
        segment_bytes=st.sampled_from([300, 600, 10_000]), interval=st.sampled_from([0, 200])
    )
    def open(self, segment_bytes, interval):
        self.config = LogConfig(segment_bytes=segment_bytes, index_interval_bytes=interval)
        self.log = self.storage.open_log(self.config)

    @rule(count=st.integers(1, 4), size=st.integers(0, 30))
    def append(self, count, size):
        values = [b"%d:" % (self.counter + n) + bytes(size) for n in range(count)]
        self.counter += count
        info = self.storage.append(self.log, *values)
        assert (info.first_offset, info.last_offset) == (self.end, self.end + count - 1)
        self.batches.append((self.end, values))
        self.end += count
        self.log.high_watermark = self.end

    @rule()
    def flush(self):
        self.log.flush()
        self.flushed = self.end

    @rule(clean=st.booleans())
    def reopen(self, clean):
        if clean:
            self.log.close()
            self.flushed = self.end
        self.log = self.storage.open_log(
            self.config,
            is_clean=clean,
            recovery_point=self.flushed,
            log_start_offset=self.start,
        )

    @rule(data=st.data())
    def tear(self, data):
        """A crash loses some of what was not flushed."""
        path = max(self.path.glob("*.log"), default=None)
        if path is None:
            return
        lost = data.draw(st.integers(0, path.stat().st_size))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - lost])
        self.log = self.storage.open_log(self.config, log_start_offset=self.start)
        self._cut(self.log.log_end_offset)
        self.start = self.log.log_start_offset

    @rule(data=st.data())
    def truncate(self, data):
        offset = data.draw(st.integers(self.start, self.end))
        self.log.truncate_to(offset)
        self._cut(self.log.log_end_offset)
        assert offset - 4 < self.end <= offset

    @rule(data=st.data())
    def delete_records(self, data):
        self.start = data.draw(st.integers(self.start, self.end))
        self.log.delete_records(self.start)
        self.log.delete_segments(self.log.take_old_segments())

    def _cut(self, end):
        assert end in {self.start, 0, *(b + len(v) for b, v in self.batches)}
        self.batches = [
            (base, values) for base, values in self.batches if base + len(values) <= end
        ]
        self.end = end
        self.flushed = min(self.flushed, end)
        self.start = min(self.start, end)

    @invariant()
    def holds_the_same_records(self):
        expected = [
            (base + number, value)
            for base, values in self.batches
            for number, value in enumerate(values)
            if base + number >= self.start
        ]
        assert self.log.log_end_offset == self.end
        assert self.log.log_start_offset == self.start
        assert read_values(self.log) == expected


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
