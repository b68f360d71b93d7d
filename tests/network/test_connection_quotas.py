"""Limits of connections, without sockets; the clock is a mock.

CQ, DQ and GX numbers are the behaviours of Kafka's ConnectionQuotasTest and
DynamicConnectionQuotaTest, and gaps in them.
"""

from __future__ import annotations

import socket

import attrs
import pytest
import trio
import trio.testing

from trio_kafka_net.config.settings import MAX_INT
from trio_kafka_net.errors import (
    ConfigError,
    ConnectionThrottledError,
    TooManyConnectionsError,
    UnknownListenerError,
)
from trio_kafka_net.network import ip_quotas
from trio_kafka_net.network.connection_quotas import ConnectionQuotas, ConnectionSlot
from trio_kafka_net.network.ip_quotas import resolve_overrides

LISTENERS = ("EXTERNAL", "ADMIN", "REPLICATION")
IP = "10.0.0.1"


def quotas_with(*, listener_limits=None, listeners=LISTENERS, **limits) -> ConnectionQuotas:
    """Three listeners, of which REPLICATION is the one for other brokers."""
    quotas = ConnectionQuotas(protected_listener="REPLICATION", **limits)
    for name in listeners:
        quotas.add_listener(name, **(listener_limits or {}).get(name, {}))
    return quotas


def figures(quotas: ConnectionQuotas, listener: str):
    return next(x for x in quotas.statistics().listeners if x.name == listener)


def acquire(quotas, listener, times=1, address=IP) -> list[ConnectionSlot]:
    return [quotas.acquire_nowait(listener, address) for _ in range(times)]


async def offer(quotas, listener, per_second, seconds, address=IP) -> list[float]:
    """Offer connections at a rate, as an Acceptor does; returns when each is to be served.

    Those over the rate of their address are left out.
    """
    started = trio.current_time()
    served = []
    for number in range(per_second * seconds):
        await trio.sleep_until(started + number / per_second)
        await quotas.wait_for_room(listener)
        try:
            served.append(quotas.acquire_nowait(listener, address).ready_at - started)
        except ConnectionThrottledError:
            continue
    return served


def within(times: list[float], begin: float, end: float) -> int:
    return sum(begin <= time < end for time in times)


@attrs.define
class Holder:
    """A connection that can be evicted."""

    slot: ConnectionSlot
    last_active: float
    is_busy: bool = False
    is_closed: bool = False

    def __attrs_post_init__(self):
        self.slot.holder = self

    def evict(self):
        assert not self.is_closed
        self.is_closed = True
        self.slot.release()


async def test_an_unknown_listener_is_refused():
    """CQ-01."""
    quotas = ConnectionQuotas()
    with pytest.raises(UnknownListenerError, match="no listener EXTERNAL"):
        quotas.acquire_nowait("EXTERNAL", IP)
    with pytest.raises(UnknownListenerError):
        quotas.has_room("EXTERNAL")
    with pytest.raises(LookupError):
        await quotas.wait_for_room("EXTERNAL")
    assert 0 == quotas.total


async def test_a_slot_gives_its_place_back_once():
    """CQ-02: there is no count to take down for somebody who was never counted up."""
    quotas = quotas_with()
    slot, other = acquire(quotas, "EXTERNAL", 2)
    slot.release()
    slot.release()
    assert (1, 1) == (quotas.total, quotas.count(IP))
    other.release()
    assert (0, 0) == (quotas.total, quotas.count(IP))
    assert 0 == quotas.statistics().addresses


async def test_without_limits_nobody_waits():
    """CQ-03."""
    quotas = quotas_with()
    slots = [slot for name in LISTENERS for slot in acquire(quotas, name, 1000)]
    assert 3000 == quotas.total
    for name in LISTENERS:
        numbers = figures(quotas, name)
        assert (1000, 1000, 0) == (numbers.open, numbers.accepted, numbers.throttled)
    for slot in slots:
        slot.release()
    assert 0 == quotas.total


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


async def test_one_listener_may_use_up_the_planes_number():
    """CQ-05: at exactly the number nobody is evicted."""
    quotas = quotas_with(max_connections=800)
    holders = [Holder(slot, 0.0) for slot in acquire(quotas, "EXTERNAL", 800)]
    assert not quotas.has_room("EXTERNAL")
    with pytest.raises(trio.WouldBlock):
        quotas.acquire_nowait("EXTERNAL", IP)
    assert 800 == quotas.total
    assert not any(holder.is_closed for holder in holders)


