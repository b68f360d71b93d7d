"""OffsetStore against a dict: no acknowledged commit is lost, whatever happens in between."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broker.coordinator.store_helpers import StoreLab
from tests.broker.storage_helpers import Clock
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.messages.group_metadata_records import GroupMetadataValue

GROUPS = ["a", "b", "c", "d"]
TOPICS = ["t", "u"]

groups = st.sampled_from(GROUPS)
partitions = st.tuples(st.sampled_from(TOPICS), st.integers(0, 2))
steps = st.one_of(
    st.tuples(
        st.just("commit"), groups, st.lists(st.tuples(partitions, st.integers(0, 99)), min_size=1)
    ),
    st.tuples(st.just("save"), groups, st.integers(0, 9)),
    st.tuples(st.just("remove"), groups, st.lists(partitions)),
    st.tuples(st.just("forget"), groups),
    st.tuples(st.just("delete topic"), st.sampled_from(TOPICS)),
    st.tuples(st.just("too large"), groups),
    st.tuples(st.just("restart")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("kill, torn"), st.integers(1, 60)),
    st.tuples(st.just("reload"), st.integers(0, 1)),
)


class Model:
    """What must be there."""

    def __init__(self) -> None:
        self.offsets: dict[str, dict] = {}
        self.saved: dict[str, int] = {}

    def drop(self, wanted) -> None:
        """Keep the offsets of (group, partition) for which ``wanted`` is true."""
        kept = {
            group: {key: offset for key, offset in of_group.items() if wanted(group, key)}
            for group, of_group in self.offsets.items()
        }
        self.offsets = {group: of_group for group, of_group in kept.items() if of_group}


class Run:
    """The store and the model, step by step."""

    def __init__(self, directory: Path, lab: StoreLab) -> None:
        self.directory = directory
        self.lab = lab
        self.model = Model()
        self.kills = 0

    async def step(self, name: str, *arguments) -> None:
        await getattr(self, "do_" + name.replace(",", "").replace(" ", "_"))(*arguments)

    async def do_commit(self, group, offsets):
        self.lab.commit(group, *[(*partition, offset) for partition, offset in offsets])
        self.model.offsets.setdefault(group, {}).update(offsets)

    async def do_save(self, group, generation):
        value = GroupMetadataValue(protocol_type="consumer", generation=generation)
        self.lab.store.save_group(group, value)
        self.model.saved[group] = generation

    async def do_remove(self, group, wanted):
        self.lab.store.remove(group, wanted)
        self.model.drop(lambda of, key: of != group or key not in wanted)

    async def do_forget(self, group):
        self.lab.store.forget_group(group)
        self.model.offsets.pop(group, None)
        self.model.saved.pop(group, None)

    async def do_delete_topic(self, topic):
        controller = self.lab.local.controller
        await controller.delete_topic(topic)
        await controller.create_topic(topic)
        self.model.drop(lambda _, key: key[0] != topic)

    async def do_too_large(self, group):
        with pytest.raises(KafkaError, match=r"^UNKNOWN_SERVER_ERROR"):
            self.lab.commit(group, ("t", 0, 100), ("t", 1, 100), metadata="x" * 3000)

    async def do_restart(self):
        self.lab = await self.lab.reopened()

    async def do_kill(self):
        self.kills += 1
        self.lab = await self.lab.killed(self.directory / f"after-{self.kills}")

    async def do_kill_torn(self, length):
        for index in range(2):
            with self.lab.log_path(index).open("r+b") as log_file:
                beginning = log_file.read(length)
                log_file.seek(0, 2)
                log_file.write(beginning)
        await self.do_kill()

    async def do_reload(self, index):
        self.lab.store.resign(index)
        self.lab.store.lead(index)
        await self.lab.store.load()

    def check(self) -> None:
        for group in GROUPS:
            assert self.lab.offsets(group) == self.model.offsets.get(group, {})
        assert self.lab.store.group_ids() == {*self.model.offsets, *self.model.saved}

    def check_restored(self) -> None:
        restored = {}
        for groups_of_partition in self.lab.groups.restored[-2:]:
            restored |= groups_of_partition
        simple = dict.fromkeys(self.model.offsets, 0)  # groups of nothing but offsets
        found = {group: value.generation for group, value in restored.items()}
        assert found == simple | self.model.saved


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=12))
async def test_store_is_what_was_done_to_it(script):
    with tempfile.TemporaryDirectory() as name:
        lab = await StoreLab.open(
            Path(name) / "data",
            Clock(),
            message_max_bytes=5000,
            offsets_load_buffer_size=200,
        )
        run = Run(Path(name), await lab.with_topics(*TOPICS))
        for step in script:
            await run.step(*step)
            run.check()
        await run.do_restart()
        run.check()
        run.check_restored()
        await lab.close()
