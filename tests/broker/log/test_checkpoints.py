"""The text files of a data directory, as Kafka writes them."""

from __future__ import annotations

import os

import pytest

from trio_kafka_net.broker.log import checkpoints
from trio_kafka_net.errors import StorageError

UUID = bytes(range(16))


def test_offset_checkpoint_has_kafkas_format_and_reads_back(tmp_path):
    offsets = {("b", 0): 7, ("a-b", 11): 2**40}

    checkpoints.write_offsets(tmp_path / "c", offsets)

    assert (tmp_path / "c").read_text() == "0\n2\na-b 11 1099511627776\nb 0 7\n"
    assert checkpoints.read_offsets(tmp_path / "c") == offsets


def test_leader_epoch_checkpoint_has_kafkas_format_and_reads_back(tmp_path):
    checkpoints.write_leader_epochs(tmp_path / "c", [(0, 0), (3, 17)])

    assert (tmp_path / "c").read_text() == "0\n2\n0 0\n3 17\n"
    assert checkpoints.read_leader_epochs(tmp_path / "c") == [(0, 0), (3, 17)]


@pytest.mark.parametrize("content", ["", "0\n0\n"])
def test_empty_checkpoints_hold_nothing(tmp_path, content):
    (tmp_path / "c").write_text(content)

    assert checkpoints.read_offsets(tmp_path / "c") == {}
    assert checkpoints.read_leader_epochs(tmp_path / "missing") == []


@pytest.mark.parametrize(
    "content",
    [b"1\n0\n", b"0\n2\na 0 1\n", b"0\n1\na 0\n", b"0\n1\na x 1\n", b"x\n", b"0\n", b"\xff\xfe"],
)
def test_damaged_checkpoints_are_refused(tmp_path, content):
    (tmp_path / "c").write_bytes(content)

    with pytest.raises(StorageError):
        checkpoints.read_offsets(tmp_path / "c")
    with pytest.raises(StorageError):
        checkpoints.read_leader_epochs(tmp_path / "c")


def test_partition_metadata_has_kafkas_format_and_reads_back(tmp_path):
    checkpoints.write_topic_id(tmp_path, UUID)

    text = (tmp_path / "partition.metadata").read_text()
    assert text == "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"
    assert checkpoints.read_topic_id(tmp_path) == UUID


def test_partition_metadata_that_is_missing_or_damaged(tmp_path):
    assert checkpoints.read_topic_id(tmp_path) is None
    for content in (b"version: 1\ntopic_id: AAECAwQFBgcICQoLDA0ODw", b"version: 0", b"\xff"):
        (tmp_path / "partition.metadata").write_bytes(content)
        with pytest.raises(StorageError):
            checkpoints.read_topic_id(tmp_path)


def test_meta_properties_read_back(tmp_path):
    assert checkpoints.read_meta_properties(tmp_path) is None

    checkpoints.write_meta_properties(tmp_path, cluster_id="abc", node_id=3)

    assert checkpoints.read_meta_properties(tmp_path) == ("abc", 3)


def test_meta_properties_of_an_older_kafka_are_understood(tmp_path):
    (tmp_path / "meta.properties").write_text("#\n#date\nbroker.id=4\nversion=0\ncluster.id=x\n")

    assert checkpoints.read_meta_properties(tmp_path) == ("x", 4)


@pytest.mark.parametrize("content", ["", "cluster.id=x\n", "cluster.id=x\nnode.id=one\n"])
def test_damaged_meta_properties_are_refused(tmp_path, content):
    (tmp_path / "meta.properties").write_text(content)

    with pytest.raises(StorageError):
        checkpoints.read_meta_properties(tmp_path)


def test_clean_shutdown_marker_is_taken_once(tmp_path):
    assert not checkpoints.take_clean_shutdown(tmp_path)

    checkpoints.write_clean_shutdown(tmp_path)

    assert (tmp_path / ".kafka_cleanshutdown").read_text() == '{"version":0,"brokerEpoch":-1}'
    assert checkpoints.take_clean_shutdown(tmp_path)
    assert not checkpoints.take_clean_shutdown(tmp_path)


@pytest.mark.parametrize("text", ["", "short", "AAECAwQFBgcICQoLDA0OD", "!!!", "ä" * 22])
def test_what_is_not_a_uuid_is_refused(text):
    with pytest.raises(StorageError):
        checkpoints.uuid_from_text(text)


def test_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    checkpoints.write_atomically(tmp_path / "f", b"old")

    def fail(fd):
        raise OSError(5, "no luck")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no luck"):
        checkpoints.write_atomically(tmp_path / "f", b"new")

    assert (tmp_path / "f").read_bytes() == b"old"
