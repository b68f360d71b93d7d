"""CreateTopics, DeleteTopics."""

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import CreateTopicsRequest, DeleteTopicsRequest
from trio_kafka_net.protocol.primitives import ZERO_UUID

UNKNOWN_ID = b"u" * 16


def asking(name="t", partitions=1, replicas=1, configs=None, assignments=None):
    return CreateTopicsRequest.CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        configs=[
            CreateTopicsRequest.CreatableTopicConfig(name=name, value=value)
            for name, value in (configs or {}).items()
        ],
        assignments=[
            CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
            for index, ids in assignments or []
        ],
    )


async def create(lab, *topics, version=7, plane="data", **settings):
    request = CreateTopicsRequest(topics=list(topics), **settings)
    return (await lab.ask(request, version, plane=plane)).topics


@pytest.mark.parametrize("plane", ["data", "control"])
@pytest.mark.parametrize("version", range(2, 8))
async def test_topic_is_made_and_described(lab, version, plane):
    settings = {"retention.ms": "5000"}

    (made,) = await create(
        lab, asking(partitions=3, configs=settings), version=version, plane=plane
    )

    topic = lab.local.metadata.get_topic("t")
    assert (made.name, made.error_code, made.error_message) == ("t", 0, None)
    assert made.topic_id == (topic.topic_id if version >= 7 else ZERO_UUID)
    assert len(topic.partitions) == 3
    assert lab.local.controller.topics.get_topic("t").configs == settings
    if version >= 5:
        assert (made.num_partitions, made.replication_factor) == (3, 1)
        described = {each.name: (each.value, each.config_source) for each in made.configs}
        assert list(described) == sorted(described)
        assert described["retention.ms"] == ("5000", 1)
        assert described["cleanup.policy"] == ("delete", 5)


async def test_setting_of_the_broker_is_told_as_such(open_lab):
    lab = await open_lab(log_retention_ms=777)

    (made,) = await create(lab, asking())

    (setting,) = [each for each in made.configs if each.name == "retention.ms"]
    assert (setting.value, setting.config_source) == ("777", 4)


async def test_defaults_are_the_brokers(open_lab):
    lab = await open_lab(num_partitions=4)

    (made,) = await create(lab, asking(partitions=-1, replicas=-1))

    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 4, 1)


