"""A Fetch that waits: whatever happens in whatever order, it is answered once, when it is time."""

from __future__ import annotations

import collections
import logging
import struct
from types import SimpleNamespace

import attrs
import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given, settings
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_kafka_net.apis import fetch as fetch_api
from trio_kafka_net.apis.dispatch import ApiDispatcher
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.network.connection import Connection
from trio_kafka_net.network.framing import FrameSend
from trio_kafka_net.network.handler_pool import RequestHandlerPool
from trio_kafka_net.network.request_channel import RequestChannel, SendResponse
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.headers import decode_response, encode_request
from trio_kafka_net.protocol.messages import FetchRequest, FetchResponse

from .lab import a_batch, a_fetch

SIZE = len(a_batch())
PARTITIONS = 3
OTHER_NODE = 9


class Peer:
    """The far end of one connection: takes what it is answered with."""

    listener_name = "PLAINTEXT"
    is_privileged = False

    def __init__(self):
        self.connection = Connection("peer", self, receive=None, processor=self)
        self.answers = []

    def fileno(self):
        return -1

    def send(self, data):
        self.sent += data
        return len(data)

    def sendmsg(self, buffers):
        return self.send(b"".join(map(bytes, buffers)))

    def enqueue_response(self, response):
        """What a Processor does with an answer."""
        self.sent = b""
        if isinstance(response, SendResponse):
            assert response.send.write_to(self)
        self.answers.append(self.sent[4:])
        response.request.leave_connection()

    def send_frame(self, request, frame):
        """The same with a frame in one piece."""
        self.enqueue_response(SendResponse(request, FrameSend(frame)))

    def go_away(self, request):
        self.connection.peer_gone = True
        if request.parked_scope is not None:
            request.parked_scope.cancel()


class Bench:
    """A broker's handlers without its network."""

    def __init__(self, broker, apis=None, handlers=2):
        self.local = broker.local
        self.finished = collections.Counter()
        self.channel = RequestChannel(500, lambda request: self.finished.update([request]))
        table = (apis or KafkaApis.default()).table(is_control_plane=False)
        self.dispatcher = ApiDispatcher(self.local, table)
        self.pool = RequestHandlerPool(self.channel, self.dispatcher.handle, handlers)
        self.dispatcher.pool = self.pool
        self.requests = []

    def ask(self, message, version=12):
        peer = Peer()
        frame = b"".join(bytes(piece) for piece in encode_request(message, version, 7, "c"))
        request = self.dispatcher.parse(peer.connection, memoryview(frame))
        self.requests.append(request)
        self.channel.put(request)
        return peer, request

    def append(self, index):
        partition = self.local.replicas.get_partition("t", index)
        partition.append_records(memoryview(bytearray(a_batch())), required_acks=1)

    def is_at_rest(self):
        """Whether nothing is left of any request."""
        assert self.local.replicas.purgatory.statistics().watches == 0
        assert self.local.replicas.purgatory.statistics().keys == 0
        assert self.pool.statistics().parked == {}
        assert self.pool.statistics().running == 0
        assert self.finished == dict.fromkeys(self.requests, 1)
        return True


def run(script, *arguments, **settings):
    """Run ``script(bench, clock, ...)`` on a broker of its own, with a clock that stands still."""
    clock = MockClock()

    async def main():
        config = BrokerConfig(
            listeners=("PLAINTEXT://127.0.0.1:0",), num_network_threads=1, trio_in_memory=True
        )
        async with open_broker(config) as broker, trio.open_nursery() as nursery:
            await broker.local.controller.create_topic("t", partitions=PARTITIONS)
            bench = Bench(broker, **settings)
            await nursery.start(bench.pool.run)
            await script(bench, clock, *arguments)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)


# -- any order ------------------------------------------------------------------------------------


@attrs.define
class Expected:
    """What should become of one Fetch."""

    peer: Peer
    request: object
    offsets: dict
    """{partition: where it begins to read}"""
    min_bytes: int
    seconds: int
    deadline: float | None = None
    is_gone: bool = False


