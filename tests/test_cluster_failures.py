"""What a cluster survives: brokers that fail, and die in every moment of their start."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import trio

from trio_kafka_net import cluster as cluster_module
from trio_kafka_net.cluster import open_cluster
from trio_kafka_net.errors import FatalExitError, LocalProtocolError

from .test_cluster import a_config, lab, leader_of, make, state


@pytest.fixture
async def cluster():
    async with open_cluster(a_config()) as opened:
        yield opened


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


# Ports that are in use


@contextmanager
def no_port_for(node_id, monkeypatch):
    """The brokers that get one, while those with this node id do not."""
    made = []

    def bind(local, apis):
        if local.node_id == node_id:
            raise OSError("address in use")
        made.append(bound(local, apis))
        return made[-1]

    bound = cluster_module.Broker
    with monkeypatch.context() as patch:
        patch.setattr(cluster_module, "Broker", bind)
        yield made


async def test_cluster_that_finds_no_port_gives_everything_back(tmp_path, monkeypatch):
    config = a_config(trio_in_memory=False, log_dirs=(tmp_path,))
    with no_port_for(3, monkeypatch) as made, pytest.raises(OSError, match="in use"):
        async with open_cluster(config):
            pass

    assert len(made) == 2
    for broker in made:
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", broker.bound_listeners[0].port)
    async with open_cluster(config) as cluster:
        await make(cluster)


async def test_broker_that_finds_no_port_does_not_run_and_hears_of_nothing(cluster, monkeypatch):
    await make(cluster)
    await cluster.kill(2)
    with no_port_for(2, monkeypatch), pytest.raises(OSError, match="in use"):
        await cluster.start(2)

    assert list(cluster.brokers) == [1, 3]
    local = cluster.brokers[1].local
    assert len(local.dynamic_config._shared.members) == 2
    assert len(local.quotas._shared.members) == 2
    assert len(local.store.followers.on_release) == 2
    await cluster.start(2)
    assert state(cluster).isr == (1, 3, 2)
