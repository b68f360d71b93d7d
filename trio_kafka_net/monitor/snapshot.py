"""Everything that is known of a server at one moment, and how it is kept in a recording."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from .fetch_kinds import without_sums
from .page import Labels, PageError, Samples, format_labels, parse_labels, parse_page


@attrs.frozen
class Snapshot:
    """A server at one moment; nobody changes one."""

    time: float
    """The server's clock, seconds since the epoch."""
    taken: float
    """The monitor's clock, seconds from some moment on; differences of it are what rates are
    divided by, because nobody sets it."""
    samples: Samples
    """{name of the sample: {its labels: its number}}, buckets of histograms included; every Fetch
    is counted once, see ``fetch_kinds``."""
    documents: Mapping[str, Any] = attrs.field(factory=dict)
    """{name of the document, such as "connections": what its JSON says}."""

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        time: float,
        taken: float,
        documents: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """From a page of metrics.

        Args:
            text: in the Prometheus text format.
            time: the server's clock, seconds since the epoch.
            taken: the monitor's clock, in seconds.
            documents: fetched along with it.

        Raises:
            PageError: it is no such page.
        """
        return cls(time, taken, without_sums(parse_page(text)), documents or {})

    def to_json(self) -> str:
        """One line for a recording."""
        samples = {
            name: {format_labels(labels): _written(value) for labels, value in family.items()}
            for name, family in self.samples.items()
        }
        return json.dumps(
            {
                "time": self.time,
                "taken": self.taken,
                "samples": samples,
                "documents": self.documents,
            },
            separators=(",", ":"),
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, line: str) -> Snapshot:
        """From a line of a recording.

        Raises:
            PageError: it is no such line.
        """
        try:
            known = json.loads(line)
            samples: dict[str, dict[Labels, float]] = {
                str(name): {parse_labels(labels): float(value) for labels, value in family.items()}
                for name, family in known["samples"].items()
            }
            documents = dict(known["documents"])
            return cls(float(known["time"]), float(known["taken"]), samples, documents)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise PageError(f"not a line of a recording: {line[:80]!r}") from None


def _written(value: float) -> float | str:
    """What JSON has no number for becomes text that ``float`` reads."""
    return value if abs(value) < float("inf") else str(value)
