"""What the compiled codecs promise beyond agreeing with Kafka on good bytes."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.protocol.codec import decode, decoder, encode, encoder
from trio_kafka_net.protocol.messages import (
    ApiVersionsResponse,
    BrokerHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    ConsumerProtocolSubscription,
    DescribeTopicPartitionsRequest,
    FetchRequest,
    FetchResponse,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
    SaslAuthenticateRequest,
)
from trio_kafka_net.protocol.primitives import encode_uvarint


class Region:
    """Something with a length that the encoder cannot look into, such as a stretch of a file."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length


def produce_request(records=b"batch"):
    partition = ProduceRequest.PartitionProduceData(index=3, records=records)
    topic = ProduceRequest.TopicProduceData(name="orders", partition_data=[partition])
    return ProduceRequest(acks=1, timeout_ms=500, topic_data=[topic])


def fetch_response(records):
    partition = FetchResponse.PartitionData(records=records)
    topic = FetchResponse.FetchableTopicResponse(topic="t", partitions=[partition])
    return FetchResponse(responses=[topic])


def records_of(response):
    return response.responses[0].partitions[0].records


PRODUCE_V9 = (
    b"\x00"  # transactional id: null
    b"\x00\x01\x00\x00\x01\xf4"  # acks, timeout
    b"\x02\x07orders"  # one topic
    b"\x02\x00\x00\x00\x03\x06batch"  # one partition
    b"\x00\x00\x00"  # tagged fields of partition, topic, message
)


def test_encode_when_flexible_gives_the_documented_bytes():
    assert encode(produce_request(), 9) == [PRODUCE_V9]


def test_decode_when_flexible_reads_the_documented_bytes():
    assert produce_request() == decode(ProduceRequest, 9, PRODUCE_V9)


def test_decode_when_bytes_field_gives_a_view_of_the_buffer():
    buffer = bytearray(PRODUCE_V9)

    records = decode(ProduceRequest, 9, buffer).topic_data[0].partition_data[0].records
    buffer[buffer.index(b"batch")] = ord("B")

    assert records == b"Batch"
    assert isinstance(records, memoryview)


def test_decoder_when_given_a_position_starts_there():
    view = memoryview(b"header" + PRODUCE_V9)

    assert produce_request() == decoder(ProduceRequest, 9)(view, 6)


def test_encoder_when_given_a_header_continues_it():
    out = bytearray(b"header")

    assert encoder(ProduceRequest, 9)(produce_request(), out) == [b"header" + PRODUCE_V9]


def test_encode_when_version_lacks_a_field_leaves_it_out():
    request = MetadataRequest(
        topics=[MetadataRequest.Topic(name="t", topic_id=bytes(range(16)))],
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=True,
    )

    assert b"".join(encode(request, 0)) == b"\x00\x00\x00\x01\x00\x01t"


def test_decode_when_version_lacks_a_field_gives_its_default():
    request = decode(MetadataRequest, 0, b"\x00\x00\x00\x01\x00\x01t")

    assert MetadataRequest(topics=[MetadataRequest.Topic(name="t")]) == request
    assert request.allow_auto_topic_creation is True


def test_decode_when_two_messages_have_absent_lists_does_not_share_them():
    first = decode(ProduceResponse, 3, b"\x00\x00\x00\x00" * 2)
    first.node_endpoints.append(ProduceResponse.NodeEndpoint())

    assert decode(ProduceResponse, 3, b"\x00\x00\x00\x00" * 2).node_endpoints == []


# Buffers


@pytest.mark.parametrize("records", [bytes(513), bytearray(513), memoryview(bytes(513)), Region(5)])
def test_encode_when_records_are_large_or_opaque_passes_the_object_itself(records):
    head, passed, tail = encode(fetch_response(records), 12)

    assert passed is records
    assert head.endswith(encode_uvarint(len(records) + 1))
    assert tail == b"\x00\x00\x00"


def test_encode_when_records_are_pieces_announces_their_sum_and_keeps_their_order():
    pieces = [Region(700), b"xy", Region(10)]

    head, *passed = encode(fetch_response(pieces), 4)

    assert pieces == passed
    assert head.endswith((712).to_bytes(4, "big"))


