"""OffsetCommit, OffsetFetch, OffsetDelete: answers as Kafka 4.1 gives them."""

import attrs
import pytest
import trio

from tests.apis.lab import Lab
from trio_kafka_net.broker.coordinator.group_records import NO_EXPIRY
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
)

OK = ErrorCode.NONE
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
UNKNOWN_ID = ErrorCode.UNKNOWN_TOPIC_ID
TOO_LARGE = ErrorCode.OFFSET_METADATA_TOO_LARGE

COMMIT_VERSIONS = range(2, 11)
FETCH_VERSIONS = range(1, 11)
NOBODY = b"\x07" * 16
"""The id of no topic."""

GROUP_ERRORS = [
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.STALE_MEMBER_EPOCH,
]


@attrs.define(slots=False)
class FakeGroups:
    """Groups that refuse everything with one error, or let everything pass."""

    error: ErrorCode | None = None
    subscribed: frozenset[str] = frozenset()
    asked: list[tuple] = attrs.field(factory=list)

    def check_commit(self, *arguments):
        self._answer(*arguments)

    def count_commits(self, *arguments):
        pass

    def check_fetch(self, *arguments):
        self._answer(*arguments)

    def subscribed_topics(self, *arguments):
        self._answer(*arguments)
        return self.subscribed

    def _answer(self, *arguments):
        self.asked.append(arguments)
        if self.error is not None:
            raise KafkaError(self.error)


class OffsetsLab:
    """A broker with topics ``t`` and ``u`` of two partitions, and short ways to ask it."""

    def __init__(self, lab):
        self.lab = lab
        self.local = lab.local
        self.store = lab.local.offsets
        self.ids = {}

    async def prepare(self):
        for name in ("t", "u"):
            self.ids[name] = (await self.lab.make_topic(name, partitions=2)).topic_id
        await self.store.ensure_topic()
        return self

    def use_groups(self, **settings):
        groups = self.local.groups = FakeGroups(**settings)
        return groups

    def topic_id(self, name):
        return self.ids.get(name, NOBODY)

    async def commit(self, version, *topics, group="g", generation=-1, member="", **settings):
        """Commit [(topic, [partition or {field: value}])]; [(topic, [(partition, code)])]."""
        asked = [
            OffsetCommitRequest.Topic(
                name="" if version >= 10 else name,
                topic_id=self.topic_id(name) if version >= 10 else bytes(16),
                partitions=[
                    OffsetCommitRequest.Partition(
                        **{
                            "partition_index": each if isinstance(each, int) else 0,
                            "committed_offset": 5,
                            "committed_metadata": "m",
                            **(each if isinstance(each, dict) else {}),
                        }
                    )
                    for each in partitions
                ],
            )
            for name, partitions in topics
        ]
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            topics=asked,
            **settings,
        )
        response = await self.lab.ask(request, version)
        return [(self.name_of(topic), pairs(topic)) for topic in response.topics]

    def name_of(self, topic):
        if topic.name:
            return topic.name
        return next((name for name, it in self.ids.items() if it == topic.topic_id), "none")

    async def fetch(self, version, topics, group="g", **settings):
        """(code, [(topic, [(partition, offset, epoch, metadata, code)])]) of one group."""
        if version < 8:
            asked = (
                None
                if topics is None
                else [
                    OffsetFetchRequest.Topic(name=name, partition_indexes=indexes)
                    for name, indexes in topics
                ]
            )
            request = OffsetFetchRequest(group_id=group, topics=asked, **settings)
            found = await self.lab.ask(request, version)
        else:
            request = OffsetFetchRequest(
                groups=[self.asked_group(version, group, topics)], **settings
            )
            (found,) = (await self.lab.ask(request, version)).groups
            assert found.group_id == group
        return found.error_code, [
            (
                self.name_of(topic),
                [
                    (
                        each.partition_index,
                        each.committed_offset,
                        each.committed_leader_epoch,
                        each.metadata,
                        each.error_code,
                    )
                    for each in topic.partitions
                ],
            )
            for topic in found.topics
        ]

    def asked_group(self, version, group, topics, **settings):
        return OffsetFetchRequest.Group(
            group_id=group,
            topics=None
            if topics is None
            else [
                OffsetFetchRequest.Topics(
                    name="" if version >= 10 else name,
                    topic_id=self.topic_id(name) if version >= 10 else bytes(16),
                    partition_indexes=indexes,
                )
                for name, indexes in topics
            ],
            **settings,
        )

    async def delete(self, *topics, group="g"):
        """(code, [(topic, [(partition, code)])])."""
        request = OffsetDeleteRequest(
            group_id=group,
            topics=[
                OffsetDeleteRequest.Topic(
                    name=name,
                    partitions=[
                        OffsetDeleteRequest.Partition(partition_index=index) for index in indexes
                    ],
                )
                for name, indexes in topics
            ],
        )
        response = await self.lab.ask(request, 0)
        return response.error_code, [(topic.name, pairs(topic)) for topic in response.topics]


