"""Whose data directory it is."""

from __future__ import annotations

import os

import pytest

from trio_kafka_net.broker.log import data_dir
from trio_kafka_net.broker.log.data_dir import DataDir, in_memory_data_dir
from trio_kafka_net.errors import StorageError


def open_dir(path, *, node_id=1, cluster_id=None):
    return DataDir(path, node_id=node_id, cluster_id=cluster_id, new_uuid=lambda: bytes(range(16)))


def test_a_new_directory_is_made_and_claimed(tmp_path):
    path = tmp_path / "a" / "b"

    data_dir = open_dir(path)

    assert data_dir.cluster_id == "AAECAwQFBgcICQoLDA0ODw"
    assert "node.id=1" in (path / "meta.properties").read_text()
    data_dir.release()


def test_the_second_owner_is_refused_until_the_first_lets_go(tmp_path):
    first = open_dir(tmp_path)

    with pytest.raises(StorageError, match="in use by another process"):
        open_dir(tmp_path)

    first.release()
    first.release()
    open_dir(tmp_path).release()


def test_the_cluster_id_of_the_directory_is_kept(tmp_path):
    open_dir(tmp_path, cluster_id="given").release()

    data_dir = open_dir(tmp_path)

    assert data_dir.cluster_id == "given"
    data_dir.release()


@pytest.mark.parametrize("owner", [{"node_id": 2}, {"cluster_id": "other"}])
def test_the_directory_of_another_node_is_refused_and_left_alone(tmp_path, owner):
    open_dir(tmp_path, cluster_id="given").release()
    before = (tmp_path / "meta.properties").read_bytes()

    with pytest.raises(StorageError, match="belongs to node 1 of cluster given"):
        open_dir(tmp_path, **owner)

    assert (tmp_path / "meta.properties").read_bytes() == before
    open_dir(tmp_path).release()


def test_in_memory_directory_is_gone_afterwards():
    with in_memory_data_dir() as path:
        (path / "topic-0").mkdir()
        assert os.access(path, os.W_OK)
    assert not path.exists()


def test_directories_in_memory_of_killed_brokers_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(data_dir, "_SHARED_MEMORY", tmp_path)
    for name in ("trio-kafka-net-killed", "trio-kafka-net-alive", "trio-kafka-net-young", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").touch()
        if name != "trio-kafka-net-young":
            os.utime(tmp_path / name / ".lock", (0, 0))
    alive = open_dir(tmp_path / "trio-kafka-net-alive")
    os.utime(tmp_path / "trio-kafka-net-alive" / ".lock", (0, 0))

    with in_memory_data_dir() as path:
        left = {each.name for each in tmp_path.iterdir()} - {path.name}

    assert left == {"trio-kafka-net-alive", "trio-kafka-net-young", "other"}
    alive.release()
