"""Echo through the whole pipeline, beside asyncio's streams and a bare asyncio.Protocol.

    python benchmarks/echo.py [--pairs 5] [--seconds 1.5] [--only 50x100]

Ours runs a frame through acceptor, processor, request channel, handler, response channel and
processor; the peers echo frames without any pipeline. The load comes from one closed-loop client
in C (benchmarks/load.c). 1x100 is the ping-pong of one connection.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import struct
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter

import attrs
from load import Figures, run_load
from pairs import Effort, Goal, Row, Spread, against_peers, alternately, machine
from peers import Server

# {(connections, payload bytes): {peer: goal for the ratio of requests/s}}
SCENARIOS: dict[tuple[int, int], dict[str, Goal]] = {
    (50, 100): {
        "streams": Goal(1.2, obstacle="pipeline"),
        "protocol": Goal(0.9, obstacle="pipeline"),
    },
    (500, 100): {
        "streams": Goal(1.5, obstacle="pipeline"),
        "protocol": Goal(1.1, obstacle="pipeline"),
    },
    (4, 65_536): {"streams": Goal(1.0, obstacle="copies")},
    (2, 1_000_000): {"streams": Goal(1.2, obstacle="copies")},
    (1, 100): {"streams": Goal(1.5, is_most=True, obstacle="turns")},
}
PING_PONG = (1, 100)


def serve_ours() -> None:
    """The whole pipeline, with the defaults of a broker."""
    import trio

    from trio_kafka_net import Request, SocketServer, serve_frames

    def echo(request: Request) -> memoryview:
        return request.payload

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server: SocketServer = await nursery.start(serve_frames, echo, 0)
            print(server.bound_port(), flush=True)

    trio.run(main)


def serve_streams() -> None:
    """What most asyncio servers look like."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(4)
                payload = await reader.readexactly(int.from_bytes(head, "big"))
                writer.write(head + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


class EchoProtocol(asyncio.Protocol):
    """The least that asyncio can do for a framed echo."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        """Echo every whole frame; one that comes alone is not even copied."""
        buffer = self.buffer
        if not buffer and len(data) >= 4 and len(data) == 4 + int.from_bytes(data[:4], "big"):
            self.transport.write(data)
            return
        buffer += data
        while len(buffer) >= 4:
            (size,) = struct.unpack_from(">i", buffer)
            if len(buffer) < 4 + size:
                break
            self.transport.write(bytes(buffer[: 4 + size]))
            del buffer[: 4 + size]


def serve_protocol() -> None:
    """A bare asyncio.Protocol."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


SERVERS = {"ours": serve_ours, "streams": serve_streams, "protocol": serve_protocol}


def measure(name: str, connections: int, payload: int, seconds: float) -> Figures:
    """One server, fresh, one run."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        server = Server(name, int(process.stdout.readline()), process.pid)
        frame = struct.pack(">i", payload) + b"x" * payload
        return run_load(server, connections, frame, seconds)
    finally:
        process.kill()
        process.wait()


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about echo."""
    for (connections, payload), goals in SCENARIOS.items():
        runs = alternately(
            SERVERS,
            effort.pairs,
            lambda name: measure(name, connections, payload, effort.seconds),  # noqa: B023 - called here
        )
        if (connections, payload) == PING_PONG:
            what, unit, figure = "echo, 1 connection, p50", "µs", attrgetter("p50")
        elif payload < 10_000:
            what, unit = f"echo, {connections} × {payload:,} B", "req/s"
            figure = attrgetter("rate")
        else:
            what, unit = f"echo, {connections} × {payload:,} B", "MB/s"
            figure = lambda run: run.rate * payload / 1e6  # noqa: B023, E731 - called here
        yield from against_peers(what, unit, runs, figure, goals, ("µs", attrgetter("cpu_us")))


def table(pairs: int, seconds: float, only: str | None) -> None:
    """Every scenario, one line for each server."""
    print(f"# {machine()}; {pairs} rounds of {seconds:g} s")
    print(
        f"{'scenario':>10} {'server':>9} {'req/s':>8} {'MB/s':>8} {'p50 µs':>8} {'p99 µs':>8}",
        end="",
    )
    print(f" {'p99.9 µs':>9} {'server µs/req':>13} {'ours/it':>8} {'quartiles':>11}")
    for connections, payload in SCENARIOS:
        name = f"{connections}x{payload}"
        if only not in (None, name):
            continue
        runs = alternately(
            SERVERS,
            pairs,
            lambda server: measure(server, connections, payload, seconds),  # noqa: B023 - called here
        )
        for server, each in runs.items():
            figures = map(attrs.astuple, each)
            rate, p50, p99, p999, cpu_us = map(statistics.median, zip(*figures, strict=True))
            ratio = Spread.of(
                [mine.rate / other.rate for mine, other in zip(runs["ours"], each, strict=True)]
            )
            print(f"{name:>10} {server:>9} {rate:8.0f} {rate * payload / 1e6:8.1f}", end="")
            print(f" {p50:8.0f} {p99:8.0f} {p999:9.0f} {cpu_us:13.1f}", end="")
            print(f" {ratio.median:8.2f} {ratio!s:>11}", flush=True)


def main() -> None:
    """Measure, or (``--serve``) be one of the measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", help="one scenario, as 50x100")
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve]()
    else:
        table(options.pairs, options.seconds, options.only)


if __name__ == "__main__":
    main()
