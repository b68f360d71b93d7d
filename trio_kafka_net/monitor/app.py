"""The console monitor: what collects, what listens to keys, and what draws.

::

    Monitor.run
    ├─ collect     a snapshot per interval into the Window; backs off while there is none
    ├─ interact    keys into the UiState; starts exports
    ├─ obey        signals: resize, suspend and resume, the end
    └─ redraw      a frame whenever one of the others has changed something, and every second

None of them waits for another, so keys work while a server is slow, and nothing is lost while
somebody looks at a paused screen. They share a ``Window`` and a ``UiState``. In the process of the
broker itself frames are made and written in a worker thread, because the event loop is the
broker's; ``_window_in_use`` keeps collecting and drawing apart.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs
import trio
from rich.console import Console

from .export import DARK_COLORS, LIGHT_COLORS, Picture, save
from .frame import frame
from .http_client import SourceError
from .keys import Keyboard, open_terminal
from .layout import row_keys
from .recording import Recorder, recorded_needs
from .screen import Screen
from .snapshot import Snapshot
from .sources import EndOfRecording, Source
from .theme import THEMES, Theme
from .ui_state import Action, UiState, needs
from .window import Window

MAX_BACK_OFF_S: Final = 5.0
"""Seconds between two attempts while there is no snapshot."""
REDRAW_S: Final = 1.0
"""Seconds after which a frame is drawn even though nothing is new: clocks go on."""

HANG_UP_S: Final = 0.1
"""Seconds in which the signal of a terminal that hung up comes."""

OpenTerminal = Callable[[], AbstractContextManager[int | None]]
"""Makes a context whose value is the descriptor of a terminal, or None if there is none."""

_OBEYED: Final = (
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
)


@attrs.frozen
class Options:
    """How a monitor begins."""

    ui: UiState = attrs.Factory(UiState)
    """What the screen shows first."""
    theme: Theme = THEMES["dark"]
    """What it looks like."""
    is_light: bool = False
    """Whether files have the colours of a light terminal."""
    recorder: Recorder | None = None
    """Told every snapshot."""
    count: int | None = None
    """How many snapshots to show; None: until somebody quits."""
    directory: Path = Path()
    """Where files go that keys ask for."""


async def run_monitor(
    source: Source,
    options: Options | None = None,
    *,
    console: Console | None = None,
    terminal: OpenTerminal = open_terminal,
) -> Window:
    """Show what a broker does, until somebody presses ``q``.

    ::

        await run_monitor(HttpSource("127.0.0.1:9404"))

    Args:
        source: the broker.
        options: how to begin.
        console: the terminal to draw on; standard output if not given.
        terminal: finds the one that keys come from.

    Returns:
        What was known at the end.

    Raises:
        SourceError: there was no first snapshot; the terminal was not touched.
    What a recorder cannot write ends the recording, with a notice on the screen.

    Cancellation: the terminal is as it was, the source is closed.
    """
    monitor = Monitor(source, options or Options(), console or Console(), terminal)
    try:
        await monitor.begin()
        await monitor.run()
    finally:
        with trio.CancelScope(shield=True):
            await source.aclose()
    return monitor.window


class Monitor:
    """One screen about one source."""

    def __init__(
        self,
        source: Source,
        options: Options,
        console: Console,
        terminal: OpenTerminal = open_terminal,
    ) -> None:
        """Know nothing yet; ``begin``, then ``run``."""
        self._open_terminal = terminal
        self._source = source
        self._options = options
        self._recorder = options.recorder
        self._theme = options.theme
        self._screen = Screen(console, options.theme.styles)
        self._keyboard: Keyboard | None = None
        self.ui = options.ui
        """What somebody chose."""
        self.window = new_window(source)
        """What is known."""
        self._frozen: Window | None = None
        self._window_in_use = trio.Lock()
        self._seen = 0
        self._last_at = 0.0
        self._changed = trio.Event()
        self._hurry = trio.Event()
        self._finished = trio.CancelScope()

    # -- collecting -------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Take the first snapshot, before anything is drawn.

        Raises:
            SourceError: there is none.

        Cancellation: nothing was drawn.
        """
        for snapshot in self._source.past():
            self.window.add(snapshot)
        if self._source.is_live or self.window.now is None:
            await self._take()

    async def _take(self) -> None:
        wanted = needs(self.ui) if self._recorder is None else recorded_needs(self.ui)
        snapshot = await self._source.take(wanted)
        self._record(snapshot)
        async with self._window_in_use:
            self.window.add(snapshot)
            self.window.stale_s = None
        self._last_at = trio.current_time()
        self._seen += 1
        self._changed.set()

    def _record(self, snapshot: Snapshot) -> None:
        if self._recorder is None:
            return
        try:
            self._recorder.write(snapshot)
        except OSError as error:
            self._recorder = None
            self._say(f"the recording ends here: {_in_words(error)}")

    async def _collect(self) -> None:
        failures = 0
        complaint = ""
        while self._options.count is None or self._seen < self._options.count:
            if self._source.is_live:
                await self._wait_until(self._next_at(failures))
            try:
                await self._take()
                failures = 0
                self._say("", instead_of=complaint)
            except SourceError as error:
                failures += 1
                complaint = str(error)
                self._say(complaint)
            except EndOfRecording:
                self._say("the recording ends here")
                return
        self._finished.cancel()

    def _say(self, notice: str, *, instead_of: str | None = None) -> None:
        """Have a notice on the screen, until the next key."""
        if instead_of is None or self.ui.notice == instead_of:
            self.ui = attrs.evolve(self.ui, notice=notice)
        self._changed.set()

    def _next_at(self, failures: int) -> float:
        if not failures:
            return self._last_at + self.ui.interval_s
        back_off = min(MAX_BACK_OFF_S, 2.0 ** (failures - 1))
        return trio.current_time() + max(back_off, min(self.ui.interval_s, MAX_BACK_OFF_S))

    async def _wait_until(self, moment: float) -> None:
        """Wait for the next snapshot to be due, or for a screen that needs other documents."""
        self._hurry = trio.Event()
        with trio.move_on_at(moment):
            await self._hurry.wait()

    # -- keys -------------------------------------------------------------------------------------

    async def _interact(self, keyboard: Keyboard) -> None:
        while True:
            try:
                keys = await keyboard.read()
            except EOFError:
                # A hang-up is a signal as well, which must still find somebody who obeys it.
                await trio.sleep(HANG_UP_S)
                self._finished.cancel()
                return
            for key in keys:
                await self._press(key)

    async def _press(self, key: str) -> None:
        before = self.ui
        rows = row_keys(self._shown, before, self._screen.size)
        pressed = before.press(key, rows)
        if isinstance(pressed, Action):
            await self._act(pressed)
            return
        self.ui = pressed
        if pressed.paused != before.paused:
            self._frozen = self.window.copy() if pressed.paused else None
        if needs(pressed) != needs(before) or pressed.interval_s < before.interval_s:
            self._hurry.set()
        self._changed.set()

    async def _act(self, action: Action) -> None:
        if action is Action.QUIT:
            self._finished.cancel()
        elif action is Action.SUSPEND:
            await self._suspend()
        else:
            await self._save(everything=action is Action.SAVE_EVERYTHING)

    async def _save(self, *, everything: bool) -> None:
        stem = self._options.directory / time.strftime("trio-kafka-net-%Y%m%d-%H%M%S")
        async with self._window_in_use:
            picture = self._picture()
            snapshot = self._shown.now
        try:
            written = await trio.to_thread.run_sync(
                lambda: save(picture, snapshot, stem, everything=everything)
            )
        except OSError as error:
            notice = _in_words(error)
        else:
            # They differ in their endings.
            notice = " ".join(["saved", written[0].name, *(path.suffix for path in written[1:])])
        self._say(notice)

    def _picture(self) -> Picture:
        colors = LIGHT_COLORS if self._options.is_light else DARK_COLORS
        size = self._screen.size
        lines = frame(self._shown, size, self.ui, self._theme)
        return Picture(lines, size[0], self._theme.styles, colors)

    # -- drawing ----------------------------------------------------------------------------------

    @property
    def _shown(self) -> Window:
        """What the screen is made of: what is known now, or was known when it was paused."""
        return self.window if self._frozen is None else self._frozen

    async def _redraw(self) -> None:
        while True:
            self._changed = trio.Event()
            async with self._window_in_use:
                if self.window.stale_s is not None or self._is_late():
                    self.window.stale_s = trio.current_time() - self._last_at
                if self._source.shares_event_loop:
                    await trio.to_thread.run_sync(self._draw)
                else:
                    self._draw()
            with trio.move_on_after(REDRAW_S):
                await self._changed.wait()

    def _is_late(self) -> bool:
        """Whether a snapshot should have come, and has not."""
        late = trio.current_time() - self._last_at
        return self._source.is_live and late > self.ui.interval_s + REDRAW_S

    def _draw(self) -> None:
        size = self._screen.size
        # A terminal that hung up; whoever reads keys, or SIGHUP, says so as well.
        with suppress(OSError):
            self._screen.draw(frame(self._shown, size, self.ui, self._theme), size)

    # -- the terminal -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Have the screen until somebody quits; ``begin`` comes first.

        Cancellation: the terminal is as it was.
        """
        with (
            trio.open_signal_receiver(*_OBEYED) as signals,
            self._open_terminal() as fd,
            self._on_screen(fd),
            self._finished,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals)
                nursery.start_soon(self._collect)
                nursery.start_soon(self._redraw)
                if self._keyboard is not None:
                    nursery.start_soon(self._interact, self._keyboard)

    @contextmanager
    def _on_screen(self, fd: int | None) -> Iterator[None]:
        self._keyboard = None if fd is None else Keyboard(fd)
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        if self._keyboard is not None:
            self._keyboard.enter()
        self._screen.enter()

    def _leave(self) -> None:
        with suppress(OSError):
            self._screen.leave()
        if self._keyboard is not None:
            self._keyboard.leave()

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGWINCH:
                self._changed.set()
            elif number == signal.SIGTSTP:
                await self._suspend()
            elif number == signal.SIGCONT:
                await self._resume()
            else:
                self._finished.cancel()

    async def _suspend(self) -> None:
        """Stop as other programs do at Ctrl-Z, with the terminal as it was."""
        async with self._window_in_use:
            self._leave()
            os.kill(os.getpid(), signal.SIGSTOP)
            # Here again when somebody lets it go on; SIGCONT does the rest.

    async def _resume(self) -> None:
        """Take the terminal again, which a shell has used meanwhile."""
        async with self._window_in_use:
            self._enter()
        self._changed.set()


def _in_words(error: OSError) -> str:
    return f"cannot write {error.filename}: {error.strerror}"


def new_window(source: Source) -> Window:
    """An empty window over ``source``, with this machine's idea of the time of day."""
    return Window(source=source.name, utc_offset_s=float(time.localtime().tm_gmtoff))
