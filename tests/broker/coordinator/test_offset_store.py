"""OffsetStore: what is committed is there, in memory and after any end of the process."""

import logging

import pytest
import trio

from tests.broker.coordinator import kafka_log
from tests.broker.coordinator.store_helpers import StoreLab
from trio_kafka_net.broker.coordinator.group_records import (
    CommittedOffset,
    OffsetChange,
    partition_for,
)
from trio_kafka_net.broker.coordinator.offset_store import OFFSETS_TOPIC
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue
from trio_kafka_net.protocol.records import iter_batches

HERE, THERE = "g", "h"
"""Groups of partition 1 and of partition 0."""


def test_the_groups_are_of_different_partitions():
    assert (partition_for(HERE, 2), partition_for(THERE, 2)) == (1, 0)


def a_group(generation: int = 1) -> GroupMetadataValue:
    member = GroupMetadataValue.MemberMetadata(
        member_id="m",
        client_id="c",
        client_host="/127.0.0.1",
        rebalance_timeout=1,
        session_timeout=2,
        subscription=b"s",
        assignment=b"a",
    )
    return GroupMetadataValue(
        protocol_type="consumer",
        generation=generation,
        protocol="range",
        leader="m",
        current_state_timestamp=5,
        members=[member],
    )


def refused(code):
    return pytest.raises(KafkaError, match=f"^{code.name}")


# The topic


async def test_without_the_topic_there_is_no_coordinator(bare_lab):
    for ask in (
        bare_lab.store.check_ready,
        bare_lab.store.has_offsets,
        bare_lab.store.committed,
        bare_lab.store.forget_group,
    ):
        with refused(ErrorCode.COORDINATOR_NOT_AVAILABLE):
            ask("g")
    with refused(ErrorCode.COORDINATOR_NOT_AVAILABLE):
        bare_lab.commit("g", ("t", 0, 1))
    assert bare_lab.store.group_ids() == set()


async def test_topic_is_made_as_kafka_makes_it(tmp_path, clock):
    lab = await StoreLab.open(
        tmp_path, clock, offsets_topic_num_partitions=7, offsets_topic_segment_bytes=12345
    )

    await lab.store.ensure_topic()

    topic = lab.local.metadata.get_topic(OFFSETS_TOPIC)
    assert len(topic.partitions) == 7
    assert lab.local.controller.topics.get_topic(OFFSETS_TOPIC).configs == {
        "cleanup.policy": "compact",
        "compression.type": "producer",
        "segment.bytes": "12345",
    }
    assert topic.is_internal
    for group_id in "abcdefgh":
        lab.store.check_ready(group_id)
    await lab.close()


async def test_topic_is_made_once_however_many_ask(bare_lab):
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(bare_lab.store.ensure_topic)

    topic_id = bare_lab.local.metadata.get_topic(OFFSETS_TOPIC).topic_id
    await bare_lab.store.ensure_topic()
    assert bare_lab.local.metadata.get_topic(OFFSETS_TOPIC).topic_id == topic_id


async def test_topic_that_somebody_else_made_is_used(bare_lab):
    await bare_lab.local.controller.create_topic(OFFSETS_TOPIC, partitions=3)

    await bare_lab.store.ensure_topic()

    bare_lab.store.check_ready("g")


async def test_more_replicas_than_brokers_are_warned_of(tmp_path, clock, caplog):
    lab = await StoreLab.open(tmp_path, clock, offsets_topic_replication_factor=3)

    await lab.store.ensure_topic()

    assert "offsets.topic.replication.factor=3" in caplog.text
    lab.store.check_ready("g")
    await lab.close()


async def test_topic_that_cannot_be_made_leaves_no_coordinator(bare_lab):
    (bare_lab.path / f"{OFFSETS_TOPIC}-0").mkdir()
    (bare_lab.path / f"{OFFSETS_TOPIC}-0" / "partition.metadata").write_text(
        "version: 0\ntopic_id: 4IpR3C0dRjucOBDjXZ7aLw"
    )

    with refused(ErrorCode.COORDINATOR_NOT_AVAILABLE):
        await bare_lab.store.ensure_topic()

    with refused(ErrorCode.COORDINATOR_NOT_AVAILABLE):
        bare_lab.store.check_ready("g")


# Committing


