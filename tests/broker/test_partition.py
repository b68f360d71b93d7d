"""Leadership, fencing, high watermark, and who is woken when."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.log.segment_file import SegmentFile
from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.broker.purgatory import Purgatory
from trio_kafka_net.errors import KafkaError, LogDirFailedError
from trio_kafka_net.protocol.error_codes import ErrorCode

NODE = 1


@pytest.fixture
def purgatory():
    return Purgatory()


@pytest.fixture
def make_partition(storage, purgatory):
    def make(log=None, *, isr=(NODE,), leader=NODE, epoch=5):
        partition = Partition(
            "topic", 0, bytes(16), log or storage.open_log(), node_id=NODE, purgatory=purgatory
        )
        partition.set_leadership(leader_id=leader, leader_epoch=epoch, isr=isr, replicas=isr)
        return partition

    return make


@pytest.fixture
def partition(make_partition):
    return make_partition()


def code_of(function, *args, **options):
    with pytest.raises(KafkaError) as caught:
        function(*args, **options)
    return caught.value.code


def append(partition, storage, *values, acks=-1, **options):
    return partition.append_records(storage.batch(*values, **options), required_acks=acks)


def test_append_of_the_only_replica_moves_the_high_watermark(partition, storage, read_region):
    info = append(partition, storage, b"a", b"b")

    assert (info.first_offset, info.last_offset) == (0, 1)
    assert partition.high_watermark == partition.log_end_offset == 2
    assert partition.read_records(0, 1000).count == partition.log.size_in_bytes


@pytest.mark.parametrize(
    ("flush_messages", "isr", "acks", "expected"),
    [
        (2, (NODE,), -1, True),
        (2, (NODE,), 1, True),
        (1, (NODE,), -1, False),  # not on the disk yet
        (1, (NODE,), 1, False),
        (2, (NODE, 2), -1, False),  # not replicated yet
        (2, (NODE, 2), 1, True),
    ],
)
def test_may_acknowledge(make_partition, storage, flush_messages, isr, acks, expected):
    log = storage.open_log(LogConfig(flush_messages=flush_messages))
    partition = make_partition(log, isr=isr)

    append(partition, storage, b"a")

    assert partition.may_acknowledge(1, required_acks=acks) is expected


def test_append_with_followers_waits_for_the_high_watermark(make_partition, storage):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a")
    append(partition, storage, b"b")

    assert partition.high_watermark == 0
    assert partition.read_records(0, 1000) is None
    assert partition.advance_high_watermark(1)
    assert not partition.advance_high_watermark(1)
    assert partition.read_records(0, 1000).count == partition.log.size_in_bytes // 2
    assert partition.read_records(1, 1000) is None
    assert partition.advance_high_watermark(99)
    assert partition.high_watermark == 2


def test_batches_carry_the_epoch_of_the_leadership(partition, storage):
    append(partition, storage, b"a")

    assert partition.end_offset_for_epoch(5) == (5, 1)


def test_a_new_leader_knows_its_epoch_before_the_first_append(partition):
    assert partition.end_offset_for_epoch(5) == (5, 0)


@pytest.mark.parametrize(
    ("epoch", "code"),
    [
        (4, ErrorCode.FENCED_LEADER_EPOCH),
        (6, ErrorCode.UNKNOWN_LEADER_EPOCH),
        (0, ErrorCode.FENCED_LEADER_EPOCH),
    ],
)
def test_requests_of_another_epoch_are_fenced(partition, epoch, code):
    assert code_of(partition.read_records, 0, 100, current_leader_epoch=epoch) is code
    assert code_of(partition.find_timestamp, 0, current_leader_epoch=epoch) is code
    assert code_of(partition.find_max_timestamp, current_leader_epoch=epoch) is code
    assert code_of(partition.end_offset_for_epoch, 0, current_leader_epoch=epoch) is code


@pytest.mark.parametrize("epoch", [-1, 5])
def test_requests_of_this_epoch_or_none_are_served(partition, epoch):
    assert partition.read_records(0, 100, current_leader_epoch=epoch) is None


@pytest.mark.parametrize("leader", [-1, 2])
def test_a_follower_refuses(make_partition, storage, leader):
    partition = make_partition(leader=leader)

    for call in (
        lambda: append(partition, storage, b"a"),
        lambda: partition.read_records(0, 100),
        lambda: partition.delete_records(0),
        lambda: partition.find_timestamp(0),
    ):
        assert code_of(call) is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_leadership_of_an_older_epoch_is_ignored(partition):
    assert not partition.set_leadership(leader_id=2, leader_epoch=4, isr=(2,), replicas=(2,))
    assert partition.is_leader


def test_acks_all_needs_enough_replicas_in_sync(make_partition, storage):
    partition = make_partition(storage.open_log(LogConfig(min_insync_replicas=2)))

    assert code_of(append, partition, storage, b"a") is ErrorCode.NOT_ENOUGH_REPLICAS
    assert append(partition, storage, b"a", acks=1).first_offset == 0


def test_a_sole_survivor_moves_the_high_watermark_to_the_end(make_partition, storage):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a")

    partition.set_leadership(leader_id=1, leader_epoch=6, isr=(1,), replicas=(1, 2))

    assert partition.high_watermark == 1


def test_delete_records_before_the_high_watermark(make_partition, storage):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a", b"b", b"c")
    partition.advance_high_watermark(2)

    assert code_of(partition.delete_records, 3) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert partition.delete_records(-1) == 2
    assert partition.log_start_offset == 2


def test_timestamps_above_the_high_watermark_are_not_found(make_partition, storage):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a", timestamp=10)
    append(partition, storage, b"b", timestamp=20)
    partition.advance_high_watermark(1)

    assert partition.find_timestamp(5).offset == 0
    assert partition.find_timestamp(15) is None
    assert partition.find_max_timestamp() is None


def test_a_partition_without_log_refuses_everything(purgatory):
    partition = Partition("t", 0, bytes(16), None, node_id=NODE, purgatory=purgatory)
    partition.set_leadership(leader_id=NODE, leader_epoch=0, isr=(NODE,), replicas=(NODE,))

    assert code_of(partition.read_records, 0, 10) is ErrorCode.KAFKA_STORAGE_ERROR


# Waking


async def assert_wakes(purgatory, nursery, act):
    woken = trio.Event()

    async def wait():
        with purgatory.watch([("topic", 0)]) as watch:
            await watch.wait()
            woken.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    act()
    with trio.fail_after(1):
        await woken.wait()


async def test_append_wakes(partition, storage, purgatory, nursery):
    await assert_wakes(purgatory, nursery, lambda: append(partition, storage, b"a"))


async def test_high_watermark_wakes(make_partition, storage, purgatory, nursery):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a")
    await assert_wakes(purgatory, nursery, lambda: partition.advance_high_watermark(1))


async def test_leadership_change_wakes(partition, purgatory, nursery):
    await assert_wakes(
        purgatory,
        nursery,
        lambda: partition.set_leadership(leader_id=2, leader_epoch=6, isr=(2,), replicas=(2,)),
    )


async def test_deletion_wakes(partition, purgatory, nursery):
    await assert_wakes(purgatory, nursery, partition.go_offline)


async def test_failing_disk_wakes(make_partition, storage, purgatory, nursery):
    class Full(SegmentFile):
        def _write(self, data):
            raise OSError(errno.ENOSPC, "full")

    partition = make_partition(storage.open_log(open_file=Full))

    def fail():
        with pytest.raises(LogDirFailedError):
            append(partition, storage, b"a")

    await assert_wakes(purgatory, nursery, fail)


async def test_wait_replicated_returns_when_the_high_watermark_is_there(
    make_partition, storage, nursery
):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a", b"b")
    replicated = trio.Event()

    async def wait():
        await partition.wait_replicated(2)
        replicated.set()

    nursery.start_soon(wait)
    partition.advance_high_watermark(1)
    await wait_all_tasks_blocked()
    assert not replicated.is_set()
    partition.advance_high_watermark(2)
    with trio.fail_after(1):
        await replicated.wait()


async def test_wait_replicated_fails_when_leadership_goes(make_partition, storage, nursery):
    partition = make_partition(isr=(1, 2))
    append(partition, storage, b"a")

    async def lose_leadership():
        await wait_all_tasks_blocked()
        partition.go_offline()

    nursery.start_soon(lose_leadership)
    with pytest.raises(KafkaError) as caught:
        await partition.wait_replicated(1)
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_leader_that_was_replaced_unheard_cannot_append(make_partition, storage):
    """Two brokers over one store, and the older leader has not heard of the newer one yet."""
    old = make_partition(epoch=5)
    append(old, storage, b"a")
    new = make_partition(old.log, epoch=6)

    assert code_of(append, old, storage, b"b") is ErrorCode.NOT_LEADER_OR_FOLLOWER

    assert append(new, storage, b"b").first_offset == 1
    assert new.end_offset_for_epoch(5) == (5, 1)


def test_partition_epoch_orders_changes_of_one_leadership(make_partition):
    partition = make_partition(isr=(1, 2), epoch=5)
    state = {"leader_id": NODE, "leader_epoch": 5, "replicas": (1, 2)}

    assert partition.set_leadership(isr=(1,), partition_epoch=3, **state)
    assert not partition.set_leadership(isr=(1, 2), partition_epoch=2, **state)
    assert partition.set_leadership(isr=(1,), partition_epoch=3, **state)

    assert partition.isr == (1,)
