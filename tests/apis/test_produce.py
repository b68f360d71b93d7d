"""Produce."""

import logging
from contextlib import ExitStack

import pytest
import trio

from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.broker.partition import Partition
from trio_kafka_net.errors import LogDirFailedError
from trio_kafka_net.network.turn import Breaks
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import MetadataRequest, ProduceRequest
from trio_kafka_net.protocol.primitives import ZERO_UUID
from trio_kafka_net.protocol.records import Record, build_batch
from trio_kafka_net.testing.client import ConnectionClosedError

from .lab import a_batch, a_produce


@pytest.fixture
async def lab(lab):
    """A broker with topic t of two partitions."""
    await lab.make_topic("t", partitions=2)
    return lab


@pytest.mark.parametrize("acks", [-1, 1])
@pytest.mark.parametrize("version", range(3, 14))
async def test_records_are_appended_one_after_the_other(lab, version, acks):
    asked = lab.local.metadata.get_topic("t").topic_id if version >= 13 else "t"

    answers = [
        await lab.produce(asked, a_batch(b"a", b"b"), version=version, acks=acks) for _ in range(2)
    ]

    assert [(each.error_code, each.base_offset) for each in answers] == [(0, 0), (0, 2)]
    assert [each.log_append_time_ms for each in answers] == [-1, -1]
    assert [each.log_start_offset for each in answers] == [0 if version >= 5 else -1] * 2
    assert lab.partition().log_end_offset == 4


async def test_append_time_is_told_if_the_broker_sets_it(lab):
    await lab.make_topic("stamped", configs={"message.timestamp.type": "LogAppendTime"})

    assert (await lab.produce("stamped")).log_append_time_ms > 0


async def test_partitions_fail_each_for_itself(lab):
    of = ProduceRequest.PartitionProduceData
    request = ProduceRequest(
        acks=-1,
        topic_data=[
            ProduceRequest.TopicProduceData(
                name="t",
                partition_data=[
                    of(index=0, records=a_batch()),
                    of(index=7, records=a_batch()),
                    of(index=1, records=a_batch() * 2),
                ],
            ),
            ProduceRequest.TopicProduceData(
                name="nobody", partition_data=[of(index=0, records=a_batch())]
            ),
        ],
    )

    response = await lab.ask(request, 9)

    assert [
        (topic.name, answer.index, answer.error_code, answer.base_offset)
        for topic in response.responses
        for answer in topic.partition_responses
    ] == [
        ("t", 0, 0, 0),
        ("t", 7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
        ("t", 1, ErrorCode.INVALID_RECORD, -1),
        ("nobody", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
    ]


def damaged(batch=None, *, at=-1):
    spoilt = bytearray(a_batch() if batch is None else batch)
    spoilt[at] ^= 0xFF
    return bytes(spoilt)


def of_magic(magic):
    batch = bytearray(a_batch())
    batch[16] = magic
    return bytes(batch)


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (None, ErrorCode.INVALID_RECORD),
        (b"", ErrorCode.INVALID_RECORD),
        (of_magic(1), ErrorCode.INVALID_RECORD),
        (of_magic(0), ErrorCode.INVALID_RECORD),
        (a_batch() * 2, ErrorCode.INVALID_RECORD),
        (a_batch(is_control=True), ErrorCode.INVALID_RECORD),
        (damaged(), ErrorCode.CORRUPT_MESSAGE),
        (damaged(at=17), ErrorCode.CORRUPT_MESSAGE),
        (a_batch()[:-1], ErrorCode.INVALID_RECORD),
        (a_batch()[:40], ErrorCode.INVALID_RECORD),
        (a_batch() + a_batch()[:-1], ErrorCode.CORRUPT_MESSAGE),
        (a_batch(is_transactional=True), ErrorCode.INVALID_TXN_STATE),
        (a_batch(b"x" * 1_048_588), ErrorCode.MESSAGE_TOO_LARGE),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorCode) else "",
)
async def test_bad_records_are_refused_with_a_reason(lab, records, code):
    request = a_produce("t", records)

    response = await lab.ask(request, 12)

    (answer,) = response.responses[0].partition_responses
    assert (answer.error_code, answer.base_offset, answer.log_start_offset) == (code, -1, -1)
    assert answer.error_message
    assert lab.partition().log_end_offset == 0


