"""The six views, each a table with a summary and a detail; see ``view.TableView``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..columns import View
from .connections import CONNECTIONS
from .groups import GROUPS
from .processors import PROCESSORS
from .requests import REQUESTS
from .tasks import TASKS
from .topics import TOPICS
from .view import TableView

VIEWS: Final[Mapping[View, TableView[Any]]] = {
    View.OVERVIEW: REQUESTS,
    View.REQUESTS: REQUESTS,
    View.PROCESSORS: PROCESSORS,
    View.CONNECTIONS: CONNECTIONS,
    View.TOPICS: TOPICS,
    View.GROUPS: GROUPS,
    View.TASKS: TASKS,
}
"""By view; keys on the overview are about the requests."""
