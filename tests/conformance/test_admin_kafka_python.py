"""The admin client of kafka-python: every call that it offers of what the broker serves."""

import time
import uuid

import kafka
import pytest
from kafka import TopicPartition
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    MemberToRemove,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePattern,
    ResourceType,
    UpdateFeatureType,
)
from kafka.errors import (
    GroupIdNotFoundError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationAssignmentError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    InvalidUpdateVersionError,
    NoError,
    NonEmptyGroupError,
    NoReassignmentInProgressError,
    OffsetOutOfRangeError,
    SecurityDisabledError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata, TopicPartitionReplica

from .drivers import SECONDS

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BROKER_ID = 1
PREFERRED = 0


@pytest.fixture
def admin(group_broker):
    client = KafkaAdminClient(bootstrap_servers=group_broker.bootstrap)
    yield client
    client.close()


@pytest.fixture
def name():
    """A name that nothing has yet."""
    return f"kafka-python-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic(admin, name):
    """A topic with two partitions."""
    admin.create_topics([NewTopic(name, 2, 1)])
    return name


def produce(group_broker, topic, count):
    producer = kafka.KafkaProducer(bootstrap_servers=group_broker.bootstrap)
    for number in range(count):
        producer.send(topic, b"%d" % number, partition=0, timestamp_ms=1000 + number)
    producer.flush(SECONDS)
    producer.close()


def configs_of(admin, kind, resource, *keys, which="modified"):
    asked = ConfigResource(kind, resource, list(keys) or None)
    found = admin.describe_configs([asked], include_synonyms=True, config_filter=which)
    return found[kind.name.lower()][resource]


class TestTopics:
    def test_a_topic_is_made_described_listed_and_deleted(self, admin, name):
        made = admin.create_topics({name: {"num_partitions": 2, "configs": {"retention.ms": "5"}}})
        (topic,) = made["topics"]
        assert topic["num_partitions"] == 2
        assert topic["replication_factor"] == 1
        assert topic["configs"]["retention.ms"]["config_source"] == "DYNAMIC_TOPIC_CONFIG"
        assert topic["configs"]["cleanup.policy"]["config_source"] == "DEFAULT_CONFIG"

        (described,) = admin.describe_topics([name])
        assert described["topic_id"] == topic["topic_id"]
        assert {p["partition_index"] for p in described["partitions"]} == {0, 1}
        (detailed,) = admin.describe_topic_partitions([name])["topics"]
        assert [p["leader_id"] for p in detailed["partitions"]] == [BROKER_ID] * 2
        assert name in admin.list_topics()

        admin.delete_topics([name])
        assert name not in admin.list_topics()

    @pytest.mark.parametrize(
        ("topic", "error"),
        [
            (("{}", 0, 1), InvalidPartitionsError),
            (("{}", 1, 2), InvalidReplicationFactorError),
            (("{}", 1, 0), InvalidReplicationFactorError),
            (("{} ", 1, 1), InvalidTopicError),
        ],
    )
    def test_a_topic_that_cannot_be_made(self, admin, name, topic, error):
        pattern, partitions, replicas = topic
        with pytest.raises(error):
            admin.create_topics([NewTopic(pattern.format(name), partitions, replicas)])

    def test_a_setting_that_is_none(self, admin, name):
        with pytest.raises(InvalidConfigurationError):
            admin.create_topics({name: {"configs": {"no.such.key": "5"}}})

    def test_a_name_that_is_taken(self, admin, topic):
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topics([NewTopic(topic, 2, 1)])

    def test_validation_makes_nothing(self, admin, name):
        admin.create_topics([NewTopic(name, 2, 1)], validate_only=True)

        assert name not in admin.list_topics()

    def test_partitions_are_added(self, admin, topic):
        admin.create_partitions({topic: NewPartitions(4)}, validate_only=True)
        assert len(admin.describe_topics([topic])[0]["partitions"]) == 2
        admin.create_partitions({topic: NewPartitions(4)})
        assert len(admin.describe_topics([topic])[0]["partitions"]) == 4
        with pytest.raises(InvalidPartitionsError):
            admin.create_partitions({topic: NewPartitions(3)})
        with pytest.raises(InvalidReplicationAssignmentError):
            admin.create_partitions({topic: NewPartitions(5, [[99]])})

    def test_what_is_not_there_cannot_be_deleted(self, admin, name):
        with pytest.raises(UnknownTopicOrPartitionError):
            admin.delete_topics([name])


class TestConfigs:
    def test_a_topics_settings_are_altered_and_reset(self, admin, topic):
        assert configs_of(admin, ConfigResourceType.TOPIC, topic) == {}

        change = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "77"})
        assert admin.alter_configs([change]) == {"topic": {topic: "OK"}}
        change = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "78"})
        assert admin.alter_configs([change], incremental=True) == {"topic": {topic: "OK"}}
        found = configs_of(admin, ConfigResourceType.TOPIC, topic)
        assert {key: found[key]["value"] for key in found} == {
            "retention.ms": "77",
            "max.message.bytes": "78",
        }

        change = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "79"})
        assert admin.alter_configs([change], incremental=False) == {"topic": {topic: "OK"}}
        found = configs_of(admin, ConfigResourceType.TOPIC, topic)
        assert found["retention.ms"]["value"] == "79"

        change = ConfigResource(
            ConfigResourceType.TOPIC, topic, {"retention.ms": None, "max.message.bytes": None}
        )
        admin.reset_configs([change])
        assert configs_of(admin, ConfigResourceType.TOPIC, topic) == {}

    def test_every_setting_has_its_type_and_synonyms(self, admin, topic):
        found = configs_of(admin, ConfigResourceType.TOPIC, topic, which="all")

        assert found["retention.ms"]["config_type"] == "LONG"
        assert found["cleanup.policy"]["config_type"] == "LIST"
        assert found["segment.bytes"]["config_type"] == "INT"
        assert found["message.timestamp.type"]["config_type"] == "STRING"
        assert found["min.cleanable.dirty.ratio"]["config_type"] == "DOUBLE"
        assert found["segment.bytes"]["synonyms"] != []

    def test_a_brokers_settings(self, admin):
        found = configs_of(
            admin, ConfigResourceType.BROKER, str(BROKER_ID), "num.io.threads", which="all"
        )

        assert found["num.io.threads"]["value"] == "8"
        assert found["num.io.threads"]["config_source"] == "DEFAULT_CONFIG"

    def test_resources_with_settings_are_listed(self, admin, topic):
        found = admin.list_config_resources()

        assert topic in found["topic"]
        assert found["broker"] == [str(BROKER_ID)]