class Model:
    """The partitions as a Fetch sees them, in numbers."""

    def __init__(self):
        self.ends = [0] * PARTITIONS
        self.errors = [0] * PARTITIONS
        self.waiting = []
        self.is_over = False

    def expected(self, fetch, now):
        """[(error code, bytes)] of the answer if it is time for one."""
        found = [
            (self.errors[index], 0)
            if self.errors[index]
            else (0, (self.ends[index] - offset) * SIZE)
            for index, offset in fetch.offsets.items()
        ]
        is_enough = sum(size for _, size in found) >= fetch.min_bytes
        is_over = now >= fetch.deadline or self.is_over or any(code for code, _ in found)
        return found if is_enough or is_over else None


index = st.integers(0, PARTITIONS - 1)
action = st.one_of(
    st.tuples(
        st.just("fetch"),
        st.sets(index, min_size=1),
        st.integers(1, 4),  # batches to wait for
        st.integers(1, 5),  # seconds
    ),
    st.tuples(st.just("append"), index),
    st.tuples(st.just("pass"), st.integers(1, 3)),
    st.tuples(st.just("go away"), st.integers(0, 5)),
    st.tuples(st.just("lead"), index),
    st.tuples(st.just("resign"), index),
    st.tuples(st.just("delete"), index),
    st.tuples(st.just("stop")),
)


@settings(max_examples=60)
@given(
    actions=st.lists(st.lists(action, min_size=1, max_size=3), max_size=12),
    handlers=st.sampled_from([1, 3]),
)
def test_each_is_answered_once_when_it_is_time(actions, handlers):
    lines = []
    handler = SimpleNamespace(level=logging.ERROR, handle=lines.append)
    logger = logging.getLogger("trio_kafka_net")
    logger.addHandler(handler)
    try:
        run(play, actions, handlers=handlers)
    finally:
        logger.removeHandler(handler)
    assert lines == []


async def play(bench, clock, actions):
    model = Model()
    for together in [*actions, [("stop",)]]:
        for each in together:  # without a checkpoint in between
            act(bench, clock, model, *each)
        await wait_all_tasks_blocked()
        check(bench, model)
    assert bench.is_at_rest()


def act(bench, clock, model, kind, *details):
    replicas = bench.local.replicas
    if kind == "fetch":
        indexes, batches, seconds = details
        offsets = {index: model.ends[index] for index in sorted(indexes)}
        asked = [("t", {"partition": i, "fetch_offset": at}) for i, at in offsets.items()]
        message = a_fetch(*asked, min_bytes=batches * SIZE, max_wait_ms=seconds * 1000)
        peer, request = bench.ask(message)
        model.waiting.append(Expected(peer, request, offsets, batches * SIZE, seconds))
    elif kind == "pass":
        clock.jump(details[0])
    elif kind == "go away":
        if details[0] < len(model.waiting):
            fetch = model.waiting[details[0]]
            fetch.is_gone = True
            fetch.peer.go_away(fetch.request)
    elif kind == "stop":
        model.is_over = True
        replicas.purgatory.end_waits()
    else:
        (index,) = details
        partition = replicas.get_partition("t", index)
        if partition is None:
            return
        if kind == "append" and partition.is_leader:
            model.ends[index] += 1
            bench.append(index)
        elif kind == "lead":
            model.errors[index] = 0
            partition.set_leadership(
                leader_id=1, leader_epoch=partition.leader_epoch + 1, isr=[1], replicas=[1]
            )
        elif kind == "resign":
            model.errors[index] = ErrorCode.NOT_LEADER_OR_FOLLOWER
            partition.resign()
        elif kind == "delete":
            model.errors[index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            replicas.remove_partition("t", index)


def check(bench, model):
    now = trio.current_time()
    still = []
    for fetch in model.waiting:
        if fetch.deadline is None:
            fetch.deadline = now + fetch.seconds  # its wait begins when a handler has it
        answers = fetch.peer.answers
        expected = model.expected(fetch, now)
        if fetch.is_gone:
            assert len(answers) == 1  # nothing, or what was there before the handler knew
        elif expected is None:
            assert answers == []
            still.append(fetch)
        else:
            (answer,) = answers
            assert summary(answer) == expected
    model.waiting = still
    waiting = bench.pool.statistics().parked.get("Fetch", 0)
    assert waiting == bench.local.replicas.purgatory.statistics().watches == len(still)


def summary(answer):
    _, response = decode_response(FetchResponse, 12, memoryview(answer))
    return [
        (partition.error_code, len(partition.records or b""))
        for topic in response.responses
        for partition in topic.partitions
    ]


# -- whoever waits for much still hears of what is no record ------------------------------------


def roll(partition):
    partition.log.roll()


def lead_on(partition):
    partition.set_leadership(leader_id=1, leader_epoch=5, isr=[1], replicas=[1])


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (lambda partition: partition.resign(), (ErrorCode.NOT_LEADER_OR_FOLLOWER, 0)),
        (lambda partition: partition.go_offline(), (ErrorCode.NOT_LEADER_OR_FOLLOWER, 0)),
        (lead_on, (ErrorCode.FENCED_LEADER_EPOCH, 0)),
        (lambda partition: partition.delete_records(2), (ErrorCode.OFFSET_OUT_OF_RANGE, 0)),
        (roll, (0, 2 * SIZE)),
    ],
    ids=["resigned", "deleted", "newer leader", "records deleted", "segment rolled"],
)
def test_min_bytes_do_not_hide_other_news(event, expected):
    async def script(bench, clock):
        partition = bench.local.replicas.get_partition("t", 0)
        bench.append(0)
        bench.append(0)
        asked = {"fetch_offset": 0, "current_leader_epoch": 0}
        peer, _ = bench.ask(a_fetch(("t", asked), min_bytes=50 * SIZE, max_wait_ms=60_000))
        await wait_all_tasks_blocked()
        assert peer.answers == []
        event(partition)
        if event is roll:
            bench.append(0)
        await wait_all_tasks_blocked()
        assert summary(*peer.answers) == [expected]
        assert bench.is_at_rest()

    run(script)


