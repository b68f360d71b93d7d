"""The client quotas of this broker: what was set, where it is kept, and who enforces it.

They survive a restart in ``client-quotas.json`` in the data directory, replaced as a whole with
every change. A change counts from the moment at which it is on the disk.

Source: Kafka ``ClientQuotaControlManager``, ``ClientQuotaMetadataManager``, ``QuotaFactory`` (4.1).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trio_kafka_net.config.quotas import QuotaConfig
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

from .log.checkpoints import write_atomically
from .quota_entities import (
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    DEFAULT,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    EntityNames,
    QuotaEntity,
)
from .quota_manager import QuotaManager, Sensor
from .quota_rates import MutationBucket, SampledRate

log = logging.getLogger(__name__)

CLIENT_QUOTAS_FILE: Final = "client-quotas.json"
_FILE_VERSION = 1

_NS_PER_PERCENT: Final = 10_000_000
"""One percent of a handler, in ns of its time per second."""

_MAX_CHANGES = 10_000
"""What one request may change; Kafka's ``MAX_RECORDS_PER_USER_OP``."""
ENTITIES_PER_PASS: Final = 100
"""Looked at between two checkpoints: some 2 ms."""
_MAX_ENTITIES = 10_000
"""Entities with quotas, in all; Kafka has no bound, and describes all of them in one answer."""

Quotas = Mapping[QuotaEntity, Mapping[str, float]]
"""{entity: {key: value}}; never changed in place, so that a thread may write it down."""

AnyManager = QuotaManager[SampledRate] | QuotaManager[MutationBucket]

SetIpRate = Callable[[str | None, int | None], None]
"""Limits the connections per second of an address (None: of all others); None takes it away."""


def now_ms() -> int:
    """The time by which quotas are counted: trio's clock, in ms."""
    return int(trio.current_time() * 1000)


@attrs.frozen
class Alteration:
    """What a client wants changed for one entity."""

    names: EntityNames
    """The entity as the client wrote it."""
    changes: Sequence[tuple[str, float | None]]
    """(key, value), None takes it away."""


@attrs.frozen
class Outcome:
    """What became of the alterations of one entity."""

    names: EntityNames
    """The entity as the client wrote it, kinds in Kafka's order."""
    error: KafkaError | None


class MutationQuota:
    """How much one request may change of the cluster (KIP-599).

    A strict one refuses what comes when the tokens are used up; one that is not (for clients that
    do not know the refusal) lets everything happen and has the client wait afterwards.

    Source: Kafka ``StrictControllerMutationQuota``, ``PermissiveControllerMutationQuota``.
    """

    __slots__ = ("_is_strict", "_until_ms", "sensor")

    def __init__(self, sensor: Sensor[MutationBucket] | None, *, is_strict: bool) -> None:
        """Count in ``sensor``; without one everything is allowed."""
        self.sensor = sensor
        """The budget that is counted in."""
        self._is_strict = is_strict
        self._until_ms = 0

    def record(self, partitions: int) -> None:
        """Count partitions that are about to be made or deleted.

        Raises:
            KafkaError: THROTTLING_QUOTA_EXCEEDED, it must not happen; nothing was counted.
        """
        if self.sensor is None:
            return
        bucket = self.sensor.usage
        now = now_ms()
        delay_ms = bucket.delay_ms(now)
        if self._is_strict and delay_ms:
            self._until_ms = now + delay_ms
            raise KafkaError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED, "The throttling quota has been exceeded."
            )
        bucket.record(partitions, now)
        if not self._is_strict:
            self._until_ms = now + bucket.delay_ms(now)

    def delay_ms(self, now_ms: int) -> int:
        """How long the client has to wait, as of now; 0 if it has not."""
        return max(0, self._until_ms - now_ms)


@attrs.define(eq=False)
class _Shared:
    """The brokers that have the same quotas, and whose turn it is to change them."""

    members: list[ClientQuotas] = attrs.field(factory=list)
    changing: trio.Lock = attrs.field(factory=trio.Lock)


