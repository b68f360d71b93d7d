"""What the control plane is worth to those who wait: the data plane is full, and a leader must go.

A Produce with acks=all waits for a replica that does not come. The only handler of the data plane
stands still, its queue is full, and others wait beside it. An administrator has another broker
lead: over the control plane, or over the data plane of brokers that have no other.
"""

from __future__ import annotations

from contextlib import asynccontextmanager

from trio_kafka_net.broker.cluster_state import DeliveryWait
from trio_kafka_net.cluster import open_cluster
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ElectLeadersRequest

from .apis.lab import Lab, a_batch, a_produce
from .apis.test_planes import METADATA, Standstill, fill
from .test_cluster import LISTENERS, a_config, make, state

# Broker 2 is the preferred leader; broker 1 leads, and is a follower afterwards.
ASIDE = ElectLeadersRequest(
    topic_partitions=[ElectLeadersRequest.TopicPartitions(topic="t", partitions=[0])]
)


@asynccontextmanager
async def produce_that_waits(timeout_ms: int, **settings):
    """A cluster, its first broker, full, and a client whose Produce waits for broker 3."""
    still = Standstill(ApiKey.METADATA)
    config = a_config(num_io_threads=1, queued_max_requests=1, **settings)
    async with open_cluster(config, apis=still.apis) as cluster:
        await make(cluster)
        await cluster.controller.leaderships.reassign({("t", 0): [2, 1, 3]}, DeliveryWait())
        assert state(cluster).leader_id == 1
        lab = Lab(cluster.brokers[1])
        producer = await lab.connect()
        with cluster.hold_back(3):
            await producer.send_request(a_produce("t", a_batch(), timeout_ms=timeout_ms), 9)
            await lab.parked(1, "Produce")
            clients = await fill(lab, "data", 4, METADATA, 12)
            yield cluster, lab, producer
        still.gate.set()
        for client in clients:
            await client.receive_response()
        for client in lab.clients:
            await client.aclose()


async def error_of_produce(producer):
    (partition,) = (await producer.receive_response()).responses[0].partition_responses
    return partition.error_code


async def test_control_plane_releases_who_waits_while_the_data_plane_is_full():
    async with produce_that_waits(timeout_ms=60_000) as (cluster, lab, producer):
        answer = await lab.ask(ASIDE, 2, plane="control")

        (result,) = answer.replica_election_results[0].partition_result
        assert result.error_code == ErrorCode.NONE
        assert await error_of_produce(producer) == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert state(cluster).leader_id == 2
        channel = lab.plane().request_channel.statistics()
        assert (channel.queued, channel.waiting) == (1, 2)


async def test_without_a_control_plane_who_waits_runs_into_the_timeout():
    alone = {"listeners": LISTENERS[:1], "control_plane_listener_name": None}
    async with produce_that_waits(timeout_ms=100, **alone) as (cluster, lab, producer):
        admin = await lab.connect()
        await admin.send_request(ASIDE, 2)

        assert await error_of_produce(producer) == ErrorCode.REQUEST_TIMED_OUT
        assert state(cluster).leader_id == 1
        channel = lab.plane().request_channel.statistics()
        assert (channel.queued, channel.waiting) == (1, 3)