async def test_one_above_the_planes_number_waits_for_an_end(nursery):
    """CQ-06."""
    quotas = quotas_with(max_connections=800)
    slots = acquire(quotas, "EXTERNAL", 800)
    is_in = trio.Event()

    @nursery.start_soon
    async def one_more():
        await quotas.wait_for_room("EXTERNAL")
        is_in.set()

    await trio.testing.wait_all_tasks_blocked()
    assert not is_in.is_set()
    assert 1 == quotas.statistics().waiting
    slots[0].release()
    await is_in.wait()


async def test_all_listeners_that_wait_are_woken(nursery):
    """A wake-up must reach everybody: whoever comes first takes what there is."""
    quotas = quotas_with(max_connections=2)
    slots = acquire(quotas, "EXTERNAL", 2)
    woken = []

    async def wait(listener):
        await quotas.wait_for_room(listener)
        woken.append(listener)

    nursery.start_soon(wait, "EXTERNAL")
    nursery.start_soon(wait, "ADMIN")
    await trio.testing.wait_all_tasks_blocked()
    slots[0].release()
    await trio.testing.wait_all_tasks_blocked()
    assert {"EXTERNAL", "ADMIN"} == set(woken)


async def test_the_protected_listener_is_admitted_above_the_planes_number():
    """CQ-07: one connection of another listener is closed for it, exactly one (GX-13)."""
    quotas = quotas_with(max_connections=3)
    holders = [Holder(slot, float(n)) for n, slot in enumerate(acquire(quotas, "EXTERNAL", 3))]
    assert quotas.has_room("REPLICATION")
    acquire(quotas, "REPLICATION")
    assert [True, False, False] == [holder.is_closed for holder in holders]
    assert (3, 1) == (quotas.total, quotas.statistics().evicted)
    acquire(quotas, "REPLICATION")
    assert [True, True, False] == [holder.is_closed for holder in holders]


async def test_a_waiter_stays_until_the_total_is_below_the_number(nursery):
    """CQ-08: two above the number, so it takes three ends; the protected one goes on."""
    quotas = quotas_with(
        max_connections=2, listener_limits={"REPLICATION": {"max_connections": 10}}
    )
    slots = acquire(quotas, "REPLICATION", 4)  # nobody else to evict
    is_in = trio.Event()

    @nursery.start_soon
    async def one_more():
        await quotas.wait_for_room("ADMIN")
        is_in.set()

    for slot in slots[:2]:
        slot.release()
        await trio.testing.wait_all_tasks_blocked()
        assert not is_in.is_set()
        assert quotas.has_room("REPLICATION")
    slots[2].release()
    await is_in.wait()


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_full_listener_makes_its_own_wait_and_nobody_else(nursery, listener):
    """CQ-09: also the protected one obeys its own number."""
    quotas = quotas_with(listener_limits={listener: {"max_connections": 200}})
    slots = acquire(quotas, listener, 200)
    assert {listener} == {name for name in LISTENERS if not quotas.has_room(name)}
    is_in = trio.Event()

    @nursery.start_soon
    async def one_more():
        await quotas.wait_for_room(listener)
        is_in.set()

    await trio.testing.wait_all_tasks_blocked()
    assert not is_in.is_set()
    slots[0].release()
    await is_in.wait()


async def test_below_the_planes_rate_nobody_waits(autojump_clock):
    """CQ-10."""
    quotas = quotas_with(max_connection_creation_rate=125)
    async with trio.open_nursery() as nursery:
        for name in LISTENERS:
            nursery.start_soon(offer, quotas, name, 40, 5)
    assert [(200, 0)] * 3 == [
        (figures(quotas, name).accepted, figures(quotas, name).throttled) for name in LISTENERS
    ]


async def test_above_the_planes_rate_all_but_the_protected_wait(autojump_clock):
    """CQ-11: and all are accepted in the end."""
    quotas = quotas_with(
        max_connection_creation_rate=90,
        listener_limits={"REPLICATION": {"max_connection_creation_rate": MAX_INT}},
    )
    async with trio.open_nursery() as nursery:
        for name in LISTENERS:
            nursery.start_soon(offer, quotas, name, 100, 4)
    external, admin, replication = (figures(quotas, name) for name in LISTENERS)
    assert [400] * 3 == [external.accepted, admin.accepted, replication.accepted]
    assert min(external.throttled, admin.throttled) > 0 == replication.throttled
    assert min(external.throttle_seconds, admin.throttle_seconds) > 0


async def test_a_protected_listener_without_a_rate_has_the_planes_for_itself(autojump_clock):
    """As in Kafka a listener's own value falls back to the one without prefix."""
    quotas = quotas_with(max_connection_creation_rate=10)
    acquire(quotas, "EXTERNAL", 10)
    assert 10 == within(await offer(quotas, "REPLICATION", 20, 1), 0, 0.5)
    assert figures(quotas, "REPLICATION").throttled > 0


