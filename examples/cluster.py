"""Three brokers in one process: the leader of a partition dies, and comes back.

python examples/cluster.py
"""

import time

import trio

from trio_kafka_net import BrokerConfig, ErrorCode, open_cluster
from trio_kafka_net.protocol.messages import ElectLeadersRequest, MetadataRequest, ProduceRequest
from trio_kafka_net.protocol.record_codec import Record
from trio_kafka_net.protocol.records import build_batch
from trio_kafka_net.testing.client import RawClient


async def ask(port: int, message, version: int):
    """Send one request on a connection of its own, and return its response."""
    async with await RawClient.connect("127.0.0.1", port) as client:
        return await client.request(message, version)


async def leader_as_told_by(port: int) -> int:
    """The node id of who leads the topic's partition, as any broker knows it."""
    asked = MetadataRequest(topics=[MetadataRequest.Topic(name="greetings")])
    topic = (await ask(port, asked, version=12)).topics[0]
    return topic.partitions[0].leader_id


async def produce(port: int, text: bytes) -> str:
    """Write a record, acks=all; where it lies, or why it was refused."""
    batch = build_batch([Record(timestamp=time.time_ns() // 1_000_000, value=text)])
    data = ProduceRequest.PartitionProduceData(index=0, records=batch)
    topic = ProduceRequest.TopicProduceData(name="greetings", partition_data=[data])
    message = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic])
    answer = (await ask(port, message, version=9)).responses[0].partition_responses[0]
    code = ErrorCode(answer.error_code)
    return code.name if code else f"offset {answer.base_offset}"


async def main() -> None:
    """Produce to the leader, let it die, and go on with the next."""
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
    async with open_cluster(config, brokers=3) as cluster:

        def port(node_id: int) -> int:
            return cluster.brokers[node_id].bound_listeners[0].port

        await cluster.controller.create_topic("greetings", partitions=1, replication_factor=3)
        first = await leader_as_told_by(port(1))
        print(f"brokers {list(cluster.brokers)}; broker {first} leads")
        print(f"broker {first}: {await produce(port(first), b'hello')}")

        await cluster.kill(first)
        second = await leader_as_told_by(port(next(iter(cluster.brokers))))
        print(f"broker {first} died; broker {second} leads")
        print(f"broker {second}: {await produce(port(second), b'still here')}")

        await cluster.start(first)
        print(f"broker {first} is back: {await produce(port(first), b'and me?')}")
        await ask(port(second), ElectLeadersRequest(topic_partitions=None), version=2)
        print(f"after an election broker {await leader_as_told_by(port(first))} leads")
        print(f"broker {first}: {await produce(port(first), b'hello again')}")


if __name__ == "__main__":
    trio.run(main)
