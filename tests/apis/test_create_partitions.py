"""CreatePartitions: more of them, never fewer."""

import pytest

from tests.apis.lab import a_batch
from trio_kafka_net.apis import topics as topics_module
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import CreatePartitionsRequest, MetadataRequest

INVALID_PARTITIONS = ErrorCode.INVALID_PARTITIONS
INVALID_ASSIGNMENT = ErrorCode.INVALID_REPLICA_ASSIGNMENT


def to(name, count, assignments=None):
    return CreatePartitionsRequest.Topic(
        name=name,
        count=count,
        assignments=None
        if assignments is None
        else [CreatePartitionsRequest.Assignment(broker_ids=nodes) for nodes in assignments],
    )


async def enlarge(lab, *topics, version=3, plane="data", validate_only=False):
    request = CreatePartitionsRequest(topics=list(topics), validate_only=validate_only)
    response = await lab.ask(request, version, plane=plane)
    return [(each.name, each.error_code, each.error_message) for each in response.results]


def count(lab, name="t"):
    return len(lab.local.metadata.get_topic(name).partitions)


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", range(4))
async def test_new_partitions_are_served_at_once(lab, version, plane):
    await lab.make_topic("t", partitions=2)
    client = await lab.connect()
    asked = MetadataRequest(topics=[MetadataRequest.Topic(name="t")])
    assert len((await client.request(asked, 12)).topics[0].partitions) == 2

    assert await enlarge(lab, to("t", 4), version=version, plane=plane) == [("t", 0, None)]

    (topic,) = (await client.request(asked, 12)).topics
    assert [(each.partition_index, each.leader_id) for each in topic.partitions] == [
        (index, 1) for index in range(4)
    ]
    assert (await lab.produce("t", a_batch(), index=3)).error_code == 0
    (fetched,) = await lab.fetch(("t", {"partition": 3}))
    assert (fetched.error_code, fetched.high_watermark) == (0, 1)


# What Kafka 4.1 answers for a topic of 5 partitions.
REFUSALS = [
    (
        to("t", 2),
        INVALID_PARTITIONS,
        "The topic t currently has 5 partition(s); 2 would not be an increase.",
    ),
    (to("t", 5), INVALID_PARTITIONS, "Topic already has 5 partition(s)."),
    (
        to("t", 0),
        INVALID_PARTITIONS,
        "The topic t currently has 5 partition(s); 0 would not be an increase.",
    ),
    (
        to("t", -1),
        INVALID_PARTITIONS,
        "The topic t currently has 5 partition(s); -1 would not be an increase.",
    ),
    (
        to("t", 6, []),
        INVALID_ASSIGNMENT,
        "Attempted to add 1 additional partition(s), but only 0 assignment(s) were specified.",
    ),
    (
        to("t", 6, [[1], [1]]),
        INVALID_ASSIGNMENT,
        "Attempted to add 1 additional partition(s), but only 2 assignment(s) were specified.",
    ),
    (
        to("t", 6, [[2]]),
        INVALID_ASSIGNMENT,
        "The manual partition assignment includes broker 2, but no such broker is registered.",
    ),
    (
        to("t", 6, [[]]),
        INVALID_ASSIGNMENT,
        "The manual partition assignment includes an empty replica list.",
    ),
    (
        to("t", 6, [[1, 1]]),
        INVALID_ASSIGNMENT,
        "The manual partition assignment includes the broker 1 more than once.",
    ),
    (
        to("t", 6, [[1, 2]]),
        INVALID_ASSIGNMENT,
        "The manual partition assignment includes broker 2, but no such broker is registered.",
    ),
    (to("nobody", 6), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None),
    (to("../t", 6), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None),
]


@pytest.mark.parametrize(("topic", "code", "text"), REFUSALS)
async def test_refused_growth_says_why_and_does_not_keep_the_others(lab, topic, code, text):
    await lab.make_topic("t", partitions=5)
    await lab.make_topic("good")

    assert await enlarge(lab, topic, to("good", 2)) == [
        (topic.name, code, text),
        ("good", 0, None),
    ]
    assert (count(lab), count(lab, "good")) == (5, 2)


async def test_assigned_partitions_are_made(lab):
    await lab.make_topic("t")

    assert await enlarge(lab, to("t", 3, [[1], [1]])) == [("t", 0, None)]
    assert count(lab) == 3


async def test_validation_makes_nothing(lab):
    await lab.make_topic("t")

    assert await enlarge(lab, to("t", 3), validate_only=True) == [("t", 0, None)]
    assert await enlarge(lab, to("t", 3, [[7]]), validate_only=True) != [("t", 0, None)]
    assert (count(lab), len(lab.local.replicas)) == (1, 1)


async def test_topic_that_is_named_twice_stays_as_it_is(lab):
    for name in ("t", "u"):
        await lab.make_topic(name)

    assert await enlarge(lab, to("t", 2), to("u", 2), to("t", 3)) == [
        ("t", ErrorCode.INVALID_REQUEST, "Duplicate topic name."),
        ("u", 0, None),
    ]
    assert (count(lab), count(lab, "u")) == (1, 2)


@pytest.mark.parametrize("counts", [(10_002,), (2**31 - 1,), (6, 7)])
async def test_excessive_request_fails_as_a_whole(lab, monkeypatch, counts):
    if len(counts) == 2:
        monkeypatch.setattr(topics_module, "_MAX_RECORDS", 10)
    names = ["t", "u"][: len(counts)]
    for name in names:
        await lab.make_topic(name)

    results = await enlarge(lab, *map(to, names, counts))

    assert [(name, code) for name, code, _ in results] == [
        (name, ErrorCode.POLICY_VIOLATION) for name in names
    ]
    assert {count(lab, name) for name in names} == {1}


async def test_empty_request_has_an_empty_answer(lab):
    assert await enlarge(lab) == []
