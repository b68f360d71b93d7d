"""Consumer groups of real clients: joining, leaving, crashing, committing, coming back.

Every member is a process of its own, so that a crash is a crash. A test waits for what the members
tell, never for time.
"""

import time
import uuid

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from .drivers import SECONDS
from .group_member import SESSION_TIMEOUT_MS
from .members import Members

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]

CLIENTS = ("confluent", "aiokafka", "kafka-python")
COOPERATIVE_CLIENTS = ("confluent", "kafka-python")
PARTITIONS = 8


def make_topic(bootstrap, topic, partitions=PARTITIONS):
    """Make a topic with a partition for every member."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(SECONDS)


def produce_numbers(bootstrap, topic, numbers, partitions=PARTITIONS):
    """Write numbers as text, spread over the partitions."""
    errors = []
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    for number in numbers:
        producer.produce(
            topic,
            b"%d" % number,
            partition=number % partitions,
            on_delivery=lambda error, _: error and errors.append(error),
        )
    assert producer.flush(SECONDS) == 0
    assert errors == []


def values(members):
    """The numbers that were processed, each as often as it was."""
    return sorted(int(value) for _, _, value in members.records)


@pytest.fixture
def topic(request):
    """A topic of the test's own, which is also the name of its group."""
    name = request.node.name.translate(str.maketrans("[]", "--"))
    return f"{name}{uuid.uuid4().hex[:8]}"  # new for whatever broker it runs against


@pytest.fixture
def members(group_broker, tmp_path):
    """The members of this test's group."""
    with Members(group_broker.bootstrap, tmp_path / "members.stderr") as members:
        yield members


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_members_that_join_at_once_share_the_partitions(group_broker, members, topic, client, size):
    make_topic(group_broker.bootstrap, topic)
    produce_numbers(group_broker.bootstrap, topic, range(80))
    for _ in range(size):
        members.start(client, topic, topic)

    members.wait_for_partitions(PARTITIONS)
    members.wait_for_records(80)

    assert set(values(members)) == set(range(80))


@pytest.mark.parametrize(
    ("client", "strategy"),
    [
        *[(client, "range") for client in CLIENTS],
        *[(client, "cooperative-sticky") for client in COOPERATIVE_CLIENTS],
        ("confluent", "roundrobin"),
        ("aiokafka", "sticky"),
    ],
)
def test_each_message_is_seen_once_through_joins_and_leaves(
    group_broker, members, topic, client, strategy
):
    make_topic(group_broker.bootstrap, topic)
    count = 0

    def produce_and_wait():
        nonlocal count
        produce_numbers(group_broker.bootstrap, topic, range(count, count + 80))
        count += 80
        members.wait_for_records(count)

    for _ in range(4):
        members.start(client, topic, topic, strategy=strategy)
        # In the middle of a rebalance, and after it.
        produce_and_wait()
        members.wait_for_partitions(PARTITIONS)
        produce_and_wait()
    while len(members.alive) > 1:
        members.stop(members.alive[0])
        produce_and_wait()
        members.wait_for_partitions(PARTITIONS)

    assert values(members) == list(range(count))


@pytest.mark.parametrize("client", COOPERATIVE_CLIENTS)
def test_a_cooperative_member_keeps_what_it_need_not_give_up(group_broker, members, topic, client):
    make_topic(group_broker.bootstrap, topic)
    first = members.start(client, topic, topic, strategy="cooperative-sticky")
    members.wait_for_partitions(PARTITIONS)
    members.start(client, topic, topic, strategy="cooperative-sticky")
    members.wait_for_partitions(PARTITIONS)

    given_up = [partition for event in first.told("revoked") for partition in event[1]]

    assert len(given_up) == PARTITIONS // 2
    assert len(first.owned) == PARTITIONS // 2