# -- the answer is the one of a Fetch that comes when it is given -------------------------------


@settings(max_examples=40)
@given(
    asked=st.lists(
        st.tuples(index, st.integers(0, 4), st.sampled_from([1, SIZE, 10_000])), min_size=1
    ),
    version=st.integers(4, 18),
    appended=st.lists(index, min_size=1, max_size=8),
    batches=st.integers(1, 12),
    settings=st.fixed_dictionaries(
        {"isolation_level": st.integers(0, 1), "max_bytes": st.sampled_from([1, 300, 100_000])}
    ),
)
def test_who_waited_gets_what_who_asks_then_gets(asked, version, appended, batches, settings):
    run(compare, asked, version, appended, batches, settings)


async def compare(bench, clock, asked, version, appended, batches, settings):
    for index in range(PARTITIONS):
        for _ in range(2):
            bench.append(index)
    topic = bench.local.metadata.get_topic("t").topic_id if version >= 13 else "t"
    message = a_fetch(
        *(
            (topic, {"partition": index, "fetch_offset": offset, "partition_max_bytes": most})
            for index, offset, most in asked
        ),
        min_bytes=batches * SIZE,
        max_wait_ms=1000,
        **settings,
    )
    late, _ = bench.ask(message, version)
    await wait_all_tasks_blocked()
    message.max_wait_ms = 0
    while appended and not late.answers:
        bench.append(appended.pop())
        await wait_all_tasks_blocked()
    if not late.answers:
        clock.jump(1)
        await wait_all_tasks_blocked()
    at_once, _ = bench.ask(message, version)
    await wait_all_tasks_blocked()
    assert late.answers == at_once.answers
    assert bench.is_at_rest()


# -- what it costs ----------------------------------------------------------------------------


def a_waiting_fetch(offset=0, **settings):
    return a_fetch(("t", {"fetch_offset": offset}), max_wait_ms=60_000, **settings)


def test_min_bytes_are_counted_without_reading_the_log_again():
    async def script(bench, clock):
        partition = bench.local.replicas.get_partition("t", 0)
        reads = partition.traffic
        peers = [bench.ask(a_waiting_fetch(min_bytes=50 * SIZE))[0] for _ in range(20)]
        await wait_all_tasks_blocked()
        assert reads.fetch_requests == 20
        for _ in range(49):
            bench.append(0)
            await wait_all_tasks_blocked()
        assert reads.fetch_requests == 20
        bench.append(0)
        await wait_all_tasks_blocked()
        assert [summary(*peer.answers) for peer in peers] == [[(0, 50 * SIZE)]] * 20
        assert reads.fetch_requests == 40

    run(script)


def test_time_that_is_over_without_news_costs_no_second_read():
    async def script(bench, clock):
        reads = bench.local.replicas.get_partition("t", 0).traffic
        peer, _ = bench.ask(a_waiting_fetch())
        await wait_all_tasks_blocked()
        clock.jump(60)
        await wait_all_tasks_blocked()
        assert summary(*peer.answers) == [(0, 0)]
        assert reads.fetch_requests == 1

    run(script)


