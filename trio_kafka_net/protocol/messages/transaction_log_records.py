"""Keys and values of ``__transaction_state``.

In a record each is preceded by its version, an int16.

Source: Kafka ``TransactionLogKey.json`` and ``TransactionLogValue.json``.
"""

from __future__ import annotations

from trio_kafka_net.protocol.message import Message, Struct, field, message, struct


@message(versions=(0, 0))
class TransactionLogKey(Message):
    """Which transactional id."""

    transactional_id: str = field("string")


@message(versions=(0, 1), flexible_since=1)
class TransactionLogValue(Message):
    """The state of one transactional id; timestamps are ms since the epoch."""

    @struct
    class PartitionsSchema(Struct):
        """Kafka's ``PartitionsSchema``."""

        topic: str = field("string")
        partition_ids: list[int] = field("[]int32")

    producer_id: int = field("int64")
    previous_producer_id: int = field("int64", versions=(1, None), tag=0, default=-1)
    next_producer_id: int = field("int64", versions=(1, None), tag=1, default=-1)
    producer_epoch: int = field("int16")
    transaction_timeout_ms: int = field("int32")
    transaction_status: int = field("int8")
    transaction_partitions: list[TransactionLogValue.PartitionsSchema] | None = field(
        "[]PartitionsSchema", nullable=(0, None)
    )
    transaction_last_update_timestamp_ms: int = field("int64")
    transaction_start_timestamp_ms: int = field("int64")
    client_transaction_version: int = field("int16", versions=(1, None), tag=2)
