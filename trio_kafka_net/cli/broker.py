"""``broker``: run a broker until it is told to stop.

Scripts rely on standard output: one ``listening`` line per listener, then ``ready``; everything
else goes to standard error. The first SIGTERM or SIGINT starts a graceful stop, a second one cuts
it short.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, cast

import attrs
import click
import trio

from trio_kafka_net.cli.garbage import ShortCollections
from trio_kafka_net.cli.stop_signals import stop_signals
from trio_kafka_net.cli.watch import can_watch, watch
from trio_kafka_net.config import BrokerConfig, Endpoint, read_properties
from trio_kafka_net.errors import ConfigError

if TYPE_CHECKING:
    from trio_kafka_net.broker_server import BoundListener, Broker
    from trio_kafka_net.cluster import Cluster

DEFAULT_LISTENER = "PLAINTEXT://127.0.0.1:9092"
"""The data plane of a broker that is not told otherwise."""
DEFAULT_CONTROL_PLANE_LISTENER = "CONTROLLER://127.0.0.1:9090"
"""The control plane of a broker that is told nothing of listeners."""
DEFAULT_METRICS_LISTENER = "127.0.0.1:9404"
"""The metrics endpoint of a broker that is not told otherwise."""

_log = logging.getLogger(__name__)


@click.command()
@click.argument(
    "properties", metavar="[server.properties]", required=False, type=click.Path(dir_okay=False)
)
@click.option(
    "--listener",
    "listeners",
    metavar="NAME://host:port",
    multiple=True,
    help="Listen there, in place of `listeners`; may be given several times.",
)
@click.option(
    "--control-plane-listener",
    metavar="NAME://host:port",
    help="Make this listener the control plane.",
)
@click.option("--data-dir", metavar="DIR", help="Keep the data there, in place of `log.dirs`.")
@click.option("--in-memory", is_flag=True, help="Keep the data in memory; it is gone at the end.")
@click.option(
    "--override", "overrides", metavar="key=value", multiple=True, help="Set any Kafka key."
)
@click.option(
    "--metrics",
    metavar="host:port|off",
    help="Where to serve metrics and the monitor over HTTP, in place of `trio.metrics.listener`; "
    f"{DEFAULT_METRICS_LISTENER} if nobody says.",
)
@click.option(
    "--brokers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Run so many brokers in this process, over one data directory. Node ids go up by one from "
    "`node.id`, fixed ports by ten; `listening` lines come in the order of the brokers.",
)
@click.option("--durable", is_flag=True, help="Acknowledge a record when it is on the disk.")
@click.option(
    "--monitor",
    is_flag=True,
    help="Show the console monitor on the terminal; `q` there stops the broker.",
)
def broker(
    properties: str | None,
    listeners: tuple[str, ...],
    control_plane_listener: str | None,
    data_dir: str | None,
    in_memory: bool,
    overrides: tuple[str, ...],
    metrics: str | None,
    brokers: int,
    durable: bool,
    monitor: bool,
) -> None:
    """Run a broker.

    Without arguments: PLAINTEXT://127.0.0.1:9092, CONTROLLER://127.0.0.1:9090 as control plane,
    metrics on 127.0.0.1:9404, data in ./trio-kafka-net-data. Names and values in server.properties
    are Kafka's.
    """
    if in_memory and data_dir is not None:
        raise click.UsageError("--in-memory and --data-dir exclude each other")
    if monitor:
        _require_one_screen(brokers)
    keys = read_properties(properties) if properties is not None else {}
    keys.update(map(_split_override, overrides))
    if data_dir is not None:
        keys["log.dirs"] = data_dir
    if in_memory:
        keys["trio.in.memory"] = "true"
    if metrics is not None:
        keys["trio.metrics.listener"] = metrics
    keys.setdefault("trio.metrics.listener", DEFAULT_METRICS_LISTENER)
    if durable:
        keys["log.flush.interval.messages"] = "1"
    config, warnings = BrokerConfig.from_properties(
        with_listeners(keys, listeners, control_plane_listener)
    )
    for warning in warnings:
        _log.warning("%s", warning)
    trio.run(run_broker, config, brokers, monitor)


def _require_one_screen(brokers: int) -> None:
    if brokers != 1:
        raise click.UsageError("--monitor shows one broker; use `trio-kafka-net monitor` for each")
    if not can_watch():
        raise click.UsageError("--monitor needs a terminal")


def _split_override(override: str) -> tuple[str, str]:
    key, separator, value = override.partition("=")
    if not separator:
        raise ConfigError(f"--override {override}: must be key=value")
    return key.strip(), value


def with_listeners(
    keys: dict[str, str], listeners: tuple[str, ...], control_plane: str | None
) -> dict[str, str]:
    """Add the listeners of the command line to the keys of the file.

    Args:
        keys: {key: text} so far.
        listeners: endpoints in place of the file's; empty keeps those.
        control_plane: endpoint of the control plane, or None.

    Returns:
        The keys with ``listeners``, and ``control.plane.listener.name`` if there is one. Nothing
        said anywhere is the pair of default endpoints; whoever names listeners gets only those.

    Raises:
        ConfigError: ``control_plane`` is no endpoint.
    """
    if not listeners and "listeners" in keys:
        listeners = (keys["listeners"],)
    elif not listeners:
        listeners = (DEFAULT_LISTENER,)
        if control_plane is None and "control.plane.listener.name" not in keys:
            control_plane = DEFAULT_CONTROL_PLANE_LISTENER
    if control_plane is None:
        return {**keys, "listeners": ",".join(listeners)}
    name = Endpoint.parse(control_plane, "--control-plane-listener").name
    others = [
        text
        for text in ",".join(listeners).split(",")
        if text.strip().partition("://")[0].upper() != name
    ]
    return {
        **keys,
        "listeners": ",".join([*others, control_plane]),
        "control.plane.listener.name": name,
    }


async def run_broker(config: BrokerConfig, brokers: int = 1, monitor: bool = False) -> None:
    """Run a broker, or several, announce the listeners, stop on signals.

    Args:
        config: of the first broker.
        brokers: how many.
        monitor: whether to show the console monitor, of one broker; its end is that of the broker.

    Raises:
        ConfigError: the configuration cannot work.
        StorageError: the data directory cannot be used.
        OSError: a listener's address cannot be bound.

    Cancellation: cuts requests in hand short; nothing acknowledged is lost.
    """
    with ShortCollections() as collections, trio.open_signal_receiver(*stop_signals()) as signals:
        async with trio.open_nursery() as nursery:
            stop = _StopOnSignal(nursery.cancel_scope)
            nursery.start_soon(stop.run, signals)
            stop.broker = await nursery.start(_serve, config, brokers, nursery.cancel_scope)
            collections.settle()
            announce(stop.broker.bound_listeners)
            if monitor:
                await watch(cast("Broker", stop.broker))
                stop.stop("monitor")


def announce(listeners: Iterable[BoundListener]) -> None:
    """Print what scripts wait for: a line per listener, metrics endpoints last, then ``ready``.

    Args:
        listeners: those that accept connections now.
    """
    for listener in sorted(listeners, key=lambda each: each.plane == "metrics"):
        host = f"[{listener.host}]" if ":" in listener.host else listener.host
        click.echo(f"listening {listener.name} {host}:{listener.port} {listener.plane}")
    click.echo("ready")
    sys.stdout.flush()


async def _serve(
    config: BrokerConfig,
    brokers: int,
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[Broker | Cluster],
) -> None:
    if brokers == 1:
        from trio_kafka_net.broker_server import serve_broker

        await serve_broker(config, task_status=task_status)
    else:
        from trio_kafka_net.cluster import serve_cluster

        await serve_cluster(config, brokers, task_status=task_status)
    everything.cancel()


@attrs.define
class _StopOnSignal:
    """The first signal stops the broker gracefully; the next one, or one at the start, at once."""

    everything: trio.CancelScope
    """Ends the program."""
    broker: Broker | Cluster | None = None
    """The broker once it serves."""

    is_stopping: bool = False
    """Whether it was told to stop."""

    async def run(self, signals: AsyncIterator[int]) -> None:
        """Do so until cancelled.

        Cancellation: safe.
        """
        async for number in signals:
            self.stop(signal.Signals(number).name)

    def stop(self, why: str) -> None:
        """Stop gracefully, or at once if that goes on already."""
        if self.broker is None or self.is_stopping:
            _log.warning("%s: stopping at once", why)
            self.everything.cancel()
        else:
            _log.info("%s: stopping", why)
            self.is_stopping = True
            self.broker.request_stop()
