"""Whole screens, compared with files; ``python -m tests.monitor.test_frame`` writes them anew."""

import attrs
import pytest

from trio_kafka_net.monitor.layout import row_keys
from trio_kafka_net.monitor.theme import THEMES, Theme
from trio_kafka_net.monitor.ui_state import UiState
from trio_kafka_net.monitor.widgets import width_of
from trio_kafka_net.monitor.window import Window

from .screens import NAMES, SCREENS, SIZES, drawn, pressed, replayed, texts

OVERVIEWS = {f"{name}-{size[0]}x{size[1]}": (name, size, ()) for name in NAMES for size in SIZES}

VIEWS = {
    f"busy-{what}-{size[0]}x{size[1]}": ("busy", size, keys)
    for what, keys in {
        "requests": ("1",),
        "requests-detail": ("1", "enter"),
        "processors": ("2",),
        "processors-detail": ("2", "enter"),
        "connections": ("3", "down"),
        "connections-detail": ("3", "enter"),
        "topics": ("4",),
        "topics-detail": ("4", "enter"),
        "groups": ("5",),
        "groups-detail": ("5", "enter"),
        "tasks": ("6",),
        "tasks-detail": ("6", "enter"),
        "log": ("L",),
        "help": ("?",),
        "alerts": ("!",),
        "filter": ("1", "/", "F", "e", "t"),
        "filtered": ("1", "/", "!", "F", "e", "t", "enter"),
        "raw": ("u",),
        "wide": ("1", "w"),
        "slow": ("t",),
        "paused": ("p",),
    }.items()
    for size in ((120, 30), (80, 24))
}

PANELS = {
    f"kafka-{view}-120x20": ("kafka", (120, 20), (view,)) for view in ("2", "3", "4", "5", "6")
}

# Heights at which there is just room for one row of boxes more.
EDGES = {f"busy-120x{height}": ("busy", (120, height), ()) for height in (28, 29, 37, 38)}

SCREENS_BY_NAME = {**OVERVIEWS, **VIEWS, **PANELS, **EDGES}


def screen(name):
    recording, size, keys = SCREENS_BY_NAME[name]
    window = replayed(recording)
    return texts(window, size, pressed(window, keys))


@pytest.mark.parametrize("name", SCREENS_BY_NAME)
def test_screen_is_as_it_was_accepted(name):
    expected = (SCREENS / f"{name}.txt").read_text(encoding="utf-8").splitlines()

    assert expected == [line.rstrip() for line in screen(name)]


@pytest.mark.parametrize("name", SCREENS_BY_NAME)
def test_every_line_is_as_wide_as_the_screen(name):
    _, (width, height), _ = SCREENS_BY_NAME[name]
    lines = screen(name)

    assert height == len(lines)
    assert {width} == {width_of(line) for line in lines}


def test_what_does_not_answer_is_called_stale():
    window = replayed("busy")
    window.stale_s = 7.2

    assert "○ STALE 7s" in texts(window, (120, 40))[0]
    assert "▲ no answer since 7s" in texts(window, (120, 40))[-2]


def test_a_restart_is_told():
    assert "● RESTARTED" in texts(replayed("restarted"), (80, 24))[0]


def test_before_the_first_answer_nothing_is_claimed():
    for size in SIZES:
        shown = "\n".join(texts(Window(source="here"), size))

        assert "○ WAITING" in shown
        assert "waiting for the first answer" in shown
        assert "0.0" not in shown


def test_the_first_answer_has_no_rates():
    lines = texts(replayed("first"), (120, 40))

    assert "– MB/s" not in lines[2]  # a unit without a number has no prefix
    assert "– B/s" in lines[2]


def test_pressed_keys_change_what_is_highlighted():
    window = replayed("busy")

    rows = [
        [
            text
            for line in drawn(window, (120, 40), pressed(window, keys))
            for text, role in line
            if role == "select"
        ]
        for keys in ((), ("down",))
    ]

    assert rows[0][0].startswith(" Produce ")
    assert rows[1][0].startswith(" FetchConsumer ")


def test_selected_row_stays_on_the_screen():
    window = replayed("busy")
    ui = pressed(window, ["1", "end"])

    shown = drawn(window, (120, 12), ui)

    selected = next(text for line in shown for text, role in line if role == "select")
    assert selected.startswith(" CreateTopics")


@pytest.mark.parametrize("size", [(120, 12), (120, 20), (80, 24), (80, 18), (60, 14)])
@pytest.mark.parametrize("keys", [("?",), ("6", "enter"), ("L",), ("4", "enter", "!")])
def test_texts_are_scrolled_from_their_first_line_to_their_last_without_idle_keys(size, keys):
    window = replayed("busy")
    ui = pressed(window, keys)
    seen = [texts(window, size, ui)]
    for _ in range(200):
        ui = ui.press("down", row_keys(window, ui, size))
        shown = texts(window, size, ui)
        if shown == seen[-1]:
            break
        seen.append(shown)
    assert seen[-1] == texts(window, size, attrs.evolve(ui, row=10_000)), "that is the end"

    ui = ui.press("end", row_keys(window, ui, size))
    for expected in seen[-2::-1]:
        ui = ui.press("up", row_keys(window, ui, size))
        assert expected == texts(window, size, ui)


def test_ascii_terminal_gets_nothing_else_and_nothing_moves():
    window = replayed("busy")
    plain = texts(window, (120, 40))
    ascii_only = texts(window, (120, 40), theme=attrs.evolve(THEMES["mono"], ascii=True))

    assert all(line.isascii() for line in ascii_only)
    assert [width_of(line) for line in plain] == [len(line) for line in ascii_only]


def test_names_that_ascii_cannot_tell_keep_their_width():
    assert "??x?" == Theme({}, ascii=True).drawn("漢xé")


def test_every_theme_has_all_roles():
    assert {12} == {len(theme.styles) for theme in THEMES.values()}


def test_no_header_leaves_a_line_to_the_rest():
    window = replayed("busy")
    lines = texts(window, (120, 40), UiState(header=False))

    assert "trio-kafka-net" not in lines[0]
    assert 40 == len(lines)


def test_what_the_program_says_stands_in_the_last_line():
    ui = UiState(notice="saved \x1b[31mx.svg")

    assert texts(replayed("busy"), (80, 24), ui)[-1].startswith(" saved ?[31mx.svg")


def write():
    SCREENS.mkdir(exist_ok=True)
    for name in SCREENS_BY_NAME:
        lines = [line.rstrip() + "\n" for line in screen(name)]
        (SCREENS / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write()
