"""The controller: topics come and go as a whole, whenever the process dies or the disk fails."""

import shutil
from pathlib import Path

import attrs
import pytest
import trio

from tests.cancelling import cancelled_at
from trio_kafka_net.broker import cluster_state as state_module
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker.log import log_manager
from trio_kafka_net.broker.log.checkpoints import write_topic_id
from trio_kafka_net.broker.log.log_manager import LogManager
from trio_kafka_net.broker.topics_file import load_topics
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


async def open_local(data_dir, **settings):
    return await LocalBroker.open(BrokerConfig(log_dirs=(data_dir,), **settings))


@pytest.fixture
async def local(data_dir):
    opened = await open_local(data_dir)
    yield opened
    await opened.close()


def produce(local, topic="t", index=0):
    batch = memoryview(bytearray(build_batch([Record(timestamp=1, value=b"old")])))
    local.replicas.append_records(topic, index, batch, required_acks=-1)


def end_offset(local, topic="t", index=0):
    return local.replicas.get_partition(topic, index).log_end_offset


def directories(data_dir):
    return sorted(each.name for each in data_dir.iterdir() if each.is_dir())


def epochs(local, topic="t"):
    """(what metadata says, what the partition goes by) for each partition."""
    return [
        (state.leader_epoch, local.replicas.get_partition(topic, index).leader_epoch)
        for index, state in enumerate(local.metadata.get_topic(topic).partitions)
    ]


# Leadership


async def test_new_topic_is_led_with_epoch_0(local):
    topic = await local.controller.create_topic("t", partitions=2)

    assert epochs(local) == [(0, 0), (0, 0)]
    assert all(state.leader_id == 1 for state in topic.partitions)
    assert len({topic.topic_id, (await local.controller.create_topic("u")).topic_id}) == 2


async def test_every_start_leads_with_a_new_epoch(data_dir):
    for start in range(4):
        local = await open_local(data_dir)
        if not start:
            await local.controller.create_topic("t")
        produce(local)

        assert epochs(local) == [(start, start)]
        entries = local.replicas.get_partition("t", 0).log.leader_epochs.entries
        assert entries == tuple((epoch, epoch) for epoch in range(start + 1))
        await local.close()


async def test_epoch_is_new_even_if_topics_json_is_an_old_copy(data_dir):
    local = await open_local(data_dir)
    await local.controller.create_topic("t")
    await local.close()
    old = (data_dir / "topics.json").read_bytes()
    for _ in range(3):
        local = await open_local(data_dir)
        produce(local)
        await local.close()
    (data_dir / "topics.json").write_bytes(old)

    local = await open_local(data_dir)

    assert epochs(local) == [(4, 4)]
    await local.close()


# Errors


async def test_deletion_of_another_topic_of_the_name_is_refused(local):
    old = await local.controller.create_topic("t")
    await local.controller.delete_topic("t", topic_id=old.topic_id)
    await local.controller.create_topic("t")

    with pytest.raises(KafkaError) as refused:
        await local.controller.delete_topic("t", topic_id=old.topic_id)

    assert refused.value.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert local.metadata.get_topic("t") is not None


async def test_changes_happen_one_at_a_time(local):
    """Of several that make a topic of the same name, one does; and names are never half there."""
    outcomes = []

    async def create():
        try:
            await local.controller.create_topic("t", partitions=3)
            outcomes.append("made")
        except KafkaError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(create)

    assert sorted(outcomes, key=str) == [ErrorCode.TOPIC_ALREADY_EXISTS] * 2 + ["made"]
    assert len(local.replicas) == 3


def failing(patched, owner, name, *, at):
    """Make the ``at``-th call (from 1) of a function fail, as a full disk does."""
    function = getattr(owner, name)
    calls = []

    def wrapped(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        return function(*arguments, **settings)

    patched.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (state_module, "save_topics", 1),
        (LogManager, "create_log", 1),
        (LogManager, "create_log", 3),
    ],
)
async def test_topic_that_cannot_be_made_is_not_there(
    local, data_dir, monkeypatch, owner, name, at
):
    await local.controller.create_topic("other")
    with monkeypatch.context() as patched:
        failing(patched, owner, name, at=at)
        with pytest.raises(KafkaError) as refused:
            await local.controller.create_topic("t", partitions=3)

    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert [topic.name for topic in local.metadata] == ["other"]
    assert len(local.replicas) == 1
    assert [each for each in directories(data_dir) if "-delete" not in each] == ["other-0"]
    # There is room again.
    await local.controller.create_topic("t", partitions=3)
    await local.close()
    again = await open_local(data_dir)
    assert [topic.name for topic in again.metadata] == ["other", "t"]
    assert directories(data_dir) == ["other-0", "t-0", "t-1", "t-2"]
    await again.close()


