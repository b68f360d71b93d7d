"""Requests that are almost right, against a whole broker: it refuses them, or answers."""

from __future__ import annotations

import contextlib
import logging

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_kafka_net.apis import topics
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import (
    AlterClientQuotasRequest,
    AlterConfigsRequest,
    AlterPartitionReassignmentsRequest,
    AlterReplicaLogDirsRequest,
    ApiVersionsRequest,
    CreateAclsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteAclsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    DescribeLogDirsRequest,
    DescribeProducersRequest,
    DescribeTopicPartitionsRequest,
    DescribeUserScramCredentialsRequest,
    ElectLeadersRequest,
    FindCoordinatorRequest,
    HeartbeatRequest,
    IncrementalAlterConfigsRequest,
    InitProducerIdRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListConfigResourcesRequest,
    ListGroupsRequest,
    ListOffsetsRequest,
    ListPartitionReassignmentsRequest,
    MetadataRequest,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    SyncGroupRequest,
    UpdateFeaturesRequest,
)
from trio_kafka_net.testing.client import RawClient

from .lab import Lab, a_batch, a_fetch, a_produce

REQUESTS_PER_BROKER = 25
HEADER_BYTES = 14
"""Key, version, correlation id and the client id "fuzz"; the headers have tests of their own."""
NASTY = [b"\0", b"\1", b"\x7f", b"\x80", b"\xff", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x81\x01"]

TOPIC_ID = b"\1" * 16
"""Of topic t; the next topic that is made gets the next number."""

IDEMPOTENT = a_batch(producer_id=7, producer_epoch=0, base_sequence=0)

GOOD_REQUESTS = [
    ApiVersionsRequest(client_software_name="a", client_software_version="1"),
    MetadataRequest(topics=None),
    MetadataRequest(
        topics=[MetadataRequest.Topic(name="t"), MetadataRequest.Topic(name="new")],
        include_topic_authorized_operations=True,
    ),
    MetadataRequest(topics=[MetadataRequest.Topic(topic_id=TOPIC_ID, name=None)]),
    DescribeClusterRequest(include_cluster_authorized_operations=True),
    a_produce("t", a_batch(b"a", b"b")),
    a_produce("t", IDEMPOTENT, acks=1),
    a_produce("t", a_batch(), acks=0),
    a_produce(TOPIC_ID, a_batch()),
    a_fetch("t"),
    a_fetch(TOPIC_ID, isolation_level=1),
    a_fetch(("t", {"fetch_offset": 5, "current_leader_epoch": 0}), max_wait_ms=10_000),
    ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsRequest.Topic(
                name="t",
                partitions=[
                    ListOffsetsRequest.Partition(partition_index=index, timestamp=timestamp)
                    for index, timestamp in enumerate((-1, -3, 1001))
                ],
            )
        ],
    ),
    DescribeLogDirsRequest(
        topics=[DescribeLogDirsRequest.DescribableLogDirTopic(topic="t", partitions=[0, 2])]
    ),
    AlterReplicaLogDirsRequest(
        dirs=[
            AlterReplicaLogDirsRequest.AlterReplicaLogDir(
                path="/nowhere",
                topics=[
                    AlterReplicaLogDirsRequest.AlterReplicaLogDirTopic(name="t", partitions=[0])
                ],
            )
        ]
    ),
    DeleteRecordsRequest(
        topics=[
            DeleteRecordsRequest.Topic(
                name="t",
                partitions=[DeleteRecordsRequest.Partition(partition_index=0, offset=-1)],
            )
        ],
        timeout_ms=1000,
    ),
    DescribeProducersRequest(
        topics=[DescribeProducersRequest.TopicRequest(name="t", partition_indexes=[0, 1])]
    ),
    OffsetForLeaderEpochRequest(
        topics=[
            OffsetForLeaderEpochRequest.OffsetForLeaderTopic(
                topic="t",
                partitions=[
                    OffsetForLeaderEpochRequest.OffsetForLeaderPartition(
                        partition=0, leader_epoch=0
                    )
                ],
            )
        ]
    ),
    CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name="made",
                num_partitions=2,
                replication_factor=1,
                configs=[
                    CreateTopicsRequest.CreatableTopicConfig(name="retention.ms", value="5000")
                ],
            ),
            CreateTopicsRequest.CreatableTopic(
                name="assigned",
                num_partitions=-1,
                replication_factor=-1,
                assignments=[
                    CreateTopicsRequest.CreatableReplicaAssignment(
                        partition_index=0, broker_ids=[1]
                    )
                ],
            ),
        ]
    ),
    DeleteTopicsRequest(
        topic_names=["made"],
        topics=[
            DeleteTopicsRequest.DeleteTopicState(name="made"),
            DeleteTopicsRequest.DeleteTopicState(topic_id=TOPIC_ID),
        ],
    ),
    CreatePartitionsRequest(
        topics=[
            CreatePartitionsRequest.Topic(
                name="t", count=4, assignments=[CreatePartitionsRequest.Assignment(broker_ids=[1])]
            ),
            CreatePartitionsRequest.Topic(name="made", count=3, assignments=None),
        ]
    ),
    DescribeConfigsRequest(
        resources=[
            DescribeConfigsRequest.Resource(
                resource_type=kind, resource_name=name, configuration_keys=keys
            )
            for kind, name, keys in [
                (2, "t", None),
                (4, "1", ["log.segment.bytes"]),
                (4, "", None),
                (8, "1", None),
                (32, "g", None),
            ]
        ],
        include_synonyms=True,
    ),
    AlterConfigsRequest(
        resources=[
            AlterConfigsRequest.Resource(
                resource_type=kind,
                resource_name=name,
                configs=[AlterConfigsRequest.AlterableConfig(name=key, value=value)],
            )
            for kind, name, key, value in [
                (2, "t", "retention.ms", "5000"),
                (4, "", "log.retention.ms", "5000"),
            ]
        ]
    ),
    IncrementalAlterConfigsRequest(
        resources=[
            IncrementalAlterConfigsRequest.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    IncrementalAlterConfigsRequest.AlterableConfig(
                        name=key, config_operation=operation, value=value
                    )
                ],
            )
            for kind, name, key, operation, value in [
                (2, "t", "cleanup.policy", 2, "delete"),
                (4, "1", "num.io.threads", 0, "9"),
                (8, "1", "trio_kafka_net.request", 1, None),
            ]
        ],
        validate_only=True,
    ),
    ListConfigResourcesRequest(resource_types=[2, 4]),
    InitProducerIdRequest(transactional_id=None),
    FindCoordinatorRequest(key="g", coordinator_keys=["g"]),
    JoinGroupRequest(
        group_id="g",
        session_timeout_ms=6000,
        rebalance_timeout_ms=0,
        protocol_type="consumer",
        protocols=[JoinGroupRequest.Protocol(name="range", metadata=b"\0\0\0\0\0\1\0\1t")],
        reason="for fun",
    ),
    JoinGroupRequest(
        group_id="g",
        session_timeout_ms=6000,
        group_instance_id="i",
        protocol_type="consumer",
        protocols=[JoinGroupRequest.Protocol(name="range")],
    ),
    SyncGroupRequest(
        group_id="g",
        generation_id=1,
        member_id="m",
        protocol_type="consumer",
        protocol_name="range",
        assignments=[SyncGroupRequest.Assignment(member_id="m", assignment=b"a")],
    ),
    HeartbeatRequest(group_id="g", generation_id=1, member_id="m"),
    LeaveGroupRequest(
        group_id="g",
        member_id="m",
        members=[LeaveGroupRequest.MemberIdentity(member_id="", group_instance_id="i")],
    ),
    ListGroupsRequest(),
    DescribeGroupsRequest(groups=["g"], include_authorized_operations=True),
    DeleteGroupsRequest(groups_names=["g"]),
    OffsetCommitRequest(
        group_id="s",
        retention_time_ms=5,
        topics=[
            OffsetCommitRequest.Topic(
                name="t",
                topic_id=TOPIC_ID,
                partitions=[
                    OffsetCommitRequest.Partition(
                        partition_index=0, committed_offset=5, committed_metadata="m"
                    )
                ],
            )
        ],
    ),
    OffsetFetchRequest(
        group_id="s",
        topics=[OffsetFetchRequest.Topic(name="t", partition_indexes=[0, 7])],
        groups=[
            OffsetFetchRequest.Group(
                group_id="s",
                topics=[
                    OffsetFetchRequest.Topics(name="t", topic_id=TOPIC_ID, partition_indexes=[0, 7])
                ],
            )
        ],
    ),
    OffsetDeleteRequest(
        group_id="s",
        topics=[
            OffsetDeleteRequest.Topic(
                name="t", partitions=[OffsetDeleteRequest.Partition(partition_index=0)]
            )
        ],
    ),
    DescribeClientQuotasRequest(
        components=[DescribeClientQuotasRequest.ComponentData(entity_type="user", match="u")]
    ),
    # It takes quotas away: one that was set, of a byte a second, would be served for days.
    AlterClientQuotasRequest(
        entries=[
            AlterClientQuotasRequest.EntryData(
                entity=[
                    AlterClientQuotasRequest.EntityData(entity_type="user", entity_name="u"),
                    AlterClientQuotasRequest.EntityData(entity_type="client-id", entity_name=None),
                ],
                ops=[AlterClientQuotasRequest.OpData(key="producer_byte_rate", remove=True)],
            )
        ],
        validate_only=True,
    ),
    UpdateFeaturesRequest(
        feature_updates=[
            UpdateFeaturesRequest.FeatureUpdateKey(feature="metadata.version", max_version_level=27)
        ]
    ),
    ElectLeadersRequest(
        topic_partitions=[ElectLeadersRequest.TopicPartitions(topic="t", partitions=[0, 9])]
    ),
    AlterPartitionReassignmentsRequest(
        topics=[
            AlterPartitionReassignmentsRequest.ReassignableTopic(
                name="t",
                partitions=[
                    AlterPartitionReassignmentsRequest.ReassignablePartition(replicas=[1]),
                    AlterPartitionReassignmentsRequest.ReassignablePartition(replicas=None),
                ],
            )
        ]
    ),
    ListPartitionReassignmentsRequest(
        topics=[ListPartitionReassignmentsRequest.Topics(name="t", partition_indexes=[0])]
    ),
    DescribeTopicPartitionsRequest(
        topics=[DescribeTopicPartitionsRequest.TopicRequest(name="t")],
        cursor=DescribeTopicPartitionsRequest.Cursor(topic_name="t", partition_index=1),
    ),
    DescribeAclsRequest(resource_name_filter="t"),
    CreateAclsRequest(creations=[CreateAclsRequest.AclCreation(resource_name="t")]),
    DescribeUserScramCredentialsRequest(
        users=[DescribeUserScramCredentialsRequest.UserName(name="u")]
    ),
    DeleteAclsRequest(filters=[DeleteAclsRequest.Filter(resource_name_filter="t")]),
]