def test_members_on_different_clients_share_a_group(group_broker, members, topic):
    make_topic(group_broker.bootstrap, topic)
    for client in CLIENTS:
        members.start(client, topic, topic)
        members.wait_for_partitions(PARTITIONS)
    produce_numbers(group_broker.bootstrap, topic, range(80))
    members.wait_for_records(80)

    assert values(members) == list(range(80))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_crashed_member_is_expelled_at_its_session_timeout(group_broker, members, topic, client):
    make_topic(group_broker.bootstrap, topic)
    survivor = members.start(client, topic, topic)
    members.wait_for_partitions(PARTITIONS)
    crashing = members.start(client, topic, topic)
    members.wait_for_partitions(PARTITIONS)
    admin = AdminClient({"bootstrap.servers": group_broker.bootstrap})

    killed_at = time.monotonic()
    members.kill(crashing)
    # Nobody takes over before the session is over, however clear it is that the client is gone.
    description = admin.describe_consumer_groups([topic])[topic].result(SECONDS)
    assert len(description.members) == 2
    members.wait_for_partitions(PARTITIONS)
    seconds = time.monotonic() - killed_at

    assert survivor.owned == set(range(PARTITIONS))
    # A lower bound, which no slow machine can break: its last heartbeat was at most one interval
    # before the kill.
    assert seconds > SESSION_TIMEOUT_MS / 1000 * 0.8


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_crashed_member_committed_is_not_read_again(group_broker, members, topic, client):
    make_topic(group_broker.bootstrap, topic)
    produce_numbers(group_broker.bootstrap, topic, range(80))
    first = members.start(client, topic, topic)
    members.wait_for_records(80)
    # The second one's arrival makes the first commit everything (an eager client gives up all).
    second = members.start(client, topic, topic)
    members.wait_for_partitions(PARTITIONS)
    members.kill(first)
    members.wait_for_partitions(PARTITIONS)
    produce_numbers(group_broker.bootstrap, topic, range(80, 160))
    members.wait_for_records(160)

    assert second.owned == set(range(PARTITIONS))
    assert values(members) == list(range(160))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_static_member_comes_back_without_a_rebalance(group_broker, members, topic, client):
    make_topic(group_broker.bootstrap, topic)
    staying = members.start(client, topic, topic, instance="staying")
    members.wait_for_partitions(PARTITIONS)
    leaving = members.start(client, topic, topic, instance="restarting")
    members.wait_for_partitions(PARTITIONS)
    owned = set(leaving.owned)
    told_before = len(staying.told("assigned"))

    members.kill(leaving)
    returned = members.start(client, topic, topic, instance="restarting")
    members.wait_until(lambda: bool(returned.told("assigned")), "the static member is back")
    produce_numbers(group_broker.bootstrap, topic, range(80))
    members.wait_for_records(80)

    assert returned.owned == owned
    assert len(staying.told("assigned")) == told_before
    assert staying.told("lost") == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_group_goes_on_where_it_was_after_a_restart_of_the_broker(
    fresh_group_broker, tmp_path, client, end
):
    broker = fresh_group_broker
    make_topic(broker.bootstrap, "topic")
    produce_numbers(broker.bootstrap, "topic", range(80))
    with Members(broker.bootstrap, tmp_path / "members.stderr") as members:
        first = members.start(client, "group", "topic")
        members.wait_for_records(80)
        members.stop(first)

        getattr(broker, end)()
        broker.start()
        produce_numbers(broker.bootstrap, "topic", range(80, 160))
        members.start(client, "group", "topic")
        members.wait_for_records(160)

        assert values(members) == list(range(160))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_living_members_survive_a_restart_of_the_broker(fresh_group_broker, tmp_path, client, end):
    broker = fresh_group_broker
    make_topic(broker.bootstrap, "topic")
    with Members(broker.bootstrap, tmp_path / "members.stderr") as members:
        for _ in range(2):
            members.start(client, "group", "topic")
        members.wait_for_partitions(PARTITIONS)

        getattr(broker, end)()
        broker.start()
        produce_numbers(broker.bootstrap, "topic", range(80))
        members.wait_for_partitions(PARTITIONS)
        members.wait_for_records(80)

        assert set(values(members)) == set(range(80))
