"""DescribeLogDirs, AlterReplicaLogDirs: where partitions are on the disk, and how large they are.

Versions: DescribeLogDirs 1-4, AlterReplicaLogDirs 1-2.
Behaviour:
    * there is one data directory, and every partition that is online is listed in it
    * a partition that is asked for and not here, or offline, is left out, as Kafka leaves it out
    * a disk that cannot be asked answers KAFKA_STORAGE_ERROR in place of its partitions
    * moving a partition to the directory where it is succeeds; any other directory, and the same
      one in other words, is LOG_DIR_NOT_FOUND
    * a partition named several times is moved once, to the directory named last
Version notes:
    DescribeLogDirs v3 top-level error code · v4 size of the disk (KIP-827)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from trio_kafka_net.broker.log.unified_log import UnifiedLog
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of
from trio_kafka_net.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
)
from trio_kafka_net.protocol.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis

_MAX_NAME_BYTES = 255
_LONGEST_SUFFIX = len("-.-future") + 32
"""What a directory's name has beside topic and partition while it moves."""

Result = DescribeLogDirsResponse.Result
PartitionResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirPartitionResult


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        describe_log_dirs,
        key=DescribeLogDirsRequest.API_KEY,
        versions=(1, 4),
        error_response=_describe_error,
    )
    apis.add(
        alter_replica_log_dirs,
        key=AlterReplicaLogDirsRequest.API_KEY,
        error_response=_alter_error,
    )


async def describe_log_dirs(
    ctx: RequestContext, request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    """Describe the data directory and the partitions in it.

    Source: Kafka ``ReplicaManager.describeLogDirs`` (4.1).
    """
    log_manager = ctx.broker.replicas.log_manager
    result = Result(log_dir=str(log_manager.path.absolute()))
    try:
        disk = await trio.to_thread.run_sync(os.statvfs, log_manager.path)
    except OSError:
        result.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        return DescribeLogDirsResponse(results=[result])
    result.total_bytes = disk.f_frsize * disk.f_blocks
    result.usable_bytes = disk.f_frsize * disk.f_bavail
    if request.topics is None:
        logs = [log_manager.get_log(*partition.key) for partition in ctx.broker.replicas]
    else:
        logs = await ctx.in_turns(_logs_asked_for(ctx, request.topics))
    result.topics = _describe([log for log in logs if log is not None and log.failure is None])
    return DescribeLogDirsResponse(results=[result])


def _logs_asked_for(
    ctx: RequestContext, topics: Iterable[DescribeLogDirsRequest.DescribableLogDirTopic]
) -> Steps[list[UnifiedLog | None]]:
    """The logs of partitions that are here, each once."""
    # The store has those of other brokers as well.
    here, log_of = ctx.broker.replicas.get_partition, ctx.broker.replicas.log_manager.get_log
    logs: dict[tuple[str, int], UnifiedLog | None] = {}
    for topic in topics:
        for index in topic.partitions:
            if here(topic.topic, index) is not None:
                logs[topic.topic, index] = log_of(topic.topic, index)
            yield
        yield
    return list(logs.values())


def _describe(logs: Iterable[UnifiedLog]) -> list[DescribeLogDirsResponse.Topic]:
    topics: dict[str, DescribeLogDirsResponse.Topic] = {}
    for log in logs:
        name, index = log.topic_partition
        topic = topics.setdefault(name, DescribeLogDirsResponse.Topic(name=name))
        topic.partitions.append(
            DescribeLogDirsResponse.Partition(
                partition_index=index,
                partition_size=log.size_in_bytes,
                offset_lag=max(log.high_watermark - log.log_end_offset, 0),
            )
        )
    return list(topics.values())


def _describe_error(
    request: DescribeLogDirsRequest, code: ErrorCode, text: str | None
) -> DescribeLogDirsResponse:
    return DescribeLogDirsResponse(error_code=code)


def alter_replica_log_dirs(
    ctx: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """Move partitions to the directory where they are.

    Source: Kafka ``ReplicaManager.alterReplicaLogDirs`` (4.1).
    """
    paths = {
        (topic.name, index): directory.path
        for directory in request.dirs
        for topic in directory.topics
        for index in topic.partitions
    }
    results: dict[str, list[PartitionResult]] = {}
    for (name, index), path in paths.items():
        results.setdefault(name, []).append(
            PartitionResult(partition_index=index, error_code=_move(ctx, name, index, path))
        )
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult(
                topic_name=name, partitions=partitions
            )
            for name, partitions in results.items()
        ]
    )


def _move(ctx: RequestContext, name: str, index: int, path: str) -> ErrorCode:
    replicas = ctx.broker.replicas
    if len(f"{name}{index}") + _LONGEST_SUFFIX > _MAX_NAME_BYTES:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    if path != str(replicas.log_manager.path.absolute()):
        return ErrorCode.LOG_DIR_NOT_FOUND
    try:
        replicas.partition_or_raise(name, index, must_lead=False)
    except KafkaError as error:
        return error_code_of(error)
    return ErrorCode.NONE


def _alter_error(
    request: AlterReplicaLogDirsRequest, code: ErrorCode, text: str | None
) -> AlterReplicaLogDirsResponse:
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult(
                topic_name=topic.name,
                partitions=[
                    PartitionResult(partition_index=index, error_code=code)
                    for index in topic.partitions
                ],
            )
            for directory in request.dirs
            for topic in directory.topics
        ]
    )
