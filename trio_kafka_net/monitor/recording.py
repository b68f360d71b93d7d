"""Recordings: snapshots as they were taken, one JSON document per line.

Not what was on the screen, but what it was made of: a recording is shown in any size, in any
view, at any moment of it. Lines stand alone, so a recording that was cut off in the middle of a
line (the disk was full, the program was killed) is good up to there; with ``.gz`` at the end of its
name it is compressed, and every line is flushed for the same reason.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Literal, cast

import trio

from .columns import View
from .http_client import SourceError
from .page import PageError
from .snapshot import Snapshot
from .sources import EndOfRecording
from .ui_state import Need, UiState, needs

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""More than a snapshot of the largest page that is read."""
MAX_PAUSE_S: Final = 10.0
"""Longest time that a replay stands still where a recording has a gap."""


class Recorder:
    """Writes snapshots to a new file."""

    def __init__(self, path: Path) -> None:
        """Make ``path``.

        Raises:
            FileExistsError: it is there already; it stays as it is.
            OSError: it cannot be made.
        """
        self._path = path
        self._file = _opened(path, "xb")

    def write(self, snapshot: Snapshot) -> None:
        """Write one, so that it is there even if the program ends now.

        Raises:
            OSError: it may be written in part; the file is closed, and good up to the one before.
        """
        try:
            self._file.write(snapshot.to_json().encode() + b"\n")
            self._file.flush()
        except OSError as error:
            # Closing tries once more what has failed.
            with suppress(OSError):
                self._file.close()
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Close the file.

        Raises:
            OSError: what was written may not be there.
        """
        self._file.close()


def recorded_needs(ui: UiState) -> frozenset[Need]:
    """What to take along for a recording: what every view needs, as ``ui`` wants its own."""
    wanted = {need.name: need for view in View for need in needs(UiState(view=view))}
    wanted |= {need.name: need for need in needs(UiState(log=True))}
    wanted |= {need.name: need for need in needs(ui)}
    return frozenset(wanted.values())


def read_recording(path: Path) -> Iterator[Snapshot]:
    """Read a recording from the beginning.

    Yields:
        Snapshots as they were written. A last line that is not whole is left out.

    Raises:
        SourceError: the file cannot be read, or is no recording.
    """
    try:
        with _opened(path, "rb") as file:
            yield from _snapshots(path, file)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error


def _opened(path: Path, mode: Literal["rb", "xb"]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, mode) if path.suffix == ".gz" else path.open(mode))


def _snapshots(path: Path, file: IO[bytes]) -> Iterator[Snapshot]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE_BYTES)
        except (EOFError, zlib.error):
            # Compressed, and cut off.
            return
        if not line.endswith(b"\n"):
            if len(line) == MAX_LINE_BYTES:
                raise SourceError(f"{path}, line {number}: longer than {MAX_LINE_BYTES:,} bytes")
            return
        try:
            yield Snapshot.from_json(line.decode("utf-8", "replace"))
        except PageError as error:
            raise SourceError(f"{path}, line {number}: {error}") from error


class ReplaySource:
    """A recording in place of a server."""

    is_live = False
    shares_event_loop = False

    def __init__(self, path: Path, *, speed: float = 1.0, at: float = 0.0) -> None:
        """Show ``path``.

        Args:
            path: of the recording.
            speed: seconds of the recording that pass in a second.
            at: where to begin, seconds after its beginning; what came before is the past.
        """
        self.name = path.name
        self._path = path
        self._speed = speed
        self._at = at
        self._snapshots: Iterator[Snapshot] = iter(())
        self._next: Snapshot | None = None
        # When the one that was returned last was due.
        self._shown_at = 0.0
        self._shown: Snapshot | None = None

    def past(self) -> Iterator[Snapshot]:
        """See ``Source.past``: everything from before ``at``, which may be all there is."""
        self._snapshots = read_recording(self._path)
        self._next = next(self._snapshots, None)
        if self._next is None:
            raise SourceError(f"{self._path}: there is no snapshot in it")
        begin = self._next.taken + self._at
        while self._next is not None and self._next.taken < begin:
            yield self._next
            self._next = next(self._snapshots, None)

    async def take(self, needs: Collection[Need]) -> Snapshot:
        """See ``Source.take``; returns when the next one is due, with all that was recorded."""
        snapshot = self._next
        if snapshot is None:
            raise EndOfRecording
        if self._shown is None:
            due = trio.current_time()
        else:
            pause = snapshot.taken - self._shown.taken
            due = self._shown_at + min(max(0.0, pause), MAX_PAUSE_S) / self._speed
        await trio.sleep_until(due)
        self._shown, self._shown_at = snapshot, due
        self._next = next(self._snapshots, None)
        return snapshot

    async def aclose(self) -> None:
        """Close the file."""
        self._snapshots = iter(())
        self._next = None
        await trio.lowlevel.checkpoint()
