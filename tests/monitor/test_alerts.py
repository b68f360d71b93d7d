"""Every alert: when it comes up, when it does not, and for how long it has to hold."""

import pytest

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor import alerts
from trio_kafka_net.monitor.alerts import Alert, active, held_s, is_growing
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.window import Window

DATA = {"plane": "data"}


def window_of(pages, every=1.0):
    """``pages``: {name: {labels: number}} for every second."""
    window = Window()
    for at, page in enumerate(pages):
        samples = {
            name: {tuple(dict(labels).items()): float(value) for labels, value in family}
            for name, family in page.items()
        }
        window.add(Snapshot(at, 1_000 + at * every, samples))
    return window


def gauge(metric, value, **labels):
    return {metric.name: [(labels, value)]}


def lasting(seconds, page):
    """The same page for so many seconds of history."""
    return window_of([page(second) for second in range(seconds + 1)])


def idle(metric, share):
    """Kafka's percentages, which need no rates."""
    return lambda _: gauge(metric, share)


@pytest.mark.parametrize(
    ("condition", "metric", "what"),
    [
        (alerts.network_idle, names.PROCESSORS_IDLE_PERCENT, "network idle"),
        (alerts.handlers_idle, names.HANDLER_IDLE_PERCENT, "handler idle"),
    ],
)
@pytest.mark.parametrize(
    ("share", "seconds", "level", "limit"),
    [
        (0.24, 30, "warn", "30%"),
        (0.24, 29, None, None),
        (0.31, 60, None, None),
        (0.05, 30, "bad", "10%"),
        (0.05, 29, None, None),
    ],
)
def test_idleness_is_low_after_half_a_minute(condition, metric, what, share, seconds, level, limit):
    alert = condition(lasting(seconds, idle(metric, share)))

    expected = Alert(level, f"{what} {share:.0%} < {limit}", seconds) if level else None
    assert expected == alert


def test_idleness_that_recovered_is_no_alert():
    shares = [0.1] * 40 + [0.9] + [0.1] * 20
    window = window_of([gauge(names.HANDLER_IDLE_PERCENT, share) for share in shares])

    assert alerts.handlers_idle(window) is None


def lag_of(seconds):
    """All observations in the bucket that ends at ``seconds``."""
    name = names.LOOP_LAG.name
    return [
        {f"{name}_bucket": [({"le": str(seconds)}, count), ({"le": "+Inf"}, count)]}
        for count in (0, 100)
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.05, None),
        (0.1, Alert("warn", "event loop lag p99 99 ms > 50 ms")),
        (0.5, Alert("bad", "event loop lag p99 495 ms > 250 ms")),
    ],
)
def test_late_event_loop(seconds, expected):
    assert expected == alerts.loop_lag(window_of(lag_of(seconds)))


def queue(taken):
    return lambda _: {
        **gauge(names.REQUEST_QUEUE_SIZE, taken, **DATA),
        **gauge(names.REQUEST_QUEUE_CAPACITY, 500, **DATA),
    }


@pytest.mark.parametrize(
    ("taken", "seconds", "expected"),
    [
        (250, 60, None),
        (300, 9, None),
        (300, 10, Alert("warn", "request queue 60% full", 10)),
        (500, 0, Alert("bad", "request queue full")),
        (500, 5, Alert("bad", "request queue full", 5)),
    ],
)
def test_full_request_queue(taken, seconds, expected):
    assert expected == alerts.request_queue(lasting(seconds, queue(taken)))


