"""Messages written by hand: golden bytes put together from Kafka's schema, and round trips."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from kio_oracle import knows
from message_values import MESSAGE_CLASSES, in_version, messages_of, versions_of

from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.messages import (
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    GroupMetadataKey,
    GroupMetadataValue,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    OffsetCommitKey,
    OffsetCommitValue,
    StopReplicaRequest,
    StopReplicaResponse,
    TransactionLogKey,
    TransactionLogValue,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
)

TOPIC_ID = bytes(range(16))


def i8(*values):
    return b"".join(value.to_bytes(1, "big", signed=True) for value in values)


def i16(*values):
    return b"".join(value.to_bytes(2, "big", signed=True) for value in values)


def i32(*values):
    return b"".join(value.to_bytes(4, "big", signed=True) for value in values)


def i64(*values):
    return b"".join(value.to_bytes(8, "big", signed=True) for value in values)


LEADER_AND_ISR = LeaderAndIsrRequest(
    controller_id=1,
    controller_epoch=2,
    broker_epoch=3,
    type=1,
    is_kraft_controller=True,
    ungrouped_partition_states=[
        LeaderAndIsrRequest.PartitionState(
            topic_name="t", partition_index=4, leader=5, isr=[5], replicas=[5, 6], is_new=True
        )
    ],
    topic_states=[
        LeaderAndIsrRequest.TopicState(
            topic_name="t",
            topic_id=TOPIC_ID,
            partition_states=[
                LeaderAndIsrRequest.PartitionState(
                    partition_index=4,
                    controller_epoch=2,
                    leader=5,
                    leader_epoch=7,
                    isr=[5],
                    partition_epoch=8,
                    replicas=[5, 6],
                    adding_replicas=[6],
                    is_new=True,
                    leader_recovery_state=1,
                )
            ],
        )
    ],
    live_leaders=[LeaderAndIsrRequest.LiveLeader(broker_id=5, host_name="h", port=9092)],
)

STOP_REPLICA = StopReplicaRequest(
    controller_id=1,
    controller_epoch=2,
    broker_epoch=3,
    delete_partitions=True,
    ungrouped_partitions=[StopReplicaRequest.PartitionV0(topic_name="t", partition_index=4)],
    topics=[StopReplicaRequest.TopicV1(name="t", partition_indexes=[4, 5])],
    topic_states=[
        StopReplicaRequest.TopicState(
            topic_name="t",
            partition_states=[
                StopReplicaRequest.PartitionState(partition_index=4, delete_partition=True)
            ],
        )
    ],
)

UPDATE_METADATA = UpdateMetadataRequest(
    controller_id=1,
    controller_epoch=2,
    broker_epoch=3,
    type=2,
    ungrouped_partition_states=[
        UpdateMetadataRequest.PartitionState(topic_name="t", leader=5, isr=[5], replicas=[5])
    ],
    topic_states=[
        UpdateMetadataRequest.TopicState(
            topic_name="t",
            topic_id=TOPIC_ID,
            partition_states=[
                UpdateMetadataRequest.PartitionState(
                    leader=5, isr=[5], replicas=[5], zk_version=9, offline_replicas=[6]
                )
            ],
        )
    ],
    live_brokers=[
        UpdateMetadataRequest.Broker(
            id=5,
            v0_host="h",
            v0_port=9092,
            endpoints=[
                UpdateMetadataRequest.Endpoint(
                    port=9092, host="h", listener="L", security_protocol=0
                )
            ],
            rack="r",
        )
    ],
)

GOLDEN = [
    (ControlledShutdownRequest(broker_id=5), 0, i32(5)),
    (ControlledShutdownRequest(broker_id=5, broker_epoch=6), 2, i32(5) + i64(6)),
    (ControlledShutdownRequest(broker_id=5, broker_epoch=6), 3, i32(5) + i64(6) + b"\0"),
    (
        ControlledShutdownResponse(
            remaining_partitions=[
                ControlledShutdownResponse.RemainingPartition(topic_name="t", partition_index=4)
            ]
        ),
        3,
        i16(0) + b"\2\2t" + i32(4) + b"\0\0",
    ),
    (
        LEADER_AND_ISR,
        1,
        i32(1, 2)
        + i32(1)
        + b"\0\1t"
        + i32(4, 0, 5, 0)
        + i32(1, 5)
        + i32(0)
        + i32(2, 5, 6)
        + b"\1"
        + i32(1, 5)
        + b"\0\1h"
        + i32(9092),
    ),
    (
        LEADER_AND_ISR,
        7,
        i32(1)
        + b"\1"
        + i32(2)
        + i64(3)
        + i8(1)
        + b"\2\2t"
        + TOPIC_ID
        + b"\2"
        + i32(4, 2, 5, 7)
        + b"\2"
        + i32(5)
        + i32(8)
        + b"\3"
        + i32(5, 6)
        + b"\2"
        + i32(6)
        + b"\1"  # nothing to remove
        + b"\1\1\0"  # new, recovering, no tagged fields
        + b"\0"
        + b"\2"
        + i32(5)
        + b"\2h"
        + i32(9092)
        + b"\0\0",
    ),
    (
        LeaderAndIsrResponse(
            partition_errors=[
                LeaderAndIsrResponse.PartitionError(topic_name="t", partition_index=4, error_code=6)
            ]
        ),
        0,
        i16(0) + i32(1) + b"\0\1t" + i32(4) + i16(6),
    ),
    (
        LeaderAndIsrResponse(
            topics=[
                LeaderAndIsrResponse.TopicError(
                    topic_id=TOPIC_ID,
                    partition_errors=[LeaderAndIsrResponse.PartitionError(partition_index=4)],
                )
            ]
        ),
        5,
        i16(0) + b"\2" + TOPIC_ID + b"\2" + i32(4) + i16(0) + b"\0\0\0",
    ),
    (STOP_REPLICA, 0, i32(1, 2) + b"\1" + i32(1) + b"\0\1t" + i32(4)),
    (
        STOP_REPLICA,
        1,
        i32(1, 2) + i64(3) + b"\1" + i32(1) + b"\0\1t" + i32(2, 4, 5),
    ),
    (
        STOP_REPLICA,
        4,
        i32(1) + b"\0" + i32(2) + i64(3) + b"\2\2t\2" + i32(4, -1) + b"\1\0\0\0",
    ),
    (
        StopReplicaResponse(
            error_code=11,
            partition_errors=[StopReplicaResponse.PartitionError(topic_name="t")],
        ),
        2,
        i16(11) + b"\2\2t" + i32(0) + i16(0) + b"\0\0",
    ),
    (
        UPDATE_METADATA,
        0,
        i32(1, 2)
        + i32(1)
        + b"\0\1t"
        + i32(0, 0, 5, 0)
        + i32(1, 5)
        + i32(0)
        + i32(1, 5)
        + i32(1, 5)
        + b"\0\1h"
        + i32(9092),
    ),
    (
        UPDATE_METADATA,
        8,
        i32(1)
        + b"\0"
        + i32(2)
        + i64(3)
        + b"\2\2t"
        + TOPIC_ID
        + b"\2"
        + i32(0, 0, 5, 0)
        + b"\2"
        + i32(5)
        + i32(9)
        + b"\2"
        + i32(5)
        + b"\2"
        + i32(6)
        + b"\0\0"
        + b"\2"
        + i32(5)
        + b"\2"
        + i32(9092)
        + b"\2h\2L"
        + i16(0)
        + b"\0"
        + b"\2r"
        + b"\0"
        + b"\1\0\1\2",  # tag 0, one byte: a full snapshot
    ),
    (UpdateMetadataResponse(error_code=77), 5, i16(77)),
    (UpdateMetadataResponse(error_code=77), 6, i16(77) + b"\0"),
    (OffsetCommitKey(group="g", topic="t", partition=4), 1, b"\0\1g\0\1t" + i32(4)),
    (
        OffsetCommitValue(offset=42, leader_epoch=7, metadata="m", commit_timestamp=9),
        3,
        i64(42) + i32(7) + b"\0\1m" + i64(9),
    ),
    (GroupMetadataKey(group="g"), 2, b"\0\1g"),
    (
        GroupMetadataValue(
            protocol_type="consumer",
            generation=1,
            protocol=None,
            leader="a",
            current_state_timestamp=9,
            members=[
                GroupMetadataValue.MemberMetadata(
                    member_id="a",
                    client_id="c",
                    client_host="/",
                    rebalance_timeout=2,
                    session_timeout=3,
                    subscription=b"s",
                    assignment=b"",
                )
            ],
        ),
        3,
        b"\0\x08consumer"
        + i32(1)
        + b"\xff\xff\0\1a"
        + i64(9)
        + i32(1)
        + b"\0\1a\xff\xff\0\1c\0\1/"
        + i32(2, 3)
        + i32(1)
        + b"s"
        + i32(0),
    ),
    (TransactionLogKey(transactional_id="x"), 0, b"\0\1x"),
    (
        TransactionLogValue(
            producer_id=1,
            previous_producer_id=8,
            producer_epoch=2,
            transaction_timeout_ms=3,
            transaction_status=4,
            transaction_partitions=None,
            transaction_last_update_timestamp_ms=5,
            transaction_start_timestamp_ms=-1,
        ),
        1,
        i64(1) + i16(2) + i32(3) + i8(4) + b"\0" + i64(5, -1) + b"\1\0\x08" + i64(8),
    ),
]


@pytest.mark.parametrize(("message", "version", "golden"), GOLDEN)
def test_message_has_the_bytes_of_kafkas_schema(message, version, golden):
    assert golden == b"".join(encode(message, version))
    assert in_version(message, version) == decode(type(message), version, golden)


@pytest.mark.parametrize("name", [name for name in MESSAGE_CLASSES if not knows(name)])
def test_message_round_trips_in_every_version(name):
    cls = MESSAGE_CLASSES[name]

    @settings(max_examples=20)
    @given(messages_of(cls))
    def check(message):
        for version in versions_of(cls):
            expected = in_version(message, version)

            assert expected == decode(cls, version, b"".join(encode(expected, version)))

    check()
