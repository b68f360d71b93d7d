"""What a handler knows about the request it serves, beside the request itself."""

from __future__ import annotations

import enum
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import trio

from trio_kafka_net.broker.cluster_state import DELIVERY_SECONDS, DeliveryWait
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.principal import KafkaPrincipal
from trio_kafka_net.network.turn import Breaks, Steps

if TYPE_CHECKING:
    from trio_kafka_net.broker.client_quotas import MutationQuota
    from trio_kafka_net.broker.local_broker import LocalBroker

    from .dispatch import KafkaRequest
    from .registry import ApiTable


_T = TypeVar("_T")


class _NoResponse(enum.Enum):
    NO_RESPONSE = "no response"


NO_RESPONSE: Final = _NoResponse.NO_RESPONSE
"""Returned by a handler whose request gets no answer (a Produce with acks=0)."""


class RequestContext:
    """One request's surroundings: its header, its connection, the broker that serves it."""

    __slots__ = ("_pool", "apis", "broker", "request")

    def __init__(
        self,
        request: KafkaRequest,
        broker: LocalBroker,
        apis: ApiTable,
        pool: RequestHandlerPool,
    ) -> None:
        """Made by the dispatcher, one per request."""
        self.request = request
        """The frame, its header, its timestamps, its connection."""
        self.broker = broker
        """The broker that serves it."""
        self.apis = apis
        """What this plane serves."""
        self._pool = pool

    is_large: ClassVar[bool] = False
    """Whether the request has so many elements that it must not be handled at once."""

    @property
    def api_version(self) -> int:
        """Version of the request, and of its response."""
        return self.request.api_version

    @property
    def client_id(self) -> str:
        """What the client calls itself; empty if it does not say."""
        return self.request.client_id or ""

    @property
    def principal(self) -> KafkaPrincipal:
        """Who the client is; ANONYMOUS on a listener without authentication."""
        return self.request.connection.principal

    @property
    def listener_name(self) -> str:
        """The listener that the request came through."""
        return self.request.connection.listener_name

    @property
    def is_privileged(self) -> bool:
        """Whether it came over the control plane."""
        return self.request.connection.is_privileged

    def keep_answer(self, version: int) -> None:
        """Let the answer be given again to whoever asks the same on the same listener.

        Args:
            version: of what the answer is made of, from before it was looked at.
        """
        self.request.kept_at = version

    def mutation_quota(self, *, strict_since: int) -> MutationQuota:
        """What this request may change of the cluster; its answer says the delay, if any.

        Args:
            strict_since: first version of the API whose clients know what
                THROTTLING_QUOTA_EXCEEDED means; what older ones ask for happens, and they wait
                afterwards.

        Source: Kafka ``ControllerMutationQuotaManager.newQuotaFor`` (KIP-599).
        """
        quota = self.broker.quotas.mutation_quota(
            self.principal.name, self.client_id, is_strict=self.api_version >= strict_since
        )
        self.request.mutation_quota = quota
        return quota

    def delivery_wait(self, timeout_ms: int, reason: str) -> DeliveryWait:
        """How to wait for the brokers to hear of a change, parked.

        Args:
            timeout_ms: for how long, from now on; 0 or less is as long as it takes, within reason.
            reason: what for; the label of the count and of the metric.
        """
        seconds = timeout_ms / 1000 if timeout_ms > 0 else DELIVERY_SECONDS
        deadline = trio.current_time() + seconds
        return DeliveryWait(deadline, lambda: self.parked(reason))

    async def in_turns(self, steps: Steps[_T]) -> _T:
        """Do work that is made of steps, and let the event loop turn in between.

        Returns:
            What the steps return.

        Raises:
            Exception: what the steps raise.

        Cancellation: between two steps, and only when the broker stops.
        """
        return await self._pool.in_turns(steps)

    def breaks(self) -> Breaks:
        """When to let the event loop turn, for an ``async`` handler that works for long.

        It is asked after every piece of the work::

        breaks = ctx.breaks()
        for each in request.topics:
            ...
            if breaks.is_due():
                await breaks.take()
        """
        return self._pool.breaks()

    def parked(self, reason: str) -> AbstractAsyncContextManager[None]:
        """Wait without occupying a request handler.

        Args:
            reason: what for; the label of the count and of the metric.

        Raises:
            CloseConnection: the client went away meanwhile; nobody waits for the answer.

        Cancellation: the block is cancelled when the client goes away.
        """
        return self._pool.parked(self.request, reason)


class LargeRequestContext(RequestContext):
    """What a handler knows about a request that has many elements."""

    __slots__ = ()

    is_large = True
