"""Waiting for keys: nothing is missed, nothing stays behind."""

from __future__ import annotations

import weakref

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_kafka_net.broker.purgatory import DelayedOperation, Purgatory, PurgatoryStatistics


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


# Operations, which wait without a task


class Operation(DelayedOperation):
    """Counts how often it is woken."""

    def __init__(self):
        self.woken = 0
        self.wake = self._count

    def _count(self):
        self.woken += 1


def test_an_operation_is_told_by_any_of_its_keys_until_it_is_discarded(purgatory):
    operation, other = Operation(), Operation()
    purgatory.add(operation, ["a", "b"], 10)
    purgatory.add(other, ["b"], 10)
    assert purgatory.statistics() == PurgatoryStatistics(watches=2, keys=2)

    purgatory.notify("a")
    purgatory.notify("b")
    assert (operation.woken, other.woken) == (2, 1)
    assert (operation.is_told, operation.is_due) == (True, False)

    purgatory.discard(operation)
    purgatory.discard(operation)
    purgatory.notify("a")
    purgatory.notify("b")
    assert (operation.woken, other.woken) == (2, 2)
    assert purgatory.watchers("a") == 0
    assert purgatory.statistics() == PurgatoryStatistics(watches=1, keys=1)


async def test_operations_are_due_at_their_deadlines_in_any_order(
    purgatory, nursery, autojump_clock
):
    nursery.start_soon(purgatory.run)
    operations = {}
    for deadline in (5, 1, 3, 1, 4, 2):
        operation = Operation()
        operations.setdefault(deadline, []).append(operation)
        purgatory.add(operation, ["a"], deadline)
        await wait_all_tasks_blocked()
    for now in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5):
        await trio.sleep_until(now)
        for deadline, same in operations.items():
            for operation in same:
                assert (operation.is_due, operation.woken) == (deadline < now, deadline < now)
    nursery.cancel_scope.cancel()


async def test_a_discarded_operation_is_not_told_the_end_of_its_time(
    purgatory, nursery, autojump_clock
):
    nursery.start_soon(purgatory.run)
    gone, there = Operation(), Operation()
    purgatory.add(gone, ["a"], 1)
    purgatory.add(there, ["a"], 2)
    purgatory.discard(gone)

    await trio.sleep(3)

    assert (gone.woken, there.woken) == (0, 1)
    nursery.cancel_scope.cancel()


async def test_thousands_may_be_due_at_once_without_holding_up_others(
    purgatory, nursery, autojump_clock
):
    nursery.start_soon(purgatory.run)
    operations = [Operation() for _ in range(4000)]
    for operation in operations:
        purgatory.add(operation, ["a"], 1)
    await trio.sleep_until(1)
    most = 0
    while not all(operation.woken for operation in operations):
        before = sum(operation.woken for operation in operations)
        await trio.lowlevel.checkpoint()
        most = max(most, sum(operation.woken for operation in operations) - before)
    # Twice the bound: it may come last in one turn of the event loop, and first in the next.
    assert most <= 1000
    nursery.cancel_scope.cancel()


def test_deadlines_of_operations_that_left_do_not_pile_up(purgatory):
    kept = [Operation() for _ in range(10)]
    for operation in kept:
        purgatory.add(operation, ["a"], 1000)
    for _ in range(10_000):
        operation = Operation()
        purgatory.add(operation, ["a"], 1000)
        purgatory.discard(operation)

    assert len(purgatory._deadlines) < 100
    purgatory.end_waits()
    assert [operation.woken for operation in kept] == [1] * 10


def test_a_deadline_keeps_nothing_of_an_operation_that_left(purgatory):
    """A client may wait for weeks, by its own word; nothing of what it said shall stay so long."""
    operation = Operation()
    gone = weakref.ref(operation)
    purgatory.add(operation, ["a"], 1_000_000)
    purgatory.discard(operation)
    del operation

    assert gone() is None


async def test_an_operation_is_due_although_its_neighbours_were_thrown_out(
    purgatory, nursery, autojump_clock
):
    """The heap is made anew while the task that watches it sleeps."""
    nursery.start_soon(purgatory.run)
    early = Operation()
    purgatory.add(early, ["a"], 1)
    late = Operation()
    purgatory.add(late, ["a"], 5)
    await wait_all_tasks_blocked()
    purgatory.discard(early)
    for _ in range(1000):
        operation = Operation()
        purgatory.add(operation, ["a"], 3)
        purgatory.discard(operation)

    await trio.sleep_until(4)
    assert late.woken == 0
    await trio.sleep_until(6)
    assert (late.woken, late.is_due) == (1, True)
    nursery.cancel_scope.cancel()


def test_nobody_waits_after_the_end(purgatory):
    before, after = Operation(), Operation()
    purgatory.add(before, ["a"], 1000)
    purgatory.end_waits()
    purgatory.add(after, ["a"], 1000)

    assert [(each.is_due, each.woken) for each in (before, after)] == [(True, 1)] * 2
