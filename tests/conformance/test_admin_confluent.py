"""The admin client of confluent-kafka (librdkafka): every call that it offers, errors included."""

import time
import uuid

import confluent_kafka
import pytest
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    ElectionType,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

from .drivers import SECONDS

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BROKER_ID = 1


@pytest.fixture
def admin(group_broker):
    return AdminClient({"bootstrap.servers": group_broker.bootstrap})


@pytest.fixture
def name():
    """A name that nothing has yet."""
    return f"confluent-{uuid.uuid4().hex[:8]}"


def result(future):
    return future.result(SECONDS)


def error_of(future):
    """The name of the error that a call ends with."""
    with pytest.raises(KafkaException) as raised:
        future.result(SECONDS)
    return raised.value.args[0].name()


def make_topic(admin, name, partitions=1, **options):
    result(admin.create_topics([NewTopic(name, partitions, **options)])[name])


def produce(group_broker, topic, count, partition=0):
    producer = confluent_kafka.Producer({"bootstrap.servers": group_broker.bootstrap})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=partition)
    assert producer.flush(SECONDS) == 0


class TestTopics:
    def test_a_topic_is_made_described_and_deleted(self, admin, name):
        make_topic(admin, name, 3, config={"retention.ms": "1000"})

        topic = result(admin.describe_topics(TopicCollection([name]))[name])
        assert topic.name == name
        assert not topic.is_internal
        assert [partition.id for partition in topic.partitions] == [0, 1, 2]
        assert [partition.leader.id for partition in topic.partitions] == [BROKER_ID] * 3
        assert name in admin.list_topics(timeout=SECONDS).topics

        result(admin.delete_topics([name])[name])
        future = admin.describe_topics(TopicCollection([name]))[name]
        assert error_of(future) == "UNKNOWN_TOPIC_OR_PART"

    @pytest.mark.parametrize(
        ("new", "error"),
        [
            ({"num_partitions": 0}, "INVALID_PARTITIONS"),
            ({"replication_factor": 2}, "INVALID_REPLICATION_FACTOR"),
            ({"config": {"no.such.key": "1"}}, "INVALID_CONFIG"),
            ({"config": {"retention.ms": "soon"}}, "INVALID_CONFIG"),
            ({"config": {"cleanup.policy": "eternal"}}, "INVALID_CONFIG"),
            ({"replica_assignment": [[BROKER_ID], [99]]}, "INVALID_REPLICA_ASSIGNMENT"),
        ],
    )
    def test_a_topic_that_cannot_be_made(self, admin, name, new, error):
        topic = NewTopic(name, **{"num_partitions": 1, **new})
        if "replica_assignment" in new:
            topic = NewTopic(name, num_partitions=2, **new)

        assert error_of(admin.create_topics([topic])[name]) == error
        assert name not in admin.list_topics(timeout=SECONDS).topics

    @pytest.mark.parametrize("bad", ["white space", "ümlaut", "a" * 250, "..", "slash/slash"])
    def test_a_name_that_is_no_topic_name(self, admin, bad):
        assert error_of(admin.create_topics([NewTopic(bad, 1)])[bad]) == "TOPIC_EXCEPTION"

    def test_a_name_that_is_taken(self, admin, name):
        make_topic(admin, name)

        assert error_of(admin.create_topics([NewTopic(name, 1)])[name]) == "TOPIC_ALREADY_EXISTS"

    def test_a_topic_that_is_only_validated(self, admin, name):
        result(admin.create_topics([NewTopic(name, 1)], validate_only=True)[name])

        assert name not in admin.list_topics(timeout=SECONDS).topics

    def test_a_topic_with_an_assignment(self, admin, name):
        topic = NewTopic(name, num_partitions=2, replica_assignment=[[BROKER_ID], [BROKER_ID]])
        result(admin.create_topics([topic])[name])

        topic = result(admin.describe_topics(TopicCollection([name]))[name])
        assert [[r.id for r in p.replicas] for p in topic.partitions] == [[BROKER_ID]] * 2

    def test_what_is_not_there_cannot_be_deleted(self, admin, name):
        assert error_of(admin.delete_topics([name])[name]) == "UNKNOWN_TOPIC_OR_PART"

    def test_partitions_are_added(self, admin, group_broker, name):
        make_topic(admin, name)
        result(admin.create_partitions([NewPartitions(name, 4)])[name])

        assert len(admin.list_topics(name, timeout=SECONDS).topics[name].partitions) == 4
        produce(group_broker, name, 3, partition=3)

    @pytest.mark.parametrize(
        ("total", "assignment", "error"),
        [
            (2, None, "INVALID_PARTITIONS"),
            (1, None, "INVALID_PARTITIONS"),
            (3, [[99]], "INVALID_REPLICA_ASSIGNMENT"),
        ],
    )
    def test_partitions_that_cannot_be_added(self, admin, name, total, assignment, error):
        make_topic(admin, name, 2)
        more = NewPartitions(name, total)
        if assignment:
            more = NewPartitions(name, total, replica_assignment=assignment)

        assert error_of(admin.create_partitions([more])[name]) == error
        assert len(admin.list_topics(name, timeout=SECONDS).topics[name].partitions) == 2

    def test_partitions_of_nothing(self, admin, name):
        future = admin.create_partitions([NewPartitions(name, 4)])[name]

        assert error_of(future) == "UNKNOWN_TOPIC_OR_PART"


