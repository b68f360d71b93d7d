"""What any client writes, in any codec, every client reads: byte for byte, in order, no gaps."""

import pytest

from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.records import iter_batches

from .drivers import CODECS

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.slow,
    # What the clients do to themselves is not ours to judge.
    pytest.mark.filterwarnings("ignore"),
]


def stored_codecs(directory):
    """The codecs of all batches of a partition that are worth compressing."""
    (segment,) = directory.glob("*.log")
    batches = iter_batches(memoryview(segment.read_bytes()))
    return {batch.compression for batch in batches if batch.record_count > 10}


@pytest.mark.parametrize("codec", CODECS)
def test_every_client_reads_what_a_client_wrote(
    broker, producer_name, producer, codec, consumers, lines
):
    topic = f"{producer_name}-{codec}"
    producer.produce(broker.bootstrap, topic, lines, codec)

    # A client that believes the broker cannot take its codec sends plain batches instead.
    assert {Compression[codec.upper()]} == stored_codecs(broker.data_dir / f"{topic}-0")
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
