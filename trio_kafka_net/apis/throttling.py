"""What an answered request costs its client, and how long the client has to wait for it.

Asked by the dispatcher about every answer, as long as anybody has a quota; without quotas the
dispatcher looks at one flag. The answer goes out at once and says the delay in its
``throttle_time_ms``; the connection is not read before the delay is over (KIP-219).

=======================  ==========================  ============================================
quota                    what is counted             if it is exceeded
=======================  ==========================  ============================================
``producer_byte_rate``   the Produce request         it is done all the same, acks=0 too
``consumer_byte_rate``   the Fetch response          it is answered without records, and not counted
``request_percentage``   time of a request handler   the delay is one window at most
``controller_mutation``  partitions made or deleted  see ``MutationQuota``
=======================  ==========================  ============================================

Of several delays the longest counts. Requests of the cluster itself are exempt: their time is
counted as nobody's, as that of a Produce with acks=0, which has no answer to tell a delay in.

What is different from Kafka: a Fetch response that is larger than all windows may carry is given
out if nothing was fetched in them, and its delay follows; in Kafka its consumer never gets it. For
the same reason a Fetch is not emptied because of the time of handlers. Time of network threads is
not counted: all tasks share a thread, and what a slow client costs in it is not its sending time.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from trio_kafka_net.broker.client_quotas import ClientQuotas, now_ms
from trio_kafka_net.broker.quota_manager import QuotaManager
from trio_kafka_net.broker.quota_rates import SampledRate
from trio_kafka_net.broker.throttler import Throttler
from trio_kafka_net.config.settings import MAX_INT
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.message import Message
from trio_kafka_net.protocol.messages.fetch import FetchResponse

from .registry import CONTROLLER_APIS

if TYPE_CHECKING:
    from trio_kafka_net.broker.quota_manager import Sensor
    from trio_kafka_net.broker.quota_rates import MutationBucket

    from .dispatch import KafkaRequest

    AnySensor = Sensor[SampledRate] | Sensor[MutationBucket]

_EXEMPT: Final = CONTROLLER_APIS | {ApiKey.WRITE_TXN_MARKERS}
"""What only the cluster sends; Kafka's ``ApiKeys.clusterAction``."""


class ClientThrottle:
    """Charges clients for their requests; one per dispatcher.

    Source: Kafka ``RequestHandlerHelper``, ``KafkaApis.handleProduceRequest`` and
    ``handleFetchRequest`` (4.0).
    """

    def __init__(self, quotas: ClientQuotas, throttler: Throttler) -> None:
        """Charge by ``quotas``; delays are given to ``throttler``."""
        self._quotas = quotas
        self._throttler = throttler

    def charge(self, request: KafkaRequest, version: int, response: Message) -> Message:
        """Count a request that is about to be answered, and hold its client back if need be.

        Args:
            request: not answered yet; called a second time, it is not charged again.
            version: of the response.
            response: what it is to be answered with.

        Returns:
            What to answer in its place: ``response`` with the delay, or an empty one.
        """
        if request.throttle_time_ms:
            _tell(response, request.throttle_time_ms)  # this answer replaces one that failed
            return response
        charge = _Charge(self._quotas, request)
        if charge.is_exempt(response):
            self._quotas.exempt_time_ns += charge.handler_time_ns()
            return response
        charge.add_request_time()
        charge.add_mutations()
        if request.api.key is ApiKey.PRODUCE:
            charge.add_bytes(self._quotas.produce, len(request.payload))
        elif isinstance(response, FetchResponse):
            response = charge.add_fetch(version, response)
        self._hold_back(charge, response)
        return response

    def charge_opaque(self, request: KafkaRequest) -> None:
        """Count a request that is answered with bytes, in which no delay can be told."""
        charge = _Charge(self._quotas, request)
        charge.add_request_time()
        charge.add_mutations()
        self._hold_back(charge, None)

    def charge_unanswered(self, request: KafkaRequest) -> None:
        """Count a Produce with acks=0, which is about to be done without an answer."""
        charge = _Charge(self._quotas, request)
        self._quotas.exempt_time_ns += charge.handler_time_ns()
        charge.add_bytes(self._quotas.produce, len(request.payload))
        self._hold_back(charge, None)

    def _hold_back(self, charge: _Charge, response: Message | None) -> None:
        delay_ms = min(charge.delay_ms, MAX_INT)
        if delay_ms <= 0 or charge.sensor is None:
            return
        charge.sensor.throttles += 1
        charge.sensor.throttle_ms += delay_ms
        charge.request.throttle_time_ms = delay_ms
        _tell(response, delay_ms)
        self._throttler.throttle(charge.request, delay_ms, charge.kind)


