"""What the clients of the demonstration count, and how it is told in lines."""

from __future__ import annotations

import math

import attrs

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

RECORD_BYTES = 100
"""Size of every value that is produced."""


@attrs.define(eq=False)
class Figures:
    """What the clients counted."""

    produced: int = 0
    """Records acknowledged."""
    consumed: int = 0
    """Records received."""
    produce_ns: list[int] = attrs.Factory(list)
    """How long each Produce request took."""
    control_ns: list[int] = attrs.Factory(list)
    """How long each Metadata request on the control plane took."""

    def add(self, other: Figures) -> None:
        """Count what ``other`` has counted as well."""
        self.produced += other.produced
        self.consumed += other.consumed
        self.produce_ns += other.produce_ns
        self.control_ns += other.control_ns

    def clear(self) -> None:
        """Begin again at nothing."""
        self.produced = self.consumed = 0
        self.produce_ns.clear()
        self.control_ns.clear()

    def consume(self, records: int) -> None:
        """Count records that were received."""
        self.consumed += records

    def line(self, second: int) -> str:
        """One second in one line."""
        return (
            f"{second:>4} s"
            f"  produced {self.produced:>9,} records/s"
            f"  consumed {self.consumed:>9,} records/s"
            f"  produce p99 {_milliseconds(self.produce_ns, 0.99):>7} ms"
            f"  control plane p99 {_milliseconds(self.control_ns, 0.99):>7} ms"
        )

    def summary(self, seconds: float) -> list[str]:
        """A whole run of ``seconds``."""
        rate = self.produced / seconds
        return [
            f"produced       {self.produced:,} records of {RECORD_BYTES} bytes, {rate:,.0f} "
            f"records/s, {rate * RECORD_BYTES / 1e6:,.1f} MB/s",
            f"consumed       {self.consumed:,} records",
            f"produce        p50 {_milliseconds(self.produce_ns, 0.5)} ms, "
            f"p99 {_milliseconds(self.produce_ns, 0.99)} ms",
            f"control plane  p50 {_milliseconds(self.control_ns, 0.5)} ms, "
            f"p99 {_milliseconds(self.control_ns, 0.99)} ms (Metadata, ten a second)",
        ]


def raise_for(error_code: int) -> None:
    """Refuse to go on after an error in a response.

    Raises:
        KafkaError: ``error_code`` is one.
    """
    if error_code:
        raise KafkaError(ErrorCode(error_code))


def _milliseconds(durations_ns: list[int], quantile: float) -> str:
    if not durations_ns:
        return "-"
    ranked = sorted(durations_ns)
    return f"{ranked[math.ceil(quantile * len(ranked)) - 1] / 1e6:.2f}"