class ClientQuotas:
    """Everything that is set, and a manager for each kind that is enforced on requests."""

    def __init__(
        self, path: Path, config: QuotaConfig, quotas: Quotas, *, shared: _Shared | None = None
    ) -> None:
        """Use ``load``, which knows what was set before, or ``of_another_broker``."""
        self._path = path
        self._shared = _Shared() if shared is None else shared
        self._shared.members.append(self)
        self._quotas: dict[QuotaEntity, Mapping[str, float]] = {}
        self._set_ip_rate: SetIpRate | None = None
        samples = config.quota_window_num
        window_ms = config.quota_window_size_seconds * 1000
        rate = partial(_new_rate, samples, window_ms)
        bucket = partial(
            _new_bucket,
            config.controller_quota_window_num,
            config.controller_quota_window_size_seconds * 1000,
        )
        self.produce = QuotaManager("Produce", rate)
        """Bytes of Produce requests."""
        self.fetch = QuotaManager("Fetch", rate)
        """Bytes of Fetch responses."""
        self.request = QuotaManager("Request", rate, unit=_NS_PER_PERCENT)
        """Time of request handlers, ns; quotas are percent of one handler's time."""
        self.mutations = QuotaManager("ControllerMutation", bucket)
        """Partitions made and deleted."""
        self._enforced_by: dict[str, AnyManager] = {
            PRODUCER_BYTE_RATE: self.produce,
            CONSUMER_BYTE_RATE: self.fetch,
            REQUEST_PERCENTAGE: self.request,
            CONTROLLER_MUTATION_RATE: self.mutations,
        }
        self.is_enforced = False
        """Whether requests have to be counted at all."""
        self.longest_request_delay_ms = window_ms
        """Bound of the delay for request time; there is none for bytes."""
        self.exempt_time_ns = 0
        """Time of handlers that nobody was charged for; counted while quotas are enforced."""
        self._fetch_windows_seconds = (samples - 1) * config.quota_window_size_seconds
        for entity, values in quotas.items():
            self._quotas[entity] = values
            self._apply(entity, values)
        self._note_enforcement()

    @classmethod
    def load(cls, data_dir: Path, config: QuotaConfig) -> ClientQuotas:
        """Read ``client-quotas.json`` of a data directory; nothing is set if there is none.

        Raises:
            StorageError: the file is damaged.
            OSError: it could not be read.
        """
        path = data_dir / CLIENT_QUOTAS_FILE
        try:
            document = json.loads(path.read_bytes())
            if document["version"] != _FILE_VERSION:
                raise ValueError(f"version {document['version']} is not {_FILE_VERSION}")
            return cls(path, config, dict(map(_from_json, document["quotas"])))
        except FileNotFoundError:
            return cls(path, config, {})
        except (ValueError, LookupError, TypeError, AttributeError, KafkaError) as exc:
            raise StorageError(f"{path} is damaged: {exc!r}") from exc

    def of_another_broker(self, config: QuotaConfig) -> ClientQuotas:
        """The same quotas, now and later, for another broker: each has them for itself."""
        return ClientQuotas(self._path, config, self._quotas, shared=self._shared)

    def leave(self) -> None:
        """Hear of no more changes, because the broker is gone; one that is kept always hears."""
        if self is not self._shared.members[0]:
            self._shared.members.remove(self)

    @property
    def managers(self) -> tuple[AnyManager, ...]:
        """One per kind."""
        return tuple(self._enforced_by.values())

    def __iter__(self) -> Iterator[tuple[QuotaEntity, Mapping[str, float]]]:
        """Everything that is set."""
        return iter(self._quotas.items())

    def limit_addresses(self, set_ip_rate: SetIpRate) -> None:
        """Have rates of addresses enforced by ``set_ip_rate``, from now on and with each change."""
        self._set_ip_rate = set_ip_rate
        for entity, values in self._quotas.items():
            if entity.ip is not None:
                self._apply(entity, values)

    # -- what a request may use ---------------------------------------------------------------

    def most_fetch_bytes(self, user: str, client_id: str) -> float:
        """What one Fetch of a client may return: more would never be within its quota.

        Source: Kafka ``ClientQuotaManager.getMaxValueInQuotaWindow``.
        """
        quota = self.fetch.quota(user, client_id) if self.fetch.is_enforced else None
        return float("inf") if quota is None else quota * self._fetch_windows_seconds

    def mutation_quota(self, user: str, client_id: str, *, is_strict: bool) -> MutationQuota:
        """How much a request of a client may change."""
        sensor = None
        if self.mutations.is_enforced:
            sensor = self.mutations.sensor(user, client_id, now_ms())
        return MutationQuota(sensor, is_strict=is_strict)

    # -- changes ------------------------------------------------------------------------------

    async def alter(
        self, alterations: Sequence[Alteration], *, validate_only: bool = False
    ) -> list[Outcome]:
        """Change quotas, each entity as a whole or not at all.

        An entity that comes twice is refused the second time; what Kafka answers for it then is
        that refusal, although the first one happens.

        Args:
            alterations: what to change.
            validate_only: check, and change nothing.

        Returns:
            One outcome per entity, in the order in which they came.

        Raises:
            KafkaError: POLICY_VIOLATION, too much at once or in all; KAFKA_STORAGE_ERROR. Nothing
                was changed.

        Cancellation: everything was changed, or nothing.
        """
        async with self._shared.changing:
            outcomes, changed = await self._plan(alterations)
            if changed and not validate_only:
                merged = {**self._quotas, **changed}
                merged = {entity: values for entity, values in merged.items() if values}
                if len(merged) > max(_MAX_ENTITIES, len(self._quotas)):
                    raise KafkaError(
                        ErrorCode.POLICY_VIOLATION,
                        f"{len(merged)} entities with quotas; at most {_MAX_ENTITIES} are allowed",
                    )
                await self._save(merged)
                for member in self._shared.members:
                    member._take_over(merged, changed)
            return outcomes

    def _take_over(
        self,
        quotas: dict[QuotaEntity, Mapping[str, float]],
        changed: Mapping[QuotaEntity, Mapping[str, float]],
    ) -> None:
        """Enforce new quotas; no checkpoint until all of it counts."""
        before, self._quotas = self._quotas, quotas
        for entity, values in changed.items():
            removed = dict.fromkeys(before.get(entity, {}))
            self._apply(entity, {**removed, **values})
        self._note_enforcement()

    async def _plan(
        self, alterations: Sequence[Alteration]
    ) -> tuple[list[Outcome], dict[QuotaEntity, Mapping[str, float]]]:
        """What would become of alterations: the answers, and {entity: all it would have}."""
        if sum(len(each.changes) for each in alterations) > _MAX_CHANGES:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation."
            )
        outcomes: dict[tuple[tuple[str, str | None], ...], Outcome] = {}
        changed: dict[QuotaEntity, Mapping[str, float]] = {}
        for number, each in enumerate(alterations, 1):
            if number % ENTITIES_PER_PASS == 0:
                await trio.lowlevel.checkpoint()
            names = dict(sorted(each.names.items()))  # Kafka's order, for what it allows
            key = tuple(names.items())
            changes = dict(each.changes)
            if key in outcomes or len(changes) < len(each.changes):
                outcomes[key] = Outcome(names, _duplicate(names))
                continue
            outcomes[key] = Outcome(names, None)
            try:
                entity = QuotaEntity.parse(names)
                values = self._changed(entity, changes)
            except KafkaError as error:
                outcomes[key] = Outcome(names, error)
                continue
            if values != self._quotas.get(entity, {}):
                changed[entity] = values
        return list(outcomes.values()), changed

    def _changed(
        self, entity: QuotaEntity, changes: Mapping[str, float | None]
    ) -> dict[str, float]:
        values = dict(self._quotas.get(entity, {}))
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                entity.check_value(key, value)
                values[key] = value
        return values

    async def _save(self, quotas: Quotas) -> None:
        try:
            await trio.to_thread.run_sync(_write, self._path, quotas)
        except OSError as error:
            log.error("client quotas not changed: %s", error)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error

    def _apply(self, entity: QuotaEntity, values: Mapping[str, float | None]) -> None:
        for key, value in values.items():
            if key == CONNECTION_CREATION_RATE:
                if self._set_ip_rate is not None:
                    rate = None if value is None else int(value)
                    self._set_ip_rate(None if entity.ip == DEFAULT else entity.ip, rate)
            else:
                self._enforced_by[key].set_quota(entity.user, entity.client_id, value)

    def _note_enforcement(self) -> None:
        self.is_enforced = any(manager.is_enforced for manager in self.managers)