class TestConfigs:
    def describe(self, admin, kind, name):
        resource = ConfigResource(kind, name)
        return result(admin.describe_configs([resource])[resource])

    def test_a_topics_settings_say_where_they_come_from(self, admin, name):
        make_topic(admin, name, config={"retention.ms": "1000"})

        entries = self.describe(admin, ConfigResource.Type.TOPIC, name)

        assert entries["retention.ms"].value == "1000"
        assert entries["retention.ms"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        assert not entries["retention.ms"].is_default
        assert "log.retention.ms" in entries["retention.ms"].synonyms or (
            "retention.ms" in entries["retention.ms"].synonyms
        )
        assert entries["cleanup.policy"].value == "delete"
        assert entries["cleanup.policy"].source == ConfigSource.DEFAULT_CONFIG.value
        assert entries["max.message.bytes"].value == "1048588"

    def test_a_brokers_settings(self, admin):
        entries = self.describe(admin, ConfigResource.Type.BROKER, str(BROKER_ID))

        assert entries["node.id"].value == str(BROKER_ID)
        assert entries["node.id"].is_read_only
        assert entries["num.io.threads"].value == "8"
        assert not entries["num.io.threads"].is_read_only
        assert entries["log.retention.hours"].value == "168"

    @pytest.mark.parametrize(
        ("kind", "resource", "error"),
        [
            (ConfigResource.Type.TOPIC, "nowhere", "UNKNOWN_TOPIC_OR_PART"),
            (ConfigResource.Type.TOPIC, "not a name", "TOPIC_EXCEPTION"),
            (ConfigResource.Type.BROKER, "x", "_INVALID_ARG"),  # the client's own check
        ],
    )
    def test_settings_of_what_is_not_there(self, admin, kind, resource, error):
        future = admin.describe_configs([ConfigResource(kind, resource)])

        assert error_of(*future.values()) == error

    def test_altering_replaces_everything(self, admin, name):
        make_topic(admin, name, config={"retention.ms": "1000", "segment.bytes": "1048576"})
        resource = ConfigResource(
            ConfigResource.Type.TOPIC, name, set_config={"retention.ms": "2000"}
        )
        result(admin.alter_configs([resource])[resource])

        entries = self.describe(admin, ConfigResource.Type.TOPIC, name)
        assert entries["retention.ms"].value == "2000"
        assert entries["segment.bytes"].is_default

    def test_altering_incrementally_leaves_the_rest(self, admin, name):
        make_topic(admin, name, config={"retention.ms": "1000", "segment.bytes": "1048576"})
        changes = [
            ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
            ConfigEntry(
                "cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND
            ),
            ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET),
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=changes)
        result(admin.incremental_alter_configs([resource])[resource])

        entries = self.describe(admin, ConfigResource.Type.TOPIC, name)
        assert entries["retention.ms"].is_default
        assert entries["segment.bytes"].value == "1048576"
        assert entries["cleanup.policy"].value == "delete,compact"
        assert entries["max.message.bytes"].value == "2000"

    def test_a_change_with_an_invalid_part_changes_nothing(self, admin, name):
        make_topic(admin, name)
        changes = [
            ConfigEntry("retention.ms", "5", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("segment.bytes", "-5", incremental_operation=AlterConfigOpType.SET),
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=changes)

        assert error_of(admin.incremental_alter_configs([resource])[resource]) == "INVALID_CONFIG"
        entries = self.describe(admin, ConfigResource.Type.TOPIC, name)
        assert entries["retention.ms"].is_default

    def test_a_setting_of_the_broker_changes_while_it_runs(self, admin):
        def change(operation, value):
            entry = ConfigEntry("num.io.threads", value, incremental_operation=operation)
            resource = ConfigResource(
                ConfigResource.Type.BROKER, str(BROKER_ID), incremental_configs=[entry]
            )
            return admin.incremental_alter_configs([resource])[resource]

        def wait_for(value):
            # Kafka tells its brokers a moment after the answer.
            deadline = time.monotonic() + SECONDS
            while True:
                entries = self.describe(admin, ConfigResource.Type.BROKER, str(BROKER_ID))
                entry = entries["num.io.threads"]
                if entry.value == value:
                    return entry
                assert time.monotonic() < deadline, entry.value

        result(change(AlterConfigOpType.SET, "6"))
        assert wait_for("6").source == ConfigSource.DYNAMIC_BROKER_CONFIG.value
        assert error_of(change(AlterConfigOpType.SET, "600")) == "INVALID_REQUEST"
        result(change(AlterConfigOpType.DELETE, None))
        wait_for("8")

    def test_a_setting_that_only_a_restart_changes(self, admin):
        entry = ConfigEntry("node.id", "5", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(
            ConfigResource.Type.BROKER, str(BROKER_ID), incremental_configs=[entry]
        )

        error = error_of(admin.incremental_alter_configs([resource])[resource])
        assert error == "INVALID_REQUEST"


class TestGroups:
    def test_an_offset_is_committed_listed_altered_and_the_group_deleted(
        self, admin, group_broker, name
    ):
        make_topic(admin, name, 2)
        produce(group_broker, name, 5)
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": group_broker.bootstrap, "group.id": name}
        )
        consumer.commit(offsets=[TopicPartition(name, 0, 3, "note")], asynchronous=False)
        consumer.close()

        asked = [ConsumerGroupTopicPartitions(name, [TopicPartition(name, p) for p in (0, 1)])]
        found = result(admin.list_consumer_group_offsets(asked)[name]).topic_partitions
        assert [(each.partition, each.offset) for each in found] == [(0, 3), (1, -1001)]

        # Without partitions: everything that the group has.
        asked = [ConsumerGroupTopicPartitions(name)]
        found = result(admin.list_consumer_group_offsets(asked)[name]).topic_partitions
        assert [(each.partition, each.offset) for each in found] == [(0, 3)]

        change = [ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 1)])]
        result(admin.alter_consumer_group_offsets(change)[name])
        found = result(admin.list_consumer_group_offsets(asked)[name]).topic_partitions
        assert [(each.partition, each.offset) for each in found] == [(0, 1)]

        groups = result(admin.list_consumer_groups())
        assert groups.errors == []
        assert name in [group.group_id for group in groups.valid]

        result(admin.delete_consumer_groups([name])[name])
        groups = result(admin.list_consumer_groups())
        assert name not in [group.group_id for group in groups.valid]

    def test_a_living_group_is_listed_and_described(self, admin, group_broker, name):
        make_topic(admin, name, 2)
        assigned = []
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": group_broker.bootstrap,
                "group.id": name,
                "client.id": "a-client",
                "group.instance.id": "an-instance",
            }
        )
        consumer.subscribe([name], on_assign=lambda _, partitions: assigned.append(partitions))
        while not assigned:
            consumer.poll(0.1)

        (listed,) = [
            each
            for each in result(
                admin.list_consumer_groups(states={confluent_kafka.ConsumerGroupState.STABLE})
            ).valid
            if each.group_id == name
        ]
        assert listed.state == confluent_kafka.ConsumerGroupState.STABLE
        assert not listed.is_simple_consumer_group
        empty = result(
            admin.list_consumer_groups(states={confluent_kafka.ConsumerGroupState.EMPTY})
        )
        assert name not in [each.group_id for each in empty.valid]

        group = result(admin.describe_consumer_groups([name])[name])
        assert group.state == confluent_kafka.ConsumerGroupState.STABLE
        assert group.partition_assignor == "range"
        assert group.coordinator.id == BROKER_ID
        (member,) = group.members
        assert member.client_id == "a-client"
        assert member.group_instance_id == "an-instance"
        assert member.host == "/127.0.0.1"
        assert [p.partition for p in member.assignment.topic_partitions] == [0, 1]

        assert error_of(admin.delete_consumer_groups([name])[name]) == "NON_EMPTY_GROUP"
        change = [ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 1)])]
        (refused,) = result(admin.alter_consumer_group_offsets(change)[name]).topic_partitions
        assert refused.error.name() == "UNKNOWN_MEMBER_ID"
        consumer.close()

    def test_groups_that_are_not_there(self, admin, name):
        group = result(admin.describe_consumer_groups([name])[name])
        assert group.state == confluent_kafka.ConsumerGroupState.DEAD
        assert group.members == []

        assert error_of(admin.delete_consumer_groups([name])[name]) == "GROUP_ID_NOT_FOUND"

        asked = [ConsumerGroupTopicPartitions(name)]
        found = result(admin.list_consumer_group_offsets(asked)[name])
        assert found.topic_partitions == []


