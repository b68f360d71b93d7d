"""The documents of a broker: what the monitor shows of connections, tasks, topics and groups."""

from __future__ import annotations

import json
import logging
import struct

import pytest
import trio

from tests.apis.group_requests import join_alone
from tests.apis.lab import Lab, a_batch, a_fetch, a_produce
from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.cluster import open_cluster
from trio_kafka_net.metrics.row_filter import FilterError
from trio_kafka_net.observatory import task_tree
from trio_kafka_net.observatory.connection_rows import SORT_KEYS, SortError
from trio_kafka_net.observatory.task_tree import MAX_NODES
from trio_kafka_net.protocol.codec import encode
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    ConsumerProtocolAssignment,
    FindCoordinatorRequest,
    MetadataRequest,
)

from .conftest import a_config
from .test_figures import a_commit, settled


def rows(lab, **settings):
    """{client id: row} of the data plane."""
    document = lab.broker.observatory.connections(limit=500, **settings)
    return {row["client_id"]: row for row in document["connections"] if row["plane"] == "data"}


# Connections


async def test_a_connection_is_who_it_says_it_is(lab):
    client = await lab.connect(client_id="me")
    await client.request(
        ApiVersionsRequest(client_software_name="soft", client_software_version="1.2"), 3
    )
    row = rows(lab)["me"]
    assert ("soft", "1.2", "PLAINTEXT", "idle", None) == (
        row["software"],
        row["software_version"],
        row["listener"],
        row["state"],
        row["api"],
    )
    assert row["remote"].startswith("127.0.0.1:")
    assert 0 < row["bytes_in"] < row["bytes_out"]
    assert 0 <= row["idle_s"] <= row["age_s"]
    json.dumps(lab.broker.observatory.connections(), allow_nan=False)


async def test_a_connection_says_what_it_is_doing(lab):
    await lab.make_topic()
    idle = await lab.connect(client_id="idle")
    await idle.request(MetadataRequest(), 12)
    parked = await lab.connect(client_id="parked")
    await parked.send_request(a_fetch("t", max_wait_ms=60_000), 12)
    await lab.parked(1)
    receiving = await lab.connect(client_id="receiving")
    await receiving.request(MetadataRequest(), 12)
    await receiving.stream.send_all(struct.pack(">i", 100) + b"half")
    await settled()
    found = rows(lab)
    assert {"idle": "idle", "parked": "parked", "receiving": "receiving"} == {
        name: row["state"] for name, row in found.items()
    }
    assert ("Fetch", True) == (found["parked"]["api"], found["parked"]["api_age_s"] > 0)


async def test_a_throttled_connection_says_so(lab):
    await lab.make_topic()
    await lab.local.quotas.alter([Alteration({"client-id": None}, [("producer_byte_rate", 1.0)])])
    client = await lab.connect(client_id="greedy")
    await client.request(a_produce("t", a_batch(b"x" * 1000)), 12)
    await settled()
    assert "throttled" == rows(lab)["greedy"]["state"]
    deadlines = {each["name"]: each["in_s"] for each in lab.broker.observatory.tasks()["deadlines"]}
    assert 0 < deadlines["throttled clients"] < 5_000


async def test_rates_are_known_from_the_second_look_on(mock_clock):
    async with open_broker(a_config()) as broker:
        lab = Lab(broker)
        client = await lab.connect(client_id="me")
        await client.request(MetadataRequest(), 12)
        assert rows(lab)["me"]["in_per_s"] is None
        mock_clock.jump(2)
        before = rows(lab)["me"]
        await client.request(MetadataRequest(), 12)
        mock_clock.jump(2)
        after = rows(lab)["me"]
        assert (after["bytes_in"] - before["bytes_in"]) / 2 == after["in_per_s"]
        assert (after["bytes_out"] - before["bytes_out"]) / 2 == after["out_per_s"]
        mock_clock.jump(1000)
        rows(lab)
        await client.aclose()


