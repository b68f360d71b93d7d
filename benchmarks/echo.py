"""Echo through the whole pipeline, beside asyncio's streams and a bare asyncio.Protocol.

    python benchmarks/echo.py [--pairs 3] [--seconds 2] [--only 50x100]

Ours runs a frame through acceptor, processor, request channel, handler, response channel and
processor; the peers echo frames without any pipeline. Servers run one at a time, in turn, so
that a drift of the machine hits all alike; quoted is the median ratio of the pairs. The load
comes from one closed-loop client in C (benchmarks/load.c, compiled here with cc).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# (connections, payload bytes, what the ratio to each peer shall be: streams, Protocol)
SCENARIOS = (
    (50, 100, 1.2, 0.9),
    (500, 100, 1.5, 1.1),
    (4, 65536, 1.0, None),
    (2, 1_000_000, 1.2, None),
)


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


def compile_load(directory: str) -> str:
    """Compile the load generator; returns its path."""
    program = os.path.join(directory, "load")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-o", program, str(HERE / "load.c")], check=True)
    return program


def measure(load: str, server: str, connections: int, payload: int, seconds: float) -> list[float]:
    """Requests per second and the latency quantiles (µs: p50, p99, p99.9) of one run."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", server], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        arguments = [load, "127.0.0.1", port, str(connections), str(payload), str(seconds)]
        output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        return [float(figure) for figure in output.split()]
    finally:
        process.kill()
        process.wait()


def run(load: str, pairs: int, seconds: float, only: str | None) -> None:
    """Every scenario, the servers in turn; one line each."""
    print(f"# Python {platform.python_version()}, {os.cpu_count()} CPUs, {pairs} pairs")
    print(
        f"{'scenario':>14} {'server':>9} {'req/s':>9} {'MB/s':>8} {'p50 µs':>8} {'p99 µs':>9}",
        end="",
    )
    print(f" {'ours/it':>8} {'goal':>5}")
    for connections, payload, *goals in SCENARIOS:
        name = f"{connections}x{payload}"
        if only not in (None, name):
            continue
        results: dict[str, list[list[float]]] = {server: [] for server in SERVERS}
        for _ in range(pairs):
            for server, figures in results.items():
                figures.append(measure(load, server, connections, payload, seconds))
        for server, goal in zip(SERVERS, [None, *goals], strict=True):
            rate, p50, p99, _ = (
                statistics.median(column) for column in zip(*results[server], strict=True)
            )
            ratio = statistics.median(
                mine[0] / theirs[0]
                for mine, theirs in zip(results["ours"], results[server], strict=True)
            )
            line = f"{name:>14} {server:>9} {rate:9.0f} {rate * payload / 1e6:8.1f}"
            line += f" {p50:8.0f} {p99:9.0f} {ratio:8.2f} {goal or '-':>5}"
            print(line, flush=True)


def main() -> None:
    """Measure, or (``--serve``) be one of the measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", help="one scenario, as 50x100")
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve]()
        return
    with tempfile.TemporaryDirectory() as directory:
        run(compile_load(directory), options.pairs, options.seconds, options.only)


if __name__ == "__main__":
    main()
