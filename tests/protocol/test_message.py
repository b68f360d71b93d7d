"""What message classes are to the people who fill them in."""

from __future__ import annotations

import pytest

from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.message import Message, Struct, field, message, struct
from trio_kafka_net.protocol.messages import (
    FetchRequest,
    FetchSnapshotResponse,
    ListGroupsResponse,
    MetadataRequest,
    ProduceRequest,
)


def test_constructor_when_given_nothing_uses_kafkas_defaults():
    request = FetchRequest()

    assert request.max_bytes == 0x7FFFFFFF
    assert request.session_epoch == -1
    assert request.cluster_id is None
    assert request.topics == []
    assert request.rack_id == ""


def test_constructor_when_called_twice_gives_each_its_own_lists():
    FetchRequest().topics.append(FetchRequest.Topic())

    assert FetchRequest().topics == []


def test_constructor_when_struct_is_neither_tagged_nor_nullable_fills_it_in():
    snapshot = FetchSnapshotResponse.PartitionSnapshot()

    assert FetchSnapshotResponse.SnapshotId() == snapshot.snapshot_id
    assert snapshot.current_leader is None


def test_constructor_when_given_null_keeps_it_apart_from_the_default():
    assert MetadataRequest(topics=None).topics is None


def test_constructor_when_a_name_is_wrong_or_positional_refuses():
    with pytest.raises(TypeError, match="timeout"):
        ProduceRequest(timeout=5)
    with pytest.raises(TypeError, match="positional"):
        ProduceRequest(1)


def test_message_when_a_name_is_mistyped_on_assignment_refuses():
    with pytest.raises(AttributeError):
        ProduceRequest().acknowledgements = 1


def test_message_compares_by_value_and_class_and_is_unhashable():
    assert ListGroupsResponse(throttle_time_ms=1) == ListGroupsResponse(throttle_time_ms=1)
    assert ListGroupsResponse(throttle_time_ms=1) != ListGroupsResponse()
    assert ListGroupsResponse() != MetadataRequest()
    with pytest.raises(TypeError, match="unhashable"):
        hash(ListGroupsResponse())


def test_repr_shows_what_is_not_default_and_abbreviates_long_bytes():
    partition = ProduceRequest.PartitionProduceData(index=1, records=memoryview(bytes(33)))

    assert repr(partition) == "ProduceRequest.PartitionProduceData(index=1, records=<33 bytes>)"
    partition.records = memoryview(b"ab")
    assert "records=b'ab'" in repr(partition)


def test_class_knows_its_api_and_versions():
    assert ApiKey.PRODUCE == ProduceRequest.API_KEY
    assert ProduceRequest.KIND == "request"
    assert ProduceRequest.VALID_VERSIONS == (3, 13)
    assert ProduceRequest.FLEXIBLE_SINCE == 9


def test_message_can_be_declared_outside_the_package():
    @message(versions=(0, 1))
    class Note(Message):
        """A message of somebody's own."""

        @struct
        class Line(Struct):
            """One line."""

            text: str = field("string")

        lines: list[Note.Line] = field("[]Line")

    assert Note.KIND == "data"
    assert [Note.Line(text="a")] == Note(lines=[Note.Line(text="a")]).lines
    assert Note.__doc__ == "A message of somebody's own."
