"""Small Produce and Fetch messages, decoded and encoded by us, kio and kafka-python.

One topic, one partition, one batch of 100 bytes. Every round runs all contestants one after the
other, so that a busy machine is busy for all of them; the table shows the median over the rounds,
in microseconds per message, and the ratio to ours.

    python benchmarks/codec.py [rounds]
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator

from kafka.protocol.consumer.fetch import FetchRequest as KafkaPythonFetchRequest
from kafka.protocol.consumer.fetch import FetchResponse as KafkaPythonFetchResponse
from kafka.protocol.producer.produce import ProduceRequest as KafkaPythonProduceRequest
from kafka.protocol.producer.produce import ProduceResponse as KafkaPythonProduceResponse
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer
from pairs import Effort, Goal, Row, alone

from trio_kafka_net.protocol.codec import decoder, encode, encoder
from trio_kafka_net.protocol.headers import (
    decode_request_header,
    encode_request,
    encode_response,
)
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages import (
    FetchRequest,
    FetchResponse,
    ProduceRequest,
    ProduceResponse,
)

RECORDS = bytes(100)
REPEATS = 2_000

MESSAGES: list[tuple[Message, int, type]] = [
    (
        ProduceRequest(
            acks=-1,
            timeout_ms=30_000,
            topic_data=[
                ProduceRequest.TopicProduceData(
                    name="orders",
                    partition_data=[ProduceRequest.PartitionProduceData(index=0, records=RECORDS)],
                )
            ],
        ),
        9,
        KafkaPythonProduceRequest,
    ),
    (
        ProduceResponse(
            responses=[
                ProduceResponse.TopicProduceResponse(
                    name="orders",
                    partition_responses=[
                        ProduceResponse.PartitionProduceResponse(
                            index=0, base_offset=42, log_start_offset=0
                        )
                    ],
                )
            ]
        ),
        9,
        KafkaPythonProduceResponse,
    ),
    (
        FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            topics=[
                FetchRequest.Topic(
                    topic="orders",
                    partitions=[
                        FetchRequest.Partition(
                            partition=0, fetch_offset=42, partition_max_bytes=1_048_576
                        )
                    ],
                )
            ],
        ),
        12,
        KafkaPythonFetchRequest,
    ),
    (
        FetchResponse(
            responses=[
                FetchResponse.FetchableTopicResponse(
                    topic="orders",
                    partitions=[
                        FetchResponse.PartitionData(
                            partition_index=0,
                            high_watermark=43,
                            last_stable_offset=43,
                            log_start_offset=0,
                            records=RECORDS,
                        )
                    ],
                )
            ]
        ),
        12,
        KafkaPythonFetchResponse,
    ),
]


def microseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(REPEATS):
        call()
    return (time.perf_counter() - start) / REPEATS * 1e6


def contestants(
    message: Message, version: int, kafka_python: type
) -> dict[str, dict[str, Callable]]:
    """Return {action: {who: call}}, after checking that all read and write the same bytes."""
    encoded = b"".join(encode(message, version))
    view = memoryview(encoded)
    ours_decode, ours_encode = decoder(type(message), version), encoder(type(message), version)
    load = load_request_schema if message.KIND == "request" else load_response_schema
    schema = load(int(message.API_KEY or 0), version)
    kio_read, kio_write = entity_reader(schema), entity_writer(schema)
    kio_value, _ = kio_read(encoded, 0)
    python_value = kafka_python.decode(encoded, version=version)
    python_value._header = None  # decoding leaves the slot empty, and encoding looks at it

    def kio_encode() -> bytes:
        with io.BytesIO() as buffer:
            kio_write(buffer, kio_value)
            return buffer.getvalue()

    assert kio_encode() == encoded == bytes(python_value.encode(version=version))
    return {
        "decode": {
            "ours": lambda: ours_decode(view),
            "kio": lambda: kio_read(encoded, 0),
            "kafka-python": lambda: kafka_python.decode(encoded, version=version),
        },
        "encode": {
            "ours": lambda: ours_encode(message, bytearray()),
            "kio": kio_encode,
            "kafka-python": lambda: python_value.encode(version=version),
        },
    }


def compare(name: str, calls: dict[str, Callable], rounds: int) -> None:
    times: dict[str, list[float]] = {who: [] for who in calls}
    for _ in range(rounds):
        for who, call in calls.items():
            times[who].append(microseconds(call))
    medians = {who: statistics.median(values) for who, values in times.items()}
    ours = medians["ours"]
    row = "   ".join(f"{who} {value:6.2f} ({value / ours:5.1f}x)" for who, value in medians.items())
    print(f"{name:24} {row}")


LIMIT = Goal(4.0, is_most=True, obstacle="interpreter")
"""µs, of what a server does with small messages."""


def rows(effort: Effort) -> Iterator[Row]:
    """The lines of the table that are about the codec: what a server does with a message."""
    for message, version, kafka_python in MESSAGES:
        action = "decode" if message.KIND == "request" else "encode"
        call = contestants(message, version, kafka_python)[action]["ours"]
        microseconds(call)  # the interpreter gets to know it
        figures = [microseconds(call) for _ in range(effort.pairs + 2)]
        yield alone(f"{action} {type(message).__name__} v{version}", "µs", figures, LIMIT)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print("microseconds per message, and ratio to ours")
    for message, version, kafka_python in MESSAGES:
        for action, calls in contestants(message, version, kafka_python).items():
            compare(f"{action} {type(message).__name__} v{version}", calls, rounds)
    frame = memoryview(b"".join(encode_request(MESSAGES[0][0], 9, 7, "producer-1")))
    response, version, _ = MESSAGES[1]
    compare("decode request header", {"ours": lambda: decode_request_header(frame)}, rounds)
    compare(
        "encode header+response",
        {"ours": lambda: encode_response(response, version, 7)},
        rounds,
    )


if __name__ == "__main__":
    main()
