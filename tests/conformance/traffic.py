"""Idempotent producers and consumers of three clients that work side by side, and what they saw.

Every producer writes the numbers from 0 on as ``client number``, in turn to each partition of one
topic; every consumer reads all partitions from the beginning. Each runs in a thread until it is
told to stop. Nothing gives up: whatever the brokers do meanwhile, in the end each partition has the
numbers of each producer once and in their order, each acknowledged offset holds what was
acknowledged, and every consumer has seen exactly that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Self

import aiokafka
import attrs
import confluent_kafka
import kafka

SECONDS = 60
"""How long anything may take that comes within a second or two, whatever the machine does."""

PARTITIONS = 3
_IN_FLIGHT = 50
"""Messages of a producer that are not acknowledged; several batches."""
_PACE_SECONDS = 0.002
"""Between two messages of a producer: enough for the consumers to follow."""


@attrs.define(eq=False)
class Activity:
    """What one producer or consumer does."""

    client: str
    bootstrap: str
    topic: str
    found: dict[int, dict[int, bytes]] = attrs.field(factory=lambda: defaultdict(dict))
    """{partition: {offset: value}}, acknowledged or read."""
    failure: BaseException | None = None
    is_stopping: threading.Event = attrs.field(factory=threading.Event)
    thread: threading.Thread | None = None
    _moved: threading.Condition = attrs.field(factory=threading.Condition)

    def start(self, run: Callable[[Self], None]) -> None:
        def guarded() -> None:
            try:
                run(self)
            except BaseException as failure:
                self.fail(failure)

        name = f"{type(self).__name__} {self.client}"
        self.thread = threading.Thread(target=guarded, name=name, daemon=True)
        self.thread.start()

    def fail(self, failure: BaseException) -> None:
        with self._moved:
            self.failure = self.failure or failure
            self.is_stopping.set()
            self._moved.notify_all()

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for what this activity does.

        Raises:
            AssertionError: it failed, or it does not come to that.
        """
        with self._moved:
            self._moved.wait_for(lambda: self.failure is not None or is_so(), SECONDS)
            assert self.failure is None, f"{self.client}: {self.failure!r}"
            assert is_so(), f"{self.client}: {what}"

    def join(self) -> None:
        self.is_stopping.set()
        assert self.thread is not None
        self.thread.join(SECONDS)
        assert self.failure is None, f"{self.thread.name}: {self.failure!r}"
        assert not self.thread.is_alive(), f"{self.thread.name} does not end"


@attrs.define(eq=False)
class Producer(Activity):
    """A producer; numbers that are sent and those that are acknowledged."""

    sent: int = 0
    acknowledged: int = 0
    ends: dict[int, int] = attrs.field(factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    """{partition: offset after the last that is acknowledged}."""

    def next(self) -> tuple[int, bytes]:
        """Partition and value of the next message; waits while too many are under way."""
        self.is_stopping.wait(_PACE_SECONDS)
        with self._moved:
            number = self.sent
            self.sent += 1
            self._moved.notify_all()
        return number % PARTITIONS, b"%s %d" % (self.client.encode(), number)

    @property
    def has_room(self) -> bool:
        return self.sent - self.acknowledged < _IN_FLIGHT

    def acknowledge(self, partition: int, offset: int, value: bytes) -> None:
        with self._moved:
            self.acknowledged += 1
            # Offset -1: the broker knew the batch already, and not any more where it is.
            if offset >= 0:
                self.found[partition][offset] = value
                self.ends[partition] = max(self.ends[partition], offset + 1)
            self._moved.notify_all()

    def wait_for_room(self) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self.has_room or self.failure is not None, SECONDS)


@attrs.define(eq=False)
class Consumer(Activity):
    """A consumer."""

    def take(self, partition: int, offset: int, value: bytes) -> None:
        with self._moved:
            known = self.found[partition]
            assert offset == len(known), f"{partition}: {offset} after {len(known) - 1}"
            known[offset] = value
            self._moved.notify_all()

    def wait_for_offset(self, partition: int, end: int) -> None:
        """Wait until it has read everything before ``end``."""
        self.wait_until(lambda: len(self.found[partition]) >= end, f"it has not read {end}")


# The clients


def produce_confluent(producer: Producer) -> None:
    def on_delivery(error: confluent_kafka.KafkaError | None, message: object) -> None:
        if error is not None:
            producer.fail(confluent_kafka.KafkaException(error))
        else:
            producer.acknowledge(message.partition(), message.offset(), message.value())

    client = confluent_kafka.Producer(
        {
            "bootstrap.servers": producer.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.num.messages": 5,
            "reconnect.backoff.max.ms": 500,
            "message.timeout.ms": SECONDS * 1000,
        }
    )
    while not producer.is_stopping.is_set():
        if producer.has_room:
            partition, value = producer.next()
            client.produce(producer.topic, value, partition=partition, on_delivery=on_delivery)
            client.poll(0)
        else:
            client.poll(0.1)
    assert client.flush(SECONDS) == 0


def consume_confluent(consumer: Consumer) -> None:
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": consumer.bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 500,
            "fetch.wait.max.ms": 100,
        }
    )
    client.assign(
        [
            confluent_kafka.TopicPartition(consumer.topic, p, confluent_kafka.OFFSET_BEGINNING)
            for p in range(PARTITIONS)
        ]
    )
    while not consumer.is_stopping.is_set():
        for message in client.consume(100, timeout=0.1):
            if message.error() is not None:
                raise confluent_kafka.KafkaException(message.error())
            consumer.take(message.partition(), message.offset(), message.value())
    client.close()