@pytest.mark.parametrize(
    ("version", "code"), [(6, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE), (7, ErrorCode.NONE)]
)
async def test_zstd_is_for_version_7_and_later(lab, version, code):
    records = a_batch(compression=Compression.ZSTD)

    assert (await lab.produce(records=records, version=version)).error_code == code


async def test_unknown_topic_id_is_refused(lab):
    answer = await lab.produce(b"u" * 16, version=13)

    assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_ID


async def test_internal_topic_is_refused(lab):
    await lab.make_topic("__consumer_offsets")

    answer = await lab.produce("__consumer_offsets")

    assert answer.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


@pytest.mark.parametrize("acks", [2, -2, 32767])
async def test_illegal_acks_are_refused_after_topic_and_batch(lab, acks):
    good = await lab.produce(acks=acks)
    missing = await lab.produce("nobody", acks=acks)

    assert good.error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert lab.partition().log_end_offset == 0


async def test_too_few_replicas_in_sync_are_refused_for_acks_all_only(lab):
    await lab.make_topic("safe", configs={"min.insync.replicas": "2"})

    assert (await lab.produce("safe", acks=-1)).error_code == ErrorCode.NOT_ENOUGH_REPLICAS
    assert (await lab.produce("safe", acks=1)).error_code == 0


async def test_partition_without_leader_names_the_leader_since_version_10(lab):
    lab.partition().set_leadership(leader_id=1, leader_epoch=5, isr=[1], replicas=[1])
    lab.partition().leader_id = -1
    both = a_produce("t", a_batch())
    both.topic_data[0].partition_data *= 2

    for version in (9, 12):
        response = await lab.ask(both, version)

        for answer in response.responses[0].partition_responses:
            assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
            assert (answer.current_leader is None) == (version < 10)
        assert [each.node_id for each in response.node_endpoints] == [1][: version - 9]


# acks=0


async def test_without_acks_nothing_is_answered(lab):
    client = await lab.connect()
    await client.send_request(a_produce("t", a_batch(), acks=0), 9, answered=False)

    response = await client.request(MetadataRequest(topics=[]), 9)

    assert response.brokers
    assert lab.partition().log_end_offset == 1


@pytest.mark.parametrize("request_", [a_produce("nobody", a_batch(), acks=0), a_produce("t", b"")])
async def test_without_acks_a_failure_closes_the_connection(lab, request_, caplog):
    """KA-06."""
    request_.acks = 0
    client = await lab.connect()

    with caplog.at_level(logging.INFO):
        await client.send_request(request_, 9, answered=False)
        with pytest.raises(ConnectionClosedError):
            await client.receive_frame()

    (line,) = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert "closing: acks=0 and partition 0 failed" in line.getMessage()


# Idempotence


async def test_retried_batch_gets_the_offset_of_its_first_time(lab):
    def batch(sequence):
        return a_batch(b"a", b"b", producer_id=7, producer_epoch=0, base_sequence=sequence)

    first = await lab.produce(records=batch(0))
    second = await lab.produce(records=batch(2))
    again = await lab.produce(records=batch(0))

    assert [each.base_offset for each in (first, second, again)] == [0, 2, 0]
    assert again.error_code == 0
    assert lab.partition().log_end_offset == 4


async def test_gap_and_old_epoch_of_a_producer_are_refused(lab):
    async def code(sequence, epoch):
        settings = {"producer_id": 7, "producer_epoch": epoch, "base_sequence": sequence}
        return (await lab.produce(records=a_batch(**settings))).error_code

    assert await code(0, 1) == 0
    assert await code(2, 1) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert await code(1, 0) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert await code(1, 1) == 0


# Waiting


