"""Whatever a server says, whatever keys are pressed, and however large the terminal is."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_kafka_net.monitor.alerts import active
from trio_kafka_net.monitor.frame import frame
from trio_kafka_net.monitor.layout import row_keys
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.theme import THEMES
from trio_kafka_net.monitor.ui_state import Action, UiState, needs
from trio_kafka_net.monitor.widgets import width_of
from trio_kafka_net.monitor.window import Window

from . import strategies

SETTINGS = settings(max_examples=60, deadline=None)


@SETTINGS
@given(
    seen=strategies.snapshots(),
    width=st.one_of(st.integers(20, 200), st.sampled_from([59, 60, 79, 80, 99, 100, 119, 120])),
    height=st.integers(5, 60),
    keys=st.lists(strategies.keys, max_size=8),
    is_ascii=st.booleans(),
    stale=st.sampled_from([None, None, 3.0]),
)
def test_every_screen_is_exactly_as_large_as_the_terminal(
    seen, width, height, keys, is_ascii, stale
):
    window = Window(source="127.0.0.1:9404")
    for snapshot in seen:
        window.add(snapshot)
    window.stale_s = stale
    ui = UiState()
    for key in keys:
        after = ui.press(key, row_keys(window, ui))
        ui = ui if isinstance(after, Action) else after
    needs(ui)
    theme = attrs.evolve(THEMES["dark"], ascii=is_ascii)

    lines = [
        "".join(text for text, _ in line) for line in frame(window, (width, height), ui, theme)
    ]

    assert height == len(lines)
    assert [width] * height == [width_of(line) for line in lines]
    assert all(line.isprintable() for line in lines)
    assert not is_ascii or all(line.isascii() for line in lines)
    assert active(window) == active(window.copy())


@SETTINGS
@given(seen=strategies.snapshots())
def test_a_recording_holds_everything(seen):
    for snapshot in seen:
        again = Snapshot.from_json(snapshot.to_json())

        assert repr(snapshot.samples) == repr(again.samples)  # NaN is not equal to itself
        assert repr((snapshot.taken, snapshot.time)) == repr((again.taken, again.time))
