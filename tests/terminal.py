"""A program on a terminal of its own, as a person has it before them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

GUARD_SECONDS = 60
"""A test that waits longer has failed; none should wait for a second."""

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


def type_bytes(ends, data):
    """Type on a terminal of this process, given as its two ends; they are there on return."""
    person, program = ends
    os.write(person, data)
    # The kernel brings them over when it likes.
    assert select.select([program], [], [], GUARD_SECONDS)[0]


class Terminal:
    """A terminal, and ``python -m trio_kafka_net`` on it."""

    def __init__(self, *arguments, columns=120, lines=40, environ=None, stdin=None):
        """Start the program; ``stdin`` is a path that it reads in place of the terminal."""
        self.output = ""
        self.raw = b""
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        environ = inherited | {"TERM": "xterm-256color"} | (environ or {})
        ready, go = os.pipe()
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.close(go)
            os.read(ready, 1)
            if stdin is not None:
                os.dup2(os.open(stdin, os.O_RDONLY), 0)
            command = [sys.executable, "-m", "trio_kafka_net", *arguments]
            os.execve(sys.executable, command, environ)
        os.close(ready)
        self.resize(columns, lines)
        self.found = self.modes()
        # Only now has the terminal its size.
        os.write(go, b"x")
        os.close(go)

    def modes(self):
        """The modes of the terminal, as ``termios`` has them."""
        return termios.tcgetattr(self._fd)

    def restore_modes(self):
        """What a shell does to the terminal when its job has stopped."""
        termios.tcsetattr(self._fd, termios.TCSANOW, self.found)

    def resize(self, columns, lines):
        """Have another size; the program is told."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text):
        """Press keys."""
        os.write(self._fd, text.encode())

    def wait_for(self, *texts):
        """Read until every text has come, colours left out; returns what had come until then."""
        end = time.monotonic() + GUARD_SECONDS
        while not all(text in self.output for text in texts):
            assert time.monotonic() < end, f"{texts} did not come, but {self.output[-2000:]!r}"
            if not self._read():
                raise AssertionError(f"ended without {texts}: {self.output[-4000:]}")
        seen, self.output = self.output, ""
        return seen

    def _read(self):
        ready, _, _ = select.select([self._fd], [], [], GUARD_SECONDS)
        assert ready, f"nothing came after {self.output[-2000:]!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            # Nobody has the other side any more.
            return False
        self.raw += data
        self.output += _STYLE.sub("", data.decode("utf-8", "replace"))
        return bool(data)

    def signal(self, number):
        """Send a signal to the program."""
        os.kill(self.pid, number)

    def wait_stopped(self):
        """Wait until the program is suspended."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status

    def wait(self):
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def hang_up(self):
        """Close the terminal under the program; returns its exit code."""
        os.close(self._fd)
        self._fd = -1
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self):
        """End whatever is left."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self._fd >= 0:
            os.close(self._fd)
