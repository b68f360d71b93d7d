"""Producer ids: never the same twice, whatever happens to the process."""

import pytest

from trio_kafka_net.broker import producer_ids
from trio_kafka_net.broker.producer_ids import BLOCK_SIZE, ProducerIds
from trio_kafka_net.errors import StorageError


def take(ids, count):
    return [ids.next() for _ in range(count)]


def test_ids_count_up(tmp_path):
    ids = ProducerIds(tmp_path)

    assert take(ids, BLOCK_SIZE * 2 + 1) == list(range(BLOCK_SIZE * 2 + 1))


@pytest.mark.parametrize("used", [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1])
def test_ids_are_new_after_a_restart(tmp_path, used):
    before = take(ProducerIds(tmp_path), used)

    after = take(ProducerIds(tmp_path), BLOCK_SIZE + 1)

    assert set(before) & set(after) == set()


def test_id_is_given_only_after_its_block_is_reserved(tmp_path, monkeypatch):
    def fail(path, content):
        raise OSError("no space")

    ids = ProducerIds(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(producer_ids, "write_atomically", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="no space"):
                ids.next()

    assert ids.next() == 0


@pytest.mark.parametrize("content", [b"", b"x", b"-1000\n", b"\xff", b"1 2"])
def test_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "producer-ids").write_bytes(content)

    with pytest.raises(StorageError, match="producer-ids is damaged"):
        ProducerIds(tmp_path)