@pytest.mark.parametrize("timeout_ms", [0, -1, 1000])
@pytest.mark.parametrize("acks", [-1, 1])
async def test_with_flush_messages_an_acknowledged_record_is_flushed(open_lab, acks, timeout_ms):
    """However short the client's timeout is: it is about replicas, not about the disk."""
    lab = await open_lab(log_flush_interval_messages=1)
    await lab.make_topic("t")

    answer = await lab.produce(acks=acks, timeout_ms=timeout_ms)

    assert (answer.error_code, answer.base_offset) == (0, 0)
    assert lab.partition().log.recovery_point == 1


async def test_record_that_cannot_be_flushed_is_not_acknowledged(open_lab, monkeypatch):
    def flush(self, end_offset=None):
        raise LogDirFailedError("no disk")

    lab = await open_lab(log_flush_interval_messages=1)
    await lab.make_topic("t")
    with monkeypatch.context() as patched:
        patched.setattr(UnifiedLog, "flush", flush)
        answer = await lab.produce()

    assert (answer.error_code, answer.base_offset) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)


@pytest.fixture
def held_back(lab):
    """A second replica in sync, which has nothing."""
    lab.partition().set_leadership(leader_id=1, leader_epoch=0, isr=[1, 2], replicas=[1, 2])
    with ExitStack() as held:
        held.enter_context(lab.local.store.followers.hold_back(2))
        yield held


async def test_acks_all_waits_for_the_replicas_at_most_the_timeout(lab, held_back):
    assert (await lab.produce(acks=1)).error_code == 0
    answer = await lab.produce(acks=-1, timeout_ms=1)

    assert (answer.error_code, answer.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)
    assert lab.local.replicas.purgatory.statistics().watches == 0


async def test_acks_all_is_answered_when_the_replicas_have_it(lab, held_back):
    client = await lab.connect()
    await client.send_request(a_produce("t", a_batch(), timeout_ms=60_000), 9)
    await lab.parked(1, "Produce")

    held_back.close()

    response = await client.receive_response()
    assert response.responses[0].partition_responses[0].error_code == 0
    await lab.parked(0, "Produce")


async def test_deletion_while_waiting_for_replicas_is_answered(lab, held_back):
    client = await lab.connect()
    await client.send_request(a_produce("t", a_batch(), timeout_ms=60_000), 9)
    await lab.parked(1, "Produce")

    await lab.local.controller.delete_topic("t")

    (answer,) = (await client.receive_response()).responses[0].partition_responses
    assert (answer.error_code, answer.base_offset) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


async def test_replicas_that_go_while_waiting_are_told(open_lab):
    lab = await open_lab(min_insync_replicas=2)
    await lab.make_topic()
    lab.partition().set_leadership(leader_id=1, leader_epoch=0, isr=[1, 2], replicas=[1, 2])
    with lab.local.store.followers.hold_back(2):
        client = await lab.connect()
        await client.send_request(a_produce("t", a_batch(), timeout_ms=60_000), 9)
        await lab.parked(1, "Produce")

        lab.partition().set_leadership(leader_id=1, leader_epoch=0, isr=[1], replicas=[1, 2])

        (answer,) = (await client.receive_response()).responses[0].partition_responses
        assert answer.error_code == ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND


async def test_large_request_lets_others_have_their_turn(lab, monkeypatch):
    """Three partitions of 1.5 MB: what the first one starts has run before the third."""
    await lab.make_topic("large", partitions=3, configs={"max.message.bytes": "2000000"})
    request = a_produce("large", None)
    request.topic_data[0].partition_data = [
        ProduceRequest.PartitionProduceData(index=index, records=a_batch(b"x" * 1_500_000))
        for index in range(3)
    ]
    events = []
    append = Partition.append_records

    async def somebody_else():
        events.append("somebody else")

    def append_records(self, *arguments, **settings):
        if not events:
            trio.lowlevel.spawn_system_task(somebody_else)
        events.append(self.index)
        return append(self, *arguments, **settings)

    monkeypatch.setattr(Partition, "append_records", append_records)
    monkeypatch.setattr(Breaks, "is_due", lambda self: True)
    response = await lab.ask(request, 9)

    assert [each.base_offset for each in response.responses[0].partition_responses] == [0, 0, 0]
    assert events.index("somebody else") < events.index(2)


