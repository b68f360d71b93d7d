"""The whole screen: a function of what is known, of its size, and of what somebody chose.

Nothing is read here, no clock and no terminal, so that a screen can be compared with a text file.
Whatever a server sent, every line is exactly as wide as the screen.
"""

from __future__ import annotations

from . import chrome, gauges
from .alerts import Alert, active
from .layout import ALERT_LINES, Preset, body
from .theme import Theme
from .ui_state import UiState
from .widgets import Line, Spans, fill, joined, spans_width
from .window import Window


def frame(window: Window, size: tuple[int, int], ui: UiState, theme: Theme) -> list[Line]:
    """Draw the screen.

    Args:
        window: what is known; that of the moment when it was paused, if it is.
        size: cells and lines of the terminal.
        ui: what somebody chose.
        theme: with which glyphs; how roles look is up to whoever draws.

    Returns:
        As many lines as the terminal has, each of exactly its width.
    """
    width, height = size
    alerts = active(window)
    if Preset.of(width, height) is Preset.LINE:
        lines = _two_lines(window, ui, alerts, width)
    else:
        lines = _screen(window, ui, alerts, width, height)
    lines = lines[:height] + [fill([], width) for _ in range(height - len(lines))]
    return [joined((theme.drawn(text), role) for text, role in line) for line in lines]


def _screen(
    window: Window, ui: UiState, alerts: list[Alert], width: int, height: int
) -> list[Spans]:
    head = [chrome.header(window, ui, width)] if ui.header else []
    if ui.alerts:
        foot = chrome.alert_list(alerts, width, min(ALERT_LINES, height // 3))
    else:
        foot = [chrome.alert_line(alerts, width)]
    foot.append(chrome.key_line(ui, width))
    return [*head, *body(window, ui, width, height - len(head) - len(foot)), *foot]


def _two_lines(window: Window, ui: UiState, alerts: list[Alert], width: int) -> list[Spans]:
    who = chrome.state(window, ui)
    status = [*who, *gauges.one_line(window, width - spans_width(who))]
    return [fill(status, width), chrome.alert_line(alerts, width)]
