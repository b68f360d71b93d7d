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

from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.cli.garbage import ShortCollections
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.protocol.codec import decode, encode
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.testing.client import RawClient
from trio_kafka_net.testing.largest_requests import largest_requests

ROUNDS = 3


Case = tuple[str, Message, int]
"""What to call a request, the request, and its version."""


def requests() -> Iterator[Case]:
    """The largest requests of every API of the data plane, in its last version."""
    table = KafkaApis.default().table(is_control_plane=False)
    return largest_requests({key: api.max_version for key, api in table.items()})


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


async def serve(port: int, name: str, frame: bytes, probe: LoopProbe) -> Service:
    """Ask a few times; the client lives in the broker's event loop, and does little there."""
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
    return Service(name, min(served), min(turns))


async def services() -> list[Service]:
    """What each of the requests costs a broker that collects its garbage as the command does."""
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
    probe = LoopProbe()
    frames = [
        (name, b"".join(bytes(piece) for piece in encode_request(message, version, 0)))
        for name, message, version in requests()
    ]
    with ShortCollections() as collections:
        async with open_broker(config) as broker:
            await broker.local.controller.create_topic("t", partitions=1)
            collections.settle()
            trio.lowlevel.add_instrument(probe)
            port = broker.bound_listeners[0].port
            return [await serve(port, name, frame, probe) for name, frame in frames]


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
    print(f"{'request':<52}{'decode ms':>10}{'served ms':>10}{'turn ms':>10}")
    measured = trio.run(services)
    for (name, message, version), service in zip(requests(), measured, strict=True):
        decoded = decode_seconds(message, version) * 1000
        print(f"{name:<52}{decoded:>10.0f}{service.served:>10.0f}{service.turn:>10.1f}")


if __name__ == "__main__":
    logging.disable()
    main()
