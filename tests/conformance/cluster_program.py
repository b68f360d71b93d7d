"""Several brokers over one store, as a program of its own that does what it is told.

``python -m tests.conformance.cluster_program DATA_DIR``, and ``KEY=VALUE`` for any of Kafka's keys.

When it serves it writes ``{"1": "host:port", ...}``: the data planes by node id. Then it reads
commands from standard input, a line each, and answers each with a line when it is done:

* ``kill N``, ``stop N`` (in an orderly way), ``start N``: a broker, at the ports that it always had
* ``hold N``, ``release N``: its replicas stay where they are; they follow again

It stops in an orderly way at the end of standard input.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import attrs
import trio

from trio_kafka_net.cluster import Cluster, serve_cluster
from trio_kafka_net.config import BrokerConfig

BROKERS = 3

# Below the ports that a system gives to whoever connects: while a broker is away nobody takes the
# one that it will want again, least of all its own clients.
_PORTS = range(20_000, 30_000)


def _config(options: argparse.Namespace, port: int) -> BrokerConfig:
    keys = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}",
        "control.plane.listener.name": "CONTROLLER",
        "log.dirs": options.data_dir,
        "default.replication.factor": str(BROKERS),
        "offsets.topic.replication.factor": str(BROKERS),
        "offsets.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "trio.graceful.timeout.ms": "1000",
    }
    keys.update(each.split("=", 1) for each in options.overrides)
    config, _ = BrokerConfig.from_properties(keys)
    return config


async def _serve(options: argparse.Namespace, nursery: trio.Nursery) -> Cluster:
    """Have a cluster wherever there is room for it."""
    while True:
        try:
            return await nursery.start(
                serve_cluster, _config(options, random.choice(_PORTS)), BROKERS
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


@attrs.define(eq=False)
class _Commands:
    cluster: Cluster
    held: dict[int, AbstractContextManager[None]] = attrs.field(factory=dict)

    async def carry_out(self, command: str, node_id: int) -> None:
        match command:
            case "hold":
                self.held[node_id] = self.cluster.hold_back(node_id)
                self.held[node_id].__enter__()
            case "release":
                self.held.pop(node_id).__exit__(None, None, None)
            case "kill" | "stop" | "start":
                await getattr(self.cluster, command)(node_id)
            case _:
                raise ValueError(command)


async def _lines(fd: int) -> AsyncIterator[str]:
    pending = b""
    async with trio.lowlevel.FdStream(os.dup(fd)) as stream:
        async for chunk in stream:
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                yield line.decode()


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


async def _run(options: argparse.Namespace) -> None:
    async with trio.open_nursery() as nursery:
        cluster = await _serve(options, nursery)
        _say({node_id: each.bootstrap_servers for node_id, each in cluster.brokers.items()})
        commands = _Commands(cluster)
        async for line in _lines(sys.stdin.fileno()):
            command, _, node_id = line.partition(" ")
            await commands.carry_out(command, int(node_id))
            _say("done")
        cluster.request_stop()


def main() -> None:
    """Run until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir")
    parser.add_argument("overrides", nargs="*")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    trio.run(_run, parser.parse_args())


if __name__ == "__main__":
    main()
