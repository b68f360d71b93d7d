from __future__ import annotations

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


@given(
    st.lists(
        st.integers(1, 6).flatmap(lambda half: st.integers(half * MIB - 3, half * MIB + 3)),
        min_size=1,
        max_size=4,
    )
)
def test_payloads_have_their_size_and_nothing_of_one_is_in_another(sizes: list[int]):
    """Also when one is garbage that was full of something, and something still looks at it."""
    pool = MemoryPool(-1)
    kept = []
    for number, size in enumerate(sizes, start=1):
        payload = pool.try_allocate(size)
        assert len(payload) == size
        assert not payload.readonly
        assert sum(sizes[:number]) == pool.used
        # Places where pages begin and end; all of it would take long.
        marks = [*range(0, size, MIB // 2), size - 1]
        assert all(payload[at] == 0 for at in marks)
        for at in marks:
            payload[at] = number
        kept.append((payload[marks[-1] :], number))
    for size in sizes:
        pool.release(size)
    assert 0 == pool.used
    again = pool.try_allocate(sizes[0])
    again[-1] = 99
    assert all(view[0] == number for view, number in kept)


def test_large_payloads_are_there_without_huge_pages(monkeypatch: pytest.MonkeyPatch):
    """A kernel may be built without them."""

    class Mapping(memory_pool.mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory_pool.mmap, "mmap", Mapping)
    payload = MemoryPool(-1).try_allocate(3 * MIB)
    payload[-1] = 1
    assert len(payload) == 3 * MIB
