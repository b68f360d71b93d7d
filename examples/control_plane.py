"""Delete a topic on each plane while 200 producers flood the broker, and see how long it takes.

python examples/control_plane.py
"""

import time

import trio

from trio_kafka_net import BrokerConfig, open_broker
from trio_kafka_net.protocol.messages import DeleteTopicsRequest, ProduceRequest
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch
from trio_kafka_net.testing.client import RawClient

PRODUCERS = 200
TOPICS = 5


def a_produce() -> ProduceRequest:
    """A request that appends one record of 10 KB, acks=all."""
    records = build_batch([Record(timestamp=time.time_ns() // 1_000_000, value=bytes(10_000))])
    data = ProduceRequest.PartitionProduceData(index=0, records=records)
    topic = ProduceRequest.TopicProduceData(name="events", partition_data=[data])
    return ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic])


async def flood(port: int) -> None:
    """Produce for ever, a request after the other."""
    request = a_produce()
    async with await RawClient.connect("127.0.0.1", port) as client:
        while True:
            await client.request(request, version=9)


async def delete_topics(port: int, plane: str) -> float:
    """Delete topics through one port; the median time in ms."""
    taken = []
    async with await RawClient.connect("127.0.0.1", port) as client:
        for number in range(TOPICS):
            request = DeleteTopicsRequest(topic_names=[f"{plane}-{number}"], timeout_ms=30_000)
            begin = time.perf_counter()
            response = await client.request(request, version=5)
            taken.append((time.perf_counter() - begin) * 1000)
            assert response.responses[0].error_code == 0
    return sorted(taken)[TOPICS // 2]


async def main() -> None:
    """Fill the data plane, then administrate on both."""
    config = BrokerConfig(
        listeners=("PLAINTEXT://127.0.0.1:0", "CONTROLLER://127.0.0.1:0"),
        control_plane_listener_name="CONTROLLER",
        queued_max_requests=50,
        trio_in_memory=True,
    )
    async with open_broker(config) as broker, trio.open_nursery() as nursery:
        ports = {listener.plane: listener.port for listener in broker.bound_listeners}
        for topic in ("events", *(f"{plane}-{n}" for plane in ports for n in range(TOPICS))):
            await broker.local.controller.create_topic(topic)
        for _ in range(PRODUCERS):
            nursery.start_soon(flood, ports["data"])
        channel = broker.socket_server.data_plane.request_channel
        while channel.statistics().waiting < 50:  # noqa: ASYNC110 - nothing tells when it is full
            await trio.sleep(0.01)
        full = channel.statistics()
        print(f"data plane: {full.queued} requests queued, {full.waiting} wait for a place")
        for plane, port in ports.items():
            milliseconds = await delete_topics(port, plane)
            print(f"a topic deleted on the {plane} plane in {milliseconds:.1f} ms")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
