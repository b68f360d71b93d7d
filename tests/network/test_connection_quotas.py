"""Limits of a plane and its listeners, without sockets; the clock is a mock.

CQ, DQ and GX numbers are the behaviours of Kafka's ConnectionQuotasTest and
DynamicConnectionQuotaTest, and gaps in them.
"""

from __future__ import annotations

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
from trio_kafka_net.network.connection_quotas import ConnectionQuotas

from .quotas import IP, LISTENERS, Holder, acquire, figures, offer, quotas_with, within


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
    """CQ-13: also on the protected listener; difference 23: the burst is one second's worth."""
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
        listener_limits={
            "ADMIN": {"max_connection_creation_rate": 100},
            "REPLICATION": {"max_connection_creation_rate": 2},
        },
    )
    acquire(quotas, "EXTERNAL", 3)
    acquire(quotas, "REPLICATION", 2)
    quotas.reconfigure(max_connection_creation_rate=3)
    quotas.reconfigure_listener("REPLICATION", max_connections=7, max_connection_creation_rate=2)
    for listener in ("ADMIN", "REPLICATION"):
        assert acquire(quotas, listener)[0].ready_at > trio.current_time()


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
    """Protection is from others."""
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
