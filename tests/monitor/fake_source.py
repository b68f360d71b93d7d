"""A server that tells what a test wants, when a test wants."""

from __future__ import annotations

import trio

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.http_client import SourceError
from trio_kafka_net.monitor.snapshot import Snapshot

STARTED_AT = 1_000_000.0


def snapshot(seconds, *, started_at=STARTED_AT):
    """A server that was started at ``started_at`` and is asked ``seconds`` into the test."""
    requests = {(("plane", "data"), ("request", "Fetch"), ("version", "12")): 10 * seconds}
    samples = {
        names.PROCESS_START_TIME.name: {(): started_at},
        names.REQUESTS.name: requests,
    }
    return Snapshot(STARTED_AT + 60 + seconds, seconds, samples)


class FakeSource:
    """A source; ``is_reachable``, ``started_at`` and ``delay`` may change at any time."""

    name = "fake:9404"
    is_live = True
    shares_event_loop = False

    def __init__(self):
        self.is_reachable = True
        self.started_at = STARTED_AT
        self.delay = 0.0
        self.asked_at = []
        self.needs = []
        self.is_closed = False

    def past(self):
        return ()

    async def take(self, needs):
        self.asked_at.append(trio.current_time())
        self.needs.append(needs)
        await trio.sleep(self.delay)
        if not self.is_reachable:
            raise SourceError("cannot read http://fake:9404: connection refused")
        return snapshot(trio.current_time(), started_at=self.started_at)

    async def aclose(self):
        self.is_closed = True