@pytest.mark.parametrize("sort", SORT_KEYS)
async def test_rows_come_in_every_order(lab, sort):
    for name in ("b", "a", "c"):
        client = await lab.connect(client_id=name)
        await client.request(MetadataRequest(), 12)
    names = list(rows(lab, sort=sort))
    assert {"a", "b", "c"} == set(names)
    if sort == "client":
        assert ["a", "b", "c"] == names
        assert ["c", "b", "a"] == list(rows(lab, sort=sort, reverse=True))
    if sort in {"age", "idle"}:
        assert len(rows(lab, sort=sort, reverse=True)) == 3


async def test_rows_are_limited_and_filtered_and_counted(lab):
    for number in range(5):
        client = await lab.connect(client_id=f"client-{number}")
        await client.request(MetadataRequest(), 12)
    document = lab.broker.observatory.connections("client", False, 2, "^client-[1-4]")
    assert ["client-1", "client-2"] == [row["client_id"] for row in document["connections"]]
    assert (4, 6) == (document["matched"], document["total"])
    for limit in (0, -1):
        assert [] == lab.broker.observatory.connections(limit=limit)["connections"]
    with pytest.raises(SortError, match="client, software"):
        lab.broker.observatory.connections("size")
    with pytest.raises(FilterError):
        lab.broker.observatory.connections(pattern="(a*)*")


# Tasks


async def test_tasks_are_counted_by_role_and_told_as_a_tree(lab):
    document = lab.broker.observatory.tasks()
    json.dumps(document, allow_nan=False)
    roles = document["roles"]
    assert (2, 9) == (roles["processor.poll"], roles["request_handler"])
    assert ("broker.run", 1) == (document["tree"]["name"], roles["broker.run"])

    def names(node):
        yield node["name"]
        for child in node["children"]:
            yield from names(child)

    assert set(roles) == set(names(document["tree"]))
    channels = {each["name"]: each["capacity"] for each in document["channels"]}
    assert (500, 20) == (channels["data request channel"], channels["control request channel"])
    assert channels["PLAINTEXT 1 responses"] is None


async def test_the_tree_says_what_tasks_wait_for_and_is_cut_off_where_it_is_large(lab):
    async def sleeps():
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(2 * MAX_NODES):
            nursery.start_soon(sleeps)
        await settled()
        found = task_tree.tree(trio.lowlevel.current_task())
        counted = task_tree.roles(trio.lowlevel.current_task())
        nursery.cancel_scope.cancel()
    assert "running" == found["state"]
    assert 51 == len(found["children"])
    assert f"{2 * MAX_NODES - 50} more" == found["children"][-1]["name"]
    assert ("waiting", "sleep_forever") == (
        found["children"][0]["state"],
        found["children"][0]["waits_on"],
    )
    assert 2 * MAX_NODES == sum(count for role, count in counted.items() if "sleeps" in role)


# Log


async def test_warnings_are_kept_while_it_runs(lab, nursery):
    observatory = lab.broker.observatory
    await nursery.start(observatory.run)
    logging.getLogger("trio_kafka_net.anything").error("it burns")
    (record,) = observatory.log()["records"]
    assert ("ERROR", "trio_kafka_net.anything", "it burns") == (
        record["level"],
        record["logger"],
        record["message"],
    )
    assert [] == observatory.log("critical")["records"]
    with pytest.raises(ValueError, match="warning, error, critical"):
        observatory.log("debug")
    nursery.cancel_scope.cancel()


# Topics and groups


async def test_a_topic_is_told_by_partition(lab):
    await lab.make_topic(partitions=2)
    await lab.produce(index=1)
    observatory = lab.broker.observatory
    assert observatory.topic("nowhere") is None
    document = observatory.topic("t")
    json.dumps(document, allow_nan=False)
    first, second = document["partitions"]
    assert (1, [1], 0, None) == (
        first["leader"],
        first["isr"],
        first["log_end"],
        first["last_append_age_s"],
    )
    assert (1, 1, 1) == (second["log_end"], second["high_watermark"], second["segments"])
    assert second["last_append_age_s"] >= 0
    lab.partition("t", 1).log.failure = OSError("no disk")
    broken = observatory.topic("t")["partitions"][1]
    assert (None, "no disk") == (broken["log_end"], broken["last_error"])


