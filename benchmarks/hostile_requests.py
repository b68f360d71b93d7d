"""How long one hostile request keeps a broker busy: as many elements as a request may have.

Each row is a request of one connection; ``decode`` is the decoder alone, ``served`` the time
until the broker has answered it, in which it does nothing else.

    python benchmarks/hostile_requests.py
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import trio

from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages import (
    CreateTopicsRequest,
    DeleteTopicsRequest,
    FetchRequest,
    FindCoordinatorRequest,
    ListOffsetsRequest,
    MetadataRequest,
    ProduceRequest,
)
from trio_kafka_net.protocol.primitives import MAX_REQUEST_ELEMENTS
from trio_kafka_net.testing.client import RawClient

ROUNDS = 3


def requests() -> Iterator[tuple[Message, int]]:
    """Requests that name as many things as they may, each but once."""
    count = MAX_REQUEST_ELEMENTS
    names = [f"{number:x}" for number in range(count)]
    yield (
        MetadataRequest(
            topics=[MetadataRequest.Topic(name=name) for name in names],
            allow_auto_topic_creation=False,
        ),
        9,
    )
    yield (
        MetadataRequest(
            topics=[MetadataRequest.Topic(name=f"{name}/") for name in names],
            allow_auto_topic_creation=False,
        ),
        9,
    )
    yield FindCoordinatorRequest(coordinator_keys=names), 4
    yield DeleteTopicsRequest(topic_names=names), 5
    yield (
        CreateTopicsRequest(
            topics=[CreateTopicsRequest.CreatableTopic(name=f"{name}/") for name in names]
        ),
        5,
    )
    partitions = count - 1
    yield (
        FetchRequest(
            topics=[
                FetchRequest.Topic(
                    topic="t",
                    partitions=[
                        FetchRequest.Partition(partition=each) for each in range(partitions)
                    ],
                )
            ]
        ),
        12,
    )
    yield (
        ListOffsetsRequest(
            topics=[
                ListOffsetsRequest.Topic(
                    name="t",
                    partitions=[
                        ListOffsetsRequest.Partition(partition_index=each)
                        for each in range(partitions)
                    ],
                )
            ]
        ),
        7,
    )
    yield (
        ProduceRequest(
            acks=1,
            topic_data=[
                ProduceRequest.TopicProduceData(
                    name="t",
                    partition_data=[
                        ProduceRequest.PartitionProduceData(index=each, records=b"")
                        for each in range(partitions)
                    ],
                )
            ],
        ),
        9,
    )


def decode_seconds(message: Message, version: int) -> float:
    """Best of a few decodings."""
    encoded = b"".join(bytes(piece) for piece in encode(message, version))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        decode(type(message), version, encoded)
        best = min(best, time.perf_counter() - started)
    return best


async def served_seconds(port: int, message: Message, version: int) -> float:
    """Best of a few answers, from the first byte sent to the last byte received."""
    frame = b"".join(bytes(piece) for piece in encode_request(message, version, 0))
    best = float("inf")
    async with await RawClient.connect("127.0.0.1", port) as client:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            await client.send_frame(frame)
            await client.receive_frame()
            best = min(best, time.perf_counter() - started)
    return best


async def main() -> None:
    """Print the table."""
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
    print(f"{'request':<28}{'decode ms':>10}{'served ms':>10}")
    async with open_broker(config) as broker:
        port = broker.bound_listeners[0].port
        for message, version in requests():
            name = f"{type(message).__name__} v{version}"
            decoded = decode_seconds(message, version) * 1000
            served = await served_seconds(port, message, version) * 1000
            print(f"{name:<28}{decoded:>10.0f}{served:>10.0f}")


if __name__ == "__main__":
    logging.disable()
    trio.run(main)