def _new_rate(samples: int, window_ms: int, quota: float, now_ms: int) -> SampledRate:
    return SampledRate(quota, samples=samples, window_ms=window_ms, now_ms=now_ms)


def _new_bucket(samples: int, window_ms: int, quota: float, now_ms: int) -> MutationBucket:
    return MutationBucket(quota, samples=samples, window_ms=window_ms, now_ms=now_ms)


def _duplicate(names: EntityNames) -> KafkaError:
    listed = ", ".join(f"{kind}={'null' if name is None else name}" for kind, name in names.items())
    return KafkaError(
        ErrorCode.INVALID_REQUEST,
        f"Ignoring duplicate entity ClientQuotaEntity(entries={{{listed}}})",
    )


def _write(path: Path, quotas: Quotas) -> None:
    """Write the file; blocks, for a worker thread."""
    entries = [
        {"entity": entity.names(), "values": dict(values)} for entity, values in quotas.items()
    ]
    document = {"version": _FILE_VERSION, "quotas": entries}
    write_atomically(path, json.dumps(document, indent=1).encode() + b"\n")


def _from_json(entry: Mapping[str, Any]) -> tuple[QuotaEntity, dict[str, float]]:
    names = entry["entity"].items()
    entity = QuotaEntity.parse({kind: None if name is None else str(name) for kind, name in names})
    values = {str(key): float(value) for key, value in entry["values"].items()}
    for key, value in values.items():
        entity.check_value(key, value)
    return entity, values