def pairs(topic):
    return [(each.partition_index, each.error_code) for each in topic.partitions]


def nothing(index, code=OK):
    return index, -1, -1, "", code


@pytest.fixture
async def offsets(lab):
    return await OffsetsLab(lab).prepare()


# OffsetCommit


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_what_is_committed_is_there(offsets, version):
    one = {"committed_offset": 7, "committed_leader_epoch": 3, "committed_metadata": "é"}

    answer = await offsets.commit(version, ("t", [one, 1]), ("u", [0]))

    assert answer == [("t", [(0, OK), (1, OK)]), ("u", [(0, OK)])]
    committed = offsets.store.committed("g")
    found = committed["t"][0]
    assert (found.offset, found.metadata) == (7, "é")
    assert found.leader_epoch == (3 if version >= 6 else -1)
    assert found.topic_id == (offsets.ids["t"] if version >= 10 else bytes(16))
    assert found.expire_timestamp == NO_EXPIRY
    assert abs(found.commit_timestamp - offsets.local.now_ms()) < 60_000
    assert committed["t"][1].offset == committed["u"][0].offset == 5


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_refused_partitions_come_first(offsets, version):
    answer = await offsets.commit(
        version,
        ("t", [0, 2, 1, {"partition_index": -1}]),
        ("none", [0, 1]),
        ("u", [7]),
        ("u", [0]),
    )

    unknown = UNKNOWN_ID if version >= 10 else UNKNOWN
    assert answer == [
        ("t", [(2, UNKNOWN), (-1, UNKNOWN), (0, OK), (1, OK)]),
        ("none", [(0, unknown), (1, unknown)]),
        ("u", [(7, UNKNOWN), (0, OK)]),
    ]


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_error_of_the_group_is_that_of_what_exists(offsets, version):
    groups = offsets.use_groups(error=ErrorCode.UNKNOWN_MEMBER_ID)
    settings = {"group_instance_id": "i"} if version >= 7 else {}

    answer = await offsets.commit(
        version, ("t", [0]), ("none", [0]), generation=5, member="m", **settings
    )

    unknown = UNKNOWN_ID if version >= 10 else UNKNOWN
    assert answer == [("none", [(0, unknown)]), ("t", [(0, ErrorCode.UNKNOWN_MEMBER_ID)])]
    assert groups.asked == [("g", "m", "i" if version >= 7 else None, 5)]
    assert not offsets.store.has_offsets("g")


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
@pytest.mark.parametrize("code", GROUP_ERRORS)
async def test_group_errors_are_told_as_they_are(offsets, version, code):
    offsets.use_groups(error=code)

    assert await offsets.commit(version, ("t", [0])) == [("t", [(0, code)])]


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_unknown_group_of_a_member_was_an_illegal_generation(offsets, version):
    code = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION

    answer = await offsets.commit(version, ("t", [0]), generation=5, member="m")

    assert answer == [("t", [(0, code)])]


