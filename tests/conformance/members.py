"""The members of a consumer group in processes of their own, and what they tell."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import attrs

from .group_member import SESSION_TIMEOUT_MS

CONVERGE_SECONDS = 60
"""How long a group may take to settle, starts of Python processes included."""


@attrs.define(eq=False)
class Member:
    """One member: what it said so far."""

    name: str
    process: subprocess.Popen[str]
    owned: set[int] = attrs.field(factory=set)
    """Partitions that it owns, by what its client told it."""
    events: list[list[Any]] = attrs.field(factory=list)
    """Everything that it told, see ``group_member``."""
    is_alive: bool = True
    """Whether it may own partitions: it was not killed and has not left."""

    def told(self, kind: str) -> list[list[Any]]:
        """Events of one kind."""
        return [event for event in self.events if event[0] == kind]


class Members:
    """Starts members of groups and listens to them; ends them all at the end of its block."""

    def __init__(self, bootstrap: str, log_path: Path) -> None:
        self.bootstrap = bootstrap
        self.all: list[Member] = []
        self.records: list[tuple[int, int, str]] = []
        """(partition, offset, value) of every record, by whomever it was processed."""
        self._events: queue.Queue[tuple[Member, list[Any]]] = queue.Queue()
        self._listeners: list[threading.Thread] = []
        self._log_path = log_path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.all:
            member.process.kill()
        for member in self.all:
            member.process.wait()
        for listener in self._listeners:
            listener.join()

    @property
    def alive(self) -> list[Member]:
        """Those that were neither stopped nor killed."""
        return [member for member in self.all if member.is_alive]

    def start(
        self,
        client: str,
        group: str,
        topic: str,
        *,
        strategy: str = "range",
        instance: str = "",
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> Member:
        """Start a member; it joins when it is ready."""
        command = [sys.executable, "-m", "tests.conformance.group_member"]
        command += [client, self.bootstrap, group, topic, "--strategy", strategy]
        command += ["--session-timeout", str(session_timeout_ms)]
        if instance:
            command += ["--instance", instance]
        with self._log_path.open("a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        member = Member(f"{client}-{len(self.all)}", process)
        self.all.append(member)
        listener = threading.Thread(target=self._listen, args=(member,), daemon=True)
        listener.start()
        self._listeners.append(listener)
        return member

    def stop(self, member: Member) -> None:
        """Let a member commit and leave, and wait for its end."""
        member.process.terminate()
        self.wait_until(lambda: bool(member.told("left")), f"{member.name} leaves")
        member.is_alive = False
        assert member.process.wait(CONVERGE_SECONDS) == 0, self._log_path.read_text()

    def kill(self, member: Member) -> None:
        """End a member as a crash would."""
        member.process.kill()
        member.process.wait()
        member.is_alive = False

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Take in what the members tell, until something is so.

        Raises:
            AssertionError: it does not come to that in time, or a member ended unasked.
        """
        deadline = time.monotonic() + CONVERGE_SECONDS
        while not is_so():
            left = deadline - time.monotonic()
            try:
                member, event = self._events.get(timeout=max(0, left))
            except queue.Empty:
                state = {each.name: sorted(each.owned) for each in self.all}
                raise AssertionError(
                    f"it does not come to that: {what}; {state}\n{self._log_path.read_text()}"
                ) from None
            self._take_in(member, event)

    def wait_for_partitions(self, count: int) -> None:
        """Wait until the living members own ``count`` partitions, each once, in equal shares.

        Equal, because in the middle of a cooperative rebalance the new member owns nothing yet.
        """

        def is_divided() -> bool:
            owned = Counter(partition for each in self.alive for partition in each.owned)
            share = count / len(self.alive)
            return owned == Counter(range(count)) and all(
                abs(len(each.owned) - share) < 1 for each in self.alive
            )

        self.wait_until(is_divided, f"{len(self.alive)} members share {count} partitions")

    def wait_for_records(self, count: int) -> None:
        """Wait until ``count`` records were processed."""
        self.wait_until(lambda: len(self.records) >= count, f"{count} records are processed")

    def _listen(self, member: Member) -> None:
        assert member.process.stdout is not None
        with member.process.stdout as lines:
            for line in lines:
                self._events.put((member, json.loads(line)))
        self._events.put((member, ["ended"]))

    def _take_in(self, member: Member, event: list[Any]) -> None:
        member.events.append(event)
        kind = event[0]
        if kind == "assigned":
            member.owned |= set(event[1])
        elif kind in {"revoked", "lost"}:
            member.owned -= set(event[1])
        elif kind == "record":
            self.records.append((event[1], event[2], event[3]))
        elif kind == "ended" and member.is_alive and not member.told("left"):
            raise AssertionError(f"{member.name} ended\n{self._log_path.read_text()}")
