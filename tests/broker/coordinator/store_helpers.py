"""A broker without sockets, the store of offsets in it, and groups that do as a test says."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

from tests.broker.storage_helpers import Clock
from trio_kafka_net.broker.coordinator.group_records import CommittedOffset, OffsetChange
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.config import BrokerConfig


@attrs.frozen
class FakeExpiration:
    since_ms: int | None = None
    subscribed_topics: frozenset[str] = frozenset()


@attrs.define
class FakeGroups:
    """Remembers what it is told."""

    restored: list[dict] = attrs.field(factory=list)
    unloaded: list[set[str]] = attrs.field(factory=list)
    removed: list[str] = attrs.field(factory=list)
    expirations: dict = attrs.field(factory=dict)
    """{group: its expiration}; others count from each commit."""
    commits: list[tuple[str, int]] = attrs.field(factory=list)

    def count_commits(self, group_id, offsets):
        self.commits.append((group_id, offsets))

    def expiration(self, group_id):
        return self.expirations.get(group_id, FakeExpiration())

    def remove_if_unused(self, group_id):
        self.removed.append(group_id)

    def restore(self, groups):
        self.restored.append(dict(groups))

    def unload(self, group_ids):
        self.unloaded.append(set(group_ids))


@attrs.define
class StoreLab:
    """A store over a directory, which can be opened again."""

    path: Path
    clock: Clock
    settings: dict
    local: LocalBroker
    groups: FakeGroups
    opened: list[LocalBroker]
    """Every broker that was opened, to be closed after the test."""

    @classmethod
    async def open(
        cls, path: Path, clock: Clock, *, load: bool = True, opened=None, **settings
    ) -> StoreLab:
        config = BrokerConfig(
            **{"log_dirs": (path,), "offsets_topic_num_partitions": 2, **settings}
        )
        local = await LocalBroker.open(config, now_ms=clock)
        opened = [] if opened is None else opened
        opened.append(local)
        groups = FakeGroups()
        local.offsets.groups = groups
        if load:
            await local.offsets.load()
        return cls(path, clock, settings, local, groups, opened)

    @property
    def store(self):
        return self.local.offsets

    async def with_topics(self, *names: str, **settings) -> StoreLab:
        """Have these topics, and the one of offsets."""
        for name in names:
            await self.local.controller.create_topic(name, **settings)
        await self.store.ensure_topic()
        return self

    async def reopened(self, *, load: bool = True, **settings) -> StoreLab:
        """Stop, and start again."""
        await self.local.close()
        return await StoreLab.open(
            self.path, self.clock, load=load, opened=self.opened, **{**self.settings, **settings}
        )

    async def killed(self, path: Path, *, load: bool = True) -> StoreLab:
        """Start on what a broker that was killed at this moment would leave behind."""
        shutil.copytree(self.path, path)
        await self.local.close()
        return await StoreLab.open(path, self.clock, load=load, opened=self.opened, **self.settings)

    async def close(self) -> None:
        for local in self.opened:
            await local.close()

    def commit(self, group_id: str, *offsets: tuple[str, int, int], **settings) -> None:
        """Commit (topic, partition, offset)s."""
        self.store.commit(
            group_id,
            [
                OffsetChange(
                    group_id,
                    topic,
                    partition,
                    CommittedOffset(offset, commit_timestamp=self.clock.now_ms, **settings),
                )
                for topic, partition, offset in offsets
            ],
        )

    def offsets(self, group_id: str) -> dict[tuple[str, int], int]:
        """What a group has committed: {(topic, partition): offset}."""
        return {
            (topic, partition): committed.offset
            for topic, partitions in self.store.committed(group_id).items()
            for partition, committed in partitions.items()
        }

    def partition(self, index: int):
        return self.local.replicas.get_partition("__consumer_offsets", index)

    def log_path(self, index: int) -> Path:
        return self.path / f"__consumer_offsets-{index}" / f"{0:020}.log"
