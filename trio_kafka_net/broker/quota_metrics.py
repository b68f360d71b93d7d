"""The figures of the client quotas as named families, made when somebody looks.

There are figures for clients that have a quota only; how many those can be is bounded, see
``quota_manager``.
"""

from __future__ import annotations

from collections.abc import Iterator

from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import Family, Labels, Metric, Sample

from .client_quotas import ClientQuotas, now_ms
from .throttler import Throttler


def quota_families(quotas: ClientQuotas, throttler: Throttler) -> Iterator[Family]:
    """Every figure at this moment."""
    now = now_ms()
    waiting = throttler.waiting
    queue_sizes = [Sample((each.name,), waiting[each.name]) for each in quotas.managers]
    yield Family(names.QUOTA_QUEUE_SIZE, tuple(queue_sizes))
    times_of_all = [
        Sample((each.name,), throttler.throttled_ms[each.name] * names.THROTTLE_TIME.scale)
        for each in quotas.managers
    ]
    yield Family(names.THROTTLE_TIME, tuple(times_of_all))
    exempt = quotas.exempt_time_ns * names.QUOTA_EXEMPT_TIME.scale
    yield Family(names.QUOTA_EXEMPT_TIME, (Sample((), exempt),))
    for metric, manager in (
        (names.QUOTA_BYTE_RATE, quotas.produce),
        (names.QUOTA_BYTE_RATE, quotas.fetch),
        (names.QUOTA_REQUEST_TIME, quotas.request),
    ):
        usages: dict[Labels, float] = {
            (manager.name, each.user, each.client_id): each.usage.per_second(now) / manager.unit
            for each in manager.sensors(now)
        }
        yield _family(metric, usages)
    tokens: dict[Labels, float] = {
        (quotas.mutations.name, each.user, each.client_id): each.usage.tokens(now)
        for each in quotas.mutations.sensors(now)
    }
    yield _family(names.QUOTA_TOKENS, tokens)
    throttles: dict[Labels, float] = {}
    times: dict[Labels, float] = {}
    for each_manager in quotas.managers:
        for sensor in each_manager.sensors(now):
            labels = (each_manager.name, sensor.user, sensor.client_id)
            throttles[labels] = sensor.throttles
            times[labels] = sensor.throttle_ms * names.QUOTA_THROTTLE_TIME.scale
    yield _family(names.QUOTA_THROTTLES, throttles)
    yield _family(names.QUOTA_THROTTLE_TIME, times)


def _family(metric: Metric, samples: dict[Labels, float]) -> Family:
    return Family(metric, tuple(Sample(labels, value) for labels, value in samples.items()))
