"""Every message and version against kio: same bytes, and each reads what the other wrote."""

from __future__ import annotations

import kio_oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import MESSAGE_CLASSES, in_version, messages_of, versions_of

from trio_kafka_net.protocol.codec import decode, encode


@pytest.mark.parametrize("name", [name for name in MESSAGE_CLASSES if kio_oracle.knows(name)])
def test_message_when_encoded_in_any_version_equals_kio(name):
    cls = MESSAGE_CLASSES[name]

    @settings(max_examples=12)
    @given(st.data())
    def compare(data):
        message = data.draw(messages_of(cls, kio_oracle.special_values))
        for version in versions_of(cls):
            expected = in_version(message, version)
            schema = kio_oracle.schema(cls, version)
            entity = kio_oracle.to_kio(expected, schema)
            encoded = b"".join(encode(expected, version))

            assert kio_oracle.write(entity) == encoded
            assert kio_oracle.read(schema, encoded) == (entity, len(encoded))
            assert decode(cls, version, encoded) == expected

    compare()