async def test_below_a_listeners_rate_nobody_waits(autojump_clock):
    """CQ-12."""
    quotas = quotas_with(listener_limits={"EXTERNAL": {"max_connection_creation_rate": 50}})
    await offer(quotas, "EXTERNAL", 40, 5)
    assert 0 == figures(quotas, "EXTERNAL").throttled


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_listeners_rate_holds(autojump_clock, listener):
    """CQ-13: also on the protected listener; §11.2 no. 23: the burst is one second's worth."""
    quotas = quotas_with(
        max_connection_creation_rate=125,
        listener_limits={name: {"max_connection_creation_rate": 30} for name in LISTENERS},
    )
    served = await offer(quotas, listener, 40, 20)
    assert 800 == len(served)
    assert within(served, 0, 20) == 30 * 21
    assert {29, 30, 31} >= {within(served, second, second + 1) for second in range(5, 20)}
    numbers = figures(quotas, listener)
    assert numbers.throttled > 0 < numbers.throttle_seconds


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


async def test_rates_of_address_and_listener_together(mock_clock):
    """CQ-17: one address uses up its rate, the other meets the listener's."""
    quotas = quotas_with(listener_limits={"EXTERNAL": {"max_connection_creation_rate": 35}})
    quotas.set_ip_rate(None, 25)
    acquire(quotas, "EXTERNAL", 25)
    with pytest.raises(ConnectionThrottledError):
        quotas.acquire_nowait("EXTERNAL", IP)
    slots = acquire(quotas, "EXTERNAL", 25, address="10.0.0.2")
    assert 15 == sum(slot.ready_at > trio.current_time() for slot in slots)
    assert 15 == figures(quotas, "EXTERNAL").throttled


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_connections": -1}, "max.connections=-1: must be 0 or more"),
        ({"max_connection_creation_rate": -1}, "max.connection.creation.rate=-1"),
        ({"max_connections_per_ip": -1}, "max.connections.per.ip=-1: must be 1 or more"),
        ({"max_connections_per_ip": 0}, "max.connections.per.ip=0: must be 1 or more"),
        ({"max_connections_per_ip_overrides": {IP: -1}}, f"overrides={IP}=-1"),
    ],
)
async def test_a_change_with_a_bad_value_changes_nothing(change, message):
    """CF-10: it is refused as a whole."""
    quotas = quotas_with(max_connections=5, max_connections_per_ip=3)
    acquire(quotas, "EXTERNAL", 3)
    with pytest.raises(ConfigError, match=message):
        quotas.reconfigure(**{"max_connections": 0, "max_connections_per_ip": 9, **change})
    assert quotas.has_room("EXTERNAL")
    with pytest.raises(TooManyConnectionsError):
        quotas.acquire_nowait("EXTERNAL", IP)


@pytest.mark.parametrize(
    ("number", "rate", "message"),
    [
        (0, None, "listener.name.external.max.connections=0: must be 1 or more"),
        (None, 0, "listener.name.external.max.connection.creation.rate=0: must be 1 or more"),
    ],
)
async def test_a_listener_needs_a_number_and_a_rate_above_zero(number, rate, message):
    """CQ-19."""
    quotas = quotas_with()
    with pytest.raises(ConfigError, match=message):
        quotas.reconfigure_listener(
            "EXTERNAL", max_connections=number, max_connection_creation_rate=rate
        )
    assert quotas.has_room("EXTERNAL")


async def test_a_listeners_rate_can_be_taken_away_and_set_again(autojump_clock):
    """CQ-20."""
    quotas = quotas_with(listener_limits={"EXTERNAL": {"max_connection_creation_rate": 1}})
    acquire(quotas, "EXTERNAL", 2)
    quotas.reconfigure_listener("EXTERNAL", max_connections=None, max_connection_creation_rate=None)
    assert 100 == within(await offer(quotas, "EXTERNAL", 50, 2), 0, 2)
    quotas.reconfigure_listener("EXTERNAL", max_connections=None, max_connection_creation_rate=10)
    assert 40 == within(await offer(quotas, "EXTERNAL", 50, 4), 1, 5)


async def test_the_planes_rate_can_be_changed(autojump_clock):
    """CQ-21."""
    quotas = quotas_with()
    assert 200 == within(await offer(quotas, "EXTERNAL", 100, 2), 0, 2)
    quotas.reconfigure(max_connection_creation_rate=50)
    assert 150 == within(await offer(quotas, "ADMIN", 100, 4), 1, 4)


