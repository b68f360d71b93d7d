"""The keyboard: from the bytes of a terminal to the names of keys.

A terminal sends an arrow as three bytes that begin with the one byte of the Escape key, and may
deliver them in pieces. So a lone Escape is only known when nothing follows it: ``KeyDecoder``
(which does no IO and knows no clock) says that it hangs in the air, ``Keyboard`` waits a moment and
then tells it that nothing came.

Rules for the terminal itself:

* It is never made non-blocking. That is a property of the open terminal, not of our descriptor:
  standard output and error, and the shell's, would become non-blocking as well. trio waits until
  something can be read; one ``read`` then returns at once.
* Line mode and echo are off (``cbreak``), so is the flow control that would freeze the screen at
  Ctrl-S. Signals stay on: Ctrl-C and Ctrl-Z also work when this program does not.
* What was changed is put back on the way out, whatever happens, and whenever the program is
  suspended.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import sys
import termios
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import trio

ESCAPE_SECONDS: Final = 0.05
"""How long the rest of a sequence may take; a lone Escape is known after that."""

_READ_BYTES = 64
# where termios keeps its parts
_INPUT, _LOCAL, _CHARACTERS = 0, 3, 6
_MAX_SEQUENCE_BYTES = 32

_NAMED: Final[Mapping[str, str]] = {
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    " ": "space",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x03": "ctrl-c",
    "\x15": "ctrl-u",
    "\x1a": "ctrl-z",
}
# What follows "ESC [" or "ESC O" in the terminals that are about: xterm, linux, rxvt, tmux, screen.
_SEQUENCES: Final[Mapping[str, str]] = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "M": "enter",
    "Z": "shift-tab",
    "1~": "home",
    "3~": "delete",
    "4~": "end",
    "5~": "pgup",
    "6~": "pgdn",
    "7~": "home",
    "8~": "end",
}
_CONTROL = re.compile(r"\x1b\[([0-9;:<=>?]*)[ -/]*([@-~])")
_APPLICATION = re.compile(r"\x1bO([0-9]*[@-Z\\^-~])")
# Shift and its like come as a parameter: "1;5A" is Ctrl-Up. The key is what counts here.
_MODIFIER = re.compile(r"^1?;\d+|;\d+$")


class KeyDecoder:
    """Turns bytes into names of keys; a sequence may come in pieces."""

    def __init__(self) -> None:
        self._text = ""
        self._characters = codecs.getincrementaldecoder("utf-8")("ignore")

    @property
    def is_pending(self) -> bool:
        """Whether an Escape has come of which nobody knows yet what it begins."""
        return bool(self._text)

    def feed(self, data: bytes) -> list[str]:
        """Take in what was read.

        Args:
            data: whatever has come, cut anywhere.

        Returns:
            Names of the keys that are complete: those of ``_NAMED`` and ``_SEQUENCES``, ``esc``,
            and printable characters as they are. What has no name is left out.
        """
        self._text += self._characters.decode(data)
        keys: list[str] = []
        while self._text:
            length, key = self._first_key()
            if not length:
                break
            self._text = self._text[length:]
            if key is not None:
                keys.append(key)
        return keys

    def flush(self) -> list[str]:
        """Say that nothing followed in time.

        Returns:
            ``esc`` if a lone Escape was pending; nothing if it was the beginning of a sequence.
        """
        pending, self._text = self._text, ""
        return ["esc"] if pending == "\x1b" else []

    def _first_key(self) -> tuple[int, str | None]:
        """How many characters the first key has, 0 if it is not whole, and its name."""
        text = self._text
        if text[0] != "\x1b":
            return 1, _NAMED.get(text[0], text[0] if text[0].isprintable() else None)
        if match := _CONTROL.match(text) or _APPLICATION.match(text):
            sequence = "".join(part for part in match.groups())
            return match.end(), _SEQUENCES.get(_MODIFIER.sub("", sequence[:-1]) + sequence[-1])
        if len(text) == 1 or (text[1] in "[O" and len(text) <= _MAX_SEQUENCE_BYTES):
            return 0, None
        # Alt and a key, two Escapes, or what no terminal sends.
        return 1, "esc"


class Keyboard:
    """The terminal that keys come from, in a mode in which every key arrives at once.

    ::

        with Keyboard(fd) as keyboard:
            keys = await keyboard.read()
    """

    def __init__(self, fd: int) -> None:
        """Read from ``fd``, a terminal; nothing is changed yet."""
        self._fd = fd
        self._decoder = KeyDecoder()
        # what termios.tcgetattr returned before anything was changed
        self._found: list[Any] | None = None

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """Switch line mode and echo off; also after somebody else has switched them on again."""
        mode = termios.tcgetattr(self._fd)
        if self._found is None:
            self._found = list(mode)
        mode[_INPUT] &= ~termios.IXON
        mode[_LOCAL] &= ~(termios.ECHO | termios.ICANON)
        # A read returns as soon as there is one byte.
        mode[_CHARACTERS] = list(mode[_CHARACTERS])
        mode[_CHARACTERS][termios.VMIN] = 1
        mode[_CHARACTERS][termios.VTIME] = 0
        self._set(mode)

    def leave(self) -> None:
        """Put back what was found; what was typed and not read is thrown away."""
        if self._found is not None:
            found, self._found = self._found, None
            self._set(found)
            with contextlib.suppress(termios.error):
                termios.tcflush(self._fd, termios.TCIFLUSH)

    def _set(self, mode: list[Any]) -> None:
        while True:
            try:
                termios.tcsetattr(self._fd, termios.TCSANOW, mode)
            except termios.error as error:
                # Whoever sets modes from the background is stopped by the kernel; this is how the
                # call ends when the program is in the foreground again. Any other error is that
                # of a terminal that hung up, which has no modes to set.
                if error.args[0] == errno.EINTR:
                    continue
            return

    async def read(self) -> list[str]:
        """Wait for keys.

        Returns:
            Names of one key or more, see ``KeyDecoder.feed``.

        Raises:
            EOFError: the terminal is gone.

        Cancellation: loses nothing but the question whether an Escape was alone.
        """
        while True:
            if keys := await self._read_once():
                return keys

    async def _read_once(self) -> list[str]:
        if self._decoder.is_pending:
            with trio.move_on_after(ESCAPE_SECONDS) as waiting:
                await trio.lowlevel.wait_readable(self._fd)
            if waiting.cancelled_caught:
                return self._decoder.flush()
        else:
            await trio.lowlevel.wait_readable(self._fd)
        return self._decoder.feed(self._read_bytes())

    def _read_bytes(self) -> bytes:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError as error:
            raise EOFError(f"the terminal is gone: {error.strerror}") from error
        if not data:
            raise EOFError("the terminal is gone")
        return data


@contextlib.contextmanager
def open_terminal() -> Iterator[int | None]:
    """Find the terminal to read keys from.

    Yields:
        A descriptor: standard input if that is a terminal, otherwise the terminal that controls
        this process, opened for the time of the block; None if there is none.
    """
    if os.isatty(sys.__stdin__.fileno() if sys.__stdin__ is not None else -1):
        assert sys.__stdin__ is not None
        yield sys.__stdin__.fileno()
        return
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)
