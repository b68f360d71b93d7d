"""What one address may do, by itself and together with the limits around it."""

from __future__ import annotations

import socket

import pytest
import trio

from trio_kafka_net.config.settings import MAX_INT
from trio_kafka_net.errors import (
    ConfigError,
    ConnectionThrottledError,
    TooManyConnectionsError,
)
from trio_kafka_net.network import ip_quotas
from trio_kafka_net.network.ip_quotas import resolve_overrides

from .quotas import IP, LISTENERS, Holder, acquire, figures, offer, quotas_with, within


async def test_an_address_over_its_number_is_refused_and_not_counted():
    """CQ-04: unlike in Kafka, where the refused are counted until they are closed."""
    quotas = quotas_with(max_connections_per_ip=17)
    slots = acquire(quotas, "EXTERNAL", 17)
    for _ in range(2):
        with pytest.raises(TooManyConnectionsError, match=r"17.*max.connections.per.ip is 17"):
            quotas.acquire_nowait("EXTERNAL", IP)
    assert (17, 17) == (quotas.count(IP), quotas.total)
    assert 2 == figures(quotas, "EXTERNAL").refused
    acquire(quotas, "EXTERNAL", 17, address="10.0.0.2")
    for slot in slots[:4]:
        slot.release()
    acquire(quotas, "EXTERNAL", 4)
    assert 17 == quotas.count(IP)


async def test_below_an_addresss_rate_nobody_is_refused(autojump_clock):
    """CQ-14: nor is an address without a rate."""
    quotas = quotas_with()
    quotas.set_ip_rate(IP, 30)
    assert 125 == len(await offer(quotas, "EXTERNAL", 25, 5))
    assert 250 == len(await offer(quotas, "ADMIN", 50, 5, address="10.0.0.2"))
    assert [0] * 3 == [figures(quotas, name).ip_throttled for name in LISTENERS]


async def test_an_addresss_rate_holds_and_the_acceptor_does_not_wait(autojump_clock):
    """CQ-15."""
    quotas = quotas_with()
    quotas.set_ip_rate(IP, 20)
    served = await offer(quotas, "EXTERNAL", 40, 10)
    assert within(served, 5, 10) in range(5 * 19, 5 * 21 + 1)
    external, admin, _ = (figures(quotas, name) for name in LISTENERS)
    assert 400 == external.accepted + external.ip_throttled
    assert external.ip_throttle_seconds > 0 == admin.ip_throttle_seconds
    assert 0 == external.throttled


async def test_the_default_rate_holds_for_addresses_without_their_own(autojump_clock):
    """CQ-16."""
    quotas = quotas_with()
    quotas.set_ip_rate(None, 20)
    quotas.set_ip_rate("10.0.0.2", 30)
    assert 40 == within(await offer(quotas, "ADMIN", 40, 6), 4, 6)
    assert 60 == within(await offer(quotas, "ADMIN", 40, 6, address="10.0.0.2"), 4, 6)
    assert 40 == within(await offer(quotas, "ADMIN", 40, 6, address="10.0.0.3"), 4, 6)


@pytest.mark.parametrize("listener", ["EXTERNAL", "REPLICATION"])
async def test_an_address_that_may_not_connect_costs_others_nothing(mock_clock, listener):
    """CQ-18: no token of address, listener or plane is taken."""
    quotas = quotas_with(
        max_connection_creation_rate=1,
        listener_limits={listener: {"max_connection_creation_rate": 1}},
    )
    quotas.set_ip_rate(IP, 0)
    for _ in range(10):
        with pytest.raises(ConnectionThrottledError) as refused:
            quotas.acquire_nowait(listener, IP)
        assert 1.0 == refused.value.delay_seconds
    numbers = figures(quotas, listener)
    assert (0, 0, 10) == (numbers.open, numbers.accepted, numbers.ip_throttled)
    (slot,) = acquire(quotas, listener, address="10.0.0.2")
    assert trio.current_time() == slot.ready_at


async def test_rates_of_addresses_override_the_default():
    """CQ-22."""
    quotas = quotas_with()
    assert MAX_INT == quotas.ip_rate(IP)
    quotas.set_ip_rate(IP, 5)
    quotas.set_ip_rate(None, 7)
    assert (5, 7) == (quotas.ip_rate(IP), quotas.ip_rate("10.0.0.2"))
    quotas.set_ip_rate(None, 9)
    assert (5, 9) == (quotas.ip_rate(IP), quotas.ip_rate("10.0.0.2"))
    quotas.set_ip_rate(IP, None)
    assert 9 == quotas.ip_rate(IP)
    quotas.set_ip_rate(IP, 5)
    quotas.set_ip_rate(None, None)
    assert (5, MAX_INT) == (quotas.ip_rate(IP), quotas.ip_rate("10.0.0.2"))
    quotas.set_ip_rate(IP, None)
    quotas.set_ip_rate(IP, None)
    assert MAX_INT == quotas.ip_rate(IP)


def until_throttled(quotas, address=IP, at_most=100) -> int:
    for number in range(at_most):
        try:
            quotas.acquire_nowait("EXTERNAL", address)
        except ConnectionThrottledError:
            return number
    return at_most


