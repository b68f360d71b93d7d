"""Topics and brokers, as they are told."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.metadata_cache import (
    BrokerMetadata,
    Endpoint,
    MetadataCache,
    PartitionMetadata,
    validate_topic_name,
)
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

ID = bytes(range(16))


@pytest.fixture
def cache():
    cache = MetadataCache()
    cache.add_topic("b", ID, [[1, 2], [2, 1]], {"retention.ms": "5"})
    return cache


def code_of(function, *args, **options):
    with pytest.raises(KafkaError) as caught:
        function(*args, **options)
    return caught.value.code


def test_first_replica_leads(cache):
    assert cache.get_topic("b").partitions[1] == PartitionMetadata(
        replicas=(2, 1), isr=(2, 1), leader_id=2, leader_epoch=0
    )


def test_topics_are_found_by_name_and_id(cache):
    cache.add_topic("a", bytes(16), [[1]])

    assert [topic.name for topic in cache] == ["a", "b"]
    assert cache.get_topic_by_id(ID).name == "b"
    assert cache.get_topic_by_id(b"x" * 16) is None
    assert cache.get_topic("c") is None
    assert code_of(cache.topic_or_raise, "c") is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_removed_topics_are_gone(cache):
    assert cache.remove_topic("b").topic_id == ID

    assert len(cache) == 0
    assert cache.get_topic_by_id(ID) is None
    assert code_of(cache.remove_topic, "b") is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_existing_name_is_refused(cache):
    assert code_of(cache.add_topic, "b", ID, [[1]]) is ErrorCode.TOPIC_ALREADY_EXISTS


def test_topic_without_partitions_is_refused(cache):
    assert code_of(cache.add_topic, "c", ID, []) is ErrorCode.INVALID_PARTITIONS


@pytest.mark.parametrize("name", ["a.b_c", "a_b_c", "a.b.c"])
def test_names_that_differ_only_in_dot_and_underscore_collide(cache, name):
    cache.add_topic("a_b.c", bytes(16), [[1]])

    assert code_of(cache.check_new_topic, name) is ErrorCode.INVALID_TOPIC_EXCEPTION


@pytest.mark.parametrize("name", ["a", "A-1.b_c", "__consumer_offsets", "x" * 249, "...", "0"])
def test_legal_names(name):
    validate_topic_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x" * 250, "a b", "a/b", "ä", "a\n", "a\0", "../x", "a:b"]
)
def test_illegal_names(name):
    assert code_of(validate_topic_name, name) is ErrorCode.INVALID_TOPIC_EXCEPTION


def test_internal_topics_are_known(cache):
    assert cache.add_topic("__consumer_offsets", bytes(16), [[1]]).is_internal
    assert not cache.get_topic("b").is_internal


def test_brokers_and_their_endpoints():
    cache = MetadataCache()
    cache.add_broker(BrokerMetadata(2, {"PLAINTEXT": Endpoint("h", 9092)}, rack="r"))
    cache.add_broker(BrokerMetadata(1, {}))

    assert [broker.node_id for broker in cache.brokers] == [1, 2]
    assert cache.endpoint(2, "PLAINTEXT") == Endpoint("h", 9092)
    assert cache.endpoint(2, "OTHER") is None
    cache.remove_broker(2)
    cache.remove_broker(2)
    assert cache.endpoint(2, "PLAINTEXT") is None


def test_changed_topics_take_the_place_of_the_present_ones(cache):
    changed = attrs.evolve(cache.get_topic("b"), configs={"segment.ms": "5"})

    topics = cache.with_changed({"b": changed, "nobody": changed})

    assert [topic.name for topic in topics] == [topic.name for topic in cache]
    assert changed in topics
    assert cache.get_topic("b").configs == {"retention.ms": "5"}


def test_what_is_told_of_partitions_is_taken_over(cache):
    told = PartitionMetadata(replicas=(1, 2), isr=(2,), leader_id=2, leader_epoch=3)

    cache.set_partitions("b", ID, {1: told, 2: told})

    first, *others = cache.get_topic("b").partitions
    assert (first.leader_id, others) == (1, [told, told])


def test_partition_behind_a_gap_is_not_known(cache):
    told = PartitionMetadata(replicas=(1,), isr=(1,), leader_id=1)

    cache.set_partitions("b", ID, {3: told, -1: told})
    cache.set_partitions("c", b"c" * 16, {1: told})

    assert [each.leader_id for each in cache.get_topic("b").partitions] == [1, 2]
    assert cache.get_topic("c") is None


def test_topic_of_another_id_takes_the_place_of_the_known_one(cache):
    told = PartitionMetadata(replicas=(1,), isr=(1,), leader_id=1)

    cache.set_partitions("b", b"b" * 16, {0: told})

    assert len(cache.get_topic("b").partitions) == 1
    assert cache.get_topic_by_id(ID) is None


def test_brokers_are_those_that_were_told_last(cache):
    cache.add_broker(BrokerMetadata(1, {}))

    cache.set_brokers([BrokerMetadata(3, {}), BrokerMetadata(2, {})])

    assert [broker.node_id for broker in cache.brokers] == [2, 3]


SMALL = st.integers(0, 2)
STATES = st.builds(
    PartitionMetadata,
    replicas=st.just((1, 2)),
    isr=st.sampled_from([(1,), (1, 2)]),
    leader_id=SMALL,
    offline_replicas=st.sampled_from([(), (2,)]),
)
BROKERS = st.builds(BrokerMetadata, SMALL, st.sampled_from([{}, {"L": Endpoint("h", 1)}]))
CALLS = st.one_of(
    st.tuples(st.just("add_broker"), BROKERS),
    st.tuples(st.just("remove_broker"), SMALL),
    st.tuples(st.just("set_brokers"), st.lists(BROKERS, max_size=2)),
    st.tuples(
        st.just("set_partitions"),
        st.sampled_from("ab"),
        st.sampled_from([ID, ID[::-1], bytes(16)]),
        st.dictionaries(SMALL, STATES, max_size=2),
    ),
    st.tuples(st.just("remove_topic"), st.sampled_from("ab")),
    st.tuples(st.just("add_topic"), st.sampled_from("ab"), st.just(ID), st.just([[1, 2]])),
    st.tuples(st.just("controller_id"), SMALL),
)


def seen(cache):
    topics = [(topic.name, topic.topic_id, list(topic.partitions)) for topic in cache]
    return cache.controller_id, cache.brokers, topics, cache.get_topic_by_id(ID)


@given(st.lists(CALLS, max_size=12))
def test_version_grows_with_every_change_that_can_be_seen(calls):
    cache = MetadataCache()
    for name, *arguments in calls:
        version, before = cache.version, seen(cache)
        if name == "controller_id":
            cache.controller_id = arguments[0]
        else:
            try:
                getattr(cache, name)(*arguments)
            except KafkaError:
                assert cache.version == version
        assert cache.version >= version
        if seen(cache) != before:
            assert cache.version > version
