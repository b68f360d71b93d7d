"""How long one hostile request keeps a broker busy: as many elements as a request may have.

Each row is a request of one connection; ``decode`` is the decoder alone, ``served`` the time
until the broker has answered it, ``turn`` the longest that the event loop worked meanwhile without
a look at its sockets: as long, at least, everybody else waits.

    python benchmarks/hostile_requests.py
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import attrs
import trio
import trio.lowlevel
from loop_probe import LONGEST_TURN_MS, LoopProbe
from pairs import Effort, Goal, Row, alone

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


@attrs.frozen
class Service:
    """The best of a few answers to a request, milliseconds."""

    name: str
    served: float
    """From the first byte sent to the last byte received."""
    turn: float
    """What the event loop's thread worked in its longest turn meanwhile."""


async def serve(port: int, message: Message, version: int, probe: LoopProbe) -> Service:
    """Ask a few times; the client lives in the broker's event loop, and does little there."""
    frame = b"".join(bytes(piece) for piece in encode_request(message, version, 0))
    served, turns = [], []
    async with await RawClient.connect("127.0.0.1", port) as client:
        for _ in range(ROUNDS):
            probe.clear()
            started = time.perf_counter()
            await client.send_frame(frame)
            await client.receive_frame()
            served.append((time.perf_counter() - started) * 1e3)
            await trio.lowlevel.checkpoint()  # the turn is over
            turns.append(max(probe.cpu_ns) / 1e6)
    return Service(f"{type(message).__name__} v{version}", min(served), min(turns))


async def services() -> list[Service]:
    """What each of the requests costs."""
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
    probe = LoopProbe()
    async with open_broker(config) as broker:
        trio.lowlevel.add_instrument(probe)
        port = broker.bound_listeners[0].port
        return [await serve(port, message, version, probe) for message, version in requests()]


def rows(effort: Effort) -> Iterator[Row]:
    """The line of the table that is about the worst request that is let in."""
    logging.disable()
    try:
        worst = max(trio.run(services), key=lambda service: service.turn)
    finally:
        logging.disable(logging.NOTSET)
    what = f"work in a turn, largest {worst.name.partition(' ')[0]}"
    goal = Goal(LONGEST_TURN_MS, is_most=True, obstacle="elements")
    yield alone(what, "ms", [worst.turn], goal)


def main() -> None:
    """Print the table."""
    print(f"{'request':<28}{'decode ms':>10}{'served ms':>10}{'turn ms':>10}")
    measured = trio.run(services)
    for (message, version), service in zip(requests(), measured, strict=True):
        decoded = decode_seconds(message, version) * 1000
        print(f"{service.name:<28}{decoded:>10.0f}{service.served:>10.0f}{service.turn:>10.0f}")


if __name__ == "__main__":
    logging.disable()
    main()
