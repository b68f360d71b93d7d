"""A broker with an API of our own making, and a look at requests before they are served.

    python examples/custom_api.py

then, in another terminal:

    kcat -b 127.0.0.1:9092 -L
"""

import trio

from trio_kafka_net import (
    ApiKey,
    BrokerConfig,
    ErrorCode,
    KafkaApis,
    KafkaError,
    RequestContext,
    serve_broker,
)
from trio_kafka_net.protocol.messages import DescribeClusterRequest, DescribeClusterResponse

apis = KafkaApis.default()


@apis.handler(replace=True)
def describe_cluster(
    ctx: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Serve an API in place of the broker; its versions are those of the message."""
    if ctx.client_id == "stranger":
        raise KafkaError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)  # becomes the error response
    here = ctx.broker.endpoint(ctx.listener_name)
    me = DescribeClusterResponse.Broker(
        broker_id=ctx.broker.node_id, host=here.host, port=here.port
    )
    return DescribeClusterResponse(cluster_id="ours", controller_id=me.broker_id, brokers=[me])


@apis.interceptor(ApiKey.METADATA)
async def slow_lane(ctx: RequestContext, request, call_next):
    """See requests before their handler; waiting does not hold a handler's place."""
    print(f"{ctx.client_id or 'somebody'} asks for metadata in version {ctx.api_version}")
    if ctx.client_id.startswith("bulk-"):
        async with ctx.parked("bulk lane"):
            await trio.sleep(0.05)
    return await call_next(ctx, request)


if __name__ == "__main__":
    trio.run(serve_broker, BrokerConfig(trio_in_memory=True), apis)