class TestGroups:
    def test_offsets_are_altered_listed_reset_and_deleted(self, admin, group_broker, topic, name):
        produce(group_broker, topic, 5)
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)

        altered = admin.alter_group_offsets(name, {first: OffsetAndMetadata(3, "note", -1)})
        assert altered == {first: NoError}
        listed = admin.list_group_offsets({name: None})
        assert listed == {name: {first: OffsetAndMetadata(3, "note", -1)}}
        listed = admin.list_group_offsets({name: [second]})
        assert listed == {name: {second: OffsetAndMetadata(-1, "", -1)}}

        reset = admin.reset_group_offsets(name, {first: OffsetSpec.LATEST})
        assert reset == {first: {"error": NoError, "offset": 5}}
        assert admin.delete_group_offsets(name, [first]) == {first: NoError}
        assert admin.list_group_offsets({name: None}) == {name: {}}

    def test_a_living_group(self, admin, group_broker, topic, name):
        consumer = kafka.KafkaConsumer(
            topic,
            bootstrap_servers=group_broker.bootstrap,
            group_id=name,
            client_id="a-client",
        )
        deadline = time.monotonic() + SECONDS
        while not consumer.assignment():
            assert time.monotonic() < deadline
            # Shorter, it might end between join and sync, and never come back to them.
            consumer.poll(timeout_ms=2000)

        (listed,) = [g for g in admin.list_groups() if g["group_id"] == name]
        assert listed == {
            "group_id": name,
            "protocol_type": "consumer",
            "group_state": "Stable",
            "group_type": "classic",
        }
        described = admin.describe_groups([name])[name]
        assert described["group_state"] == "Stable"
        assert described["protocol_data"] == "range"
        (member,) = described["members"]
        assert member["client_id"] == "a-client"
        assert member["client_host"] == "/127.0.0.1"
        assert name not in [g["group_id"] for g in admin.list_groups(states_filter=["Empty"])]
        assert name in [g["group_id"] for g in admin.list_groups(types_filter=["classic"])]
        assert admin.list_groups(types_filter=["share"]) == []

        assert admin.delete_groups([name])[name] == NonEmptyGroupError.__name__
        removed = admin.remove_group_members(name, [MemberToRemove(member_id=member["member_id"])])
        assert removed == {member["member_id"]: NoError}
        consumer.close()
        assert admin.describe_groups([name])[name]["group_state"] == "Empty"
        assert admin.delete_groups([name])[name] == "OK"

    def test_groups_and_members_that_are_not_there(self, admin, topic, name):
        described = admin.describe_groups([name])[name]
        assert described["group_state"] == "Dead"
        assert admin.delete_groups([name])[name] == GroupIdNotFoundError.__name__
        assert admin.list_group_offsets({name: None}) == {name: {}}
        removed = admin.remove_group_members(name, [MemberToRemove(member_id="nobody")])
        assert removed == {"nobody": UnknownMemberIdError}


