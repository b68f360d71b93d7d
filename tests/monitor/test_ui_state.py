import re

import attrs
import pytest

from trio_kafka_net.monitor.columns import DEFAULT_SORT, SORTS, View, sort_by
from trio_kafka_net.monitor.ui_state import (
    INTERVALS_S,
    KEY_NAMES,
    LAST_ROW,
    MAX_FILTER,
    Action,
    Need,
    UiState,
    needs,
)
from trio_kafka_net.monitor.views import VIEWS

ROWS = [f"row{n}" for n in range(30)]
SPECIAL = {"", "ctrl-c", "ctrl-z"}


def after(*keys, ui=None, rows=ROWS):
    for key in keys:
        ui = (ui or UiState()).press(key, rows)
    return ui


def view(number, **more):
    return attrs.evolve(UiState(view=View(number)), **more)


# What every key makes of a view in which nothing was chosen: {key: what changes}.
EVERYWHERE = {
    **{str(one.value): {"view": one} for one in View},
    "down": {"row": 1},
    "j": {"row": 1},
    "pgdn": {"row": 10},
    "end": {"row": 29},
    "up": {},
    "k": {},
    "pgup": {},
    "home": {},
    "esc": {},
    "backspace": {},
    "r": {"reverse": True},
    "/": {"editing": ""},
    "p": {"paused": True},
    "space": {"paused": True},
    "+": {"interval_s": 0.5},
    "-": {"interval_s": 2.0},
    "u": {"raw": True},
    "w": {"wide": True},
    "t": {"slow_axis": True},
    "!": {"alerts": True},
    "?": {"help": True},
    "L": {"log": True},
    "x": {},
    "§": {},
    "f12": {},
}


@pytest.mark.parametrize("one", View)
@pytest.mark.parametrize("key", EVERYWHERE)
def test_every_key_in_every_view(one, key):
    assert attrs.evolve(view(one), **EVERYWHERE[key]) == view(one).press(key, ROWS)


@pytest.mark.parametrize("one", View)
@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("q", Action.QUIT),
        ("ctrl-c", Action.QUIT),
        ("ctrl-z", Action.SUSPEND),
        ("s", Action.SAVE_SVG),
        ("S", Action.SAVE_EVERYTHING),
    ],
)
def test_actions_in_every_view(one, key, action):
    assert action is view(one).press(key, ROWS)


@pytest.mark.parametrize("one", View)
def test_tab_goes_round(one):
    assert View((one + 1) % 7) is view(one).press("tab").view
    assert view(one) == after("tab", "shift-tab", ui=view(one))


@pytest.mark.parametrize("one", View)
def test_left_and_right_choose_every_column(one):
    columns = [sort.column for sort in SORTS[one]]
    ui = after(*["left"] * 20, ui=view(one))
    found = []
    for _ in columns:
        found.append(ui.sort)
        ui = ui.press(">")

    assert columns == found
    assert columns[-1] == ui.sort
    assert ui == ui.press("right")
    assert columns[-2] == ui.press("<").sort


@pytest.mark.parametrize("one", View)
def test_shortcuts_choose_a_column_and_then_reverse_it(one):
    for sort in SORTS[one]:
        if sort.shortcut and sort.column != DEFAULT_SORT[one]:
            once = after(sort.shortcut, ui=view(one))
            twice = after(sort.shortcut, ui=once)

            assert (sort.column, False) == (once.sort, once.reverse)
            assert (sort.column, True) == (twice.sort, twice.reverse)


@pytest.mark.parametrize("one", View)
def test_shortcuts_mean_one_thing(one):
    shortcuts = [sort.shortcut for sort in SORTS[one] if sort.shortcut]

    assert len(shortcuts) == len(set(shortcuts))
    assert set() == set(shortcuts) & {"S", "L", *KEY_NAMES, *EVERYWHERE}


@pytest.mark.parametrize("one", View)
def test_columns_to_sort_by_are_columns_of_the_table(one):
    keys = {column.key for column in VIEWS[one].columns}

    assert {sort.column for sort in SORTS[one]} <= keys
    assert DEFAULT_SORT[one] in keys


def test_texts_begin_with_the_least_and_figures_with_the_greatest():
    assert (False, True) == (
        view(1, sort="api").descending,
        view(1, sort="api", reverse=True).descending,
    )
    assert (True, False) == (view(1).descending, view(1, reverse=True).descending)
    assert sort_by(View.TOPICS, "no such column") == sort_by(View.TOPICS, None)


def test_another_view_forgets_what_was_chosen_in_this_one():
    chosen = view(
        4, row=3, sort="size", reverse=True, filter="x", inverted=True, detail=True, subject="a",
        log=True, help=True, raw=True, wide=True, paused=True, interval_s=5.0,
    )  # fmt: skip

    assert view(5, raw=True, wide=True, paused=True, interval_s=5.0) == chosen.press("5")


