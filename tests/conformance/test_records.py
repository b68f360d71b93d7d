"""What any client writes, in any codec, every client reads: byte for byte, in order, no gaps."""

import pytest

from .drivers import CODECS

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.slow,
    # What the clients do to themselves is not ours to judge.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("codec", CODECS)
def test_every_client_reads_what_a_client_wrote(
    broker, producer_name, producer, codec, consumers, lines
):
    topic = f"{producer_name}-{codec}"
    producer.produce(broker.bootstrap, topic, lines, codec)

    for name, consumer in consumers.items():
        found = consumer.consume(broker.bootstrap, topic, len(lines))

        assert [offset for offset, _ in found] == list(range(len(lines))), name
        assert [line for _, line in found] == lines, name


def test_records_are_the_same_after_a_restart(fresh_broker, producer, consumers, lines):
    for codec in CODECS:
        producer.produce(fresh_broker.bootstrap, f"topic-{codec}", lines, codec)

    fresh_broker.stop()
    fresh_broker.start()

    for codec, consumer in zip(CODECS, [*consumers.values()] * 2, strict=False):
        found = consumer.consume(fresh_broker.bootstrap, f"topic-{codec}", len(lines))
        assert found == list(enumerate(lines)), codec


def test_offsets_go_on_after_a_restart(fresh_broker, producer, consumers):
    producer.produce(fresh_broker.bootstrap, "topic", [b"a", b"b"], "none")
    fresh_broker.stop()
    fresh_broker.start()
    producer.produce(fresh_broker.bootstrap, "topic", [b"c"], "gzip")

    for name, consumer in consumers.items():
        found = consumer.consume(fresh_broker.bootstrap, "topic", 3)
        assert found == [(0, b"a"), (1, b"b"), (2, b"c")], name