async def test_member_of_a_group_without_members_is_unknown(offsets):
    await offsets.commit(8, ("t", [0]))

    answer = await offsets.commit(8, ("t", [0]), generation=5, member="m")

    assert answer == [("t", [(0, ErrorCode.UNKNOWN_MEMBER_ID)])]


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_group_is_not_asked_about_what_does_not_exist(offsets, version):
    groups = offsets.use_groups(error=ErrorCode.UNKNOWN_MEMBER_ID)

    unknown = UNKNOWN_ID if version >= 10 else UNKNOWN
    assert await offsets.commit(version, ("none", [0])) == [("none", [(0, unknown)])]
    assert await offsets.commit(version) == []
    assert await offsets.commit(version, ("t", [])) == []
    assert groups.asked == []


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
@pytest.mark.parametrize(
    ("longest", "too_long"),
    [("x" * 4096, "x" * 4097), ("\U0001f600" * 2048, "\U0001f600" * 2048 + "x")],
)
async def test_metadata_has_a_limit_in_utf16_units(offsets, version, longest, too_long):
    answer = await offsets.commit(
        version,
        (
            "t",
            [
                {"partition_index": 0, "committed_metadata": too_long},
                {"partition_index": 1, "committed_metadata": longest},
            ],
        ),
    )

    assert answer == [("t", [(0, TOO_LARGE), (1, OK)])]
    assert offsets.store.committed("g")["t"].keys() == {1}


async def test_metadata_limit_is_the_configured_one(open_lab):
    offsets = await OffsetsLab(await open_lab(offset_metadata_max_bytes=0)).prepare()

    assert await offsets.commit(8, ("t", [0])) == [("t", [(0, TOO_LARGE)])]
    none = {"committed_metadata": None}
    assert await offsets.commit(8, ("t", [none])) == [("t", [(0, OK)])]


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_kafka_takes_what_looks_odd(offsets, version):
    """No metadata, negative offsets, a partition or topic twice (the last wins), no group id."""
    for odd in (
        [("t", [{"committed_metadata": None}, {"partition_index": 1, "committed_offset": -5}])],
        [("u", [{"committed_offset": 3}, {"committed_offset": 4}])],
    ):
        answer = await offsets.commit(version, *odd, group="")
        assert {code for _, partitions in answer for _, code in partitions} == {OK}
    await offsets.commit(version, ("u", [1]), ("u", [{"partition_index": 1}]), group="")

    code, found = await offsets.fetch(8, None, group="")
    assert (code, found) == (
        OK,
        [
            ("t", [(0, 5, -1, "", OK), (1, -5, -1, "m", OK)]),
            ("u", [(0, 4, -1, "m", OK), (1, 5, -1, "m", OK)]),
        ],
    )


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("retention_ms", [0, 60_000, -2, 2**63 - 1])
async def test_old_clients_say_how_long(offsets, version, retention_ms):
    assert await offsets.commit(version, ("t", [0]), retention_time_ms=retention_ms) == [
        ("t", [(0, OK)])
    ]

    found = offsets.store.committed("g")["t"][0]
    expected = min(found.commit_timestamp + retention_ms, 2**63 - 1)
    assert found.expire_timestamp == expected


async def test_offsets_of_an_internal_topic_can_be_committed(offsets):
    answer = await offsets.commit(8, ("__consumer_offsets", [0]))

    assert answer == [("__consumer_offsets", [(0, OK)])]


@pytest.mark.parametrize("version", COMMIT_VERSIONS)
async def test_failed_append_is_told_and_nothing_committed(offsets, version):
    for partition in offsets.local.replicas:
        partition.log.failure = OSError("no more disk")

    answer = await offsets.commit(version, ("t", [0, 1]))

    code = ErrorCode.NOT_COORDINATOR
    assert answer == [("t", [(0, code), (1, code)])]
    assert not offsets.store.has_offsets("g")


