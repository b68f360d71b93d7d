"""Setting quotas, keeping them, and what a request may do to the cluster."""

import errno
import json
import math

import pytest
import trio

from trio_kafka_net.broker import client_quotas
from trio_kafka_net.broker.client_quotas import (
    CLIENT_QUOTAS_FILE,
    Alteration,
    ClientQuotas,
)
from trio_kafka_net.broker.quota_entities import QuotaEntity
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

CONFIG = BrokerConfig()
ALICE = {"user": "alice"}


def setting(names, **values):
    return Alteration(names, list(values.items()))


def stored(quotas):
    return {tuple(entity.names().items()): dict(values) for entity, values in quotas}


@pytest.fixture
def quotas(tmp_path):
    return ClientQuotas.load(tmp_path, CONFIG)


def texts(outcomes):
    return [outcome.error and outcome.error.message for outcome in outcomes]


# Changes


async def test_quotas_are_set_and_taken_away(quotas):
    assert not quotas.is_enforced
    await quotas.alter(
        [
            setting(ALICE, producer_byte_rate=1000.0, request_percentage=50.5),
            setting({"client-id": None}, consumer_byte_rate=5.0),
        ]
    )

    assert stored(quotas) == {
        (("user", "alice"),): {"producer_byte_rate": 1000, "request_percentage": 50.5},
        (("client-id", None),): {"consumer_byte_rate": 5},
    }
    assert quotas.is_enforced
    assert quotas.produce.quota("alice", "app") == 1000
    assert quotas.fetch.quota("alice", "app") == 5
    assert quotas.request.quota("alice", "app") == 50.5
    await quotas.alter(
        [
            setting(ALICE, producer_byte_rate=None, request_percentage=None),
            setting({"client-id": None}, consumer_byte_rate=None),
        ]
    )
    assert stored(quotas) == {}
    assert not quotas.is_enforced


async def test_change_leaves_the_other_keys(quotas):
    await quotas.alter([setting(ALICE, producer_byte_rate=1.0, consumer_byte_rate=2.0)])
    await quotas.alter([setting(ALICE, producer_byte_rate=3.0)])
    await quotas.alter([setting(ALICE, consumer_byte_rate=None, request_percentage=None)])

    assert stored(quotas) == {(("user", "alice"),): {"producer_byte_rate": 3}}
    assert quotas.fetch.quota("alice", "") is None


async def test_validation_changes_nothing(quotas, tmp_path):
    outcomes = await quotas.alter(
        [setting(ALICE, producer_byte_rate=1.0), setting({"user": "bob"}, foo=1.0)],
        validate_only=True,
    )

    assert texts(outcomes) == [None, "Invalid configuration key foo"]
    assert stored(quotas) == {}
    assert not quotas.is_enforced
    assert list(tmp_path.iterdir()) == []


async def test_entities_succeed_and_fail_for_themselves(quotas):
    outcomes = await quotas.alter(
        [
            setting({"user": ""}, producer_byte_rate=1.0),
            setting(ALICE, producer_byte_rate=1.0, consumer_byte_rate=-1.0),
            setting({"user": "bob"}, producer_byte_rate=1.0),
        ]
    )

    assert texts(outcomes) == [
        "Empty user not supported",
        "Quota consumer_byte_rate must be greater than 0",
        None,
    ]
    assert stored(quotas) == {(("user", "bob"),): {"producer_byte_rate": 1}}


async def test_entity_that_comes_twice_is_answered_once(quotas):
    """As Kafka does: the first one happens, the answer is about the second."""
    outcomes = await quotas.alter(
        [
            setting({"user": "u", "client-id": None}, producer_byte_rate=1.0),
            setting({"client-id": None, "user": "u"}, consumer_byte_rate=1.0),
        ]
    )

    assert texts(outcomes) == [
        "Ignoring duplicate entity ClientQuotaEntity(entries={client-id=null, user=u})"
    ]
    assert list(stored(quotas).values()) == [{"producer_byte_rate": 1}]


async def test_key_that_comes_twice_changes_nothing(quotas):
    twice = Alteration(ALICE, [("producer_byte_rate", None), ("producer_byte_rate", 2.0)])

    assert texts(await quotas.alter([twice])) == [
        "Ignoring duplicate entity ClientQuotaEntity(entries={user=alice})"
    ]
    assert stored(quotas) == {}


async def test_taking_away_what_is_not_there_succeeds(quotas, tmp_path):
    outcomes = await quotas.alter([setting(ALICE, foo=None, producer_byte_rate=None)])

    assert texts(outcomes) == [None]
    assert list(tmp_path.iterdir()) == []


async def test_too_many_changes_at_once_are_refused(quotas, monkeypatch):
    monkeypatch.setattr(client_quotas, "_MAX_CHANGES", 2)
    both = {"producer_byte_rate": 1.0, "consumer_byte_rate": 1.0}
    await quotas.alter([setting(ALICE, **both)])
    with pytest.raises(KafkaError, match="excessively large") as caught:
        await quotas.alter([setting(ALICE, **both), setting({"user": "bob"}, foo=1.0)])

    assert caught.value.code == ErrorCode.POLICY_VIOLATION


async def test_too_many_entities_are_refused(quotas, monkeypatch):
    monkeypatch.setattr(client_quotas, "_MAX_ENTITIES", 1)
    await quotas.alter([setting(ALICE, producer_byte_rate=1.0)])
    with pytest.raises(KafkaError, match="2 entities with quotas") as caught:
        await quotas.alter([setting({"user": "bob"}, producer_byte_rate=1.0)])
    assert caught.value.code == ErrorCode.POLICY_VIOLATION
    await quotas.alter([setting(ALICE, producer_byte_rate=2.0)])

    assert list(stored(quotas).values()) == [{"producer_byte_rate": 2}]


