"""The file that topics survive in."""

from __future__ import annotations

import json

import pytest

from trio_kafka_net.broker.metadata_cache import MetadataCache
from trio_kafka_net.broker.topics_file import load_topics, save_topics
from trio_kafka_net.errors import StorageError

ID = bytes(range(16))


@pytest.fixture
def cache():
    cache = MetadataCache()
    cache.add_topic("b", ID, [[1, 2], [2, 1]], {"retention.ms": "5"})
    return cache


def test_topics_survive_in_a_file(cache, tmp_path):
    cache.get_topic("b").partitions[0].leader_epoch = 7
    cache.get_topic("b").partitions[0].isr = (1,)
    cache.get_topic("b").partitions[0].partition_epoch = 9

    save_topics(tmp_path, cache, 7)

    topics, controller_epoch = load_topics(tmp_path)
    assert list(topics) == list(cache)
    assert topics.get_topic_by_id(ID).name == "b"
    assert controller_epoch == 7


def test_no_file_is_no_topics(tmp_path):
    topics, controller_epoch = load_topics(tmp_path)
    assert (len(topics), controller_epoch) == (0, 0)


def test_file_of_an_earlier_release_has_no_epochs_of_controller_and_partitions(tmp_path):
    partition = '{"replicas": [1], "isr": [1], "leader_id": 1, "leader_epoch": 4}'
    name = '"name": "b", "id": "AAECAwQFBgcICQoLDA0ODw", "configs": {}'
    (tmp_path / "topics.json").write_text(
        f'{{"version": 1, "topics": [{{{name}, "partitions": [{partition}]}}]}}'
    )

    topics, controller_epoch = load_topics(tmp_path)

    (found,) = topics.get_topic("b").partitions
    assert (found.leader_epoch, found.partition_epoch, controller_epoch) == (4, 0, 0)


def test_the_file_can_be_read_by_people(cache, tmp_path):
    save_topics(tmp_path, cache, 7)

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
        load_topics(tmp_path)


def edited(tmp_path, cache, edit):
    """What somebody made of the file with an editor."""
    save_topics(tmp_path, cache, 7)
    path = tmp_path / "topics.json"
    document = json.loads(path.read_text())
    edit(document, document["topics"][0]["partitions"][0])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "edit",
    [
        lambda document, partition: partition.update(replicas=[], isr=[]),
        lambda document, partition: partition.update(replicas=[1, 1], isr=[1]),
        lambda document, partition: partition.update(replicas=[1], isr=[2]),
        lambda document, partition: partition.update(leader_epoch=2**31),
        lambda document, partition: partition.update(partition_epoch=-1),
        lambda document, partition: document.update(controller_epoch=2**31 - 1),
        lambda document, partition: document.update(topics=document["topics"] * 2),
        lambda document, partition: document["topics"].append(
            {**document["topics"][0], "name": "other"}
        ),
    ],
)
def test_a_mistake_of_an_editor_is_told_at_the_start(cache, tmp_path, edit):
    edited(tmp_path, cache, edit)

    with pytest.raises(StorageError, match="damaged"):
        load_topics(tmp_path)


def test_an_editor_may_move_leaders_and_replicas(cache, tmp_path):
    edited(tmp_path, cache, lambda _, each: each.update(replicas=[3, 2], isr=[], leader_id=-1))

    (partition, _) = load_topics(tmp_path)[0].get_topic("b").partitions
    assert (partition.replicas, partition.isr, partition.leader_id) == ((3, 2), (), -1)
