"""Fetch."""

import pytest
import trio

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import FetchRequest, ListOffsetsRequest
from trio_kafka_net.protocol.records import iter_batches

from .lab import a_batch, a_fetch, a_produce

UNKNOWN_ID = b"u" * 16
SIZE = len(a_batch())


@pytest.fixture
async def lab(lab):
    """A broker with topics t and u, three batches of one record in each."""
    for topic in ("t", "u"):
        await lab.make_topic(topic)
        for _ in range(3):
            await lab.produce(topic)
    return lab


def offsets(partition):
    """Base offsets of the whole batches in the answer."""
    return [
        batch.base_offset
        for batch in iter_batches(memoryview(partition.records or b""), partial_tail=True)
    ]


def summary(partition):
    return partition.error_code, partition.high_watermark, partition.log_start_offset


@pytest.mark.parametrize("version", range(4, 19))
async def test_records_come_as_they_were_produced(lab, version):
    topic = lab.local.metadata.get_topic("t")
    asked = topic.topic_id if version >= 13 else "t"

    (answer,) = await lab.fetch((asked, {"fetch_offset": 1}), version=version)

    assert summary(answer) == (0, 3, 0 if version >= 5 else -1)
    assert answer.last_stable_offset == 3
    assert offsets(answer) == [1, 2]
    # Offset and leader epoch are stamped by the broker, the rest is the producer's.
    assert bytes(answer.records[12 + 4 : SIZE]) == a_batch()[12 + 4 :]
    assert answer.aborted_transactions is None
    assert answer.preferred_read_replica == -1


async def test_read_committed_has_a_list_of_aborted_transactions(lab):
    good, bad = await lab.fetch("t", ("nobody", {}), isolation_level=1)

    assert (good.aborted_transactions, offsets(good)) == ([], [0, 1, 2])
    assert bad.aborted_transactions is None


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"fetch_offset": -1}, ErrorCode.OFFSET_OUT_OF_RANGE),
        ({"fetch_offset": 4}, ErrorCode.OFFSET_OUT_OF_RANGE),
        ({"partition": 1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"partition": -1}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"current_leader_epoch": 1}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ({"last_fetched_epoch": 1}, ErrorCode.OFFSET_OUT_OF_RANGE),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorCode) else "",
)
async def test_error_of_a_partition_is_answered_at_once_and_leaves_the_others(lab, asked, code):
    bad, good = await lab.fetch(("t", asked), "u", min_bytes=10_000, max_wait_ms=60_000)

    assert summary(bad) == (code, -1, -1)
    assert bytes(bad.records) == b""
    assert offsets(good) == [0, 1, 2]


async def test_unknown_topics_are_refused_by_name_and_by_id(lab):
    (by_name,) = await lab.fetch("nobody", version=12)
    (by_id,) = await lab.fetch(UNKNOWN_ID, version=13)

    assert by_name.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert by_id.error_code == ErrorCode.UNKNOWN_TOPIC_ID


@pytest.mark.parametrize("version", [4, 14, 15])
async def test_replicas_are_refused(lab, version):
    settings = {"replica_id": 2, "replica_state": FetchRequest.ReplicaState(replica_id=2)}
    topic = lab.local.metadata.get_topic("t")

    (answer,) = await lab.fetch(
        topic.topic_id if version >= 13 else "t", version=version, **settings
    )

    assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize(("version", "names_leader"), [(15, False), (16, True)])
async def test_fenced_client_is_told_the_leader_since_version_16(lab, version, names_leader):
    lab.partition().set_leadership(leader_id=1, leader_epoch=2, isr=[1], replicas=[1])
    topic = lab.local.metadata.get_topic("t")
    topic.partitions[0].leader_epoch = 2
    request = a_fetch((topic.topic_id, {"current_leader_epoch": 1}))

    response = await lab.ask(request, version)

    (answer,) = response.responses[0].partitions
    assert answer.error_code == ErrorCode.FENCED_LEADER_EPOCH
    if names_leader:
        leader = answer.current_leader
        assert (leader.leader_id, leader.leader_epoch) == (1, 2)
        assert [(each.node_id, each.port) for each in response.node_endpoints] == [(1, lab.port())]
    else:
        assert (answer.current_leader, response.node_endpoints) == (None, [])


@pytest.mark.parametrize(
    ("version", "code"),
    [(5, ErrorCode.NOT_LEADER_OR_FOLLOWER), (6, ErrorCode.KAFKA_STORAGE_ERROR)],
)
async def test_clients_that_do_not_know_storage_errors_get_another_one(lab, version, code):
    lab.partition().log.failure = OSError("no disk")

    (answer,) = await lab.fetch("t", version=version)

    assert answer.error_code == code


