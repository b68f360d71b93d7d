"""Every figure of the catalogue on a broker that is busy, and what becomes of them."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.apis.group_requests import a_join, join_alone
from tests.apis.lab import Lab, a_batch, a_fetch, a_produce
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import HistogramSnapshot
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.messages import (
    CreateTopicsRequest,
    DescribeClusterRequest,
    FindCoordinatorRequest,
    MetadataRequest,
    OffsetCommitRequest,
)

from .conftest import a_config


def samples_of(page: bytes) -> dict[str, dict[tuple, float]]:
    """{name of the family: {(name, labels) of the sample: value}}."""
    return {
        family.name: {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(page.decode())
    }


def a_commit(topic, offset, *, group="g", member_id="", generation=-1):
    return OffsetCommitRequest(
        group_id=group,
        member_id=member_id,
        generation_id_or_member_epoch=generation,
        topics=[
            OffsetCommitRequest.Topic(
                name=topic,
                partitions=[
                    OffsetCommitRequest.Partition(partition_index=0, committed_offset=offset)
                ],
            )
        ],
    )


async def settled():
    await trio.testing.wait_all_tasks_blocked(0.003)


def value(lab, metric, *labels):
    family = lab.broker.metrics.collect().get(metric.name)
    found = {each.labels: each.value for each in family.samples} if family else {}
    return found.get(labels)


async def make_busy(lab: Lab) -> None:
    """Have a bit of everything."""
    local = lab.local
    quotas = [
        ("producer_byte_rate", 1e9),
        ("consumer_byte_rate", 1e9),
        ("request_percentage", 1e6),
        ("controller_mutation_rate", 1e6),
    ]
    await local.quotas.alter([Alteration({"client-id": None}, quotas)])
    await lab.make_topic()
    await lab.produce(version=3)
    await lab.fetch("t")
    client = await lab.connect()
    await client.request(FindCoordinatorRequest(key="g", coordinator_keys=["g"]), 4)
    member_id = await join_alone(client)
    assert (
        not (await client.request(a_commit("t", 0, member_id=member_id, generation=1), 8))
        .topics[0]
        .partitions[0]
        .error_code
    )
    topic = CreateTopicsRequest.CreatableTopic(name="u", num_partitions=1, replication_factor=1)
    await client.request(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)
    parked = await lab.connect()
    await parked.send_request(a_fetch(("t", {"fetch_offset": 1}), max_wait_ms=60_000), 12)
    await lab.parked(1)


async def test_every_figure_is_told_and_every_told_figure_is_in_the_catalogue(mock_clock, nursery):
    async with open_broker(a_config()) as broker:
        lab = Lab(broker)
        await nursery.start(broker.observatory.run)
        for _ in range(21):  # two seconds, for shares of the last one
            mock_clock.jump(0.1)
            await settled()
        await make_busy(lab)
        families = samples_of(broker.observatory.exposition())
        for client in lab.clients:
            await client.aclose()
    nursery.cancel_scope.cancel()
    catalogue = {metric.name.removesuffix("_total") for metric in names.CATALOGUE}
    assert catalogue == set(families)
    for metric in names.CATALOGUE:
        labels = dict(next(iter(families[metric.name.removesuffix("_total")]))[1])
        labels.pop("le", None)
        assert set(metric.labels) == set(labels)


async def test_a_page_made_in_turns_says_the_same(lab):
    await lab.make_topic(partitions=250)
    at_once = samples_of(lab.broker.observatory.exposition())
    in_turns = samples_of(await lab.broker.observatory.page())
    size = "kafka_log_log_size"
    assert 250 == len(at_once[size])
    assert at_once[size] == in_turns[size]
    assert set(at_once) == set(in_turns)


# Topics


async def test_what_goes_in_and_out_of_a_topic_is_counted(lab):
    await lab.make_topic()
    batch = a_batch(b"one", b"two")
    await lab.produce(records=batch)
    await lab.produce(records=batch)
    await lab.fetch("t")
    await lab.fetch(("t", {"fetch_offset": 2}))
    size = len(batch)
    assert (4, 2 * size) == (
        value(lab, names.MESSAGES_IN, "t"),
        value(lab, names.TOPIC_BYTES_IN, "t"),
    )
    assert 3 * size == value(lab, names.TOPIC_BYTES_OUT, "t")
    assert (2, 2) == (
        value(lab, names.PRODUCE_REQUESTS, "t"),
        value(lab, names.FETCH_REQUESTS, "t"),
    )


async def test_a_parked_fetch_counts_its_bytes_when_it_is_answered(lab):
    await lab.make_topic()
    client = await lab.connect()
    await client.send_request(a_fetch("t", max_wait_ms=60_000), 12)
    await lab.parked(1)
    assert 0 == value(lab, names.TOPIC_BYTES_OUT, "t")
    batch = a_batch()
    await lab.produce(records=batch)
    await client.receive_response()
    assert len(batch) == value(lab, names.TOPIC_BYTES_OUT, "t")


async def test_what_is_refused_is_counted_by_why(lab):
    await lab.make_topic(configs={"max.message.bytes": "100"})
    too_large = a_batch(b"x" * 1000)
    assert (await lab.produce(records=too_large)).error_code
    damaged = bytearray(a_batch())
    damaged[-1] ^= 1
    assert (await lab.produce(records=bytes(damaged))).error_code
    assert len(too_large) == value(lab, names.TOPIC_BYTES_REJECTED, "t")
    assert (2, 0) == (
        value(lab, names.PRODUCE_REQUESTS, "t"),
        value(lab, names.FAILED_PRODUCE_REQUESTS, "t"),
    )
    assert 0 == value(lab, names.MESSAGES_IN, "t")


async def test_the_figures_of_a_deleted_topic_go_and_no_others_change(lab):
    for topic in ("t", "u"):
        await lab.make_topic(topic)
        await lab.produce(topic)
    await lab.local.controller.delete_topic("t")
    await settled()
    assert value(lab, names.MESSAGES_IN, "t") is None
    assert value(lab, names.LOG_SIZE, "t", "0") is None
    assert 1 == value(lab, names.MESSAGES_IN, "u")
    await lab.make_topic("t")
    assert 0 == value(lab, names.MESSAGES_IN, "t")


async def test_a_disk_that_fails_shows_and_makes_the_broker_unready(lab):
    await lab.make_topic(partitions=2)
    observatory = lab.broker.observatory
    assert (0, []) == (value(lab, names.OFFLINE_REPLICAS), observatory.unready())
    lab.partition("t", 1).log.failure = OSError("no disk")
    assert (1, 1) == (value(lab, names.OFFLINE_REPLICAS), value(lab, names.OFFLINE_LOG_DIRS))
    assert value(lab, names.LOG_SIZE, "t", "0") == 0
    assert value(lab, names.LOG_SIZE, "t", "1") is None
    assert ["1 logs are offline"] == observatory.unready()


async def test_bytes_of_files_and_of_buffers_are_told_apart(lab):
    """Many bytes of a file are the kernel's to send; few are read."""
    await lab.make_topic()
    batch, few = a_batch(b"x" * 300_000), a_batch(b"x" * 10_000)
    await lab.produce(records=batch)
    await lab.fetch("t")
    await lab.produce(records=few)
    await lab.fetch(("t", {"fetch_offset": 1}))
    await settled()
    labels = next(
        each.labels
        for each in lab.broker.metrics.collect()[names.SENDFILE_BYTES.name].samples
        if each.labels[0] == "data"
    )
    out = value(lab, names.BYTES_OUT, *labels)
    assert len(batch) == value(lab, names.SENDFILE_BYTES, *labels)
    assert out - len(batch) == value(lab, names.COPIED_BYTES, *labels)