async def test_later_commit_replaces_the_earlier(lab):
    lab.commit("g", ("t", 0, 1), ("t", 1, 2), ("u", 0, 3))
    lab.commit("g", ("t", 1, 7))
    lab.commit("other", ("t", 1, 9))

    assert lab.offsets("g") == {("t", 0): 1, ("t", 1): 7, ("u", 0): 3}
    assert lab.store.has_offsets("g")
    assert not lab.store.has_offsets("nobody")
    assert lab.store.group_ids() == {"g", "other"}


async def test_commit_is_one_batch(lab):
    lab.commit(HERE, *[("t", index, index) for index in range(3)])

    (batch,) = iter_batches(memoryview(lab.log_path(1).read_bytes()))
    assert batch.record_count == 3


@pytest.mark.parametrize("codec", list(Compression))
async def test_codec_is_the_configured_one(tmp_path, clock, codec):
    lab = await StoreLab.open(tmp_path, clock, offsets_topic_compression_codec=int(codec))
    await lab.with_topics("t")
    lab.commit(HERE, ("t", 0, 5))

    (batch,) = iter_batches(memoryview(lab.log_path(1).read_bytes()))
    assert batch.compression is codec
    again = await lab.reopened()
    assert again.offsets(HERE) == {("t", 0): 5}
    await again.close()


async def test_everything_of_a_commit_comes_back(lab):
    committed = CommittedOffset(
        offset=2**63 - 1,
        leader_epoch=7,
        metadata="\U0001f600 é",
        commit_timestamp=12345,
        topic_id=bytes(range(16)),
    )
    expiring = CommittedOffset(1, metadata="m", commit_timestamp=1, expire_timestamp=2)
    lab.store.commit("g", [OffsetChange("g", "t", 0, committed)])
    lab.store.commit("g", [OffsetChange("g", "t", 1, expiring)])

    lab = await lab.reopened()

    assert lab.store.committed("g") == {"t": {0: committed, 1: expiring}}


async def test_removed_offsets_stay_removed(lab):
    lab.commit("g", ("t", 0, 1), ("t", 1, 2), ("u", 0, 3))

    lab.store.remove("g", [("t", 0), ("u", 0), ("u", 0), ("u", 5), ("none", 0)])

    assert lab.offsets("g") == {("t", 1): 2}
    lab = await lab.reopened()
    assert lab.offsets("g") == {("t", 1): 2}


async def test_removing_nothing_writes_nothing(lab):
    lab.store.remove("g", [("t", 0)])
    lab.store.forget_group("g")

    assert lab.log_path(1).stat().st_size == 0


# Failures


async def break_log(lab):
    for index in range(2):
        lab.partition(index).log.failure = OSError("no more disk")


async def lose_leadership(lab):
    for index in range(2):
        lab.partition(index).leader_id = 2


async def need_replicas(lab):
    for index in range(2):
        lab.partition(index).isr = ()


