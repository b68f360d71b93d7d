"""What clients are told of a cluster, and what they can have it do."""

import asyncio
from contextlib import contextmanager

import aiokafka
import confluent_kafka
import kafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import ElectionType, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient
from kafka.errors import NotEnoughReplicasError

from .drivers import DRIVERS, SECONDS

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TOPIC = "topic"
READERS = [DRIVERS[name] for name in ("confluent", "aiokafka", "kafka-python")]


@pytest.fixture
def admin(cluster):
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@contextmanager
def python_admin(cluster):
    """An admin client of kafka-python, which asks broker 3 and whom that knows.

    It does not ask a second time: one that knows a broker that is gone may fail.
    """
    client = KafkaAdminClient(bootstrap_servers=cluster.addresses[3])
    yield client
    client.close()


def result(future):
    return future.result(SECONDS)


def error_of(future):
    """The name of the error that a call ends with."""
    with pytest.raises(KafkaException) as raised:
        future.result(SECONDS)
    return raised.value.args[0].name()


def make_topic(admin, *replicas, **options):
    """Make the topic, with a partition for each list of replicas."""
    new = NewTopic(TOPIC, len(replicas), replica_assignment=list(replicas), **options)
    result(admin.create_topics([new])[TOPIC])


def described(admin, name=TOPIC):
    """(leader, replicas, replicas in sync) of each partition."""
    topic = result(admin.describe_topics(TopicCollection([name]))[name])
    return [
        (
            None if each.leader is None else each.leader.id,
            [node.id for node in each.replicas],
            [node.id for node in each.isr],
        )
        for each in topic.partitions
    ]


def told_by_python(cluster, topic, field):
    """A field of each partition, as kafka-python finds it."""
    with python_admin(cluster) as client:
        (told,) = client.describe_topics([topic])
    partitions = sorted(told["partitions"], key=lambda each: each["partition_index"])
    return [each[field] for each in partitions]


def with_aiokafka(cluster, use):
    """Run ``use`` with an admin client of aiokafka."""

    async def run():
        client = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
        await client.start()
        try:
            return await use(client)
        finally:
            await client.close()

    return asyncio.run(asyncio.wait_for(run(), SECONDS))


# Who is there


def nodes_by_client(cluster):
    """What each client finds: {client: (controller, node ids)}."""
    # A new one each time: an old one asks the controller that it knows, and none but that.
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    told = result(admin.describe_cluster())
    found = {"confluent": (told.controller.id, sorted(node.id for node in told.nodes))}
    with python_admin(cluster) as client:
        told = client.describe_cluster()
    brokers = sorted(each["broker_id"] for each in told["brokers"])
    found["kafka-python"] = (told["controller_id"], brokers)

    async def ask(client):
        told = await client.describe_cluster()
        return told["controller_id"], sorted(each["node_id"] for each in told["brokers"])

    found["aiokafka"] = with_aiokafka(cluster, ask)
    return found


def test_every_client_sees_the_brokers_that_are_there(cluster):
    clients = ("confluent", "kafka-python", "aiokafka")
    for way in ("stop", "kill"):
        everybody = nodes_by_client(cluster)
        assert everybody == dict.fromkeys(clients, (1, [1, 2, 3]))
        getattr(cluster, way)(1)
        others = nodes_by_client(cluster)
        assert others == dict.fromkeys(clients, (2, [2, 3]))
        cluster.start(1)


def test_addresses_are_those_that_brokers_had_before(cluster, admin):
    for node in (1, 2, 3):
        cluster.kill(node)
        cluster.start(node)

    found = admin.list_topics(timeout=SECONDS).brokers

    assert {n: f"{each.host}:{each.port}" for n, each in found.items()} == cluster.addresses


def test_leaders_are_spread(cluster, admin):
    result(admin.create_topics([NewTopic(TOPIC, 6, 2)])[TOPIC])

    leaders = [leader for leader, _, _ in described(admin)]

    assert sorted(leaders) == [1, 1, 2, 2, 3, 3]


def test_offline_replicas_are_shown(cluster, admin):
    make_topic(admin, [1, 2], [3, 1])
    new = NewTopic("alone", 1, replica_assignment=[[2]])
    result(admin.create_topics([new])["alone"])
    cluster.kill(2)

    assert described(admin) == [(1, [1, 2], [1]), (3, [3, 1], [3, 1])]
    assert described(admin, "alone") == [(None, [2], [2])]
    for topic, expected in ((TOPIC, [[2], []]), ("alone", [[2]])):
        assert told_by_python(cluster, topic, "offline_replicas") == expected
    cluster.start(2)
    assert described(admin) == [(1, [1, 2], [1, 2]), (3, [3, 1], [3, 1])]
    assert described(admin, "alone") == [(2, [2], [2])]


# What can be done


