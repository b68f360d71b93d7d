"""Elections, reassignments, and the description of topics page by page."""

from types import SimpleNamespace

import pytest
import trio.lowlevel

from trio_kafka_net.apis.partition_admin import describe_topic_partitions
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    AlterPartitionReassignmentsRequest,
    DescribeTopicPartitionsRequest,
    ElectLeadersRequest,
    ListPartitionReassignmentsRequest,
)
from trio_kafka_net.testing.client import ConnectionClosedError

NOT_NEEDED = (ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
PREFERRED, UNCLEAN = 0, 1


@pytest.fixture
async def lab(lab):
    await lab.make_topic("b", partitions=3)
    await lab.make_topic("a", partitions=2)
    return lab


# ElectLeaders


def an_election(partitions, election_type=PREFERRED):
    """Of {topic: partition indexes}; None is all."""
    return ElectLeadersRequest(
        election_type=election_type,
        topic_partitions=None
        if partitions is None
        else [
            ElectLeadersRequest.TopicPartitions(topic=topic, partitions=indexes)
            for topic, indexes in partitions.items()
        ],
    )


def elected(response):
    return {
        result.topic: [
            (each.partition_id, each.error_code, each.error_message)
            for each in result.partition_result
        ]
        for result in response.replica_election_results
    }


@pytest.mark.parametrize(
    ("version", "election_type"),
    [(0, PREFERRED), (1, PREFERRED), (2, PREFERRED), (1, UNCLEAN), (2, UNCLEAN)],
)
async def test_no_election_is_needed(lab, version, election_type):
    response = await lab.ask(an_election({"a": [1, 0]}, election_type), version)

    assert response.error_code == 0
    assert elected(response) == {"a": [(1, *NOT_NEEDED), (0, *NOT_NEEDED)]}


async def test_election_of_unknown_partitions(lab):
    response = await lab.ask(an_election({"a": [5, -1], "c": [0], "b": []}), 2)

    assert response.error_code == 0
    assert elected(response) == {
        "a": [(5, UNKNOWN, "No such partition as a-5"), (-1, UNKNOWN, "No such partition as a--1")],
        "c": [(0, UNKNOWN, "No such topic as c")],
        "b": [],
    }


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_election_of_all_lists_only_what_needed_one(lab, version):
    assert elected(await lab.ask(an_election(None), version)) == {"a": [], "b": []}


@pytest.mark.parametrize(
    ("election_type", "failure"),
    [
        (
            PREFERRED,
            (
                ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
                "The preferred leader was not available.",
            ),
        ),
        (
            UNCLEAN,
            (
                ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
                "Eligible topic partition leaders are not available.",
            ),
        ),
    ],
)
async def test_election_without_a_replica_that_could_lead(lab, election_type, failure):
    partition = lab.local.controller.topics.get_topic("a").partitions[1]
    partition.leader_id, partition.replicas, partition.isr = -1, (2,), (2,)
    response = await lab.ask(an_election(None, election_type), 2)

    assert elected(response) == {"a": [(1, *failure)], "b": []}


@pytest.mark.parametrize("partitions", [None, {"a": [0, 1], "b": []}])
async def test_unknown_type_of_election(lab, partitions):
    response = await lab.ask(an_election(partitions, 7), 1)
    failure = (ErrorCode.INVALID_REQUEST, "Unknown election type 7")

    assert response.error_code == ErrorCode.INVALID_REQUEST
    assert elected(response) == (
        {} if partitions is None else {"a": [(0, *failure), (1, *failure)], "b": []}
    )


async def test_election_of_nothing(lab):
    response = await lab.ask(an_election({}, 7), 2)

    assert (response.error_code, elected(response)) == (0, {})


async def test_too_many_numbers_close_the_connection(lab):
    """Arrays of numbers may fill a frame; 25 millions of them would hold everybody up."""
    for request in (an_election({"a": [0] * 50_001}), a_reassignment(("a", 0, [1] * 50_001))):
        with pytest.raises(ConnectionClosedError):
            await lab.ask(request, 1)


# Reassignments


def a_reassignment(*partitions, **settings):
    """Of (topic, index, replicas)."""
    topic_of = AlterPartitionReassignmentsRequest.ReassignableTopic
    partition_of = AlterPartitionReassignmentsRequest.ReassignablePartition
    return AlterPartitionReassignmentsRequest(
        topics=[
            topic_of(name=name, partitions=[partition_of(partition_index=index, replicas=replicas)])
            for name, index, replicas in partitions
        ],
        **settings,
    )


REASSIGNED = {
    "here": (("a", 0, [1]), 0, None),
    "cancelled": (("a", 0, None), ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None),
    "elsewhere": (
        ("a", 0, [2]),
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "The manual partition assignment includes broker 2, but no such broker is registered.",
    ),
    "here and there": (
        ("a", 1, [3, 2, 1]),
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "The manual partition assignment includes broker 2, but no such broker is registered.",
    ),
    "twice": (
        ("a", 1, [1, 1, 2]),
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "The manual partition assignment includes the broker 1 more than once.",
    ),
    "nowhere": (
        ("a", 1, []),
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        "The manual partition assignment includes an empty replica list.",
    ),
    "unknown partition": (("a", 9, [1]), UNKNOWN, "Unable to find partition a:9."),
    "negative partition": (("a", -1, None), UNKNOWN, "Unable to find partition a:-1."),
    "unknown topic": (("c", 0, [1]), UNKNOWN, "Unable to find a topic named c."),
}


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("asked", "code", "text"), REASSIGNED.values(), ids=REASSIGNED)
async def test_reassignments(lab, version, asked, code, text):
    response = await lab.ask(a_reassignment(asked, ("b", 2, [1])), version)

    assert (response.error_code, response.error_message) == (0, None)
    assert [
        (topic.name, each.partition_index, each.error_code, each.error_message)
        for topic in response.responses
        for each in topic.partitions
    ] == [(asked[0], asked[1], code, text), ("b", 2, 0, None)]


