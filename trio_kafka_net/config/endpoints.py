"""Endpoints: from ``NAME://host:port`` to the listeners of a server.

A listener has a name that is unique within the broker, an address it listens on, an address that
it tells clients ("advertised"), a security protocol, and a plane. Kafka spreads this over five
keys that refer to each other by name; here they are resolved once, names in upper case, into one
``ListenerConfig`` per listener, and nothing looks a name up later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Iterable, Mapping

import attrs

from trio_kafka_net.errors import ConfigError

from .listener_overrides import NO_OVERRIDES, ListenerOverrides, check_names

_ENDPOINT = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+)://"
    r"(?:\[(?P<literal>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?)\]"
    r"|(?P<host>[A-Za-z0-9_.-]*)):(?P<port>[0-9]{1,5})"
)
_SYNTAX = "NAME://host:port, an IPv6 address in brackets, the port from 0 (any free one) to 65535"

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""Kafka's security protocols; a listener with the name of one speaks it unless mapped."""
SUPPORTED_SECURITY_PROTOCOLS = ("PLAINTEXT",)
"""The ones that a listener can speak here."""

_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - recognised in order to be refused


@attrs.frozen
class Endpoint:
    """A named address, as written in ``listeners`` and ``advertised.listeners``."""

    name: str
    """Listener name, upper case."""
    host: str
    """Name or literal address without brackets; empty is every address of the machine."""
    port: int
    """0 is any free port."""

    @classmethod
    def parse(cls, text: str, key: str = "listeners") -> Endpoint:
        """Read ``NAME://host:port``.

        Args:
            text: the endpoint; the name may be in any case.
            key: configuration key to blame.

        Raises:
            ConfigError: the text is no endpoint.

        Source: Kafka ``EndPoint.createEndPoint``.
        """
        match = _ENDPOINT.fullmatch(text.strip())
        if match is None or int(match["port"]) > 65535:
            raise ConfigError(f"{key}={text}: must be {_SYNTAX}")
        return cls(
            match["name"].upper(), match["literal"] or match["host"] or "", int(match["port"])
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


@attrs.frozen(kw_only=True)
class ListenerConfig:
    """One listener, all that the configuration says about it put together."""

    name: str
    """Upper case, unique within a server."""
    host: str
    """Address or name to bind; empty is every address."""
    port: int
    """Port to bind; 0 takes a free one."""
    is_control_plane: bool = False
    """Whether it makes the control plane."""
    is_inter_broker: bool = False
    """Whether it is the one for other brokers, which ``max_connections`` does not lock out."""
    security_protocol: str = "PLAINTEXT"
    """One of ``SECURITY_PROTOCOLS``."""
    max_connections: int | None = None
    """Connections it may have; None is what holds for its plane."""
    max_connection_creation_rate: int | None = None
    """New connections per second; None is what holds for its plane."""
    num_network_threads: int | None = None
    """Its Processors; None is the server's number. The control plane has one."""
    advertised_host: str = attrs.field()
    """Host that clients are told; never empty."""
    advertised_port: int = attrs.field()
    """Port that clients are told; 0 is the one that was bound."""

    @advertised_host.default
    def _own_host(self) -> str:
        # Kafka asks the resolver for the canonical name; that can block for seconds at start.
        return self.host or socket.gethostname()

    @advertised_port.default
    def _own_port(self) -> int:
        return self.port


def resolve_listeners(
    *,
    listeners: Iterable[str],
    advertised: Iterable[str],
    protocols: Mapping[str, str],
    control_plane: str | None,
    inter_broker: str | None,
    overrides: Mapping[str, ListenerOverrides],
) -> tuple[ListenerConfig, ...]:
    """Resolve the keys that describe listeners into one object per listener.

    Args:
        listeners: values of ``listeners``.
        advertised: values of ``advertised.listeners``; a listener missing here advertises the
            address that it binds.
        protocols: ``listener.security.protocol.map``: {listener name: protocol}. Names of
            protocols stand for themselves, and the control plane is PLAINTEXT, unless mapped.
        control_plane: ``control.plane.listener.name``, any case, or None.
        inter_broker: ``inter.broker.listener.name``, any case, or None.
        overrides: {listener name, upper case: its own settings}.

    Returns:
        The listeners, in the order given.

    Raises:
        ConfigError: the keys contradict each other, or ask for what is not supported.

    Source: Kafka ``KafkaConfig.validateValues`` and ``CoreUtils.listenerListToEndPoints``. Unlike
        there, the control-plane name is normalised before it is compared, so a lower-case name
        cannot end up in both planes.
    """
    control = control_plane.strip().upper() if control_plane else None
    endpoints = [Endpoint.parse(text) for text in listeners]
    _check_endpoints(endpoints)
    names = {endpoint.name for endpoint in endpoints}
    other_brokers = inter_broker.strip().upper() if inter_broker else None
    _check_roles(names, control, other_brokers)
    check_names(overrides, names)
    told = _advertised_endpoints(advertised, names)
    protocol_map = _protocol_map(protocols, control)
    resolved = []
    for endpoint in endpoints:
        public = told.get(endpoint.name, endpoint)
        own = overrides.get(endpoint.name, NO_OVERRIDES)
        if public.host in _WILDCARDS[1:]:
            raise ConfigError(
                f"{'advertised.listeners' if endpoint.name in told else 'listeners'}={public}: "
                "clients cannot connect to a wildcard address; "
                "advertised.listeners must name one that they can reach"
            )
        resolved.append(
            ListenerConfig(
                name=endpoint.name,
                host=endpoint.host,
                port=endpoint.port,
                is_control_plane=endpoint.name == control,
                is_inter_broker=endpoint.name == other_brokers,
                security_protocol=_protocol_of(endpoint.name, protocol_map),
                advertised_host=public.host or socket.gethostname(),
                advertised_port=public.port,
                max_connections=own.max_connections,
                max_connection_creation_rate=own.max_connection_creation_rate,
                num_network_threads=own.num_network_threads,
            )
        )
    return tuple(resolved)


def _check_endpoints(endpoints: list[Endpoint]) -> None:
    if not endpoints:
        raise ConfigError("listeners=: at least one listener is needed")
    for name, times in Counter(endpoint.name for endpoint in endpoints).items():
        if times > 1:
            raise ConfigError(f"listeners: {name} is there {times} times; names must be unique")
    by_port: dict[int, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_port.setdefault(endpoint.port, []).append(endpoint)
    for port, sharing in by_port.items():
        if port and len(sharing) > 1 and not _is_dual_stack(sharing):
            raise ConfigError(
                f"listeners={','.join(map(str, sharing))}: two listeners may share port {port} "
                "only if one has a literal IPv4 and the other a literal IPv6 address"
            )


def _is_dual_stack(endpoints: list[Endpoint]) -> bool:
    try:
        versions = sorted(ipaddress.ip_address(endpoint.host).version for endpoint in endpoints)
    except ValueError:
        return False
    return versions == [4, 6]


def _check_roles(names: set[str], control: str | None, inter_broker: str | None) -> None:
    for key, name in (
        ("control.plane.listener.name", control),
        ("inter.broker.listener.name", inter_broker),
    ):
        if name is not None and name not in names:
            raise ConfigError(f"{key}={name}: must be one of listeners: {', '.join(sorted(names))}")
    if control is None:
        return
    if control == inter_broker:
        raise ConfigError(
            f"control.plane.listener.name={control}: must differ from inter.broker.listener.name"
        )
    if names == {control}:
        raise ConfigError(
            f"listeners: {control} is the control plane; the data plane needs a listener as well"
        )


def _advertised_endpoints(advertised: Iterable[str], names: set[str]) -> dict[str, Endpoint]:
    told: dict[str, Endpoint] = {}
    for text in advertised:
        endpoint = Endpoint.parse(text, "advertised.listeners")
        if endpoint.name not in names:
            raise ConfigError(
                f"advertised.listeners={text}: {endpoint.name} must be one of listeners: "
                f"{', '.join(sorted(names))}"
            )
        if endpoint.name in told:
            raise ConfigError(f"advertised.listeners={text}: {endpoint.name} is there twice")
        told[endpoint.name] = endpoint
    return told


def _protocol_map(protocols: Mapping[str, str], control: str | None) -> dict[str, str]:
    merged = {name: name for name in SECURITY_PROTOCOLS}
    if control is not None:
        merged.setdefault(control, "PLAINTEXT")
    for name, protocol in protocols.items():
        if protocol.upper() not in SECURITY_PROTOCOLS:
            raise ConfigError(
                f"listener.security.protocol.map={name}:{protocol}: the protocol must be "
                f"{' or '.join(SECURITY_PROTOCOLS)}"
            )
        merged[name.upper()] = protocol.upper()
    return merged


def _protocol_of(name: str, protocol_map: Mapping[str, str]) -> str:
    protocol = protocol_map.get(name)
    if protocol is None:
        raise ConfigError(
            f"listener.security.protocol.map: {name} is missing; it must say which security "
            "protocol the listener speaks"
        )
    if protocol not in SUPPORTED_SECURITY_PROTOCOLS:
        raise ConfigError(
            f"listener.security.protocol.map={name}:{protocol}: not supported yet; "
            f"must be {' or '.join(SUPPORTED_SECURITY_PROTOCOLS)}"
        )
    return protocol