# The file


async def test_quotas_survive_a_restart(quotas, tmp_path):
    await quotas.alter(
        [
            setting(ALICE, producer_byte_rate=1000.0, request_percentage=math.inf),
            setting({"user": None, "client-id": "ö"}, controller_mutation_rate=0.5),
            setting({"ip": "::1"}, connection_creation_rate=7.0),
            setting({"user": "bob"}, producer_byte_rate=1.0),
        ]
    )
    await quotas.alter([setting({"user": "bob"}, producer_byte_rate=None)])
    again = ClientQuotas.load(tmp_path, CONFIG)

    assert stored(again) == stored(quotas)
    assert len(stored(again)) == 3
    assert again.produce.quota("alice", "app") == 1000
    assert again.mutations.quota("carol", "ö") == 0.5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "quotas": []}',
        '{"version": 1, "quotas": [{"entity": {}, "values": {}}]}',
        '{"version": 1, "quotas": [{"entity": {"foo": "x"}, "values": {}}]}',
        '{"version": 1, "quotas": [{"entity": {"user": "x"}, "values": {"foo": 1}}]}',
        '{"version": 1, "quotas": [{"entity": {}, "values": {"producer_byte_rate": 0}}]}',
        '{"version": 1, "quotas": [{"entity": ["user"], "values": {}}]}',
    ],
)
def test_damaged_file_stops_the_start(tmp_path, content):
    (tmp_path / CLIENT_QUOTAS_FILE).write_text(content)
    with pytest.raises(StorageError, match="is damaged"):
        ClientQuotas.load(tmp_path, CONFIG)


async def test_change_that_cannot_be_written_does_not_happen(quotas, tmp_path, monkeypatch):
    await quotas.alter([setting(ALICE, producer_byte_rate=1.0)])

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(client_quotas, "write_atomically", full)
    with pytest.raises(KafkaError) as caught:
        await quotas.alter([setting(ALICE, producer_byte_rate=None)])

    assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert quotas.produce.quota("alice", "") == 1
    document = json.loads((tmp_path / CLIENT_QUOTAS_FILE).read_bytes())
    assert document["quotas"] == [
        {"entity": {"user": "alice"}, "values": {"producer_byte_rate": 1.0}}
    ]


async def test_changes_at_the_same_time_lose_nothing(quotas, nursery, tmp_path):
    async with trio.open_nursery() as changing:
        for number in range(10):
            changing.start_soon(
                quotas.alter, [setting({"user": f"u{number}"}, producer_byte_rate=1.0)]
            )

    assert len(stored(ClientQuotas.load(tmp_path, CONFIG))) == 10


# Addresses


async def test_rates_of_addresses_are_handed_on(quotas):
    told = []
    await quotas.alter([setting({"ip": "10.0.0.1"}, connection_creation_rate=7.0)])
    quotas.limit_addresses(lambda *rate: told.append(rate))
    await quotas.alter([setting({"ip": None}, connection_creation_rate=9.0)])
    await quotas.alter([setting({"ip": "10.0.0.1"}, connection_creation_rate=None)])

    assert told == [("10.0.0.1", 7), (None, 9), ("10.0.0.1", None)]
    assert not quotas.is_enforced


# What a Fetch may return


async def test_fetch_is_limited_to_what_could_be_within_the_quota(quotas, tmp_path):
    """TQ-05."""
    assert quotas.most_fetch_bytes("alice", "app") == math.inf
    await quotas.alter([setting(ALICE, consumer_byte_rate=1000.0)])
    assert quotas.most_fetch_bytes("alice", "app") == 10_000
    assert quotas.most_fetch_bytes("bob", "app") == math.inf
    config = BrokerConfig(quota_window_num=4, quota_window_size_seconds=2)
    assert ClientQuotas.load(tmp_path, config).most_fetch_bytes("alice", "app") == 6000


# Mutations


@pytest.fixture
async def limited(quotas, mock_clock):
    """Ten partitions a second, of which 110 can be saved up."""
    await quotas.alter([setting(ALICE, controller_mutation_rate=10.0)])
    return quotas


def delay(quota):
    return quota.delay_ms(client_quotas.now_ms())


async def test_strict_quota_refuses_when_it_is_used_up(limited, mock_clock):
    """TQ-12: what uses it up still happens, and does not throttle."""
    first = limited.mutation_quota("alice", "app", is_strict=True)
    first.record(120)
    assert delay(first) == 0
    second = limited.mutation_quota("alice", "app", is_strict=True)
    with pytest.raises(KafkaError) as caught:
        second.record(1)
    assert caught.value.code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
    assert delay(second) == 1000
    mock_clock.jump(0.4)
    assert delay(second) == 600
    mock_clock.jump(0.6)
    second = limited.mutation_quota("alice", "app", is_strict=True)
    second.record(50)
    assert delay(second) == 0


async def test_permissive_quota_lets_happen_and_throttles(limited, mock_clock):
    """TQ-12."""
    quota = limited.mutation_quota("alice", "app", is_strict=False)
    quota.record(110)
    assert delay(quota) == 0
    quota.record(80)
    assert delay(quota) == 8000
    quota.record(90)
    assert delay(quota) == 17_000
    mock_clock.jump(5)
    assert delay(quota) == 12_000


async def test_without_a_quota_everything_may_happen(limited):
    """TQ-12."""
    quota = limited.mutation_quota("bob", "app", is_strict=True)
    for _ in range(10):
        quota.record(10_000)

    assert delay(quota) == 0
    assert quota.sensor is None


def test_entities_are_hashable_by_their_names():
    assert len({QuotaEntity(user="a"), QuotaEntity(user="a"), QuotaEntity(client_id="a")}) == 2
