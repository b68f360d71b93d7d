import math

import attrs
import pytest

from trio_kafka_net.monitor.columns import View
from trio_kafka_net.monitor.numbers import of_bytes
from trio_kafka_net.monitor.table import Column, Table, arranged, filtered
from trio_kafka_net.monitor.ui_state import UiState
from trio_kafka_net.monitor.views import VIEWS


@attrs.frozen
class Row:
    key: str
    number: float | None = None

    @property
    def searched(self):
        return self.key


COLUMNS = (
    Column("name", 6, lambda row: row.key, key="name", left=True, is_name=True),
    Column("bytes", 7, lambda row: row.number, of_bytes, "bytes", is_scaled=True),
    Column("more", 5, lambda row: row.number, least=25),
    Column("most", 5, lambda row: row.number, least=60),
)
ROWS = [Row("b", 2e6), Row("a", None), Row("c", 30e6), Row("d", math.nan), Row("", 5.0)]


def lines(width, height=9, rows=ROWS, columns=COLUMNS, **chosen):
    ui = UiState(**{name: chosen.pop(name) for name in ("raw", "wide") if name in chosen})
    table = Table(columns, rows, ui, **chosen)
    return ["".join(text for text, _ in line) for line in table.lines(width, height)]


def test_sorted_rows_without_a_number_come_last():
    order = arranged(ROWS[:4], COLUMNS, "bytes", descending=True)

    assert ["c", "b", "a", "d"] == [row.key for row in order]
    assert ["b", "c", "a", "d"] == [
        row.key for row in arranged(ROWS[:4], COLUMNS, "bytes", descending=False)
    ]
    assert ["a", "b", "c", "d"] == [
        row.key for row in arranged(ROWS[:4], COLUMNS, "no such column", descending=True)
    ]


def test_columns_are_there_whole_or_not_at_all():
    assert [" name" + " " * 12 + " bytes", " name" + " " * 14 + "bytes  more"] == [
        lines(23)[0].rstrip(),
        lines(30)[0].rstrip(),
    ]


def test_who_asks_for_wide_columns_gets_them_instead_of_others():
    assert lines(26, wide=True)[0].split() == ["name", "bytes", "most"]


def test_sorted_column_is_marked_and_has_one_unit():
    shown = lines(16, sorted_by="bytes", rows=[Row("b", 2e3), Row("c", 30e6)])

    assert [" name     bytes▼", " b          0.0M", " c         30.0M"] == shown


def test_a_column_that_is_sorted_by_always_shows_its_greatest():
    rows = [Row("b", 2e6), Row("c", 162.2e6)]
    name, number, *_ = COLUMNS
    name = attrs.evolve(name, width=2)

    assert [" b     2M", " c   162M"] == lines(
        9, sorted_by="bytes", rows=rows, columns=[name, attrs.evolve(number, width=5)]
    )[1:]


def test_numbers_are_written_out_if_asked_and_if_there_is_room():
    assert [" b              2000000", " c                20.0G"] == lines(
        23, raw=True, rows=[Row("b", 2e6), Row("c", 20e9)]
    )[1:]


def test_what_is_not_known_is_a_dash_or_nothing_in_rows_that_belong_to_others():
    shown = lines(16, rows=[Row("a"), Row("")])[1:]

    assert [" a             –", "                "] == shown


def test_selected_row_is_shown():
    rows = [Row(f"{n:02}", n) for n in range(50)]

    assert " 40" == lines(16, height=5, rows=rows, selected=40)[-1][:3]
    assert " 49" == lines(16, height=5, rows=rows, selected=400)[-1][:3]
    assert " 00" == lines(16, height=5, rows=rows, selected=0)[1][:3]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "abcd"),
        ({"filter": "a|b"}, "ab"),
        ({"filter": "a|b", "inverted": True}, "cd"),
        ({"filter": "("}, ""),
    ],
)
def test_filter_lets_rows_through(chosen, expected):
    assert list(expected) == sorted(row.key for row in filtered(ROWS[:4], UiState(**chosen)))


@pytest.mark.parametrize("view", list(View)[1:])
@pytest.mark.parametrize("width", [*range(60, 121), 158, 200])
def test_columns_that_a_width_asks_for_have_room_in_it(view, width):
    table = Table(VIEWS[view].columns, [], UiState())
    wanted = [
        column.title
        for column in VIEWS[view].columns
        if column.least <= width and (column.most is None or width <= column.most)
    ]

    assert wanted == [column.title for column, _ in table._fitting(width)]