def produce_kafka_python(producer: Producer) -> None:
    client = kafka.KafkaProducer(
        bootstrap_servers=producer.bootstrap,
        enable_idempotence=True,
        linger_ms=5,
        batch_size=200,
        reconnect_backoff_max_ms=500,
        request_timeout_ms=5000,
        delivery_timeout_ms=SECONDS * 1000,
    )
    while not producer.is_stopping.is_set():
        producer.wait_for_room()
        partition, value = producer.next()
        future = client.send(producer.topic, value, partition=partition)
        future.add_callback(
            lambda told, value=value: producer.acknowledge(told.partition, told.offset, value)
        )
        future.add_errback(producer.fail)
    client.flush(SECONDS)
    client.close()


def consume_kafka_python(consumer: Consumer) -> None:
    client = kafka.KafkaConsumer(
        bootstrap_servers=consumer.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        reconnect_backoff_max_ms=500,
        fetch_max_wait_ms=100,
    )
    partitions = [kafka.TopicPartition(consumer.topic, p) for p in range(PARTITIONS)]
    client.assign(partitions)
    client.seek_to_beginning(*partitions)
    while not consumer.is_stopping.is_set():
        # A shorter poll can lose what arrives at its end.
        for records in client.poll(timeout_ms=2000).values():
            for record in records:
                consumer.take(record.partition, record.offset, record.value)
    client.close()


def produce_aiokafka(producer: Producer) -> None:
    async def acknowledge(sent: asyncio.Future, partition: int, value: bytes) -> None:
        producer.acknowledge(partition, (await sent).offset, value)

    async def run() -> None:
        client = aiokafka.AIOKafkaProducer(
            bootstrap_servers=producer.bootstrap,
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=300,
            request_timeout_ms=SECONDS * 1000,
        )
        async with client, asyncio.TaskGroup() as tasks:
            while not producer.is_stopping.is_set():
                if not producer.has_room:
                    await asyncio.sleep(_PACE_SECONDS)
                    continue
                partition, value = producer.next()
                sent = await client.send(producer.topic, value, partition=partition)
                tasks.create_task(acknowledge(sent, partition, value))

    asyncio.run(run())


def consume_aiokafka(consumer: Consumer) -> None:
    async def run() -> None:
        client = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=consumer.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
        )
        async with client:
            partitions = [aiokafka.TopicPartition(consumer.topic, p) for p in range(PARTITIONS)]
            client.assign(partitions)
            await client.seek_to_beginning(*partitions)
            while not consumer.is_stopping.is_set():
                for records in (await client.getmany(timeout_ms=100)).values():
                    for record in records:
                        consumer.take(record.partition, record.offset, record.value)

    asyncio.run(run())


CLIENTS: dict[str, tuple[Callable[[Producer], None], Callable[[Consumer], None]]] = {
    "confluent": (produce_confluent, consume_confluent),
    "aiokafka": (produce_aiokafka, consume_aiokafka),
    "kafka-python": (produce_kafka_python, consume_kafka_python),
}


class Traffic:
    """A producer and a consumer of each client at one topic, for the time of a block.

    At its end the producers stop, the consumers read the rest, and all of it is checked.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.producers = [Producer(client, bootstrap, topic) for client in CLIENTS]
        self.consumers = [Consumer(client, bootstrap, topic) for client in CLIENTS]

    def __enter__(self) -> Self:
        for producer, consumer in zip(self.producers, self.consumers, strict=True):
            produce, consume = CLIENTS[producer.client]
            producer.start(produce)
            consumer.start(consume)
        self.wait_for_progress()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._finish()
        else:
            for each in [*self.producers, *self.consumers]:
                each.is_stopping.set()

    def wait_for_progress(self) -> None:
        """Wait until every producer wrote to every partition what it had not sent yet when this
        was called, and every consumer read that."""
        ends = {
            index: max(producer.ends[index] for producer in self.producers)
            for index in range(PARTITIONS)
        }
        for producer in self.producers:
            # Whatever is acknowledged after that many was sent after now.
            goal = producer.sent + _IN_FLIGHT + PARTITIONS
            producer.wait_until(lambda p=producer, n=goal: p.acknowledged >= n, "no progress")
        for consumer in self.consumers:
            for partition, end in ends.items():
                consumer.wait_for_offset(partition, end + 1)

    def _finish(self) -> None:
        for producer in self.producers:
            producer.join()
            assert producer.acknowledged == producer.sent, producer.client
        total = sum(producer.sent for producer in self.producers)
        for consumer in self.consumers:
            consumer.wait_until(
                lambda c=consumer: sum(map(len, c.found.values())) >= total,
                f"it has not read {total} messages",
            )
            consumer.join()
        for partition in range(PARTITIONS):
            self._check(partition)

    def _check(self, partition: int) -> None:
        read = self.consumers[0].found[partition]
        for consumer in self.consumers:
            assert consumer.found[partition] == read, (consumer.client, partition)
        for producer in self.producers:
            told = producer.found[partition]
            assert told.items() <= read.items(), (producer.client, partition)
            name = producer.client.encode()
            written = [int(value.split()[1]) for value in read.values() if value.split()[0] == name]
            expected = list(range(partition, producer.sent, PARTITIONS))
            assert written == expected, (producer.client, partition)


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Ask a client again and again until something is so."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"it does not come to that: {what}"
