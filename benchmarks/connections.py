"""Many connections, and connections that behave badly beside ones that do not.

    python benchmarks/connections.py [--idle 10000]

* idle:     accept rate, and resident memory per connection
* active:   1,000 connections that ask and wait, from the C client: p50, p99, p99.9
* flood:    a ping alone, then beside one connection that pipelines without ever waiting
* reader:   a ping beside connections that ask for 1 MB responses and read them slowly
* full:     the request queue held full for ten seconds while a response in progress flows

The server runs in a process of its own. Latencies of one run are comparable with each other, not
with those of another machine.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load import run_load
from pairs import Effort, Goal, Row, alone
from peers import Server

PAGE_BYTES = os.sysconf("SC_PAGESIZE")
FRAME = struct.pack(">i", 100) + b"x" * 100
BIG = struct.pack(">i", 3) + b"big"
HUGE = struct.pack(">i", 4) + b"huge"
HOLD = struct.pack(">i", 4) + b"hold"


def serve() -> None:
    """An echo server; "big" is answered with 1 MB, "huge" with 2 GB, "hold" never."""
    import trio

    from trio_kafka_net import ListenerConfig, Request, SocketServer, SocketServerConfig
    from trio_kafka_net.network.framing import Send
    from trio_kafka_net.network.socket_server import answering

    big = b"z" * 1_000_000

    async def hold(request: Request) -> bytes:
        await trio.sleep_forever()
        return b""

    def handler(request: Request):
        if request.payload == b"big":
            return big
        if request.payload == b"huge":
            return Send([big] * 2000)  # as many as fit a frame
        return hold(request) if request.payload == b"hold" else request.payload

    async def main() -> None:
        listener = ListenerConfig(name="PLAINTEXT", host="127.0.0.1", port=0)
        config = SocketServerConfig(socket_listen_backlog_size=1024, queued_max_requests=20)
        server = SocketServer([listener], handle=answering(handler), config=config)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            print(server.bound_port(), flush=True)

    trio.run(main)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def connect(port: int) -> socket.socket:
    """A blocking client socket."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange(client: socket.socket, frame: bytes) -> None:
    """Send a frame and read its answer."""
    client.sendall(frame)
    (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
    client.recv(size, socket.MSG_WAITALL)


def pings(port: int, seconds: float) -> list[float]:
    """Round trips of one connection that asks every millisecond, µs, sorted."""
    client = connect(port)
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        exchange(client, FRAME)
        taken.append((time.perf_counter() - begin) * 1e6)
        time.sleep(0.001)
    client.close()
    return sorted(taken)


def quantiles(taken: list[float]) -> str:
    """p50, p99 and the maximum."""
    p99 = taken[int(len(taken) * 0.99)]
    return f"p50 {statistics.median(taken):7.0f} µs  p99 {p99:7.0f} µs  max {taken[-1]:7.0f} µs"


def rows(effort: Effort) -> Iterator[Row]:
    """The line of the table that is about idle connections."""
    count = 10_000 if effort.seconds > 0.5 else 2_000
    with serving() as (process, port):
        _, _, grown = open_many(process, port, count)
    yield alone(
        f"memory per idle connection, {count:,}", "KiB", [grown / 1024], Goal(6, is_most=True)
    )


def open_many(
    process: subprocess.Popen[str], port: int, count: int
) -> tuple[list[socket.socket], float, float]:
    """Open connections; they, how long it took, and by how many bytes the server grew for each."""
    exchange(connect(port), FRAME)
    before = resident_bytes(process.pid)
    begin = time.perf_counter()
    clients = [connect(port) for _ in range(count)]
    exchange(clients[-1], FRAME)
    taken = time.perf_counter() - begin
    return clients, taken, (resident_bytes(process.pid) - before) / count


def idle(process: subprocess.Popen[str], port: int, count: int) -> None:
    """Open many connections and leave them alone."""
    clients, taken, grown = open_many(process, port, count)
    print(f"idle    {count} connections: {count / taken:,.0f} accepted/s, {grown:,.0f} bytes each")
    print(f"        a ping beside them   {quantiles(pings(port, 1))}")
    for client in clients:
        client.close()


def active(port: int, pid: int) -> None:
    """A thousand connections that ask and wait."""
    run = run_load(Server("echo", port, pid), 1000, FRAME, 3)
    print(f"active  1000 connections: {run.rate:,.0f} req/s", end="")
    print(f"  p50 {run.p50:.0f} µs  p99 {run.p99:.0f} µs  p99.9 {run.p999:.0f} µs")


def beside(port: int, what: str, misbehave, count: int = 1) -> None:
    """A ping beside ``count`` connections that run ``misbehave``."""
    stop = threading.Event()
    threads = [threading.Thread(target=misbehave, args=(port, stop)) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    print(f"        {what:20} {quantiles(pings(port, 3))}")
    stop.set()
    for thread in threads:
        thread.join()


def flood(port: int, stop: threading.Event) -> None:
    """Send without waiting; read what comes, so that nothing stalls."""
    client = connect(port)
    client.setblocking(False)
    burst, sent = FRAME * 1000, 0
    while not stop.is_set():
        try:
            sent = (sent + client.send(memoryview(burst)[sent:])) % len(burst)
        except BlockingIOError:
            time.sleep(0.0005)
        try:
            while client.recv(1 << 20):
                pass
        except BlockingIOError:
            pass
    client.close()


def slow_reader(port: int, stop: threading.Event) -> None:
    """Ask for 1 MB and read 10 KB every 10 ms."""
    client = connect(port)
    while not stop.is_set():
        client.sendall(BIG)
        left = 1_000_004
        while left and not stop.is_set():
            left -= len(client.recv(min(left, 10_000)))
            time.sleep(0.01)
    client.close()


def huge_rate(client: socket.socket, seconds: float) -> float:
    """Read a response in progress for a while; MB/s."""
    received, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        received += len(client.recv(10_000))
        time.sleep(0.0001)
    return received / seconds / 1e6


def full_queue(port: int, seconds: float) -> None:
    """A response in progress goes on while no request gets any further."""
    reader = connect(port)
    reader.sendall(HUGE)
    alone = huge_rate(reader, 2)
    holders = [connect(port) for _ in range(200)]
    for client in holders:
        client.sendall(HOLD)
    time.sleep(0.3)
    beside = huge_rate(reader, seconds)
    print(
        f"full    a response flows at {alone:,.0f} MB/s alone, at {beside:,.0f} MB/s while", end=""
    )
    print(f" 8 handlers, 20 queued and 172 waiting requests stand still for {seconds:.0f} s")
    for client in [*holders, reader]:
        client.close()


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server's process and its port."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Measure, or (``--serve``) be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--idle", type=int, default=10_000)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    with serving() as (process, port):
        idle(process, port, options.idle)
        active(port, process.pid)
        print(f"flood   ping alone           {quantiles(pings(port, 3))}")
        beside(port, "beside a flood", flood)
        print(f"reader  ping alone           {quantiles(pings(port, 3))}")
        beside(port, "beside 20 slow ones", slow_reader, count=20)
        full_queue(port, 10)


if __name__ == "__main__":
    main()
