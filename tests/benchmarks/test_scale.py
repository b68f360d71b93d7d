"""Rounds go up and down the sizes, and medians are taken field by field."""

from __future__ import annotations

import scale


def a_cost(size, figure):
    return scale.Cost(size, figure, figure, figure, figure, figure, figure)


def test_every_second_round_goes_down():
    order = []

    def measure(size, seconds):
        order.append(size)
        yield "connections", a_cost(size, len(order))
        yield "metadata", a_cost(size, 0)

    costs = scale.measure(scale.Subject((1, 10, 100), measure), rounds=2, seconds=0)
    assert order == [1, 10, 100, 100, 10, 1]
    assert list(costs) == ["connections", "metadata"]
    assert {
        size: [each.rate for each in rounds] for size, rounds in costs["connections"].items()
    } == {
        1: [1, 6],
        10: [2, 5],
        100: [3, 4],
    }


def test_the_median_is_taken_field_by_field():
    costs = [scale.Cost(10, 1, 30, 5, 5, 5, 5), scale.Cost(10, 2, 20, 5, 5, 5, 5)]
    costs.append(scale.Cost(10, 3, 10, 5, 5, 5, 5))
    assert scale.median_of(costs) == scale.Cost(10, 2, 20, 5, 5, 5, 5)


def test_a_table_and_its_pictures(capsys, tmp_path):
    by_size = {10: [a_cost(10, 4), a_cost(10, 6)], 100: [a_cost(100, 8)]}
    scale.show("connections", by_size)
    head, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["10", "5", "5", "5", "5.0", "4.50–5.50", "5", "0.5", "5"]
    assert len(head) == len(first) == len(second)
    medians = {name: [a_cost(10, 4), a_cost(100, 8)] for name in scale.LABELS}
    scale.draw(tmp_path, medians)
    assert {path.name for path in tmp_path.iterdir()} == {"scale-time.svg", "scale-memory.svg"}
