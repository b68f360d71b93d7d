from __future__ import annotations

from collections import Counter

from trio_kafka_net.apis.error_counts import ErrorGatherers
from trio_kafka_net.protocol.messages import (
    ApiVersionsResponse,
    FetchResponse,
    FindCoordinatorResponse,
    ListGroupsResponse,
    ProduceResponse,
    SyncGroupResponse,
)

Partition = ProduceResponse.PartitionProduceResponse
Topic = ProduceResponse.TopicProduceResponse


def count(response, version: int, gatherers: ErrorGatherers | None = None) -> dict[int, int]:
    codes: list[int] = []
    (gatherers or ErrorGatherers()).of(type(response), version)(response, codes)
    return Counter(codes)


def test_a_top_level_code_counts_once():
    assert {0: 1} == count(ApiVersionsResponse(), 3)
    assert {27: 1} == count(SyncGroupResponse(error_code=27), 5)


def test_every_partition_counts_success_included():
    response = ProduceResponse(
        responses=[
            Topic(partition_responses=[Partition(error_code=0), Partition(error_code=3)]),
            Topic(partition_responses=[Partition(error_code=0)]),
        ]
    )
    assert {0: 2, 3: 1} == count(response, 9)


def test_top_level_and_partitions_add_up():
    partitions = [FetchResponse.PartitionData(error_code=1)]
    response = FetchResponse(
        responses=[FetchResponse.FetchableTopicResponse(partitions=partitions)]
    )
    assert {0: 1, 1: 1} == count(response, 12)


def test_a_code_that_the_version_lacks_does_not_count():
    """Fetch has a top-level code since v7, FindCoordinator none since v4."""
    partitions = [FetchResponse.PartitionData(error_code=1)]
    fetched = FetchResponse(responses=[FetchResponse.FetchableTopicResponse(partitions=partitions)])
    assert {1: 1} == count(fetched, 6)
    found = FindCoordinatorResponse(
        coordinators=[FindCoordinatorResponse.Coordinator(error_code=15)] * 2
    )
    assert {15: 2} == count(found, 4)
    assert {0: 1} == count(found, 3)


def test_empty_and_null_arrays_count_nothing():
    assert {} == count(ProduceResponse(), 9)
    assert {0: 1} == count(ListGroupsResponse(), 4)


def test_versions_of_one_class_are_kept_apart():
    gatherers = ErrorGatherers()
    response = FindCoordinatorResponse()
    assert [{0: 1}, {}, {0: 1}] == [count(response, version, gatherers) for version in (3, 4, 3)]
