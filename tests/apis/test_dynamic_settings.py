"""Settings that a request changes are in force when it is answered, and after a restart."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.apis.config_requests import (
    BROKER,
    DELETE,
    SET,
    TOPIC,
    change,
    entries,
    operation,
    setting,
)
from trio_kafka_net.broker import dynamic_network
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig, ListenerOverrides
from trio_kafka_net.errors import ConfigError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ApiVersionsRequest
from trio_kafka_net.testing.client import ConnectionClosedError, RawClient

from .lab import Lab, a_batch

TWO_LISTENERS = {
    "listeners": (
        "EXTERNAL://127.0.0.1:0",
        "INTERNAL://127.0.0.1:0",
        "CONTROLLER://127.0.0.1:0",
    ),
    "listener_security_protocol_map": {"EXTERNAL": "PLAINTEXT", "INTERNAL": "PLAINTEXT"},
}


async def set_by_admin(lab, *operations, scope="1"):
    """Over the control plane, which has limits of its own."""
    assert await change(lab, (BROKER, scope, list(operations)), plane="control") == [(0, None)]


async def dial(lab, listener, count=1):
    """Connections to a listener that have not asked anything yet."""
    port = next(each.port for each in lab.broker.bound_listeners if each.name == listener)
    dialled = [await RawClient.connect("127.0.0.1", port) for _ in range(count)]
    lab.clients += dialled
    return dialled


async def works(client):
    try:
        return (await client.request(ApiVersionsRequest(), 0)).error_code == 0
    except (ConnectionClosedError, trio.BrokenResourceError):
        return False


async def until(condition):
    while not condition():
        await trio.testing.wait_all_tasks_blocked()


def quotas(lab):
    return lab.plane().connection_quotas.statistics()


def processors(lab):
    """{listener: ids of its Processors}"""
    return {
        acceptor.listener.name: [each.processor_id for each in acceptor.processors]
        for acceptor in lab.plane().acceptors
    }


# Connection limits


@pytest.mark.parametrize("scope", ["1", ""])
async def test_fewer_connections_per_address(lab, scope):
    """DQ-01, DQ-02."""
    await set_by_admin(lab, *setting(max_connections_per_ip="5"), scope=scope)
    clients = await dial(lab, "PLAINTEXT", 5)
    assert [await works(client) for client in clients] == [True] * 5
    (refused,) = await dial(lab, "PLAINTEXT")
    assert not await works(refused)
    await clients[0].aclose()
    await until(lambda: quotas(lab).total == 4)
    (again,) = await dial(lab, "PLAINTEXT")
    assert await works(again)

    await set_by_admin(lab, *setting(max_connections_per_ip_overrides="localhost:7"), scope=scope)

    more = await dial(lab, "PLAINTEXT", 3)
    assert [await works(client) for client in more] == [True, True, False]


async def test_limit_per_address_holds_on_the_control_plane_too(lab):
    await set_by_admin(lab, *setting(max_connections_per_ip="1"))
    (first, second) = await dial(lab, "CONTROLLER", 2)

    assert (await works(first), await works(second)) == (True, False)


async def test_fewer_connections_of_the_broker(lab):
    """DQ-03: what is too many is closed, silent ones first; then new ones wait."""
    clients = await dial(lab, "PLAINTEXT", 7)
    assert [await works(client) for client in clients] == [True] * 7

    await set_by_admin(lab, *setting(max_connections="5"))

    assert [await works(client) for client in clients] == [False] * 2 + [True] * 5
    (waiting,) = await dial(lab, "PLAINTEXT")
    await until(lambda: quotas(lab).waiting == 1)
    await clients[-1].aclose()
    assert await works(waiting)


async def test_fewer_connections_of_a_listener(open_lab):
    """DQ-05: a connection that waits is served when another one ends, or the limit is raised."""
    lab = await open_lab(**TWO_LISTENERS)
    key = "listener.name.external.max.connections"
    await set_by_admin(lab, operation(key, SET, "2"))
    clients = await dial(lab, "EXTERNAL", 2)
    assert [await works(client) for client in clients] == [True] * 2
    first, second = await dial(lab, "EXTERNAL", 2)
    (elsewhere,) = await dial(lab, "INTERNAL")
    assert await works(elsewhere)
    await until(lambda: quotas(lab).waiting == 1)
    await clients[0].aclose()
    assert await works(first)
    await until(lambda: quotas(lab).waiting == 1)

    await set_by_admin(lab, operation(key, DELETE))

    assert await works(second)


async def test_inter_broker_listener_is_served_when_the_broker_is_full(open_lab):
    """DQ-06."""
    lab = await open_lab(**TWO_LISTENERS, inter_broker_listener_name="INTERNAL")
    await set_by_admin(lab, *setting(max_connections="3"))
    clients = await dial(lab, "EXTERNAL", 3)
    assert [await works(client) for client in clients] == [True] * 3

    internal = await dial(lab, "INTERNAL", 2)

    assert [await works(client) for client in internal] == [True] * 2
    assert [await works(client) for client in clients] == [False, False, True]
    assert quotas(lab).total == 3


@pytest.mark.parametrize(
    "key", ["max.connection.creation.rate", "listener.name.plaintext.max.connection.creation.rate"]
)
async def test_fewer_new_connections_per_second(lab, mock_clock, key):
    """DQ-07, DQ-08: as many at once as a second may have; the next one waits for its token."""
    await set_by_admin(lab, operation(key, SET, "2"))
    clients = await dial(lab, "PLAINTEXT", 3)
    assert [await works(client) for client in clients[:2]] == [True] * 2
    await until(lambda: quotas(lab).listeners[0].throttled == 1)
    await clients[2].send_request(ApiVersionsRequest(), 0)

    mock_clock.jump(0.5)

    assert (await clients[2].receive_response()).error_code == 0


async def test_rate_of_a_listener_does_not_bind_another(open_lab, mock_clock):
    """DQ-08."""
    lab = await open_lab(**TWO_LISTENERS)
    await set_by_admin(
        lab, operation("listener.name.external.max.connection.creation.rate", SET, "1")
    )

    internal = await dial(lab, "INTERNAL", 5)

    assert [await works(client) for client in internal] == [True] * 5


# Threads


async def test_network_threads_change_where_a_listener_has_none_of_its_own(open_lab):
    """DN-01, DN-03: ids are not used again, and no connection is closed."""
    lab = await open_lab(
        **TWO_LISTENERS,
        num_network_threads=3,
        listener_overrides={"INTERNAL": ListenerOverrides(num_network_threads=2)},
    )
    clients = await dial(lab, "EXTERNAL", 6) + await dial(lab, "INTERNAL", 2)
    assert all([await works(client) for client in clients])
    assert processors(lab) == {"EXTERNAL": [1, 2, 3], "INTERNAL": [4, 5]}

    await set_by_admin(lab, *setting(num_network_threads="4"), scope="")
    assert processors(lab) == {"EXTERNAL": [1, 2, 3, 6], "INTERNAL": [4, 5]}
    await set_by_admin(lab, *setting(num_network_threads="2"))
    assert processors(lab) == {"EXTERNAL": [1, 2], "INTERNAL": [4, 5]}
    await set_by_admin(lab, operation("num.network.threads", DELETE))
    assert processors(lab) == {"EXTERNAL": [1, 2, 7, 8], "INTERNAL": [4, 5]}

    assert all([await works(client) for client in clients])


async def test_network_threads_of_one_listener_change_alone(open_lab):
    """DN-02."""
    lab = await open_lab(**TWO_LISTENERS, num_network_threads=2)

    await set_by_admin(lab, operation("listener.name.internal.num.network.threads", SET, "3"))

    assert {name: len(ids) for name, ids in processors(lab).items()} == {
        "EXTERNAL": 2,
        "INTERNAL": 3,
    }


async def test_request_survives_the_end_of_its_own_processor(open_lab):
    """DN-03: the change comes over the data plane, and removes the Processor that it came by."""
    lab = await open_lab(num_network_threads=2)
    clients = [await lab.connect() for _ in range(2)]
    assert all([await works(client) for client in clients])
    for count in ("1", "2"):
        assert await change(lab, (BROKER, "1", setting(num_network_threads=count))) == [(0, None)]

    assert all([await works(client) for client in clients])


async def test_io_threads_change(lab):
    """RH-08: by request; the control plane keeps its one."""
    await set_by_admin(lab, *setting(num_io_threads="16"))
    assert lab.plane().handler_pool.statistics().size == 16
    assert lab.plane("control").handler_pool.statistics().size == 1

    await set_by_admin(lab, *setting(num_io_threads="8"), scope="")

    # What is set for the broker counts more.
    assert lab.plane().handler_pool.statistics().size == 16


@pytest.mark.parametrize(
    ("key", "count", "text"),
    [
        ("num.io.threads", "17", "num.io.threads=17, value should not be greater than double"),
        ("num.io.threads", "3", "num.io.threads=3, value should be at least half"),
        ("num.network.threads", "9", "threads=9, value should not be greater than double the"),
        ("num.network.threads", "1", "threads=1, value should be at least half the current value"),
        (
            "listener.name.plaintext.num.network.threads",
            "9",
            "threads=9, value should not be greater than double the current value 4",
        ),
    ],
)
@pytest.mark.parametrize("scope", ["1", ""])
async def test_threads_beyond_half_and_double_are_refused(open_lab, key, count, text, scope):
    lab = await open_lab(num_network_threads=4)

    ((code, message),) = await change(lab, (BROKER, scope, [operation(key, SET, count)]))

    assert code == ErrorCode.INVALID_REQUEST
    assert text in message
    assert lab.plane().handler_pool.statistics().size == 8
    assert len(lab.plane().processors) == 4


async def test_size_that_somebody_set_by_hand_stays_while_others_change(lab):
    lab.broker.socket_server.resize_io_threads(16)
    lab.broker.socket_server.resize_io_threads(32)

    await set_by_admin(lab, *setting(max_connections="50"))

    assert lab.plane().handler_pool.statistics().size == 32


# Defaults of topics


async def test_defaults_hold_for_topics_that_are_there_and_for_new_ones(lab):
    await lab.make_topic("t", partitions=2)
    await lab.make_topic("own", configs={"max.message.bytes": "1000"})

    await set_by_admin(lab, *setting(message_max_bytes="10", log_retention_ms="77"), scope="")
    await lab.make_topic("new")

    for topic, index in (("t", 0), ("t", 1), ("new", 0)):
        answer = await lab.produce(topic, a_batch(), index=index)
        assert answer.error_code == ErrorCode.MESSAGE_TOO_LARGE
        assert lab.partition(topic, index).log.config.retention_ms == 77
    assert (await lab.produce("own")).error_code == 0
    described = await entries(lab, TOPIC, "own")
    assert [each.value for each in described["max.message.bytes"].synonyms] == [
        "1000",
        "10",
        "1048588",
    ]


async def test_topic_goes_by_the_broker_again_when_its_own_setting_is_deleted(lab):
    await lab.make_topic("t", configs={"retention.ms": "5"})
    await set_by_admin(lab, *setting(log_retention_ms="77"))
    assert lab.partition("t").log.config.retention_ms == 5

    await change(lab, (TOPIC, "t", [operation("retention.ms", DELETE)]))

    assert lab.partition("t").log.config.retention_ms == 77


async def test_other_units_count_again_when_the_stronger_setting_is_deleted(open_lab):
    lab = await open_lab(log_retention_hours=1)
    await lab.make_topic("t")
    await set_by_admin(lab, *setting(log_retention_ms="5"))
    assert lab.partition("t").log.config.retention_ms == 5

    await set_by_admin(lab, operation("log.retention.ms", DELETE))

    assert lab.partition("t").log.config.retention_ms == 3_600_000


# Restarts, and what goes wrong


def config(data_dir, **settings):
    return BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
        control_plane_listener_name="CONTROLLER",
        log_dirs=(data_dir,),
        **settings,
    )


async def test_everything_is_as_it_was_after_a_restart(tmp_path):
    async with open_broker(config(tmp_path)) as broker:
        lab = Lab(broker)
        await lab.make_topic("t")
        await set_by_admin(
            lab,
            *setting(num_io_threads="5", max_connections_per_ip="3"),
            operation("listener.name.plaintext.num.network.threads", SET, "2"),
            scope="",
        )
        await set_by_admin(lab, *setting(num_io_threads="4", log_retention_ms="77"))
        await change(lab, (TOPIC, "t", setting(segment_ms="66")))

    async with open_broker(config(tmp_path, num_io_threads=9)) as broker:
        lab = Lab(broker)

        assert lab.plane().handler_pool.statistics().size == 4
        assert len(lab.plane().processors) == 2
        log_config = lab.partition("t").log.config
        assert (log_config.segment_ms, log_config.retention_ms) == (66, 77)
        described = (await entries(lab, BROKER, "1"))["num.io.threads"]
        assert [each.value for each in described.synonyms] == ["4", "5", "9", "8"]
        clients = await dial(lab, "PLAINTEXT", 4)
        assert [await works(client) for client in clients] == [True] * 3 + [False]
        for client in clients:
            await client.aclose()


async def test_what_cannot_be_applied_any_more_is_logged_and_stored(lab, monkeypatch, caplog):
    """A host that resolved when it was checked does not when it is applied."""
    calls = []

    def resolve(limits):
        calls.append(limits)
        if len(calls) > 1:
            raise ConfigError("localhost does not resolve")
        return {}

    monkeypatch.setattr(dynamic_network, "resolve_overrides", resolve)

    await set_by_admin(lab, *setting(max_connections_per_ip_overrides="localhost:7"))

    assert "could not be applied: localhost does not resolve" in caplog.text
    described = await entries(lab, BROKER, "1")
    assert described["max.connections.per.ip.overrides"].value == "localhost:7"


async def test_brokers_of_one_process_do_not_share_settings(open_lab):
    first, second = await open_lab(), await open_lab()

    await set_by_admin(first, *setting(num_io_threads="5"), scope="")

    assert first.plane().handler_pool.statistics().size == 5
    assert second.plane().handler_pool.statistics().size == 8
    assert await entries(second, BROKER, "") == {}
