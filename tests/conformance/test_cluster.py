"""A cluster under real clients: leaders move, brokers stop and die, replicas fall behind.

Each test waits for what the clients did, never for time.
"""

import confluent_kafka
import kafka
import pytest
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient

from .members import Members
from .traffic import CLIENTS, PARTITIONS, SECONDS, Traffic, wait_for

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TOPIC = "topic"
BROKERS = (1, 2, 3)


@pytest.fixture
def admin(cluster):
    """An admin client that makes topics and elects leaders."""
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def topic(admin):
    """A topic with a replica on every broker."""
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 3)])[TOPIC].result(SECONDS)
    return TOPIC


def leaders(admin):
    """{partition: node id of its leader}, as a broker tells it."""
    partitions = admin.list_topics(TOPIC, SECONDS).topics[TOPIC].partitions
    return {index: partition.leader for index, partition in partitions.items()}


def elect_preferred(admin):
    admin.elect_leaders(ElectionType.PREFERRED, None).result(SECONDS)


def reassign(cluster, *replicas):
    """Give the partitions of the topic these replicas; one list is for all of them."""
    client = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    assigned = replicas * PARTITIONS if len(replicas) == 1 else replicas
    moves = {kafka.TopicPartition(TOPIC, index): nodes for index, nodes in enumerate(assigned)}
    assert client.alter_partition_reassignments(moves) == dict.fromkeys(moves)
    assert client.list_partition_reassignments() == {}
    client.close()


# Nothing is lost, double, or out of order


def test_leaders_are_moved_under_load(cluster, admin, topic):
    with Traffic(cluster.bootstrap, topic) as traffic:
        for first in BROKERS:
            others = [node for node in BROKERS if node != first]
            # The preferred leader changes, and leads when it is elected. Then it has no replica
            # any more, so that another one must lead.
            reassign(cluster, [first, *others])
            elect_preferred(admin)
            assert set(leaders(admin).values()) == {first}
            traffic.wait_for_progress()
            reassign(cluster, others)
            assert set(leaders(admin).values()) == {others[0]}
            traffic.wait_for_progress()


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_each_broker_goes_and_comes_back_under_load(cluster, admin, topic, way):
    with Traffic(cluster.bootstrap, topic) as traffic:
        for node in BROKERS:
            getattr(cluster, way)(node)
            assert node not in leaders(admin).values()
            traffic.wait_for_progress()
            cluster.start(node)
            elect_preferred(admin)
            assert set(leaders(admin).values()) == set(BROKERS)
            traffic.wait_for_progress()


def test_one_broker_is_enough(cluster, admin, topic):
    with Traffic(cluster.bootstrap, topic) as traffic:
        for last in BROKERS:
            others = [node for node in BROKERS if node != last]
            for node in others:
                cluster.kill(node)
            traffic.wait_for_progress()
            for node in others:
                cluster.start(node)
            # Some clients know but the brokers of the last Metadata. They ask again when leaders
            # move; before they did, the only one that they know must stay.
            elect_preferred(admin)
            traffic.wait_for_progress()


# Replicas that fall behind


def spare_broker_3(cluster, admin):
    """Let it lead nothing: it is to be held back, and a leader is as far as it is itself."""
    reassign(cluster, [1, 2, 3], [2, 1, 3], [1, 3, 2])
    elect_preferred(admin)


def hold_until_all_wait(cluster, traffic):
    """Hold back the replicas of broker 3; return when every producer waits for them."""
    cluster.hold(3)
    for producer in traffic.producers:
        producer.wait_until(lambda p=producer: not p.has_room, "it does not wait")


def test_a_replica_that_is_held_back_holds_producers_and_consumers_up(cluster, admin, topic):
    spare_broker_3(cluster, admin)
    with Traffic(cluster.bootstrap, topic) as traffic:
        hold_until_all_wait(cluster, traffic)
        acknowledged = [producer.acknowledged for producer in traffic.producers]
        reader = confluent_kafka.Consumer(
            {"bootstrap.servers": cluster.bootstrap, "group.id": "none"}
        )
        for partition in range(PARTITIONS):
            _, end = reader.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)
            for consumer in traffic.consumers:
                consumer.wait_for_offset(partition, end)
                assert len(consumer.found[partition]) == end
        reader.close()
        assert acknowledged == [producer.acknowledged for producer in traffic.producers]

        cluster.release(3)

        traffic.wait_for_progress()


