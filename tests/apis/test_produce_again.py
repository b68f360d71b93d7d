"""A Produce that is recognised is answered, and does, what one is that was decoded."""

from __future__ import annotations

import logging
import struct

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_kafka_net.apis import dispatch
from trio_kafka_net.apis.produce_again import TIMES, ProduceHabit
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker.log.unified_log import LogAppendInfo
from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.errors import CloseConnection, FatalExitError
from trio_kafka_net.metrics import names
from trio_kafka_net.network.connection import Connection
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import decode_response, encode_request, encode_response
from trio_kafka_net.protocol.messages import ProduceRequest, ProduceResponse
from trio_kafka_net.protocol.records import Record, build_batch
from trio_kafka_net.testing.client import ConnectionClosedError

from .desk import NOW_MS, Desk, Forgetful, open_local
from .lab import a_batch, a_produce

TOPICS = {"t": {}, "compact": {"cleanup.policy": "compact"}, "stamped": {}}
"""In the order of their ids."""
VERSIONS = range(3, 14)


def batch(value=b"value", *, key=b"key", records=1, **settings):
    record = Record(timestamp=NOW_MS, key=key, value=value)
    return build_batch([record] * records, **settings)


PLAIN = batch()
BATCHES = {
    "plain": PLAIN,
    "several": batch(records=3),
    "long": batch(b"x" * 300),
    "longer": batch(b"x" * 8000),
    "without keys": batch(key=None),
    "gzip": batch(compression=Compression.GZIP),
    "zstd": batch(compression=Compression.ZSTD),
    "damaged": PLAIN[:-1] + b"!",
    "transactional": PLAIN[:22] + b"\x10" + PLAIN[23:],
    "codec 7": PLAIN[:22] + b"\x07" + PLAIN[23:],
    "two": PLAIN + PLAIN,
    "short": PLAIN[:30],
    "empty": b"",
    "null": None,
}


def a_frame(request, version, correlation_id=1, client_id="me"):
    pieces = encode_request(request, version, correlation_id, client_id)
    return b"".join(bytes(piece) for piece in pieces)


def named(topic, version):
    ids = [*TOPICS, "missing"]
    return bytes([ids.index(topic) + 2]) * 16 if version >= 13 else topic


def for_two(first, second):
    """One request in place of two, with two topics."""
    return ProduceRequest(
        acks=first.acks,
        timeout_ms=first.timeout_ms,
        topic_data=[*first.topic_data, *second.topic_data],
    )


@st.composite
def conversations(draw):
    """Frames of one client, most of which repeat the one before."""
    version = draw(st.sampled_from(VERSIONS))
    frames = []
    said = None
    for number in range(draw(st.integers(6, 20))):
        if said is None or draw(st.integers(0, 7)) == 0:
            if draw(st.integers(0, 5)) == 0:
                version = draw(st.sampled_from(VERSIONS))
            topic = draw(st.sampled_from(["t", "t", "t", "compact", "missing"]))
            acks = draw(st.sampled_from([-1, -1, -1, 1, 1, 0, 7]))
            client_id = draw(st.sampled_from(["me", "me", "you", "", None]))
            timeout_ms = draw(st.sampled_from([1000, 1000, -1]))
            said = version, topic, acks, client_id, timeout_ms
        version, topic, acks, client_id, timeout_ms = said
        records = BATCHES[draw(st.sampled_from(["plain", "plain", *BATCHES]))]
        index = draw(st.sampled_from([0, 0, 1, 2, -1]))
        request = a_produce(
            named(topic, version), records, index=index, acks=acks, timeout_ms=timeout_ms
        )
        if draw(st.integers(0, 9)) == 0:
            request = for_two(request, request)
        frames.append(mutated(draw, a_frame(request, version, number, client_id)))
    return frames


def mutated(draw, frame):
    """Mostly as it is; else with another byte somewhere, cut, or with more behind it."""
    what = draw(st.sampled_from(["as it is"] * 5 + ["byte", "early byte", "cut", "more"]))
    if what == "byte":
        at, value = draw(st.integers(0, len(frame) - 1)), draw(st.integers(0, 255))
        return frame[:at] + bytes([value]) + frame[at + 1 :]
    if what == "early byte":
        at, value = draw(st.integers(0, 60)), draw(st.sampled_from([0, 1, 2, 127, 128, 255]))
        return frame[:at] + bytes([value]) + frame[at + 1 :]
    if what == "cut":
        return frame[: draw(st.integers(0, len(frame)))]
    if what == "more":
        return frame + draw(st.binary(min_size=1, max_size=4))
    return frame


