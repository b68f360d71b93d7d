"""Topics and brokers, and the file that topics survive in."""

from __future__ import annotations

import json

import attrs
import pytest

from trio_kafka_net.broker.metadata_cache import (
    BrokerMetadata,
    Endpoint,
    MetadataCache,
    PartitionMetadata,
    save_topics,
    validate_topic_name,
)
from trio_kafka_net.errors import KafkaError, StorageError
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


def test_partitions_are_added_at_the_end(cache):
    cache.add_partitions("b", [[3]])

    assert [p.leader_id for p in cache.get_topic("b").partitions] == [1, 2, 3]


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


def test_topics_survive_in_a_file(cache, tmp_path):
    cache.get_topic("b").partitions[0].leader_epoch = 7
    cache.get_topic("b").partitions[0].isr = (1,)

    save_topics(tmp_path, cache)

    assert list(MetadataCache.load(tmp_path)) == list(cache)
    assert MetadataCache.load(tmp_path).get_topic_by_id(ID).name == "b"


def test_changed_topics_take_the_place_of_the_present_ones(cache):
    changed = attrs.evolve(cache.get_topic("b"), configs={"segment.ms": "5"})

    topics = cache.with_changed({"b": changed, "nobody": changed})

    assert [topic.name for topic in topics] == [topic.name for topic in cache]
    assert changed in topics
    assert cache.get_topic("b").configs == {"retention.ms": "5"}


def test_no_file_is_no_topics(tmp_path):
    assert len(MetadataCache.load(tmp_path)) == 0


def test_the_file_can_be_read_by_people(cache, tmp_path):
    save_topics(tmp_path, cache)

    text = (tmp_path / "topics.json").read_text()
    document = json.loads(text)
    assert len(text.splitlines()) == 2 + len(cache)
    assert document["topics"][0]["name"] == "b"
    assert document["topics"][0]["id"] == "AAECAwQFBgcICQoLDA0ODw"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version": 2, "topics": []}',
        b'{"version": 1, "topics": [{}]}',
        b'{"version": 1, "topics": [{"name": "../x", "id": "", "configs": {}, "partitions": []}]}',
        b'{"version": 1, "topics": [{"name": "x", "id": "y", "configs": {}, "partitions": []}]}',
        b'{"version": 1, "topics": [{"name": 5}]}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "topics.json").write_bytes(content)

    with pytest.raises(StorageError):
        MetadataCache.load(tmp_path)