def test_encode_when_records_are_small_gathers_them_into_one_buffer():
    (whole,) = encode(fetch_response(b"small"), 12)

    assert records_of(decode(FetchResponse, 12, whole)) == b"small"


def test_encode_when_records_are_null_or_empty_keeps_the_difference():
    null = b"".join(encode(fetch_response(None), 12))
    empty = b"".join(encode(fetch_response(b""), 12))

    assert records_of(decode(FetchResponse, 12, null)) is None
    assert records_of(decode(FetchResponse, 12, empty)) == b""


def test_encode_when_records_are_text_refuses_it():
    with pytest.raises(LocalProtocolError, match=r"partitions\.records .*text where bytes"):
        encode(fetch_response("text"), 12)


# Long values: every length of two bytes or more takes another path than a short one.


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 16_383, 16_384, 32_767])
@pytest.mark.parametrize("version", [8, 9])
def test_round_trip_when_strings_have_boundary_lengths(length, version):
    request = produce_request()
    request.transactional_id = "i" * length
    request.topic_data[0].name = "n" * length
    request.topic_data[0].partition_data[0].records = b"r" * length

    assert request == decode(ProduceRequest, version, b"".join(encode(request, version)))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 126, 127, 128, 300])
@pytest.mark.parametrize("version", [8, 9])
def test_round_trip_when_arrays_have_boundary_lengths(length, version):
    partition = MetadataResponse.Partition(replica_nodes=list(range(length)))
    topic = MetadataResponse.Topic(name="t", partitions=[partition] * length)
    broker = MetadataResponse.Broker(host="é", rack="r" * length)
    response = MetadataResponse(brokers=[broker] * length, topics=[topic], cluster_id="c")

    assert response == decode(MetadataResponse, version, b"".join(encode(response, version)))


# Tagged fields


def test_encode_when_tagged_fields_have_defaults_writes_none():
    tagged = FetchRequest(replica_state=FetchRequest.ReplicaState())

    assert encode(FetchRequest(), 15) == encode(tagged, 15)


def test_decode_when_tagged_struct_is_absent_gives_none():
    assert decode(FetchRequest, 15, b"".join(encode(FetchRequest(), 15))).replica_state is None


def test_decode_when_tags_are_unknown_steps_over_them():
    unknown = b"\x02\x63\x03abc\xe4\x00\x00"  # tags 99 and 100
    partition_end = PRODUCE_V9[:-3] + unknown + unknown + unknown

    assert produce_request() == decode(ProduceRequest, 9, partition_end)


def test_decode_when_unknown_tags_surround_known_ones_reads_the_known():
    encoded = b"".join(encode(ApiVersionsResponse(finalized_features_epoch=7), 4))
    epoch = b"\x01\x08" + (7).to_bytes(8, "big")
    assert encoded.endswith(b"\x01" + epoch)
    mixed = encoded[: -len(epoch) - 1] + b"\x03\x63\x01a" + epoch + b"\x64\x00"

    assert decode(ApiVersionsResponse, 4, mixed).finalized_features_epoch == 7


def test_decode_when_a_tagged_field_is_not_as_long_as_it_says_refuses_it():
    encoded = bytearray(b"".join(encode(ApiVersionsResponse(finalized_features_epoch=7), 4)))
    encoded[-9] = 7

    with pytest.raises(RemoteProtocolError, match=r"finalized_features_epoch .*not as long"):
        decode(ApiVersionsResponse, 4, encoded)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (b"\x01\x63\x05abc", "length runs past the end"),
        (b"\x91\x4e" + b"\x63\x00" * 10_001, "too many tagged fields"),
    ],
)
def test_decode_when_section_with_known_tags_is_bad_refuses_it(section, reason):
    encoded = b"".join(encode(ApiVersionsResponse(), 4))[:-1] + section

    with pytest.raises(RemoteProtocolError, match=rf"ApiVersionsResponse, tagged .*{reason}"):
        decode(ApiVersionsResponse, 4, encoded, strict=False)


def test_round_trip_when_tagged_array_is_nullable_keeps_all_three_states():
    for value in (None, [], [bytes(range(16))]):
        request = BrokerHeartbeatRequest(cordoned_log_dirs=value)

        assert request == decode(BrokerHeartbeatRequest, 2, b"".join(encode(request, 2)))