async def make_topics(local):
    for name, configs in TOPICS.items():
        await local.controller.create_topic(name, partitions=2, configs=configs)


async def told_by_both(frames):
    """What one connection is told; one of which nothing is remembered is told the same."""
    told, left = [], []
    for connection_type in (Connection, Forgetful):
        async with open_local() as local:
            await make_topics(local)
            desk = Desk(local, connection_type)
            told.append([await desk.send(frame) for frame in frames])
            left.append(desk.effects())
    assert told[0] == told[1]
    assert left[0] == left[1]
    return told[0]


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_what_is_remembered_makes_no_difference(frames):
    trio.run(told_by_both, frames)


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_byte_counts(version):
    """Of a request that is remembered: each changed, and the request cut at each."""
    good = a_frame(a_produce(named("t", version), PLAIN), version)
    frames = [good] * TIMES
    for at, byte in enumerate(good):
        changed = [good[:at] + bytes([each]) + good[at + 1 :] for each in (byte ^ 1, byte ^ 128)]
        for bad in (*changed, good[:at], good + b"x" * at):
            frames += [bad, good]

    told = await told_by_both(frames)

    assert told[-1][1][0] != "CloseConnectionResponse"


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_kind_of_batch(version):
    frames = []
    for topic in TOPICS:
        frames += [a_frame(a_produce(named(topic, version), PLAIN), version)] * TIMES
        for records in BATCHES.values():
            for index in (0, 1, 2):
                request = a_produce(named(topic, version), records, index=index)
                frames.append(a_frame(request, version))

    await told_by_both(frames)


@pytest.fixture
async def desk():
    """Serves topics with two partitions each."""
    async with open_local() as local:
        await make_topics(local)
        yield Desk(local)


@pytest.fixture
def decoded(monkeypatch):
    """The requests that went to the handler, decoded."""
    decoded = []
    handle = dispatch.ApiDispatcher._handle_message

    def noted(dispatcher, request, function):
        decoded.append(request.correlation_id)
        return handle(dispatcher, request, function)

    monkeypatch.setattr(dispatch.ApiDispatcher, "_handle_message", noted)
    return decoded


def answer(sent, version):
    """The answer for the only partition of a frame."""
    _, (frame,) = sent
    assert struct.unpack_from(">i", frame) == (len(frame) - 4,)
    _, response = decode_response(ProduceResponse, version, frame[4:])
    (topic,) = response.responses
    (partition,) = topic.partition_responses
    return partition


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_said_again_and_again_is_not_decoded(desk, decoded, version):
    for number, index in enumerate([0, 0, 1, 0, 0, 1, 0]):
        request = a_produce(named("t", version), PLAIN, index=index)
        told = answer(await desk.send(a_frame(request, version, number)), version)
        assert (told.index, told.error_code) == (index, ErrorCode.NONE)

    assert decoded == [0, 1, 2, 3]
    ends = [desk.local.replicas.get_partition("t", index).log_end_offset for index in (0, 1)]
    assert ends == [5, 2]


async def test_one_that_comes_in_between_is_not_remembered_instead(desk, decoded):
    ours, other = a_produce("t", PLAIN), a_produce("stamped", PLAIN)
    for number, request in enumerate([ours] * TIMES + [other, ours] * TIMES):
        await desk.send(a_frame(request, 9, number))

    assert decoded == [0, 1, 2, 3, 4, 6, 8, 10]


async def test_another_habit_takes_the_place_of_the_old_one(desk, decoded):
    ours, other = a_produce("t", PLAIN), a_produce("t", PLAIN, acks=1)
    for number, request in enumerate([ours] * 5 + [other] * 5 + [ours]):
        await desk.send(a_frame(request, 9, number))

    assert decoded == [0, 1, 2, 3, 5, 6, 7, 8, 10]


async def test_what_is_asked_in_turn_is_no_habit(desk, decoded):
    ours, other = a_produce("t", PLAIN), a_produce("stamped", PLAIN)
    for _ in range(TIMES):
        for request in (ours, ours, other, other):
            await desk.send(a_frame(request, 9))

    assert len(decoded) == 4 * TIMES
    assert desk.connection.attachment.produce is None


