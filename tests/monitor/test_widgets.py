import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.monitor import widgets
from trio_kafka_net.monitor.rings import POINTS

from .strategies import texts


def text_of(spans):
    return "".join(text for text, _ in spans)


@given(text=texts.map(widgets.clean), width=st.integers(0, 20), right=st.booleans())
def test_texts_are_cut_or_filled_to_their_width(text, width, right):
    fitted = widgets.fit(text, width, right=right)

    assert width == widgets.width_of(fitted)
    assert fitted.strip() == text.strip() or widgets.CUT in fitted or width < 3


@given(texts)
def test_what_cannot_be_printed_is_replaced(text):
    assert widgets.clean(text).isprintable()


def test_names_are_cut_in_the_middle():
    assert "__cons…ffsets" == widgets.cut_middle("__consumer_offsets", 13)
    assert "漢…字" == widgets.cut_middle("漢字漢字漢字", 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [""]),
        ("closing", ["closing"]),
        ("closing: frame size 1195725856", ["closing: frame", "size 11957", "25856"]),
        ("closing: frame too large", ["closing: frame", "too large"]),
        ("closing:_frame_too_large", ["closing:_frame_", "too_large"]),
        ("漢字漢字漢字漢字漢字", ["漢字漢字漢字漢", "字漢字"]),
    ],
)
def test_texts_are_broken_at_blanks(text, expected):
    assert expected == widgets.wrapped(text, 15, 10)


@given(texts, st.integers(-5, 30), st.integers(-5, 30))
def test_broken_texts_lose_nothing_but_blanks(text, first, others):
    lines = widgets.wrapped(text, first, others)
    assert text.replace(" ", "") == "".join(lines).replace(" ", "")
    if min(first, others) > 8:
        assert all(
            widgets.width_of(line) <= width
            for line, width in zip(lines, [first] + [others] * len(lines), strict=False)
        )


def test_numbers_are_not_cut():
    assert "  …" == widgets.fit_number("12,430", 3)
    assert " 12" == widgets.fit_number("12", 3)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0, "░░░░"),
        (0.5, "██░░"),
        (1, "████"),
        (7.0, "████"),
        (-1, "░░░░"),
        (None, "    "),
        (math.nan, "    "),
    ],
)
def test_gauges_are_filled_by_their_share(share, expected):
    assert expected == text_of(widgets.gauge(share, 4, "good"))


def test_sparkline_has_now_on_the_right_and_touches_the_top():
    rising = text_of(widgets.sparkline([float(n) for n in range(POINTS)], 8))
    short = text_of(widgets.sparkline([0.0] * 10 + [4.0] * 5, 12))

    assert ("▁▂▃▄▅▆▇█", "         ▁▁█") == (rising, short)


def test_sparkline_of_nothing_is_blank():
    assert "    " == text_of(widgets.sparkline([], 4))
    assert " " * 60 == text_of(widgets.sparkline([None] * 60, 60))


@given(points=st.lists(st.one_of(st.none(), st.floats()), max_size=70), width=st.integers(0, 120))
def test_sparkline_is_as_wide_as_asked(points, width):
    assert width == len(text_of(widgets.sparkline(points, width)))


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ((0.19, 0.62, 0, 0.40), "░████▓▓▓"),
        ((0, 0, 5, 0), "▒▒▒▒▒▒▒▒"),
        ((0, 0, 0, 0), "        "),
        ((1, 1, 1, 1), "░░██▒▒▓▓"),
    ],
)
def test_bars_are_split_by_share(amounts, expected):
    parts = [(amount, glyph, "graph") for amount, glyph in zip(amounts, "░█▒▓", strict=True)]

    assert expected == text_of(widgets.split_bar(parts, 8))


@given(amounts=st.lists(st.floats(), min_size=1, max_size=5), width=st.integers(0, 30))
def test_bars_are_as_wide_as_asked(amounts, width):
    parts = [(amount, "x", "graph") for amount in amounts]

    assert width == len(text_of(widgets.split_bar(parts, width)))


def test_panels_are_boxes():
    lines = widgets.panel([("Topics", "title")], [[("orders and more", "value")]], 14, 4)

    assert ["╭─ Topics ───╮", "│orders and …│", "│            │", "╰────────────╯"] == [
        text_of(line) for line in lines
    ]


@given(title=texts.map(widgets.clean), width=st.integers(2, 30), height=st.integers(2, 5))
def test_panels_are_as_large_as_asked(title, width, height):
    lines = widgets.panel([(title, "title")], [[(title, "value")]], width, height)

    assert [width] * height == [widgets.width_of(text_of(line)) for line in lines]