async def test_directory_without_a_log_does_not_keep_its_name(local, data_dir, monkeypatch):
    """The disk was full when the directory was there and its topic id was not."""
    with monkeypatch.context() as patched:
        failing(patched, log_manager, "write_topic_id", at=1)
        with pytest.raises(KafkaError):
            await local.controller.create_topic("t")

    topic = await local.controller.create_topic("t")

    assert local.replicas.log_manager.topic_id("t", 0) == topic.topic_id


async def test_topic_that_cannot_be_deleted_stays_as_it_was(local, monkeypatch):
    await local.controller.create_topic("t")
    produce(local)
    with monkeypatch.context() as patched:
        failing(patched, state_module, "save_topics", at=1)
        with pytest.raises(KafkaError) as refused:
            await local.controller.delete_topic("t")

    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    produce(local)
    assert end_offset(local) == 2


async def test_deleted_topic_leaves_the_file_with_the_next_decision(local):
    await local.controller.create_topic("t")
    await local.controller.delete_topic("t")
    noted = [len(topic.partitions) for topic in load_topics(local.store.logs.path)[0]]
    assert noted == [0]

    await local.controller.create_topic("u")

    assert [topic.name for topic in load_topics(local.store.logs.path)[0]] == ["u"]


async def test_decision_in_the_middle_of_a_deletion_keeps_the_note_of_it(data_dir, camera):
    """Or the logs would be nobody's if the process died then."""
    local = await open_local(data_dir)
    await local.controller.create_topic("t")
    await local.controller.create_topic("u")

    async def change_another(name):
        await local.controller.alter_topic_configs({"u": lambda _: {"segment.ms": "1"}})
        camera.is_on = True
        camera.photograph("logs of t are there")
        camera.is_on = False

    local.controller_requests.on_topic_deleted.append(change_another)
    await local.controller.delete_topic("t")
    await local.close()
    ((_, path),) = camera.copies
    assert "t-0" in directories(path)

    again = await open_local(path)

    await again.close()
    assert directories(path) == ["u-0"]


async def test_worker_threads_work_where_it_may_take_long(local, monkeypatch):
    """Not for a few small files in memory: their way there and back takes longer."""
    threads = []

    async def in_thread(work, *arguments):
        threads.append(work.__name__)
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    async def change(name, partitions):
        threads.clear()
        await local.controller.create_topic(name, partitions=partitions)
        await local.controller.create_partitions(name, partitions + 1)
        await local.controller.alter_topic_configs({name: lambda _: {"segment.ms": "1"}})
        await local.controller.delete_topic(name)
        return len(threads)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_thread)
    assert await change("stored", 1) == 4
    monkeypatch.setattr(local.store.logs, "is_in_memory", True)
    assert await change("small", 1) == 0
    assert await change("larger", 4) == 1
    assert await change("large", 51) == 4


async def test_directory_that_cannot_be_removed_does_not_keep_the_others(local, monkeypatch):
    await local.controller.create_topic("t", partitions=3)
    with monkeypatch.context() as patched:
        failing(patched, LogManager, "delete_log", at=2)
        with pytest.raises(KafkaError) as failed:
            await local.controller.delete_topic("t")

    assert failed.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert (len(local.metadata), len(local.replicas)) == (0, 0)


# Cancellation


@pytest.mark.parametrize("at", range(1, 12))
async def test_cancelled_changes_leave_whole_topics(data_dir, at):
    local = await open_local(data_dir)
    await local.controller.create_topic("old", partitions=2)
    with cancelled_at(at):
        await local.controller.create_topic("new", partitions=2)
        await local.controller.delete_topic("old")

    await check_whole(local)
    await local.close()
    again = await open_local(data_dir)
    await check_whole(again)
    await again.close()


async def check_whole(local):
    """Every topic has its partitions, there are no others, and every name can be used."""
    expected = {(topic.name, index) for topic in local.metadata for index in (0, 1)}
    assert {partition.key for partition in local.replicas} == expected
    assert all(partition.is_leader for partition in local.replicas)
    for name in ("old", "new"):
        if local.metadata.get_topic(name) is None:
            await local.controller.create_topic(name, partitions=2)
        before = end_offset(local, name)
        produce(local, name)
        assert end_offset(local, name) == before + 1


