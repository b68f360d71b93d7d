import math

import pytest

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.page import PageError
from trio_kafka_net.monitor.rings import POINTS, History, Ring
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.window import Window

REQUESTS = names.REQUESTS.name


def window_of(*pages, every=1.0, start=None, **options):
    window = Window(**options)
    for at, page in enumerate(pages):
        started = f"{names.PROCESS_START_TIME.name} {start}\n" if start is not None else ""
        window.add(Snapshot.parse(started + page, time=1e9 + at, taken=100 + at * every))
    return window


def test_rates_are_those_of_the_last_seconds():
    window = window_of(*(f"c {count}" for count in (0, 10, 20, 30, 40, 50, 60, 160)))

    assert (160 - 20) / 5 == window.rate("c")


def test_one_snapshot_has_values_and_no_rates():
    window = window_of("c 3\n")

    assert 3 == window.value("c")
    assert [None] * 5 == [
        window.rate("c"),
        window.increase("c"),
        window.share("c"),
        window.mean("c"),
        window.quantile("c", 0.5),
    ]


def test_what_is_not_exported_is_unknown_and_not_zero():
    window = window_of('c{a="1"} 3\n', 'c{a="1"} 3\n')

    assert (None, None) == (window.value("d"), window.rate("d"))
    assert (None, 0) == (window.rate("c", a="2"), window.rate("c", a="1"))
    assert (False, True) == (window.exports("d"), window.exports("c"))


def test_labels_select_and_group():
    page = 'c{{a="1",b="x"}} {}\nc{{a="2",b="x"}} {}\nc{{b="y"}} {}\n'
    window = window_of(page.format(0, 0, 0), page.format(1, 2, 4))

    assert {("x",): 3, ("y",): 4} == window.rates("c", "b")
    assert {("1",): 1, ("2",): 2, ("",): 4} == window.rates("c", "a")
    assert 4 == window.rate("c", a=None)
    assert [("1", "x")] == window.label_values("c", "a", "b")[1:2]


def test_counter_that_went_back_began_anew():
    window = window_of("c 100\n", "c 7\n")

    assert 7 == window.increase("c")


def test_series_that_was_not_there_began_at_zero():
    window = window_of('c{a="1"} 5\n', 'c{a="1"} 5\nc{a="2"} 3\n')

    assert 3 == window.increase("c")


def test_no_number_counts_as_not_exported():
    window = window_of("c NaN\nd 1\n", "c NaN\nd NaN\n")

    assert [None] * 4 == [window.value("c"), window.rate("c"), window.value("d"), window.rate("d")]


def test_share_is_averaged_over_series():
    window = window_of('s{p="0"} 0\ns{p="1"} 0\n', 's{p="0"} 1\ns{p="1"} 0.5\n')

    assert 0.75 == window.share("s")
    assert 0.375 == window.share("s", 4)
    assert 1.0 == window.share("s", 1)


def test_histograms_tell_of_the_interval_alone():
    page = 'h_bucket{{le="1"}} {}\nh_bucket{{le="+Inf"}} {}\nh_sum {}\nh_count {}\n'
    window = window_of(page.format(100, 100, 1, 100), page.format(100, 110, 91, 110))

    assert (10, 9.0, 9.0) == (
        window.distribution("h").count,
        window.distribution("h").mean,
        window.mean("h"),
    )
    assert 1 == window.quantile("h", 0.5)
    assert window.exports("h")


def test_start_time_that_changed_is_a_restart():
    window = window_of("c 1\n", "c 2\n", start=5)
    window.add(Snapshot.parse(f"{names.PROCESS_START_TIME.name} 6\nc 1\n", time=1, taken=103))

    assert (True, None, ()) == (window.is_restarted, window.rate("c"), window.history("requests"))


def test_restart_is_old_news_after_a_minute():
    window = window_of("c 1\n", start=5)
    for taken in (103, 104, 164):
        page = f"{names.PROCESS_START_TIME.name} 6\n"
        window.add(Snapshot.parse(page, time=1, taken=taken))

    assert not window.is_restarted


def test_without_a_start_time_requests_that_fell_are_a_restart():
    assert window_of(f"{REQUESTS} 100\n", f"{REQUESTS} 3\n").is_restarted


def test_snapshot_of_the_past_begins_anew():
    window = window_of("c 1\n", "c 2\n")
    window.add(Snapshot.parse("c 9\n", time=1, taken=50))

    assert (9, None, False) == (window.value("c"), window.rate("c"), window.is_restarted)


def test_history_has_a_point_for_every_second():
    window = window_of(*(f'{REQUESTS}{{request="Produce"}} {n * n}\n' for n in range(5)))

    assert (1, 3, 5, 7) == window.history("requests")
    assert (1, 3, 5, 7) == window.history(REQUESTS, "Produce")
    assert () == window.history(REQUESTS, "Fetch")


def test_copy_stands_still():
    pages = [f"{REQUESTS} {n}\n" for n in range(5)]
    window = window_of(*pages)
    copy = window.copy()
    window.add(Snapshot.parse(f"{REQUESTS} 1000\n", time=1, taken=105))

    assert (1, (1, 1, 1, 1)) == (copy.rate(REQUESTS), copy.history("requests"))
    assert 1 < window.rate(REQUESTS)


def test_documents_are_those_of_the_last_snapshot():
    window = Window()
    window.add(Snapshot(1, 1, {}, {"tasks": {"a": 1}}))
    window.add(Snapshot(2, 2, {}, {}))

    assert window.document("tasks") is None


def test_points_that_come_more_often_are_averaged():
    ring = Ring(1.0)
    for at, value in ((0.0, 1), (0.5, 3), (1.0, 5), (1.5, None)):
        ring.add(at, value)

    assert (2, 5) == ring.points


def test_points_that_come_less_often_fill_their_time():
    ring = Ring(1.0)
    ring.add(0, 1)
    ring.add(3, 7)

    assert (1, 7, 7, 7) == ring.points


def test_rings_keep_sixty_points_and_forget_what_is_older():
    history = History()
    for at in range(700):
        history.add(at, at)

    assert POINTS == len(history.points(slow=False)) == len(history.points(slow=True))
    assert 699 == history.points(slow=False)[-1]
    assert 104.5 == history.points(slow=True)[0]
    history.add(1e9, 3)
    assert {3} == set(history.points(slow=False))


def test_figures_of_what_is_gone_are_forgotten():
    window = Window()
    for at in range(3):
        page = f'{REQUESTS}{{request="Produce"}} {at}\n'
        window.add(Snapshot.parse(page, time=at, taken=at))
    for at in range(3, 623):
        window.add(Snapshot.parse("x 1\n", time=at, taken=at))

    assert () == window.history(REQUESTS, "Produce")


def test_recordings_hold_what_json_has_no_number_for():
    page = 'a{b="c\\"d"} +Inf\ne NaN\n'
    line = Snapshot.parse(page, time=1, taken=2, documents={"log": []}).to_json()
    again = Snapshot.from_json(line)

    assert "\n" not in line
    assert math.inf == again.samples["a"][("b", 'c"d'),]
    assert math.isnan(again.samples["e"][()])
    assert {"log": []} == again.documents


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "{}", '{"time":1,"taken":2,"samples":{"a":{"b":1}},"documents":{}}',
     '{"time":"x","taken":2,"samples":{},"documents":{}}',
     '{"time":1,"taken":2,"samples":{"a":3},"documents":{}}'],
)  # fmt: skip
def test_what_is_no_recording_is_refused(line):
    with pytest.raises(PageError, match="not a line of a recording"):
        Snapshot.from_json(line)
