from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.event_loop import IoWait, LoopProbe, Share
from trio_kafka_net.metrics.registry import MetricsRegistry


def test_a_share_is_known_from_the_second_reading_on():
    share = Share()
    assert share.value is None
    share.read(100, 1000)
    assert share.value is None
    share.read(150, 1200)
    assert 0.25 == share.value
    share.read(150, 1200)  # no time has passed
    assert 0.25 == share.value


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), min_size=2))
def test_a_share_is_between_0_and_1_whatever_is_read(readings):
    share = Share()
    for total, now in readings:
        share.read(total, now)
    assert share.value is None or 0 <= share.value <= 1


def test_waiting_is_what_lies_between_the_two_calls():
    waiting = IoWait()
    waiting.after_io_wait(0)  # added in the middle of a turn
    assert 0 == waiting.total_ns
    waiting.before_io_wait(0)
    waiting.after_io_wait(0)
    assert 0 < waiting.total_ns


@pytest.mark.parametrize("watches_io", [True, False])
async def test_the_probe_looks_ten_times_a_second(autojump_clock, watches_io):
    registry = MetricsRegistry()
    probe = LoopProbe(registry, watches_io=watches_io)
    seconds = []
    probe.every_second.append(lambda: seconds.append(trio.current_time()))
    async with trio.open_nursery() as nursery:
        await nursery.start(probe.run)
        assert probe.statistics().lag_max_s is None
        await trio.sleep(2.05)
        families = registry.collect()
        statistics = probe.statistics()
        nursery.cancel_scope.cancel()
    assert 20 == families[names.LOOP_LAG.name].samples[0].value.count
    assert watches_io == (names.IO_WAIT.name in families)
    assert watches_io == (statistics.busy is not None)
    assert [0, 1, 2] == [round(each) for each in seconds]


async def test_a_loop_that_is_held_up_is_late(mock_clock, nursery):
    probe = LoopProbe(MetricsRegistry())
    await nursery.start(probe.run)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(0.3)  # the probe looks once in each tenth of a second
    await trio.testing.wait_all_tasks_blocked()
    assert 0.2 <= probe.statistics().lag_max_s <= 0.3
    nursery.cancel_scope.cancel()


async def test_a_loop_that_is_held_up_at_the_pace_of_the_probe_is_late(autojump_clock, nursery):
    probe = LoopProbe(MetricsRegistry())
    await nursery.start(probe.run)
    for _ in range(100):
        autojump_clock.jump(0.06)  # nobody else runs meanwhile
        await trio.sleep(0.04)

    found = probe.statistics()
    assert 0.05 < found.lag_p99_s <= 0.061
    assert 0 < found.lag_p50_s < 0.03, "six of ten moments are within what holds it up"
    nursery.cancel_scope.cancel()
