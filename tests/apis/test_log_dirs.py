"""DescribeLogDirs, AlterReplicaLogDirs."""

import os

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import AlterReplicaLogDirsRequest, DescribeLogDirsRequest

from .lab import a_batch


@pytest.fixture
async def lab(lab):
    """A broker with topics a (two partitions, records in the second one) and b."""
    await lab.make_topic("a", partitions=2)
    await lab.make_topic("b")
    await lab.produce("a", a_batch(b"x" * 100), index=1)
    return lab


def data_dir(lab):
    return str(lab.local.replicas.log_manager.path)


async def describe(lab, topics, version=4):
    asked = topics and [
        DescribeLogDirsRequest.DescribableLogDirTopic(topic=name, partitions=indexes)
        for name, indexes in topics
    ]
    return await lab.ask(DescribeLogDirsRequest(topics=asked), version)


def sizes(result):
    return {
        (topic.name, partition.partition_index): partition.partition_size
        for topic in result.topics
        for partition in topic.partitions
    }


@pytest.mark.parametrize("version", [1, 2, 3, 4])
async def test_every_partition_is_described_with_its_size(lab, version):
    response = await describe(lab, None, version)

    (result,) = response.results
    assert (response.error_code, result.error_code, result.log_dir) == (0, 0, data_dir(lab))
    assert sizes(result) == {
        ("a", 0): 0,
        ("a", 1): lab.partition("a", 1).log.size_in_bytes,
        ("b", 0): 0,
    }
    assert {
        (partition.offset_lag, partition.is_future_key)
        for topic in result.topics
        for partition in topic.partitions
    } == {(0, False)}


async def test_version_4_tells_the_size_of_the_disk(lab):
    disk = os.statvfs(data_dir(lab))

    (before,) = (await describe(lab, [], 3)).results
    (result,) = (await describe(lab, [], 4)).results

    assert (before.total_bytes, before.usable_bytes) == (-1, -1)
    assert result.total_bytes == disk.f_frsize * disk.f_blocks
    assert 0 < result.usable_bytes <= result.total_bytes


@pytest.mark.parametrize(
    ("topics", "described"),
    [
        ([], set()),
        ([("a", [])], set()),
        ([("a", [1]), ("nobody", [0]), ("a", [1, 7])], {("a", 1)}),
        ([("b", [0]), ("a", [0])], {("a", 0), ("b", 0)}),
    ],
)
async def test_partitions_that_are_not_asked_for_or_not_here_are_left_out(lab, topics, described):
    (result,) = (await describe(lab, topics)).results

    assert set(sizes(result)) == described
    assert sum(len(topic.partitions) for topic in result.topics) == len(described)


async def test_a_log_that_is_offline_is_left_out(lab):
    lab.partition("b").log.failure = OSError("disk on fire")

    (result,) = (await describe(lab, None)).results

    assert set(sizes(result)) == {("a", 0), ("a", 1)}


async def test_a_disk_that_cannot_be_asked_is_an_error_of_the_directory(lab, monkeypatch):
    def fail(path):
        raise OSError

    monkeypatch.setattr(os, "statvfs", fail)

    response = await describe(lab, None)

    (result,) = response.results
    assert response.error_code == 0
    assert (result.error_code, result.log_dir) == (ErrorCode.KAFKA_STORAGE_ERROR, data_dir(lab))
    assert result.topics == []


async def move(lab, *moves):
    """{(topic, index): error} for (path, topic, index)s."""
    dirs = [
        AlterReplicaLogDirsRequest.AlterReplicaLogDir(
            path=path,
            topics=[AlterReplicaLogDirsRequest.AlterReplicaLogDirTopic(name=name, partitions=[at])],
        )
        for path, name, at in moves
    ]
    response = await lab.ask(AlterReplicaLogDirsRequest(dirs=dirs), 2)
    return [
        (topic.topic_name, partition.partition_index, partition.error_code)
        for topic in response.results
        for partition in topic.partitions
    ]


async def test_a_partition_is_where_it_is(lab):
    here = data_dir(lab)

    assert await move(lab, (here, "a", 0), (here, "a", 1)) == [("a", 0, 0), ("a", 1, 0)]


@pytest.mark.parametrize(
    ("path", "name", "index", "code"),
    [
        ("/nowhere", "a", 0, ErrorCode.LOG_DIR_NOT_FOUND),
        ("", "a", 0, ErrorCode.LOG_DIR_NOT_FOUND),
        ("{}/", "a", 0, ErrorCode.LOG_DIR_NOT_FOUND),
        ("/nowhere", "nobody", 0, ErrorCode.LOG_DIR_NOT_FOUND),
        ("{}", "nobody", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("{}", "a", 2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("/nowhere", "x" * 214, 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("/nowhere", "x" * 213, 0, ErrorCode.LOG_DIR_NOT_FOUND),
    ],
)
async def test_nothing_moves_elsewhere(lab, path, name, index, code):
    assert await move(lab, (path.format(data_dir(lab)), name, index)) == [(name, index, code)]


async def test_the_directory_named_last_counts(lab):
    assert await move(lab, ("/nowhere", "a", 0), (data_dir(lab), "a", 0)) == [("a", 0, 0)]


async def test_a_log_that_is_offline_does_not_move(lab):
    lab.partition("b").log.failure = OSError("disk on fire")

    assert await move(lab, (data_dir(lab), "b", 0)) == [("b", 0, ErrorCode.KAFKA_STORAGE_ERROR)]