async def test_a_rate_of_zero_lets_nobody_in_until_it_is_raised(nursery, mock_clock):
    quotas = quotas_with(max_connection_creation_rate=0)
    is_in = trio.Event()

    @nursery.start_soon
    async def one_more():
        await quotas.wait_for_room("EXTERNAL")
        is_in.set()

    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(1e9)
    await trio.testing.wait_all_tasks_blocked()
    assert not is_in.is_set()
    quotas.reconfigure(max_connection_creation_rate=1)
    await is_in.wait()


async def test_setting_the_same_rate_again_does_not_fill_the_bucket(mock_clock):
    quotas = quotas_with(
        max_connection_creation_rate=3,
        listener_limits={"ADMIN": {"max_connection_creation_rate": 2}},
    )
    quotas.set_ip_rate("10.0.0.2", 1)
    acquire(quotas, "EXTERNAL", 3)
    acquire(quotas, "REPLICATION", 1, address="10.0.0.2")
    quotas.reconfigure(max_connection_creation_rate=3)
    quotas.reconfigure_listener("ADMIN", max_connections=7, max_connection_creation_rate=2)
    quotas.set_ip_rate("10.0.0.2", 1)
    assert acquire(quotas, "EXTERNAL")[0].ready_at > trio.current_time()
    with pytest.raises(ConnectionThrottledError):
        quotas.acquire_nowait("REPLICATION", "10.0.0.2")


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


async def test_number_and_rate_of_the_plane_together(autojump_clock, nursery):
    """CQ-24: at the rate until the number is reached, then one for each that ends."""
    quotas = quotas_with(max_connection_creation_rate=25, max_connections=100)
    (first,) = acquire(quotas, "ADMIN")
    nursery.start_soon(offer, quotas, "EXTERNAL", 50, 60)
    await trio.sleep(1.9)
    assert quotas.total in range(70, 98)
    for _ in range(3):
        await trio.sleep(60)
        assert 100 == quotas.total
    first.release()
    await trio.testing.wait_all_tasks_blocked()
    assert (100, 100) == (quotas.total, figures(quotas, "EXTERNAL").accepted)
    nursery.cancel_scope.cancel()


async def test_figures_exist_from_the_registration_on():
    """CQ-25."""
    statistics = quotas_with().statistics()
    assert LISTENERS == tuple(x.name for x in statistics.listeners)
    for numbers in statistics.listeners:
        assert attrs.astuple(numbers)[2:] == (0, 0, 0, 0, 0.0, 0, 0.0)
    assert (0, 0, 0, 0) == attrs.astuple(statistics)[:4]
    assert [False, False, True] == [x.is_protected for x in statistics.listeners]


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


async def test_lowering_the_planes_number_closes_who_was_silent_for_longest():
    """DQ-03, GX-13: exactly the excess, the busy and the protected spared."""
    quotas = quotas_with()
    holders = [Holder(slot, float(n)) for n, slot in enumerate(acquire(quotas, "EXTERNAL", 6))]
    protected = [Holder(slot, -1.0) for slot in acquire(quotas, "REPLICATION", 2)]
    holders[0].is_busy = holders[2].is_busy = True
    quotas.reconfigure(max_connections=5)
    assert [1, 3, 4] == [n for n, holder in enumerate(holders) if holder.is_closed]
    assert (5, 3) == (quotas.total, quotas.statistics().evicted)
    quotas.reconfigure(max_connections=3)
    assert [0, 1, 3, 4, 5] == [n for n, holder in enumerate(holders) if holder.is_closed]
    quotas.reconfigure(max_connections=0)
    assert all(holder.is_closed for holder in holders)
    assert not any(holder.is_closed for holder in protected)
    assert 2 == quotas.total


async def test_a_listener_can_be_added_with_a_number_of_its_own():
    """DQ-04."""
    quotas = quotas_with(listeners=("REPLICATION",), max_connections=10)
    quotas.reconfigure_listener("REPLICATION", max_connections=5, max_connection_creation_rate=None)
    quotas.add_listener("INTERNAL", max_connections=5)
    slots = acquire(quotas, "REPLICATION", 5) + acquire(quotas, "INTERNAL", 5)
    assert not quotas.has_room("INTERNAL")
    assert not quotas.has_room("REPLICATION")
    for slot in slots:
        slot.release()
    assert (0, 0, 0) == (quotas.total, *(x.open for x in quotas.statistics().listeners))


