from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.network import memory_pool
from trio_kafka_net.network.memory_pool import MemoryPool

MIB = 1 << 20


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


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_large_payloads_are_committed_as_they_fill():
    """A peer that announces much and sends little costs address space only."""
    before = resident_bytes()
    held = [MemoryPool(-1).try_allocate(100 * MIB) for _ in range(20)]
    assert len(held) == 20
    assert resident_bytes() - before < 50 * MIB


def test_a_few_bytes_commit_no_more_than_a_huge_page():
    before = resident_bytes()
    held = [MemoryPool(-1).try_allocate(100 * MIB) for _ in range(10)]
    for payload in held:
        payload[:10] = b"ten bytes!"
    assert resident_bytes() - before < 10 * 2 * MIB + 10 * MIB


def test_a_buffer_that_nobody_looks_at_is_used_again():
    pool = MemoryPool(-1)
    first = pool.try_allocate(MIB).obj
    assert pool.try_allocate(MIB - 1000).obj is first
    assert pool.try_allocate(MIB // 3).obj is not first  # it would be kept for too little


def test_a_view_that_outlives_its_request_sees_no_other_bytes():
    pool = MemoryPool(-1)
    payload = pool.try_allocate(MIB)
    payload[:] = b"a" * MIB
    records = payload[1000:2000][10:20]
    del payload
    pool.release(MIB)
    pool.try_allocate(MIB)[:] = b"b" * MIB
    assert records == b"a" * 10


def test_a_few_buffers_are_remembered_however_many_there_were():
    pool = MemoryPool(-1)
    tracemalloc.start()
    try:
        held = [pool.try_allocate(MIB) for _ in range(40)]
        assert tracemalloc.get_traced_memory()[0] > 40 * MIB
        held.clear()
        assert tracemalloc.get_traced_memory()[0] < 9 * MIB
    finally:
        tracemalloc.stop()


SIZES = st.sampled_from([0, 1, 65_536, 262_143, 262_144, 262_145, 600_000, MIB, 2 * MIB, 3 * MIB])


@given(st.lists(st.tuples(SIZES, st.integers(0, 5), st.integers(0, 20)), max_size=40))
def test_views_keep_their_bytes_whatever_is_allocated(steps: list[tuple[int, int, int]]):
    """Payloads come and go; of some a slice stays."""
    pool = MemoryPool(-1)
    used = 0
    views: list[tuple[memoryview, int]] = []
    for number, (size, keep, forgotten) in enumerate(steps):
        payload = pool.try_allocate(size)
        used += size
        assert (len(payload), payload.readonly, pool.used) == (size, False, used)
        marks = sorted({0, size // 2, size - 1}) if size else []
        for mark in marks:
            payload[mark] = number
        views += [(payload[mark : mark + 1], number) for mark in marks[:keep]]
        del payload
        del views[:forgotten]
        pool.release(size)
        used -= size
        assert all(view[0] == stamp for view, stamp in views)


def test_large_payloads_are_there_without_huge_pages(monkeypatch: pytest.MonkeyPatch):
    """A kernel may be built without them."""

    class Mapping(memory_pool.mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory_pool.mmap, "mmap", Mapping)
    payload = MemoryPool(-1).try_allocate(3 * MIB)
    payload[-1] = 1
    assert len(payload) == 3 * MIB
