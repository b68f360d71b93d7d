"""A whole broker: it starts as a whole or not at all, and leaves nothing behind."""

import errno
import os
import socket

import pytest
import trio

from trio_kafka_net.apis import cluster
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.local_broker import wall_clock_ms
from trio_kafka_net.broker.log import data_dir
from trio_kafka_net.broker_server import open_broker, serve_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ApiVersionsRequest, MetadataRequest
from trio_kafka_net.testing.client import ConnectionClosedError, RawClient

from .apis.lab import Lab, a_batch, a_fetch, a_produce
from .cancelling import cancelled_at

FREE = "PLAINTEXT://127.0.0.1:0"
CONTROL = "CONTROLLER://127.0.0.1:0"


def a_config(directory=None, *, listeners=(FREE,), **settings):
    stored = {"trio_in_memory": True} if directory is None else {"log_dirs": (directory,)}
    return BrokerConfig(listeners=listeners, num_network_threads=1, **stored, **settings)


@pytest.fixture(autouse=True)
def memory(tmp_path_factory, monkeypatch):
    """A place for data in memory that no other process uses."""
    memory = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(data_dir, "_SHARED_MEMORY", memory)
    return memory


def belongings(memory):
    """What a process may leave behind: open files and sockets, directories in memory."""
    files = sorted(
        name
        for fd in os.listdir("/proc/self/fd")
        if (name := link_of(fd)) and not name.startswith(("anon_inode", "/proc"))
    )
    return files, sorted(each.name for each in memory.iterdir())


