"""One kind of quota: who has which, and what everybody has used up of it.

Whose quota counts is decided from the most special to the most general, and the level that
decides also says who shares the budget (Kafka's order; a name is looked for as it is):

======  ==================================  ===========================
level   a quota for                         the budget is shared by
======  ==================================  ===========================
1, 2    user and client id; user, default   that user with that client
3       user                                all clients of that user
4, 5    default user and client id; both    that user with that client
6       default user                        all clients of that user
7, 8    client id; default client id        all users with that client
======  ==================================  ===========================

Memory. Every name that a client thinks of would get a budget of its own under a default quota. So
there is a bound: whoever comes when it is reached, or calls itself by an overlong name, shares one
budget with all others of that sort. What was named in a quota always has its own. A budget that
says nothing any more makes room for another, and after an hour without use it disappears from the
figures, as in Kafka; both happen when somebody new comes or somebody looks: there is no timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from trio_kafka_net.metrics.registry import OTHER

from .quota_entities import DEFAULT
from .quota_rates import MutationBucket, SampledRate

Usage = TypeVar("Usage", SampledRate, MutationBucket)

MAX_SENSORS = 5_000
"""Budgets of a kind, beside those of named clients: some 3 MB."""

EXPIRES_MS = 3_600_000
"""Idle time after which a budget is forgotten; Kafka's ``InactiveSensorExpirationTimeSeconds``."""

_SWEEP_EVERY_MS = 1_000
"""A sweep costs as much as there is, some ms: not every newcomer shall pay for one."""

_LONGEST_NAME = 256

_Level = tuple["str | None", "str | None"]
"""User and client id; None is no part of it, the empty name is the default."""


@attrs.define(eq=False)
class Sensor(Generic[Usage]):
    """What those who share a budget have used up of it."""

    user: str
    """Empty if users do not matter."""
    client_id: str
    """Empty if clients do not matter."""
    usage: Usage
    throttles: int = 0
    """How often somebody was told to wait."""
    throttle_ms: int = 0
    """For how long, added up."""


class QuotaManager(Generic[Usage]):
    """The quotas of one kind.

    Source: Kafka ``ClientQuotaManager`` (4.0).
    """

    def __init__(
        self, name: str, new_usage: Callable[[float, int], Usage], *, unit: float = 1
    ) -> None:
        """Limit nobody.

        Args:
            name: Kafka's name of the kind, in the figures: ``Produce``.
            new_usage: makes what counts for a quota (units per second) from a time (ms) on.
            unit: what is recorded, in the unit that quotas are given in.
        """
        self.name = name
        """Kafka's name of the kind."""
        self.unit = unit
        """How much of what is recorded makes one of what quotas are given in."""
        self.is_enforced = False
        """Whether anybody has a quota; nothing need be recorded otherwise."""
        self._new_usage: Callable[[float, int], Usage] = new_usage
        self._quotas: dict[_Level, float] = {}
        # {(user, client id) as labels: their budget}
        self._sensors: dict[tuple[str, str], Sensor[Usage]] = {}
        self._others: Sensor[Usage] | None = None
        # {(user, client id) of a request: what ``sensor`` found}, until anything changes
        self._found: dict[tuple[str, str], Sensor[Usage] | None] = {}
        self._next_sweep_ms = 0

    def set_quota(self, user: str | None, client_id: str | None, quota: float | None) -> None:
        """Give a level a quota, or take it away with None; budgets keep what was used up."""
        level = (user, client_id)
        if quota is None:
            self._quotas.pop(level, None)
        else:
            self._quotas[level] = quota
        self._found.clear()
        self.is_enforced = bool(self._quotas)
        if not self.is_enforced:
            self._sensors.clear()
            self._others = None

    def quota(self, user: str, client_id: str) -> float | None:
        """What a client may use per second, in the unit that quotas are given in."""
        found = self._match(user, client_id)
        return None if found is None else found[2]

    def sensor(self, user: str, client_id: str, now_ms: int) -> Sensor[Usage] | None:
        """The budget of a client, with its quota of this moment; None if it has no quota."""
        client = (user, client_id)
        try:
            return self._found[client]
        except KeyError:
            pass
        sensor = self._find(user, client_id, now_ms)
        if len(self._found) >= MAX_SENSORS:
            self._found.clear()
        if max(map(len, client)) <= _LONGEST_NAME:
            self._found[client] = sensor
        return sensor

    def _find(self, user: str, client_id: str, now_ms: int) -> Sensor[Usage] | None:
        found = self._match(user, client_id)
        if found is None:
            return None
        level, labels, quota = found
        sensor = self._sensors.get(labels)
        if sensor is None:
            if DEFAULT in level and not self._has_room(labels, now_ms):
                sensor = self._of_others(now_ms)
            else:
                sensor = Sensor(*labels, self._new_usage(quota, now_ms))
                self._sensors[labels] = sensor
        sensor.usage.quota = quota * self.unit
        return sensor

    def _of_others(self, now_ms: int) -> Sensor[Usage]:
        if self._others is None:
            self._others = Sensor(OTHER, OTHER, self._new_usage(1, now_ms))
        return self._others

    def sensors(self, now_ms: int) -> list[Sensor[Usage]]:
        """Every budget that was used within the last hour, or is not yet as new."""
        self._forget(now_ms - EXPIRES_MS, now_ms)
        found = list(self._sensors.values())
        if self._others is not None:
            found.append(self._others)
        return found

    def _match(self, user: str, client_id: str) -> tuple[_Level, tuple[str, str], float] | None:
        quotas = self._quotas
        both, of_user, of_client = (user, client_id), (user, DEFAULT), (DEFAULT, client_id)
        for level, labels in (
            (both, both),
            (of_user, both),
            ((user, None), of_user),
            (of_client, both),
            ((DEFAULT, DEFAULT), both),
            ((DEFAULT, None), of_user),
            ((None, client_id), of_client),
            ((None, DEFAULT), of_client),
        ):
            quota = quotas.get(level)
            if quota is not None:
                return level, labels, quota
        return None

    def _has_room(self, labels: tuple[str, str], now_ms: int) -> bool:
        if max(map(len, labels)) > _LONGEST_NAME:
            return False
        if len(self._sensors) >= MAX_SENSORS and now_ms >= self._next_sweep_ms:
            self._next_sweep_ms = now_ms + _SWEEP_EVERY_MS
            self._forget(now_ms, now_ms)
        return len(self._sensors) < MAX_SENSORS

    def _forget(self, unused_since_ms: int, now_ms: int) -> None:
        """Drop the budgets that were not used since, if fresh ones would behave the same."""
        self._found.clear()
        self._sensors = {
            labels: sensor
            for labels, sensor in self._sensors.items()
            if sensor.usage.last_used_ms > unused_since_ms or not sensor.usage.is_as_new(now_ms)
        }
