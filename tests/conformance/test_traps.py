"""Mistakes that brokers make and clients suffer from, each as a client sees it."""

import time
import uuid

import confluent_kafka
import kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .drivers import SECONDS

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def topic(group_broker):
    """A topic with one partition."""
    name = f"trap-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": group_broker.bootstrap})
    admin.create_topics([NewTopic(name, 1)])[name].result(SECONDS)
    return name


def consumer_of(group_broker, **config):
    return confluent_kafka.Consumer(
        {
            "bootstrap.servers": group_broker.bootstrap,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **config,
        }
    )


def poll_until(is_so, *consumers):
    """Let consumers work until something is so."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it does not come to that"
        for consumer in consumers:
            consumer.poll(0.1)


def test_a_pattern_that_matches_nothing_is_not_everything(group_broker, topic):
    nothing = consumer_of(group_broker, **{"group.id": f"{topic}-nothing"})
    nothing.subscribe([f"^no-such-{topic}.*"])
    something = consumer_of(group_broker, **{"group.id": topic})
    something.subscribe([f"^{topic}.*"])
    poll_until(something.assignment, nothing, something)

    assert nothing.assignment() == []
    assert [each.topic for each in something.assignment()] == [topic]
    nothing.close()
    something.close()


def test_a_pattern_takes_what_it_matches_and_what_is_made_later(group_broker, topic):
    owned = set()
    consumer = consumer_of(
        group_broker, **{"group.id": topic, "topic.metadata.refresh.interval.ms": 200}
    )
    consumer.subscribe(
        [f"^{topic}.*"],
        on_assign=lambda _, partitions: owned.update(p.topic for p in partitions),
    )
    poll_until(lambda: owned == {topic}, consumer)
    admin = AdminClient({"bootstrap.servers": group_broker.bootstrap})
    later = f"{topic}-later"
    admin.create_topics([NewTopic(later, 1)])[later].result(SECONDS)
    poll_until(lambda: owned == {topic, later}, consumer)
    consumer.close()


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_end_offsets_and_watermarks_after_several_batches(group_broker, topic, isolation):
    producer = confluent_kafka.Producer({"bootstrap.servers": group_broker.bootstrap})
    for batch in range(7):
        for number in range(3):
            producer.produce(topic, b"%d-%d" % (batch, number), partition=0)
        producer.flush(SECONDS)

    partition = kafka.TopicPartition(topic, 0)
    by_kafka_python = kafka.KafkaConsumer(
        bootstrap_servers=group_broker.bootstrap, isolation_level=isolation
    )
    assert by_kafka_python.end_offsets([partition]) == {partition: 21}
    assert by_kafka_python.beginning_offsets([partition]) == {partition: 0}
    by_kafka_python.close()
    consumer = consumer_of(group_broker, **{"group.id": topic, "isolation.level": isolation})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS) == (0, 21)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = consumer.consume(21, SECONDS)
    assert [message.offset() for message in found] == list(range(21))
    # What the fetch response said, not what was asked for.
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), cached=True) == (0, 21)
    consumer.close()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_headers_tombstones_and_timestamps_survive(group_broker, topic, codec):
    headers = [("twice", b"1"), ("twice", b"2"), ("empty", b""), ("none", None), ("ü", b"\xff")]
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": group_broker.bootstrap, "compression.type": codec}
    )
    producer.produce(topic, b"value", b"key", headers=headers, timestamp=1_600_000_000_123)
    producer.produce(topic, None, b"key")
    producer.produce(topic, b"", b"")
    assert producer.flush(SECONDS) == 0

    consumer = consumer_of(group_broker, **{"group.id": topic})
    consumer.assign([TopicPartition(topic, 0, 0)])
    first, tombstone, empty = consumer.consume(3, SECONDS)
    consumer.close()

    assert first.headers() == headers
    assert first.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, 1_600_000_000_123)
    assert (tombstone.key(), tombstone.value()) == (b"key", None)
    assert (empty.key(), empty.value()) == (b"", b"")
    by_kafka_python = kafka.KafkaConsumer(
        topic, bootstrap_servers=group_broker.bootstrap, auto_offset_reset="earliest"
    )
    found = [next(by_kafka_python) for _ in range(3)]
    by_kafka_python.close()
    assert [(each.key, each.value) for each in found] == [
        (b"key", b"value"),
        (b"key", None),
        (b"", b""),
    ]
    assert found[0].headers == headers


def test_a_commit_from_outside_a_living_group_is_refused(group_broker, topic):
    def join():
        consumer = consumer_of(group_broker, **{"group.id": topic})
        assigned = []
        consumer.subscribe([topic], on_assign=lambda _, partitions: assigned.append(partitions))
        return consumer, assigned

    first, assigned = join()
    poll_until(lambda: assigned, first)
    second, assigned_later = join()
    poll_until(lambda: assigned_later, first, second)
    outsider = consumer_of(group_broker, **{"group.id": topic})
    with pytest.raises(confluent_kafka.KafkaException) as raised:
        outsider.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    assert raised.value.args[0].name() == "UNKNOWN_MEMBER_ID"
    for consumer in (first, second, outsider):
        consumer.close()


def test_commits_during_a_rebalance_are_kept(group_broker, topic):
    """An eager member commits what it did before it gives its partitions up: after JoinGroup was
    answered REBALANCE_IN_PROGRESS to its heartbeat, with the old generation."""
    done = []

    def on_revoke(consumer, partitions):
        done.extend(consumer.commit(offsets=[TopicPartition(topic, 0, 42)], asynchronous=False))

    first = consumer_of(
        group_broker,
        **{"group.id": topic, "heartbeat.interval.ms": 200, "session.timeout.ms": 6000},
    )
    assigned = []
    first.subscribe(
        [topic], on_assign=lambda _, partitions: assigned.append(partitions), on_revoke=on_revoke
    )
    poll_until(lambda: assigned, first)
    second = consumer_of(group_broker, **{"group.id": topic})
    second.subscribe([topic])
    poll_until(lambda: done, first, second)

    assert [(each.offset, each.error) for each in done] == [(42, None)]
    committed = second.committed([TopicPartition(topic, 0)], SECONDS)
    assert [each.offset for each in committed] == [42]
    first.close()
    second.close()
