"""The tasks of a broker: how many of which role, and the tree of them with what each waits for.

A role is the name of the task's function, ``processor.poll`` for ``Processor._poll``; roles come
from the code, so there are few. The tree is for looking at, not for machines: it is cut off where
it is large.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import CoroutineType
from typing import Any, Final

import trio

MAX_NODES: Final = 300
"""Tasks of the tree."""
MAX_CHILDREN: Final = 50
"""Of one task; the rest is one line that says how many."""
_MAX_COUNTED: Final = 20_000
MAX_ROLES: Final = 100
_MAX_AWAITS: Final = 50

Task = trio.lowlevel.Task


def role_of(task: Task) -> str:
    """What a task does, from the name of its function."""
    parts = task.name.replace(".<locals>", "").split(".")[-2:]
    return ".".join(part.strip("_").lower().replace(" ", "_") for part in parts)


def roles(root: Task) -> Counter[str]:
    """{role: living tasks}, of ``root`` and everything below it."""
    counted: Counter[str] = Counter()
    for number, task in enumerate(_below(root)):
        if number >= _MAX_COUNTED:
            break
        role = role_of(task)
        counted[role if role in counted or len(counted) < MAX_ROLES else "other"] += 1
    return counted


def tree(root: Task) -> dict[str, Any]:
    """``root`` and what is below it, as {name, state, waits_on, children}."""
    return _Tree().node(root)


def _below(root: Task) -> Iterator[Task]:
    waiting = [root]
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)


class _Tree:
    def __init__(self) -> None:
        self._nodes_left = MAX_NODES

    def node(self, task: Task) -> dict[str, Any]:
        self._nodes_left -= 1
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        children.sort(key=role_of)
        shown = []
        for child in children[:MAX_CHILDREN]:
            if self._nodes_left <= 0:
                break
            shown.append(self.node(child))
        if len(shown) < len(children):
            shown.append(_leaf(f"{len(children) - len(shown)} more"))
        waits_on = _waits_on(task)
        is_this = task is trio.lowlevel.current_task()
        state = "running" if is_this else "waiting" if waits_on else "runnable"
        return {"name": role_of(task), "state": state, "waits_on": waits_on, "children": shown}


def _leaf(name: str) -> dict[str, Any]:
    return {"name": name, "state": "", "waits_on": None, "children": []}


def _waits_on(task: Task) -> str | None:
    """The innermost functions that a task is in, of those that are not trio's own; None if none."""
    awaited: Any = task.coro
    names: list[str] = []
    for _ in range(_MAX_AWAITS):
        if not isinstance(awaited, CoroutineType):
            break
        names.append(awaited.__qualname__)
        awaited = awaited.cr_await
    # The last ones are the machinery of the event loop: what was called there says more.
    while len(names) > 1 and names[-1] in _MACHINERY:
        names.pop()
    return names[-1] if len(names) > 1 else None


_MACHINERY: Final = frozenset(
    {
        "_async_yield",
        "wait_task_rescheduled",
        "_core_wait_task_rescheduled",
        "ParkingLot.park",
        "EpollIOManager._epoll_wait",
        "Lock.acquire",
        "sleep_until",
    }
)