# Groups


async def test_the_lag_of_a_group_is_what_it_has_not_committed(lab):
    await lab.make_topic()
    client = await lab.connect()
    await client.request(FindCoordinatorRequest(key="g", coordinator_keys=["g"]), 4)
    for _ in range(3):
        await lab.produce()
    await client.request(a_commit("t", 1), 8)
    assert 2 == value(lab, names.GROUP_LAG, "g", "t", "0")
    assert 1 == value(lab, names.GROUP_COMMITS, "g")
    assert (1, 0) == (
        value(lab, names.GROUPS, "classic", "Empty"),
        value(lab, names.GROUPS, "classic", "Stable"),
    )
    await join_alone(client)
    assert 1 == value(lab, names.GROUPS, "classic", "Stable")
    assert 1 == value(lab, names.GROUP_MEMBERS, "g")


# Endings


def endings(lab):
    return {
        labels: count.count
        for labels, count in (
            (each.labels, each.value)
            for each in lab.broker.metrics.collect()[names.REQUEST_PHASE.name].samples
        )
        if labels[0] == "data" and labels[2] == "total"
    }


def failing_apis() -> KafkaApis:
    apis = KafkaApis.default()

    def fails(ctx, request):
        raise ZeroDivisionError

    apis.add(fails, key=ApiKey.DESCRIBE_CLUSTER, replace=True)
    return apis


