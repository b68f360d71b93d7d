import pytest

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor import figures
from trio_kafka_net.monitor.interval import Interval
from trio_kafka_net.monitor.snapshot import Snapshot


def interval_of(before, after):
    return Interval(Snapshot.parse(before, time=0, taken=0), Snapshot.parse(after, time=2, taken=2))


def fetches(count):
    """Of a server that counts a Fetch request twice, as Kafka does."""
    return "".join(
        f'{names.REQUESTS.name}{{request="{api}"}} {count}\n'
        f'{names.ERRORS.name}{{request="{api}",error="X"}} {count}\n'
        f'{names.REQUEST_PHASE.name}_bucket{{request="{api}",phase="total",le="1"}} {count}\n'
        for api in ("Fetch", "FetchConsumer", "Produce")
    )


def test_a_fetch_request_is_counted_once():
    interval = interval_of(fetches(0), fetches(4))

    assert (4, 4) == (figures.requests(interval), figures.errors(interval))
    assert 8 == figures.total_time(interval).count


def test_a_server_that_does_not_split_fetch_is_counted_as_well():
    page = f'{names.REQUESTS.name}{{request="Fetch"}} '

    assert 2 == figures.requests(interval_of(page + "0", page + "4"))


@pytest.mark.parametrize(("waited", "busy"), [(0.5, 0.75), (2.5, 0.0), (0, 1.0)])
def test_loop_is_busy_when_it_does_not_wait(waited, busy):
    name = names.IO_WAIT.name

    assert busy == figures.loop_busy(interval_of(f"{name} 0", f"{name} {waited}"))


def test_idleness_is_that_of_the_data_plane():
    name = names.PROCESSOR_BUSY.name
    page = f'{name}{{{{plane="data"}}}} {{}}\n{name}{{{{plane="control"}}}} {{}}\n'

    assert 0.5 == figures.processors_idle(interval_of(page.format(0, 0), page.format(1, 0)))


def test_handlers_that_are_parked_are_not_ready():
    page = "".join(
        f'{names.HANDLERS.name}{{plane="data",state="{state}"}} {number}\n'
        for state, number in (("idle", 2), ("running", 2), ("parked", 90))
    )
    idle = f'{names.HANDLER_IDLE.name}{{plane="data"}} '

    assert 0.25 == figures.handlers_idle(interval_of(page + idle + "0", page + idle + "2"))


def test_percentages_of_a_plain_kafka_are_taken_as_they_are():
    page = f"{names.PROCESSORS_IDLE_PERCENT.name} 0.9\n{names.HANDLER_IDLE_PERCENT.name} 0.8\n"
    interval = interval_of(page, page)

    assert (0.9, 0.8) == (figures.processors_idle(interval), figures.handlers_idle(interval))


def test_the_fullest_queue_is_told():
    size, room = names.REQUEST_QUEUE_SIZE.name, names.REQUEST_QUEUE_CAPACITY.name
    page = "".join(
        f'{name}{{plane="{plane}"}} {number}\n'
        for name, plane, number in (
            (size, "data", 11), (room, "data", 500), (size, "control", 10), (room, "control", 20),
        )
    )  # fmt: skip

    assert (10, 20) == figures.fullest_queue(interval_of(page, page))
    assert 0.5 == figures.queue_fill(interval_of(page, page))


def test_figures_of_all_topics_are_not_added_to_those_of_each():
    name = names.MESSAGES_IN.name
    page = f'{name} {{}}\n{name}{{{{topic="a"}}}} {{}}\n'

    assert 2 == figures.messages_in(interval_of(page.format(0, 0), page.format(4, 4)))


@pytest.mark.parametrize("figure", figures.TRACKED.values(), ids=figures.TRACKED)
def test_what_is_not_exported_is_unknown(figure):
    assert figure(interval_of("", "")) is None
    assert figure(Interval(None, None)) is None
