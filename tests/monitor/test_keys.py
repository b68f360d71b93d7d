"""Keys: from bytes, cut anywhere, to names; and a terminal that is left as it was found."""

from __future__ import annotations

import os
import pty
import termios

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.terminal import type_bytes
from trio_kafka_net.monitor.keys import ESCAPE_SECONDS, Keyboard, KeyDecoder

EVERY_KEY = [
    (b"q", "q"),
    (b"\xc3\xa9", "é"),
    (b"\t", "tab"),
    (b"\r", "enter"),
    (b"\n", "enter"),
    (b" ", "space"),
    (b"\x7f", "backspace"),
    (b"\x03", "ctrl-c"),
    (b"\x1a", "ctrl-z"),
    (b"\x1b[A", "up"),
    (b"\x1bOB", "down"),
    (b"\x1b[C", "right"),
    (b"\x1b[1;5D", "left"),
    (b"\x1b[Z", "shift-tab"),
    (b"\x1b[H", "home"),
    (b"\x1b[4~", "end"),
    (b"\x1b[5~", "pgup"),
    (b"\x1b[6;2~", "pgdn"),
]


@pytest.mark.parametrize(("data", "name"), EVERY_KEY)
def test_a_key_has_one_name_in_every_terminal(data, name):
    assert [name] == KeyDecoder().feed(data)


@given(st.lists(st.sampled_from(EVERY_KEY), max_size=8), st.data())
def test_keys_are_the_same_however_the_bytes_are_cut(typed, draw):
    data = b"".join(key for key, _ in typed)
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=10).map(sorted))
    decoder = KeyDecoder()

    keys = []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        keys += decoder.feed(data[begin:end])

    assert [name for _, name in typed] == keys


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_are_too_odd_and_none_are_kept_for_long(pieces):
    decoder = KeyDecoder()
    for piece in pieces:
        decoder.feed(piece)

    assert len(decoder.flush()) <= 1
    assert not decoder.is_pending


def test_an_unknown_sequence_is_swallowed_whole():
    assert ["a", "b"] == KeyDecoder().feed(b"a\x1b[200~\x1b[?1;2cb")


def test_an_escape_with_a_key_behind_it_is_both():
    assert ["esc", "x"] == KeyDecoder().feed(b"\x1bx")


def test_a_sequence_that_never_ends_is_given_up():
    decoder = KeyDecoder()

    keys = decoder.feed(b"\x1b[" + b"1" * 100)

    assert keys[0] == "esc"
    assert not decoder.is_pending


@pytest.fixture
def terminal():
    """Both ends of a terminal: (the side of the person, the side of the program)."""
    person, program = pty.openpty()
    yield person, program
    for fd in (person, program):
        os.close(fd)


async def test_an_escape_alone_is_known_when_nothing_follows(terminal, autojump_clock):
    person, program = terminal
    with Keyboard(program) as keyboard:
        os.write(person, b"\x1b")

        begin = trio.current_time()
        assert ["esc"] == await keyboard.read()
        assert ESCAPE_SECONDS == pytest.approx(trio.current_time() - begin)


async def test_an_arrow_may_come_in_pieces(terminal, mock_clock, nursery):
    _, program = terminal
    keys = []

    async def read():
        keys.extend(await keyboard.read())

    with Keyboard(program) as keyboard:
        nursery.start_soon(read)
        for piece in (b"\x1b", b"[", b"B"):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(ESCAPE_SECONDS / 2)
            type_bytes(terminal, piece)
        await trio.testing.wait_all_tasks_blocked()

    assert ["down"] == keys


async def test_what_was_changed_is_put_back(terminal):
    _, program = terminal
    found = termios.tcgetattr(program)

    with Keyboard(program):
        inside = termios.tcgetattr(program)

    assert found == termios.tcgetattr(program)
    assert found[3] & (termios.ICANON | termios.ECHO) != 0
    assert inside[3] & (termios.ICANON | termios.ECHO) == 0
    assert inside[3] & termios.ISIG, "Ctrl-C must reach a program that hangs"


async def test_the_mode_can_be_set_again_and_what_was_found_first_is_put_back(terminal):
    _, program = terminal
    found = termios.tcgetattr(program)
    keyboard = Keyboard(program)

    keyboard.enter()
    termios.tcsetattr(program, termios.TCSANOW, found)
    keyboard.enter()
    inside = termios.tcgetattr(program)
    keyboard.leave()

    assert inside[3] & termios.ICANON == 0
    assert found == termios.tcgetattr(program)


async def test_reading_leaves_the_terminal_blocking_for_everybody_else(terminal):
    person, program = terminal
    with Keyboard(program) as keyboard:
        os.write(person, b"q")
        assert ["q"] == await keyboard.read()
        assert os.get_blocking(program)


async def test_a_terminal_that_hung_up_is_the_end():
    person, program = pty.openpty()
    with Keyboard(program) as keyboard:
        os.close(person)
        with pytest.raises(EOFError, match="the terminal is gone"):
            await keyboard.read()
    os.close(program)