async def test_topic_id_is_zero_before_version_13(lab):
    response = await lab.ask(a_produce("t", a_batch()), 12)

    assert response.responses[0].topic_id == ZERO_UUID


async def test_records_without_a_key_are_named_in_a_compacted_topic(lab):
    await lab.make_topic("c", configs={"cleanup.policy": "compact"})
    records = [Record(timestamp=1, key=key) for key in (b"a", None, b"b", None, None, None)]

    answer = await lab.produce("c", build_batch(records))

    text = "Compacted topic cannot accept message without key in topic partition c-0"
    assert (answer.error_code, answer.base_offset) == (ErrorCode.INVALID_RECORD, -1)
    assert [
        (error.batch_index, error.batch_index_error_message) for error in answer.record_errors
    ] == [(number, text) for number in (1, 3, 4, 5)]
    assert answer.error_message == (
        "One or more records have been rejected due to 4 record errors in total, "
        "and only showing the first three errors at most: ["
        f"RecordError(batchIndex=1, message='{text}'), "
        f"RecordError(batchIndex=3, message='{text}'), "
        f"RecordError(batchIndex=4, message='{text}')]"
    )
    assert lab.partition("c").log_end_offset == 0


@pytest.mark.parametrize("count", [500, 5000])
async def test_refused_records_are_named_up_to_a_number(lab, count):
    await lab.make_topic("c", configs={"cleanup.policy": "compact,delete"})

    answer = await lab.produce("c", build_batch([Record(timestamp=1)] * count))

    assert len(answer.record_errors) == 100
    assert f"due to {count} record errors" in answer.error_message


async def test_large_batches_of_a_compacted_topic_are_looked_into_in_a_thread(lab, monkeypatch):
    await lab.make_topic("c", configs={"cleanup.policy": "compact"})
    run_sync, ran = trio.to_thread.run_sync, []

    async def run_and_note(work, *args, **settings):
        ran.append(work.__name__)
        return await run_sync(work, *args, **settings)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_and_note)
    large = build_batch([Record(timestamp=1, key=b"a")] * 2000)

    small = [Record(timestamp=1, key=b"a")]
    compressed = build_batch(small, compression=Compression.ZSTD)

    answers = [
        await lab.produce("c", records)
        for records in (large, large[:-1], damaged_batch(large), build_batch(small), compressed)
    ]

    assert [(answer.error_code, answer.base_offset) for answer in answers] == [
        (0, 0),
        (ErrorCode.INVALID_RECORD, -1),
        (ErrorCode.CORRUPT_MESSAGE, -1),
        (0, 2000),
        (0, 2001),
    ]
    assert ran.count("run") == 4


async def test_request_goes_on_where_a_partition_had_to_be_looked_into(lab):
    """Every partition once, and answered in the order of the request."""
    await lab.make_topic("c", partitions=3, configs={"cleanup.policy": "compact"})
    keyed = [Record(timestamp=1, key=b"a")]
    of = ProduceRequest.PartitionProduceData
    request = a_produce("c", None)
    request.topic_data[0].partition_data = [
        of(index=2, records=build_batch(keyed)),
        of(index=0, records=build_batch(keyed * 2000)),
        of(index=2, records=build_batch(keyed, compression=Compression.LZ4)),
        of(index=1, records=build_batch([Record(timestamp=1)])),
        of(index=0, records=build_batch(keyed)),
    ]

    (topic,) = (await lab.ask(request, 12)).responses

    assert [(each.index, each.base_offset) for each in topic.partition_responses] == [
        (2, 0),
        (0, 0),
        (2, 1),
        (1, -1),
        (0, 2000),
    ]
    assert [lab.partition("c", index).log_end_offset for index in range(3)] == [2001, 0, 2]


def damaged_batch(records):
    return records[:-1] + bytes([records[-1] ^ 1])


async def test_records_with_keys_are_taken_by_a_compacted_topic(lab):
    await lab.make_topic("c", configs={"cleanup.policy": "compact"})
    records = [Record(timestamp=1, key=b""), Record(timestamp=1, key=b"a")]

    answer = await lab.produce("c", build_batch(records, compression=Compression.LZ4))

    assert (answer.error_code, answer.base_offset) == (0, 0)