async def test_with_flush_messages_the_answer_waits_for_the_disk(open_lab):
    offsets = await OffsetsLab(await open_lab(log_flush_interval_messages=1)).prepare()

    assert await offsets.commit(8, ("t", [0])) == [("t", [(0, OK)])]
    assert (await offsets.delete(("t", [0]))) == (OK, [("t", [(0, OK)])])

    flushed = [
        each.log.recovery_point for each in offsets.local.replicas if each.log.log_end_offset
    ]
    assert flushed == [2]


async def test_failed_flush_is_an_error_of_every_partition(open_lab, monkeypatch):
    offsets = await OffsetsLab(await open_lab(log_flush_interval_messages=1)).prepare()

    async def flush(group_id):
        await trio.lowlevel.checkpoint()
        raise KafkaError(ErrorCode.NOT_COORDINATOR)

    monkeypatch.setattr(offsets.store, "flush", flush)

    code = ErrorCode.NOT_COORDINATOR
    assert await offsets.commit(8, ("t", [0, 1])) == [("t", [(0, code), (1, code)])]


# A commit of many partitions


MANY = [("t", [0, 1] * 300)]


async def test_many_are_committed_as_few_are(offsets):
    too_large = {"partition_index": 0, "committed_metadata": "x" * 4097}

    answer = await offsets.commit(8, *MANY, ("u", [0, too_large]), ("none", [0]))

    assert answer == [
        ("none", [(0, UNKNOWN)]),
        ("t", [(0, OK), (1, OK)] * 300),
        ("u", [(0, OK), (0, TOO_LARGE)]),
    ]
    everything = [("t", [(0, 5, -1, "m", OK), (1, 5, -1, "m", OK)]), ("u", [(0, 5, -1, "m", OK)])]
    assert await offsets.fetch(8, None) == (OK, everything)


async def test_group_that_changes_while_many_are_encoded_is_noticed(offsets):
    """A member that is fenced meanwhile must not overwrite what its successor committed."""
    groups = offsets.use_groups()

    def check_commit(*arguments):
        groups.asked.append(arguments)
        if len(groups.asked) == 2:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)

    groups.check_commit = check_commit

    answer = await offsets.commit(8, *MANY)

    assert {code for _, code in answer[0][1]} == {ErrorCode.ILLEGAL_GENERATION}
    assert len(groups.asked) == 2
    assert not offsets.store.has_offsets("g")


async def test_topic_that_is_deleted_while_many_are_encoded_is_noticed(offsets):
    groups = offsets.use_groups()

    def check_commit(*arguments):
        if groups.asked:
            offsets.local.metadata.remove_topic("t")
        groups.asked.append(arguments)

    groups.check_commit = check_commit

    answer = await offsets.commit(8, *MANY)

    assert {code for _, code in answer[0][1]} == {UNKNOWN}
    assert not offsets.store.has_offsets("g")


async def test_many_wait_for_the_disk_too(open_lab):
    offsets = await OffsetsLab(await open_lab(log_flush_interval_messages=1)).prepare()

    assert (await offsets.commit(8, *MANY)) == [("t", [(0, OK), (1, OK)] * 300)]

    assert 600 in [each.log.recovery_point for each in offsets.local.replicas]


# OffsetFetch


@pytest.mark.parametrize("version", FETCH_VERSIONS)
async def test_what_was_committed_is_told(offsets, version):
    one = {"partition_index": 1, "committed_offset": 9, "committed_leader_epoch": 3}
    await offsets.commit(8, ("t", [{**one, "committed_metadata": "é"}]))

    code, found = await offsets.fetch(version, [("none", [0]), ("t", [1, 0, 0, 7]), ("u", [])])

    epoch = 3 if version >= 5 else -1
    known = [("t", [(1, 9, epoch, "é", OK), nothing(0), nothing(0), nothing(7)]), ("u", [])]
    missing = [("none", [nothing(0, UNKNOWN_ID if version >= 10 else OK)])]
    assert code == OK
    assert found == (known + missing if version >= 10 else missing + known)


