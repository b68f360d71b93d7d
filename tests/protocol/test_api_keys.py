"""API keys and the lookups around them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from kio.schema.index import api_key_map

from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.api_keys import (
    ApiKey,
    flexible_since,
    request_class,
    response_class,
    valid_versions,
)
from trio_kafka_net.protocol.messages import FetchRequest, FetchResponse

RETIRED = {4: "leader_and_isr", 5: "stop_replica", 6: "update_metadata", 7: "controlled_shutdown"}


def test_api_keys_are_kios_and_the_retired_ones():
    expected = dict(api_key_map) | RETIRED

    assert expected == {int(key): key.name.lower() for key in ApiKey}


@pytest.mark.parametrize("key", list(ApiKey))
def test_lookups_agree_with_the_classes(key):
    request, response = request_class(key), response_class(key)

    assert key is request.API_KEY is response.API_KEY
    assert (request.KIND, response.KIND) == ("request", "response")
    assert valid_versions(key) == request.VALID_VERSIONS == response.VALID_VERSIONS
    assert flexible_since(key) == request.FLEXIBLE_SINCE == response.FLEXIBLE_SINCE
    assert key.label + "Request" == request.__name__


def test_lookups_take_plain_numbers():
    assert (FetchRequest, FetchResponse) == (request_class(1), response_class(1))


@pytest.mark.parametrize("lookup", [request_class, response_class, valid_versions, flexible_since])
def test_lookups_when_there_is_no_such_api_blame_the_caller(lookup):
    with pytest.raises(LocalProtocolError, match="no API has the key 93"):
        lookup(93)


def test_headers_when_imported_load_no_message():
    """A broker's cold start depends on it."""
    program = (
        "import sys, trio_kafka_net.protocol.headers, trio_kafka_net.protocol.error_codes;"
        "print([name for name in sys.modules if 'protocol.messages.' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout.strip() == b"['trio_kafka_net.protocol.messages.versions']"


def test_messages_when_a_name_is_unknown_raise_attribute_error():
    from trio_kafka_net.protocol import messages

    assert "FetchRequest" in dir(messages)
    with pytest.raises(AttributeError, match="NoSuchRequest"):
        _ = messages.NoSuchRequest