def test_topics_with_replicas_are_made_by_every_client(cluster, admin):
    made = result(admin.create_topics([NewTopic("confluent", 3, 3)])["confluent"])
    assert made is None
    with python_admin(cluster) as client:
        client.create_topics([kafka.admin.NewTopic("kafka-python", 3, 3)])

    async def create(client):
        new = aiokafka.admin.NewTopic("aiokafka", 3, 3)
        return (await client.create_topics([new])).topic_errors

    assert with_aiokafka(cluster, create) == [("aiokafka", 0, None)]
    for name in ("confluent", "kafka-python", "aiokafka"):
        found = described(admin, name)
        assert sorted(leader for leader, _, _ in found) == [1, 2, 3]
        assert [sorted(replicas) for _, replicas, _ in found] == [[1, 2, 3]] * 3


def test_explicit_assignments_are_kept(cluster, admin):
    make_topic(admin, [3, 1], [2, 3])
    assert described(admin) == [(3, [3, 1], [3, 1]), (2, [2, 3], [2, 3])]
    new = kafka.admin.NewTopic("python", replica_assignments={0: [2, 1], 1: [1, 3]})
    with python_admin(cluster) as client:
        client.create_topics([new])
    assert told_by_python(cluster, "python", "replica_nodes") == [[2, 1], [1, 3]]


def test_more_replicas_than_brokers_are_refused(cluster, admin):
    new = NewTopic(TOPIC, 1, 4)
    assert error_of(admin.create_topics([new])[TOPIC]) == "INVALID_REPLICATION_FACTOR"


def test_a_broker_that_is_away_gets_replicas_and_leads_nothing(cluster, admin):
    cluster.kill(3)
    result(admin.create_topics([NewTopic(TOPIC, 3, 3)])[TOPIC])
    for leader, replicas, in_sync in described(admin):
        assert leader in {1, 2}
        assert sorted(replicas) == [1, 2, 3]
        assert sorted(in_sync) == [1, 2]
    cluster.start(3)
    assert [sorted(in_sync) for _, _, in_sync in described(admin)] == [[1, 2, 3]] * 3


def test_too_few_replicas_in_sync_take_nothing(cluster, admin):
    make_topic(admin, [1, 2, 3], config={"min.insync.replicas": "2"})
    for node in (1, 2):
        cluster.kill(node)
    told = []
    producer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap, "retries": 0})
    producer.produce(TOPIC, b"refused", on_delivery=lambda error, _: told.append(error.name()))
    assert producer.flush(SECONDS) == 0
    assert told == ["NOT_ENOUGH_REPLICAS"]
    by_python = kafka.KafkaProducer(
        bootstrap_servers=cluster.addresses[3], retries=0, acks="all", enable_idempotence=False
    )
    with pytest.raises(NotEnoughReplicasError):
        by_python.send(TOPIC, b"refused").get(SECONDS)
    by_python.close()

    waiting = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True}
    )
    waiting.produce(TOPIC, b"taken", on_delivery=lambda error, _: told.append(error))
    cluster.start(1)
    assert waiting.flush(SECONDS) == 0
    assert told[1:] == [None]
    for reader in READERS:
        assert reader.consume(cluster.bootstrap, TOPIC, 1) == [(0, b"taken")]


def test_leaders_are_elected(cluster, admin):
    make_topic(admin, [1, 2], [2, 1])
    partitions = [TopicPartition(TOPIC, index) for index in (0, 1)]
    cluster.kill(1)
    assert [leader for leader, _, _ in described(admin)] == [2, 2]

    def elect(kind):
        outcomes = result(admin.elect_leaders(kind, partitions))
        return [error and error.name() for _, error in sorted(outcomes.items())]

    assert elect(ElectionType.PREFERRED) == [
        "PREFERRED_LEADER_NOT_AVAILABLE",
        "ELECTION_NOT_NEEDED",
    ]
    cluster.start(1)
    assert elect(ElectionType.PREFERRED) == [None, "ELECTION_NOT_NEEDED"]
    assert [leader for leader, _, _ in described(admin)] == [1, 2]
    cluster.kill(1)
    cluster.kill(2)
    cluster.start(1)
    # The last one in sync was broker 2.
    assert described(admin) == [(None, [1, 2], [2]), (None, [2, 1], [2])]
    assert elect(ElectionType.UNCLEAN) == [None, None]
    assert described(admin) == [(1, [1, 2], [1]), (1, [2, 1], [1])]


def test_a_topic_that_is_deleted_while_a_broker_is_away_does_not_come_back_with_it(cluster, admin):
    for number in range(3):
        make_topic(admin, [2, 1, 3])
        DRIVERS["confluent"].produce(cluster.bootstrap, TOPIC, [b"%d" % number], "none")
        cluster.kill(2)
        result(admin.delete_topics([TOPIC])[TOPIC])
        cluster.start(2)
        future = admin.describe_topics(TopicCollection([TOPIC]))[TOPIC]
        assert error_of(future) == "UNKNOWN_TOPIC_OR_PART"
        assert TOPIC not in admin.list_topics(timeout=SECONDS).topics
    make_topic(admin, [2, 1, 3])
    DRIVERS["confluent"].produce(cluster.bootstrap, TOPIC, [b"new"], "none")
    for reader in READERS:
        assert reader.consume(cluster.bootstrap, TOPIC, 1) == [(0, b"new")]
