"""A Fetch is counted twice in Kafka's figures: as such, and as one of its two kinds.

``Fetch`` is the sum of ``FetchConsumer`` and ``FetchFollower``. Whoever adds up requests must leave
it out, and in a table it would stand there twice. Only errors are counted by the sum alone; they
are shown with the consumers, whose errors they are unless a replica is in trouble.

Source: Kafka ``RequestChannel.updateRequestMetrics``, ``RequestMetrics.consumerFetchMetricName``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..metrics import names
from .page import Labels, Samples

_SUM: Final = ("request", "Fetch")
_KINDS: Final = (("request", "FetchConsumer"), ("request", "FetchFollower"))


def without_sums(samples: Samples) -> Samples:
    """``samples`` in which every Fetch is counted once.

    Args:
        samples: of a page; they stay as they are.
    """
    counted = samples.get(names.REQUESTS.name, {})
    if not any(kind in labels for labels in counted for kind in _KINDS):
        return samples
    return {name: _once(name, family) for name, family in samples.items()}


def _once(name: str, family: Mapping[Labels, float]) -> Mapping[Labels, float]:
    if not any(_SUM in labels for labels in family):
        return family
    if name == names.ERRORS.name:
        return {_as_consumers(labels): value for labels, value in family.items()}
    return {labels: value for labels, value in family.items() if _SUM not in labels}


def _as_consumers(labels: Labels) -> Labels:
    return tuple(_KINDS[0] if pair == _SUM else pair for pair in labels)