async def lose_partitions(lab):
    for index in range(2):
        lab.local.replicas.remove_partition(OFFSETS_TOPIC, index)


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (break_log, ErrorCode.NOT_COORDINATOR),
        (lose_leadership, ErrorCode.NOT_COORDINATOR),
        (need_replicas, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (lose_partitions, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_failed_append_changes_nothing(lab, break_it, code):
    lab.commit("g", ("t", 0, 1))
    lab.store.save_group("g", a_group())
    await break_it(lab)

    with refused(code):
        lab.commit("g", ("t", 0, 2), ("t", 1, 2))
    with refused(code):
        lab.store.save_group("new", a_group())
    with refused(code):
        lab.store.forget_group("g")
    with refused(code):
        lab.store.remove("g", [("t", 0)])

    assert lab.offsets("g") == {("t", 0): 1}
    assert lab.store.group_ids() == {"g"}


async def test_commit_that_is_too_large_changes_nothing(tmp_path, clock):
    lab = await StoreLab.open(tmp_path, clock, message_max_bytes=1000)
    await lab.with_topics("t")

    with refused(ErrorCode.UNKNOWN_SERVER_ERROR):
        lab.commit("g", *[("t", index, 1) for index in range(40)])

    lab.commit("g", ("t", 0, 1))
    assert lab.offsets("g") == {("t", 0): 1}
    await lab.close()


# Groups


async def test_saved_group_comes_back(lab):
    lab.store.save_group(HERE, a_group(generation=1))
    lab.store.save_group(HERE, a_group(generation=2))
    lab.store.save_group(THERE, a_group(generation=3))
    assert lab.store.group_ids() == {HERE, THERE}

    lab = await lab.reopened()

    assert lab.groups.restored == [{THERE: a_group(generation=3)}, {HERE: a_group(generation=2)}]
    assert lab.store.group_ids() == {HERE, THERE}


async def test_forgotten_group_is_gone_with_its_offsets(lab):
    lab.store.save_group(HERE, a_group())
    lab.commit(HERE, ("t", 0, 1), ("u", 0, 3))
    lab.store.save_group("e", a_group())

    lab.store.forget_group(HERE)

    assert lab.store.group_ids() == {"e"}
    assert not lab.store.has_offsets(HERE)
    lab = await lab.reopened()
    assert partition_for("e", 2) == 1
    assert lab.groups.restored == [{}, {"e": a_group()}]
    assert lab.store.group_ids() == {"e"}


async def test_group_with_any_number_of_offsets_can_be_forgotten(tmp_path, clock):
    """The tombstones do not fit into one batch."""
    lab = await StoreLab.open(tmp_path, clock, message_max_bytes=10_000)
    await lab.with_topics("t")
    for start in range(0, 1000, 100):
        lab.commit("g", *[("t", index, 1) for index in range(start, start + 100)])

    lab.store.forget_group("g")

    lab = await lab.reopened()
    assert not lab.store.has_offsets("g")
    await lab.close()


async def test_groups_that_are_only_asked_for_take_no_memory(lab):
    for number in range(20_000):
        lab.store.check_ready(f"group-{number}")

    assert len(lab.store._homes) <= 10_000


# Topics that are deleted


async def test_offsets_of_a_deleted_topic_are_gone(lab):
    lab.commit(HERE, ("t", 0, 1), ("t", 1, 1), ("u", 0, 3))
    lab.commit(THERE, ("t", 2, 1))

    await lab.local.controller.delete_topic("t")

    assert lab.store.group_ids() == {HERE}
    await lab.with_topics("t")
    lab = await lab.reopened()
    assert lab.offsets(HERE) == {("u", 0): 3}
    assert not lab.store.has_offsets(THERE)


async def test_deletion_that_was_cut_is_completed(lab):
    """The topic is gone, the process died before its offsets were."""
    lab.commit(HERE, ("t", 0, 1), ("u", 0, 3))
    lab.local.controller_requests.on_topic_deleted.clear()
    await lab.local.controller.delete_topic("t")

    lab = await lab.reopened()

    assert lab.offsets(HERE) == {("u", 0): 3}
    await lab.with_topics("t")
    lab = await lab.reopened()
    assert lab.offsets(HERE) == {("u", 0): 3}


async def test_topic_that_was_deleted_and_made_again_during_loading_has_no_offsets(lab):
    lab.commit(HERE, ("t", 0, 1), ("u", 0, 3))
    lab = await lab.reopened(load=False)
    await lab.local.controller.delete_topic("t")
    await lab.local.controller.create_topic("t")

    await lab.store.load()

    assert lab.offsets(HERE) == {("u", 0): 3}


async def test_failure_to_forget_a_topic_does_not_keep_it(lab, caplog):
    lab.commit(HERE, ("t", 0, 1))
    await break_log(lab)

    await lab.local.controller.delete_topic("t")

    assert lab.local.metadata.get_topic("t") is None
    assert f"{OFFSETS_TOPIC}-1: offsets of t: NOT_COORDINATOR" in caplog.text


async def test_with_its_topic_everything_is_gone_and_can_begin_anew(lab):
    lab.commit(HERE, ("t", 0, 1))
    lab.store.save_group(THERE, a_group())

    await lab.local.controller.delete_topic(OFFSETS_TOPIC)

    assert lab.groups.unloaded == [{THERE}, {HERE}]
    with refused(ErrorCode.COORDINATOR_NOT_AVAILABLE):
        lab.store.check_ready(HERE)
    await lab.store.ensure_topic()
    assert lab.store.group_ids() == set()
    lab.commit(HERE, ("t", 0, 2))
    lab = await lab.reopened()
    assert lab.offsets(HERE) == {("t", 0): 2}


# Loading


async def test_until_it_is_loaded_everybody_waits(lab):
    lab.commit(HERE, ("t", 0, 1))
    lab = await lab.reopened(load=False)

    for ask in (lab.store.check_ready, lab.store.has_offsets, lab.store.committed):
        with refused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
            ask(HERE)
    with refused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
        lab.commit(HERE, ("t", 0, 2))
    assert lab.store.group_ids() == set()

    await lab.store.load()
    assert lab.offsets(HERE) == {("t", 0): 1}


async def test_partition_is_served_as_soon_as_it_is_loaded(lab):
    lab.commit(HERE, ("t", 0, 1))
    lab.commit(THERE, ("t", 0, 2))
    lab = await lab.reopened(load=False)

    for index in (0, 1):
        lab.store.resign(index)
    lab.store.lead(0)
    await lab.store.load()
    lab.store.lead(1)

    assert lab.offsets(THERE) == {("t", 0): 2}
    with refused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
        lab.store.check_ready(HERE)


async def test_leadership_comes_and_goes(lab):
    lab.commit(HERE, ("t", 0, 1))
    lab.store.save_group(HERE, a_group())
    lab.commit(THERE, ("t", 0, 2))

    lab.store.resign(1)

    assert lab.groups.unloaded == [{HERE}]
    with refused(ErrorCode.NOT_COORDINATOR):
        lab.commit(HERE, ("t", 0, 3))
    assert lab.offsets(THERE) == {("t", 0): 2}
    lab.store.lead(1)
    await lab.store.load()
    assert lab.offsets(HERE) == {("t", 0): 1}
    assert lab.groups.restored[-1] == {HERE: a_group()}


async def test_partition_is_loaded_whoever_loaded_others_before(lab, nursery):
    """Who looks for a coordinator loads as well; who waits must not miss what follows."""
    lab.commit(THERE, ("t", 0, 1))
    nursery.start_soon(lab.store.run)
    await trio.testing.wait_all_tasks_blocked()
    await lab.store.load()
    lab.store.resign(0)

    lab.store.lead(0)

    with trio.fail_after(10):
        while THERE not in str(lab.groups.restored):
            await trio.lowlevel.checkpoint()
    lab.store.check_ready(THERE)
    nursery.cancel_scope.cancel()


async def test_partition_that_another_broker_leads_is_not_served(lab):
    lab = await lab.reopened(load=False)
    lab.partition(1).leader_id = 2

    await lab.store.load()

    with refused(ErrorCode.NOT_COORDINATOR):
        lab.store.check_ready(HERE)
    lab.store.check_ready(THERE)


async def test_others_run_while_it_loads(lab):
    """Between two slices of changes there is a checkpoint, and between two pieces a thread."""
    for start in range(0, 3000, 500):
        lab.commit(HERE, *[("t", 0, start + number) for number in range(500)])
    lab = await lab.reopened(load=False)
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await lab.store.load()
        nursery.cancel_scope.cancel()

    assert turns >= 6
    assert lab.offsets(HERE) == {("t", 0): 2999}


@pytest.mark.parametrize("chunk_bytes", [1, 300, 1_000_000])
async def test_pieces_may_have_any_size(lab, chunk_bytes):
    expected = {}
    for number in range(30):
        lab.commit(HERE, ("t", number % 3, number), ("u", 0, number))
        expected |= {("t", number % 3): number, ("u", 0): number}

    lab = await lab.reopened(offsets_load_buffer_size=chunk_bytes)

    assert lab.offsets(HERE) == expected


async def test_log_that_kafka_wrote_is_loaded(tmp_path, clock, caplog):
    lab = await StoreLab.open(tmp_path, clock, offsets_topic_num_partitions=1)
    await lab.with_topics("t", partitions=2)
    await lab.local.close()
    lab.log_path(0).write_bytes(kafka_log.PATH.read_bytes())
    (tmp_path / ".kafka_cleanshutdown").unlink(missing_ok=True)

    lab = await lab.reopened()

    assert {group: lab.offsets(group) for group in lab.store.group_ids()} == {
        "simple": {("t", 0): 42, ("t", 1): 7},
        "by-id": {("t", 0): 99},
        "deleted": {("t", 0): 1},
        "left": {("t", 0): 5},
        "classic": {("t", 0): 5},
        "new": {("t", 0): 5},
    }
    (restored,) = lab.groups.restored
    assert {group: len(value.members) for group, value in restored.items()} == {
        "simple": 0,
        "by-id": 0,
        "deleted": 0,
        "left": 0,
        "classic": 1,
        "new": 0,
    }
    assert restored["simple"].protocol_type == ""
    assert restored["left"].protocol_type == "consumer"
    assert "left out 5: offset 14: key of kind 5; known are 0 to 2; offset 15:" in caplog.text
    await lab.close()


# Damage


async def damaged(lab, damage):
    """Let ``damage`` loose on the log of partition 1, behind the back of recovery."""
    await lab.local.close()
    content = bytearray(lab.log_path(1).read_bytes())
    batches = list(iter_batches(memoryview(bytes(content))))
    position = sum(batch.size_in_bytes for batch in batches[:1])
    damage(content, position)
    lab.log_path(1).write_bytes(content)
    return await lab.reopened(load=False)


async def test_damaged_batch_is_left_out_and_named(lab, caplog):
    for number in range(3):
        lab.commit(HERE, ("t", number, number))

    def flip(content, position):
        content[position + 70] ^= 1

    lab = await damaged(lab, flip)
    await lab.store.load()

    assert lab.offsets(HERE) == {("t", 0): 0, ("t", 2): 2}
    assert f"{OFFSETS_TOPIC}-1: left out 1: offsets 1-1: batch at offset 1 has CRC" in caplog.text


async def test_log_that_hides_what_follows_is_not_served(lab, caplog):
    """To serve the half of it would be to tell consumers that they never committed."""
    for number in range(3):
        lab.commit(HERE, ("t", number, number))
    lab.commit(THERE, ("t", 0, 9))

    def break_header(content, position):
        content[position + 16] = 9  # the magic

    lab = await damaged(lab, break_header)
    await lab.store.load()

    with refused(ErrorCode.NOT_COORDINATOR):
        lab.store.check_ready(HERE)
    assert f"{OFFSETS_TOPIC}-1 cannot be loaded" in caplog.text
    assert lab.offsets(THERE) == {("t", 0): 9}


async def test_torn_tail_costs_only_what_was_not_acknowledged(lab, tmp_path):
    lab.commit(HERE, ("t", 0, 1))
    lab.commit(HERE, ("t", 1, 2))
    with lab.log_path(1).open("ab") as log_file:
        log_file.write(lab.log_path(1).read_bytes()[:80])

    lab = await lab.killed(tmp_path / "after")

    assert lab.offsets(HERE) == {("t", 0): 1, ("t", 1): 2}
    lab.commit(HERE, ("t", 2, 3))
    lab = await lab.reopened()
    assert lab.offsets(HERE) == {("t", 0): 1, ("t", 1): 2, ("t", 2): 3}


async def test_record_of_a_group_of_another_partition_is_left_out(lab, caplog):
    """The topic has more partitions than when it was written."""
    lab.commit(HERE, ("t", 0, 1))
    lab.commit(THERE, ("t", 0, 1))
    await lab.local.close()
    lab.log_path(0).write_bytes(lab.log_path(1).read_bytes())

    lab = await lab.reopened()

    assert lab.offsets(HERE) == {("t", 0): 1}
    assert f"{OFFSETS_TOPIC}-0: left out 1: offset 0: group 'g' is of another" in caplog.text


# Durability


async def test_flush_is_asked_for_by_flush_messages(tmp_path, clock):
    lab = await StoreLab.open(tmp_path, clock, log_flush_interval_messages=2)
    await lab.with_topics("t")

    lab.commit(HERE, ("t", 0, 1))
    assert not lab.store.needs_flush(HERE)
    lab.commit(HERE, ("t", 0, 2))
    assert lab.store.needs_flush(HERE)
    assert not lab.store.needs_flush(THERE)
    await lab.store.flush(HERE)
    assert not lab.store.needs_flush(HERE)
    assert lab.partition(1).log.recovery_point == 2
    await lab.close()


async def test_failed_flush_is_told(lab):
    lab.commit(HERE, ("t", 0, 1))
    await break_log(lab)

    with refused(ErrorCode.NOT_COORDINATOR):
        await lab.store.flush(HERE)


async def test_nothing_is_said_about_a_good_log(lab, caplog):
    caplog.set_level(logging.WARNING)
    lab.commit(HERE, ("t", 0, 1))

    await lab.reopened()

    assert caplog.text == ""