@pytest.mark.parametrize(
    "ending",
    ["answered", "no answer", "refused", "failed", "gone before", "gone parked", "gone after"],
)
async def test_a_request_is_counted_once_however_it_ends(ending, caplog):
    async with open_broker(a_config(), failing_apis()) as broker:
        lab = Lab(broker)
        await lab.make_topic()
        client = await lab.connect()
        api = "Produce"
        if ending == "answered":
            await client.request(a_produce("t", a_batch()), 12)
        elif ending == "no answer":
            await client.send_request(a_produce("t", a_batch(), acks=0), 12, answered=False)
        elif ending == "refused":
            await client.request(a_produce("nowhere", a_batch()), 12)
        elif ending == "failed":
            api = "DescribeCluster"
            assert -1 == (await client.request(DescribeClusterRequest(), 1)).error_code
        elif ending == "gone before":
            await client.send_request(a_produce("t", a_batch()), 12)
            await client.aclose()
        elif ending == "gone parked":
            api = "Fetch"
            await client.send_request(a_fetch("t", max_wait_ms=60_000), 12)
            await lab.parked(1)
            await client.aclose()
            await lab.parked(0)
        else:
            await client.request(a_produce("t", a_batch()), 12)
            await client.aclose()
        await settled()
        await client.aclose()
        counted = {labels[1]: count for labels, count in endings(lab).items()}
    assert 1 == counted.pop(api)
    assert {} == {name: count for name, count in counted.items() if name != "FetchConsumer"}


# Counters never go back

OPERATIONS = st.lists(
    st.sampled_from(
        [
            "produce", "produce acks=0", "produce to nowhere", "fetch", "park and go", "metadata",
            "join", "commit", "connect", "close", "make topic", "delete topic",
        ]
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip


async def perform(lab: Lab, operation: str) -> None:
    known = lab.local.metadata.get_topic("u") is not None
    if operation == "produce":
        await lab.produce()
    elif operation == "produce acks=0":
        client = await lab.connect()
        await client.send_request(a_produce("t", a_batch(), acks=0), 12, answered=False)
    elif operation == "produce to nowhere":
        await lab.produce("nowhere")
    elif operation == "fetch":
        await lab.fetch("t")
    elif operation == "park and go":
        client = await lab.connect()
        await client.send_request(a_fetch(("t", {"fetch_offset": 10**6}), min_bytes=10**6), 12)
        await client.aclose()
    elif operation == "metadata":
        await lab.ask(MetadataRequest(), 12)
    elif operation == "join":
        await lab.ask(a_join(), 9)
    elif operation == "commit":
        await lab.ask(FindCoordinatorRequest(key="g", coordinator_keys=["g"]), 4)
        await lab.ask(a_commit("t", 0), 8)
    elif operation == "connect":
        await lab.connect()
    elif operation == "close" and lab.clients:
        await lab.clients.pop().aclose()
    elif operation == "make topic" and not known:
        await lab.make_topic("u")
    elif operation == "delete topic" and known:
        await lab.local.controller.delete_topic("u")


def counters(lab: Lab) -> dict[tuple, tuple[float, ...]]:
    """Everything that may only grow."""
    found = {}
    for name, family in lab.broker.metrics.collect().items():
        if family.metric.kind != "gauge":
            for labels, number in family.samples:
                is_histogram = isinstance(number, HistogramSnapshot)
                found[name, labels] = (
                    (*number.cumulative, number.sum) if is_histogram else (number,)
                )
    return found


@given(OPERATIONS)
@settings(max_examples=15)
async def test_counters_only_grow_whatever_happens(operations):
    async with open_broker(a_config()) as broker:
        lab = Lab(broker)
        await lab.make_topic()
        before = counters(lab)
        for operation in operations:
            await perform(lab, operation)
            after = counters(lab)
            for key in before.keys() & after.keys():
                assert all(b <= a for b, a in zip(before[key], after[key], strict=True)), key
            gone = {labels for _, labels in before.keys() - after.keys()}
            assert gone <= {("u",)}
            before = after
        for client in lab.clients:
            await client.aclose()