@pytest.mark.parametrize(
    ("pages", "condition", "expected"),
    [
        (
            [gauge(names.MEMORY_POOL_DEPLETED, seconds) for seconds in (1, 1.5)],
            alerts.memory_pool,
            Alert("warn", "memory pool depleted"),
        ),
        ([gauge(names.MEMORY_POOL_DEPLETED, 1)] * 2, alerts.memory_pool, None),
        (
            [gauge(names.ERRORS, n, request="Fetch", error="UNKNOWN_SERVER_ERROR") for n in (1, 2)],
            alerts.server_errors,
            Alert("bad", "UNKNOWN_SERVER_ERROR in Fetch"),
        ),
        (
            [gauge(names.ERRORS, 1, request="Fetch", error="UNKNOWN_SERVER_ERROR")] * 2,
            alerts.server_errors,
            None,
        ),
        (
            [gauge(names.DISCONNECTS, n, cause="authentication failed") for n in (0, 3)],
            alerts.failed_authentication,
            Alert("warn", "3 authentication failures"),
        ),
        (
            [gauge(names.DISCONNECTS, n, cause="idle") for n in (0, 3)],
            alerts.failed_authentication,
            None,
        ),
        (
            [gauge(names.DISCONNECTS, n, cause="evicted") for n in (0, 2)],
            alerts.quota_closes,
            Alert("warn", "2 connections closed by limits"),
        ),
        ([gauge(names.DISCONNECTS, n, cause="idle") for n in (0, 2)], alerts.quota_closes, None),
        (
            [
                gauge(names.QUOTA_THROTTLES, n, resource="Produce", user="", clientId="checkout")
                for n in (0, 2)
            ],
            alerts.throttled,
            Alert("warn", "checkout throttled (produce quota)"),
        ),
        (
            [gauge(names.QUOTA_THROTTLES, 2, resource="Produce", user="", clientId="x")] * 2,
            alerts.throttled,
            None,
        ),
        (
            [gauge(names.GROUP_STATE_SECONDS, 31, group="g", state="PreparingRebalance")],
            alerts.group_rebalancing,
            Alert("warn", "g rebalancing", 31),
        ),
        (
            [gauge(names.GROUP_STATE_SECONDS, 30, group="g", state="PreparingRebalance")],
            alerts.group_rebalancing,
            None,
        ),
        (
            [gauge(names.GROUP_STATE_SECONDS, 9_000, group="g", state="Stable")],
            alerts.group_rebalancing,
            None,
        ),
        (
            [gauge(names.OFFLINE_LOG_DIRS, 1)],
            alerts.offline,
            Alert("bad", "1 log directory offline"),
        ),
        ([gauge(names.OFFLINE_REPLICAS, 2)], alerts.offline, Alert("bad", "2 replicas offline")),
        (
            [gauge(names.OFFLINE_PARTITIONS, 2)],
            alerts.offline,
            Alert("bad", "2 partitions offline"),
        ),
        ([gauge(names.OFFLINE_LOG_DIRS, 0)], alerts.offline, None),
        (
            [{**gauge(names.LOG_DIR_FREE, 9), **gauge(names.LOG_DIR_SIZE, 100)}],
            alerts.disk_free,
            Alert("bad", "disk free 9% < 10%"),
        ),
        (
            [{**gauge(names.LOG_DIR_FREE, 10), **gauge(names.LOG_DIR_SIZE, 100)}],
            alerts.disk_free,
            None,
        ),
        ([gauge(names.LOG_DIR_FREE, 1)], alerts.disk_free, None),
    ],
)
def test_conditions_of_the_moment(pages, condition, expected):
    assert expected == condition(window_of(pages))


@pytest.mark.parametrize(("failed", "fires"), [(10, False), (11, True), (0, False)])
def test_errors_are_compared_with_requests(failed, fires):
    window = window_of([
        {
            names.ERRORS.name: [
                ({"error": "NONE"}, 1_000 * n), ({"error": "NOT_LEADER"}, failed * n)
            ],
            **gauge(names.REQUESTS, 1_000 * n),
        }
        for n in (0, 1)
    ])  # fmt: skip

    expected = Alert("warn", "errors 1% of requests") if fires else None
    assert expected == alerts.error_rate(window)


def lags(*numbers):
    return window_of([gauge(names.GROUP_LAG, number, consumergroup="g") for number in numbers])


def test_lag_that_grew_for_a_whole_minute():
    assert Alert("warn", "g lag growing", 60) == alerts.lag_growing(lags(*range(61)))


@pytest.mark.parametrize(
    "numbers",
    [range(60), [5] * 61, range(61, 0, -1), [*range(50), *[3] * 11]],
    ids=["too short", "still", "shrinks", "recovered"],
)
def test_lag_that_did_not(numbers):
    assert alerts.lag_growing(lags(*numbers)) is None


def test_several_groups_are_one_alert():
    page = {
        names.GROUP_STATE_SECONDS.name: [
            ({"group": group, "state": "PreparingRebalance"}, seconds)
            for group, seconds in (("a", 40), ("b", 50), ("c", 60))
        ]
    }

    assert Alert("warn", "c and 2 more rebalancing", 60) == alerts.group_rebalancing(
        window_of([page])
    )


def test_stale_and_restarted_are_alerts():
    window = window_of([gauge(names.PROCESS_START_TIME, 1), gauge(names.PROCESS_START_TIME, 2)])
    window.stale_s = 7.0

    assert ["no answer since 7s", "server restarted"] == [alert.text for alert in active(window)]


def test_worst_comes_first_and_nothing_known_is_no_alert():
    window = lasting(40, lambda _: {
        **gauge(names.HANDLER_IDLE_PERCENT, 0.2),
        **gauge(names.OFFLINE_REPLICAS, 1),
        **gauge(names.GROUP_STATE_SECONDS, 50, group="g", state="Reconciling"),
    })  # fmt: skip

    assert ["1 replica offline", "g rebalancing", "handler idle 20% < 30%"] == [
        alert.text for alert in active(window)
    ]
    assert [] == active(window_of([{}, {}]))
    assert [] == active(Window())


def test_what_is_not_known_ends_what_held():
    assert 2 == held_s((9, None, 1, 1), lambda point: point < 5)
    assert 0 == held_s((), lambda point: True)
    assert not is_growing((None, *range(59)))