async def test_diverging_epoch_is_told_instead_of_records(lab):
    """KIP-595: the client has read further into epoch 0 than this log knows."""
    lab.partition().set_leadership(leader_id=1, leader_epoch=3, isr=[1], replicas=[1])
    await lab.produce("t")
    topic = lab.local.metadata.get_topic("t")

    (answer,) = await lab.fetch(
        (topic.topic_id, {"fetch_offset": 4, "last_fetched_epoch": 1}),
        version=16,
        max_wait_ms=60_000,
    )

    assert (answer.error_code, bytes(answer.records)) == (0, b"")
    assert (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset) == (0, 3)


# Limits


@pytest.mark.parametrize("max_bytes", [0, 1, SIZE - 1])
async def test_first_batch_is_whole_however_small_the_limits(lab, max_bytes):
    first, second = await lab.fetch(
        ("t", {"partition_max_bytes": max_bytes}), "u", max_bytes=max_bytes
    )

    assert len(first.records) == SIZE
    assert bytes(second.records) == b""


async def test_partition_with_nothing_does_not_use_up_the_whole_first_batch(lab):
    first, second = await lab.fetch(("t", {"fetch_offset": 3}), "u", max_bytes=1)

    assert (bytes(first.records), offsets(second)) == (b"", [0])


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (3 * SIZE, 0),
        (3 * SIZE + 1, 0),
        (4 * SIZE - 1, 0),
        (4 * SIZE, SIZE),
        (4 * SIZE + 20, SIZE + 20),
    ],
)
async def test_later_partitions_keep_to_the_rest_and_begin_with_a_whole_batch(
    lab, max_bytes, expected
):
    """A piece of a batch and nothing else makes a Java consumer give up."""
    first, second = await lab.fetch("t", "u", max_bytes=max_bytes)

    assert (len(first.records), len(second.records)) == (3 * SIZE, expected)


async def test_limit_of_a_partition_holds_for_each(lab):
    limited = {"partition_max_bytes": 2 * SIZE + 5}

    first, second = await lab.fetch(("t", limited), ("u", limited))

    assert (len(first.records), len(second.records)) == (2 * SIZE + 5,) * 2


async def test_broker_limits_the_whole_answer(open_lab):
    lab = await open_lab(fetch_max_bytes=1024)
    for topic in ("t", "u"):
        await lab.make_topic(topic)
        await lab.produce(topic, a_batch(b"x" * 900))

    first, second = await lab.fetch("t", "u")

    assert (offsets(first), offsets(second)) == ([0], [])


# Sessions


@pytest.mark.parametrize("session_id", [0, 77])
@pytest.mark.parametrize("epoch", [-1, 0])
async def test_full_fetch_is_answered_without_a_session(lab, session_id, epoch):
    response = await lab.ask(a_fetch("t", session_id=session_id, session_epoch=epoch), 12)

    assert (response.error_code, response.session_id) == (0, 0)
    assert offsets(response.responses[0].partitions[0]) == [0, 1, 2]


@pytest.mark.parametrize("epoch", [1, 2**31 - 1, -2])
async def test_incremental_fetch_is_told_that_there_is_no_session(lab, epoch):
    request = a_fetch("t", session_id=77, session_epoch=epoch, max_wait_ms=60_000)

    response = await lab.ask(request, 12)

    assert response.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert (response.session_id, response.responses) == (0, [])


# Waiting


@pytest.mark.parametrize("max_wait_ms", [0, -1])
async def test_without_a_wait_nothing_is_answered_at_once(lab, max_wait_ms):
    (answer,) = await lab.fetch(("t", {"fetch_offset": 3}), max_wait_ms=max_wait_ms)

    assert summary(answer) == (0, 3, 0)
    assert bytes(answer.records) == b""


@pytest.mark.parametrize("asked", [(), (("t", {"fetch_offset": 3}),)])
async def test_who_wants_nothing_does_not_wait(lab, asked):
    response = await lab.ask(a_fetch(*asked, min_bytes=0, max_wait_ms=60_000), 12)

    assert [len(topic.partitions) for topic in response.responses] == [1] * len(asked)


async def test_request_without_partitions_does_not_wait(lab):
    assert (await lab.ask(a_fetch(max_wait_ms=60_000), 12)).responses == []


