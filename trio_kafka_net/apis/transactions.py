"""InitProducerId: what an idempotent producer asks for first.

Versions: InitProducerId 0-5.
Behaviour:
    * a producer without a transactional id gets a fresh producer id, epoch 0 (KIP-98)
    * no id can be reserved on the disk: COORDINATOR_LOAD_IN_PROGRESS, the client tries again
    * transactional ids are refused with INVALID_REQUEST: there are no transactions here
Version notes:
    v3 the producer's id and epoch (KIP-360): of no interest without a transactional id, but one
    without the other is INVALID_REQUEST
    v4 PRODUCER_FENCED · v5 TRANSACTION_ABORTABLE: answers of transactions
"""

from __future__ import annotations

import logging
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


log = logging.getLogger(__name__)

_NONE = -1


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        init_producer_id,
        key=InitProducerIdRequest.API_KEY,
        versions=(0, 5),
        error_response=_init_producer_id_error,
    )


def init_producer_id(ctx: RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """Hand out a producer id that nobody had before, restarts included."""
    if request.transactional_id is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "transactions are not served here")
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a producer id needs an epoch")
    try:
        producer_id = ctx.broker.producer_ids.next()
    except OSError as error:
        log.error("no producer ids can be reserved: %s", error)
        raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS) from error
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


def _init_producer_id_error(
    request: InitProducerIdRequest, code: ErrorCode, text: str | None
) -> InitProducerIdResponse:
    return InitProducerIdResponse(error_code=code, producer_id=_NONE, producer_epoch=_NONE)
