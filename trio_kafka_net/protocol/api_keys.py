"""API keys, and what must be known of an API before its messages are imported.

Message modules are imported when they are first asked for: importing all of them takes longer than
the rest of a broker's start. What a request header needs (is this API known, is this version
flexible) comes from the small table in ``messages.versions``.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.messages.versions import API_VERSIONS

if TYPE_CHECKING:
    from trio_kafka_net.protocol.message import Message


class ApiKey(enum.IntEnum):
    """Kafka's APIs.

    4 to 7, retired by Kafka 4, are what a controller sends to our control plane.
    """

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    LEADER_AND_ISR = 4
    STOP_REPLICA = 5
    UPDATE_METADATA = 6
    CONTROLLED_SHUTDOWN = 7
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    VOTE = 52
    BEGIN_QUORUM_EPOCH = 53
    END_QUORUM_EPOCH = 54
    DESCRIBE_QUORUM = 55
    ALTER_PARTITION = 56
    UPDATE_FEATURES = 57
    ENVELOPE = 58
    FETCH_SNAPSHOT = 59
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    BROKER_REGISTRATION = 62
    BROKER_HEARTBEAT = 63
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    ALLOCATE_PRODUCER_IDS = 67
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    CONTROLLER_REGISTRATION = 70
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    ASSIGN_REPLICAS_TO_DIRS = 73
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    ADD_RAFT_VOTER = 80
    REMOVE_RAFT_VOTER = 81
    UPDATE_RAFT_VOTER = 82
    INITIALIZE_SHARE_GROUP_STATE = 83
    READ_SHARE_GROUP_STATE = 84
    WRITE_SHARE_GROUP_STATE = 85
    DELETE_SHARE_GROUP_STATE = 86
    READ_SHARE_GROUP_STATE_SUMMARY = 87
    STREAMS_GROUP_HEARTBEAT = 88
    STREAMS_GROUP_DESCRIBE = 89
    DESCRIBE_SHARE_GROUP_OFFSETS = 90
    ALTER_SHARE_GROUP_OFFSETS = 91
    DELETE_SHARE_GROUP_OFFSETS = 92

    @property
    def label(self) -> str:
        """Kafka's name of the API, as in its metrics: ``ApiVersions``."""
        return API_VERSIONS[self][0]


# {API: last stable version}, where there is a later one.
_LAST_STABLE: Mapping[int, int] = {
    ApiKey.LIST_OFFSETS: 10,
    ApiKey.OFFSET_COMMIT: 9,
    ApiKey.OFFSET_FETCH: 9,
}


def valid_versions(api_key: int) -> tuple[int, int]:
    """Return the first and the last version (inclusive) for which there are messages.

    Raises:
        LocalProtocolError: no such API.
    """
    return _row(api_key)[1]


def last_stable_version(api_key: int) -> int:
    """Return the last version that Kafka 4.1 calls stable.

    What is beyond may still change its meaning; Kafka serves it with
    ``unstable.api.versions.enable``.

    Raises:
        LocalProtocolError: no such API.
    """
    return _LAST_STABLE.get(api_key, valid_versions(api_key)[1])


def flexible_since(api_key: int) -> int | None:
    """Return the first flexible version of an API (KIP-482), ``None`` if there is none.

    Raises:
        LocalProtocolError: no such API.
    """
    return _row(api_key)[2]


def request_class(api_key: int) -> type[Message]:
    """Return the class of an API's requests, importing its module the first time.

    Raises:
        LocalProtocolError: no such API.
    """
    return _message_class(api_key, "Request")


def response_class(api_key: int) -> type[Message]:
    """Return the class of an API's responses, importing its module the first time.

    Raises:
        LocalProtocolError: no such API.
    """
    return _message_class(api_key, "Response")


def _row(api_key: int) -> tuple[str, tuple[int, int], int | None]:
    try:
        return API_VERSIONS[api_key]
    except KeyError:
        raise LocalProtocolError(f"no API has the key {api_key}") from None


@functools.cache
def _message_class(api_key: int, half: str) -> type[Message]:
    # Message modules import ApiKey from here, so they can only be looked up later.
    from trio_kafka_net.protocol import messages

    found: type[Message] = getattr(messages, _row(api_key)[0] + half)
    return found
