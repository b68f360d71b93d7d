"""Answers that are given again: only while they are what would be answered anew."""

from __future__ import annotations

import errno
import logging

import attrs
import pytest
import trio

from trio_kafka_net.apis import cluster, kept_answers
from trio_kafka_net.apis.kept_answers import KeptAnswer, KeptAnswers
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker.log.segment_file import SegmentFile
from trio_kafka_net.broker.metadata_cache import BrokerMetadata, Endpoint, PartitionMetadata
from trio_kafka_net.metrics import names
from trio_kafka_net.network.turn import Breaks
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.codec import encode
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import MetadataRequest, MetadataResponse

ALL = MetadataRequest(topics=None)
ONE = MetadataRequest(topics=[MetadataRequest.Topic(name="t")], allow_auto_topic_creation=False)
ELSEWHERE = BrokerMetadata(7, {"PLAINTEXT": Endpoint("elsewhere", 9)}, "rack")


@pytest.fixture
async def lab(open_lab):
    """A broker with a topic of two partitions."""
    lab = await open_lab()
    await lab.make_topic("t", partitions=2)
    return lab


@pytest.fixture
def made(monkeypatch):
    """One item for every answer that was made anew."""
    made = []
    describe = cluster._describe

    def described(*args):
        made.append(args)
        return describe(*args)

    monkeypatch.setattr(cluster, "_describe", described)
    return made


