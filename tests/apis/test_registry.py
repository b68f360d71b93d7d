"""KafkaApis: what is registered is what is served and advertised, per plane."""

import inspect
import re

import pytest

from trio_kafka_net.apis import (
    acls,
    alter_configs,
    cluster,
    configs,
    controller_requests,
    features,
    fetch,
    group_admin,
    group_members,
    group_offsets,
    groups,
    log_dirs,
    offset_fetch,
    offsets,
    partition_admin,
    partitions,
    produce,
    quotas,
    scram,
    topics,
    transactions,
)
from trio_kafka_net.apis.registry import CONTROL_PLANE_APIS, CONTROLLER_APIS, KafkaApis
from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.protocol.api_keys import ApiKey, request_class
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    FindCoordinatorRequest,
    ListGroupsRequest,
    ListGroupsResponse,
    MetadataRequest,
    ProduceRequest,
)

from .lab import a_batch, a_produce

FAMILIES = [
    acls,
    alter_configs,
    cluster,
    configs,
    controller_requests,
    features,
    fetch,
    group_admin,
    group_members,
    group_offsets,
    groups,
    log_dirs,
    offset_fetch,
    offsets,
    partition_admin,
    partitions,
    produce,
    quotas,
    scram,
    topics,
    transactions,
]


def handle(ctx, request: ListGroupsRequest) -> ListGroupsResponse:
    return ListGroupsResponse()


def ranges(table):
    return {key: (api.min_version, api.max_version) for key, api in table.items()}


def test_handler_serves_the_api_of_its_request_class():
    apis = KafkaApis()

    assert apis.handler()(handle) is handle
    table = apis.table(is_control_plane=False)
    assert ranges(table) == {ApiKey.LIST_GROUPS: ListGroupsRequest.VALID_VERSIONS}
    assert table[ApiKey.LIST_GROUPS].function is handle


def test_handler_can_serve_some_versions_only():
    apis = KafkaApis()
    apis.handler(versions=(1, 3))(handle)

    assert ranges(apis.table(is_control_plane=False)) == {ApiKey.LIST_GROUPS: (1, 3)}


@pytest.mark.parametrize("versions", [(0, 99), (-1, 2), (3, 2)])
def test_versions_that_do_not_exist_are_refused(versions):
    with pytest.raises(LocalProtocolError, match="LIST_GROUPS has versions"):
        KafkaApis().handler(versions=versions)(handle)


def test_second_handler_needs_to_say_that_it_replaces():
    apis = KafkaApis()
    apis.handler()(handle)

    with pytest.raises(LocalProtocolError, match="replace=True"):
        apis.handler()(handle)
    apis.handler(replace=True, versions=(1, 1))(handle)

    assert ranges(apis.table(is_control_plane=False)) == {ApiKey.LIST_GROUPS: (1, 1)}


@pytest.mark.parametrize(
    "function", [lambda ctx, request: None, lambda: None, len.__call__], ids=["plain", "no", "odd"]
)
def test_handler_of_no_api_is_refused(function):
    with pytest.raises((LocalProtocolError, ValueError)):
        KafkaApis().handler()(function)


def test_table_keeps_what_was_registered_when_it_was_made():
    apis = KafkaApis()
    table = apis.table(is_control_plane=False)
    apis.handler()(handle)

    assert table == {}


def test_registries_share_nothing():
    changed = KafkaApis.default()
    changed.add(handle, key=ApiKey.METADATA, versions=(1, 1), replace=True)

    assert KafkaApis.default().table(is_control_plane=False)[ApiKey.METADATA].max_version == 13


def test_planes_serve_their_own_apis():
    apis = KafkaApis()
    for key in ApiKey:
        apis.add(handle, key=key)

    assert set(apis.table(is_control_plane=True)) == CONTROL_PLANE_APIS
    assert set(apis.table(is_control_plane=False)) == set(ApiKey) - CONTROLLER_APIS


def test_control_plane_carries_no_data():
    carrying = {
        ApiKey.PRODUCE,
        ApiKey.FETCH,
        ApiKey.LIST_OFFSETS,
        ApiKey.JOIN_GROUP,
        ApiKey.OFFSET_COMMIT,
        ApiKey.FIND_COORDINATOR,
        ApiKey.INIT_PRODUCER_ID,
    }

    assert carrying & CONTROL_PLANE_APIS == set()
    assert CONTROLLER_APIS <= CONTROL_PLANE_APIS


