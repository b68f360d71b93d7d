from __future__ import annotations

from trio_kafka_net.network.memory_pool import MemoryPool


def test_pool_grants_while_a_byte_is_free_and_counts_exactly():
    """MP-03."""
    pool = MemoryPool(10)
    assert len(pool.try_allocate(9)) == 9
    assert len(pool.try_allocate(100)) == 100
    assert pool.try_allocate(1) is None
    assert 109 == pool.used
    pool.release(100)
    assert pool.try_allocate(1) is not None
    pool.release(9)
    pool.release(1)
    assert 0 == pool.used


def test_pool_without_a_bound_never_refuses():
    """MP-01: Kafka refuses such a size; here it is how ``queued.max.request.bytes`` is off."""
    pool = MemoryPool(-1)
    assert len(pool.try_allocate(1 << 20)) == 1 << 20
    assert len(pool.try_allocate(5)) == 5


def test_an_empty_frame_needs_no_memory():
    pool = MemoryPool(1)
    pool.try_allocate(5)
    assert pool.try_allocate(0) is not None


def test_pool_wakes_in_the_order_of_refusal_while_there_is_room():
    pool = MemoryPool(10)
    pool.try_allocate(10)
    woken = []

    def waiter(name: str, size: int):
        def wake() -> None:
            woken.append(name)
            pool.try_allocate(size)

        return wake

    for name in "abc":
        pool.notify_when_free(waiter(name, 6))
    pool.release(10)
    assert ["a", "b"] == woken
    assert 1 == pool.waiting


def test_pool_with_ten_thousand_waiters_that_release_at_once_does_not_recurse():
    pool = MemoryPool(10)
    pool.try_allocate(10)
    woken = []

    def wake() -> None:
        woken.append(1)
        pool.try_allocate(1)
        pool.release(1)

    for _ in range(10_000):
        pool.notify_when_free(wake)
    pool.release(10)
    assert 10_000 == len(woken)


def test_a_waiter_that_went_away_is_not_woken():
    pool = MemoryPool(1)
    pool.try_allocate(1)

    def wake() -> None:
        raise AssertionError

    pool.notify_when_free(wake)
    pool.forget(wake)
    pool.release(1)
    assert 0 == pool.waiting


def test_large_payloads_are_committed_as_they_fill():
    """A peer that announces much and sends little costs address space only."""
    with open("/proc/self/statm") as statm:
        before = int(statm.read().split()[1])
    held = [MemoryPool(-1).try_allocate(100 << 20) for _ in range(20)]
    with open("/proc/self/statm") as statm:
        grown_pages = int(statm.read().split()[1]) - before
    assert len(held) == 20
    assert grown_pages * 4096 < 50 << 20
