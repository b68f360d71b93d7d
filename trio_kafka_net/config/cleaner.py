"""Settings of the log cleaner, and of compacted topics that do not set them themselves."""

from __future__ import annotations

from typing import Any

import attrs

from .settings import MAX_DOUBLE, MAX_LONG, setting


def _as_float(value: Any) -> Any:
    """Whole numbers are numbers; what is none is left for the validator to refuse."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@attrs.frozen(kw_only=True, slots=False)
class LogCleanerConfig:
    """What the log cleaner needs to know.

    Source: Kafka ``CleanerConfig`` (4.1).
    """

    log_cleaner_enable: bool = setting(
        True, "Whether topics with `cleanup.policy=compact` are compacted."
    )
    log_cleaner_backoff_ms: int = setting(
        15_000,
        "How long the cleaner sleeps when there is nothing to compact.",
        unit="ms",
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_cleaner_dedupe_buffer_size: int = setting(
        134_217_728,
        "Memory for the keys of one pass; a pass ends where it is full. A key takes about 200 "
        "bytes, where Kafka needs 24.",
        unit="bytes",
        at_least=1024,
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_cleaner_io_max_bytes_per_second: float = setting(
        MAX_DOUBLE,
        "Fastest rate at which the cleaner reads and writes, both together.",
        unit="bytes/s",
        at_least=1,
        at_most=MAX_DOUBLE,
        convert=_as_float,
        dynamic=True,
    )
    log_cleaner_min_cleanable_ratio: float = setting(
        0.5,
        "Share of a log that is not compacted yet at which it is compacted.",
        at_most=1,
        convert=_as_float,
        dynamic=True,
    )
    log_cleaner_min_compaction_lag_ms: int = setting(
        0,
        "How long a record stays at least in a compacted log.",
        unit="ms",
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_cleaner_max_compaction_lag_ms: int = setting(
        MAX_LONG,
        "How long a record may wait to be compacted.",
        unit="ms",
        at_least=1,
        at_most=MAX_LONG,
        dynamic=True,
    )
    log_cleaner_delete_retention_ms: int = setting(
        86_400_000,
        "How long a compacted log shows that a key was deleted.",
        unit="ms",
        at_most=MAX_LONG,
        dynamic=True,
    )

    @property
    def compaction_defaults(self) -> dict[str, float]:
        """What a topic without settings of its own has: {Kafka's topic setting: value}.

        Source: Kafka ``ServerTopicConfigSynonyms``.
        """
        return {
            "min.cleanable.dirty.ratio": self.log_cleaner_min_cleanable_ratio,
            "min.compaction.lag.ms": self.log_cleaner_min_compaction_lag_ms,
            "max.compaction.lag.ms": self.log_cleaner_max_compaction_lag_ms,
            "delete.retention.ms": self.log_cleaner_delete_retention_ms,
        }