async def test_changes_of_an_addresss_rate_hold_at_once(mock_clock):
    """CQ-23, DQ-09: a changed rate begins with a full bucket."""
    quotas = quotas_with()
    quotas.set_ip_rate(IP, 20)
    assert 20 == until_throttled(quotas)
    quotas.set_ip_rate(IP, 30)
    assert 30 == until_throttled(quotas)
    quotas.set_ip_rate(IP, None)
    assert 100 == until_throttled(quotas)
    quotas.set_ip_rate(None, 10)
    assert 10 == until_throttled(quotas, "10.0.0.2")
    quotas.set_ip_rate("10.0.0.2", 18)
    assert 18 == until_throttled(quotas, "10.0.0.2")
    assert 10 == until_throttled(quotas, "10.0.0.3")
    quotas.set_ip_rate(None, 15)
    quotas.set_ip_rate("10.0.0.2", 18)
    assert (0, 15) == (until_throttled(quotas, "10.0.0.2"), until_throttled(quotas, "10.0.0.3"))


async def test_lowering_the_number_per_address_closes_nobody_and_refuses_the_next():
    """DQ-01, DQ-02."""
    quotas = quotas_with()
    slots = [Holder(slot, 0.0) for slot in acquire(quotas, "EXTERNAL", 6)]
    quotas.reconfigure(max_connections_per_ip=5)
    assert 6 == quotas.total
    slots[0].slot.release()
    with pytest.raises(TooManyConnectionsError, match="is 5"):
        quotas.acquire_nowait("EXTERNAL", IP)
    quotas.reconfigure(max_connections_per_ip_overrides={IP: 7})
    acquire(quotas, "EXTERNAL", 2)
    with pytest.raises(TooManyConnectionsError, match="is 7"):
        quotas.acquire_nowait("EXTERNAL", IP)
    quotas.reconfigure(max_connections_per_ip=0)
    with pytest.raises(TooManyConnectionsError, match="is 0"):
        quotas.acquire_nowait("EXTERNAL", "10.0.0.2")


@pytest.mark.parametrize(
    ("limited", "peer"),
    [
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1", "fe80::1%eth0"),
        ("fe80::1%eth1", "fe80::1%eth0"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FE80::A", "fe80::a"),
    ],
)
async def test_an_address_is_the_same_however_it_is_written(mock_clock, limited, peer):
    """GX-12."""
    quotas = quotas_with(max_connections_per_ip_overrides=resolve_overrides({limited: 2}))
    quotas.set_ip_rate(limited, 1)
    slots = acquire(quotas, "EXTERNAL", 1, address=peer)
    with pytest.raises(ConnectionThrottledError):
        quotas.acquire_nowait("EXTERNAL", peer)
    quotas.set_ip_rate(limited, None)
    slots += acquire(quotas, "EXTERNAL", 1, address=peer)
    with pytest.raises(TooManyConnectionsError):
        quotas.acquire_nowait("EXTERNAL", peer)
    assert 2 == quotas.count(peer)
    for slot in slots:
        slot.release()
    assert 0 == quotas.count(peer) == quotas.statistics().addresses


@pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "1.2.3.4/8", "%eth0"])
async def test_a_rate_needs_a_literal_address(address):
    with pytest.raises(ConfigError, match=f"ip={address}: must be an IPv4 or IPv6 address"):
        quotas_with().set_ip_rate(address, 1)


async def test_a_negative_rate_of_an_address_is_refused():
    with pytest.raises(ConfigError, match="connection_creation_rate=-1: must be 0 or more"):
        quotas_with().set_ip_rate(None, -1)


async def test_memory_for_rates_of_addresses_is_bounded(mock_clock):
    """An address that was silent for a second leaves nothing."""
    ips = ip_quotas.IpQuotas(max_connections=MAX_INT, overrides={})
    ips.set_rate(None, 10)
    for number in range(20_000):
        ips.admit(f"2001:db8::{number:x}", now=number / 100)
    assert len(ips._buckets) <= 2 * 1024


async def test_a_flood_of_refusals_keeps_no_counts():
    quotas = quotas_with(max_connections_per_ip_overrides={IP: 1}, max_connections_per_ip=0)
    acquire(quotas, "EXTERNAL")
    for number in range(100):
        with pytest.raises(TooManyConnectionsError):
            quotas.acquire_nowait("EXTERNAL", f"10.1.0.{number}")
    assert 1 == quotas.statistics().addresses


def test_a_name_stands_for_all_of_its_addresses(monkeypatch):
    """Kafka takes the first one only."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    ]
    monkeypatch.setattr(ip_quotas.socket, "getaddrinfo", lambda *args, **kwargs: found)
    assert {"2001:db8::1": 4, "192.0.2.1": 4} == resolve_overrides({"kafka.example": 4})


def test_a_name_that_does_not_resolve_is_a_configuration_error(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(ip_quotas.socket, "getaddrinfo", fail)
    with pytest.raises(ConfigError, match=r"overrides=a\.b:4: a\.b does not resolve: Name or"):
        resolve_overrides({"a.b": 4})


def test_a_name_that_cannot_be_one_is_a_configuration_error():
    with pytest.raises(ConfigError, match="does not resolve"):
        resolve_overrides({"a..b": 4})
