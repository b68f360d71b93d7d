"""What a cluster survives: brokers that hang, fail, and come and go while others do."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import trio

from trio_kafka_net.broker import cluster_state
from trio_kafka_net.cluster import open_cluster
from trio_kafka_net.errors import FatalExitError, LocalProtocolError

from .test_cluster import a_config, lab, leader_of, make, state


@pytest.fixture
async def cluster():
    async with open_cluster(a_config()) as opened:
        yield opened


@contextmanager
def hanging(broker):
    """A broker whose control plane takes requests and answers none, for the time of a block."""
    pool = broker.socket_server.control_plane.handler_pool
    handle, end = pool._handle, trio.Event()

    async def wait_and_handle(request):
        await end.wait()
        await handle(request)

    pool._handle = wait_and_handle
    yield
    pool._handle = handle
    end.set()


async def test_brokers_come_and_go_beside_one_that_hangs(cluster, monkeypatch):
    monkeypatch.setattr(cluster_state, "DELIVERY_SECONDS", 0.01)
    await make(cluster)
    with hanging(cluster.brokers[2]):
        await cluster.kill(1)
        assert state(cluster).leader_id == 2
        await cluster.start(1)
        await cluster.kill(3)

    assert list(cluster.brokers) == [2, 1]
    await make(cluster, "later", (2,))
    assert (await lab(cluster, 2).produce("t")).error_code == 0


async def test_broker_that_does_not_answer_itself_is_not_in_the_cluster(cluster, monkeypatch):
    await make(cluster)
    await cluster.kill(2)
    monkeypatch.setattr(cluster_state, "DELIVERY_SECONDS", 0.01)
    new_broker = cluster._new_broker

    def new_broker_that_hangs(node_id):
        broker = new_broker(node_id)
        hanging(broker).__enter__()
        return broker

    monkeypatch.setattr(cluster, "_new_broker", new_broker_that_hangs)

    with pytest.raises(ExceptionGroup) as raised:
        await cluster.start(2)

    assert "REQUEST_TIMED_OUT" in str(raised.value.exceptions)
    assert list(cluster.brokers) == [1, 3]
    assert state(cluster).isr == (1, 3)


async def test_broker_can_be_started_as_soon_as_it_is_dead(cluster):
    await make(cluster, "t", (2, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cluster.kill, 2)
        while 2 in cluster.brokers:
            await trio.lowlevel.checkpoint()
        await cluster.start(2)

    assert (state(cluster).leader_id, state(cluster).isr) == (1, (1, 2))
    await cluster.kill(2)
    assert state(cluster).isr == (1,)


@pytest.mark.parametrize("turns", [0, 5, 20, 35, 50])
async def test_broker_may_die_while_it_starts(cluster, turns):
    await make(cluster, "t", (2,))
    await cluster.kill(2)
    outcomes = []

    async def start():
        try:
            outcomes.append(await cluster.start(2))
        except LocalProtocolError as error:
            outcomes.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        while 2 not in cluster.brokers and not outcomes:
            await trio.lowlevel.checkpoint()
        await cluster.kill(2)

    assert len(outcomes) == 1
    assert await leader_of(cluster) == -1
    await cluster.start(2)
    assert await leader_of(cluster) == 2


@pytest.mark.parametrize("turns", [0, 5, 14, 20, 35, 50])
async def test_broker_whose_start_is_cancelled_leads_nothing(cluster, turns):
    await make(cluster, "t", (2,))
    await cluster.kill(2)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.start, 2)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            scope.cancel()

    assert state(cluster).leader_id == (2 if 2 in cluster.brokers else -1)
    if 2 not in cluster.brokers:
        await cluster.start(2)
    assert await leader_of(cluster) == 2


def fails_when(cluster, monkeypatch, event, error):
    """Have the brokers that are started from now on fail with ``error`` after ``event``."""
    new_broker = cluster._new_broker

    async def run_services(*, task_status):
        task_status.started()
        await event.wait()
        raise error

    def new_broker_that_fails(node_id):
        broker = new_broker(node_id)
        monkeypatch.setattr(broker.local, "run_services", run_services)
        return broker

    monkeypatch.setattr(cluster, "_new_broker", new_broker_that_fails)


async def test_broker_that_fails_takes_nobody_with_it_and_is_not_hushed_up(monkeypatch, caplog):
    error = ValueError("broken")
    event = trio.Event()
    with pytest.raises(ExceptionGroup) as raised:
        async with open_cluster(a_config()) as cluster:
            await make(cluster, "t", (3, 1))
            await cluster.kill(3)
            fails_when(cluster, monkeypatch, event, error)
            await cluster.start(3)
            event.set()
            while 3 in cluster.brokers:
                await trio.sleep(0)
            assert state(cluster).isr == (1,)
            assert (await lab(cluster, 1).produce("t")).error_code == 0
            assert "broker 3 failed" in caplog.text

    assert raised.value.subgroup(lambda each: each is error)


@pytest.mark.parametrize("error", [FatalExitError("broken"), MemoryError("broken")])
async def test_what_is_fatal_ends_all_brokers(monkeypatch, error):
    event = trio.Event()
    with pytest.raises(ExceptionGroup) as raised:
        async with open_cluster(a_config()) as cluster:
            await cluster.kill(3)
            fails_when(cluster, monkeypatch, event, error)
            await cluster.start(3)
            event.set()
            await trio.sleep_forever()

    assert raised.value.subgroup(lambda each: each is error)


async def test_cluster_ends_when_its_last_broker_has_failed(monkeypatch):
    event = trio.Event()
    with pytest.raises(ExceptionGroup):
        async with open_cluster(a_config(), 1) as cluster:
            await cluster.kill(1)
            fails_when(cluster, monkeypatch, event, ValueError("broken"))
            await cluster.start(1)
            event.set()
            await cluster._stop_requested.wait()


async def test_nobody_takes_over_when_all_of_it_is_cut(tmp_path):
    """Or the last to die would lead everything at the next start."""
    config = a_config(trio_in_memory=False, log_dirs=(tmp_path,))
    with trio.CancelScope() as scope:
        async with open_cluster(config) as cluster:
            await make(cluster)
            scope.cancel()
            await trio.sleep_forever()

    async with open_cluster(config) as cluster:
        assert (state(cluster).leader_id, state(cluster).isr) == (1, (1, 2, 3))