pieces = st.one_of(st.sampled_from(NASTY), st.binary(max_size=6))
# Where, what, and how many bytes it replaces; most often as many as it has.
change = st.tuples(st.integers(0, 255), pieces, st.one_of(st.none(), st.integers(0, 4)))


def good_frames():
    """The good requests in every version that is served and has room for them."""
    table = KafkaApis.default().table(is_control_plane=False)
    frames = {}
    for number, request in enumerate(GOOD_REQUESTS):
        api = table[request.API_KEY]
        for version in range(api.min_version, api.max_version + 1):
            with contextlib.suppress(LocalProtocolError):
                pieces = encode_request(request, version, 1, "fuzz")
                frames[number, version] = b"".join(bytes(piece) for piece in pieces)
    return frames


GOOD_FRAMES = good_frames()


@st.composite
def almost_good_frames(draw):
    """A good request with up to two changes behind its header."""
    frame = GOOD_FRAMES[draw(st.sampled_from(sorted(GOOD_FRAMES)))]
    for place, piece, replaced in draw(st.lists(change, max_size=2)):
        at = HEADER_BYTES + place % (len(frame) - HEADER_BYTES + 1)
        behind = at + (len(piece) if replaced is None else replaced)
        frame = frame[:at] + piece + frame[behind:]
    return frame