async def test_replicas_that_cannot_be_are_refused_before_their_number(lab):
    request = a_reassignment(("a", 0, [1, 2]), allow_replication_factor_change=False)

    (topic,) = (await lab.ask(request, 1)).responses

    assert topic.partitions[0].error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT


@pytest.mark.parametrize("allowed", [False, True])
async def test_change_of_the_number_of_replicas_is_answered_as_asked(lab, allowed):
    request = a_reassignment(("a", 0, [1]), allow_replication_factor_change=allowed)

    assert (await lab.ask(request, 1)).allow_replication_factor_change == allowed


async def test_no_reassignment_is_in_progress(lab):
    of = ListPartitionReassignmentsRequest
    for topics in (None, [of.Topics(name="a", partition_indexes=[0, 7]), of.Topics(name="c")]):
        response = await lab.ask(of(topics=topics), 0)

        assert (response.error_code, response.error_message, response.topics) == (0, None, [])


# DescribeTopicPartitions


def a_page(*names, cursor=None, limit=2000):
    of = DescribeTopicPartitionsRequest
    return of(
        topics=[of.TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
        cursor=None
        if cursor is None
        else of.Cursor(topic_name=cursor[0], partition_index=cursor[1]),
    )


def described(response):
    """({topic: its partitions, or its error code}, where the next page begins)."""
    topics = {
        topic.name: topic.error_code or [each.partition_index for each in topic.partitions]
        for topic in response.topics
    }
    assert len(topics) == len(response.topics)
    following = response.next_cursor
    return topics, following and (following.topic_name, following.partition_index)


async def test_topics_are_described_by_name(lab):
    response = await lab.ask(a_page("b", "a", "b"), 0)

    assert described(response) == ({"a": [0, 1], "b": [0, 1, 2]}, None)
    assert [topic.name for topic in response.topics] == ["a", "b"]
    first = response.topics[0]
    assert first.topic_id == lab.local.metadata.get_topic("a").topic_id
    assert not first.is_internal
    assert first.topic_authorized_operations == 3576
    partition = first.partitions[1]
    assert (partition.error_code, partition.leader_id, partition.leader_epoch) == (0, 1, 0)
    assert (partition.replica_nodes, partition.isr_nodes) == ([1], [1])
    assert (partition.eligible_leader_replicas, partition.last_known_elr) == ([], [])
    assert partition.offline_replicas == []


async def test_partition_without_a_leader_says_so(lab):
    lab.local.metadata.get_topic("a").partitions[1].leader_id = -1
    response = await lab.ask(a_page("a"), 0)

    assert [each.error_code for each in response.topics[0].partitions] == [
        0,
        ErrorCode.LEADER_NOT_AVAILABLE,
    ]


PAGES = {
    1: ({"a": [0]}, ("a", 1)),
    2: ({"a": [0, 1]}, ("b", 0)),
    3: ({"a": [0, 1], "b": [0]}, ("b", 1)),
    5: ({"a": [0, 1], "b": [0, 1, 2]}, None),
    0: ({"a": [0]}, ("a", 1)),
    -1: ({"a": [0]}, ("a", 1)),
}


@pytest.mark.parametrize("names", [(), ("b", "a")])
@pytest.mark.parametrize(("limit", "page"), PAGES.items())
async def test_page_has_no_more_partitions_than_asked_for(lab, names, limit, page):
    assert described(await lab.ask(a_page(*names, limit=limit), 0)) == page


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_together_are_everything(lab, limit):
    seen, cursor = [], None
    for _ in range(10):
        topics, cursor = described(await lab.ask(a_page(limit=limit, cursor=cursor), 0))
        seen += [(name, index) for name, indexes in topics.items() for index in indexes]
        if cursor is None:
            break

    assert seen == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]


