"""Waiting for keys: nothing is missed, nothing stays behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_kafka_net.broker.purgatory import Purgatory, PurgatoryStatistics


@pytest.fixture
def purgatory():
    return Purgatory()


async def test_a_waiting_task_is_woken_by_any_of_its_keys(purgatory, nursery):
    woken = []

    async def wait(name, keys):
        with purgatory.watch(keys) as watch:
            await watch.wait()
            woken.append(name)

    nursery.start_soon(wait, "ab", ["a", "b"])
    nursery.start_soon(wait, "c", ["c"])
    await wait_all_tasks_blocked()

    purgatory.notify("b")
    await wait_all_tasks_blocked()

    assert woken == ["ab"]
    assert purgatory.statistics() == PurgatoryStatistics(watches=1, keys=1)
    nursery.cancel_scope.cancel()


async def test_a_notification_between_look_and_wait_is_not_missed(purgatory):
    with purgatory.watch(["a"]) as watch:
        purgatory.notify("a")
        purgatory.notify("a")
        with assert_checkpoints(), trio.fail_after(1):
            await watch.wait()


async def test_many_notifications_between_two_looks_count_as_one(purgatory, autojump_clock):
    with purgatory.watch(["a"]) as watch:
        purgatory.notify("a")
        purgatory.notify("a")
        await watch.wait()
        with trio.move_on_after(10) as waited:
            await watch.wait()
    assert waited.cancelled_caught


async def test_a_cancelled_wait_keeps_its_notification(purgatory):
    with purgatory.watch(["a"]) as watch:
        purgatory.notify("a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await watch.wait()
        assert scope.cancelled_caught
        with trio.fail_after(1):
            await watch.wait()


def test_nothing_stays_behind_when_a_watch_ends(purgatory):
    with purgatory.watch(["a", "b", "a"]):
        assert purgatory.statistics() == PurgatoryStatistics(watches=1, keys=2)
    assert purgatory.statistics() == PurgatoryStatistics(watches=0, keys=0)


def test_nothing_stays_behind_when_the_watcher_fails(purgatory):
    with pytest.raises(ValueError, match="oops"), purgatory.watch(["a"]):
        raise ValueError("oops")
    assert purgatory.statistics() == PurgatoryStatistics(watches=0, keys=0)


async def test_a_notification_may_end_watches_of_the_same_key(purgatory, nursery):
    ended = []

    async def wait(name):
        with purgatory.watch(["a"]) as watch:
            await watch.wait()
        ended.append(name)

    for name in range(5):
        nursery.start_soon(wait, name)
    await wait_all_tasks_blocked()
    purgatory.notify("a")
    await wait_all_tasks_blocked()

    assert sorted(ended) == [0, 1, 2, 3, 4]


def test_notify_without_watches_does_nothing(purgatory):
    purgatory.notify("a")

    assert purgatory.statistics() == PurgatoryStatistics(watches=0, keys=0)
