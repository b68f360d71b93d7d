"""View 5: the groups of consumers, how far behind they are, and when they will not be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ...metrics import names
from ..columns import View
from ..documents import number_of, rows_of, text_of
from ..numbers import UNKNOWN, duration, figure, plain, scaled, tenths, written
from ..rings import Points
from ..table import Column
from ..theme import Role
from ..ui_state import UiState
from ..widgets import Spans, clean, fit, fit_number
from ..window import Window
from .view import TableView, fields, heading

NEVER: Final = math.inf
"""The time until a lag is gone that does not shrink."""

_SETTLED: Final = frozenset({"Stable", "Empty", "Dead"})
_SHORT: Final = {"PreparingRebalance": "Rebalancing", "CompletingRebalance": "Rebalancing"}


@attrs.frozen
class GroupRow:
    """One group: what the metrics say, and what the server tells beyond them."""

    key: str
    state: str = ""
    members: float | None = None
    lag: float | None = None
    max_lag: float | None = None
    """That of the partition that is furthest behind."""
    eta_s: float | None = None
    commits: float | None = None
    since_s: float | None = None
    document: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def searched(self) -> str:
        """What a filter is looked for in."""
        return f"{self.key} {self.state}"

    @property
    def name(self) -> str:
        """As it is shown."""
        return clean(self.key)

    def number(self, name: str) -> float | None:
        """What the document says."""
        return number_of(self.document, name)

    def text(self, name: str) -> str:
        """What the document says."""
        return text_of(self.document, name)


def rows(window: Window, _ui: UiState) -> list[GroupRow]:
    """One row for every group of which anything is known."""
    documents = {
        str(row.get("group", "")): row for row in rows_of(window.document("groups"), "groups")
    }
    members = window.values(names.GROUP_MEMBERS.name, "group")
    commits = window.rates(names.GROUP_COMMITS.name, "group")
    lags = window.values(names.GROUP_LAG.name, "consumergroup")
    furthest = _max_lags(window)
    states = group_states(window)
    found = []
    for group in {*documents, *(key[0] for key in (*members, *lags)), *states} - {""}:
        document = documents.get(group, {})
        state, since = states.get(group, ("", None))
        lag = lags.get((group,), number_of(document, "lag"))
        row = GroupRow(
            group,
            state or text_of(document, "state"),
            members.get((group,), number_of(document, "members")),
            lag,
            furthest.get(group, number_of(document, "max_lag")),
            eta_s(lag, window.history(names.GROUP_LAG.name, group)),
            commits.get((group,)),
            since if since is not None else number_of(document, "state_s"),
            document,
        )
        found.append(row)
    return found


def _max_lags(window: Window) -> dict[str, float]:
    by_partition = window.values(names.GROUP_LAG.name, "consumergroup", "topic", "partition")
    furthest: dict[str, float] = {}
    for (group, _, _), lag in by_partition.items():
        furthest[group] = max(lag, furthest.get(group, 0.0))
    return furthest


def group_states(window: Window) -> dict[str, tuple[str, float]]:
    """{group: (its state, seconds that it is in it)}."""
    found = window.values(names.GROUP_STATE_SECONDS.name, "group", "state")
    return {group: (clean(state), since) for (group, state), since in found.items()}


def eta_s(lag: float | None, history: Points) -> float | None:
    """Seconds until a lag is gone if it goes on as in the last minute; ``NEVER`` if it grows."""
    known = [point for point in history if point is not None]
    if lag is None or len(known) < 2:
        return None
    if lag <= 0:
        return 0.0
    shrinks = (known[0] - known[-1]) / (len(known) - 1)
    return lag / shrinks if shrinks > 0 else NEVER


def _eta(row: GroupRow, width: int) -> Spans:
    if row.eta_s == NEVER:
        return [(fit("never", width, right=True), "warn")]
    return [(fit_number(written(row.eta_s, duration), width), "value")]


def _state_role(row: GroupRow) -> Role:
    return "value" if row.state in _SETTLED or not row.state else "warn"


COLUMNS: Final[tuple[Column[GroupRow], ...]] = (
    Column("group", 12, lambda row: row.name, key="group", left=True, is_name=True),
    Column(
        "state",
        13,
        lambda row: _SHORT.get(row.state, row.state) or UNKNOWN,
        key="state",
        left=True,
        role=_state_role,
    ),
    Column("mbr", 3, lambda row: row.members, key="members"),
    Column("lag", 6, lambda row: row.lag, scaled, "lag", is_scaled=True),
    Column("ETA", 7, lambda row: row.eta_s, duration, "eta", draw=_eta),
    Column("max lag", 7, lambda row: row.max_lag, scaled, "max_lag", 62, is_scaled=True),
    Column("commit/s", 8, lambda row: row.commits, tenths, "commits", 72),
    Column("since", 6, lambda row: row.since_s, duration, "since", 79),
    Column("protocol", 9, lambda row: row.text("protocol"), least=95, left=True, before="  "),
    Column("gen", 6, lambda row: row.number("generation"), plain, least=95),
    Column("assignor", 12, lambda row: row.text("assignor"), least=110, left=True, before="  "),
)


def caption(window: Window, ui: UiState, found: list[GroupRow]) -> str:
    """How many there are in which state."""
    if ui.view is not View.GROUPS:
        return ""
    by_state = window.values(names.GROUPS.name, "state")
    counts = [f"{written(n, figure)} {clean(state)}" for (state,), n in by_state.items() if n]
    return " · ".join(counts) or f"{len(found)} groups"


def detail(window: Window, ui: UiState, width: int) -> list[Spans]:
    """The members of one group, and how far behind it is in every partition."""
    group = ui.subject or ""
    row = next((row for row in rows(window, ui) if row.key == group), GroupRow(group))
    pairs = [
        ("state", row.state or UNKNOWN),
        ("for", written(row.since_s, duration)),
        ("members", written(row.members, figure)),
        ("lag", written(row.lag, plain)),
        ("commits/s", written(row.commits, tenths)),
        ("protocol", row.text("protocol") or UNKNOWN),
        ("generation", written(row.number("generation"), plain)),
        ("assignor", row.text("assignor") or UNKNOWN),
    ]
    document = window.document("group")
    if text_of(document, "group") != clean(group):
        document = None
    return [
        *fields(pairs, width),
        [],
        heading("members"),
        *_members(document),
        [],
        heading("partitions"),
        *(_partitions(document) if document is not None else _lags(window, group)),
    ]


def _members(document: object) -> list[Spans]:
    lines: list[Spans] = []
    for member in rows_of(document, "member_list"):
        texts = [
            fit(text_of(member, "client_id") or "–", 20),
            fit(text_of(member, "host") or "–", 20),
            fit_number(written(number_of(member, "partitions"), figure), 6) + " partitions",
            fit(text_of(member, "member_id"), 40),
        ]
        lines.append([(" " + "  ".join(texts), "value")])
    return lines or [[(" none that the server tells of", "dim")]]


def _partitions(document: object) -> list[Spans]:
    lines: list[Spans] = [
        [(" " + fit("topic", 24) + " part    committed      log end      lag  member", "label")]
    ]
    for row in rows_of(document, "partitions"):
        figures = [
            fit_number(written(number_of(row, "partition"), plain), 5),
            fit_number(written(number_of(row, "committed"), plain), 12),
            fit_number(written(number_of(row, "log_end"), plain), 12),
            fit_number(written(number_of(row, "lag"), scaled), 8),
        ]
        text = f" {fit(text_of(row, 'topic'), 24)}{' '.join(figures)}"
        lines.append([(text, "value"), ("  " + fit(text_of(row, "member_id") or "–", 30), "dim")])
    return lines


def _lags(window: Window, group: str) -> list[Spans]:
    lags = window.values(names.GROUP_LAG.name, "topic", "partition", consumergroup=group)
    return [
        [
            (
                f" {fit(clean(topic), 24)} {fit(clean(partition), 5, right=True)}"
                f"  {written(lag, scaled):>8}",
                "value",
            )
        ]
        for (topic, partition), lag in sorted(lags.items(), key=lambda item: -item[1])
    ] or [[(" not exported here", "dim")]]


GROUPS: Final = TableView(
    View.GROUPS,
    (names.GROUP_MEMBERS.name, names.GROUP_STATE_SECONDS.name, names.GROUP_LAG.name, "groups"),
    rows,
    COLUMNS,
    detail,
    caption=caption,
)
"""See the top of this file."""