def test_a_thousand_consumers_of_one_partition_are_answered_turn_by_turn():
    """One append wakes them all; it does not answer a single one itself."""

    async def script(bench, clock):
        peers = [bench.ask(a_waiting_fetch())[0] for _ in range(1000)]
        await wait_all_tasks_blocked()
        assert bench.pool.statistics().parked == {"Fetch": 1000}
        bench.append(0)
        assert not any(peer.answers for peer in peers)
        await wait_all_tasks_blocked()
        assert {summary(*peer.answers)[0] for peer in peers} == {(0, SIZE)}
        assert bench.is_at_rest()

    run(script)


def test_who_waits_has_no_task():
    async def script(bench, clock):
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(100):
            bench.ask(a_waiting_fetch())
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        bench.local.end_long_polls()
        await wait_all_tasks_blocked()
        assert bench.is_at_rest()

    run(script)


# -- whoever wants the answer itself ----------------------------------------------------------


@pytest.mark.parametrize("ending", ["append", "time", "gone", "stop"])
def test_an_interceptor_awaits_the_answer(ending):
    apis = KafkaApis.default()

    @apis.interceptor(ApiKey.FETCH)
    async def watch(ctx, request, call_next):
        response = await call_next(ctx, request)
        assert isinstance(request, FetchRequest)
        response.throttle_time_ms = 5
        return response

    async def script(bench, clock):
        peer, request = bench.ask(a_waiting_fetch())
        await wait_all_tasks_blocked()
        assert bench.pool.statistics().parked == {"Fetch": 1}
        if ending == "append":
            bench.append(0)
        elif ending == "time":
            clock.jump(60)
        elif ending == "gone":
            peer.go_away(request)
        else:
            bench.local.end_long_polls()
        await wait_all_tasks_blocked()
        (answer,) = peer.answers
        if ending == "gone":
            assert answer == b""
        else:
            assert struct.unpack_from(">i", answer, 5) == (5,)
            assert summary(answer) == [(0, SIZE if ending == "append" else 0)]
        assert bench.is_at_rest()

    run(script, apis=apis)


# -- what a Fetch holds while it waits ------------------------------------------------------------


def test_a_fetch_that_waits_holds_no_memory_of_requests():
    """Or consumers that wait could keep the Produce from being read that they wait for."""

    async def script(bench, clock):
        released = []
        peer, request = bench.ask(a_fetch("t", min_bytes=1, max_wait_ms=60_000))
        request.pool, request.pool_bytes = SimpleNamespace(release=released.append), 7
        size = len(request.payload)
        await wait_all_tasks_blocked()

        assert (peer.answers, released) == ([], [7])
        assert (len(request.payload), request.payload_bytes) == (0, size)

        bench.append(0)
        await wait_all_tasks_blocked()
        assert summary(*peer.answers) == [(0, SIZE)]
        assert released == [7]
        assert bench.is_at_rest()

    run(script)


@pytest.mark.parametrize(
    ("times", "first"),
    [pytest.param(10, PARTITIONS, id="small"), pytest.param(100, 1, id="large, in turns")],
)
def test_what_moves_is_looked_at_and_not_all_that_was_asked_for(times, first, monkeypatch):
    """A request of 49,000 partitions, or of one as often, would make each append take 16 ms."""
    looked_at = []
    readable = fetch_api._End.readable_bytes
    monkeypatch.setattr(
        fetch_api._End, "readable_bytes", lambda end: looked_at.append(end) or readable(end)
    )

    async def script(bench, clock):
        asked = [("t", {"partition": index}) for index in [0] * times + [1, 2]]
        peer, _ = bench.ask(a_fetch(*asked, min_bytes=4 * SIZE, max_wait_ms=60_000))
        await wait_all_tasks_blocked()
        looks = []
        for index in (0, 1, 1, 2):
            looked_at.clear()
            bench.append(index)
            await wait_all_tasks_blocked()
            looks.append(len(looked_at))
        assert looks[:3] == [first, 1, 1]
        (answer,) = peer.answers
        assert summary(answer)[-2:] == [(0, 2 * SIZE), (0, SIZE)]

    run(script)