@pytest.mark.parametrize("version", FETCH_VERSIONS)
async def test_group_that_nobody_knows_has_nothing(offsets, version):
    assert await offsets.fetch(version, [("t", [0])]) == (OK, [("t", [nothing(0)])])
    assert await offsets.fetch(version, []) == (OK, [])
    if version >= 2:
        assert await offsets.fetch(version, None) == (OK, [])


@pytest.mark.parametrize("version", range(2, 11))
async def test_everything_of_a_group_can_be_asked_for(offsets, version):
    await offsets.commit(8, ("t", [0]), ("u", [0, 1]))

    assert await offsets.fetch(version, None) == (
        OK,
        [("t", [(0, 5, -1, "m", OK)]), ("u", [(0, 5, -1, "m", OK), (1, 5, -1, "m", OK)])],
    )


@pytest.mark.parametrize("version", range(7, 11))
async def test_every_offset_is_stable(offsets, version):
    await offsets.commit(8, ("t", [0]))

    assert await offsets.fetch(version, [("t", [0])], require_stable=True) == (
        OK,
        [("t", [(0, 5, -1, "m", OK)])],
    )


@pytest.mark.parametrize("version", range(8, 11))
async def test_every_group_answers_for_itself(offsets, version):
    await offsets.commit(8, ("t", [0]), group="a")
    await offsets.commit(8, ("u", [0]), group="b")
    groups = offsets.use_groups()
    member = {"member_id": "m", "member_epoch": 3} if version >= 9 else {}

    request = OffsetFetchRequest(
        groups=[
            offsets.asked_group(version, "b", None),
            offsets.asked_group(version, "none", None, **member),
            offsets.asked_group(version, "a", [("t", [0])]),
            offsets.asked_group(version, "b", None),
        ]
    )
    response = await offsets.lab.ask(request, version)

    assert [
        (group.group_id, group.error_code, [offsets.name_of(topic) for topic in group.topics])
        for group in response.groups
    ] == [("b", OK, ["u"]), ("none", OK, []), ("a", OK, ["t"]), ("b", OK, ["u"])]
    told = ("none", "m", 3) if version >= 9 else ("none", None, -1)
    assert groups.asked == [("b", None, -1), told, ("a", None, -1), ("b", None, -1)]
    assert (await offsets.lab.ask(OffsetFetchRequest(), version)).groups == []


@pytest.mark.parametrize("version", FETCH_VERSIONS)
@pytest.mark.parametrize("code", [ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID])
async def test_error_of_the_group_has_its_place_in_every_version(offsets, version, code):
    offsets.use_groups(error=code)

    answer = await offsets.fetch(version, [("t", [0, 1])])

    if version == 1:
        assert answer == (OK, [("t", [nothing(0, code), nothing(1, code)])])
    else:
        assert answer == (code, [])


async def test_offset_of_another_topic_of_that_name_is_not_told(offsets):
    """By id it is another topic; by name nobody can tell."""
    await offsets.commit(10, ("t", [0]))
    offsets.store.committed("g")["t"][0].topic_id = NOBODY

    assert await offsets.fetch(10, [("t", [0])]) == (OK, [("t", [nothing(0)])])
    assert await offsets.fetch(9, [("t", [0])]) == (OK, [("t", [(0, 5, -1, "m", OK)])])


# OffsetDelete


async def test_deleted_offsets_are_gone(offsets):
    await offsets.commit(8, ("t", [0, 1]), ("u", [0]))
    offsets.use_groups()

    answer = await offsets.delete(("t", [1, 1]), ("none", [0, 1]), ("u", [0, 9]))

    assert answer == (
        OK,
        [
            ("none", [(0, UNKNOWN), (1, UNKNOWN)]),
            ("u", [(9, UNKNOWN), (0, OK)]),
            ("t", [(1, OK), (1, OK)]),
        ],
    )
    assert await offsets.fetch(8, None) == (OK, [("t", [(0, 5, -1, "m", OK)])])
    assert await offsets.delete(("t", [1])) == (OK, [("t", [(1, OK)])])
    assert await offsets.delete() == (OK, [])


