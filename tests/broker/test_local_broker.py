"""LocalBroker: takes possession of a data directory, or leaves it as it was."""

import pytest

from trio_kafka_net.broker.local_broker import LocalBroker, random_uuid
from trio_kafka_net.broker.metadata_cache import Endpoint
from trio_kafka_net.broker.purgatory import DelayedOperation
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import StorageError


@pytest.fixture
async def local():
    opened = await LocalBroker.open(BrokerConfig(trio_in_memory=True))
    yield opened
    await opened.close()


async def test_uuid_source_and_clock_come_from_outside(tmp_path):
    numbers = iter(range(1, 100))
    local = await LocalBroker.open(
        BrokerConfig(log_dirs=(tmp_path,)),
        now_ms=lambda: 12345,
        new_uuid=lambda: bytes([next(numbers)]) * 16,
    )
    first = await local.controller.create_topic("a")
    second = await local.controller.create_topic("b")

    assert local.cluster_id == "AQEBAQEBAQEBAQEBAQEBAQ"
    assert (first.topic_id, second.topic_id) == (b"\2" * 16, b"\3" * 16)
    await local.close()


def test_random_uuid_is_of_version_4():
    uuid = random_uuid()

    assert (len(uuid), uuid[6] >> 4, uuid[8] >> 6) == (16, 4, 2)


async def test_endpoints_are_those_of_a_listener(local):
    await local.register({"A": Endpoint("a", 1), "B": Endpoint("b", 2)})

    assert local.endpoint("B") == Endpoint("b", 2)
    assert local.endpoints("A") == [(1, Endpoint("a", 1))]
    assert local.endpoints("C") == []
    with pytest.raises(LookupError, match="no listener 'C'"):
        local.endpoint("C")


async def test_leader_is_told_as_a_listener_sees_it(local):
    await local.controller.create_topic("t")
    await local.register({"A": Endpoint("a", 1)})

    told = local.leader("t", 0, "A")
    assert (told.node_id, told.epoch, told.endpoint) == (1, 0, Endpoint("a", 1))
    assert local.leader("t", 0, "B").endpoint is None
    assert [local.leader(*each, "A") for each in (("t", 1), ("t", -1), ("u", 0))] == [None] * 3


async def test_long_polls_end_with_the_broker_and_none_begins(local):
    purgatory = local.replicas.purgatory
    woken = []
    before, after = DelayedOperation(), DelayedOperation()
    before.wake = lambda: woken.append("before")
    after.wake = lambda: woken.append("after")
    purgatory.add(before, ["key"], 3600)

    local.end_long_polls()
    purgatory.add(after, ["key"], 3600)

    assert woken == ["before", "after"]
    assert before.is_due
    assert after.is_due


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("topics.json", b"{", "topics.json is damaged"),
        ("topics.json", b'{"version": 2, "topics": []}', "topics.json is damaged"),
        ("topics.json", b'{"version": 1, "topics": [{}]}', "topics.json is damaged"),
        ("topics.json", b"\xff\xfe", "topics.json is damaged"),
        ("producer-ids", b"many", "producer-ids is damaged"),
        ("meta.properties", b"version=1\ncluster.id=c\nnode.id=9\n", "belongs to node 9"),
        ("meta.properties", b"nonsense", "meta.properties"),
        ("log-start-offset-checkpoint", b"nonsense", "log-start-offset-checkpoint"),
    ],
)
async def test_damaged_directory_is_refused_and_given_back(tmp_path, name, content, reason):
    config = BrokerConfig(log_dirs=(tmp_path,))
    (tmp_path / name).write_bytes(content)

    with pytest.raises(StorageError, match=reason):
        await LocalBroker.open(config)

    assert (tmp_path / name).read_bytes() == content
    (tmp_path / name).unlink()
    await (await LocalBroker.open(config)).close()


async def test_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="file/data"):
        await LocalBroker.open(BrokerConfig(log_dirs=(tmp_path / "file" / "data",)))


async def test_directory_is_one_brokers_at_a_time(tmp_path):
    config = BrokerConfig(log_dirs=(tmp_path,))
    first = await LocalBroker.open(config)

    with pytest.raises(StorageError, match="in use by another process"):
        await LocalBroker.open(config)

    await first.close()
    await first.close()
    await (await LocalBroker.open(config)).close()