async def ask_anew(lab, request, version, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(KeptAnswers, "find", lambda *_: None)
        return await lab.ask(request, version)


def led_by(lab, index, **changes):
    known = lab.local.metadata.get_topic("t")
    state = attrs.evolve(known.partitions[index], **changes)
    lab.local.metadata.set_partitions("t", known.topic_id, {index: state})


async def no_disk(lab, monkeypatch):
    def append(*_):
        raise OSError(errno.EIO, "disk on fire")

    monkeypatch.setattr(SegmentFile, "append", append)
    assert (await lab.produce("t", version=8)).error_code == ErrorCode.KAFKA_STORAGE_ERROR


CHANGES = {
    "topic made": lambda lab, _: lab.make_topic("u"),
    "topic deleted": lambda lab, _: lab.local.controller.delete_topic("t"),
    "partitions added": lambda lab, _: lab.local.controller.create_partitions("t", 3),
    "leader elsewhere": lambda lab, _: led_by(lab, 1, leader_id=7, leader_epoch=9),
    "replica gone": lambda lab, _: led_by(lab, 0, offline_replicas=(7,)),
    "broker added": lambda lab, _: lab.local.metadata.add_broker(ELSEWHERE),
    "broker removed": lambda lab, _: lab.local.metadata.remove_broker(1),
    "brokers told": lambda lab, _: lab.local.metadata.set_brokers([ELSEWHERE]),
    "controller": lambda lab, _: setattr(lab.local.metadata, "controller_id", 7),
    "log offline": no_disk,
    "log abandoned": lambda lab, _: lab.partition("t", 1).log.abandon(),
    "replica removed": lambda lab, _: lab.local.replicas.remove_partition("t", 0),
}


@pytest.mark.parametrize("version", [0, 5, 12])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_every_change_shows_at_once(lab, change, version, monkeypatch):
    asked = [MetadataRequest(topics=[]) if version == 0 else ALL, ONE]
    for request in asked:
        before = await lab.ask(request, version)
        assert before == await ask_anew(lab, request, version, monkeypatch)

    changing = change(lab, monkeypatch)
    if changing is not None:
        await changing

    for request in asked:
        after = await lab.ask(request, version)
        assert after == await ask_anew(lab, request, version, monkeypatch)


async def test_the_same_question_is_answered_again_without_making_the_answer(lab, made):
    first = await lab.ask(ONE, 12)
    second = await lab.ask(ONE, 12)

    assert first == second
    assert len(made) == 1


async def test_what_is_told_again_is_no_change(lab, made):
    await lab.ask(ONE, 12)
    known = lab.local.metadata
    known.set_brokers(known.brokers)
    known.controller_id = known.controller_id
    topic = known.get_topic("t")
    known.set_partitions("t", topic.topic_id, {0: attrs.evolve(topic.partitions[0])})

    await lab.ask(ONE, 12)

    assert len(made) == 1


async def test_versions_and_listeners_have_answers_of_their_own(lab):
    on_data, on_control = [await lab.ask(ALL, 12, plane=plane) for plane in ("data", "control")]
    again = [await lab.ask(ALL, 12, plane=plane) for plane in ("data", "control")]

    assert again == [on_data, on_control]
    assert on_data.brokers[0].port == lab.port()
    assert on_control.brokers[0].port == lab.port("control")
    assert (await lab.ask(ALL, 9)).topics[0].topic_id != on_data.topics[0].topic_id


async def test_a_missing_topic_is_looked_for_each_time(lab, made):
    asked = MetadataRequest(
        topics=[MetadataRequest.Topic(name="later")], allow_auto_topic_creation=False
    )
    for _ in range(2):
        (topic,) = (await lab.ask(asked, 12)).topics
        assert topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    assert len(made) == 2


async def test_many_partitions_are_described_as_few_are(lab, made, monkeypatch):
    await lab.make_topic("wide", partitions=25)
    at_once = await ask_anew(lab, ALL, 12, monkeypatch)
    monkeypatch.setattr(cluster, "_PARTITIONS_PER_PASS", 10)
    lab.local.metadata.add_broker(ELSEWHERE)
    lab.local.metadata.remove_broker(ELSEWHERE.node_id)

    assert await lab.ask(ALL, 12) == at_once
    assert await lab.ask(ALL, 12) == at_once
    assert len(made) == 2


async def test_an_answer_that_is_overtaken_is_not_given_again(lab, monkeypatch):
    """The topic changes while others go on, between two passes over its partitions."""
    monkeypatch.setattr(cluster, "_PARTITIONS_PER_PASS", 1)
    monkeypatch.setattr(cluster, "_TOPICS_PER_STEP", 1)
    monkeypatch.setattr(Breaks, "is_due", lambda self: True)

    async def change():
        led_by(lab, 0, leader_id=7)

    monkeypatch.setattr(trio.lowlevel, "checkpoint", change)
    overtaken = await lab.ask(ALL, 12)
    monkeypatch.undo()

    assert [each.leader_id for each in overtaken.topics[0].partitions] == [1, 1]
    assert [each.leader_id for each in (await lab.ask(ALL, 12)).topics[0].partitions] == [-1, 1]


async def test_an_interceptor_sees_every_request(open_lab):
    apis = KafkaApis.default()

    @apis.interceptor(ApiKey.METADATA)
    async def rename(ctx, request, call_next):
        response = await call_next(ctx, request)
        response.cluster_id = f"seen {len(seen)}"
        seen.append(request)
        return response

    seen = []
    lab = await open_lab(apis)
    assert [(await lab.ask(ALL, 12)).cluster_id for _ in range(2)] == ["seen 0", "seen 1"]


async def test_error_codes_and_the_request_log_see_no_difference(lab, caplog):
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        await lab.ask(ONE, 12)
        await lab.ask(ONE, 12)
    first, second = [
        record.getMessage() for record in caplog.records if "METADATA" in record.getMessage()
    ]
    told = [
        line[line.index('"request":') : line.index('"connection":')] for line in (first, second)
    ]
    assert told[0] == told[1]
    family = lab.broker.metrics.collect()[names.ERRORS.name]
    counted = {each.labels: each.value for each in family.samples if "Metadata" in each.labels}
    # The topic and its partitions, twice.
    assert counted == {("data", "Metadata", "NONE"): 2 * 3}


async def test_a_client_over_its_quota_is_told_so(mock_clock, lab):
    await lab.ask(ONE, 12)
    quotas = [("request_percentage", 0.000_001)]
    await lab.local.quotas.alter([Alteration({"client-id": None}, quotas)])

    delays = [(await lab.ask(ONE, version)).throttle_time_ms for version in (12, 12, 2, 2)]

    assert delays[0] > 0
    assert delays[1] > 0
    assert delays[2:] == [0, 0]  # which that version cannot say


@attrs.define
class Asked:
    """As much of a request as is looked at."""

    payload: bytes
    kept_at: int | None = 0
    api_version: int = 12
    body_position: int = 0

    @property
    def connection(self):
        return self

    listener_name = "L"


def an_answer(size: int) -> KeptAnswer:
    response = MetadataResponse(cluster_id="x" * size)
    return KeptAnswer(ONE, b"".join(encode(response, 12)), [0], MetadataResponse, 12)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(kept_answers, "KEPT_BYTES", 10_000)
    kept = KeptAnswers(lambda _: 0)
    for number in range(100):
        asked = Asked(number.to_bytes(2, "big"))
        assert kept.find(asked, None) is None
        kept.keep(asked, an_answer(1000))
        assert kept.find(asked, None) is not None
        assert 1000 < kept.size_in_bytes <= 10_000

    kept.keep(Asked(b"large"), an_answer(10_001))
    assert kept.find(Asked(b"large"), None) is None


def test_an_answer_is_kept_only_at_the_version_that_it_was_made_at():
    version = 0
    kept = KeptAnswers(lambda _: version)
    kept.find(Asked(b"a"), None)
    kept.keep(Asked(b"a", kept_at=-5), an_answer(1))
    assert kept.find(Asked(b"a"), None) is None

    kept.keep(Asked(b"a"), an_answer(1))
    assert kept.find(Asked(b"a"), None).decoded() == MetadataResponse(cluster_id="x")
    version = 1
    assert kept.find(Asked(b"a"), None) is None
    assert kept.size_in_bytes == 0


def test_partition_states_are_compared_by_value():
    """Or every message of the controller would be a change."""
    state = {"replicas": (1,), "isr": (1,), "leader_id": 1}
    assert PartitionMetadata(**state) == PartitionMetadata(**state)
