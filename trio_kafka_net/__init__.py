"""Kafka's network layer on trio's structured concurrency, and a broker built on it."""

from .config import ListenerConfig as ListenerConfig
from .config import SocketServerConfig as SocketServerConfig
from .errors import CloseConnection as CloseConnection
from .errors import ConfigError as ConfigError
from .errors import KafkaError as KafkaError
from .errors import LocalProtocolError as LocalProtocolError
from .errors import RemoteProtocolError as RemoteProtocolError
from .errors import TrioKafkaError as TrioKafkaError
from .network.connection import Connection as Connection
from .network.connection import DisconnectCause as DisconnectCause
from .network.principal import KafkaPrincipal as KafkaPrincipal
from .network.request_channel import Request as Request
from .network.socket_server import SocketServer as SocketServer
from .network.socket_server import serve_frames as serve_frames
