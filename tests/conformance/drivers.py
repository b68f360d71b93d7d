"""Four Kafka clients behind one interface: write lines to a topic, read them back.

Each driver starts a fresh client per call, uses partition 0 and no consumer group, and raises when
the client reports an error. ``none`` is a codec like any other.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Protocol

import aiokafka
import confluent_kafka
import kafka

SECONDS = 30
"""How long a client may take for one call; they take a fraction of a second."""

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Driver(Protocol):
    """A client."""

    def produce(self, bootstrap: str, topic: str, lines: Sequence[bytes], codec: str) -> None:
        """Write lines with acks=all; returns when all are acknowledged."""

    def consume(self, bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes]]:
        """Read (offset, line) from the beginning, at least ``count`` of them."""


class Kcat:
    """kcat, the command-line client, on the librdkafka that the system has."""

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("kcat") is not None

    def produce(self, bootstrap: str, topic: str, lines: Sequence[bytes], codec: str) -> None:
        self._run(
            ["-P", "-b", bootstrap, "-t", topic, "-p", "0", "-z", codec, "-X", "acks=all"],
            b"".join(line + b"\n" for line in lines),
        )

    def consume(self, bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes]]:
        options = ["-C", "-b", bootstrap, "-t", topic, "-p", "0", "-o", "beginning"]
        output = self._run([*options, "-c", str(count), "-q", "-f", "%o %S\\n%s"], b"")
        found = []
        position = 0
        while position < len(output):
            end = output.index(b"\n", position)
            offset, size = map(int, output[position:end].split())
            position = end + 1 + size
            found.append((offset, output[end + 1 : position]))
        return found

    @staticmethod
    def _run(options: list[str], given: bytes) -> bytes:
        done = subprocess.run(
            ["kcat", *options], input=given, capture_output=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout


class Confluent:
    """confluent-kafka, on the librdkafka that it brings along."""

    def produce(self, bootstrap: str, topic: str, lines: Sequence[bytes], codec: str) -> None:
        errors = []
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "compression.type": codec, "acks": "all"}
        )
        for line in lines:
            producer.produce(
                topic,
                line,
                partition=0,
                on_delivery=lambda error, _: error and errors.append(error),
            )
            producer.poll(0)
        assert producer.flush(SECONDS) == 0, "not everything was acknowledged"
        assert errors == []

    def consume(self, bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes]]:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
        )
        beginning = confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)
        consumer.assign([beginning])
        found = []
        deadline = time.monotonic() + SECONDS
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(count - len(found), timeout=1):
                assert message.error() is None, message.error()
                found.append((message.offset(), message.value()))
        consumer.close()
        return found


class AioKafka:
    """aiokafka, on asyncio."""

    def produce(self, bootstrap: str, topic: str, lines: Sequence[bytes], codec: str) -> None:
        async def produce() -> None:
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                compression_type=None if codec == "none" else codec,
                acks="all",
                linger_ms=5,
            )
            async with producer:
                await asyncio.gather(
                    *[await producer.send(topic, line, partition=0) for line in lines]
                )

        asyncio.run(asyncio.wait_for(produce(), SECONDS))

    def consume(self, bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes]]:
        async def consume() -> list[tuple[int, bytes]]:
            consumer = aiokafka.AIOKafkaConsumer(
                bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False
            )
            partition = aiokafka.TopicPartition(topic, 0)
            found = []
            async with consumer:
                consumer.assign([partition])
                await consumer.seek_to_beginning(partition)
                while len(found) < count:
                    batches = await consumer.getmany(partition, timeout_ms=1000)
                    found += [(r.offset, r.value) for rs in batches.values() for r in rs]
            return found

        return asyncio.run(asyncio.wait_for(consume(), SECONDS))


class KafkaPython:
    """kafka-python 3; its producer is idempotent by default."""

    def produce(self, bootstrap: str, topic: str, lines: Sequence[bytes], codec: str) -> None:
        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks="all",
            linger_ms=5,
        )
        sent = [producer.send(topic, line, partition=0) for line in lines]
        producer.flush(SECONDS)
        for future in sent:
            future.get(SECONDS)
        producer.close()

    def consume(self, bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes]]:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False
        )
        partition = kafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        found = []
        deadline = time.monotonic() + SECONDS
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=1000).values():
                found += [(record.offset, record.value) for record in records]
        consumer.close()
        return found


DRIVERS: dict[str, Driver] = {
    "kcat": Kcat(),
    "confluent": Confluent(),
    "aiokafka": AioKafka(),
    "kafka-python": KafkaPython(),
}