@pytest.mark.parametrize("which", ["without keys", "damaged", "transactional", "codec 7", "null"])
@pytest.mark.parametrize("topic", ["t", "compact"])
async def test_what_is_refused_is_refused_in_the_same_words(desk, which, topic):
    """Or taken: the topic that is not compacted takes records without keys."""
    first = answer(await desk.send(a_frame(a_produce(topic, BATCHES[which]), 9)), 9)
    for _ in range(TIMES):
        await desk.send(a_frame(a_produce(topic, PLAIN), 9))

    assert answer(await desk.send(a_frame(a_produce(topic, BATCHES[which]), 9)), 9) == first or (
        which == "without keys" and topic == "t"
    )


async def test_a_topic_that_is_made_anew_is_another_one(desk):
    topic_id = named("t", 13)
    frames = [a_frame(a_produce(topic, PLAIN), v) for topic, v in ((topic_id, 13), ("t", 12))]
    for frame, version in zip(frames, (13, 12), strict=True):
        for _ in range(TIMES):
            assert answer(await desk.send(frame), version).error_code == ErrorCode.NONE
        await desk.local.controller.delete_topic("t")
        gone = ErrorCode.UNKNOWN_TOPIC_ID if version == 13 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert answer(await desk.send(frame), version).error_code == gone
        await desk.local.controller.create_topic("t", partitions=2)

    assert answer(await desk.send(frames[0]), 13).error_code == ErrorCode.UNKNOWN_TOPIC_ID
    assert answer(await desk.send(frames[1]), 12).base_offset == 0


async def test_a_leader_that_went_elsewhere_is_told(desk):
    frame = a_frame(a_produce("t", PLAIN), 12)
    for _ in range(TIMES):
        await desk.send(frame)
    desk.local.replicas.get_partition("t", 0).resign()

    assert answer(await desk.send(frame), 12).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_a_failure_that_nobody_foresaw_is_told_after_an_append_too(desk, monkeypatch):
    frame = a_frame(a_produce("t", PLAIN), 9)
    for _ in range(TIMES):
        await desk.send(frame)

    def fail(*_, **__):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Partition, "append_records", fail)

    assert answer(await desk.send(frame), 9).error_code == ErrorCode.UNKNOWN_SERVER_ERROR


@pytest.mark.parametrize("fatal", [CloseConnection, FatalExitError, MemoryError])
async def test_what_no_answer_tells_is_raised(desk, monkeypatch, fatal):
    frame = a_frame(a_produce("t", PLAIN), 9)
    for _ in range(TIMES):
        await desk.send(frame)

    def fail(*_, **__):
        raise fatal("oh")

    monkeypatch.setattr(Partition, "append_records", fail)

    with pytest.raises(fatal):
        desk.dispatcher.handle(desk.parse(frame))


async def test_a_failed_append_is_counted_once(desk):
    for records in (*[PLAIN] * TIMES, batch(b"x" * 2_000_000)):
        await desk.send(a_frame(a_produce("t", records), 9))

    traffic = desk.local.replicas.get_partition("t", 0).traffic
    assert (traffic.produce_requests, traffic.bytes_rejected > 2_000_000) == (5, True)
    errors = desk.metrics.collect()[names.ERRORS.name].samples
    counted = {each.labels[-1]: each.value for each in errors}
    assert counted == {"NONE": 4, "MESSAGE_TOO_LARGE": 1}


async def test_a_client_with_a_quota_is_looked_at_each_time(desk, decoded):
    frame = a_frame(a_produce("t", PLAIN), 9)
    for _ in range(TIMES):
        await desk.send(frame)
    assert len(decoded) == TIMES

    await desk.local.quotas.alter([Alteration({"client-id": None}, [("producer_byte_rate", 1e9)])])
    await desk.send(frame)

    assert len(decoded) == TIMES + 1


async def test_the_request_log_sees_every_message(desk, caplog):
    frame = a_frame(a_produce("t", PLAIN), 9)
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        for _ in range(TIMES + 2):
            await desk.send(frame)

    lines = [each.getMessage() for each in caplog.records if each.levelno == logging.DEBUG]
    assert sum('"baseOffset": 5' in line and '"acks": -1' in line for line in lines) == 1


