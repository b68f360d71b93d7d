"""The configuration of a broker: Kafka's keys as fields, dots as underscores, Kafka's units.

``BrokerConfig`` is flat, as ``server.properties`` is. Components take their own slice of it:
the network layer ``SocketServerConfig`` and ``ListenerConfig``, the log ``LogConfig``, committed
offsets ``OffsetsConfig``. A field that Kafka does not have is prefixed ``trio_``.

Every field is checked when the object is made, whether it comes from a file or from Python, so a
``BrokerConfig`` that exists is valid.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

import attrs

from trio_kafka_net.errors import ConfigError

from .cleaner import LogCleanerConfig
from .endpoints import ListenerConfig, resolve_listeners
from .groups import GroupConfig
from .known_keys import ALIASES, check_known
from .listener_overrides import ListenerOverrides, read_overrides, split_key
from .metrics import MetricsConfig
from .offsets import OffsetsConfig
from .quotas import QuotaConfig
from .settings import MAX_INT, MAX_LONG, describe, from_text, setting, settings_of

_MS_PER_MINUTE = 60 * 1000
_MS_PER_HOUR = 60 * _MS_PER_MINUTE


def _as_tuple(value: Any) -> Any:
    """One text or path, or several; what is neither is left for the validator to refuse."""
    if isinstance(value, (str, os.PathLike)):
        value = (value,)
    if isinstance(value, (list, tuple)):
        return tuple(
            os.fspath(part) if isinstance(part, os.PathLike) else str(part) for part in value
        )
    return value


# What a host name or a literal address consists of; Kafka checks no more either.
_HOST = re.compile(r"[0-9A-Za-z%._:-]+")


def _connections_of(host: str, text: str) -> int:
    if _HOST.fullmatch(host) and text.isascii() and text.isdecimal() and int(text) <= MAX_INT:
        return int(text)
    raise ConfigError(
        f"max.connections.per.ip.overrides={host}:{text}: must be host:connections, "
        f"connections from 0 to {MAX_INT}"
    )


def _as_text_map(value: Any) -> Any:
    """Texts to texts; what is no mapping is left for the validator to refuse."""
    if isinstance(value, Mapping):
        return {str(name): str(text) for name, text in value.items()}
    return value


def _with_upper_keys(
    overrides: Mapping[str, ListenerOverrides],
) -> dict[str, ListenerOverrides]:
    return {name.upper(): own for name, own in overrides.items()}


# No slots: BrokerConfig inherits the fields of several classes, and there is one of it per broker.
@attrs.frozen(kw_only=True, slots=False)
class SocketServerConfig:
    """What the network layer needs to know.

    Source: Kafka ``SocketServerConfigs``, ``ServerConfigs``; names, defaults and units are its own.
    """

    num_network_threads: int = setting(
        3,
        "Processors per data-plane listener; the control plane has one.",
        unit="tasks",
        at_least=1,
        dynamic=True,
    )
    num_io_threads: int = setting(
        8,
        "Request handlers of the data plane; the control plane has one.",
        unit="tasks",
        at_least=1,
        dynamic=True,
    )
    queued_max_requests: int = setting(
        500,
        "Capacity of the data plane's request queue. When it is full, connections wait with their "
        "request in hand; the control plane's queue has room for 20.",
        unit="requests",
        at_least=1,
    )
    queued_max_request_bytes: int = setting(
        -1,
        "Bytes of request payloads held at once by a plane; reading pauses above it. 0 or less is "
        "unlimited, anything else must be at least `socket.request.max.bytes`.",
        unit="bytes",
        at_least=-1,
        at_most=MAX_LONG,
    )
    socket_request_max_bytes: int = setting(
        104_857_600,
        "Largest request; a larger one closes its connection.",
        unit="bytes",
        at_least=1,
    )
    socket_send_buffer_bytes: int = setting(
        -1,
        "SO_SNDBUF of accepted sockets; -1 leaves it to the system. Kafka's default is 102400.",
        unit="bytes",
        at_least=-1,
    )
    socket_receive_buffer_bytes: int = setting(
        -1,
        "SO_RCVBUF of accepted sockets; -1 leaves it to the system. Kafka's default is 102400.",
        unit="bytes",
        at_least=-1,
    )
    socket_listen_backlog_size: int = setting(
        50, "Backlog of listen(2).", unit="connections", at_least=1
    )
    connections_max_idle_ms: int = setting(
        600_000,
        "A connection silent for so long is closed; a negative value is never.",
        unit="ms",
        at_least=-MAX_LONG,
        at_most=MAX_LONG,
    )
    max_connections: int = setting(
        2_147_483_647,
        "Connections of the data plane. Above it new ones wait in the kernel's backlog; if the "
        "inter-broker listener is not the only one it goes on accepting, and connections of the "
        "others are closed for it, silent ones first. The control plane is limited by its own "
        "listener's key only.",
        unit="connections",
        dynamic=True,
    )
    max_connections_per_ip: int = setting(
        2_147_483_647,
        "Connections of a plane from one address. Above it new ones are closed at once. 0 is "
        "allowed only with `max.connections.per.ip.overrides`.",
        unit="connections",
        dynamic=True,
    )
    max_connections_per_ip_overrides: Mapping[str, str] = setting(
        {},
        "Hosts with a limit of their own in place of `max.connections.per.ip`. A name is resolved "
        "once, when it is set, and stands for all of its addresses; one that does not resolve is "
        "refused, and stops the start.",
        convert=_as_text_map,
        dynamic=True,
    )
    max_connection_creation_rate: int = setting(
        2_147_483_647,
        "New connections of the data plane per second. As many may come at once; further ones "
        "wait. It does not bind the inter-broker listener together with the others, but by itself. "
        "The control plane is limited by its own listener's key only.",
        unit="connections/s",
        dynamic=True,
    )
    trio_frame_timeout_ms: int = setting(
        30_000,
        "How long a frame may take from its first byte to its last, beside the time for its size.",
        unit="ms",
        at_least=1,
        at_most=MAX_LONG,
    )
    trio_frame_bytes_per_second: int = setting(
        16_384,
        "Slowest rate at which a frame may arrive: it has its size divided by this longer.",
        unit="bytes/s",
        at_least=1,
        at_most=MAX_LONG,
    )
    trio_write_stall_timeout_ms: int = setting(
        120_000,
        "How long a peer may take no byte of a response before its connection is closed.",
        unit="ms",
        at_least=1,
        at_most=MAX_LONG,
    )
    trio_graceful_timeout_ms: int = setting(
        30_000, "How long a stop waits for requests in hand.", unit="ms", at_most=MAX_LONG
    )

    def __attrs_post_init__(self) -> None:
        # Reading the overrides checks them, so they come first.
        if not self.ip_limits and not self.max_connections_per_ip:
            raise ConfigError(
                "max.connections.per.ip=0: must be at least 1 without "
                "max.connections.per.ip.overrides"
            )

    @cached_property
    def ip_limits(self) -> dict[str, int]:
        """``max_connections_per_ip_overrides`` with numbers: {host or literal: connections}."""
        return {
            host: _connections_of(host, text)
            for host, text in self.max_connections_per_ip_overrides.items()
        }


@attrs.frozen(kw_only=True, slots=False)
class LogConfig(LogCleanerConfig):
    """What the log needs to know, and the defaults of a new topic.

    Source: Kafka ``ServerLogConfigs``, ``LogConfig``.
    """

    log_dirs: tuple[str, ...] = setting(
        ("trio-kafka-net-data",),
        "The directory that holds the data; `log.dir` is another name for it. Several are not "
        "supported yet. Kafka's default is /tmp/kafka-logs.",
        convert=_as_tuple,
    )
    trio_in_memory: bool = setting(
        False, "Keep the data in memory and forget it at the end; `log.dirs` is not touched."
    )
    message_max_bytes: int = setting(
        1_048_588,
        "Largest record batch, with its header.",
        unit="bytes",
        dynamic=True,
    )
    log_segment_bytes: int = setting(
        1_073_741_824,
        "Size at which a new segment begins.",
        unit="bytes",
        at_least=14,
        dynamic=True,
    )
    log_roll_ms: int | None = setting(
        None,
        "Age at which a new segment begins; if not set, `log.roll.hours` counts.",
        unit="ms",
        kind=int,
        at_least=1,
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_roll_hours: int = setting(
        168, "Age at which a new segment begins.", unit="hours", at_least=1
    )
    log_index_interval_bytes: int = setting(
        4096,
        "Bytes of records between two entries of the offset index.",
        unit="bytes",
        dynamic=True,
    )
    log_index_size_max_bytes: int = setting(
        10_485_760,
        "Size of the offset index at which a new segment begins.",
        unit="bytes",
        at_least=4,
        dynamic=True,
    )
    log_flush_interval_messages: int = setting(
        MAX_LONG,
        "Records of a partition after which it is flushed to the disk; with 1 a record is on the "
        "disk before it is acknowledged.",
        unit="records",
        at_least=1,
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_flush_interval_ms: int | None = setting(
        None,
        "Longest time that a record stays unflushed; if not set, the system decides.",
        unit="ms",
        kind=int,
        at_most=MAX_LONG,
        effective=False,
    )
    log_retention_ms: int | None = setting(
        None,
        "How long records are kept, -1 for ever; if not set, `log.retention.minutes` counts.",
        unit="ms",
        kind=int,
        at_least=-1,
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_retention_minutes: int | None = setting(
        None,
        "How long records are kept, -1 for ever; if not set, `log.retention.hours` counts.",
        unit="minutes",
        kind=int,
        at_least=-1,
    )
    log_retention_hours: int = setting(
        168,
        "How long records are kept, -1 for ever.",
        unit="hours",
        at_least=-1,
    )
    log_retention_bytes: int = setting(
        -1,
        "Size of a partition above which the oldest segments are deleted; -1 is no limit.",
        unit="bytes",
        at_least=-1,
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_retention_check_interval_ms: int = setting(
        300_000,
        "How often retention is checked.",
        unit="ms",
        at_least=1,
        at_most=MAX_LONG,
    )
    log_cleanup_policy: tuple[str, ...] = setting(
        ("delete",),
        "What happens to old records: `delete` removes old segments, `compact` keeps the last "
        "record of each key.",
        choices=("delete", "compact"),
        convert=_as_tuple,
        dynamic=True,
    )
    log_message_timestamp_type: str = setting(
        "CreateTime",
        "Whether a record keeps the time of its producer or gets the broker's.",
        choices=("CreateTime", "LogAppendTime"),
        dynamic=True,
    )

    log_message_timestamp_before_max_ms: int = setting(
        MAX_LONG,
        "How far in the past the time of a producer's record may lie.",
        unit="ms",
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_message_timestamp_after_max_ms: int = setting(
        3_600_000,
        "How far in the future the time of a producer's record may lie.",
        unit="ms",
        at_most=MAX_LONG,
        dynamic=True,
    )

    min_insync_replicas: int = setting(
        1,
        "Replicas in sync that an append with acks=all needs.",
        unit="replicas",
        at_least=1,
        dynamic=True,
    )
    compression_type: str = setting(
        "producer",
        "How records are stored; only Kafka's default, as they come, is supported.",
        choices=("producer",),
        dynamic=True,
    )

    @property
    def roll_ms(self) -> int:
        """Age in ms at which a new segment begins."""
        return self.log_roll_hours * _MS_PER_HOUR if self.log_roll_ms is None else self.log_roll_ms

    @property
    def retention_ms(self) -> int:
        """How long records are kept, ms; -1 is for ever."""
        if self.log_retention_ms is not None:
            return self.log_retention_ms
        if self.log_retention_minutes is not None:
            return max(-1, self.log_retention_minutes * _MS_PER_MINUTE)
        return max(-1, self.log_retention_hours * _MS_PER_HOUR)

    @property
    def topic_defaults(self) -> dict[str, str]:
        """What a topic without settings of its own has: {Kafka's topic setting: value as text}.

        Source: Kafka ``ServerTopicConfigSynonyms``.
        """
        defaults = {
            **self.compaction_defaults,
            "segment.bytes": self.log_segment_bytes,
            "segment.ms": self.roll_ms,
            "segment.index.bytes": self.log_index_size_max_bytes,
            "index.interval.bytes": self.log_index_interval_bytes,
            "max.message.bytes": self.message_max_bytes,
            "flush.messages": self.log_flush_interval_messages,
            "retention.ms": self.retention_ms,
            "retention.bytes": self.log_retention_bytes,
            "cleanup.policy": ",".join(self.log_cleanup_policy),
            "message.timestamp.type": self.log_message_timestamp_type,
            "message.timestamp.before.max.ms": self.log_message_timestamp_before_max_ms,
            "message.timestamp.after.max.ms": self.log_message_timestamp_after_max_ms,
            "min.insync.replicas": self.min_insync_replicas,
            "compression.type": self.compression_type,
        }
        return {name: str(value) for name, value in defaults.items()}


@attrs.frozen(kw_only=True, slots=False)
class BrokerConfig(
    SocketServerConfig, LogConfig, GroupConfig, OffsetsConfig, QuotaConfig, MetricsConfig
):
    """Everything that a broker is told at its start.

    Raises:
        ConfigError: a value is out of its limits, or values contradict each other; the text names
            key, value and what is allowed.
    """

    node_id: int = setting(
        1, "Id of this broker in its cluster; `broker.id` is another name for it."
    )
    cluster_id: str | None = setting(
        None,
        "Id of the cluster; if not set, the one in `meta.properties` of the data directory, or a "
        "new one. Kafka has it in that file only.",
        kind=str,
    )
    broker_rack: str | None = setting(None, "Where this broker stands.", kind=str, effective=False)
    listeners: tuple[str, ...] = setting(
        ("PLAINTEXT://127.0.0.1:9092",),
        "Endpoints to listen on: `NAME://host:port`. An IPv6 address stands in brackets, an empty "
        "host is every address, port 0 any free port. Kafka's default listens on every address.",
        convert=_as_tuple,
    )
    advertised_listeners: tuple[str, ...] = setting(
        (),
        "Endpoints that clients are told; a listener that is missing here advertises the address "
        "that it listens on.",
        convert=_as_tuple,
    )
    listener_security_protocol_map: Mapping[str, str] = setting(
        {},
        "Security protocol of each listener. A listener named like a protocol speaks it and the "
        "control plane speaks PLAINTEXT unless mapped.",
        convert=_as_text_map,
    )
    control_plane_listener_name: str | None = setting(
        None,
        "The listener that makes the control plane, in any case; if not set, there is none.",
        kind=str,
    )
    inter_broker_listener_name: str | None = setting(
        None,
        "The listener for other brokers, in any case; must not be the control plane. If there are "
        "other data listeners, `max.connections` does not lock it out. If not set, there is none.",
        kind=str,
    )
    num_partitions: int = setting(
        1, "Partitions of a new topic that does not say.", unit="partitions", at_least=1
    )
    default_replication_factor: int = setting(
        1, "Replicas of a new topic that does not say.", unit="replicas", at_least=1, at_most=32_767
    )
    auto_create_topics_enable: bool = setting(
        True, "Whether asking for a topic that does not exist creates it."
    )
    delete_topic_enable: bool = setting(True, "Whether topics can be deleted.")
    fetch_max_bytes: int = setting(
        57_671_680, "Most bytes of records in one Fetch response.", unit="bytes", at_least=1024
    )
    unstable_api_versions_enable: bool = setting(
        False,
        "Whether versions that Kafka has not released are served: ListOffsets 11, OffsetCommit 10, "
        "OffsetFetch 10.",
    )

    listener_overrides: Mapping[str, ListenerOverrides] = attrs.field(
        factory=dict, converter=_with_upper_keys
    )
    """{listener name, in any case: what it has of its own}; ``listener.name.<name>.<key>``."""

    @cached_property
    def listener_configs(self) -> tuple[ListenerConfig, ...]:
        """The listeners, resolved: names, planes, protocols and advertised addresses."""
        return resolve_listeners(
            listeners=self.listeners,
            advertised=self.advertised_listeners,
            protocols=self.listener_security_protocol_map,
            control_plane=self.control_plane_listener_name,
            inter_broker=self.inter_broker_listener_name,
            overrides=self.listener_overrides,
        )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.check_groups()
        self.check_metrics()
        if 0 < self.queued_max_request_bytes < self.socket_request_max_bytes:
            raise ConfigError(
                f"queued.max.request.bytes={self.queued_max_request_bytes}: must be at least "
                f"socket.request.max.bytes, {self.socket_request_max_bytes}, or not above 0"
            )
        if len(self.log_dirs) != 1:
            raise ConfigError(
                f"log.dirs={','.join(self.log_dirs)}: must be one directory; several are not "
                "supported yet"
            )
        # Resolved now, so that a contradiction shows where the configuration is made.
        assert self.listener_configs

    @property
    def socket_server(self) -> SocketServerConfig:
        """The slice for the network layer."""
        return _slice(self, SocketServerConfig)

    @property
    def log(self) -> LogConfig:
        """The slice for the log."""
        return _slice(self, LogConfig)

    @property
    def groups(self) -> GroupConfig:
        """The slice for the group coordinator."""
        return _slice(self, GroupConfig)

    @property
    def offsets(self) -> OffsetsConfig:
        """The slice for the store of committed offsets."""
        return _slice(self, OffsetsConfig)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> tuple[BrokerConfig, list[str]]:
        """Make a configuration of Kafka's keys and their texts.

        Args:
            properties: {key: text}, as ``read_properties`` gives them.

        Returns:
            The configuration, and a warning for whoever wrote keys that change nothing here.

        Raises:
            ConfigError: a key is unknown (the text suggests what may have been meant), a value is
                not allowed, or values contradict each other.
        """
        settings = settings_of(cls)
        values: dict[str, Any] = {}
        overrides: dict[str, dict[str, str]] = {}
        without_effect: list[str] = []
        for key, text in _without_aliases(properties).items():
            field = settings.get(key)
            of_listener = split_key(key)
            if field is not None:
                values[field.name] = from_text(field, text)
                is_effective = describe(field).effective
            elif of_listener is not None:
                name, own_key = of_listener
                overrides.setdefault(name, {})[own_key] = text
                is_effective = not _is_fixed(name, own_key, properties)
            else:
                check_known(key, text, settings)
                is_effective = not text.strip()
            if not is_effective:
                without_effect.append(key)
        config = cls(**values, listener_overrides=read_overrides(overrides))
        if not without_effect:
            return config, []
        listed = ", ".join(sorted(without_effect))
        return config, [f"Kafka keys without effect here: {listed}"]


def _is_fixed(listener: str, key: str, properties: Mapping[str, str]) -> bool:
    """Whether the setting of a listener is one that the control plane does not have."""
    control_plane = properties.get("control.plane.listener.name", "").strip().upper()
    return key == "num.network.threads" and listener == control_plane


_Slice = TypeVar("_Slice", SocketServerConfig, LogConfig, GroupConfig, OffsetsConfig)


def _slice(config: BrokerConfig, cls: type[_Slice]) -> _Slice:
    return cls(**{field.name: getattr(config, field.name) for field in attrs.fields(cls)})


def _without_aliases(properties: Mapping[str, str]) -> dict[str, str]:
    """Replace other names of a key; the key's own name wins as long as both agree on ids."""
    result = dict(properties)
    for alias, key in ALIASES.items():
        if alias not in result:
            continue
        text = result.pop(alias)
        if key == "node.id" and result.get(key, text).strip() != text.strip():
            raise ConfigError(f"{alias}={text}: must be the same as {key}, {result[key]}")
        result.setdefault(key, text)
    return result
