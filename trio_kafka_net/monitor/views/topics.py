"""View 4: the topics, what goes in and out of them, and how evenly their partitions are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from ...metrics import names
from ..columns import View
from ..documents import number_of, rows_of, text_of
from ..interval import Key
from ..numbers import age, figure, of_bytes, plain, size, tenths, written
from ..table import Column
from ..ui_state import UiState
from ..widgets import Spans, clean, fit, fit_number
from ..window import Window
from .view import TableView, heading


@attrs.frozen
class TopicRow:
    """One topic."""

    key: str
    partitions: float | None = None
    messages: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None
    size: float | None = None
    segments: float | None = None
    records: float | None = None
    """Offsets from the start of the logs to their ends."""
    skew: float | None = None
    """What the busiest partition gets, as a multiple of what the average one does."""

    @property
    def searched(self) -> str:
        """What a filter is looked for in."""
        return self.key

    @property
    def name(self) -> str:
        """As it is shown."""
        return clean(self.key)


def rows(window: Window, _ui: UiState) -> list[TopicRow]:
    """One row for every topic of which anything is known."""
    messages = _by_topic(window.rates(names.MESSAGES_IN.name, "topic"))
    bytes_in = _by_topic(window.rates(names.TOPIC_BYTES_IN.name, "topic"))
    bytes_out = _by_topic(window.rates(names.TOPIC_BYTES_OUT.name, "topic"))
    sizes = _by_topic(window.values(names.LOG_SIZE.name, "topic"))
    segments = _by_topic(window.values(names.LOG_SEGMENTS.name, "topic"))
    starts = _by_topic(window.values(names.LOG_START_OFFSET.name, "topic"))
    ends = _by_topic(window.values(names.LOG_END_OFFSET.name, "topic"))
    counted = _by_topic(window.values(names.MESSAGES_IN.name, "topic"))
    partitions = _partitions(window)
    skews = _skews(window)
    return [
        TopicRow(
            topic,
            partitions.get(topic),
            messages.get(topic),
            bytes_in.get(topic),
            bytes_out.get(topic),
            sizes.get(topic),
            segments.get(topic),
            ends[topic] - starts[topic] if topic in ends and topic in starts else None,
            skews.get(topic),
        )
        for topic in {*counted, *sizes, *ends}
    ]


def _by_topic(found: Mapping[Key, float]) -> dict[str, float]:
    """{topic: number}; Kafka's figures of all topics have none and are left out."""
    return {topic: number for (topic,), number in found.items() if topic}


def _partitions(window: Window) -> dict[str, float]:
    counts: dict[str, float] = {}
    for topic, _ in window.values(names.LOG_END_OFFSET.name, "topic", "partition"):
        counts[topic] = counts.get(topic, 0.0) + 1
    return counts


def _skews(window: Window) -> dict[str, float]:
    """Peak divided by mean of the rates of a topic's partitions; of one without any, nothing."""
    rates: dict[str, list[float]] = {}
    for (topic, _), rate in window.rates(names.LOG_END_OFFSET.name, "topic", "partition").items():
        rates.setdefault(topic, []).append(rate)
    return {
        topic: max(found) * len(found) / total
        for topic, found in rates.items()
        if (total := sum(found)) > 0
    }


COLUMNS: Final[tuple[Column[TopicRow], ...]] = (
    Column("topic", 13, lambda row: row.name, key="topic", left=True, is_name=True),
    Column("parts", 4, lambda row: row.partitions, key="partitions"),
    Column("msg/s", 6, lambda row: row.messages, key="messages", is_scaled=True, one_unit=True),
    Column("in", 6, lambda row: row.bytes_in, of_bytes, "in", is_scaled=True, one_unit=True),
    Column("out", 6, lambda row: row.bytes_out, of_bytes, "out", is_scaled=True, one_unit=True),
    Column("size", 5, lambda row: row.size, size, "size", is_scaled=True),
    Column("segments", 9, lambda row: row.segments, figure, "segments", 64),
    Column("skew", 6, lambda row: row.skew, tenths, "skew", 72),
    Column("records", 9, lambda row: row.records, figure, least=90, is_scaled=True),
)


