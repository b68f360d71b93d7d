"""Configuration: Kafka's keys, values and units; every one checked before anything starts."""

from .broker import BrokerConfig as BrokerConfig
from .broker import LogConfig as LogConfig
from .broker import SocketServerConfig as SocketServerConfig
from .cleaner import LogCleanerConfig as LogCleanerConfig
from .endpoints import Endpoint as Endpoint
from .endpoints import ListenerConfig as ListenerConfig
from .groups import GroupConfig as GroupConfig
from .listener_overrides import ListenerOverrides as ListenerOverrides
from .metrics import MetricsConfig as MetricsConfig
from .properties import read_properties as read_properties
