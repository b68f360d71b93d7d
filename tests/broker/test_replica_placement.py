"""Where new replicas go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.replica_placement import check_assignments, place
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode


def test_leaders_go_round_and_followers_are_shifted_with_every_round():
    """As in the table that Kafka's own class describes, for five brokers and three replicas."""
    nodes = [0, 1, 2, 3, 4]

    placed = place(10, 3, living=nodes, registered=nodes)

    assert placed == [
        (0, 1, 2),
        (1, 2, 3),
        (2, 3, 4),
        (3, 4, 0),
        (4, 0, 1),
        (0, 2, 3),
        (1, 3, 4),
        (2, 4, 0),
        (3, 0, 1),
        (4, 1, 2),
    ]


@given(
    st.sets(st.integers(0, 50), min_size=1, max_size=6),
    st.integers(1, 40),
    st.integers(0, 255),
    st.data(),
)
def test_replicas_are_different_and_leaders_even(nodes, count, start, data):
    nodes = sorted(nodes)
    factor = data.draw(st.integers(1, len(nodes)))

    placed = place(count, factor, living=nodes, registered=nodes, start=start)

    assert [len(set(replicas)) for replicas in placed] == [factor] * count
    leaders = Counter(replicas[0] for replicas in placed)
    assert max(leaders.values()) - min(leaders.get(node, 0) for node in nodes) <= 1


def test_more_partitions_go_on_where_the_others_ended():
    nodes = [1, 2, 3]
    whole = place(7, 2, living=nodes, registered=nodes, start=9)
    added = place(4, 2, living=nodes, registered=nodes, start=9, first_index=3)

    assert [*whole[:3], *added] == whole


def test_brokers_that_are_gone_are_used_last():
    placed = place(4, 3, living=[1, 3], registered=[1, 2, 3])

    assert {replicas[2] for replicas in placed} == {2}
    assert {replicas[0] for replicas in placed} == {1, 3}


@pytest.mark.parametrize(
    ("factor", "living", "text"),
    [(3, [1, 2], "only 2 broker(s) are registered"), (1, [], "All brokers are currently fenced")],
)
def test_too_few_brokers_are_told(factor, living, text):
    with pytest.raises(KafkaError) as refused:
        place(1, factor, living=living, registered=[1, 2])

    assert refused.value.code == ErrorCode.INVALID_REPLICATION_FACTOR
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("assignments", "text"),
    [
        ([[1, 2], [2, 1]], None),
        ([[1], []], "an empty replica list."),
        ([[1, 4]], "broker 4, but no such broker is registered."),
        ([[1, 1]], "the broker 1 more than once."),
        ([[1, 2], [1]], "a partition with 1 replica(s), but this is not consistent"),
        ([[1], [3]], "partition 1 are fenced or in controlled shutdown."),
    ],
)
def test_manual_assignments_are_checked(assignments, text):
    if text is None:
        check_assignments(assignments, living=[1, 2], registered=[1, 2, 3])
        return
    with pytest.raises(KafkaError) as refused:
        check_assignments(assignments, living=[1, 2], registered=[1, 2, 3])
    assert refused.value.code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert text in refused.value.message