def link_of(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the directory that is being listed
        return None


def occupied():
    """A socket that listens, so that its port is in use."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# Start and stop


async def test_broker_serves_for_the_time_of_the_block_and_leaves_nothing(tmp_path, memory):
    before = belongings(memory)
    async with open_broker(a_config(tmp_path, listeners=(FREE,))) as broker:
        (listener,) = broker.bound_listeners
        assert (listener.name, listener.host, listener.plane) == ("PLAINTEXT", "127.0.0.1", "data")
        assert broker.bootstrap_servers == f"127.0.0.1:{listener.port}"
        assert (await Lab(broker).ask(MetadataRequest(), 1)).brokers[0].port == listener.port

    assert is_free(listener.port)
    assert belongings(memory) == before


async def test_data_in_memory_is_gone_with_the_broker(memory):
    before = belongings(memory)
    async with open_broker(a_config()) as broker:
        await broker.local.controller.create_topic("t")
        assert len(belongings(memory)[1]) == len(before[1]) + 1

    assert belongings(memory) == before


async def test_listeners_are_bound_and_advertised_in_their_order():
    config = a_config(
        listeners=(CONTROL, FREE, "OTHER://127.0.0.1:0"),
        control_plane_listener_name="controller",
        advertised_listeners=("OTHER://example.org:1234",),
        listener_security_protocol_map={"OTHER": "PLAINTEXT"},
    )
    async with open_broker(config) as broker:
        told = [(each.name, each.plane) for each in broker.bound_listeners]
        assert told == [("CONTROLLER", "control"), ("PLAINTEXT", "data"), ("OTHER", "data")]
        lab = Lab(broker)
        async with await RawClient.connect("127.0.0.1", broker.bound_listeners[2].port) as client:
            (here,) = (await client.request(MetadataRequest(), 1)).brokers
        assert (here.host, here.port) == ("example.org", 1234)
        assert broker.bootstrap_servers == f"127.0.0.1:{lab.port()}"


async def test_exception_in_the_block_stops_the_broker_and_comes_out(memory):
    before = belongings(memory)
    with pytest.raises(ExceptionGroup) as raised:
        async with open_broker(a_config()):
            raise KeyError("mine")

    assert raised.group_contains(KeyError, match="mine", depth=1)
    assert belongings(memory) == before


async def test_serve_broker_returns_when_it_was_asked_to_stop(nursery):
    broker = await nursery.start(serve_broker, a_config())
    assert (await Lab(broker).ask(ApiVersionsRequest(), 0)).error_code == 0

    broker.request_stop()
    broker.request_stop()


async def test_broker_serves_what_it_is_given():
    async with open_broker(a_config(), KafkaApis()) as broker:
        with pytest.raises(ConnectionClosedError):
            await Lab(broker).ask(ApiVersionsRequest(), 0)


async def test_several_brokers_live_side_by_side():
    apis = KafkaApis.default()
    async with open_broker(a_config(), apis) as first, open_broker(a_config(), apis) as second:
        await first.local.controller.create_topic("t")
        await Lab(first).produce("t")

        assert (await Lab(second).produce("t")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await second.local.controller.create_topic("t", partitions=3)
        assert (await Lab(second).produce("t")).base_offset == 0
        assert first.local.cluster_id != second.local.cluster_id


async def test_stop_answers_a_parked_fetch_at_once():
    """It would wait for an hour, and the stop with it for as long as requests in hand may take."""
    async with trio.open_nursery() as nursery:
        config = a_config(trio_graceful_timeout_ms=3_600_000)
        broker = await nursery.start(serve_broker, config)
        lab = Lab(broker)
        await lab.make_topic("t")
        client = await lab.connect()
        await client.send_request(a_fetch("t", max_wait_ms=3_600_000), 12)
        await lab.parked(1)

        broker.request_stop()

        (answer,) = (await client.receive_response()).responses[0].partitions
        assert (answer.error_code, bytes(answer.records)) == (0, b"")
        with pytest.raises(ConnectionClosedError):
            await client.receive_frame()
        await client.aclose()


async def test_cancelled_broker_keeps_what_it_acknowledged(tmp_path):
    async with trio.open_nursery() as nursery:
        lab = Lab(await nursery.start(serve_broker, a_config(tmp_path)))
        await lab.make_topic("t")
        await lab.produce("t")
        client = await lab.connect()
        await client.send_request(a_fetch(("t", {"fetch_offset": 1}), max_wait_ms=3_600_000), 12)
        await lab.parked(1)
        nursery.cancel_scope.cancel()
    with pytest.raises(ConnectionClosedError):
        await client.receive_frame()
    await client.aclose()

    assert (tmp_path / ".kafka_cleanshutdown").exists()
    async with open_broker(a_config(tmp_path)) as broker:
        assert Lab(broker).partition("t").log_end_offset == 1


# Restart


async def test_restart_keeps_topics_offsets_and_producers(tmp_path):
    # A producer is forgotten a day after its last record, by the clock of the records.
    now = wall_clock_ms()

    def batch(sequence):
        return a_batch(timestamp=now, producer_id=7, producer_epoch=2, base_sequence=sequence)

    config = a_config(tmp_path)
    async with open_broker(config) as broker:
        lab = Lab(broker)
        old = await lab.make_topic("t", partitions=2, configs={"retention.ms": "5000000"})
        for sequence in (0, 1):
            await lab.produce("t", batch(sequence), index=1)
        cluster_id = broker.local.cluster_id
    async with open_broker(config) as broker:
        lab = Lab(broker)
        topic = broker.local.metadata.get_topic("t")
        assert (topic.topic_id, broker.local.controller.topics.get_topic("t").configs) == (
            old.topic_id,
            {"retention.ms": "5000000"},
        )
        assert broker.local.cluster_id == cluster_id

        answers = [await lab.produce("t", batch(n), index=1) for n in (1, 3, 2)]

        assert [(each.error_code, each.base_offset) for each in answers] == [
            (0, 1),
            (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
            (0, 2),
        ]


# Starts that fail


async def test_port_in_use_is_told_and_nothing_stays(tmp_path, memory):
    with occupied() as other:
        port = other.getsockname()[1]
        before = belongings(memory)
        listeners = (FREE, f"B://127.0.0.1:{port}")
        config = a_config(
            tmp_path, listeners=listeners, listener_security_protocol_map={"B": "PLAINTEXT"}
        )
        with pytest.raises(OSError, match=rf"B.*127\.0\.0\.1.*{port}") as failed:
            async with open_broker(config):
                pass

        assert failed.value.errno == errno.EADDRINUSE
        assert belongings(memory) == before
    async with open_broker(a_config(tmp_path)):
        pass


async def test_port_in_use_leaves_no_directory_in_memory(memory):
    with occupied() as other:
        before = belongings(memory)
        with pytest.raises(OSError):  # noqa: PT011 - told apart in the test above
            async with open_broker(
                a_config(listeners=(f"PLAINTEXT://127.0.0.1:{other.getsockname()[1]}",))
            ):
                pass

        assert belongings(memory) == before


async def test_directory_in_use_is_told_and_its_owner_goes_on(tmp_path, memory):
    async with open_broker(a_config(tmp_path)) as owner:
        before = belongings(memory)
        with pytest.raises(StorageError, match="in use by another process"):
            async with open_broker(a_config(tmp_path)):
                pass

        assert belongings(memory) == before
        assert (await Lab(owner).ask(ApiVersionsRequest(), 0)).error_code == 0


@pytest.mark.parametrize("name", ["topics.json", "producer-ids", "meta.properties"])
async def test_damaged_directory_is_told_and_nothing_stays(tmp_path, name, memory):
    (tmp_path / name).write_bytes(b"\xff")
    before = belongings(memory)

    with pytest.raises(StorageError, match=name):
        async with open_broker(a_config(tmp_path)):
            pass

    assert belongings(memory) == before


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [True, False])
async def test_start_that_is_cancelled_anywhere_leaves_nothing(tmp_path, in_memory, memory):
    config = a_config(
        None if in_memory else tmp_path,
        listeners=(FREE, CONTROL),
        control_plane_listener_name="CONTROLLER",
    )
    async with open_broker(config) as broker:
        await broker.local.controller.create_topic("t")
    before = belongings(memory)
    at = 0
    is_started = False
    while not is_started:
        at += 1
        with cancelled_at(at) as canceller:
            async with open_broker(config):
                is_started = not canceller.has_fired
                canceller.disarm()
        assert belongings(memory) == before
    assert at > 5


async def test_acks_survive_a_stop_in_the_middle_of_traffic(tmp_path):
    """Whatever was acknowledged before the connection closed is there after the restart."""
    acknowledged = 0
    async with trio.open_nursery() as nursery:
        lab = Lab(await nursery.start(serve_broker, a_config(tmp_path)))
        await lab.make_topic("t")
        client = await lab.connect()
        with pytest.raises((ConnectionClosedError, trio.BrokenResourceError)):
            while True:
                await client.request(a_produce("t", a_batch()), 9)
                acknowledged += 1
                if acknowledged == 20:
                    lab.broker.request_stop()
        await client.aclose()

    async with open_broker(a_config(tmp_path)) as broker:
        assert Lab(broker).partition("t").log_end_offset >= acknowledged >= 20


async def test_controllers_own_connection_takes_nobodys_place():
    """With one connection allowed per address an administrator of the same machine gets in."""
    config, _ = BrokerConfig.from_properties(
        {
            "listeners": f"{FREE},{CONTROL}",
            "control.plane.listener.name": "CONTROLLER",
            "max.connections.per.ip": "1",
            "trio.in.memory": "true",
        }
    )
    async with open_broker(config) as broker:
        lab = Lab(broker)
        assert (await lab.ask(MetadataRequest(topics=[]), 12, plane="control")).controller_id == 1
        administrator = await lab.connect("control")
        await lab.make_topic()  # the controller's connection is there beside it
        assert (await administrator.request(MetadataRequest(topics=None), 12)).topics
        await administrator.aclose()


async def test_control_plane_without_controller_requests_is_not_asked():
    """Whoever serves their own choice of APIs has a broker that knows its topics all the same."""
    apis = KafkaApis()
    cluster.register(apis)
    config = a_config(listeners=(FREE, CONTROL), control_plane_listener_name="CONTROLLER")
    with trio.fail_after(20):
        async with open_broker(config, apis) as broker:
            await Lab(broker).make_topic()
            answer = await Lab(broker).ask(MetadataRequest(topics=None), 12, plane="control")
    assert [(each.name, each.error_code) for each in answer.topics] == [("t", 0)]