def test_good_requests_are_of_every_api():
    table = KafkaApis.default().table(is_control_plane=False)

    assert {GOOD_REQUESTS[number].API_KEY for number, _ in GOOD_FRAMES} == set(table)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.lists(almost_good_frames(), min_size=10, max_size=REQUESTS_PER_BROKER))
def test_almost_good_requests_are_refused_or_answered(frames):
    with pytest.MonkeyPatch.context() as patched, log_lines() as lines:
        patched.setattr(topics, "_MAX_RECORDS", 50)  # thousands of partitions are slow to make
        trio.run(send_all, frames)

    assert [line for line in lines if "failed" in line or "Traceback" in line] == []


async def send_all(frames):
    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0",), num_network_threads=1, trio_in_memory=True
    )
    async with open_broker(config) as broker:
        lab = Lab(broker)
        broker.local.controller._new_uuid = iter_ids().__next__
        await lab.make_topic("t", partitions=3)
        for frame in frames:
            await send(lab.port(), frame)

        assert (await lab.ask(MetadataRequest(topics=None), 9)).brokers
        assert lab.plane().memory_pool.used == 0
        assert lab.plane().handler_pool.statistics().parked == {}
        assert broker.local.replicas.purgatory.statistics().watches == 0


def iter_ids():
    for number in range(1, 256):
        yield bytes([number]) * 16


async def send(port, frame):
    """Send a frame and nothing more, so that nothing waits for long; read until the end."""
    async with await RawClient.connect("127.0.0.1", port) as client:
        await client.send_frame(frame)
        await client.stream.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            async for _ in client.stream:
                pass


@contextlib.contextmanager
def log_lines():
    """What the package logs, WARNING and above, with tracebacks; ``caplog`` is for one test."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(handler.format(record))
    logger = logging.getLogger("trio_kafka_net")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
