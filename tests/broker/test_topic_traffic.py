from __future__ import annotations

import pytest

from trio_kafka_net.broker.topic_traffic import Traffic
from trio_kafka_net.errors import CorruptRecordError, KafkaError, RecordTooLargeError
from trio_kafka_net.metrics.registry import OTHER
from trio_kafka_net.protocol.error_codes import ErrorCode


def test_partitions_of_a_topic_share_its_figures():
    traffic = Traffic()
    first, second = traffic.of("t"), traffic.of("t")
    assert first is second
    assert first is not traffic.of("u")
    assert ["t", "u"] == [name for name, _ in traffic]


def test_figures_go_with_the_last_partition_and_others_are_unaffected():
    traffic = Traffic()
    for _ in range(2):
        traffic.of("t").messages_in += 1
    traffic.of("u").messages_in += 5
    traffic.release("t")
    assert 2 == traffic.get("t").messages_in
    traffic.release("t")
    assert [("u", 5)] == [(name, each.messages_in) for name, each in traffic]
    assert 0 == traffic.of("t").messages_in


def test_topics_beyond_the_limit_share_figures_that_stay():
    traffic = Traffic(limit=2)
    for number in range(5):
        traffic.of(f"t{number}").bytes_in += 1
    assert [("t0", 1), ("t1", 1), (OTHER, 3)] == [(name, each.bytes_in) for name, each in traffic]
    traffic.release("t4")
    assert 3 == dict(traffic)[OTHER].bytes_in


@pytest.mark.parametrize(
    ("error", "rejected", "failed"),
    [
        (RecordTooLargeError("too large"), 10, 0),
        (CorruptRecordError("damaged"), 0, 0),
        (KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER), 0, 0),
        (KafkaError(ErrorCode.INVALID_TIMESTAMP), 0, 1),
        (KafkaError(ErrorCode.NOT_ENOUGH_REPLICAS), 0, 1),
    ],
)
def test_a_refused_append_is_failed_unless_clients_deal_with_it(error, rejected, failed):
    traffic = Traffic().of("t")
    traffic.produce_failed(error, 10)
    assert (rejected, failed) == (traffic.bytes_rejected, traffic.failed_produce_requests)
