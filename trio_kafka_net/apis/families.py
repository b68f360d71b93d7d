"""Which module serves which API, so that it need not be imported before somebody asks.

A broker serves some fifty APIs, and most of what it lives through never meets half of them. Their
modules, with the messages that they import, would be a fifth of its start. So the modules that
every client asks (``EAGER``) are registered at once, and of the others it is only known what they
will register; the first request imports them.

``tests/apis/test_families.py`` compares the table with what the modules register.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from trio_kafka_net.protocol.api_keys import ApiKey

if TYPE_CHECKING:
    from trio_kafka_net.network.turn import Steps
    from trio_kafka_net.protocol.error_codes import ErrorCode
    from trio_kafka_net.protocol.message import Message

    from .context import RequestContext
    from .registry import Answer, KafkaApis

EAGER: Final = ("cluster", "features", "produce", "fetch")
"""Modules of this package that are on the way of every client, and what those import."""

_Versions = tuple[int, int] | None
"""First and last version, if not all that there are messages for."""

LAZY: Final[Mapping[str, Mapping[ApiKey, _Versions]]] = {
    "acls": {ApiKey.DESCRIBE_ACLS: None, ApiKey.CREATE_ACLS: None, ApiKey.DELETE_ACLS: None},
    "alter_configs": {ApiKey.ALTER_CONFIGS: None, ApiKey.INCREMENTAL_ALTER_CONFIGS: None},
    "configs": {ApiKey.DESCRIBE_CONFIGS: None, ApiKey.LIST_CONFIG_RESOURCES: None},
    "controller_requests": {
        ApiKey.LEADER_AND_ISR: None,
        ApiKey.STOP_REPLICA: None,
        ApiKey.UPDATE_METADATA: None,
        ApiKey.CONTROLLED_SHUTDOWN: None,
    },
    "group_admin": {
        ApiKey.LIST_GROUPS: None,
        ApiKey.DESCRIBE_GROUPS: None,
        ApiKey.DELETE_GROUPS: None,
    },
    "group_members": {
        ApiKey.JOIN_GROUP: None,
        ApiKey.SYNC_GROUP: None,
        ApiKey.HEARTBEAT: None,
        ApiKey.LEAVE_GROUP: None,
    },
    "group_offsets": {ApiKey.OFFSET_COMMIT: None, ApiKey.OFFSET_DELETE: None},
    "groups": {ApiKey.FIND_COORDINATOR: None},
    "log_dirs": {ApiKey.DESCRIBE_LOG_DIRS: (1, 4), ApiKey.ALTER_REPLICA_LOG_DIRS: None},
    "offset_fetch": {ApiKey.OFFSET_FETCH: None},
    "offsets": {ApiKey.LIST_OFFSETS: None},
    "partition_admin": {
        ApiKey.ELECT_LEADERS: None,
        ApiKey.ALTER_PARTITION_REASSIGNMENTS: None,
        ApiKey.LIST_PARTITION_REASSIGNMENTS: None,
        ApiKey.DESCRIBE_TOPIC_PARTITIONS: None,
    },
    "partitions": {
        ApiKey.DELETE_RECORDS: None,
        ApiKey.DESCRIBE_PRODUCERS: None,
        ApiKey.OFFSET_FOR_LEADER_EPOCH: None,
    },
    "quotas": {ApiKey.DESCRIBE_CLIENT_QUOTAS: None, ApiKey.ALTER_CLIENT_QUOTAS: None},
    "scram": {ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: None},
    "topics": {
        ApiKey.CREATE_TOPICS: None,
        ApiKey.DELETE_TOPICS: None,
        ApiKey.CREATE_PARTITIONS: None,
    },
    "transactions": {ApiKey.INIT_PRODUCER_ID: (0, 5)},
}
"""{module of this package: {API that it registers: versions}}."""


def register_all(apis: KafkaApis) -> None:
    """Serve everything that a broker serves by itself."""
    for name in EAGER:
        _module(name).register(apis)
    for name, served in LAZY.items():
        for key, versions in served.items():
            family = _Family(name, key)
            apis.add(
                family.handle,
                key=key,
                versions=versions,
                error_response=family.error_response,
            )


class _Family:
    """Stands in for one API of a module that was not imported yet."""

    def __init__(self, name: str, key: ApiKey) -> None:
        self._name = name
        self._key = key

    @functools.cached_property
    def _api(self) -> Any:
        from .registry import KafkaApis  # which imports this module

        apis = KafkaApis()
        _module(self._name).register(apis)
        return apis.api(self._key)

    def handle(self, ctx: RequestContext, request: Any) -> Answer:
        """Import the module and let it answer."""
        return self._api.function(ctx, request)

    def error_response(
        self, request: Any, code: ErrorCode, text: str | None
    ) -> Message | Steps[Message]:
        """Import the module and let it make the error response."""
        made: Message | Steps[Message] = self._api.error_response(request, code, text)
        return made


def _module(name: str) -> Any:
    return importlib.import_module(f".{name}", __package__)
