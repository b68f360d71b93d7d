"""Requests as bytes, for clients that only repeat them, and whether they are answered well."""

from __future__ import annotations

import socket
import struct
import time

from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from peers import Server

from trio_kafka_net.protocol.api_keys import ApiKey, response_class
from trio_kafka_net.protocol.headers import decode_response, encode_request
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages import (
    FetchRequest,
    FetchResponse,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
)
from trio_kafka_net.protocol.records import Record, build_batch

TOPIC = "bench"
MOST_PARTITIONS = 5_000
"""In one request; more than twice as many are refused, as in Kafka."""


def a_frame(message: Message, version: int) -> bytes:
    """A whole request."""
    payload = b"".join(bytes(piece) for piece in encode_request(message, version, 7, "bench"))
    return struct.pack(">i", len(payload)) + payload


def a_batch(records: int, value_bytes: int) -> bytes:
    """A batch of equal records, of now."""
    record = Record(timestamp=time.time_ns() // 1_000_000, value=b"x" * value_bytes)
    return build_batch([record] * records)


def produce(server: str, records: int = 1, value_bytes: int = 100) -> tuple[bytes, int]:
    """Writes to partition 0, acks=all; and where its response has the error code."""
    version = 8 if server == "nafka" else 9
    data = ProduceRequest.PartitionProduceData(index=0, records=a_batch(records, value_bytes))
    topic = ProduceRequest.TopicProduceData(name=TOPIC, partition_data=[data])
    request = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic])
    names = 22 if version == 8 else 16  # size, correlation id, array lengths, name, index
    return a_frame(request, version), names + len(TOPIC)


def metadata(server: str, topic: str = TOPIC) -> bytes:
    """Asks for one topic."""
    request = MetadataRequest(topics=[MetadataRequest.Topic(name=topic)])
    return a_frame(request, 8 if server == "nafka" else 12)


def fetch(server: str, max_bytes: int = 1000) -> bytes:
    """Reads the first batches of partition 0."""
    partition = FetchRequest.Partition(partition=0, fetch_offset=0, partition_max_bytes=max_bytes)
    topic = FetchRequest.Topic(topic=TOPIC, partitions=[partition])
    request = FetchRequest(topics=[topic], min_bytes=1, max_bytes=max_bytes, max_wait_ms=500)
    return a_frame(request, 6 if server == "nafka" else 12)


def fetch_at(server: str, max_wait_ms: int = 60_000) -> tuple[bytearray, int]:
    """Waits for records of partition 0 from an offset on; and where the offset is."""
    offset = 0x0123_4567_89AB_CDEF
    partition = FetchRequest.Partition(fetch_offset=offset, partition_max_bytes=1_000_000)
    topic = FetchRequest.Topic(topic=TOPIC, partitions=[partition])
    request = FetchRequest(
        topics=[topic], min_bytes=1, max_bytes=1_000_000, max_wait_ms=max_wait_ms
    )
    frame = a_frame(request, 6 if server == "nafka" else 12)
    return bytearray(frame), frame.index(offset.to_bytes(8, "big"))


def create_topic(server: Server, partitions: int = 1, topic: str = TOPIC) -> None:
    """Make a topic; a broker that makes topics by itself is asked for its metadata."""
    if server.name == "nafka":
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(metadata(server.name, topic))
            client.recv(65536)
        return
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{server.port}", "log_level": 0})
    at_once = min(partitions, MOST_PARTITIONS)
    for made in admin.create_topics([NewTopic(topic, at_once, 1)]).values():
        made.result(30)
    if partitions > at_once:
        for grown in admin.create_partitions([NewPartitions(topic, partitions)]).values():
            grown.result(30)


def expect_answer(server: Server, frame: bytes) -> None:
    """Send a frame and look at its response, which a client in C hardly does.

    Raises:
        RuntimeError: it is an error, or a Fetch without records.
    """
    key, version = struct.unpack_from(">hh", frame, 4)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(frame)
        (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
        payload = client.recv(size, socket.MSG_WAITALL)
    _, response = decode_response(response_class(ApiKey(key)), version, payload)
    if isinstance(response, MetadataResponse):
        is_good = response.topics[0].error_code == 0
    elif isinstance(response, FetchResponse):
        partition = response.responses[0].partitions[0]
        is_good = partition.error_code == 0 and bool(partition.records)
    else:
        is_good = response.responses[0].partition_responses[0].error_code == 0
    if not is_good:
        raise RuntimeError(f"{server.name} answers {response}")