def test_producers_that_wait_go_on_with_the_next_leader(cluster, admin, topic):
    spare_broker_3(cluster, admin)
    with Traffic(cluster.bootstrap, topic) as traffic:
        for leader in (2, 1):
            hold_until_all_wait(cluster, traffic)

            # Without the replica that is behind, and with another leader where it waits.
            reassign(cluster, [leader])

            assert set(leaders(admin).values()) == {leader}
            traffic.wait_for_progress()
            cluster.release(3)
            reassign(cluster, [leader, 3])
            traffic.wait_for_progress()


def test_the_wait_for_a_replica_ends_with_the_timeout_of_the_request(cluster, admin, topic):
    spare_broker_3(cluster, admin)
    told = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap, "request.timeout.ms": 500, "retries": 0}
    )
    cluster.hold(3)

    producer.produce(topic, b"late", on_delivery=lambda error, _: told.append(error.name()))
    assert producer.flush(SECONDS) == 0

    assert told == ["REQUEST_TIMED_OUT"]
    cluster.release(3)


# Groups


@pytest.fixture
def members(cluster, tmp_path):
    """Members of the group of the test."""
    with Members(cluster.bootstrap, tmp_path / "members.stderr") as members:
        yield members


def produce(cluster, numbers):
    """Write numbers as text, spread over the partitions."""
    errors = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True}
    )
    for number in numbers:
        producer.produce(
            TOPIC,
            b"%d" % number,
            partition=number % PARTITIONS,
            on_delivery=lambda error, _: error and errors.append(error),
        )
    assert producer.flush(SECONDS) == 0
    assert errors == []


def coordinator_of(cluster, group):
    """Node id of a group's coordinator; asked by a new client, as old ones remember it."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    return admin.describe_consumer_groups([group])[group].result(SECONDS).coordinator.id


@pytest.mark.parametrize(
    ("client", "way"), [*[(client, "kill") for client in CLIENTS], ("confluent", "stop")]
)
def test_a_group_goes_on_when_its_coordinator_goes(cluster, topic, members, client, way):
    count = 0

    def start():
        # Coordinators go sooner here than a client finds the next one; nobody is to be expelled.
        members.start(client, "group", topic, session_timeout_ms=30_000)

    def produce_and_wait():
        nonlocal count
        produce(cluster, range(count, count + 60))
        count += 60
        members.wait_for_records(count)

    for _ in range(2):
        start()
        members.wait_for_partitions(PARTITIONS)
    for _ in range(2):
        produce_and_wait()
        coordinator = coordinator_of(cluster, "group")
        getattr(cluster, way)(coordinator)
        produce_and_wait()
        assert coordinator_of(cluster, "group") != coordinator
        cluster.start(coordinator)
        produce_and_wait()
    # What they commit when they leave is for the next one, whoever coordinates then.
    while members.alive:
        members.stop(members.alive[0])
    getattr(cluster, way)(coordinator_of(cluster, "group"))
    start()
    produce_and_wait()

    assert sorted(int(value) for _, _, value in members.records) == list(range(count))


def test_no_commit_is_lost_when_coordinators_go(cluster, topic):
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "group",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 500,
        }
    )

    def is_committed(offset):
        """Whether it was acknowledged; if it was not, nobody may rely on it."""
        try:
            consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
        except confluent_kafka.KafkaException as error:
            if error.args[0].retriable():
                return False
            raise
        return True

    for offset in range(1, 6):
        gone = coordinator_of(cluster, "group")
        cluster.kill(gone)
        wait_for(lambda n=offset: is_committed(n), f"{offset} is committed")
        cluster.start(gone)
        (found,) = consumer.committed([TopicPartition(topic, 0)], SECONDS)
        assert found.offset == offset
    consumer.close()
