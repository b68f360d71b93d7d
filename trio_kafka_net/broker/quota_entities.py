"""Whom a client quota is for, what can be limited, and what Kafka says to everything else.

An entity names users, client ids, users with client ids, or addresses. Of each kind it may mean
one, or all that have no quota of their own (the default); Kafka writes the default as a missing
name, here it is the empty name, which nobody can have.

Source: Kafka ``ClientQuotaControlManager`` and ``ClientQuotasImage.describe`` (4.1); KIP-546.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from trio_kafka_net.config.settings import MAX_INT, MAX_LONG
from trio_kafka_net.errors import ConfigError, KafkaError
from trio_kafka_net.network.ip_quotas import literal_address
from trio_kafka_net.protocol.error_codes import ErrorCode

USER: Final = "user"
CLIENT_ID: Final = "client-id"
IP: Final = "ip"

DEFAULT: Final = ""
"""The name that stands for everybody without a quota of their own."""

PRODUCER_BYTE_RATE: Final = "producer_byte_rate"
CONSUMER_BYTE_RATE: Final = "consumer_byte_rate"
REQUEST_PERCENTAGE: Final = "request_percentage"
CONTROLLER_MUTATION_RATE: Final = "controller_mutation_rate"
CONNECTION_CREATION_RATE: Final = "connection_creation_rate"

# {key: largest value, None for a number that need not be whole}
_CLIENT_KEYS: Final[Mapping[str, int | None]] = {
    PRODUCER_BYTE_RATE: MAX_LONG,
    CONSUMER_BYTE_RATE: MAX_LONG,
    REQUEST_PERCENTAGE: None,
    CONTROLLER_MUTATION_RATE: None,
}
_IP_KEYS: Final[Mapping[str, int | None]] = {CONNECTION_CREATION_RATE: MAX_INT}

_WHOLE_WITHIN = 1e-6

EntityNames = Mapping[str, "str | None"]
"""An entity as clients write it: {kind: name, None for the default}."""


@attrs.frozen
class QuotaEntity:
    """Whom a quota is for; a kind that is None is not part of it."""

    user: str | None = None
    client_id: str | None = None
    ip: str | None = None

    @classmethod
    def parse(cls, names: EntityNames) -> QuotaEntity:
        """Make an entity of what a client wrote.

        Raises:
            KafkaError: INVALID_REQUEST.
        """
        if not names:
            raise _invalid("Invalid empty client quota entity")
        for kind, name in names.items():
            if kind not in (USER, CLIENT_ID, IP):
                raise _invalid(f"Unhandled client quota entity type: {kind}")
            if name == "":
                raise _invalid(f"Empty {kind} not supported")
        entity = cls(*(_name(names, kind) for kind in (USER, CLIENT_ID, IP)))
        if entity.ip is not None:
            if entity.user is not None or entity.client_id is not None:
                raise _invalid(
                    "Invalid quota entity combination, IP entity should"
                    "not be combined with User or ClientId"
                )
            _check_address(entity.ip)
        return entity

    def names(self) -> dict[str, str | None]:
        """It as clients write it, in the order in which Kafka answers."""
        kinds = ((CLIENT_ID, self.client_id), (USER, self.user), (IP, self.ip))
        return {kind: name or None for kind, name in kinds if name is not None}

    def check_value(self, key: str, value: float) -> None:
        """Refuse what is no quota of this entity.

        Raises:
            KafkaError: INVALID_REQUEST.
        """
        keys = _CLIENT_KEYS if self.ip is None else _IP_KEYS
        if key not in keys:
            raise _invalid(f"Invalid configuration key {key}")
        if not value > 0:  # nor is NaN, which Kafka lets pass
            raise _invalid(f"Quota {key} must be greater than 0")
        largest = keys[key]
        if largest is None:
            return
        if value > float(largest):  # as Kafka compares
            size = "an INT" if largest == MAX_INT else "a LONG"
            raise _invalid(f"Proposed value for {key} is too large for {size}.")
        if math.fmod(value, 1) > _WHOLE_WITHIN:
            raise _invalid(f"{key} cannot be a fractional value.")


def _name(names: EntityNames, kind: str) -> str | None:
    return (names[kind] or DEFAULT) if kind in names else None


def _check_address(ip: str) -> None:
    # Kafka also takes host names. Looking one up may take seconds and its answer may change, so
    # here an address is an address.
    if ip != DEFAULT:
        try:
            literal_address(ip)
        except ConfigError:
            raise _invalid(f"{ip} is not a valid IP or resolvable host.") from None


def _invalid(text: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, text)


_MATCH_EXACT, _MATCH_DEFAULT, _MATCH_SPECIFIED = range(3)


@attrs.frozen
class QuotaFilter:
    """Which entities to describe."""

    names: Mapping[str, str | None]
    """{kind: its name, None for the default}: the entity has exactly these."""
    kinds: frozenset[str]
    """The entity has these kinds, whatever their names."""
    is_strict: bool
    """Whether it may have no other kinds."""

    @classmethod
    def parse(
        cls, components: Iterable[tuple[str, int, str | None]], *, is_strict: bool
    ) -> QuotaFilter:
        """Make a filter of (kind, type of match, name to match).

        Raises:
            KafkaError: INVALID_REQUEST, or UNSUPPORTED_VERSION for a kind that is none.
        """
        names: dict[str, str | None] = {}
        kinds: set[str] = set()
        for kind, match_type, name in components:
            _check_kind(kind, {*names, *kinds})
            _check_match(match_type, name)
            if match_type == _MATCH_SPECIFIED:
                kinds.add(kind)
            else:
                names[kind] = name
        asked = {*names, *kinds}
        if IP in asked and len(asked) > 1:
            raise _invalid(
                "Invalid entity filter component combination. IP filter component should not be "
                "used with user or clientId filter component."
            )
        return cls(names, frozenset(kinds), is_strict)

    def matches(self, entity: QuotaEntity) -> bool:
        """Whether the entity is asked for."""
        has = entity.names()
        if self.is_strict and len(has) != len(self.names) + len(self.kinds):
            return False
        return self.kinds <= has.keys() and self.names.items() <= has.items()


def _check_kind(kind: str, seen: set[str]) -> None:
    if not kind:
        raise _invalid("Invalid empty entity type.")
    if kind in seen:
        raise _invalid(f"Entity type {kind} cannot appear more than once in the filter.")
    if kind not in (USER, CLIENT_ID, IP):
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {kind}")


def _check_match(match_type: int, name: str | None) -> None:
    if match_type == _MATCH_EXACT:
        if name is None:
            raise _invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
    elif match_type in (_MATCH_DEFAULT, _MATCH_SPECIFIED):
        if name is not None:
            kind = "DEFAULT" if match_type == _MATCH_DEFAULT else "SPECIFIED"
            raise _invalid(
                f"Request specified MATCH_TYPE_{kind}, but also specified a match string."
            )
    else:
        raise _invalid(f"Unknown match type {match_type}")
