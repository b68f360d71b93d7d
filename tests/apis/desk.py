"""A broker without sockets: frames go to its dispatcher, and what becomes of them is noted."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager

import attrs

from trio_kafka_net.apis.dispatch import ApiDispatcher
from trio_kafka_net.apis.habits import Habits
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.apis.request_observer import RequestObserver
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import CloseConnection, RemoteProtocolError
from trio_kafka_net.metrics import names
from trio_kafka_net.metrics.registry import MetricsRegistry
from trio_kafka_net.network.connection import Connection
from trio_kafka_net.network.request_channel import SendResponse
from trio_kafka_net.protocol.api_keys import ApiKey

NOW_MS = 1_700_000_000_000


class _Socket:
    def fileno(self):
        return -1


@attrs.define
class _Processor:
    """Notes answers in place of sending them."""

    listener_name = "L"
    is_privileged = False
    noted: list = attrs.field(factory=list)

    def enqueue_response(self, response):
        if isinstance(response, SendResponse):
            self.noted.append(b"".join(bytes(piece) for piece in response.send._pieces))
        else:
            self.noted.append(type(response).__name__)

    def send_frame(self, request, frame):
        self.noted.append(frame)


class Forgetful(Connection):
    """A connection of which nothing is remembered."""

    __slots__ = ()
    attachment = property(lambda self: Habits(), lambda self, value: None)


class Desk:
    """A broker that serves one connection."""

    def __init__(self, local, connection_type=Connection):
        self.local = local
        self.table = KafkaApis.default().table(is_control_plane=False, unstable=True)
        self.dispatcher = ApiDispatcher(local, self.table)
        self.dispatcher.pool = object()
        self.metrics = MetricsRegistry()
        self.observer = RequestObserver(self.metrics, "data")
        self.connection = connection_type("c", _Socket(), receive=None, processor=_Processor())

    def parse(self, payload):
        return self.dispatcher.parse(self.connection, memoryview(bytearray(payload)))

    async def send(self, payload):
        """What becomes of a frame: the fields of its header, and its answer."""
        try:
            request = self.parse(payload)
        except RemoteProtocolError as error:
            return "refused", str(error)
        read = (
            request.api.key,
            request.api_version,
            request.correlation_id,
            request.client_id,
            request.body_position,
            self.connection.client_id,
        )
        if request.api.key is not ApiKey.PRODUCE:
            return read
        noted = self.connection.processor.noted = []
        try:
            rest = self.dispatcher.handle(request)
        except CloseConnection as error:
            noted.append(str(error))
        else:
            if rest is not None:
                await rest
        self.observer(request)
        return read, noted

    def effects(self):
        """What is left of all frames: figures, and the bytes of every log."""
        families = self.metrics.collect()
        counted = {
            (name, sample.labels): sample.value
            for name in (names.ERRORS.name, names.REQUESTS.name, names.RESPONSE_BYTES.name)
            for sample in (families[name].samples if name in families else ())
        }
        traffic = {
            partition.key: (
                partition.traffic.produce_requests,
                partition.traffic.messages_in,
                partition.traffic.bytes_in,
                partition.traffic.bytes_rejected,
                partition.traffic.failed_produce_requests,
                partition.log_end_offset,
                b"".join(
                    path.read_bytes() for path in sorted(partition.log.directory.glob("*.log"))
                ),
            )
            for partition in self.local.replicas
        }
        return counted, traffic


@asynccontextmanager
async def open_local():
    """A broker with a clock that stands and topic ids that are known before: 2, 3 and so on."""
    numbers = itertools.count(1)
    local = await LocalBroker.open(
        BrokerConfig(trio_in_memory=True),
        now_ms=lambda: NOW_MS,
        new_uuid=lambda: bytes([next(numbers)]) * 16,
    )
    try:
        yield local
    finally:
        await local.close()