def summary(window: Window, _width: int) -> list[Spans]:
    """How many topics and partitions there are, and how many of those do not work."""
    topics = len({key[0] for key in window.values(names.LOG_END_OFFSET.name, "topic")})
    counted = float(topics) if window.exports(names.LOG_END_OFFSET.name) else None
    partitions = window.value(names.PARTITION_COUNT.name)
    offline = window.value(names.OFFLINE_REPLICAS.name)
    spans: Spans = [
        (
            f" {written(counted, figure)} topics · {written(partitions, figure)} partitions · ",
            "value",
        ),
        (f"{written(offline, figure)} offline", "bad" if offline else "value"),
    ]
    under = window.value(names.UNDER_REPLICATED.name)
    if under:
        spans.append((f" · {written(under, figure)} under-replicated", "bad"))
    return [spans]


def detail(window: Window, ui: UiState, width: int) -> list[Spans]:
    """The partitions of one topic."""
    document = window.document("topic")
    topic = ui.subject or ""
    if text_of(document, "topic") == clean(topic):
        return _described(document, width)
    return _counted(window, topic)


_ERROR_WIDTH: Final = 12
"""Cells that are left for the last error, at least."""

_FIELDS: Final = (
    ("part", "partition", 5, plain),
    ("leader", "leader", 6, plain),
    ("epoch", "leader_epoch", 6, plain),
    ("log start", "log_start", 12, plain),
    ("watermark", "high_watermark", 12, plain),
    ("log end", "log_end", 12, plain),
    ("size", "size", 7, size),
    ("segments", "segments", 8, figure),
    ("fetches", "waiting_fetches", 7, figure),
    ("append", "last_append_age_s", 7, age),
)


def _described(document: object, width: int) -> list[Spans]:
    shown = [field for at, field in enumerate(_FIELDS) if _width_to(at) < width - _ERROR_WIDTH]
    head = " ".join(fit(title, max(cells, len(title)), right=True) for title, _, cells, _ in shown)
    lines: list[Spans] = [[(" " + head + "  last error", "label")]]
    for partition in rows_of(document, "partitions"):
        cells = [
            fit_number(written(number_of(partition, name), how), max(cells, len(title)))
            for title, name, cells, how in shown
        ]
        error = text_of(partition, "last_error")
        lines.append(
            [(" " + " ".join(cells) + "  ", "value"), (error or "–", "bad" if error else "dim")]
        )
    return lines


def _width_to(at: int) -> int:
    return sum(max(cells, len(title)) + 1 for title, _, cells, _ in _FIELDS[: at + 1])


def _counted(window: Window, topic: str) -> list[Spans]:
    """What the page of metrics says of the partitions, if the server tells no more."""
    sizes = window.values(names.LOG_SIZE.name, "partition", topic=topic)
    starts = window.values(names.LOG_START_OFFSET.name, "partition", topic=topic)
    ends = window.values(names.LOG_END_OFFSET.name, "partition", topic=topic)
    rates = window.rates(names.LOG_END_OFFSET.name, "partition", topic=topic)
    segments = window.values(names.LOG_SEGMENTS.name, "partition", topic=topic)
    lines: list[Spans] = [heading(" part    log start      log end    size segments  msg/s")]
    for key in sorted(ends, key=_numerically):
        cells = (
            fit(clean(key[0]), 6, right=True),
            fit_number(written(starts.get(key), plain), 12),
            fit_number(written(ends.get(key), plain), 12),
            fit_number(written(sizes.get(key), size), 7),
            fit_number(written(segments.get(key), figure), 8),
            fit_number(written(rates.get(key), figure), 6),
        )
        lines.append([(" ".join(cells), "value")])
    return lines if ends else [*lines, [(" not exported here", "dim")]]


def _numerically(key: Key) -> tuple[int, str]:
    text = key[0]
    return (int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1, text)


TOPICS: Final = TableView(
    View.TOPICS,
    (names.MESSAGES_IN.name, names.LOG_SIZE.name, names.LOG_END_OFFSET.name),
    rows,
    COLUMNS,
    detail,
    summary=summary,
)
"""See the top of this file."""
