"""Kafka's network layer on trio's structured concurrency, and a broker built on it.

What is named here is promised; everything else may move. The network layer is imported at once,
the broker and the protocol when one of their names is first used, so that a server without Kafka
does not load them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .config import ListenerConfig as ListenerConfig
from .config import SocketServerConfig as SocketServerConfig
from .errors import CloseConnection as CloseConnection
from .errors import ConfigError as ConfigError
from .errors import FatalExitError as FatalExitError
from .errors import KafkaError as KafkaError
from .errors import LocalProtocolError as LocalProtocolError
from .errors import RemoteProtocolError as RemoteProtocolError
from .errors import StorageError as StorageError
from .errors import TrioKafkaError as TrioKafkaError
from .network.connection import Connection as Connection
from .network.connection import DisconnectCause as DisconnectCause
from .network.principal import KafkaPrincipal as KafkaPrincipal
from .network.request_channel import Request as Request
from .network.socket_server import SocketServer as SocketServer
from .network.socket_server import serve_frames as serve_frames

if TYPE_CHECKING:
    from .apis.context import NO_RESPONSE as NO_RESPONSE
    from .apis.context import RequestContext as RequestContext
    from .apis.registry import KafkaApis as KafkaApis
    from .broker_server import Broker as Broker
    from .broker_server import open_broker as open_broker
    from .broker_server import serve_broker as serve_broker
    from .cluster import Cluster as Cluster
    from .cluster import open_cluster as open_cluster
    from .config import BrokerConfig as BrokerConfig
    from .protocol.api_keys import ApiKey as ApiKey
    from .protocol.error_codes import ErrorCode as ErrorCode

_LAZY = {
    "NO_RESPONSE": "apis.context",
    "RequestContext": "apis.context",
    "KafkaApis": "apis.registry",
    "Broker": "broker_server",
    "open_broker": "broker_server",
    "serve_broker": "broker_server",
    "Cluster": "cluster",
    "open_cluster": "cluster",
    "BrokerConfig": "config",
    "ApiKey": "protocol.api_keys",
    "ErrorCode": "protocol.error_codes",
}


def __getattr__(name: str) -> Any:
    """Import what belongs to the broker when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
