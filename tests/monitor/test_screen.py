"""The terminal: only what changed is written, and nothing that a terminal would obey."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trio_kafka_net.monitor.screen import Screen

STYLES = {"label": "none", "bad": "bold red"}


@pytest.fixture
def terminal():
    return io.StringIO()


@pytest.fixture
def screen(terminal):
    console = Console(
        file=terminal, force_terminal=True, color_system="standard", width=20, height=4, _environ={}
    )
    return Screen(console, STYLES)


def written(terminal):
    text = terminal.getvalue()
    terminal.seek(0)
    terminal.truncate()
    return text


def lines(*texts):
    return [((text, "label"),) for text in texts]


def test_a_frame_is_written_as_one_synchronized_update(screen, terminal):
    screen.draw([(("a", "label"), ("b", "bad"))], (20, 4))

    begin, end = "\x1b[?2026h", "\x1b[?2026l"
    assert f"{begin}\x1b[2J\x1b[1;1Ha\x1b[1;31mb\x1b[0m{end}" == written(terminal)


def test_only_lines_that_changed_are_written_again(screen, terminal):
    screen.draw(lines("one", "two", "three"), (20, 4))
    written(terminal)

    screen.draw(lines("one", "TWO", "three"), (20, 4))
    assert "\x1b[?2026h\x1b[2;1HTWO\x1b[?2026l" == written(terminal)
    screen.draw(lines("one", "TWO", "three"), (20, 4))
    assert "" == written(terminal)


@pytest.mark.parametrize(("texts", "size"), [(("one", "two"), (20, 5)), (("one",), (20, 4))])
def test_everything_is_written_again_if_the_screen_is_another(screen, terminal, texts, size):
    screen.draw(lines("one", "two"), (20, 4))
    written(terminal)

    screen.draw(lines(*texts), size)

    assert "\x1b[2J\x1b[1;1Hone" in written(terminal)


def test_after_somebody_else_had_the_terminal_everything_is_written_again(screen, terminal):
    screen.draw(lines("one"), (20, 4))
    screen.leave()
    screen.enter()
    written(terminal)

    screen.draw(lines("one"), (20, 4))

    assert "\x1b[1;1Hone" in written(terminal)


def test_the_alternate_screen_and_the_cursor_are_given_back(screen, terminal):
    screen.enter()
    assert "\x1b[?1049h" in terminal.getvalue()
    assert "\x1b[?25l" in written(terminal)

    screen.leave()
    assert "\x1b[?1049l" in terminal.getvalue()
    assert "\x1b[?25h" in written(terminal)


def test_names_cannot_command_the_terminal(screen, terminal):
    """A client may call itself whatever it likes."""
    screen.draw(lines("evil\x1b]0;title\x07\x9b31m\r\n\u202eabc"), (20, 4))

    text = written(terminal).removeprefix("\x1b[?2026h\x1b[2J\x1b[1;1H").removesuffix("\x1b[?2026l")
    assert "evil·]0;title··31m···abc" == text


def test_a_terminal_without_utf_8_gets_question_marks(terminal):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, force_terminal=True, width=20, height=4, _environ={})

    Screen(console, STYLES).draw(lines("é█"), (20, 4))

    assert b"??" in file.buffer.getvalue()


def test_without_colours_there_are_none(terminal):
    console = Console(
        file=terminal, force_terminal=True, width=20, height=4, _environ={"NO_COLOR": "1"}
    )

    Screen(console, {"bad": "bold red"}).draw([(("x", "bad"),)], (20, 4))

    assert "31" not in terminal.getvalue()