# Death at every step


@attrs.define
class Camera:
    """Copies of a data directory, taken before and after every step that changes it."""

    data_dir: Path
    target: Path
    copies: list[tuple[str, Path]] = attrs.field(factory=list)
    is_on: bool = False

    def photograph(self, step):
        if not self.is_on:
            return
        path = self.target / str(len(self.copies))
        shutil.copytree(self.data_dir, path, ignore=shutil.ignore_patterns(".lock"))
        self.copies.append((step, path))

    def watch(self, patched, owner, name):
        function = getattr(owner, name)

        def wrapped(*arguments, **settings):
            self.photograph(f"before {name}")
            result = function(*arguments, **settings)
            self.photograph(f"after {name}")
            return result

        patched.setattr(owner, name, wrapped)


@pytest.fixture
def camera(data_dir, tmp_path, monkeypatch):
    camera = Camera(data_dir, tmp_path)
    camera.watch(monkeypatch, state_module, "save_topics")
    for name in ("create_log", "delete_log"):
        camera.watch(monkeypatch, LogManager, name)
    return camera


async def states_after_death(camera):
    """What a start makes of each copy: {step: names of topics}; each is checked to be usable."""
    states = []
    for step, path in list(camera.copies):
        local = await open_local(path)
        names = [topic.name for topic in local.metadata]
        for name in names:
            partitions = local.metadata.get_topic(name).partitions
            assert len(local.replicas) == len(partitions) * len(names), step
        if "t" in names:
            await local.controller.delete_topic("t")
        topic = await local.controller.create_topic("t", partitions=2)
        # Never the records of a topic that is gone.
        assert [end_offset(local, "t", index) for index in (0, 1)] == [0, 0], step
        assert local.replicas.log_manager.topic_id("t", 1) == topic.topic_id, step
        await local.close()
        states.append((step, names))
    return states


async def test_death_while_a_topic_is_made_leaves_a_whole_topic_or_none(data_dir, camera):
    local = await open_local(data_dir)
    camera.is_on = True
    await local.controller.create_topic("t", partitions=2)
    camera.is_on = False
    await local.close()

    states = await states_after_death(camera)

    assert [step for step, _ in states][:3] == [
        "before save_topics",
        "after save_topics",
        "before create_log",
    ]
    assert [names for _, names in states] == [[]] + [["t"]] * (len(states) - 1)


async def test_death_while_a_topic_is_deleted_leaves_a_whole_topic_or_none(data_dir, camera):
    local = await open_local(data_dir)
    await local.controller.create_topic("t", partitions=2)
    for index in (0, 1):
        produce(local, index=index)
    camera.is_on = True
    await local.controller.delete_topic("t")
    camera.is_on = False
    await local.close()

    states = await states_after_death(camera)

    assert [step for step, _ in states] == [
        f"{when} {what}"
        for what in ("save_topics", "delete_log", "delete_log")
        for when in ("before", "after")
    ]
    assert [names for _, names in states] == [["t"]] + [[]] * 5


async def test_half_deleted_topic_is_removed_by_the_next_start(data_dir, camera):
    local = await open_local(data_dir)
    await local.controller.create_topic("t", partitions=2)
    camera.is_on = True
    await local.controller.delete_topic("t")
    camera.is_on = False
    await local.close()
    (_, noted), (_, before_renaming), *_ = camera.copies[1:]
    for path in (noted, before_renaming):
        assert directories(path) == ["t-0", "t-1"]

        again = await open_local(path)
        await again.close()

        assert directories(path) == []


async def test_deletion_that_is_completed_spares_what_belongs_to_another_topic(data_dir, camera):
    local = await open_local(data_dir)
    await local.controller.create_topic("t", partitions=2)
    camera.is_on = True
    await local.controller.delete_topic("t")
    camera.is_on = False
    await local.close()
    _, noted = camera.copies[1]
    write_topic_id(noted / "t-1", b"another topic's.")

    again = await open_local(noted)
    await again.close()

    assert directories(noted) == ["t-1"]