async def test_wait_ends_when_there_is_enough(lab):
    client = await lab.connect()
    request = a_fetch(
        ("t", {"fetch_offset": 3}),
        ("u", {"fetch_offset": 3}),
        min_bytes=2 * SIZE,
        max_wait_ms=60_000,
    )
    await client.send_request(request, 12)
    await lab.parked(1)

    await lab.produce("t")
    await lab.parked(1)
    await lab.produce("u")

    response = await client.receive_response()
    assert [offsets(topic.partitions[0]) for topic in response.responses] == [[3], [3]]
    await lab.parked(0)


async def test_wait_is_for_no_more_than_the_answer_may_have(lab):
    """``min_bytes`` above ``max_bytes``, as Kafka has it: min(both)."""
    (answer,) = await lab.fetch("t", min_bytes=10_000, max_bytes=2 * SIZE, max_wait_ms=60_000)

    assert offsets(answer) == [0, 1]


async def test_wait_ends_with_what_is_there_when_the_time_is_over(lab):
    (answer,) = await lab.fetch("t", min_bytes=10_000, max_wait_ms=1)

    assert offsets(answer) == [0, 1, 2]
    assert lab.local.replicas.purgatory.statistics().watches == 0


async def test_waiting_requests_do_not_keep_others_from_being_served(open_lab):
    lab = await open_lab(num_io_threads=1)
    await lab.make_topic("t")
    clients = [await lab.connect() for _ in range(5)]
    for client in clients:
        await client.send_request(a_fetch("t", max_wait_ms=60_000), 12)
    await lab.parked(5)

    await lab.produce("t")

    for client in clients:
        assert offsets((await client.receive_response()).responses[0].partitions[0]) == [0]
    await lab.parked(0)


@pytest.mark.parametrize(
    ("version", "code"),
    [(12, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (13, ErrorCode.UNKNOWN_TOPIC_ID)],
)
async def test_deletion_ends_the_wait(lab, version, code):
    topic = lab.local.metadata.get_topic("t")
    asked = topic.topic_id if version >= 13 else "t"
    client = await lab.connect()
    await client.send_request(a_fetch((asked, {"fetch_offset": 3}), max_wait_ms=60_000), version)
    await lab.parked(1)

    await lab.local.controller.delete_topic("t")

    (answer,) = (await client.receive_response()).responses[0].partitions
    assert answer.error_code == code


async def test_client_that_goes_away_leaves_nothing_behind(lab):
    for _ in range(3):
        client = await lab.connect()
        await client.send_request(a_fetch(("t", {"fetch_offset": 3}), max_wait_ms=60_000), 12)
        await lab.parked(1)

        await client.aclose()

        await lab.parked(0)
    assert lab.local.replicas.purgatory.statistics().watches == 0
    assert lab.plane().handler_pool.statistics().running == 0
    assert lab.plane().memory_pool.used == 0


async def test_pipelined_requests_wait_their_turn_behind_a_parked_one(lab):
    client = await lab.connect()
    await client.send_request(a_fetch(("t", {"fetch_offset": 3}), max_wait_ms=60_000), 12)
    await client.send_request(ListOffsetsRequest(), 7)
    await lab.parked(1)

    await lab.produce("t")

    assert offsets((await client.receive_response()).responses[0].partitions[0]) == [3]
    assert (await client.receive_response()).topics == []


async def test_records_are_whole_even_if_the_log_goes_on_meanwhile(lab):
    """An answer that is on its way is not disturbed by appends, and ends where it said."""
    await lab.make_topic("large", configs={"max.message.bytes": "5000000"})
    batch = a_batch(b"x" * 4_000_000)
    await lab.produce("large", batch)
    client = await lab.connect()
    await client.send_request(a_fetch(("large", {"partition_max_bytes": 10_000_000})), 12)
    await trio.testing.wait_all_tasks_blocked()

    await lab.ask(a_produce("large", a_batch()), 9)

    (answer,) = (await client.receive_response()).responses[0].partitions
    assert (len(answer.records), answer.high_watermark) == (len(batch), 1)


async def test_the_end_of_an_old_segment_is_answered_although_it_is_little(lab):
    """As in Kafka: there is more beyond it, which waiting would not bring into the answer."""
    await lab.make_topic("rolled", configs={"segment.bytes": str(SIZE + 1)})
    for _ in range(3):
        await lab.produce("rolled")
    (answer,) = await lab.fetch("rolled", min_bytes=10_000, max_wait_ms=60_000)
    assert offsets(answer) == [0]
    asked = ("rolled", {"fetch_offset": 2})
    (answer,) = await lab.fetch(asked, min_bytes=10_000, max_wait_ms=1)
    assert offsets(answer) == [2]
