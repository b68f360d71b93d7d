"""The largest requests that are let in take turns: none of them keeps the event loop for long.

Whoever asks whether the turn is over is told that it is. So each turn has one step of the work, and
what is counted is how much that is: calls of functions, which no clock and no neighbour disturbs.
"""

from __future__ import annotations

import gc
import sys

import pytest
import trio
import trio.testing

from trio_kafka_net.apis.dismantling import hold, hollow, let_go
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.metrics import names
from trio_kafka_net.network.turn import Breaks, finish
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import encode_request
from trio_kafka_net.protocol.messages import (
    ListGroupsRequest,
    ListGroupsResponse,
    ListOffsetsRequest,
)
from trio_kafka_net.testing.client import ConnectionClosedError
from trio_kafka_net.testing.largest_requests import largest_requests

from .lab import a_batch, a_fetch

ELEMENTS = 2000
MOST_CALLS = 6000
"""In a turn: a hundred elements are decoded or handled in that, and what else happens in a turn;
a request that is handled at once has several for each of its elements."""

AT_ONCE = {ApiKey.LEAVE_GROUP: "members"}
"""Arrays of which one thing is made, by C functions for the most part: 15 ms."""


FAR = 2**31 - 1

ListOffsetsTopic, OffsetPartition = ListOffsetsRequest.Topic, ListOffsetsRequest.Partition


def a_large_question(count: int = ELEMENTS) -> ListOffsetsRequest:
    partitions = [OffsetPartition(partition_index=each, timestamp=-1) for each in range(count)]
    return ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=partitions)])


def cases():
    table = KafkaApis.default().table(is_control_plane=False)
    for key, api in table.items():
        for name, request, version in largest_requests({key: api.max_version}, ELEMENTS):
            if AT_ONCE.get(key) != name.rpartition(" ")[2]:
                yield pytest.param(request, version, id=name)


class CallsPerTurn(trio.abc.Instrument):
    """Counts calls of functions between two looks at the sockets."""

    def __init__(self):
        self.calls = 0
        self.turns = []

    def __enter__(self):
        trio.lowlevel.add_instrument(self)
        sys.setprofile(self.count)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)
        trio.lowlevel.remove_instrument(self)

    def count(self, frame, event, arg):
        if event in {"call", "c_call"}:
            self.calls += 1

    def before_io_wait(self, timeout):
        self.turns.append(self.calls)

    def after_io_wait(self, timeout):
        self.calls = 0


@pytest.fixture
def turns_end(monkeypatch):
    """Every turn is over when anybody asks."""
    monkeypatch.setattr(Breaks, "is_due", lambda self: True)


@pytest.mark.usefixtures("turns_end")
@pytest.mark.parametrize(("request_", "version"), list(cases()))
async def test_no_turn_has_more_than_a_step_of_it(lab, request_, version):
    await lab.make_topic("t", partitions=2)
    frame = b"".join(bytes(piece) for piece in encode_request(request_, version, 7))
    async with await lab.connect() as client:
        await client.send_frame(frame)
        await client.receive_frame()  # once, for what is imported and compiled
        gc.collect()
        with CallsPerTurn() as counted:
            await client.send_frame(frame)
            await client.receive_frame()

    assert max(counted.turns) <= MOST_CALLS


async def test_a_large_request_is_answered_in_order_and_counted(lab):
    await lab.make_topic("t", partitions=2)

    answer = await lab.ask(a_large_question(), 7)

    partitions = answer.topics[0].partitions
    assert [each.partition_index for each in partitions] == list(range(ELEMENTS))
    assert [each.error_code for each in partitions] == [0, 0] + [3] * (ELEMENTS - 2)
    assert error_counts(lab) == {"NONE": 2, "UNKNOWN_TOPIC_OR_PARTITION": ELEMENTS - 2}