async def test_death_while_partitions_are_added_leaves_all_of_them_or_none(data_dir, camera):
    local = await open_local(data_dir)
    await local.controller.create_topic("kept")
    await local.controller.create_topic("t")
    produce(local)
    camera.is_on = True
    await local.controller.create_partitions("t", 3)
    camera.is_on = False
    await local.close()

    counts = []
    for step, path in camera.copies:
        again = await open_local(path)
        topic = again.metadata.get_topic("t")
        counts.append((step, len(topic.partitions)))
        assert len(again.replicas) == len(topic.partitions) + 1
        assert [end_offset(again, "t", index) for index in range(len(topic.partitions))] == [
            1,
            *[0] * (len(topic.partitions) - 1),
        ]
        for index in range(len(topic.partitions)):
            produce(again, index=index)
        await again.close()

    assert counts == [
        ("before save_topics", 1),
        ("after save_topics", 3),
        *[(f"{when} create_log", 3) for _ in range(2) for when in ("before", "after")],
    ]


async def test_death_while_settings_are_changed_leaves_the_old_or_the_new_ones(data_dir, camera):
    local = await open_local(data_dir)
    for name in ("t", "u"):
        await local.controller.create_topic(name, configs={"segment.ms": "1"})
    camera.is_on = True
    changes = dict.fromkeys(["t", "u"], lambda before: {"segment.ms": "2", "retention.ms": "3"})
    assert await local.controller.alter_topic_configs(changes) == {}
    camera.is_on = False
    await local.close()

    found = []
    for step, path in camera.copies:
        again = await open_local(path)
        configs = [again.controller.topics.get_topic(name).configs for name in ("t", "u")]
        assert configs[0] == configs[1]
        assert again.replicas.get_partition("t", 0).log.config.segment_ms == int(
            configs[0]["segment.ms"]
        )
        found.append((step, configs[0]))
        await again.close()

    assert found == [
        ("before save_topics", {"segment.ms": "1"}),
        ("after save_topics", {"segment.ms": "2", "retention.ms": "3"}),
    ]


# More partitions


async def test_partitions_are_added_behind_those_that_are_there(local):
    topic = await local.controller.create_topic("t", partitions=2, configs={"segment.ms": "5"})
    produce(local)
    before = [attrs.evolve(state) for state in topic.partitions]

    await local.controller.create_partitions("t", 4, assignments=[(1,), (1,)])

    assert epochs(local) == [(0, 0)] * 4
    assert topic.partitions[:2] == before
    assert [end_offset(local, "t", index) for index in range(4)] == [1, 0, 0, 0]
    for index in range(4):
        partition = local.replicas.get_partition("t", index)
        assert (partition.is_leader, partition.topic_id) == (True, topic.topic_id)
        assert partition.log.config.segment_ms == 5


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (state_module, "save_topics", 1),
        (LogManager, "create_log", 1),
        (LogManager, "create_log", 2),
    ],
)
async def test_topic_that_cannot_get_more_partitions_is_as_it_was(
    local, data_dir, monkeypatch, owner, name, at
):
    topic = await local.controller.create_topic("t")
    produce(local)
    with monkeypatch.context() as patched:
        failing(patched, owner, name, at=at)
        with pytest.raises(KafkaError) as refused:
            await local.controller.create_partitions("t", 3)

    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert (len(topic.partitions), len(local.replicas)) == (1, 1)
    assert [each for each in directories(data_dir) if "-delete" not in each] == ["t-0"]
    produce(local)
    # There is room again.
    await local.controller.create_partitions("t", 3)
    produce(local, index=2)
    await local.close()
    again = await open_local(data_dir)
    assert [end_offset(again, "t", index) for index in range(3)] == [2, 0, 1]
    await again.close()


@pytest.mark.parametrize("at", range(1, 8))
async def test_cancelled_growth_adds_all_partitions_or_none(data_dir, at):
    local = await open_local(data_dir)
    topic = await local.controller.create_topic("t")
    with cancelled_at(at):
        await local.controller.create_partitions("t", 3)

    assert len(topic.partitions) == len(local.replicas)
    assert len(topic.partitions) in {1, 3}
    await local.close()
    again = await open_local(data_dir)
    count = len(again.metadata.get_topic("t").partitions)
    assert (count, len(again.replicas)) == (len(topic.partitions),) * 2
    await again.close()


@pytest.mark.parametrize("count", [2**31 - 1, 10_002])
async def test_partitions_beyond_the_limit_cost_nothing(local, count):
    await local.controller.create_topic("t")

    for refused in (
        local.controller.create_partitions("t", count),
        local.controller.create_topic("u", partitions=count),
    ):
        with pytest.raises(KafkaError) as error:
            await refused
        assert error.value.code == ErrorCode.INVALID_PARTITIONS


