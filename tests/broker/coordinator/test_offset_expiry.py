"""OffsetExpiry: when an offset goes, by Kafka's rules."""

import pytest
import trio

from tests.broker.coordinator.store_helpers import FakeExpiration, FakeGroups, StoreLab
from trio_kafka_net.broker.coordinator.offset_expiry import OffsetExpiry
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue

RETENTION_MS = 7 * 24 * 3_600_000


async def expire(lab, *, after_ms: int = 0) -> None:
    lab.clock.now_ms += after_ms
    await OffsetExpiry(lab.store, lab.clock).expire()


@pytest.mark.parametrize(
    ("after_ms", "is_there"), [(0, True), (RETENTION_MS - 1, True), (RETENTION_MS, False)]
)
async def test_without_members_retention_counts_from_the_commit(lab, after_ms, is_there):
    lab.commit("g", ("t", 0, 1))

    await expire(lab, after_ms=after_ms)

    assert lab.store.has_offsets("g") == is_there
    lab = await lab.reopened()
    assert lab.store.has_offsets("g") == is_there


async def test_every_commit_counts_for_itself(lab):
    lab.commit("g", ("t", 0, 1), ("t", 1, 1))
    lab.clock.now_ms += 1
    lab.commit("g", ("t", 1, 2), ("u", 0, 3))

    await expire(lab, after_ms=RETENTION_MS - 1)

    assert lab.offsets("g") == {("t", 1): 2, ("u", 0): 3}


@pytest.mark.parametrize(
    ("silent_ms", "is_there"), [(RETENTION_MS - 1, True), (RETENTION_MS, False)]
)
async def test_retention_of_an_empty_group_counts_from_when_it_became_empty(
    lab, silent_ms, is_there
):
    lab.commit("g", ("t", 0, 1))
    lab.clock.now_ms += 3 * RETENTION_MS
    lab.groups.expirations["g"] = FakeExpiration(since_ms=lab.clock.now_ms - silent_ms)

    await expire(lab)

    assert lab.store.has_offsets("g") == is_there


async def test_nothing_expires_of_a_group_that_says_so(lab):
    lab.commit("g", ("t", 0, 1))
    lab.groups.expirations["g"] = None

    await expire(lab, after_ms=10 * RETENTION_MS)

    assert lab.store.has_offsets("g")
    assert lab.groups.removed == []


async def test_topic_that_is_read_does_not_expire(lab):
    lab.commit("g", ("t", 0, 1), ("u", 0, 2))
    lab.groups.expirations["g"] = FakeExpiration(subscribed_topics=frozenset({"t"}))

    await expire(lab, after_ms=RETENTION_MS)

    assert lab.offsets("g") == {("t", 0): 1}


@pytest.mark.parametrize(("after_ms", "is_there"), [(999, True), (1000, False)])
async def test_old_client_says_itself_when_it_expires(lab, after_ms, is_there):
    lab.commit("g", ("t", 0, 1), expire_timestamp=lab.clock.now_ms + 1000)

    await expire(lab, after_ms=after_ms)

    assert lab.store.has_offsets("g") == is_there


async def test_old_client_may_ask_for_longer_than_retention(lab):
    lab.commit("g", ("t", 0, 1), expire_timestamp=2**63 - 1)

    await expire(lab, after_ms=10 * RETENTION_MS)

    assert lab.store.has_offsets("g")


async def test_group_without_offsets_is_offered_for_removal(lab):
    for group_id in ("expired", "kept", "saved"):
        lab.store.save_group(group_id, GroupMetadataValue())
    lab.commit("expired", ("t", 0, 1))
    lab.clock.now_ms += 1
    lab.commit("kept", ("t", 0, 1))

    await expire(lab, after_ms=RETENTION_MS - 1)

    assert sorted(lab.groups.removed) == ["expired", "saved"]


async def test_group_that_fails_does_not_keep_the_others(lab, caplog):
    for group_id in ("g", "h"):
        lab.commit(group_id, ("t", 0, 1))
    lab.partition(1).log.failure = OSError("no more disk")

    await expire(lab, after_ms=RETENTION_MS)

    assert lab.store.group_ids() == {"g"}
    assert "offsets of group 'g' do not expire" in caplog.text


async def test_retention_is_the_configured_one(tmp_path, clock):
    lab = await StoreLab.open(tmp_path, clock, offsets_retention_minutes=1)
    await lab.with_topics("t")
    lab.commit("g", ("t", 0, 1))

    await expire(lab, after_ms=59_999)
    assert lab.store.has_offsets("g")
    await expire(lab, after_ms=1)
    assert not lab.store.has_offsets("g")
    await lab.close()


async def test_group_that_comes_back_to_life_meanwhile_keeps_what_is_left(lab, monkeypatch):
    """Each topic asks anew."""
    lab.commit("g", ("t", 0, 1), ("u", 0, 2))
    lab.clock.now_ms += RETENTION_MS
    asked = []

    def expiration(group_id):
        asked.append(group_id)
        return FakeExpiration() if len(asked) == 1 else None

    monkeypatch.setattr(FakeGroups, "expiration", lambda _, group_id: expiration(group_id))

    await expire(lab)

    assert lab.offsets("g") == {("u", 0): 2}


async def test_expiry_runs_at_its_interval(lab, autojump_clock):
    lab.commit("g", ("t", 0, 1))
    lab.clock.now_ms += RETENTION_MS

    async with trio.open_nursery() as nursery:
        nursery.start_soon(OffsetExpiry(lab.store, lab.clock).run)
        await trio.sleep(599)
        assert lab.store.has_offsets("g")
        await trio.sleep(2)
        assert not lab.store.has_offsets("g")
        lab.commit("g", ("t", 0, 1))
        lab.clock.now_ms += RETENTION_MS
        await trio.sleep(600)
        assert not lab.store.has_offsets("g")
        nursery.cancel_scope.cancel()
