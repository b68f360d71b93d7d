"""The admin client of aiokafka: every call that it offers, in the old versions that it speaks."""

import asyncio
import uuid

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from .drivers import SECONDS

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BROKER_ID = 1


@pytest.fixture
def name():
    """A name that nothing has yet."""
    return f"aiokafka-{uuid.uuid4().hex[:8]}"


def with_admin(group_broker, use):
    """Run ``use`` with a client that is started and closed around it."""

    async def run():
        admin = AIOKafkaAdminClient(bootstrap_servers=group_broker.bootstrap)
        await admin.start()
        try:
            return await use(admin)
        finally:
            await admin.close()

    return asyncio.run(asyncio.wait_for(run(), SECONDS))


def errors_of(response):
    """{topic: name of its error} of a response with errors by topic."""
    entries = getattr(response, "topic_errors", None) or response.topic_error_codes
    return {entry[0]: for_code(entry[1]).__name__ for entry in entries}


async def produce(group_broker, topic, count):
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=group_broker.bootstrap) as producer:
        for number in range(count):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)


def test_topics_are_made_described_extended_and_deleted(group_broker, name):
    async def use(admin):
        made = await admin.create_topics([NewTopic(name, 2, 1)])
        assert errors_of(made) == {name: "NoError"}
        made = await admin.create_topics([NewTopic(name, 2, 1), NewTopic(f"{name}-2", 1, 5)])
        assert errors_of(made) == {
            name: "TopicAlreadyExistsError",
            f"{name}-2": "InvalidReplicationFactorError",
        }
        assert name in await admin.list_topics()
        (described,) = await admin.describe_topics([name])
        assert described["error_code"] == 0
        assert len(described["partitions"]) == 2

        await admin.create_partitions({name: NewPartitions(5)})
        (described,) = await admin.describe_topics([name])
        assert len(described["partitions"]) == 5

        deleted = await admin.delete_topics([name])
        assert errors_of(deleted) == {name: "NoError"}
        deleted = await admin.delete_topics([name])
        assert errors_of(deleted) == {name: "UnknownTopicOrPartitionError"}

    with_admin(group_broker, use)


def test_settings_are_described_and_altered(group_broker, name):
    async def use(admin):
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"retention.ms": "1000"})])
        resource = ConfigResource(
            ConfigResourceType.TOPIC, name, configs={"max.message.bytes": "2000"}
        )
        (altered,) = await admin.alter_configs([resource])
        assert [each[0] for each in altered.resources] == [0]

        (described,) = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name)]
        )
        ((error, _, _, found, entries),) = described.resources
        assert (error, found) == (0, name)
        values = {entry[0]: entry[1] for entry in entries}
        assert values["max.message.bytes"] == "2000"
        assert values["retention.ms"] == "604800000"

        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs={"nonsense": "2000"})
        (altered,) = await admin.alter_configs([resource])
        assert [for_code(each[0]).__name__ for each in altered.resources] == [
            "InvalidConfigurationError"
        ]
        resource = ConfigResource(ConfigResourceType.BROKER, str(BROKER_ID))
        (described,) = await admin.describe_configs([resource])
        ((error, _, _, _, entries),) = described.resources
        assert error == 0
        assert "num.io.threads" in [entry[0] for entry in entries]

    with_admin(group_broker, use)


def test_groups_are_listed_and_described(group_broker, name):
    async def use(admin):
        await admin.create_topics([NewTopic(name, 2, 1)])
        await produce(group_broker, name, 5)
        consumer = aiokafka.AIOKafkaConsumer(
            name,
            bootstrap_servers=group_broker.bootstrap,
            group_id=name,
            client_id="a-client",
            auto_offset_reset="earliest",
        )
        async with consumer:
            for _ in range(3):
                await consumer.getone()
            await consumer.commit({TopicPartition(name, 0): (3, "note")})

            assert await admin.find_coordinator(name) == BROKER_ID
            assert (name, "consumer") in [
                tuple(group[:2]) for group in await admin.list_consumer_groups()
            ]
            (described,) = await admin.describe_consumer_groups([name])
            ((error, group, state, protocol_type, protocol, members, *_),) = described.groups
            assert (error, group, state) == (0, name, "Stable")
            assert protocol_type == "consumer"
            assert protocol == "roundrobin"
            assert [member[-4:-2] for member in members] == [("a-client", "/127.0.0.1")]

            offsets = await admin.list_consumer_group_offsets(name)
            assert offsets[TopicPartition(name, 0)].offset == 3
            assert offsets[TopicPartition(name, 0)].metadata == "note"
            one = [TopicPartition(name, 1)]
            offsets = await admin.list_consumer_group_offsets(name, partitions=one)
            assert offsets[TopicPartition(name, 1)].offset == -1

        (described,) = await admin.describe_consumer_groups([name])
        assert described.groups[0][2] == "Empty"
        (described,) = await admin.describe_consumer_groups([f"{name}-nobody"])
        assert described.groups[0][:3] == (0, f"{name}-nobody", "Dead")

    with_admin(group_broker, use)


def test_records_are_deleted(group_broker, name):
    async def use(admin):
        await admin.create_topics([NewTopic(name, 1, 1)])
        await produce(group_broker, name, 5)
        partition = TopicPartition(name, 0)

        deleted = await admin.delete_records({partition: RecordsToDelete(before_offset=3)})
        assert deleted == {partition: 3}

    with_admin(group_broker, use)


def test_the_cluster_is_described(group_broker):
    async def use(admin):
        cluster = await admin.describe_cluster()
        assert [broker["node_id"] for broker in cluster["brokers"]] == [BROKER_ID]

    with_admin(group_broker, use)