async def test_a_log_that_is_turned_on_too_late_shows_no_bodies(desk, caplog, monkeypatch):
    frame = a_frame(a_produce("t", PLAIN), 9)
    for _ in range(TIMES):
        await desk.send(frame)
    monkeypatch.setattr(dispatch.ApiDispatcher, "_may_skip_messages", lambda _: True)
    with caplog.at_level(logging.DEBUG, "trio_kafka_net.request"):
        await desk.send(frame)

    assert '"request": "", "response": ""' in caplog.text


async def test_an_interceptor_sees_every_request(open_lab):
    apis = KafkaApis.default()
    seen = []

    @apis.interceptor(ApiKey.PRODUCE)
    async def note(ctx, request, call_next):
        seen.append(request)
        return await call_next(ctx, request)

    lab = await open_lab(apis)
    await lab.make_topic("t")
    client = await lab.connect()
    for _ in range(TIMES + 2):
        await client.request(a_produce("t", a_batch()), 9)

    assert len(seen) == TIMES + 2


async def test_a_handler_that_replaces_ours_sees_every_request(open_lab):
    apis = KafkaApis.default()
    seen = []

    @apis.handler(replace=True)
    def produce(ctx, request: ProduceRequest):
        seen.append(request)
        return ProduceResponse()

    lab = await open_lab(apis)
    client = await lab.connect()
    for _ in range(TIMES + 2):
        await client.request(a_produce("t", a_batch()), 9)

    assert len(seen) == TIMES + 2


async def test_an_answer_waits_for_the_disk_if_it_has_to(open_lab):
    """Over a real connection: the append is done, the answer follows the flush."""
    lab = await open_lab()
    await lab.make_topic("t", configs={"flush.messages": "1"})
    client = await lab.connect()
    for offset in range(TIMES + 2):
        response = await client.request(a_produce("t", a_batch()), 9)
        assert response.responses[0].partition_responses[0].base_offset == offset
        assert lab.partition().log.recovery_point == offset + 1


async def test_acks_0_is_never_answered_after_other_habits(open_lab):
    lab = await open_lab()
    await lab.make_topic("t")
    client = await lab.connect()
    for _ in range(TIMES):
        await client.request(a_produce("t", a_batch()), 9)
    await client.send_request(a_produce("t", a_batch(), acks=0), 9, answered=False)
    response = await client.request(a_produce("t", a_batch()), 9)
    assert response.responses[0].partition_responses[0].base_offset == TIMES + 1

    await client.send_request(a_produce("gone", a_batch(), acks=0), 9, answered=False)
    with pytest.raises(ConnectionClosedError):
        await client.receive_frame()


async def test_what_is_kept_of_a_connection_is_bounded(desk, decoded):
    for _ in range(TIMES + 2):
        await desk.send(a_frame(a_produce("x" * 600, PLAIN), 9))

    assert len(decoded) == TIMES + 2
    habits = desk.connection.attachment
    assert (habits.produce, habits.produced) == (None, None)


numbers = st.integers(0, 2**63 - 1)


@given(
    version=st.sampled_from(VERSIONS),
    name=st.text(max_size=250).filter(lambda text: len(text.encode(errors="replace")) < 300),
    topic_id=st.binary(min_size=16, max_size=16),
    correlation_id=st.integers(-(2**31), 2**31 - 1),
    index=st.integers(-(2**31), 2**31 - 1),
    offset=numbers,
    time_ms=st.one_of(st.just(-1), numbers),
    start=numbers,
)
def test_an_answer_is_what_the_codec_writes(
    version, name, topic_id, correlation_id, index, offset, time_ms, start
):
    named = {"topic_id": topic_id} if version >= 13 else {"name": name}
    habit = ProduceHabit(a_produce(topic_id if version >= 13 else name, PLAIN), version)
    partition = ProduceResponse.PartitionProduceResponse(
        index=index, base_offset=offset, log_append_time_ms=time_ms, log_start_offset=start
    )
    topic = ProduceResponse.TopicProduceResponse(partition_responses=[partition], **named)
    payload = b"".join(encode_response(ProduceResponse(responses=[topic]), version, correlation_id))

    info = LogAppendInfo(offset, offset, time_ms, start)
    assert habit.answer(correlation_id, index, info) == struct.pack(">i", len(payload)) + payload