# Settings of topics


async def test_changed_settings_hold_in_every_log_of_the_topic_and_in_no_other(local):
    await local.controller.create_topic("t", partitions=2, configs={"segment.ms": "1"})
    await local.controller.create_topic("u")

    assert await local.controller.alter_topic_configs({"t": lambda _: {"retention.ms": "2"}}) == {}

    for index in (0, 1):
        config = local.replicas.get_partition("t", index).log.config
        assert (config.retention_ms, config.segment_ms) == (2, 604_800_000)
    assert local.replicas.get_partition("u", 0).log.config.retention_ms == 604_800_000


async def test_settings_that_cannot_be_stored_are_as_they_were(local, monkeypatch):
    for name in ("t", "u"):
        await local.controller.create_topic(name, configs={"segment.ms": "1"})
    changes = {
        "t": lambda before: {**before, "segment.ms": "2"},
        "u": lambda before: {"segment.ms": "never"},
    }
    with monkeypatch.context() as patched:
        failing(patched, state_module, "save_topics", at=1)
        failures = await local.controller.alter_topic_configs(changes)

    assert {name: error.code for name, error in failures.items()} == {
        "t": ErrorCode.KAFKA_STORAGE_ERROR,
        "u": ErrorCode.INVALID_CONFIG,
    }
    for name in ("t", "u"):
        assert local.controller.topics.get_topic(name).configs == {"segment.ms": "1"}
        assert local.replicas.get_partition(name, 0).log.config.segment_ms == 1


async def test_change_of_settings_cannot_reach_them_before_it_holds(local):
    """What a change does to the mapping that it is given is nobody else's business."""
    await local.controller.create_topic("t", configs={"segment.ms": "1"})

    def spoil(before):
        before.clear()
        raise KafkaError(ErrorCode.INVALID_CONFIG, "no")

    failures = await local.controller.alter_topic_configs({"t": spoil})

    assert failures["t"].message == "no"
    assert local.controller.topics.get_topic("t").configs == {"segment.ms": "1"}


async def test_stored_settings_that_became_invalid_are_ignored_one_by_one(data_dir, caplog):
    local = await open_local(data_dir)
    await local.controller.create_topic("t", configs={"segment.ms": "5"})
    await local.close()
    file = data_dir / "topics.json"
    stored = '"segment.ms": "5"'
    changed = f'{stored}, "retention.ms": "never", "from.the.future": "1"'
    assert stored in file.read_text()
    file.write_text(file.read_text().replace(stored, changed))

    again = await open_local(data_dir)

    assert again.replicas.get_partition("t", 0).log.config.segment_ms == 5
    assert again.controller.topics.get_topic("t").configs == {"segment.ms": "5"}
    assert "topic t: setting ignored: Unknown topic config name: from.the.future" in caplog.text
    assert "topic t: setting ignored: Invalid value never" in caplog.text
    await again.close()


# Directories that are not ours to judge


async def test_directory_of_a_topic_that_is_not_known_is_left_alone(data_dir, caplog):
    local = await open_local(data_dir)
    await local.controller.create_topic("t")
    produce(local)
    await local.close()
    (data_dir / "topics.json").unlink()

    again = await open_local(data_dir)

    assert "t-0 belongs to no topic: left alone" in caplog.text
    assert again.replicas.get_partition("t", 0) is None
    # Nor does a new topic of the name take over its records, or remove them.
    with pytest.raises(KafkaError) as refused:
        await again.controller.create_topic("t")
    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    assert "t-0 holds another topic of that name" in refused.value.message
    assert len(again.metadata) == 0
    await again.close()
    assert directories(data_dir) == ["t-0"]


async def test_start_refuses_a_directory_of_another_topic(data_dir):
    local = await open_local(data_dir)
    await local.controller.create_topic("t")
    await local.close()
    text = (data_dir / "topics.json").read_text()
    topic_id = text.partition('"id": "')[2][:22]
    (data_dir / "topics.json").write_text(text.replace(topic_id, "A" * 22))

    with pytest.raises(StorageError, match="t-0 holds another topic of that name"):
        await open_local(data_dir)

    (data_dir / "topics.json").write_text(text)
    again = await open_local(data_dir)
    assert len(again.replicas) == 1
    await again.close()
