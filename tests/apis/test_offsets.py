"""ListOffsets."""

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ListOffsetsRequest

from .lab import a_batch

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, PENDING_UPLOAD = range(-1, -7, -1)


@pytest.fixture
async def lab(lab):
    """A broker with topic t: records 0 to 3 at times 1000, 1001, 1000, 1001."""
    await lab.make_topic("t")
    for _ in range(2):
        await lab.produce("t", a_batch(b"a", b"b"))
    return lab


async def find(lab, timestamp, version=7, *, topic="t", **settings):
    partition = ListOffsetsRequest.Partition(timestamp=timestamp, **settings)
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsRequest.Topic(name=topic, partitions=[partition])]
    )
    (answer,) = (await lab.ask(request, version)).topics[0].partitions
    return answer.error_code, answer.offset, answer.timestamp, answer.leader_epoch


@pytest.mark.parametrize("version", range(1, 12))
@pytest.mark.parametrize(
    ("timestamp", "offset", "found_timestamp", "epoch"),
    [
        (LATEST, 4, -1, 0),
        (EARLIEST, 0, -1, 0),
        (0, 0, 1000, 0),
        (1000, 0, 1000, 0),
        (1001, 1, 1001, 0),
        (1002, -1, -1, -1),
    ],
)
async def test_offset_is_found_by_time(lab, version, timestamp, offset, found_timestamp, epoch):
    expected = (0, offset, found_timestamp, epoch if version >= 4 else -1)

    assert await find(lab, timestamp, version) == expected


@pytest.mark.parametrize(
    ("timestamp", "since", "expected"),
    [
        (MAX_TIMESTAMP, 7, (0, 1, 1001, 0)),
        (EARLIEST_LOCAL, 8, (0, 0, -1, 0)),
        (LATEST_TIERED, 9, (0, -1, -1, -1)),
        (PENDING_UPLOAD, 11, (0, -1, -1, -1)),
        (-7, 12, None),
        (-(2**63), 12, None),
    ],
)
async def test_special_timestamps_are_for_later_versions(lab, timestamp, since, expected):
    refused = (ErrorCode.UNSUPPORTED_VERSION, -1, -1, -1)
    for version in range(4, 12):
        assert await find(lab, timestamp, version) == (expected if version >= since else refused)


async def test_version_is_checked_before_the_partition(lab):
    code, *_ = await find(lab, MAX_TIMESTAMP, 6, topic="nobody")

    assert code == ErrorCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("timestamp", [LATEST, EARLIEST, MAX_TIMESTAMP, 0])
async def test_empty_log_has_only_its_ends(lab, timestamp):
    await lab.make_topic("empty")

    code, offset, found, _ = await find(lab, timestamp, topic="empty")

    assert (code, offset, found) == (0, 0 if timestamp in {LATEST, EARLIEST} else -1, -1)


async def test_earliest_follows_deleted_records(lab):
    lab.partition().delete_records(3)

    assert (await find(lab, EARLIEST))[1] == 3


async def test_read_committed_sees_the_same_without_transactions(lab):
    request = ListOffsetsRequest(
        replica_id=-1,
        isolation_level=1,
        topics=[
            ListOffsetsRequest.Topic(
                name="t", partitions=[ListOffsetsRequest.Partition(timestamp=LATEST)]
            )
        ],
    )

    assert (await lab.ask(request, 2)).topics[0].partitions[0].offset == 4


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"topic": "nobody"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"partition_index": 1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"current_leader_epoch": 3}, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ],
)
async def test_refusal_has_no_offset(lab, settings, code):
    assert await find(lab, LATEST, **settings) == (code, -1, -1, -1)


async def test_partition_named_twice_is_refused(lab):
    await lab.make_topic("u", partitions=2)
    partitions = [
        ListOffsetsRequest.Partition(partition_index=index, timestamp=LATEST) for index in (0, 1, 0)
    ]
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsRequest.Topic(name="u", partitions=partitions)]
    )

    response = await lab.ask(request, 7)

    assert [(each.error_code, each.offset) for each in response.topics[0].partitions] == [
        (ErrorCode.INVALID_REQUEST, -1),
        (0, 0),
        (ErrorCode.INVALID_REQUEST, -1),
    ]