async def test_validation_describes_and_makes_nothing(lab):
    good, bad = await create(lab, asking(partitions=2), asking("b d"), validate_only=True)

    assert (good.error_code, good.num_partitions, good.topic_id) == (0, 2, ZERO_UUID)
    assert bad.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert len(lab.local.metadata) == len(lab.local.replicas) == 0


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (asking(""), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (asking("."), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (asking("a/b"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (asking("ü"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (asking("x" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (asking("the_re"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (asking("the.re"), ErrorCode.TOPIC_ALREADY_EXISTS),
        # Whatever else is wrong, an existing topic exists.
        (asking("the.re", replicas=3), ErrorCode.TOPIC_ALREADY_EXISTS),
        (asking("the.re", assignments=[(5, [9])]), ErrorCode.TOPIC_ALREADY_EXISTS),
        (asking("the.re", configs={"nonsense": "1"}), ErrorCode.TOPIC_ALREADY_EXISTS),
        (asking("__cluster_metadata"), ErrorCode.INVALID_REQUEST),
        (asking(partitions=0), ErrorCode.INVALID_PARTITIONS),
        (asking(partitions=-2), ErrorCode.INVALID_PARTITIONS),
        (asking(partitions=0, replicas=3), ErrorCode.INVALID_PARTITIONS),
        (asking(replicas=0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (asking(replicas=-2, partitions=0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (asking(replicas=2), ErrorCode.INVALID_REPLICATION_FACTOR),
        (asking(configs={"nonsense": "1"}), ErrorCode.INVALID_CONFIG),
        (asking(configs={"retention.ms": None}), ErrorCode.INVALID_CONFIG),
        (asking(configs={"retention.ms": "soon"}), ErrorCode.INVALID_CONFIG),
        (asking(assignments=[(0, [1])]), ErrorCode.INVALID_REQUEST),
        (asking(partitions=-1, assignments=[(0, [1])]), ErrorCode.INVALID_REQUEST),
        (asking(partitions=-1, replicas=-1, assignments=[(0, [2])]), 39),
        (asking(partitions=-1, replicas=-1, assignments=[(0, [])]), 39),
        (asking(partitions=-1, replicas=-1, assignments=[(0, [1, 1])]), 39),
        (asking(partitions=-1, replicas=-1, assignments=[(1, [1])]), 39),
        (asking(partitions=-1, replicas=-1, assignments=[(0, [1]), (0, [1])]), 39),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorCode) else "",
)
async def test_bad_topic_is_refused_with_a_text_and_leaves_the_others(lab, topic, code):
    await lab.make_topic("the.re")

    bad, good = await create(lab, topic, asking("good"))

    assert (bad.name, bad.error_code) == (topic.name, code)
    assert bad.error_message
    assert (bad.num_partitions, bad.topic_id) == (-1, ZERO_UUID)
    assert good.error_code == 0
    assert {each.name for each in lab.local.metadata} == {"the.re", "good"}


async def test_assignment_says_how_many_partitions(lab):
    (made,) = await create(
        lab, asking(partitions=-1, replicas=-1, assignments=[(1, [1]), (0, [1])])
    )

    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 2, 1)


async def test_topic_named_twice_is_not_made(lab):
    results = await create(lab, asking("a"), asking("b"), asking("a"))

    assert [(each.name, each.error_code) for each in results] == [
        ("a", ErrorCode.INVALID_REQUEST),
        ("b", 0),
    ]
    assert [each.name for each in lab.local.metadata] == ["b"]


@pytest.mark.parametrize(
    "topics", [[asking(partitions=10_000)], [asking(f"t{n}", partitions=100) for n in range(100)]]
)
async def test_excessive_request_fails_as_a_whole(lab, topics):
    results = await create(lab, *topics)

    assert {each.error_code for each in results} == {ErrorCode.POLICY_VIOLATION}
    assert len(lab.local.metadata) == 0


async def test_empty_requests_have_empty_answers(lab):
    assert await create(lab) == []
    assert (await lab.ask(DeleteTopicsRequest(), 6)).responses == []


# DeleteTopics


def by(name=None, topic_id=ZERO_UUID):
    return DeleteTopicsRequest.DeleteTopicState(name=name, topic_id=topic_id)


async def delete(lab, *topics):
    response = await lab.ask(DeleteTopicsRequest(topics=list(topics)), 6)
    return [(each.name, each.error_code) for each in response.responses]


@pytest.mark.parametrize("version", range(1, 6))
async def test_topics_are_deleted_by_name(lab, version):
    await lab.make_topic("t")
    request = DeleteTopicsRequest(topic_names=["t", "nobody"])

    response = await lab.ask(request, version)

    assert [(each.name, each.error_code) for each in response.responses] == [
        ("t", 0),
        ("nobody", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert len(lab.local.metadata) == len(lab.local.replicas) == 0


async def test_topics_are_deleted_by_name_or_id(lab):
    first, second = await lab.make_topic("a"), await lab.make_topic("b")
    request = DeleteTopicsRequest(topics=[by("a"), by(topic_id=second.topic_id)])

    response = await lab.ask(request, 6)

    assert [(each.name, each.topic_id, each.error_code) for each in response.responses] == [
        ("a", first.topic_id, 0),
        ("b", second.topic_id, 0),
    ]
    assert len(lab.local.metadata) == 0


async def test_bad_deletions_are_refused_and_delete_nothing(lab):
    ids = {name: (await lab.make_topic(name)).topic_id for name in "abc"}

    assert await delete(
        lab,
        by(topic_id=UNKNOWN_ID),
        by(),
        by("a", ids["a"]),
        by("b"),
        by("b"),
        by("c"),
        by(topic_id=ids["c"]),
    ) == [
        (None, ErrorCode.UNKNOWN_TOPIC_ID),
        (None, ErrorCode.INVALID_REQUEST),
        ("a", ErrorCode.INVALID_REQUEST),
        ("b", ErrorCode.INVALID_REQUEST),
        ("c", ErrorCode.INVALID_REQUEST),
    ]
    assert {each.name for each in lab.local.metadata} == set("abc")


async def test_topics_that_are_not_there_are_told_in_kafkas_words(lab):
    request = DeleteTopicsRequest(topics=[by("nobody"), by(topic_id=UNKNOWN_ID)])

    response = await lab.ask(request, 6)

    assert [(each.error_code, each.error_message) for each in response.responses] == [
        (
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
        ),
        (ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID."),
    ]


@pytest.mark.parametrize(
    ("version", "code"),
    [(2, ErrorCode.INVALID_REQUEST), (3, ErrorCode.TOPIC_DELETION_DISABLED)],
)
async def test_deletion_can_be_disabled(open_lab, version, code):
    lab = await open_lab(delete_topic_enable=False)
    await lab.make_topic("t")

    response = await lab.ask(DeleteTopicsRequest(topic_names=["t", "nobody"]), version)

    assert [each.error_code for each in response.responses] == [code] * 2
    assert len(lab.local.metadata) == 1


async def test_name_is_free_again_and_the_new_topic_is_empty(lab):
    old = await lab.make_topic("t")
    await lab.produce("t")
    assert await delete(lab, by("t")) == [("t", 0)]

    (made,) = await create(lab, asking())

    assert (made.error_code, made.topic_id != old.topic_id) == (0, True)
    assert lab.partition().log_end_offset == 0
