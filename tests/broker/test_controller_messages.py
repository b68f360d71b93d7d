"""The requests of the controller: what is in them, and how large they become."""

from __future__ import annotations

import pytest

from trio_kafka_net.broker import controller_messages as messages
from trio_kafka_net.broker.controller_messages import Change
from trio_kafka_net.broker.metadata_cache import (
    BrokerMetadata,
    Endpoint,
    TopicMetadata,
    new_partitions,
)
from trio_kafka_net.protocol.codec import decode, encode

BROKERS = [BrokerMetadata(node_id, {"A": Endpoint("h", 9)}) for node_id in range(1, 12)]


def a_topic(count, name="t", replicas=3):
    partitions = new_partitions([range(1, replicas + 1)] * count)
    return TopicMetadata(name, name.encode() * 16, partitions)


def everything(topic, **settings):
    return [Change(topic, range(len(topic.partitions)), **settings)]


def received(request, version):
    """As the broker decodes it; refused if it is too large."""
    return decode(type(request), version, b"".join(encode(request, version)))


@pytest.mark.parametrize("replicas", [1, 3, 10])
@pytest.mark.parametrize("living", [BROKERS, []], ids=["all alive", "none alive"])
def test_largest_topic_goes_over(replicas, living):
    topic = a_topic(10_000, replicas=replicas)
    known = []
    for request in messages.update_metadata(everything(topic), living, controller_id=1):
        (state,) = received(request, 8).topic_states
        known += [each.partition_index for each in state.partition_states]

    assert known == list(range(10_000))


def test_largest_topic_is_led_and_stopped_in_pieces():
    topic = a_topic(10_000, replicas=10)
    led, stopped = [], []
    for request in messages.leader_and_isr(everything(topic), 1, controller_id=1):
        (state,) = received(request, 7).topic_states
        led += [each.partition_index for each in state.partition_states]
    for request in messages.stop_replica(topic, range(10_000), controller_id=1, leader_epoch=None):
        (state,) = received(request, 4).topic_states
        stopped += [each.partition_index for each in state.partition_states]

    assert led == stopped == list(range(10_000))


def test_topics_that_go_into_one_request_are_not_known_by_half():
    changes = [change for n in range(30) for change in everything(a_topic(90, f"t{n}"))]
    requests = list(messages.update_metadata(changes, BROKERS, controller_id=1))

    assert [len(each.topic_states) for each in requests] == [6] * 5
    for request in requests:
        assert {len(state.partition_states) for state in request.topic_states} == {90}


def test_there_is_always_news_about_brokers():
    (request,) = messages.update_metadata([], BROKERS, controller_id=1)

    assert [each.id for each in request.live_brokers] == list(range(1, 12))


def test_types_say_whether_these_are_all_partitions():
    topic = a_topic(2)
    (some,) = messages.leader_and_isr(everything(topic, is_new=True), 1, controller_id=7)
    (all_of_them,) = messages.leader_and_isr(everything(topic), 1, controller_id=7, is_full=True)

    assert (some.type, all_of_them.type) == (1, 2)
    assert (some.controller_id, some.is_kraft_controller) == (7, True)
    assert [each.is_new for each in some.topic_states[0].partition_states] == [True, True]


def test_only_those_who_have_a_replica_hear_of_leaders():
    assert list(messages.leader_and_isr(everything(a_topic(2)), 4, controller_id=1)) == []


@pytest.mark.parametrize(("epoch", "told"), [(None, 5), (-2, -2)])
def test_end_of_a_replica_has_the_epoch_of_its_partition_or_of_a_deletion(epoch, told):
    topic = a_topic(1)
    topic.partitions[0].leader_epoch = 5
    (request,) = messages.stop_replica(topic, [0], controller_id=1, leader_epoch=epoch)

    (state,) = request.topic_states[0].partition_states
    assert (state.leader_epoch, state.delete_partition) == (told, True)


def test_news_has_who_is_offline_and_what_is_deleted():
    topic = a_topic(1)
    for is_deletion, leader in ((False, 1), (True, -2)):
        (request,) = messages.update_metadata(
            everything(topic), BROKERS[:2], controller_id=1, is_deletion=is_deletion
        )
        (state,) = request.topic_states[0].partition_states
        assert (state.leader, state.offline_replicas) == (leader, [3])
