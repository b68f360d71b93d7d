"""Keys of committed offsets and of the topic that holds them."""

from __future__ import annotations

import attrs

from .settings import MAX_LONG, setting

_MS_PER_MINUTE = 60 * 1000
_MAX_SHORT = 2**15 - 1
_CODECS = 4


# No slots: BrokerConfig inherits the fields of several classes, and there is one of it per broker.
@attrs.frozen(kw_only=True, slots=False)
class OffsetsConfig:
    """What the store of committed offsets needs to know.

    Source: Kafka ``GroupCoordinatorConfig``; names, defaults and units are its own, unless said.
    """

    offset_metadata_max_bytes: int = setting(
        4096, "Longest text that may be committed with an offset, in UTF-16 units.", unit="units"
    )
    offsets_load_buffer_size: int = setting(
        262_144,
        "How much of `__consumer_offsets` is read and decoded at once while it is loaded. Kafka's "
        "default is 5242880.",
        unit="bytes",
        at_least=1,
    )
    offsets_retention_minutes: int = setting(
        10_080,
        "How long an offset is kept after its group lost its last member, or after it was "
        "committed by a consumer without a group, or of a topic that its group left.",
        unit="minutes",
        at_least=1,
    )
    offsets_retention_check_interval_ms: int = setting(
        600_000, "How often expired offsets are removed.", unit="ms", at_least=1, at_most=MAX_LONG
    )
    offsets_topic_num_partitions: int = setting(
        50, "Partitions of `__consumer_offsets`, when it is made.", unit="partitions", at_least=1
    )
    offsets_topic_replication_factor: int = setting(
        1,
        "Replicas of `__consumer_offsets`, when it is made; as there is one broker, it gets one, "
        "with a warning if more are asked for. Kafka's default is 3.",
        unit="replicas",
        at_least=1,
        at_most=_MAX_SHORT,
    )
    offsets_topic_segment_bytes: int = setting(
        104_857_600,
        "Size at which a new segment of `__consumer_offsets` begins.",
        unit="bytes",
        at_least=14,
    )
    offsets_topic_compression_codec: int = setting(
        0,
        "Codec of what is written to `__consumer_offsets`: 0 none, 1 gzip, 2 snappy, 3 lz4 or "
        "4 zstd.",
        unit="codec",
        at_most=_CODECS,
    )

    @property
    def offsets_retention_ms(self) -> int:
        """``offsets_retention_minutes`` in ms."""
        return self.offsets_retention_minutes * _MS_PER_MINUTE