async def test_topic_that_is_read_keeps_its_offsets(offsets):
    await offsets.commit(8, ("t", [0]), ("u", [0]))
    offsets.use_groups(subscribed=frozenset({"t"}))

    answer = await offsets.delete(("t", [0, 5]), ("u", [0]))

    subscribed = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    assert answer == (OK, [("t", [(5, UNKNOWN), (0, subscribed)]), ("u", [(0, OK)])])
    assert await offsets.fetch(8, None) == (OK, [("t", [(0, 5, -1, "m", OK)])])


async def test_group_that_may_read_anything_keeps_everything(offsets):
    await offsets.commit(8, ("t", [0]))
    offsets.use_groups(error=ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)

    answer = await offsets.delete(("t", [0]), ("none", [0]))

    subscribed = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    assert answer == (OK, [("none", [(0, UNKNOWN)]), ("t", [(0, subscribed)])])
    assert offsets.store.has_offsets("g")


@pytest.mark.parametrize(
    ("group", "code"),
    [("", ErrorCode.INVALID_GROUP_ID), ("nobody", ErrorCode.GROUP_ID_NOT_FOUND)],
)
@pytest.mark.parametrize("topics", [[], [("t", [0])], [("none", [0])]])
async def test_delete_needs_a_group(offsets, group, code, topics):
    assert await offsets.delete(*topics, group=group) == (code, [])


@pytest.mark.parametrize("code", [ErrorCode.NON_EMPTY_GROUP, ErrorCode.GROUP_ID_NOT_FOUND])
async def test_error_of_the_group_is_that_of_the_whole_delete(offsets, code):
    await offsets.commit(8, ("t", [0]))
    offsets.use_groups(error=code)

    assert await offsets.delete(("t", [0])) == (code, [])
    assert offsets.store.has_offsets("g")


async def test_failed_append_is_an_error_of_the_whole_delete(offsets):
    await offsets.commit(8, ("t", [0]))
    for partition in offsets.local.replicas:
        partition.log.failure = OSError("no more disk")

    assert await offsets.delete(("t", [0])) == (ErrorCode.NOT_COORDINATOR, [])
    assert offsets.store.has_offsets("g")


# Before the offsets are there


async def answers_of_all(offsets):
    code = (await offsets.commit(8, ("t", [0])))[0][1][0][1]
    return {
        code,
        (await offsets.fetch(8, None))[0],
        (await offsets.fetch(2, None))[0],
        (await offsets.fetch(1, [("t", [0])]))[1][0][1][0][4],
        (await offsets.delete(("t", [0])))[0],
    }


async def test_before_the_topic_is_made_there_is_no_coordinator(lab):
    offsets = OffsetsLab(lab)
    await lab.make_topic("t")

    assert await answers_of_all(offsets) == {ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert await offsets.commit(8, ("none", [0])) == [("none", [(0, UNKNOWN)])]


async def test_while_offsets_are_loaded_only_groups_wait(open_lab, tmp_path, monkeypatch):
    """The broker serves everything else, and then them."""
    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0",), log_dirs=(tmp_path,), offsets_topic_num_partitions=3
    )
    async with open_broker(config) as broker:
        offsets = await OffsetsLab(Lab(broker)).prepare()
        await offsets.commit(8, ("t", [0]))
    go_on, loaded = trio.Event(), trio.Event()
    load = type(offsets.store).load

    async def wait_and_load(store):
        await go_on.wait()
        await load(store)
        loaded.set()

    monkeypatch.setattr(type(offsets.store), "load", wait_and_load)
    offsets = OffsetsLab(await open_lab(trio_in_memory=False, log_dirs=(tmp_path,)))

    assert await answers_of_all(offsets) == {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
    assert (await offsets.lab.produce("t")).error_code == OK
    go_on.set()
    await loaded.wait()
    assert await offsets.fetch(8, None) == (OK, [("t", [(0, 5, -1, "m", OK)])])
