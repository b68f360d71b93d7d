"""Partitions by name, and the codes that clients see."""

from __future__ import annotations

import pytest

from trio_kafka_net.broker.log.log_config import LogConfig
from trio_kafka_net.broker.replica_manager import ReplicaManager
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

TOPIC_ID = bytes(range(16))


@pytest.fixture
def log_manager(storage):
    manager = storage.open_manager(log=LogConfig(max_message_bytes=1000))
    yield manager
    manager.close()


@pytest.fixture
def replicas(log_manager):
    return ReplicaManager(log_manager, node_id=1)


@pytest.fixture
def partition(replicas, log_manager):
    log_manager.create_log("topic", 0, TOPIC_ID)
    partition = replicas.add_partition("topic", 0, TOPIC_ID)
    partition.set_leadership(leader_id=1, leader_epoch=2, isr=(1,), replicas=(1,))
    return partition


def code_of(function, *args, **options):
    with pytest.raises(KafkaError) as caught:
        function(*args, **options)
    return caught.value.code


def produce(replicas, batch):
    return replicas.append_records("topic", 0, memoryview(bytearray(batch)), required_acks=-1)


def test_append_and_read_by_name(replicas, partition, storage, read_region):
    batch = bytes(storage.batch(b"a"))

    assert produce(replicas, batch).first_offset == 0
    assert len(read_region(replicas.read("topic", 0, 0, 1000))) == len(batch)


def test_unknown_partitions_are_refused(replicas, partition, storage):
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    assert code_of(replicas.partition_or_raise, "topic", 1) is unknown
    assert code_of(replicas.read, "other", 0, 0, 100) is unknown
    batch = storage.batch(b"a")
    assert code_of(replicas.append_records, "x", 0, batch, required_acks=1) is unknown


def test_codes_of_damaged_and_large_batches(replicas, partition, storage):
    batch = bytes(storage.batch(b"a"))

    assert code_of(produce, replicas, batch[:-1]) is ErrorCode.INVALID_RECORD
    assert code_of(produce, replicas, batch[:-1] + b"x") is ErrorCode.CORRUPT_MESSAGE
    assert code_of(produce, replicas, b"") is ErrorCode.INVALID_RECORD
    large = bytes(storage.batch(bytes(1000)))
    assert code_of(produce, replicas, large) is ErrorCode.MESSAGE_TOO_LARGE


def test_reads_are_fenced_and_checked(replicas, partition):
    fenced = code_of(replicas.read, "topic", 0, 0, 100, current_leader_epoch=1)
    assert fenced is ErrorCode.FENCED_LEADER_EPOCH
    assert code_of(replicas.read, "topic", 0, 5, 100) is ErrorCode.OFFSET_OUT_OF_RANGE


def test_offline_partitions_answer_storage_error_without_paths(replicas, partition, storage):
    partition.log.failure = OSError("I/O error")

    with pytest.raises(KafkaError) as caught:
        produce(replicas, storage.batch(b"a"))
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert str(storage.path) not in str(caught.value)
    assert code_of(replicas.read, "topic", 0, 0, 10) is ErrorCode.KAFKA_STORAGE_ERROR
    partition.log.failure = None


def test_a_log_that_could_not_be_opened_makes_an_offline_partition(storage, log_manager, replicas):
    log_manager.failures["bad", 0] = OSError("damaged")

    partition = replicas.add_partition("bad", 0, TOPIC_ID)
    partition.set_leadership(leader_id=1, leader_epoch=0, isr=(1,), replicas=(1,))

    assert code_of(replicas.read, "bad", 0, 0, 10) is ErrorCode.KAFKA_STORAGE_ERROR


def test_partition_without_a_log_in_the_store_is_refused(replicas):
    code = code_of(replicas.add_partition, "other", 0, TOPIC_ID)

    assert code is ErrorCode.KAFKA_STORAGE_ERROR
    assert len(replicas) == 0


def test_partition_knows_whose_it_is(replicas, partition, log_manager):
    log_manager.create_log("old", 0, TOPIC_ID)

    partition.check_topic_id(TOPIC_ID)
    partition.check_topic_id(None)
    assert code_of(partition.check_topic_id, bytes(16)) is ErrorCode.INCONSISTENT_TOPIC_ID
    # Whoever tells of it without an id means the one whose log it is.
    assert replicas.add_partition("old", 0, None).topic_id == TOPIC_ID


def test_partitions_come_back_with_their_logs(storage):
    manager = storage.open_manager()
    replicas = ReplicaManager(manager, node_id=1)
    manager.create_log("topic", 0, TOPIC_ID)
    partition = replicas.add_partition("topic", 0, TOPIC_ID)
    partition.set_leadership(leader_id=1, leader_epoch=0, isr=(1,), replicas=(1,))
    produce(replicas, storage.batch(b"a"))
    manager.close()

    again = storage.open_manager()
    replicas = ReplicaManager(again, node_id=1)
    partition = replicas.add_partition("topic", 0, TOPIC_ID)

    assert partition.log_end_offset == 1
    again.close()


def test_removed_partitions_are_gone_and_their_logs_stay(replicas, partition, log_manager):
    replicas.remove_partition("topic", 0)
    replicas.remove_partition("topic", 0)

    assert replicas.get_partition("topic", 0) is None
    assert log_manager.get_log("topic", 0) is not None
    assert len(replicas) == 0
    assert code_of(partition.read_records, 0, 10) is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_a_deleted_name_can_be_used_again(replicas, partition, log_manager, storage):
    produce(replicas, storage.batch(b"a"))
    replicas.remove_partition("topic", 0)
    log_manager.delete_log("topic", 0)
    log_manager.create_log("topic", 0, bytes(16))

    again = replicas.add_partition("topic", 0, bytes(16))

    assert again.log_end_offset == 0


def offline(replicas):
    return {partition.key for partition in replicas if partition.is_offline}


def test_offline_version_grows_when_a_partition_goes_offline_or_comes_back(
    replicas, partition, log_manager
):
    log_manager.failures["bad", 0] = OSError("no disk")
    steps = [
        lambda: replicas.add_partition("bad", 0, TOPIC_ID),
        lambda: log_manager.create_log("bad", 0, TOPIC_ID),
        lambda: replicas.add_partition("bad", 0, TOPIC_ID),
        lambda: log_manager.delete_log("bad", 0),
        lambda: replicas.remove_partition("bad", 0),
        lambda: replicas.remove_partition("topic", 0),
    ]
    seen = [(replicas.offline_version, offline(replicas))]
    for step in steps:
        step()
        seen.append((replicas.offline_version, offline(replicas)))

    bad = {("bad", 0)}
    assert [keys for _, keys in seen] == [set(), bad, bad, set(), bad, set(), set()]
    # Nothing else makes it grow, least of all a partition that is new and well.
    assert [version for version, _ in seen] == [0, 1, 1, 2, 3, 4, 4]
