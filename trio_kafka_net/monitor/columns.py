"""The columns that tables can be sorted by, in the order in which they stand.

Here and not with the tables, because keys choose among them without a screen.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs


class View(enum.IntEnum):
    """What the screen is about; the number is its key."""

    OVERVIEW = 0
    REQUESTS = 1
    PROCESSORS = 2
    CONNECTIONS = 3
    TOPICS = 4
    GROUPS = 5
    TASKS = 6

    @property
    def title(self) -> str:
        """Its name on the screen."""
        return self.name.capitalize()


@attrs.frozen
class Sort:
    """A column to sort by."""

    column: str
    """Its key; for connections, the one that the server knows."""
    ascending: bool = False
    """Whether the natural order begins with the least: texts do, figures do not."""
    shortcut: str | None = None
    """The key that chooses it directly."""


_REQUESTS: Final = (
    Sort("api", ascending=True, shortcut="A"),
    Sort("version", shortcut="V"),
    Sort("requests", shortcut="R"),
    Sort("errors", shortcut="E"),
    Sort("bytes", shortcut="B"),
    Sort("p50", shortcut="F"),
    Sort("p99", shortcut="N"),
    Sort("queue", shortcut="Q"),
    Sort("local"),
    Sort("remote"),
    Sort("throttle", shortcut="T"),
    Sort("response_queue"),
    Sort("send"),
)

SORTS: Final[Mapping[View, tuple[Sort, ...]]] = {
    View.OVERVIEW: _REQUESTS,
    View.REQUESTS: _REQUESTS,
    View.PROCESSORS: (
        Sort("id", ascending=True, shortcut="N"),
        Sort("listener", ascending=True),
        Sort("plane", ascending=True, shortcut="P"),
        Sort("connections", shortcut="C"),
        Sort("idle", ascending=True, shortcut="D"),
        Sort("response_queue", shortcut="R"),
        Sort("muted", shortcut="M"),
        Sort("throttled", shortcut="T"),
        Sort("in", shortcut="I"),
        Sort("out", shortcut="O"),
        Sort("accepted", shortcut="A"),
        Sort("closed"),
    ),
    View.CONNECTIONS: (
        Sort("client", ascending=True, shortcut="C"),
        Sort("software", ascending=True, shortcut="W"),
        Sort("state", ascending=True, shortcut="T"),
        Sort("api", ascending=True, shortcut="A"),
        Sort("age", shortcut="G"),
        Sort("in", shortcut="I"),
        Sort("out", shortcut="O"),
        Sort("idle", shortcut="D"),
        Sort("total", shortcut="B"),
    ),
    View.TOPICS: (
        Sort("topic", ascending=True, shortcut="T"),
        Sort("partitions", shortcut="P"),
        Sort("messages", shortcut="M"),
        Sort("in", shortcut="I"),
        Sort("out", shortcut="O"),
        Sort("size", shortcut="Z"),
        Sort("segments"),
        Sort("skew", shortcut="K"),
    ),
    View.GROUPS: (
        Sort("group", ascending=True, shortcut="G"),
        Sort("state", ascending=True, shortcut="T"),
        Sort("members", shortcut="M"),
        Sort("lag", shortcut="A"),
        Sort("max_lag", shortcut="X"),
        Sort("eta", shortcut="E"),
        Sort("commits", shortcut="C"),
        Sort("since"),
    ),
    View.TASKS: (
        Sort("role", ascending=True, shortcut="R"),
        Sort("living", shortcut="T"),
    ),
}
"""By view; the tables of the overview are those of the views, in their default order."""

DEFAULT_SORT: Final[Mapping[View, str]] = {
    View.OVERVIEW: "requests",
    View.REQUESTS: "requests",
    View.PROCESSORS: "id",
    View.CONNECTIONS: "out",
    View.TOPICS: "in",
    View.GROUPS: "lag",
    View.TASKS: "living",
}
"""What a view is sorted by before anybody chooses."""


def sort_by(view: View, column: str | None) -> Sort:
    """The column of ``view`` with this key, else the one that it is sorted by at first."""
    sorts = {sort.column: sort for sort in SORTS[view]}
    return sorts.get(column or "") or sorts[DEFAULT_SORT[view]]
