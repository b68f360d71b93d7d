"""`demo`: everything it promises happens, over real sockets, in a few seconds."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.terminal import ENTER_SCREEN, LEAVE_SCREEN, Terminal
from trio_kafka_net import BrokerConfig, open_broker
from trio_kafka_net.cli.demo_figures import Figures
from trio_kafka_net.cli.demo_member import GroupMember
from trio_kafka_net.cli.demo_traffic import run_traffic
from trio_kafka_net.protocol.messages import (
    CreateTopicsRequest,
    ProduceRequest,
)
from trio_kafka_net.protocol.records import Record, build_batch
from trio_kafka_net.testing.client import RawClient

CONFIG = BrokerConfig(
    listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
    control_plane_listener_name="CONTROLLER",
    group_initial_rebalance_delay_ms=0,
    trio_in_memory=True,
)


@pytest.fixture
def no_nohup():
    """Programs can be told that a terminal hung up, also if whoever runs the tests cannot."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def locked_by(pid):
    """Lock files of data directories that a process has, where the system tells."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(descriptor.readlink())
    return [path for path in found if path.name == ".lock"]


def port_of(broker, plane):
    (port,) = (listener.port for listener in broker.bound_listeners if listener.plane == plane)
    return port


@pytest.mark.slow
def test_without_a_terminal_there_is_a_line_per_second_and_a_summary():
    done = subprocess.run(
        [sys.executable, "-m", "trio_kafka_net", "demo", "--seconds", "2", "--rate", "2000"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(
        r"data plane on 127\.0\.0\.1:\d+, control plane on 127\.0\.0\.1:\d+, 2 s", lines[0]
    )
    assert [" 1 s", " 2 s"] == [line[2:6] for line in lines[2:4]]
    assert ["produced", "consumed", "produce", "control"] == [line.split()[0] for line in lines[4:]]
    assert "control plane  p50" in lines[-1]
    assert " INFO " not in done.stderr, "the log is not what there is to read"


@pytest.mark.slow
@pytest.mark.usefixtures("no_nohup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_early_with_the_summary_and_without_a_trace(number):
    with subprocess.Popen(
        [sys.executable, "-m", "trio_kafka_net", "demo", "--seconds", "60", "--rate", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        lines = [demo.stdout.readline() for _ in range(3)]
        data = locked_by(demo.pid)
        demo.send_signal(number)
        output, errors = demo.communicate(timeout=30)

    assert 0 == demo.returncode, errors
    assert " 1 s" == lines[-1][2:6]
    assert "control plane  p50" in output
    assert "Traceback" not in errors
    assert not [path for path in data if path.exists()], "the data is gone"


@pytest.mark.slow
def test_on_a_terminal_the_monitor_is_on_top_and_the_summary_comes_when_it_is_left():
    screen = Terminal("demo", "--rate", "2000")
    try:
        screen.wait_for(ENTER_SCREEN, "● LIVE", "orders-sink", "clicks-agg")
        screen.type("q")

        assert 0 == screen.wait()
        after = screen.output.partition(LEAVE_SCREEN)[2]
        assert "produced " in after
        assert "control plane  p50" in after
        assert screen.found == screen.modes()
    finally:
        screen.close()


@pytest.mark.slow
async def test_traffic_keeps_both_planes_busy_and_topics_come_and_go(nursery):
    figures = Figures()
    seen = set()
    async with open_broker(CONFIG) as broker:
        ports = port_of(broker, "data"), port_of(broker, "control")
        async with trio.open_nursery() as traffic:
            traffic.start_soon(run_traffic, *ports, 5_000, figures)
            with trio.fail_after(30):
                while not seen >= {"job-1", "job-2"} or not figures.consumed:
                    seen |= {topic.name for topic in broker.local.metadata}
                    await trio.sleep(0.05)
            groups = {group.group_id for group in broker.local.groups.all()}
            topics = {topic.name for topic in broker.local.metadata}
            traffic.cancel_scope.cancel()

    assert {"orders-sink", "clicks-agg"} == groups
    assert topics >= {"orders", "clicks", "audit", "imports", "job-2"}
    assert "job-1" not in topics
    assert figures.produced
    assert figures.control_ns


@pytest.mark.slow
async def test_members_share_the_partitions_and_take_over_from_each_other():
    counted = []
    async with open_broker(CONFIG) as broker:
        port = port_of(broker, "data")
        async with (
            await RawClient.connect("127.0.0.1", port) as first,
            await RawClient.connect("127.0.0.1", port) as second,
            await RawClient.connect("127.0.0.1", port) as producer,
        ):
            topic = CreateTopicsRequest.CreatableTopic(
                name="t", num_partitions=4, replication_factor=1
            )
            await producer.request(CreateTopicsRequest(topics=[topic]), 5)
            stays = GroupMember(first, "g", "t", 4, counted.append)
            leaves = GroupMember(second, "g", "t", 4, counted.append)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stays.run)
                with trio.fail_after(30):
                    while len(stays.positions) < 4:
                        await trio.sleep(0.01)
                    await leaves.run(0)
                    assert 2 == len(leaves.positions)
                    while len(stays.positions) < 4:
                        await trio.sleep(0.01)
                    await produce(producer, partition=3, records=7)
                    while sum(counted) < 7:
                        await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

    assert 7 == stays.positions[3]


async def produce(client, *, partition, records):
    batch = build_batch([Record(timestamp=0, value=b"x")] * records)
    data = ProduceRequest.PartitionProduceData(index=partition, records=batch)
    topic = ProduceRequest.TopicProduceData(name="t", partition_data=[data])
    request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic])
    await client.request(request, 9)


def test_a_summary_is_about_the_whole_run():
    total, second = Figures(), Figures(produced=300, consumed=20, produce_ns=[1_000_000])
    total.add(second)
    second.clear()
    total.add(Figures(produced=300, produce_ns=[3_000_000], control_ns=[500_000]))

    assert [
        "produced       600 records of 100 bytes, 300 records/s, 0.0 MB/s",
        "consumed       20 records",
        "produce        p50 1.00 ms, p99 3.00 ms",
        "control plane  p50 0.50 ms, p99 0.50 ms (Metadata, ten a second)",
    ] == total.summary(2)
    assert 0 == second.produced


def test_a_reader_that_has_seen_enough_is_no_failure():
    command = f"{sys.executable} -m trio_kafka_net demo --seconds 5 | head -n 1"
    done = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode
    assert "Traceback" not in done.stderr