class _Charge:
    """The bill for one request; the longest delay that any item of it asks for."""

    __slots__ = (
        "_client_id",
        "_now_ms",
        "_quotas",
        "_user",
        "delay_ms",
        "kind",
        "request",
        "sensor",
    )

    def __init__(self, quotas: ClientQuotas, request: KafkaRequest) -> None:
        self._quotas = quotas
        self.request = request
        self._user = request.connection.principal.name
        self._client_id = request.client_id or ""
        self._now_ms = now_ms()
        self.delay_ms = 0
        self.kind = ""
        self.sensor: AnySensor | None = None

    def is_exempt(self, response: Message) -> bool:
        """Whether the cluster itself asks; whoever only pretends to be it is not exempt."""
        refused = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        return self.request.api.key in _EXEMPT and getattr(response, "error_code", 0) != refused

    def handler_time_ns(self) -> int:
        """How long the request has occupied a handler; parked time is not part of it."""
        request = self.request
        return perf_counter_ns() - request.dequeue_time_ns - request.parked_time_ns

    def add_request_time(self) -> None:
        manager = self._quotas.request
        if manager.is_enforced:
            self._add(manager, self.handler_time_ns(), self._quotas.longest_request_delay_ms)

    def add_mutations(self) -> None:
        quota = self.request.mutation_quota
        if quota is not None and quota.sensor is not None:
            self._longest(quota.delay_ms(self._now_ms), self._quotas.mutations.name, quota.sensor)

    def add_bytes(self, manager: QuotaManager[SampledRate], size: int) -> None:
        if manager.is_enforced:
            self._add(manager, size, MAX_INT)

    def add_fetch(self, version: int, response: FetchResponse) -> FetchResponse:
        """Count a Fetch response, or make it an empty one."""
        manager = self._quotas.fetch
        if not manager.is_enforced:
            return response
        sensor = manager.sensor(self._user, self._client_id, self._now_ms)
        if sensor is None:
            return response
        usage = sensor.usage
        before = usage.total(self._now_ms)
        size = sum(map(len, self.request.api.encoder(version)(response, bytearray())))
        usage.record(size, self._now_ms)
        delay_ms = usage.delay_ms(self._now_ms)
        self._longest(delay_ms, manager.name, sensor)
        if not delay_ms or not before or response.error_code:
            return response
        usage.record(-size, self._now_ms)
        return FetchResponse(session_id=response.session_id)

    def _add(self, manager: QuotaManager[SampledRate], amount: int, longest_ms: int) -> None:
        sensor = manager.sensor(self._user, self._client_id, self._now_ms)
        if sensor is not None:
            sensor.usage.record(amount, self._now_ms)
            delay_ms = min(longest_ms, sensor.usage.delay_ms(self._now_ms))
            self._longest(delay_ms, manager.name, sensor)

    def _longest(self, delay_ms: int, kind: str, sensor: AnySensor) -> None:
        if delay_ms > self.delay_ms:
            self.delay_ms, self.kind, self.sensor = delay_ms, kind, sensor


def _tell(response: Message | None, delay_ms: int) -> None:
    """Say the delay in a response that has a field for it; what is there already may be more."""
    told = getattr(response, "throttle_time_ms", None)
    if told is not None:
        response.throttle_time_ms = max(told, delay_ms)  # type: ignore[union-attr]  # just seen
