"""What client quotas cost per request: none, some for somebody else, some that count.

    python benchmarks/client_quotas.py

Requests go through the dispatcher in a loop, without sockets; the figures are µs for everything
from the header to the encoded response. Rounds alternate, so that a drift of the machine hits all
alike.
"""

from __future__ import annotations

import gc
import platform
import statistics
from time import perf_counter, perf_counter_ns
from types import SimpleNamespace

import trio

from trio_kafka_net.apis.dispatch import ApiDispatcher
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker.client_quotas import Alteration
from trio_kafka_net.broker.local_broker import LocalBroker
from trio_kafka_net.broker.metadata_cache import Endpoint
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.network.principal import ANONYMOUS
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import FindCoordinatorRequest, ProduceRequest
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch

REQUESTS = 2_000
ROUNDS = 15
EVERYTHING = ("producer_byte_rate", "consumer_byte_rate", "request_percentage")


def frames() -> dict[str, bytes]:
    """A small request, and one record of 100 bytes."""
    data = ProduceRequest.PartitionProduceData(
        records=build_batch([Record(timestamp=1, value=b"x" * 100)])
    )
    produce = ProduceRequest(
        acks=-1,
        timeout_ms=1000,
        topic_data=[ProduceRequest.TopicProduceData(name="t", partition_data=[data])],
    )
    requests = {"FindCoordinator": (FindCoordinatorRequest(key="g"), 3), "Produce": (produce, 9)}
    return {
        name: b"".join(bytes(piece) for piece in encode_request(request, version, 1, "bench"))
        for name, (request, version) in requests.items()
    }


def run(dispatcher: ApiDispatcher, frame: bytes) -> float:
    """µs per request."""
    connection = SimpleNamespace(
        client_software_name="",
        client_software_version="",
        connection_id="",
        is_open=True,
        is_privileged=False,
        listener_name="PLAINTEXT",
        principal=ANONYMOUS,
        processor=SimpleNamespace(
            enqueue_response=lambda response: None, send_frame=lambda request, frame: None
        ),
    )
    gc.collect()
    started = perf_counter()
    for _ in range(REQUESTS):
        request = dispatcher.parse(connection, memoryview(bytearray(frame)))  # type: ignore[arg-type]  # all that is looked at
        request.dequeue_time_ns = perf_counter_ns()
        assert dispatcher.handle(request) is None
    return (perf_counter() - started) / REQUESTS * 1e6


async def main() -> None:
    """Measure; median of the rounds, and of the ratios within a round."""
    local = await LocalBroker.open(BrokerConfig(trio_in_memory=True))
    await local.register({"PLAINTEXT": Endpoint("127.0.0.1", 9092)})
    await local.controller.create_topic("t")
    dispatcher = ApiDispatcher(local, KafkaApis.default().table(is_control_plane=False))
    dispatcher.pool = SimpleNamespace()  # type: ignore[assignment]  # nothing parks
    cases = {"no quotas": None, "for somebody else": "else", "that count": "bench"}
    print(f"# Python {platform.python_version()}, µs per request; ratio to the first")
    for name, frame in frames().items():
        times: dict[str, list[float]] = {case: [] for case in cases}
        for _ in range(ROUNDS):
            for case, client_id in cases.items():
                names = {"client-id": client_id}
                changes = [(key, 1e12) for key in EVERYTHING]
                if client_id:
                    await local.quotas.alter([Alteration(names, changes)])
                times[case].append(run(dispatcher, frame))
                if client_id:
                    await local.quotas.alter([Alteration(names, [(k, None) for k in EVERYTHING])])
        for case, measured in times.items():
            ratios = [a / b for a, b in zip(measured, times["no quotas"], strict=True)]
            median = statistics.median(measured)
            print(f"{name:>16} {case:>18} {median:7.2f} {statistics.median(ratios):6.3f}")
    await local.close()


trio.run(main)
