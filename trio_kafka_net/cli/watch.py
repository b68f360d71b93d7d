"""The console monitor over a broker of this process, for ``broker --monitor`` and ``demo``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_kafka_net.broker_server import Broker


def can_watch() -> bool:
    """Whether there is a terminal that a screen can be drawn on."""
    from rich.console import Console

    # There is no standard output at all if whoever started the program closed it.
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return is_terminal and not Console().is_dumb_terminal


async def watch(broker: Broker) -> None:
    """Show what ``broker`` does until somebody quits; what is logged waits until then.

    Cancellation: the terminal is as it was.
    """
    from trio_kafka_net.monitor.app import run_monitor
    from trio_kafka_net.monitor.sources import InProcessSource

    from .held_logs import logs_held

    with logs_held():
        async with trio.open_nursery() as nursery:
            if broker.config.metrics_address is None:
                # With a metrics endpoint that is done already.
                await nursery.start(broker.observatory.run)
            await run_monitor(InProcessSource(broker.observatory))
            nursery.cancel_scope.cancel()
