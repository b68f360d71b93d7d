"""What screens are drawn of: recordings, and a window that has seen them."""

import gzip
from functools import cache
from pathlib import Path

from trio_kafka_net.monitor.frame import frame
from trio_kafka_net.monitor.layout import row_keys
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.theme import THEMES
from trio_kafka_net.monitor.ui_state import UiState
from trio_kafka_net.monitor.window import Window

DATA = Path(__file__).parents[1] / "data"
SCREENS = DATA / "monitor"
NAMES = ("busy", "quiet", "first", "trouble", "restarted", "kafka")
SIZES = ((160, 50), (120, 40), (100, 30), (80, 24), (60, 20))


@cache
def snapshots(name):
    with gzip.open(DATA / f"monitor-{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return tuple(Snapshot.from_json(line) for line in file)


@cache
def _replayed(name):
    window = Window(source="127.0.0.1:9404")
    for snapshot in snapshots(name):
        window.add(snapshot)
    return window


def replayed(name):
    """A window that has seen the whole recording."""
    return _replayed(name).copy()


def pressed(window, keys, ui=None):
    """The state after these keys."""
    ui = ui or UiState()
    for key in keys:
        ui = ui.press(key, row_keys(window, ui))
    return ui


def texts(window, size, ui=None, theme=THEMES["dark"]):
    """The lines of the screen as text."""
    return ["".join(text for text, _ in line) for line in drawn(window, size, ui, theme)]


def drawn(window, size, ui=None, theme=THEMES["dark"]):
    """The lines of the screen."""
    return frame(window, size, ui or UiState(), theme)