def error_counts(lab) -> dict[str, float]:
    family = lab.broker.metrics.collect()[names.ERRORS.name]
    return {each.labels[2]: each.value for each in family.samples if "ListOffsets" in each.labels}


async def test_a_large_request_that_is_malformed_closes_the_connection(lab):
    frame = b"".join(encode_request(a_large_question(), 7, 1))
    async with await lab.connect() as client:
        await client.send_frame(frame[:-20])
        with pytest.raises(ConnectionClosedError):
            await client.receive_frame()
    assert await lab.ask(ListGroupsRequest(), 4) == ListGroupsResponse()


async def test_a_handler_may_keep_a_large_request(open_lab):
    kept = []

    def list_offsets(ctx, request):
        kept.append(request)
        raise KafkaError(ErrorCode.NOT_COORDINATOR)

    apis = KafkaApis.default()
    apis.add(list_offsets, key=ApiKey.LIST_OFFSETS, replace=True)
    lab = await open_lab(apis)

    answer = await lab.ask(a_large_question(), 7)

    assert [each.error_code for each in answer.topics[0].partitions] == [16] * ELEMENTS
    assert kept[0] == a_large_question()


@pytest.mark.parametrize("count", [1, ELEMENTS])
async def test_a_handler_may_be_a_generator(open_lab, count):
    def list_groups(ctx, request):
        response = ListGroupsResponse()
        for number in range(count):
            response.groups.append(ListGroupsResponse.ListedGroup(group_id=str(number)))
            yield
        return response

    apis = KafkaApis.default()
    apis.add(list_groups, key=ApiKey.LIST_GROUPS, replace=True)
    lab = await open_lab(apis)

    answer = await lab.ask(ListGroupsRequest(), 4)

    assert [each.group_id for each in answer.groups] == [str(each) for each in range(count)]


@pytest.mark.parametrize("fails_at", [0, ELEMENTS])
async def test_a_generator_may_fail_and_may_be_intercepted(open_lab, fails_at):
    def list_groups(ctx, request):
        for _ in range(fails_at):
            yield
        raise KafkaError(ErrorCode.NOT_COORDINATOR)

    for apis in (KafkaApis.default(), KafkaApis.default()):
        apis.add(list_groups, key=ApiKey.LIST_GROUPS, replace=True)
    apis.interceptor(ApiKey.LIST_GROUPS)(lambda ctx, request, call_next: call_next(ctx, request))
    lab = await open_lab(apis)

    assert (await lab.ask(ListGroupsRequest(), 4)).error_code == ErrorCode.NOT_COORDINATOR


async def test_a_large_fetch_waits_for_records_and_is_woken(lab, nursery):
    await lab.make_topic("t", partitions=1)
    request = a_fetch("t", max_wait_ms=FAR)
    request.topics[0].partitions *= ELEMENTS
    answers = []

    async def fetch():
        answers.append(await lab.ask(request, 12))

    nursery.start_soon(fetch)
    await lab.parked(1)
    await lab.produce("t", a_batch(b"woken"))
    await lab.parked(0)
    while not answers:
        await trio.testing.wait_all_tasks_blocked()

    partitions = answers[0].responses[0].partitions
    assert len(partitions) == ELEMENTS
    assert bytes(partitions[0].records)


async def test_a_large_fetch_ends_with_its_client(lab):
    await lab.make_topic("t", partitions=1)
    request = a_fetch("t", max_wait_ms=FAR)
    request.topics[0].partitions *= ELEMENTS
    async with await lab.connect() as client:
        await client.send_frame(b"".join(encode_request(request, 12, 1)))
        await lab.parked(1)
    await lab.parked(0)


def test_elements_are_let_go_of_in_steps_and_stay_in_what_others_keep():
    message = a_large_question()
    held = finish(hold([message]))

    steps = sum(1 for _ in let_go(held))

    assert steps == ELEMENTS // 100
    assert not any(held)
    assert message == a_large_question()
    assert hollow(message) == ListOffsetsRequest()