def test_apis_of_a_plane_are_in_the_order_of_their_keys():
    table = KafkaApis.default().table(is_control_plane=False)

    assert list(table) == sorted(table)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.split(".")[-1])
def test_version_block_of_a_module_says_what_it_registers(family):
    apis = KafkaApis()
    family.register(apis)
    (line,) = re.findall(r"^Versions: ([^.]+)\.$", inspect.getdoc(family), re.MULTILINE)

    told = {
        name: (int(first), int(last))
        for name, first, last in re.findall(r"(\w+) (\d+)-(\d+)", line)
    }

    assert told == {
        request_class(key).__name__.removesuffix("Request"): versions
        for is_control_plane in (False, True)
        for key, versions in ranges(apis.table(is_control_plane=is_control_plane)).items()
    }


def test_versions_that_kafka_has_not_released_are_served_on_request_only():
    apis = KafkaApis.default()

    assert apis.table(is_control_plane=False)[ApiKey.OFFSET_COMMIT].max_version == 9
    table = apis.table(is_control_plane=False, unstable=True)
    assert table[ApiKey.OFFSET_COMMIT].max_version == 10
    assert table[ApiKey.METADATA].max_version == 13


def test_versions_that_were_asked_for_are_served_stable_or_not():
    apis = KafkaApis()
    apis.add(handle, key=ApiKey.OFFSET_COMMIT, versions=(5, 10))

    assert ranges(apis.table(is_control_plane=False)) == {ApiKey.OFFSET_COMMIT: (5, 10)}


# Interceptors


async def test_interceptor_sees_the_request_and_decides_about_the_answer(open_lab):
    apis = KafkaApis.default()
    seen = []

    @apis.interceptor(ApiKey.METADATA)
    async def outer(ctx, request, call_next):
        seen.append(("outer", ctx.client_id, request.topics))
        response = await call_next(ctx, request)
        response.cluster_id = "changed"
        return response

    @apis.interceptor(ApiKey.METADATA, ApiKey.FIND_COORDINATOR)
    def inner(ctx, request, call_next):
        seen.append("inner")
        return call_next(ctx, request)

    lab = await open_lab(apis)
    response = await lab.ask(MetadataRequest(topics=[]), 9)
    await lab.ask(FindCoordinatorRequest(), 3)

    assert response.cluster_id == "changed"
    assert seen == [("outer", "raw-client", []), "inner", "inner"]


async def test_interceptor_may_answer_itself(open_lab):
    apis = KafkaApis.default()

    @apis.interceptor(ApiKey.LIST_GROUPS)
    def answer(ctx, request, call_next):
        return ListGroupsResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)

    apis.handler(replace=True)(handle)
    lab = await open_lab(apis)

    assert (await lab.ask(ListGroupsRequest(), 3)).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


async def test_interceptor_sees_waiting_handlers_through(open_lab):
    apis = KafkaApis.default()

    @apis.interceptor(ApiKey.PRODUCE)
    async def watch(ctx, request, call_next):
        response = await call_next(ctx, request)
        response.throttle_time_ms = 5
        return response

    lab = await open_lab(apis, log_flush_interval_messages=1)
    await lab.make_topic()

    response = await lab.ask(a_produce("t", a_batch()), 9)

    assert response.throttle_time_ms == 5
    assert response.responses[0].partition_responses[0].error_code == 0


# Everything that is advertised


@pytest.mark.parametrize("plane", ["data", "control"])
async def test_whatever_is_advertised_is_answered(lab, plane):
    """The smallest request of each API in each version, and its answer read in that version."""
    special = {
        ProduceRequest: {"acks": 1},
        ApiVersionsRequest: {"client_software_name": "a", "client_software_version": "1"},
    }
    client = await lab.connect(plane)
    advertised = (await client.request(ApiVersionsRequest(), 0)).api_keys
    asked = 0
    for each in advertised:
        cls = request_class(ApiKey(each.api_key))
        # Produce is told from 0 for the sake of old librdkafka (KAFKA-18659), served from 3.
        each.min_version = max(each.min_version, cls.VALID_VERSIONS[0])
        for version in range(each.min_version, each.max_version + 1):
            response = await client.request(cls(**special.get(cls, {})), version)

            assert response.API_KEY == each.api_key
            asked += 1
    assert asked == sum(each.max_version - each.min_version + 1 for each in advertised) > 20
