"""From a frame to a handler and back, and what becomes of handlers that fail."""

import logging

import pytest
import trio

from trio_kafka_net.apis.context import NO_RESPONSE
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.errors import CloseConnection, KafkaError, StorageError
from trio_kafka_net.network.framing import Send
from trio_kafka_net.network.principal import ANONYMOUS
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import encode_response
from trio_kafka_net.protocol.messages import (
    ApiVersionsRequest,
    DescribeClusterRequest,
    HeartbeatRequest,
    ListGroupsRequest,
    ListGroupsResponse,
    ListOffsetsRequest,
    MetadataRequest,
)
from trio_kafka_net.testing.client import ConnectionClosedError


def raising(error, *, late=False):
    def fail(ctx, request):
        raise error

    async def fail_late(ctx, request):
        await trio.lowlevel.checkpoint()
        raise error

    return fail_late if late else fail


async def serve(open_lab, function, key=ApiKey.LIST_GROUPS, apis=None):
    apis = apis or KafkaApis.default()
    apis.add(function, key=key, replace=True)
    return await open_lab(apis)


def lines(caplog):
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.levelno >= logging.INFO and ".log." not in record.name
    ]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "level"),
    [
        (KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, "no"), ErrorCode.GROUP_ID_NOT_FOUND, None),
        (KafkaError(16, "no"), ErrorCode.NOT_COORDINATOR, None),
        (KafkaError(12345, "no"), ErrorCode.UNKNOWN_SERVER_ERROR, None),
        (StorageError("no disk"), ErrorCode.KAFKA_STORAGE_ERROR, "ERROR"),
        (ZeroDivisionError("oh"), ErrorCode.UNKNOWN_SERVER_ERROR, "ERROR"),
        (OSError("oh"), ErrorCode.UNKNOWN_SERVER_ERROR, "ERROR"),
    ],
)
async def test_failure_of_a_handler_is_answered(open_lab, caplog, error, code, level, late):
    """KA-06."""
    lab = await serve(open_lab, raising(error, late=late))
    client = await lab.connect()

    response = await client.request(ListGroupsRequest(), 3)

    assert response.error_code == code
    assert [line[0] for line in lines(caplog)] == ([level] if level else [])
    assert (await client.request(ApiVersionsRequest(), 0)).error_code == 0


@pytest.mark.parametrize("late", [False, True])
async def test_unexpected_failure_is_logged_with_its_traceback(open_lab, caplog, late):
    lab = await serve(open_lab, raising(ZeroDivisionError("oh"), late=late))
    await lab.ask(ListGroupsRequest(), 3)

    ((level, text),) = lines(caplog)

    assert level == "ERROR"
    assert text.startswith("<LIST_GROUPS v3 #0 of 'raw-client' from 127.0.0.1:")
    assert text.endswith("its handler failed")
    assert "ZeroDivisionError: oh" in caplog.text


async def test_text_of_a_failure_is_told_where_there_is_a_place(open_lab):
    error = KafkaError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "not you")
    lab = await serve(open_lab, raising(error), ApiKey.DESCRIBE_CLUSTER)

    response = await lab.ask(DescribeClusterRequest(), 1)

    assert (response.error_code, response.error_message) == (error.code, "not you")


async def test_replaced_handler_leaves_its_way_to_tell_failures(open_lab):
    """Metadata has a code for each topic, and since version 13 only one for the whole."""
    error = KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    lab = await serve(open_lab, raising(error), ApiKey.METADATA)
    request = MetadataRequest(topics=[MetadataRequest.Topic(name=name) for name in "ab"])

    response = await lab.ask(request, 12)

    assert [(each.name, each.error_code) for each in response.topics] == [
        ("a", error.code),
        ("b", error.code),
    ]


@pytest.mark.parametrize("late", [False, True])
async def test_handler_may_close_the_connection(open_lab, caplog, late):
    lab = await serve(open_lab, raising(CloseConnection("enough"), late=late))

    with pytest.raises(ConnectionClosedError) as closed:
        await lab.ask(ListGroupsRequest(), 3)

    assert closed.value.received == 0
    assert lines(caplog) == []


@pytest.mark.parametrize("late", [False, True])
async def test_failure_of_an_api_without_a_place_for_it_closes_the_connection(
    open_lab, caplog, late
):
    """ListOffsets has codes for partitions only; this handler does not say how to fill them."""
    apis = KafkaApis()
    lab = await serve(open_lab, raising(ValueError("oh"), late=late), ApiKey.LIST_OFFSETS, apis)

    with pytest.raises(ConnectionClosedError):
        await lab.ask(ListOffsetsRequest(), 7)

    assert "has no place for error UNKNOWN_SERVER_ERROR" in caplog.text
    assert lab.plane().handler_pool.statistics().running == 0


@pytest.mark.parametrize(
    "answer",
    [None, 7, "text", ListGroupsResponse(error_code="x"), DescribeClusterRequest()],
    ids=["None", "int", "str", "bad value", "other message"],
)
@pytest.mark.parametrize("late", [False, True])
async def test_answer_that_is_none_is_a_failure_of_the_handler(open_lab, caplog, answer, late):
    async def answer_late(ctx, request):
        await trio.lowlevel.checkpoint()
        return answer

    lab = await serve(open_lab, answer_late if late else lambda ctx, request: answer)

    response = await lab.ask(ListGroupsRequest(), 3)

    assert response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert [level for level, _ in lines(caplog)] == ["ERROR"]


async def test_handler_may_answer_with_a_send(open_lab):
    def answer(ctx, request):
        made = ListGroupsResponse(error_code=5)
        return Send(encode_response(made, ctx.api_version, ctx.request.correlation_id))

    lab = await serve(open_lab, answer)

    assert (await lab.ask(ListGroupsRequest(), 3)).error_code == 5


async def test_handler_may_answer_nothing(open_lab):
    lab = await serve(open_lab, lambda ctx, request: NO_RESPONSE, ApiKey.HEARTBEAT)
    client = await lab.connect()

    await client.send_request(HeartbeatRequest(), 0, answered=False)

    assert (await client.request(ApiVersionsRequest(), 0)).error_code == 0


@pytest.mark.parametrize("plane", ["data", "control"])
async def test_context_knows_where_the_request_comes_from(open_lab, plane):
    seen = []

    def answer(ctx, request):
        seen.append((ctx.listener_name, ctx.is_privileged, ctx.client_id, ctx.api_version))
        seen.append((ctx.principal, ctx.broker.node_id, ApiKey.PRODUCE in ctx.apis))
        raise KafkaError(ErrorCode.INVALID_REQUEST)

    lab = await serve(open_lab, answer, ApiKey.DESCRIBE_CLUSTER)
    client = await lab.connect(plane, client_id=None)

    await client.request(DescribeClusterRequest(), 1)

    privileged = plane == "control"
    name = "CONTROLLER" if privileged else "PLAINTEXT"
    assert seen == [(name, privileged, "", 1), (ANONYMOUS, 1, not privileged)]
