"""Contestants take turns; a verdict says how sure it is; who is absent is said."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import HEAD, Goal, Row, Spread, against_peers, alone, alternately


def test_the_first_of_a_pair_changes():
    order = []
    alternately(["ours", "theirs"], 3, order.append)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_results_keep_the_order_of_the_rounds():
    figures = iter(range(6))
    results = alternately(["ours", "theirs"], 3, lambda name: next(figures))
    assert results == {"ours": [0, 3, 4], "theirs": [1, 2, 5]}


def test_a_peer_that_fails_is_asked_once_and_absent():
    asked = []

    def run(name):
        asked.append(name)
        if name == "broken":
            raise RuntimeError("does not listen\nand more")
        return 1.0

    results = alternately(["ours", "broken", "fine"], 2, run, {"gone": "needs Go"})
    assert asked.count("broken") == 1
    assert results == {"ours": [1.0, 1.0], "fine": [1.0, 1.0]}
    assert results.absent == {"gone": "needs Go", "broken": "does not listen"}


def test_a_peer_that_fails_later_leaves_no_figures_behind():
    runs = {"ours": iter([1, 2]), "theirs": iter([3])}
    results = alternately(["ours", "theirs"], 2, lambda name: next(runs[name]))
    assert results == {"ours": [1, 2]}
    assert results.absent == {"theirs": "StopIteration"}


def test_ours_has_to_work():
    def run(name):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        alternately(["ours", "theirs"], 1, run)


def test_the_ratio_is_of_pairs_not_of_medians():
    results = alternately(["ours", "theirs"], 1, lambda name: 0.0)
    results["ours"], results["theirs"] = [10.0, 40.0, 90.0], [10.0, 10.0, 30.0]
    (row,) = against_peers("echo", "req/s", results, float, {"theirs": Goal(3.5)})
    assert (row.ours, row.theirs) == (40.0, 10.0)
    assert row.judged == Spread(3.0, 2.0, 3.5)
    assert not row.is_reached


def test_a_row_says_what_the_servers_worked():
    results = alternately(["ours", "theirs"], 2, {"ours": 12.34, "theirs": 0.5}.__getitem__)
    (row,) = against_peers("echo", "req/s", results, float, {}, ("µs", lambda run: run))
    assert row.work == "12.3/0.50 µs"
    assert "12.3/0.50 µs" in str(row)


def test_an_absent_peer_has_a_row_and_no_goal():
    results = alternately(["ours"], 1, lambda name: 1.0, {"kfake": "needs Go"})
    _, row = against_peers("echo", "req/s", results, float, {"kfake": Goal(1.0)})
    assert str(row).split() == ["echo", "kfake", "not", "measured:", "needs", "Go"]
    assert row.is_reached


def test_without_any_peer_our_figures_remain():
    results = alternately(["ours"], 1, lambda name: 7.0, {"kfake": "needs Go"})
    first, second = against_peers("echo", "req/s", results, float, {"kfake": Goal(1.0)})
    assert (first.ours, first.verdict) == (7.0, "–")
    assert second.absent == "needs Go"


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ([2.0, 2.1, 2.2], "yes"),
        ([1.0, 2.1, 2.2], "yes?"),
        ([1.0, 1.1, 1.2], "NO interpreter"),
        ([1.0, 1.1, 9.0], "NO? interpreter"),
        ([2.0], "yes"),
        ([1.9], "NO interpreter"),
    ],
)
def test_a_verdict_is_in_doubt_if_the_goal_lies_between_the_quartiles(figures, verdict):
    assert alone("echo", "x", figures, Goal(2.0, obstacle="interpreter")).verdict == verdict


def test_at_most_is_the_other_way_round():
    goal = Goal(1.5, is_most=True)
    assert alone("start", "ms", [1.4], goal).verdict == "yes"
    assert alone("start", "ms", [1.6], goal).verdict == "NO"
    assert str(goal) == "≤ 1.5"


def test_without_a_goal_there_is_no_verdict():
    row = alone("start", "ms", [1.0, 2.0, 3.0])
    assert (row.verdict, row.is_reached, row.ours) == ("–", True, 2.0)


def test_columns_stand_below_their_heads():
    row = Row("echo", "req/s", 1234.0, "tansu", 5.0, Spread(2.5, 2.0, 3.0), Goal(1), "1/2 µs")
    line = str(row)
    for head, cell in (("ours", "1,234"), ("peer", "tansu"), ("ratio", "2.50"), ("goal", "≥ 1")):
        assert HEAD.index(head) + len(head) == line.index(cell) + len(cell)
    assert HEAD.index("reached") == line.index("yes")


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20))
def test_quartiles_enclose_the_median(figures):
    spread = Spread.of(figures)
    assert spread.median == pytest.approx(statistics.median(figures))
    assert min(figures) <= spread.low <= spread.median <= spread.high <= max(figures)