async def test_who_waits_for_a_partition_is_counted(lab):
    await lab.make_topic()
    client = await lab.connect()
    await client.send_request(a_fetch("t", max_wait_ms=60_000), 12)
    await lab.parked(1)
    assert 1 == lab.broker.observatory.topic("t")["partitions"][0]["waiting_fetches"]


async def test_a_group_is_told_with_members_and_lag(lab):
    await lab.make_topic(partitions=2)
    await lab.produce()
    client = await lab.connect(client_id="reader")
    await client.request(FindCoordinatorRequest(key="g", coordinator_keys=["g"]), 4)
    assigned = ConsumerProtocolAssignment(
        assigned_partitions=[
            ConsumerProtocolAssignment.TopicPartition(topic="t", partitions=[0, 1])
        ]
    )
    assignment = struct.pack(">h", 0) + b"".join(bytes(part) for part in encode(assigned, 0))
    member_id = await join_alone(client, assignment=assignment)
    await client.request(a_commit("t", 0, member_id=member_id, generation=1), 8)
    observatory = lab.broker.observatory
    assert observatory.group("nobody") is None
    document = observatory.group("g")
    json.dumps(document, allow_nan=False)
    assert ("Stable", 1, 1, 1, 1) == tuple(
        document[key] for key in ("state", "members", "generation", "lag", "commits")
    )
    (member,) = document["member_list"]
    assert ("reader", 2) == (member["client_id"], member["partitions"])
    assert [(0, 0, 1, 1, member_id), (1, None, 0, None, member_id)] == [
        tuple(each[key] for key in ("partition", "committed", "log_end", "lag", "member_id"))
        for each in document["partitions"]
    ]
    (listed,) = observatory.groups()["groups"]
    assert listed == {key: document[key] for key in listed} | {"state_s": listed["state_s"]}
    assert [] == observatory.groups(0)["groups"]


async def test_a_member_that_sends_nonsense_has_no_partitions(lab):
    client = await lab.connect()
    await client.request(FindCoordinatorRequest(key="g", coordinator_keys=["g"]), 4)
    await join_alone(client, assignment=b"\x00\x00\x7f\xff\xff\xff nonsense")
    document = lab.broker.observatory.group("g")
    assert (0, []) == (document["member_list"][0]["partitions"], document["partitions"])


# Life


async def test_a_broker_is_ready_while_it_runs():
    async with open_broker(a_config(trio_metrics_listener="127.0.0.1:0")) as broker:
        assert [] == broker.observatory.unready()
        metrics = broker.bound_listeners[-1]
        assert ("METRICS", "metrics") == (metrics.name, metrics.plane)
        async with await trio.open_tcp_stream(metrics.host, metrics.port) as stream:
            await stream.send_all(b"GET /readyz HTTP/1.0\r\n\r\n")
            answer = b"".join([part async for part in stream])
        assert answer.endswith(b'{"status": "ok"}')
    assert ["the broker is stopping"] == broker.observatory.unready()
    with pytest.raises(OSError, match=str(metrics.port)):
        await trio.open_tcp_stream(metrics.host, metrics.port)


async def test_every_broker_of_a_cluster_has_an_endpoint():
    async with open_cluster(a_config(trio_metrics_listener="127.0.0.1:0"), 2) as cluster:
        endpoints = [each for each in cluster.bound_listeners if each.plane == "metrics"]
        assert 2 == len({each.port for each in endpoints})
        for broker in cluster.brokers.values():
            page = broker.observatory.exposition().decode()
            assert f'node_id="{broker.local.node_id}"' in page
