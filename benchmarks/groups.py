"""Consumer groups: the first join, rebalances of many members, heartbeats.

    python benchmarks/groups.py [--members 50] [--seconds 3] [--port PORT]

The broker runs in a process of its own, with ``group.initial.rebalance.delay.ms=0``; with
``--port`` another one is asked, which should have the same setting. All members are in this
process: what is measured includes them.

* first join:  connect, get a member id, join, sync: alone in a new group
* rebalance:   every member joins at once, and every one has its assignment
* heartbeats:  every member on a connection of its own, the next when the last is answered
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import (
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    SyncGroupRequest,
)
from trio_kafka_net.testing.client import RawClient

ROUNDS = 20
ASSIGNMENT = b"\0\1\0\0\0\1\0\1t\0\0\0\1\0\0\0\7\xff\xff\xff\xff"
SUBSCRIPTION = b"\0\1\0\0\0\1\0\1t\xff\xff\xff\xff\0\0\0\0"


@contextmanager
def broker() -> Iterator[int]:
    """A broker in a process of its own; its port."""
    command = [sys.executable, "-m", "trio_kafka_net", "broker", "--in-memory", "--metrics", "off"]
    command += ["--listener", "PLAINTEXT://127.0.0.1:0"]
    command += ["--override", "group.initial.rebalance.delay.ms=0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().split()[2].rpartition(":")[2])
        finally:
            process.terminate()


@attrs.define
class Expected:
    """What a rebalance shall come to."""

    members: int
    metadata: bytes
    """What every member says about itself: something new makes the group rebalance."""
    generation: int = -2
    """The one that has everybody in it, once there is one."""


@attrs.define
class Member:
    """One member, on a connection of its own."""

    client: RawClient
    group: str
    member_id: str = ""
    generation: int = -1

    async def join(self, expected: Expected) -> None:
        """Join and sync, until everybody that is expected has its assignment."""
        while expected.generation != self.generation or self.generation < 0:
            members = await self.ask_to_join(expected.metadata)
            if not await self.sync(members):
                continue
            if len(members) == expected.members:
                expected.generation = self.generation
            while expected.generation != self.generation:
                await trio.sleep(0.005)
                if await self.heartbeat():
                    break

    async def heartbeat(self) -> int:
        """The error code of a heartbeat."""
        request = HeartbeatRequest(
            group_id=self.group, generation_id=self.generation, member_id=self.member_id
        )
        return (await self.client.request(request, 4)).error_code

    async def ask_to_join(self, metadata: bytes) -> list[str]:
        """Join; returns the ids of all members to the leader, of none to others."""
        while True:
            response = await self.client.request(
                JoinGroupRequest(
                    group_id=self.group,
                    session_timeout_ms=30_000,
                    rebalance_timeout_ms=60_000,
                    member_id=self.member_id,
                    protocol_type="consumer",
                    protocols=[JoinGroupRequest.Protocol(name="range", metadata=metadata)],
                ),
                7,
            )
            if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                self.member_id = response.member_id
            elif not response.error_code:
                self.generation = response.generation_id
                return [each.member_id for each in response.members]

    async def sync(self, members: list[str]) -> bool:
        """Whether there is an assignment."""
        response = await self.client.request(
            SyncGroupRequest(
                group_id=self.group,
                generation_id=self.generation,
                member_id=self.member_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=[
                    SyncGroupRequest.Assignment(member_id=name, assignment=ASSIGNMENT)
                    for name in members
                ],
            ),
            5,
        )
        return not response.error_code and bool(response.assignment)


async def first_joins(port: int) -> list[float]:
    """Seconds of each of several."""
    seconds = []
    for number in range(ROUNDS):
        begin = time.perf_counter()
        async with await RawClient.connect("127.0.0.1", port) as client:
            await Member(client, f"benchmark-{begin}-{number}").join(Expected(1, SUBSCRIPTION))
        seconds.append(time.perf_counter() - begin)
    return seconds


async def rebalances(port: int, count: int) -> tuple[list[float], list[Member]]:
    """Seconds of several, and the members, which are still there."""
    group = f"benchmark-{time.time()}"
    members = [Member(await RawClient.connect("127.0.0.1", port), group) for _ in range(count)]
    seconds = []
    for number in range(ROUNDS + 1):
        expected = Expected(count, SUBSCRIPTION + b"%d" % number)
        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.join, expected)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:], members  # the first time they were strangers


def heartbeats(port: int, members: list[Member], seconds: float) -> tuple[float, list[float]]:
    """Heartbeats per second over all connections, and the seconds that each took."""
    selector = selectors.DefaultSelector()
    for member in members:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = HeartbeatRequest(
            group_id=member.group, generation_id=member.generation, member_id=member.member_id
        )
        payload = b"".join(bytes(piece) for piece in encode_request(request, 4, 1, "benchmark"))
        frame = len(payload).to_bytes(4, "big") + payload
        connection.sendall(frame)
        selector.register(connection, selectors.EVENT_READ, [frame, time.perf_counter()])
    took: list[float] = []
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            frame, sent = key.data
            response = key.fileobj.recv(100)
            assert response[-3:] == b"\0\0\0", response  # error code, tags
            took.append(time.perf_counter() - sent)
            key.data[1] = time.perf_counter()
            key.fileobj.sendall(frame)
    return len(took) / (now - begin), took


async def make_topic(port: int) -> None:
    """Have the topic for groups made before anything is measured."""
    async with await RawClient.connect("127.0.0.1", port) as client:
        ready = 0
        while not ready:
            found = await client.request(FindCoordinatorRequest(coordinator_keys=["g"]), 4)
            ready = found.coordinators[0].error_code == 0


def report(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    print(
        f"{name:<28} median {statistics.median(ordered) * 1000:7.2f} ms"
        f"   p99 {ordered[len(ordered) * 99 // 100] * 1000:7.2f} ms   ({len(ordered)})"
    )


def run(port: int, count: int, seconds: float) -> None:
    trio.run(make_topic, port)
    report("first join", trio.run(first_joins, port))
    took, members = trio.run(rebalances, port, count)
    report(f"rebalance of {count} members", took)
    rate, took = heartbeats(port, members, seconds)
    report(f"heartbeat, {count} connections", took)
    print(f"{'heartbeats':<28}        {rate:7.0f} /s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.port:
        run(options.port, options.members, options.seconds)
        return
    with broker() as port:
        run(port, options.members, options.seconds)


if __name__ == "__main__":
    main()
