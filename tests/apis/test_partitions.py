"""DeleteRecords, DescribeProducers, OffsetForLeaderEpoch."""

import pytest
import trio

from trio_kafka_net.broker.metadata_cache import PartitionMetadata, TopicMetadata
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    DeleteRecordsRequest,
    DescribeProducersRequest,
    OffsetForLeaderEpochRequest,
)

from .lab import Lab, a_batch, a_fetch


@pytest.fixture
async def lab(lab):
    """A broker with topic t: four records in two batches."""
    await lab.make_topic("t", partitions=2)
    for _ in range(2):
        await lab.produce("t", a_batch(b"a", b"b"))
    return lab


# DeleteRecords


async def delete(lab, *asked, version=2, timeout_ms=1000):
    """[(topic, index, low watermark, error)] for (topic, index, offset)s."""
    topics = [
        DeleteRecordsRequest.Topic(
            name=name,
            partitions=[DeleteRecordsRequest.Partition(partition_index=index, offset=offset)],
        )
        for name, index, offset in asked
    ]
    response = await lab.ask(DeleteRecordsRequest(topics=topics, timeout_ms=timeout_ms), version)
    return [
        (topic.name, partition.partition_index, partition.low_watermark, partition.error_code)
        for topic in response.topics
        for partition in topic.partitions
    ]


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize(("offset", "start"), [(0, 0), (1, 1), (4, 4), (-1, 4)])
async def test_records_before_an_offset_are_deleted(lab, version, offset, start):
    assert await delete(lab, ("t", 0, offset), version=version) == [("t", 0, start, 0)]

    assert lab.partition().log_start_offset == start


async def test_deleted_records_cannot_be_read(lab):
    await delete(lab, ("t", 0, 3))

    (gone,) = await lab.fetch(("t", {"fetch_offset": 2}))
    (there,) = await lab.fetch(("t", {"fetch_offset": 3}))

    assert gone.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert (there.error_code, there.log_start_offset) == (0, 3)


async def test_the_beginning_never_moves_back(lab):
    await delete(lab, ("t", 0, 3))

    assert await delete(lab, ("t", 0, 1)) == [("t", 0, 3, 0)]


@pytest.mark.parametrize("timeout_ms", [0, -1])
async def test_the_timeout_is_of_no_interest(lab, timeout_ms):
    assert await delete(lab, ("t", 0, 2), timeout_ms=timeout_ms) == [("t", 0, 2, 0)]


