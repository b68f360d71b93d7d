"""Every Fetch once, though Kafka counts it twice."""

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.fetch_kinds import without_sums


def series(**values):
    return {(("plane", "data"), ("request", name)): value for name, value in values.items()}


def test_the_sum_gives_way_to_its_parts():
    samples = {
        names.REQUESTS.name: series(Fetch=5.0, FetchConsumer=3.0, FetchFollower=2.0, Produce=1.0),
        names.ERRORS.name: series(Fetch=4.0, Produce=6.0),
        "connections": {(): 7.0},
    }

    assert {
        names.REQUESTS.name: series(FetchConsumer=3.0, FetchFollower=2.0, Produce=1.0),
        names.ERRORS.name: series(FetchConsumer=4.0, Produce=6.0),
        "connections": {(): 7.0},
    } == without_sums(samples)


def test_a_server_that_does_not_tell_the_kinds_apart_keeps_its_fetches():
    samples = {names.REQUESTS.name: series(Fetch=5.0), names.ERRORS.name: series(Fetch=4.0)}

    assert samples == without_sums(samples)