@pytest.mark.parametrize("one", [View.REQUESTS, View.PROCESSORS, View.TOPICS, View.GROUPS])
def test_enter_opens_the_selected_row_and_esc_goes_back(one):
    opened = after("down", "down", "enter", ui=view(one))

    assert view(one, detail=True, subject="row2") == opened
    assert opened == opened.press("enter", ROWS)
    assert view(one) == opened.press("esc", ROWS)


def test_enter_on_the_overview_is_about_the_requests():
    assert view(1, detail=True, subject="row0") == after("enter")


def test_enter_without_rows_opens_only_the_tree_of_tasks():
    assert view(4) == view(4).press("enter", [])
    assert view(6, detail=True) == view(6).press("enter", [])


def test_row_that_went_away_is_the_last_one():
    assert "row29" == after("enter", ui=view(4, row=1_000)).subject
    assert 28 == view(4, row=1_000).press("up", ROWS).row
    assert LAST_ROW == UiState().press("end").row


def test_esc_takes_away_what_came_last():
    ui = view(4, help=True, log=True, alerts=True, detail=True, subject="a", filter="x")
    seen = []
    for _ in range(6):
        seen.append((ui.help, ui.log, ui.alerts, ui.detail, ui.filter))
        ui = ui.press("esc")

    assert [5, 4, 3, 2, 1, 0] == [sum(map(bool, one)) for one in seen]


def test_filter_is_typed_applied_and_cleared():
    typed = after("/", *"q?1", "space", "x", "backspace", ui=view(4))
    applied = typed.press("enter")

    assert ("q?1 ", "") == (typed.editing, typed.filter)
    assert (None, "q?1 ", False) == (applied.editing, applied.filter, applied.inverted)
    assert view(4) == applied.press("esc")
    assert view(4) == after("/", "y", "esc", ui=applied)


def test_filter_that_begins_with_an_exclamation_mark_is_inverted():
    applied = after("/", *"!ab", "enter")

    assert ("ab", True) == (applied.filter, applied.inverted)
    assert ("", False) == (lambda ui: (ui.filter, ui.inverted))(after("/", "!", "enter"))


def test_filter_that_is_none_is_said_and_not_applied():
    ui = after("/", "(", "enter")

    assert ("(", "") == (ui.editing, ui.filter)
    assert ui.notice.startswith("not a regular expression: ")
    assert "" == ui.press("x").notice


def test_filter_takes_no_control_characters_and_has_an_end():
    ui = after("/", "\x1b", "\x00", "up", "tab", *["a"] * 300)

    assert "a" * MAX_FILTER == ui.editing
    assert Action.QUIT is ui.press("ctrl-c")
    assert UiState() == after("/", "a", "backspace", "backspace")


def test_interval_goes_up_and_down_and_stays_within():
    ui = UiState(interval_s=3.0)

    assert (2.0, 5.0) == (ui.press("+").interval_s, ui.press("-").interval_s)
    assert INTERVALS_S[0] == after(*["+"] * 9, ui=ui).interval_s
    assert INTERVALS_S[-1] == after(*["-"] * 9, ui=ui).interval_s


def test_what_the_program_said_lasts_until_the_next_key():
    assert "" == UiState(notice="saved").press("down", ROWS).notice


@pytest.mark.parametrize(
    ("ui", "expected"),
    [
        (view(0), {Need("connections", (("sort", "out"), ("reverse", "0"), ("limit", "10")))}),
        (view(1), set()),
        (view(1, detail=True, subject="Fetch"), set()),
        (view(2), set()),
        (
            view(3, sort="in", reverse=True, filter="a+", limit=7),
            {Need("connections", (
                ("sort", "in"), ("reverse", "1"), ("limit", "7"), ("filter", "a+"),
            ))},
        ),
        (
            view(3, filter="a", inverted=True),
            {Need("connections", (("sort", "out"), ("reverse", "0"), ("limit", "50")))},
        ),
        (view(4), set()),
        (view(4, detail=True, subject="t"), {Need("topic", (("name", "t"),))}),
        (view(5), {Need("groups", (("limit", "200"),))}),
        (
            view(5, detail=True, subject="g"),
            {Need("groups", (("limit", "200"),)), Need("group", (("name", "g"),))},
        ),
        (view(6), {Need("tasks")}),
        (view(4, log=True), {Need("log", (("level", "warning"), ("limit", "200")))}),
    ],
)  # fmt: skip
def test_only_what_is_shown_is_asked_for(ui, expected):
    assert expected == needs(ui)


def test_shown_filter_is_always_one():
    assert re.compile(after("/", *"[a-z]{2}", "enter").filter)
