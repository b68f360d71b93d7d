"""What is decoded and encoded in steps is what is decoded and encoded at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from message_values import MESSAGE_CLASSES, in_version, messages_of, versions_of
from test_fuzz import mutated, mutations

from trio_kafka_net.errors import LocalProtocolError, RemoteProtocolError
from trio_kafka_net.network.turn import finish
from trio_kafka_net.protocol.codec import decode, encode, stepwise_decoder, stepwise_encoder
from trio_kafka_net.protocol.messages import (
    ElectLeadersRequest,
    FindCoordinatorRequest,
    MetadataRequest,
    MetadataResponse,
)
from trio_kafka_net.protocol.source_writer import ELEMENTS_PER_STEP


def steps_of(generator) -> int:
    return sum(1 for _ in generator) + 1


def outcome(decode_it):
    try:
        return decode_it()
    except RemoteProtocolError as error:
        assert " at byte " in str(error)  # noqa: PT017 - where, if not which field
        return RemoteProtocolError


@pytest.mark.parametrize("name", MESSAGE_CLASSES)
def test_steps_make_no_difference(name):
    cls = MESSAGE_CLASSES[name]

    @settings(max_examples=5)
    @given(messages_of(cls), mutations)
    def check(message, changes):
        for version in {versions_of(cls)[0], versions_of(cls)[-1]}:
            message = in_version(message, version)
            encoded = b"".join(encode(message, version))
            pieces = finish(stepwise_encoder(cls, version)(message, bytearray()))
            assert b"".join(pieces) == encoded
            for some in (encoded, mutated(encoded, changes)):
                in_steps = outcome(
                    lambda some=some, version=version: finish(
                        stepwise_decoder(cls, version)(memoryview(some))
                    )
                )
                at_once = outcome(lambda some=some, version=version: decode(cls, version, some))
                # Compared as bytes: what was mutated may be a NaN, which is not equal to itself.
                if at_once is RemoteProtocolError:
                    assert in_steps is RemoteProtocolError
                else:
                    assert encode(in_steps, version) == encode(at_once, version)

    check()


@pytest.mark.parametrize(
    ("message", "version"),
    [
        (FindCoordinatorRequest(coordinator_keys=["k"] * 1000), 4),
        (MetadataRequest(topics=[MetadataRequest.Topic(name="t")] * 1000), 9),
        (
            ElectLeadersRequest(
                topic_partitions=[
                    ElectLeadersRequest.TopicPartitions(topic="t", partitions=[1] * 10)
                ]
                * 90
            ),
            2,
        ),
    ],
)
def test_a_step_has_a_bounded_number_of_elements(message, version):
    encoded = b"".join(encode(message, version))
    most = 1000 // ELEMENTS_PER_STEP + 1

    assert most - 2 <= steps_of(stepwise_decoder(type(message), version)(memoryview(encoded)))
    assert most - 2 <= steps_of(stepwise_encoder(type(message), version)(message, bytearray()))


def test_what_is_small_is_one_step():
    message = MetadataRequest(topics=[MetadataRequest.Topic(name="t")] * (ELEMENTS_PER_STEP - 1))
    encoded = b"".join(encode(message, 9))

    assert steps_of(stepwise_decoder(MetadataRequest, 9)(memoryview(encoded))) == 1
    assert steps_of(stepwise_encoder(MetadataRequest, 9)(message, bytearray())) == 1


def test_unknown_tags_count_as_elements():
    """They are many in few bytes: nobody may have the event loop step over all of them at once."""
    topics = b"".join(b"\0" * 16 + b"\x02t" + b"\x64" + b"\x7f\x00" * 100 for _ in range(10))
    encoded = bytes([11]) + topics + bytes(3)

    assert steps_of(stepwise_decoder(MetadataRequest, 12)(memoryview(encoded))) >= 10


def test_a_value_that_cannot_be_encoded_is_named():
    message = MetadataResponse(topics=[MetadataResponse.Topic(name="t", error_code="no")])

    with pytest.raises(LocalProtocolError, match=r"topics\.error_code"):
        finish(stepwise_encoder(MetadataResponse, 9)(message, bytearray()))


@pytest.mark.parametrize("make", [stepwise_decoder, stepwise_encoder])
def test_a_version_that_there_is_not_is_refused(make):
    with pytest.raises(LocalProtocolError, match="not version 99"):
        make(MetadataRequest, 99)
