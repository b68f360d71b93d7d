"""Clients that are over their quotas, over sockets: what they are told, and that they wait."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing

from trio_kafka_net.apis.registry import CONTROLLER_APIS, KafkaApis
from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker.quota_metrics import quota_families
from trio_kafka_net.network.connection import MuteState
from trio_kafka_net.network.framing import Send
from trio_kafka_net.protocol.api_keys import ApiKey, request_class, response_class
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    HeartbeatRequest,
    HeartbeatResponse,
    MetadataRequest,
    StopReplicaRequest,
    StopReplicaResponse,
)

from .lab import Lab, a_batch, a_fetch, a_produce

ANYBODY = {"client-id": None}
KILOBYTE = b"x" * 1000


@pytest.fixture
async def lab(mock_clock, open_lab) -> Lab:
    """A broker whose clock stands still, with one topic."""
    lab = await open_lab(quota_window_num=2)
    await lab.make_topic()
    return lab


async def limit(lab, names=ANYBODY, **quotas):
    outcomes = await lab.local.quotas.alter([Alteration(names, list(quotas.items()))])
    assert [outcome.error for outcome in outcomes] == [None]


def waiting(lab):
    return dict(lab.local.throttler.waiting)


def mute_states(lab):
    processors = lab.plane().processors
    return [connection.mute_state for processor in processors for connection in processor._set]


async def settled():
    await trio.testing.wait_all_tasks_blocked(0.005)


async def answer_waits(client, mock_clock, seconds):
    """Whether the next answer comes after so many seconds, and not before."""
    await client.send_request(MetadataRequest(topics=[]), 12)
    answers = []

    async def receive():
        answers.append(await client.receive_response())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        mock_clock.jump(seconds - 0.01)
        await settled()
        came_early = bool(answers)
        mock_clock.jump(0.02)
    return not came_early


# Produce


async def test_produce_over_its_quota_is_answered_at_once_and_waited_for(lab, mock_clock):
    """TQ-03, TQ-11: one window of a second may be used up; the rest is waited for."""
    await limit(lab, {"client-id": "raw-client"}, producer_byte_rate=1000.0)
    client = await lab.connect()
    other = await lab.connect()
    other._client_id = "another"
    request = a_produce("t", a_batch(KILOBYTE * 3))
    response = await client.request(request, 9)

    size = 3111  # of the request, with its header
    assert response.responses[0].partition_responses[0].error_code == 0
    assert response.throttle_time_ms == size - 1000
    assert waiting(lab) == {"Produce": 1}
    assert MuteState.MUTED_AND_THROTTLED in mute_states(lab)
    assert (await other.request(request, 9)).throttle_time_ms == 0
    assert await answer_waits(client, mock_clock, 2.111)
    assert waiting(lab) == {}


async def test_produce_below_its_quota_is_not_held_back(lab, mock_clock):
    """TQ-11."""
    await limit(lab, producer_byte_rate=1e6, consumer_byte_rate=1e6, request_percentage=1e9)
    client = await lab.connect()
    for _ in range(3):
        assert (await client.request(a_produce("t", a_batch()), 9)).throttle_time_ms == 0
    assert (await client.request(a_fetch("t"), 12)).throttle_time_ms == 0
    assert waiting(lab) == {}


async def test_produce_without_an_answer_is_held_back_for_its_bytes_only(lab, mock_clock):
    await limit(lab, producer_byte_rate=1000.0, request_percentage=1e-9)
    client = await lab.connect()
    await client.send_request(a_produce("t", a_batch(KILOBYTE * 3), acks=0), 9, answered=False)
    await settled()

    assert waiting(lab) == {"Produce": 1}
    assert lab.local.quotas.exempt_time_ns > 0
    assert await answer_waits(client, mock_clock, 2.111)


# Fetch


async def test_fetch_over_its_quota_is_empty_and_not_counted(lab, mock_clock):
    await limit(lab, consumer_byte_rate=1000.0)
    await lab.produce(records=a_batch(KILOBYTE))
    await lab.produce(records=a_batch(KILOBYTE))
    client = await lab.connect()
    first = await client.request(a_fetch(("t", {"fetch_offset": 1})), 12)
    # The first one is whole, as large as it is; the window was empty.
    assert len(first.responses[0].partitions[0].records) > 1000
    assert first.throttle_time_ms > 0
    mock_clock.jump(first.throttle_time_ms / 1000 - 0.05)
    usage = lab.local.quotas.fetch.sensor("ANONYMOUS", "raw-client", 0).usage
    used = usage.total(0)
    other = await lab.connect()
    second = await other.request(a_fetch("t"), 12)

    assert second.responses == []
    assert second.error_code == 0
    assert second.throttle_time_ms > 1000
    assert usage.total(0) == used
    assert waiting(lab) == {"Fetch": 2}


async def test_fetch_keeps_to_what_can_be_within_the_quota(lab, mock_clock):
    """TQ-05: the consumer makes progress, batch by batch, without being told to wait."""
    for _ in range(5):
        await lab.produce(records=a_batch(KILOBYTE))
    await limit(lab, consumer_byte_rate=2500.0)
    client = await lab.connect()
    response = await client.request(a_fetch("t"), 12)

    assert 2000 < len(response.responses[0].partitions[0].records) <= 2500


async def test_batch_that_no_window_can_carry_is_given_out_all_the_same(lab, mock_clock):
    """It is larger than anything within the quota: without it the consumer would wait for ever."""
    await lab.produce(records=a_batch(KILOBYTE * 50))
    await limit(lab, consumer_byte_rate=1000.0)
    client = await lab.connect()
    response = await client.request(a_fetch("t"), 12)

    assert len(response.responses[0].partitions[0].records) > 50_000
    assert response.throttle_time_ms > 49_000


async def test_refused_fetch_stays_a_refusal(lab, mock_clock):
    await limit(lab, consumer_byte_rate=1.0)
    request = a_fetch("t", session_id=7, session_epoch=3)
    for _ in range(2):
        response = await lab.ask(request, 12)
    assert response.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert response.throttle_time_ms > 0


async def test_parked_fetch_is_charged_when_it_is_answered(lab, mock_clock):
    await limit(lab, consumer_byte_rate=1000.0)
    client = await lab.connect()
    await client.send_request(a_fetch("t", max_wait_ms=60_000), 12)
    await lab.parked(1)
    assert waiting(lab) == {}
    await lab.produce(records=a_batch(KILOBYTE * 3))
    response = await client.receive_response()

    assert len(response.responses[0].partitions[0].records) > 3000
    assert response.throttle_time_ms > 2000
    assert waiting(lab) == {"Fetch": 1}


# Time of handlers


def smallest_requests():
    special = {
        ApiKey.PRODUCE: a_produce("t", a_batch(), acks=1),
        ApiKey.API_VERSIONS: ApiVersionsRequest(
            client_software_name="a", client_software_version="1"
        ),
    }
    table = KafkaApis.default().table(is_control_plane=False)
    for key, api in table.items():
        yield special.get(key) or request_class(key)(), api.max_version


@pytest.mark.parametrize(
    ("request_", "version"), list(smallest_requests()), ids=lambda each: str(each).split("(")[0]
)
async def test_every_api_is_throttled_for_the_time_it_takes(lab, request_, version, mock_clock):
    """TQ-08, TQ-09: whatever the time, the delay is one window at most."""
    await limit(lab, request_percentage=1e-9)
    response = await lab.ask(request_, version)

    key = request_.API_KEY
    told = {field.name for field in response_class(key).FIELDS if field.exists_in(version)} & {
        "throttle_time_ms"
    }
    assert told, "all of them can say it"
    assert response.throttle_time_ms == 1000


async def test_delay_is_one_window(open_lab, mock_clock):
    """TQ-08."""
    lab = await open_lab(quota_window_size_seconds=3)
    await limit(lab, request_percentage=1e-9)
    client = await lab.connect()

    assert (await client.request(MetadataRequest(topics=[]), 12)).throttle_time_ms == 3000
    assert await answer_waits(client, mock_clock, 3)


async def test_version_that_cannot_say_the_delay_is_held_back_too(lab, mock_clock):
    """The metadata of version 0 has no such field."""
    await limit(lab, request_percentage=1e-9)
    client = await lab.connect()
    await client.request(MetadataRequest(topics=[]), 0)

    assert waiting(lab) == {"Request": 1}
    assert await answer_waits(client, mock_clock, 1)


async def test_unsupported_api_versions_is_throttled_too(lab, mock_clock):
    await limit(lab, request_percentage=1e-9)
    client = await lab.connect()
    await client.send_frame(b"\x00\x12\x00\x63\x00\x00\x00\x07\x00\x02me\x00")
    await client.receive_frame()

    assert waiting(lab) == {"Request": 1}


async def test_failed_request_is_charged_once(open_lab, mock_clock):
    """An answer that cannot be encoded is replaced by an error; both carry the delay."""
    apis = KafkaApis.default()

    @apis.handler(replace=True)
    def heartbeat(ctx, request: HeartbeatRequest) -> HeartbeatResponse:
        return HeartbeatResponse(error_code="no number")

    lab = await open_lab(apis)
    await limit(lab, request_percentage=1e-9)
    response = await lab.ask(HeartbeatRequest(), 4)

    assert response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert response.throttle_time_ms == 1000
    (sensor,) = lab.local.quotas.request.sensors(0)
    assert sensor.throttles == 1


async def test_answer_of_bytes_is_charged_too(open_lab, mock_clock):
    """Nothing can be told in it, but the connection is held back."""
    apis = KafkaApis.default()

    @apis.handler(replace=True)
    def heartbeat(ctx, request: HeartbeatRequest) -> Send:
        return Send([struct.pack(">ih", ctx.request.correlation_id, 7)])

    lab = await open_lab(apis)
    await limit(lab, request_percentage=1e-9)
    client = await lab.connect()

    assert (await client.request(HeartbeatRequest(), 0)).error_code == 7
    assert waiting(lab) == {"Request": 1}


@pytest.mark.parametrize("was_parked", [False, True])
async def test_time_that_a_request_is_parked_costs_nothing(open_lab, mock_clock, was_parked):
    apis = KafkaApis.default()

    @apis.handler(replace=True)
    def heartbeat(ctx, request: HeartbeatRequest) -> HeartbeatResponse:
        minute = 60_000_000_000
        ctx.request.dequeue_time_ns -= minute
        ctx.request.parked_time_ns += minute if was_parked else 0
        return HeartbeatResponse()

    lab = await open_lab(apis)
    await limit(lab, request_percentage=100.0)
    response = await lab.ask(HeartbeatRequest(), 4)

    assert response.throttle_time_ms == (0 if was_parked else 1000)


async def test_delay_of_a_handler_itself_is_not_shortened(open_lab, mock_clock):
    apis = KafkaApis.default()

    @apis.handler(replace=True)
    def heartbeat(ctx, request: HeartbeatRequest) -> HeartbeatResponse:
        return HeartbeatResponse(throttle_time_ms=5000)

    lab = await open_lab(apis)
    await limit(lab, request_percentage=1e-9)

    assert (await lab.ask(HeartbeatRequest(), 4)).throttle_time_ms == 5000


@pytest.mark.parametrize("code", [ErrorCode.NONE, ErrorCode.CLUSTER_AUTHORIZATION_FAILED])
async def test_requests_of_the_cluster_are_exempt_unless_they_are_not_allowed(
    open_lab, mock_clock, code
):
    """TQ-08, TQ-09."""
    apis = KafkaApis.default()

    def stop_replica(ctx, request):
        return StopReplicaResponse(error_code=code)

    apis.add(stop_replica, key=ApiKey.STOP_REPLICA, replace=True)
    assert ApiKey.STOP_REPLICA in CONTROLLER_APIS
    lab = await open_lab(apis)
    await limit(lab, request_percentage=1e-9)
    version = StopReplicaRequest.VALID_VERSIONS[1]
    await lab.ask(StopReplicaRequest(), version, plane="control")

    is_exempt = code is ErrorCode.NONE
    assert waiting(lab) == ({} if is_exempt else {"Request": 1})
    assert (lab.local.quotas.exempt_time_ns > 0) == is_exempt


# Two at once


@pytest.mark.parametrize(("rate", "expected"), [(1000.0, "Produce"), (3100.0, "Request")])
async def test_longer_delay_of_two_counts_for_a_produce(lab, rate, expected, mock_clock):
    """TQ-10."""
    await limit(lab, producer_byte_rate=rate, request_percentage=1e-9)
    response = await lab.ask(a_produce("t", a_batch(KILOBYTE * 3)), 9)

    assert response.throttle_time_ms == (2111 if expected == "Produce" else 1000)


@pytest.mark.parametrize(("rate", "expected"), [(1000.0, "Fetch"), (3050.0, "Request")])
async def test_longer_delay_of_two_counts_for_a_fetch(lab, rate, expected, mock_clock):
    """TQ-10."""
    await lab.produce(records=a_batch(KILOBYTE * 3))
    await limit(lab, consumer_byte_rate=rate, request_percentage=1e-9)
    client = await lab.connect()
    response = await client.request(a_fetch("t"), 12)

    assert (response.throttle_time_ms > 2000) == (expected == "Fetch")
    assert waiting(lab) == {expected: 1}


# Changes of the cluster


def creating(*topics, **settings):
    return CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name=name, num_partitions=partitions, replication_factor=1
            )
            for name, partitions in topics
        ],
        **settings,
    )


def deleting(*names):
    return DeleteTopicsRequest(
        topic_names=list(names),
        topics=[DeleteTopicsRequest.DeleteTopicState(name=name) for name in names],
    )


@pytest.fixture
async def strict_lab(open_lab, mock_clock) -> Lab:
    """A broker whose clients may make a partition a second, and save up two."""
    lab = await open_lab(controller_quota_window_num=2)
    await limit(lab, controller_mutation_rate=1.0)
    return lab


def codes(topics):
    return [each.error_code for each in topics]


@pytest.mark.parametrize("validate_only", [False, True])
async def test_topics_beyond_the_quota_are_refused(strict_lab, mock_clock, validate_only):
    """TQ-12: version 6 knows the refusal."""
    lab = strict_lab
    client = await lab.connect()
    request = creating(("a", 5), ("b", 1), ("bad name!", 1), ("c", 1), validate_only=validate_only)
    response = await client.request(request, 6)

    exceeded = ErrorCode.THROTTLING_QUOTA_EXCEEDED
    assert codes(response.topics) == [
        0,
        exceeded,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        exceeded,
    ]
    assert response.topics[1].error_message == "The throttling quota has been exceeded."
    assert response.throttle_time_ms == 3000
    assert [topic.name for topic in lab.local.metadata] == ([] if validate_only else ["a"])
    assert waiting(lab) == {"ControllerMutation": 1}
    assert await answer_waits(client, mock_clock, 3)
    assert codes((await client.request(creating(("c", 1)), 6)).topics) == [0]


async def test_older_clients_get_what_they_ask_for_and_wait(strict_lab, mock_clock):
    """TQ-12."""
    client = await strict_lab.connect()
    response = await client.request(creating(("a", 5), ("b", 1)), 5)

    assert codes(response.topics) == [0, 0]
    assert response.throttle_time_ms == 4000
    assert await answer_waits(client, mock_clock, 4)


@pytest.mark.parametrize(("version", "is_strict"), [(5, True), (4, False)])
async def test_deletions_count_too(strict_lab, version, is_strict, mock_clock):
    """TQ-12."""
    lab = strict_lab
    await lab.make_topic("a", partitions=5)
    await lab.make_topic("b", partitions=2)
    response = await lab.ask(deleting("a", "b", "unknown"), version)

    assert codes(response.responses) == [
        0,
        ErrorCode.THROTTLING_QUOTA_EXCEEDED if is_strict else 0,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert response.throttle_time_ms == (3000 if is_strict else 5000)
    assert [topic.name for topic in lab.local.metadata] == (["b"] if is_strict else [])


async def test_topics_made_on_the_way_count_too(strict_lab, mock_clock):
    topics = [MetadataRequest.Topic(name=f"t{number}") for number in range(5)]
    response = await strict_lab.ask(MetadataRequest(topics=topics), 12)

    assert codes(response.topics) == [0] * 5
    assert response.throttle_time_ms == 3000


async def test_changes_within_the_quota_are_not_held_back(strict_lab, mock_clock):
    """TQ-11."""
    response = await strict_lab.ask(creating(("a", 2)), 6)

    assert (codes(response.topics), response.throttle_time_ms) == ([0], 0)


# Connections that end


async def test_client_that_leaves_while_it_is_held_back_leaves_nothing(lab, mock_clock):
    await limit(lab, producer_byte_rate=1.0)
    client = await lab.connect()
    await client.request(a_produce("t", a_batch(KILOBYTE)), 9)
    assert waiting(lab) == {"Produce": 1}
    await client.aclose()
    # Nobody reads from it, so nobody sees that it is gone before it has been idle for too long.
    mock_clock.jump(601)
    await settled()
    assert waiting(lab) == {}
    assert lab.plane().processors[0].statistics().connections == 0
    mock_clock.jump(10_000)
    await settled()
    assert lab.local.throttler._heap == []


async def test_held_back_connection_keeps_no_frame(lab, mock_clock):
    """Delays may be days; what was produced is on the disk, and no longer in memory."""
    await limit(lab, producer_byte_rate=1.0)
    client = await lab.connect()
    await client.request(a_produce("t", a_batch(KILOBYTE)), 9)
    await settled()
    ((_, _, request, _),) = lab.local.throttler._heap

    assert len(request.payload) == 0
    assert request.message is None


async def test_stop_does_not_wait_for_those_that_are_held_back(lab, mock_clock):
    await limit(lab, producer_byte_rate=1.0)
    client = await lab.connect()
    await client.request(a_produce("t", a_batch(KILOBYTE)), 9)
    lab.broker.request_stop()
    assert await client.stream.receive_some() == b""


# Figures


async def test_figures_of_quotas(lab, mock_clock):
    """TQ-02, TQ-06, TQ-07."""
    await limit(lab, {"user": "ANONYMOUS", "client-id": None}, producer_byte_rate=1000.0)
    await limit(lab, {"user": "ANONYMOUS"}, request_percentage=1e9, controller_mutation_rate=3.0)
    client = await lab.connect()
    client._client_id = "a@#$%"
    await client.request(a_produce("t", a_batch(KILOBYTE * 3)), 9)
    await lab.ask(creating(("a", 2)), 6)

    def figures():
        families = quota_families(lab.local.quotas, lab.local.throttler)
        return {
            (family.metric.name, *sample.labels): sample.value
            for family in families
            for sample in family.samples
        }

    size = 3106
    told = figures()
    assert told["kafka_server_quota_queue_size", "Produce"] == 1
    assert told["kafka_server_quota_queue_size", "Fetch"] == 0
    assert told["kafka_server_quota_byte_rate", "Produce", "ANONYMOUS", "a@#$%"] == size
    assert told["kafka_server_quota_tokens", "ControllerMutation", "ANONYMOUS", ""] == 31
    assert told["trio_kafka_quota_throttles_total", "Produce", "ANONYMOUS", "a@#$%"] == 1
    assert told["trio_kafka_quota_throttle_seconds_total", "Produce", "ANONYMOUS", "a@#$%"] == (
        pytest.approx(size / 1000 - 1)
    )
    assert told["kafka_server_quota_request_time", "Request", "ANONYMOUS", ""] > 0
    assert "kafka_server_quota_queue_size" in lab.broker.metrics.collect()
    of_all = told["trio_kafka_throttle_seconds_total", "Produce"]
    assert of_all == pytest.approx(size / 1000 - 1)
    mock_clock.jump(3600)
    await settled()
    assert figures()["trio_kafka_throttle_seconds_total", "Produce"] == of_all
    assert {name for name, *_ in figures()} == {
        "kafka_server_quota_queue_size",
        "trio_kafka_throttle_seconds_total",
        "trio_kafka_quota_exempt_seconds_total",
    }


async def test_request_metrics_know_the_delay(lab, mock_clock):
    await limit(lab, producer_byte_rate=1000.0)
    client = await lab.connect()
    await client.request(a_produce("t", a_batch(KILOBYTE * 3)), 9)
    await settled()
    families = lab.broker.metrics.collect()
    (throttle,) = [
        sample.value
        for sample in families["trio_kafka_request_phase_seconds"].samples
        if sample.labels == ("data", "Produce", "throttle")
    ]

    assert throttle.sum == pytest.approx(2.111)