class TestRecords:
    def test_records_are_deleted_up_to_an_offset(self, admin, group_broker, name):
        make_topic(admin, name)
        produce(group_broker, name, 10)

        asked = TopicPartition(name, 0, 4)
        deleted = result(admin.delete_records([asked])[asked])
        assert deleted.low_watermark == 4
        beyond = TopicPartition(name, 0, 11)
        assert error_of(admin.delete_records([beyond])[beyond]) == "OFFSET_OUT_OF_RANGE"
        nowhere = TopicPartition(name, 7, 1)
        assert error_of(admin.delete_records([nowhere])[nowhere])
        everything = TopicPartition(name, 0, confluent_kafka.OFFSET_END)
        assert result(admin.delete_records([everything])[everything]).low_watermark == 10

    def test_offsets_are_listed(self, admin, group_broker, name):
        make_topic(admin, name)
        produce(group_broker, name, 10)
        partition = TopicPartition(name, 0)

        def offset(spec):
            futures = admin.list_offsets(
                {partition: spec}, isolation_level=IsolationLevel.READ_COMMITTED
            )
            return result(futures[partition]).offset

        assert offset(OffsetSpec.earliest()) == 0
        assert offset(OffsetSpec.latest()) == 10
        assert 0 <= offset(OffsetSpec.max_timestamp()) < 10
        assert offset(OffsetSpec.for_timestamp(1)) == 0
        assert offset(OffsetSpec.for_timestamp(2**42)) == -1


