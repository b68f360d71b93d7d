"""``demo``: a broker, clients that keep both of its planes busy, and what can be seen of it.

Everything is in one process, but the clients talk to the broker over sockets, as others would. On a
terminal the console monitor is on top; without one there is a line per second, then a summary.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import click
import trio

from trio_kafka_net.cli.demo_figures import Figures
from trio_kafka_net.cli.demo_traffic import run_traffic
from trio_kafka_net.cli.stop_signals import stop_signals
from trio_kafka_net.cli.watch import can_watch, watch
from trio_kafka_net.config import BrokerConfig

_MIB = 1024 * 1024


@click.command()
@click.option(
    "--seconds",
    type=click.IntRange(min=1),
    help="How long; 60 on a terminal, otherwise 10.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Records per second, about.",
)
@click.option("--no-monitor", is_flag=True, help="Lines instead of the console monitor.")
def demo(seconds: int | None, rate: int, no_monitor: bool) -> None:
    """Run a broker with traffic on both planes, and watch it."""
    # Groups rebalance and topics come and go all the time here: that is to be seen, not to be read.
    logging.getLogger().setLevel(logging.WARNING)
    if seconds is None:
        seconds = 60 if can_watch() else 10
    figures, shown = trio.run(run_demo, seconds, rate, can_watch() and not no_monitor)
    for line in figures.summary(shown):
        click.echo(line)


async def run_demo(seconds: int, rate: int, monitor: bool = False) -> tuple[Figures, float]:
    """Run the broker and its clients, under the monitor or with a line per second.

    A signal to stop ends it early.

    Args:
        seconds: how long.
        rate: records produced per second, about.
        monitor: whether to show the console monitor, which may be left before that.

    Returns:
        What was counted, and the seconds in which it was.

    Cancellation: clients and broker are ended; the data is gone.
    """
    from trio_kafka_net.broker_server import open_broker

    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
        control_plane_listener_name="CONTROLLER",
        group_initial_rebalance_delay_ms=500,
        # It may run for hours: what is kept must not depend on that.
        log_segment_bytes=8 * _MIB,
        log_retention_bytes=16 * _MIB,
        log_retention_check_interval_ms=10_000,
        trio_in_memory=True,
        trio_metrics_listener="127.0.0.1:0",
    )
    current, total = Figures(), Figures()
    with trio.open_signal_receiver(*stop_signals()) as signals:
        async with open_broker(config) as broker:
            ports = {listener.plane: listener.port for listener in broker.bound_listeners}
            planes = (f"{plane} plane on 127.0.0.1:{ports[plane]}" for plane in ("data", "control"))
            click.echo(f"{', '.join(planes)}, {seconds} s")
            click.echo(f"watch it: trio-kafka-net monitor 127.0.0.1:{ports['metrics']}")
            begin = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_traffic, ports["data"], ports["control"], rate, current)
                with trio.CancelScope() as showing:
                    nursery.start_soon(_end_early, signals, showing)
                    if monitor:
                        with trio.move_on_after(seconds):
                            await watch(broker)
                    else:
                        await _print_every_second(seconds, current, total)
                nursery.cancel_scope.cancel()
            total.add(current)
            return total, trio.current_time() - begin


async def _end_early(signals: AsyncIterator[int], showing: trio.CancelScope) -> None:
    async for _ in signals:
        showing.cancel()


async def _print_every_second(seconds: int, current: Figures, total: Figures) -> None:
    begin = trio.current_time()
    for second in range(1, seconds + 1):
        await trio.sleep_until(begin + second)
        click.echo(current.line(second))
        total.add(current)
        current.clear()