# Nullable structs (KIP-893)


def test_round_trip_when_struct_is_nullable_keeps_null_and_value():
    assignment = ConsumerGroupHeartbeatResponse.Assignment()
    for value in (None, assignment):
        response = ConsumerGroupHeartbeatResponse(assignment=value)
        encoded = b"".join(encode(response, 0))

        assert response == decode(ConsumerGroupHeartbeatResponse, 0, encoded)


def test_encode_when_nullable_struct_is_null_writes_minus_one():
    assert b"".join(encode(DescribeTopicPartitionsRequest(), 0)).endswith(b"\xff\x00")


# Bad bytes


@pytest.mark.parametrize(
    ("encoded", "where"),
    [
        (PRODUCE_V9[:11], r"ProduceRequest\.topic_data\.name \(v9\) at byte 8: length runs past"),
        (PRODUCE_V9[:3], r"ProduceRequest\.timeout_ms \(v9\) at byte 3: ends too early"),
        (PRODUCE_V9[:-1], r"tagged fields \(v9\) at byte 28: ends too early"),
        (PRODUCE_V9 + b"?", r"end \(v9\) at byte 29: 1 bytes after the message"),
        (
            PRODUCE_V9.replace(b"orders", b"\xffrders"),
            r"topic_data\.name \(v9\) at byte 8: 'utf-8'",
        ),
        (PRODUCE_V9.replace(b"\x07orders", b"\x00"), r"topic_data\.name .*null is not allowed"),
        (b"\xff\xff\xff\xff\x08", r"transactional_id \(v9\) at byte 0: varint above 2147483647"),
        (b"\x81\x80\x80\x80\x80\x00", r"transactional_id \(v9\) at byte 0: varint above"),
        (b"\x82\x80\x02" + bytes(40_000), r"transactional_id \(v9\) at byte 0: string too long"),
        (PRODUCE_V9[:7] + b"\xff\xff\x03", r"topic_data \(v9\) at byte 7: more elements than"),
        (PRODUCE_V9[:-1] + b"\x91\x4e" + bytes(20_002), r"tagged fields .*too many tagged fields"),
        (PRODUCE_V9[:-1] + b"\x01\x07\x02a", r"tagged fields .*length runs past the end"),
    ],
)
def test_decode_when_flexible_bytes_are_bad_says_where_and_why(encoded, where):
    with pytest.raises(RemoteProtocolError, match=where):
        decode(ProduceRequest, 9, encoded)


@pytest.mark.parametrize(
    ("encoded", "where"),
    [
        (b"\xff\xfe", r"transactional_id \(v3\) at byte 0: negative length"),
        (b"\xff\xff" + bytes(6) + b"\xff\xff\xff\xff", r"topic_data .* byte 8: negative length"),
        (b"\xff\xff" + bytes(6) + b"\x7f\xff\xff\xff", r"topic_data .*more elements than"),
        (b"\x7f\xff" + bytes(9), r"transactional_id \(v3\) at byte 0: length runs past the end"),
    ],
)
def test_decode_when_legacy_bytes_are_bad_says_where_and_why(encoded, where):
    with pytest.raises(RemoteProtocolError, match=where):
        decode(ProduceRequest, 3, encoded)


def test_decode_when_null_array_is_allowed_gives_none_and_else_refuses():
    assert decode(MetadataRequest, 1, b"\xff\xff\xff\xff").topics is None
    with pytest.raises(RemoteProtocolError, match=r"MetadataRequest\.topics \(v0\) at byte 0"):
        decode(MetadataRequest, 0, b"\xff\xff\xff\xff")


def test_decode_when_not_strict_tolerates_what_newer_software_wrote_behind():
    encoded = b"".join(encode(ConsumerProtocolSubscription(topics=["t"]), 0))

    decoded = decode(ConsumerProtocolSubscription, 0, encoded + b"newer", strict=False)

    assert decoded.topics == ["t"]


