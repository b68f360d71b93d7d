"""InitProducerId: what an idempotent producer asks for first.

Versions: InitProducerId 0-5.
Behaviour:
    * a producer without a transactional id gets a fresh producer id, epoch 0 (KIP-98); the id and
      epoch that it may send along (v3, KIP-360) are of no interest then, as in Kafka
    * transactional ids are refused with INVALID_REQUEST and a text in the log: there are no
      transactions here
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(init_producer_id, key=InitProducerIdRequest.API_KEY, versions=(0, 5))


def init_producer_id(ctx: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """Hand out a producer id that nobody had before, restarts included."""
    if request.transactional_id is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "transactions are not served here")
    return InitProducerIdResponse(producer_id=ctx.broker.producer_ids.next(), producer_epoch=0)