class TestPartitions:
    def test_records_are_deleted(self, admin, group_broker, topic):
        produce(group_broker, topic, 10)
        partition = TopicPartition(topic, 0)

        assert admin.delete_records({partition: 4})[partition]["low_watermark"] == 4
        assert admin.delete_records({partition: -1})[partition]["low_watermark"] == 10
        with pytest.raises(OffsetOutOfRangeError):
            admin.delete_records({partition: 11})

    def test_offsets_are_listed(self, admin, group_broker, topic):
        produce(group_broker, topic, 10)
        partition = TopicPartition(topic, 0)

        def offset(spec):
            return admin.list_partition_offsets({partition: spec})[partition].offset

        assert offset(OffsetSpec.EARLIEST) == 0
        assert offset(OffsetSpec.LATEST) == 10
        assert offset(OffsetSpec.MAX_TIMESTAMP) == 9
        assert offset(1004) == 4

    def test_log_directories(self, admin, group_broker, topic):
        produce(group_broker, topic, 10)

        (broker,) = admin.describe_log_dirs([topic])
        (directory,) = broker["log_dirs"]
        assert directory["error_code"] == 0
        assert directory["total_bytes"] > directory["usable_bytes"] > 0
        (described,) = directory["topics"]
        sizes = {p["partition_index"]: p["partition_size"] for p in described["partitions"]}
        assert sizes[0] > 0
        assert sizes[1] == 0

        move = {TopicPartitionReplica(topic, 0, BROKER_ID): directory["log_dir"]}
        (result,) = admin.alter_replica_log_dirs(move).values()
        assert result is NoError
        move = {TopicPartitionReplica(topic, 0, BROKER_ID): "/no/such/directory"}
        (result,) = admin.alter_replica_log_dirs(move).values()
        assert result.__name__ == "LogDirNotFoundError"

    def test_producers(self, admin, group_broker, topic):
        produce(group_broker, topic, 10)
        partition = TopicPartition(topic, 0)

        (producer,) = admin.describe_producers([partition])[partition].active_producers
        assert producer.last_sequence == 9
        assert producer.producer_epoch == 0

    def test_elections(self, admin, topic):
        found = admin.elect_leaders(PREFERRED, {topic: [0]}, raise_errors=False)
        ((partition,),) = [each.partition_result for each in found.replica_election_results]
        assert partition.error_code == 84  # ELECTION_NOT_NEEDED
        found = admin.elect_leaders(PREFERRED, {topic: [5]}, raise_errors=False)
        ((partition,),) = [each.partition_result for each in found.replica_election_results]
        assert partition.error_code == 3

    def test_reassignments(self, admin, topic):
        partition = TopicPartition(topic, 0)

        assert admin.list_partition_reassignments() == {}
        assert admin.alter_partition_reassignments({partition: [BROKER_ID]}) == {partition: None}
        (error,) = admin.alter_partition_reassignments({partition: [99]}).values()
        assert error is InvalidReplicationAssignmentError
        (error,) = admin.alter_partition_reassignments({partition: None}).values()
        assert error is NoReassignmentInProgressError


class TestCluster:
    def test_the_cluster_is_described(self, admin):
        cluster = admin.describe_cluster()

        assert cluster["controller_id"] == BROKER_ID
        assert [broker["broker_id"] for broker in cluster["brokers"]] == [BROKER_ID]
        assert "ALTER_CONFIGS" in cluster["authorized_operations"]

    def test_features_are_described_and_unknown_ones_refused(self, admin):
        admin.describe_features()

        with pytest.raises(InvalidUpdateVersionError):
            admin.update_features({"no.such.feature": (1, UpdateFeatureType.UPGRADE)})

    def test_without_an_authorizer_there_are_no_acls(self, admin):
        asked = ACLFilter(
            principal=None,
            host=None,
            operation=ACLOperation.ANY,
            permission_type=ACLPermissionType.ANY,
            resource_pattern=ResourcePattern(ResourceType.TOPIC, "topic"),
        )
        with pytest.raises(SecurityDisabledError):
            admin.describe_acls(asked)

    def test_users_have_no_scram_credentials(self, admin):
        assert admin.describe_user_scram_credentials() == {}
