"""A broker inside another program: on a free port, in memory, gone at the end.

python examples/embedded_broker.py
"""

import trio

from trio_kafka_net import BrokerConfig, open_broker
from trio_kafka_net.protocol.messages import MetadataRequest
from trio_kafka_net.testing.client import RawClient


async def main() -> None:
    """Open a broker, ask it for a topic, look what it has made."""
    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), trio_in_memory=True)
    async with open_broker(config) as broker:
        print(f"clients connect to {broker.bootstrap_servers}")
        host, port = broker.bootstrap_servers.rsplit(":", 1)
        async with await RawClient.connect(host, int(port)) as client:
            asked = MetadataRequest(topics=[MetadataRequest.Topic(name="greetings")])
            response = await client.request(asked, version=12)
        print(f"made on the way: {[topic.name for topic in response.topics]}")
        print(f"partitions here: {[partition.key for partition in broker.local.replicas]}")


if __name__ == "__main__":
    trio.run(main)