class TestCluster:
    def test_the_cluster_is_described(self, admin):
        cluster = result(admin.describe_cluster(include_authorized_operations=True))

        assert [node.id for node in cluster.nodes] == [BROKER_ID]
        assert cluster.controller.id == BROKER_ID
        assert AclOperation.ALTER in cluster.authorized_operations

    def test_no_election_is_needed(self, admin, name):
        make_topic(admin, name)
        partition = TopicPartition(name, 0)

        found = result(admin.elect_leaders(ElectionType.PREFERRED, [partition]))
        assert found[partition].name() == "ELECTION_NOT_NEEDED"
        nowhere = TopicPartition(name, 5)
        found = result(admin.elect_leaders(ElectionType.PREFERRED, [nowhere]))
        assert found[nowhere].name() == "UNKNOWN_TOPIC_OR_PART"

    def test_without_an_authorizer_there_are_no_acls(self, admin, name):
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        assert result(admin.describe_acls(everything)) == []  # the client drops the error
        assert error_of(admin.delete_acls([everything])[everything]) == "SECURITY_DISABLED"
        binding = AclBinding(
            ResourceType.TOPIC,
            name,
            ResourcePatternType.LITERAL,
            "User:somebody",
            "*",
            AclOperation.READ,
            AclPermissionType.ALLOW,
        )
        assert error_of(admin.create_acls([binding])[binding]) == "SECURITY_DISABLED"
