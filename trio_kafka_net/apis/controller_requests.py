"""LeaderAndIsr, StopReplica, UpdateMetadata, ControlledShutdown: what the cluster says to itself.

Versions: LeaderAndIsr 0-7, StopReplica 0-4, UpdateMetadata 0-8, ControlledShutdown 0-3.
Behaviour:
    * served on the control plane only; without an authorizer whoever reaches it is believed
    * the first three are what the controller has decided; a controller or broker epoch that is too
      old refuses the whole, an older leader epoch one partition; what was applied may come again
    * no log is made or deleted: the controller does that in the store that all brokers share
    * ControlledShutdown is answered when every broker has heard who leads now; it names the
      replicated partitions that nobody could take over
Version notes:
    LeaderAndIsr v2 by topic, broker epoch (KIP-380) · v3 reassignments (KIP-455): not used
    v5 topic ids (KIP-516) · v7 KRaft controllers, whose equal leader epochs are applied again
    StopReplica v1 broker epoch · v3 leader epoch, and what to do, per partition (KIP-570)
    UpdateMetadata v5 by topic, broker epoch · v7 topic ids · up to v2 endpoints have no listener
    name: they are called after their security protocol · v0 one endpoint a broker
    ControlledShutdown v0 has a request header of its own · v2 broker epoch
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_kafka_net.protocol.messages.controlled_shutdown import (
    ControlledShutdownRequest,
    ControlledShutdownResponse,
)
from trio_kafka_net.protocol.messages.leader_and_isr import (
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
)
from trio_kafka_net.protocol.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from trio_kafka_net.protocol.messages.update_metadata import (
    UpdateMetadataRequest,
    UpdateMetadataResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_TIMEOUT_MS = 30_000
"""How long a shutdown waits for brokers that do not answer; controller.socket.timeout.ms."""


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(leader_and_isr, key=LeaderAndIsrRequest.API_KEY)
    apis.add(stop_replica, key=StopReplicaRequest.API_KEY)
    apis.add(update_metadata, key=UpdateMetadataRequest.API_KEY)
    apis.add(controlled_shutdown, key=ControlledShutdownRequest.API_KEY)


def leader_and_isr(ctx: RequestContext, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
    """Become leader or follower of partitions.

    Source: Kafka ``KafkaApis.handleLeaderAndIsrRequest`` (3.9).
    """
    return ctx.broker.controller_requests.leader_and_isr(request)


def stop_replica(ctx: RequestContext, request: StopReplicaRequest) -> StopReplicaResponse:
    """Let go of partitions.

    Source: Kafka ``KafkaApis.handleStopReplicaRequest`` (3.9).
    """
    return ctx.broker.controller_requests.stop_replica(request)


async def update_metadata(
    ctx: RequestContext, request: UpdateMetadataRequest
) -> UpdateMetadataResponse:
    """Know what is told of brokers and partitions.

    Source: Kafka ``KafkaApis.handleUpdateMetadataRequest`` (3.9).
    """
    return await ctx.broker.controller_requests.update_metadata(request)


async def controlled_shutdown(
    ctx: RequestContext, request: ControlledShutdownRequest
) -> ControlledShutdownResponse:
    """Relieve a broker that is going to stop.

    Source: Kafka ``KafkaController.doControlledShutdown`` (3.9).
    """
    wait = ctx.delivery_wait(_TIMEOUT_MS, "ControlledShutdown")
    return await ctx.broker.controlled_shutdown(request, wait)