@pytest.mark.parametrize(
    ("topic", "index", "offset", "code"),
    [
        ("t", 0, 5, ErrorCode.OFFSET_OUT_OF_RANGE),
        ("t", 0, -2, ErrorCode.OFFSET_OUT_OF_RANGE),
        ("t", 2, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("nobody", 0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("bad name!", 0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("__consumer_offsets", 0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
async def test_deletion_is_refused_for_that_partition_only(lab, topic, index, offset, code):
    answers = await delete(lab, (topic, index, offset), ("t", 1, 0))

    assert (topic, index, -1, code) in answers
    assert ("t", 1, 0, 0) in answers


async def test_nobody_deletes_from_internal_topics(lab):
    node = lab.local.node_id
    lab.local.metadata.add(
        TopicMetadata("__consumer_offsets", bytes(16), [PartitionMetadata((node,), (node,), node)])
    )

    (answer,) = await delete(lab, ("__consumer_offsets", 0, 0))

    assert answer == ("__consumer_offsets", 0, -1, ErrorCode.INVALID_TOPIC_EXCEPTION)


@pytest.mark.parametrize(
    ("policy", "offset", "answer"),
    [
        ("compact", 0, (-1, ErrorCode.POLICY_VIOLATION)),
        ("compact", -1000, (-1, ErrorCode.POLICY_VIOLATION)),
        ("compact,delete", 0, (0, ErrorCode.NONE)),
    ],
)
async def test_the_policy_decides_whether_records_can_be_deleted(lab, policy, offset, answer):
    await lab.make_topic("c", configs={"cleanup.policy": policy})

    assert await delete(lab, ("c", 0, offset)) == [("c", 0, *answer)]


async def test_a_partition_named_twice_is_answered_once_with_the_last_offset(lab):
    assert await delete(lab, ("t", 0, 1), ("t", 0, 4), ("t", 0, 2)) == [("t", 0, 2, 0)]


async def test_a_waiting_fetch_hears_of_the_deletion(lab):
    client = await lab.connect()
    await client.send_request(
        a_fetch(("t", {"fetch_offset": 1}), min_bytes=10_000, max_wait_ms=60_000), 12
    )
    await lab.parked(1)

    await delete(lab, ("t", 0, 2))

    with trio.fail_after(5):
        response = await client.receive_response()
    (partition,) = response.responses[0].partitions
    assert partition.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


async def test_deleted_records_stay_deleted_over_a_restart(tmp_path):
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), log_dirs=(str(tmp_path),))
    async with open_broker(config) as broker:
        first = Lab(broker)
        await first.make_topic("t")
        await first.produce("t", a_batch(b"a", b"b", b"c"))
        await delete(first, ("t", 0, 2))

    async with open_broker(config) as broker:
        assert Lab(broker).partition().log_start_offset == 2


# DescribeProducers


async def describe(lab, *topics):
    request = DescribeProducersRequest(
        topics=[
            DescribeProducersRequest.TopicRequest(name=name, partition_indexes=indexes)
            for name, indexes in topics
        ]
    )
    return (await lab.ask(request, 0)).topics


async def test_producers_are_described_as_their_partition_knows_them(lab):
    for sequence in (0, 2):
        records = a_batch(
            b"a", b"b", timestamp=5000, producer_id=9, producer_epoch=3, base_sequence=sequence
        )
        await lab.produce("t", records, index=1)
    await lab.produce("t", a_batch(producer_id=4, producer_epoch=0, base_sequence=0), index=1)

    (topic,) = await describe(lab, ("t", [0, 1]))

    nobody, some = topic.partitions
    assert (nobody.error_code, nobody.active_producers) == (0, [])
    assert (some.partition_index, some.error_code, some.error_message) == (1, 0, None)
    assert [
        (
            each.producer_id,
            each.producer_epoch,
            each.last_sequence,
            each.last_timestamp,
            each.coordinator_epoch,
            each.current_txn_start_offset,
        )
        for each in some.active_producers
    ] == [(9, 3, 3, 5001, -1, -1), (4, 0, 0, 1000, -1, -1)]


@pytest.mark.parametrize(
    ("name", "index", "code", "text"),
    [
        ("t", 7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None),
        ("t", -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None),
        (
            "nobody",
            0,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
        ),
        (
            "",
            0,
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: the empty string is not allowed",
        ),
    ],
)
async def test_an_unknown_partition_has_no_producers(lab, name, index, code, text):
    (topic,) = await describe(lab, (name, [index]))

    (partition,) = topic.partitions
    assert (partition.error_code, partition.error_message) == (code, text)
    assert partition.active_producers == []


async def test_naming_a_partition_often_does_not_pay(lab):
    (topic,) = await describe(lab, ("t", [0] * 100), ("t", [1, 0, 1]))

    assert [partition.partition_index for partition in topic.partitions] == [1, 0]


# OffsetForLeaderEpoch


async def ends(lab, *asked, topic="t", version=4, **settings):
    """[(error, epoch, end offset)] for (current epoch, epoch)s of partition 0."""
    partitions = [
        OffsetForLeaderEpochRequest.OffsetForLeaderPartition(
            partition=0, current_leader_epoch=current, leader_epoch=epoch
        )
        for current, epoch in asked
    ]
    request = OffsetForLeaderEpochRequest(
        topics=[
            OffsetForLeaderEpochRequest.OffsetForLeaderTopic(topic=topic, partitions=partitions)
        ],
        **settings,
    )
    (answer,) = (await lab.ask(request, version)).topics
    return [(each.error_code, each.leader_epoch, each.end_offset) for each in answer.partitions]


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_epochs_end_where_the_next_one_begins(lab, version):
    lab.partition().set_leadership(leader_id=1, leader_epoch=2, isr=[1], replicas=[1])
    await lab.produce("t", a_batch(b"c"))

    asked = [(-1, 0), (-1, 1), (-1, 2), (-1, 3), (-1, -1), (2, 2)]

    assert await ends(lab, *asked, version=version) == [
        (0, 0, 4),
        (0, 0, 4),
        (0, 2, 5),
        (0, -1, -1),
        (0, -1, -1),
        (0, 2, 5),
    ]


async def test_an_epoch_before_everything_known_ends_at_the_beginning(lab):
    await delete(lab, ("t", 0, 1))

    assert await ends(lab, (-1, -5)) == [(0, -5, 1)]


async def test_a_client_of_another_epoch_is_fenced(lab):
    assert await ends(lab, (5, 0), (-2, 0)) == [
        (ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1),
        (ErrorCode.FENCED_LEADER_EPOCH, -1, -1),
    ]


async def test_an_unknown_partition_has_no_epochs(lab):
    unknown = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)

    assert await ends(lab, (-1, 0), topic="nobody") == [unknown]


@pytest.mark.parametrize("replica_id", [-2, -1, 5])
async def test_replicas_are_told_as_well(lab, replica_id):
    assert await ends(lab, (-1, 0), replica_id=replica_id) == [(0, 0, 4)]