@pytest.mark.parametrize(
    ("cls", "version", "encoded"),
    [
        (MetadataResponse, 8, bytes(4) + b"\x7f\xff\xff\xff" + bytes(100)),
        (MetadataResponse, 9, bytes(4) + b"\xff\xff\xff\xff\x07" + bytes(100)),
        (SaslAuthenticateRequest, 1, b"\x7f\xff\xff\xff" + bytes(100)),
        (SaslAuthenticateRequest, 2, b"\xff\xff\xff\xff\x07" + bytes(100)),
        (BrokerHeartbeatRequest, 1, bytes(22) + b"\x01\x00\xff\xff\xff\xff\x07" * 2 + bytes(100)),
    ],
)
def test_decode_when_a_length_lies_allocates_nothing_for_it(cls, version, encoded):
    with pytest.raises(RemoteProtocolError):  # compiles both variants outside the measurement
        decode(cls, version, encoded)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode(cls, version, encoded)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 64 * 1024


def test_decode_when_bytes_are_bad_at_the_end_holds_no_second_copy_of_what_was_decoded():
    topics = [FetchRequest.Topic(topic="t", partitions=[FetchRequest.Partition()])] * 500
    encoded = b"".join(encode(FetchRequest(topics=topics), 12))
    decode(FetchRequest, 12, encoded)
    with pytest.raises(RemoteProtocolError):
        decode(FetchRequest, 12, b"")

    good, bad = peak_of_decoding(encoded), peak_of_decoding(encoded[:-1])

    assert bad < 1.2 * good


def peak_of_decoding(encoded):
    tracemalloc.start()
    try:
        with contextlib.suppress(RemoteProtocolError):
            decode(FetchRequest, 12, encoded)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


def test_decode_when_structs_add_up_over_nested_arrays_stops_at_the_limit(monkeypatch):
    monkeypatch.setattr("trio_kafka_net.protocol.decoder_source.MAX_ARRAY_LENGTH", 5)
    monkeypatch.setattr(MetadataResponse, "DECODERS", {})
    monkeypatch.setattr(MetadataResponse, "TRACED_DECODERS", {})
    topics = [MetadataResponse.Topic(partitions=[MetadataResponse.Partition()])] * 2

    fits = b"".join(encode(MetadataResponse(topics=topics), 9))
    too_many = b"".join(encode(MetadataResponse(topics=topics * 2), 9))

    assert len(decode(MetadataResponse, 9, fits).topics) == 2
    with pytest.raises(RemoteProtocolError, match=r"partitions .*more elements than can follow"):
        decode(MetadataResponse, 9, too_many)


# Our own mistakes


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"acks": 40_000}, r"ProduceRequest\.acks \(v9\): .*-32768 <= number"),
        ({"timeout_ms": None}, r"ProduceRequest\.timeout_ms \(v9\): required argument"),
        ({"topic_data": None}, r"ProduceRequest\.topic_data \(v9\): "),
        ({"topic_data": [None]}, r"ProduceRequest\.topic_data\.name \(v9\): 'NoneType'"),
        ({"transactional_id": 7}, r"ProduceRequest\.transactional_id \(v9\): 'int'"),
        ({"transactional_id": "x" * 32_768}, r"transactional_id \(v9\): string too long"),
        ({"transactional_id": "\ud800"}, r"transactional_id \(v9\): 'utf-8' codec"),
    ],
)
def test_encode_when_a_value_does_not_fit_names_the_field(change, where):
    request = produce_request()
    for name, value in change.items():
        setattr(request, name, value)

    with pytest.raises(LocalProtocolError, match=where):
        encode(request, 9)


def test_encode_when_a_uuid_is_not_16_bytes_refuses_it():
    topic = MetadataRequest.Topic(topic_id=b"short")

    with pytest.raises(LocalProtocolError, match=r"topics\.topic_id \(v12\): a uuid is 16 bytes"):
        encode(MetadataRequest(topics=[topic]), 12)


@pytest.mark.parametrize("version", [-1, 2, 14])
def test_codec_when_there_is_no_such_version_blames_the_caller(version):
    with pytest.raises(LocalProtocolError, match="ProduceRequest has versions 3 to 13"):
        decoder(ProduceRequest, version)
    with pytest.raises(LocalProtocolError, match="ProduceRequest has versions 3 to 13"):
        encode(ProduceRequest(), version)
