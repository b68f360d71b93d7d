"""A broker that says what it is told to, and remembers what it was asked."""

from __future__ import annotations

import attrs


@attrs.define
class FakeObserved:
    page_text: bytes = b"metric 1\n"
    asked: list[tuple] = attrs.field(factory=list)
    reasons: list[str] = attrs.field(factory=list)
    failure: Exception | None = None

    async def page(self) -> bytes:
        if self.failure is not None:
            raise self.failure
        return self.page_text

    def connections(self, sort, reverse, limit, pattern):
        self.asked.append(("connections", sort, reverse, limit, pattern))
        if sort == "nothing":
            raise ValueError("no such order")
        return {"connections": []}

    def tasks(self):
        return {"tasks": {}}

    def log(self, level, limit):
        self.asked.append(("log", level, limit))
        return {"records": []}

    def topic(self, name):
        return {"topic": name} if name == "orders" else None

    def groups(self, limit):
        self.asked.append(("groups", limit))
        return {"groups": []}

    def group(self, name):
        return {"group": name} if name == "sink" else None

    def unhealthy(self):
        return self.reasons

    def unready(self):
        return self.reasons
