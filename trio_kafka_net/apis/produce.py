"""Produce.

Versions: 3-13.
Behaviour:
    * the batches go from the request's memory to the file, uncopied; offsets are stamped in place
    * acks=1 answers after the append, acks=all after every replica in sync has it; with one
      replica that is the same moment
    * acks=0 answers nothing; if anything failed, the connection is closed so that the client
      notices
    * a large request lets the event loop turn between partitions
    * transactional batches are refused with INVALID_TXN_STATE: there are no transactions here
Version notes:
    v3 record batch v2 (KIP-98) · v5 log start offset · v7 zstd (KIP-110) · v8 error texts (KIP-467)
    v10 current leader (KIP-951) · v12 transactions v2 (KIP-890) · v13 topic ids (KIP-516)
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

import trio

from trio_kafka_net.errors import CloseConnection, KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.produce import ProduceRequest, ProduceResponse

from .context import NO_RESPONSE, RequestContext

if TYPE_CHECKING:
    from trio_kafka_net.broker.partition import Partition

    from .registry import Answer, KafkaApis

_ZSTD_SINCE = 7
_TOPIC_IDS_SINCE = 13

_INLINE_BYTES = 2 * 1024 * 1024
"""Appended without a checkpoint; some 3 ms at worst (benchmarks/log_append.py)."""

PartitionData = ProduceRequest.PartitionProduceData
PartitionResponse = ProduceResponse.PartitionProduceResponse


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(produce, key=ProduceRequest.API_KEY, error_response=_produce_error)


def produce(ctx: RequestContext, request: ProduceRequest) -> Answer | Awaitable[Answer]:
    """Append to partitions, each for itself."""
    if request.acks not in (-1, 0, 1):
        raise KafkaError(
            ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {request.acks}, allowed are -1, 0 and 1"
        )
    if len(ctx.request.payload) > _INLINE_BYTES or ctx.broker.flushes_before_acknowledging:
        return _produce_large(ctx, request)
    appends = _Appends(ctx, request)
    for _ in appends.run():
        pass
    return _finish(appends)
