"""A segment of ``__consumer_offsets``, of one partition, that Kafka 4.1 wrote.

In it: commits with and without leader epoch, expiry and topic id; tombstones by OffsetDelete and
by the deletion of topic ``gone``; a classic group that left and one with a member; a group of the
new protocol, whose records nothing here knows (offsets 14 to 18).
"""

from pathlib import Path

from trio_kafka_net.protocol.records import iter_batches

PATH = Path(__file__).parents[2] / "data" / "kafka-4.1-consumer-offsets.log"
TOPIC_ID = bytes.fromhex("04ec5323aa7b478e92708b1e268cd447")
"""Of topic ``t``, for which everything that is left was committed."""
UNKNOWN = range(14, 19)
"""Offsets of the new protocol's records."""


def records():
    """Every record, by its offset."""
    return {
        record.offset: record
        for batch in iter_batches(memoryview(PATH.read_bytes()))
        for record in batch.records()
    }