async def test_broker_has_a_limit_of_its_own(open_lab):
    lab = await open_lab(max_request_partition_size_limit=2)
    await lab.make_topic("a", partitions=3)

    assert described(await lab.ask(a_page(), 0)) == ({"a": [0, 1]}, ("a", 2))


@pytest.mark.parametrize(
    ("cursor", "page"),
    [
        (("a", 1), ({"a": [1], "b": [0, 1, 2]}, None)),
        (("a", 2), ({"a": [], "b": [0, 1, 2]}, None)),
        (("a", 9), ({"a": [], "b": [0, 1, 2]}, None)),
        (("b", 1), ({"b": [1, 2]}, None)),
        # A topic that was deleted since; the next one begins with its first partition.
        (("aa", 1), ({"b": [0, 1, 2]}, None)),
        (("c", 0), ({}, None)),
    ],
)
async def test_page_begins_at_the_cursor(lab, cursor, page):
    assert described(await lab.ask(a_page(cursor=cursor), 0)) == page


async def test_unknown_topics_do_not_count(lab):
    request = a_page("a", "aa", "bad name!", "b", limit=3)

    assert described(await lab.ask(request, 0)) == (
        {
            "a": [0, 1],
            "aa": UNKNOWN,
            "b": [0],
        },
        ("b", 1),
    )
    assert described(await lab.ask(a_page("bad name!", ""), 0)) == (
        {"bad name!": ErrorCode.INVALID_TOPIC_EXCEPTION, "": ErrorCode.INVALID_TOPIC_EXCEPTION},
        None,
    )
    assert described(await lab.ask(a_page("a", "aa", limit=2), 0)) == ({"a": [0, 1]}, ("aa", 0))


async def test_topic_that_is_deleted_meanwhile_is_not_described(lab, nursery):
    cache = lab.local.metadata
    for number in range(500):  # of two pauses the second comes after the deletion for certain
        cache.add_topic(f"t{number}", number.to_bytes(16, "big"), [[1]])

    async def delete_the_last():
        cache.remove_topic("t99")

    nursery.start_soon(delete_the_last)
    response = await describe_topic_partitions(
        SimpleNamespace(
            broker=lab.local,
            listener_name="PLAINTEXT",
            breaks=lambda: SimpleNamespace(is_due=lambda: True, take=trio.lowlevel.checkpoint),
        ),
        a_page(),
    )
    topics, following = described(response)

    assert len(topics) == 501
    assert "t99" not in topics
    assert following is None


@pytest.mark.parametrize(
    ("names", "cursor"), [(("b", "a"), ("aa", 0)), (("b", "a"), ("a", -1)), ((), ("a", -1))]
)
async def test_cursor_must_be_of_what_is_asked_for(lab, names, cursor):
    response = await lab.ask(a_page(*names, cursor=cursor), 0)

    assert [(topic.name, topic.error_code) for topic in response.topics] == [
        (name, ErrorCode.INVALID_REQUEST) for name in names
    ]
    assert response.next_cursor is None


async def test_control_plane_serves_them_too(lab):
    assert elected(await lab.ask(an_election({"a": [0]}), 2, plane="control"))
    assert described(await lab.ask(a_page("a"), 0, plane="control")) == ({"a": [0, 1]}, None)
    response = await lab.ask(a_reassignment(("a", 0, [1])), 1, plane="control")
    assert response.responses[0].partitions[0].error_code == 0
