"""kill -9 in the middle of producing: what was acknowledged is there."""

import itertools

import confluent_kafka
import pytest

from .drivers import CODECS, SECONDS

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]

_ACKNOWLEDGED_BEFORE_THE_KILL = 2000


def produce_until_killed(broker, topic, codec, numbers):
    """Produce numbers with acks=all, kill the broker on the way; returns what was acknowledged.

    The producer gives up what is under way, so nothing is sent twice.
    """
    acknowledged = {}  # {offset: value}

    def on_delivery(error, message):
        if error is None:
            acknowledged[message.offset()] = message.value()

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "acks": "all",
            "compression.type": codec,
            "batch.num.messages": 100,
        }
    )
    for number in numbers:
        if len(acknowledged) >= _ACKNOWLEDGED_BEFORE_THE_KILL:
            break
        while True:
            try:
                producer.produce(topic, b"%d" % number, partition=0, on_delivery=on_delivery)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        producer.poll(0)
    broker.kill()
    producer.purge()
    producer.flush(SECONDS)
    return acknowledged


@pytest.mark.parametrize("codec", CODECS[:1] + CODECS[-1:])
def test_nothing_acknowledged_is_missing_after_a_kill(fresh_broker, consumers, codec):
    numbers = itertools.count()
    acknowledged = {}
    # Several crashes on one data directory: recovery must leave what recovery can work with.
    for _ in range(3):
        acknowledged |= produce_until_killed(fresh_broker, "topic", codec, numbers)
        fresh_broker.start()

    for name, consumer in consumers.items():
        found = consumer.consume(fresh_broker.bootstrap, "topic", max(acknowledged) + 1)

        assert [offset for offset, _ in found] == list(range(len(found))), name
        missing = acknowledged.items() - dict(found).items()
        assert not missing, f"{name}: {len(missing)} acknowledged records are missing or changed"