@pytest.mark.parametrize("limit", ["plane", "listener"])
async def test_a_raised_number_lets_waiters_in_at_once(nursery, limit):
    """DQ-05, CQ-24."""
    quotas = quotas_with(
        max_connections=1 if limit == "plane" else MAX_INT,
        listener_limits={"EXTERNAL": {"max_connections": 1 if limit == "listener" else None}},
    )
    acquire(quotas, "EXTERNAL")
    is_in = trio.Event()

    @nursery.start_soon
    async def one_more():
        await quotas.wait_for_room("EXTERNAL")
        is_in.set()

    await trio.testing.wait_all_tasks_blocked()
    assert not is_in.is_set()
    if limit == "plane":
        quotas.reconfigure(max_connections=2)
    else:
        quotas.reconfigure_listener(
            "EXTERNAL", max_connections=2, max_connection_creation_rate=None
        )
    await is_in.wait()


async def test_a_single_listener_is_not_protected():
    """§7.3: protection is from others."""
    quotas = quotas_with(listeners=("REPLICATION",), max_connections=1)
    acquire(quotas, "REPLICATION")
    assert not quotas.has_room("REPLICATION")
    quotas.reconfigure_listener("REPLICATION", max_connections=5, max_connection_creation_rate=None)
    assert not quotas.has_room("REPLICATION")
    quotas.add_listener("EXTERNAL")
    assert quotas.has_room("REPLICATION")


async def test_creation_rates_changed_at_run_time(autojump_clock):
    """DQ-07, DQ-08: the protected listener may be faster than the plane's rate."""
    quotas = quotas_with()
    assert 40 == within(await offer(quotas, "EXTERNAL", 20, 2), 0, 2)
    quotas.reconfigure(max_connection_creation_rate=9)
    assert within(await offer(quotas, "EXTERNAL", 20, 5), 1, 10) in range(9 * 8, 9 * 9 + 1)
    await trio.sleep(5)
    for name in ("EXTERNAL", "REPLICATION"):
        quotas.reconfigure_listener(name, max_connections=None, max_connection_creation_rate=4)
    assert within(await offer(quotas, "EXTERNAL", 10, 4), 1, 5) == 16
    await trio.sleep(5)
    quotas.reconfigure_listener(
        "REPLICATION", max_connections=None, max_connection_creation_rate=12
    )
    assert within(await offer(quotas, "REPLICATION", 20, 5), 2, 5) == 36
    assert within(await offer(quotas, "EXTERNAL", 10, 4), 1, 5) == 16


async def test_who_waits_for_a_listener_that_is_removed_is_told(nursery):
    """GX-07."""
    quotas = quotas_with(max_connections=1)
    (slot,) = acquire(quotas, "EXTERNAL")
    told = trio.Event()

    @nursery.start_soon
    async def one_more():
        with pytest.raises(UnknownListenerError, match="no listener EXTERNAL"):
            await quotas.wait_for_room("EXTERNAL")
        told.set()

    await trio.testing.wait_all_tasks_blocked()
    quotas.remove_listener("EXTERNAL")
    await told.wait()
    assert (1, 1) == (quotas.total, quotas.count(IP))
    slot.release()
    assert (0, 0) == (quotas.total, quotas.count(IP))
    with pytest.raises(UnknownListenerError):
        quotas.remove_listener("EXTERNAL")


async def test_nobody_waits_longer_for_a_token_than_the_longest_delay(nursery, mock_clock):
    """The rest stays in the backlog, so a raised rate is felt soon."""
    quotas = quotas_with(listener_limits={"EXTERNAL": {"max_connection_creation_rate": 4}})
    slots = []
    while quotas.has_room("EXTERNAL"):
        slots += acquire(quotas, "EXTERNAL")
    assert 8 == len(slots)
    assert pytest.approx(1.0, abs=1e-5) == slots[-1].ready_at - trio.current_time()
    is_in = trio.Event()

    @nursery.start_soon
    async def one_more():
        await quotas.wait_for_room("EXTERNAL")
        is_in.set()

    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(0.2)
    await trio.testing.wait_all_tasks_blocked()
    assert not is_in.is_set()
    mock_clock.jump(0.1)
    await is_in.wait()


async def test_waiting_for_room_takes_nothing_when_it_is_cancelled(mock_clock):
    quotas = quotas_with(max_connections=1)
    (slot,) = acquire(quotas, "EXTERNAL")
    with trio.move_on_after(0):
        await quotas.wait_for_room("EXTERNAL")
    assert 0 == quotas.statistics().waiting
    slot.release()
    assert quotas.has_room("EXTERNAL")


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
    """§7.4: Kafka takes the first one only."""
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
