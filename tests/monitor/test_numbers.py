"""Numbers stay short, and larger ones never look smaller."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.monitor import numbers

PREFIXES = {prefix: 1000.0 ** (at + 1) for at, prefix in enumerate("kMGTPE")}
UNITS = {"ms": 1e-3, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

SHORT = [
    numbers.figure,
    numbers.tenths,
    numbers.scaled,
    numbers.of_bytes,
    numbers.size,
    numbers.milliseconds,
    numbers.tenths_of_ms,
    numbers.percent,
    numbers.duration,
    numbers.age,
]
amounts = st.one_of(st.floats(1e-9, 1e15), st.floats(1, 1e6), st.floats(0, 1))


def read(text, how):
    """The number that was meant."""
    if how in {numbers.duration, numbers.age}:
        return read_duration(text)
    text = text.replace(",", "").removesuffix("%").removeprefix(">")
    factor = PREFIXES.get(text[-1], 1.0)
    return float(text[:-1] if factor != 1 else text) * factor


def read_duration(text):
    if text == "<1s":
        return 0.5
    seconds, number, unit = 0.0, "", ""
    for character in text:
        if character.isalpha() and not (character == "e" and not unit):
            unit += character
        elif unit:
            seconds, number, unit = seconds + float(number) * UNITS[unit], character, ""
        else:
            number += character
    return seconds + float(number) * UNITS[unit]


@pytest.mark.parametrize("how", SHORT, ids=lambda how: how.__name__)
@given(value=amounts)
def test_numbers_take_six_cells_at_most(how, value):
    assert len(numbers.written(value, how)) <= 6


@pytest.mark.parametrize("how", SHORT, ids=lambda how: how.__name__)
@given(one=amounts, other=amounts)
def test_larger_numbers_never_look_smaller(how, one, other):
    less, more = sorted((one, other))

    assert read(how(less), how) <= read(how(more), how)


@pytest.mark.parametrize("how", [*SHORT, numbers.plain], ids=lambda how: how.__name__)
@given(value=st.floats())
def test_any_number_at_all_is_written(how, value):
    assert numbers.written(value, how).isprintable()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (numbers.figure, {0: "0", 0.4: "0.4", 3: "3", 9.96: "10", 12_430: "12,430", 1e5: "100.0k"}),
        (numbers.tenths, {0: "0.0", 0.4: "0.4", 212: "212", 12_430: "12.4k"}),
        (numbers.scaled, {812: "812", 1_100: "1.1k", 999.6: "1.0k", 999_960: "1.0M"}),
        (numbers.of_bytes, {900: "0.9k", 16.4e6: "16.4M"}),
        (numbers.size, {88e6: "88M", 18.2e9: "18.2G", 12: "12"}),
        (numbers.milliseconds, {0.00121: "1.21", 0.12: "120.", 2.9: "2.9e3", 0.009996: "10.0"}),
        (numbers.percent, {0.245: "24%", 1: "100%"}),
        (numbers.duration, {0.5: "<1s", 12: "12s", 190: "3m10s", 187_860: "2d04h"}),
        (numbers.age, {0.003: "3ms", 1.1: "1.1s", 0.9996: "1.0s"}),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_numbers_look_as_chosen(how, expected):
    assert expected == {value: how(value) for value in expected}


def test_what_is_no_number_is_a_dash():
    assert ["–", "–", "∞", "-∞", "-3", "0"] == [
        numbers.written(value, numbers.figure)
        for value in (None, math.nan, math.inf, -math.inf, -3, -0.01)
    ]


def test_columns_without_room_for_their_greatest_have_no_decimals():
    how = numbers.in_one_unit([162.2e6, 0.4e6], 5)

    assert ["162M", "0M"] == [how(162.2e6), how(0.4e6)]


def test_columns_share_the_prefix_of_their_greatest():
    how = numbers.in_one_unit([31.9e6, 0.4e6, None, math.nan])

    assert ["31.9M", "0.4M", "0.0M"] == [how(31.9e6), how(0.4e6), how(0)]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (48.2e6, "B", ("48.2", "MB/s")),
        (61_400, "", ("61.4", "k/s")),
        (0.4, "", ("0.4", "/s")),
        (999.6, "", ("1.0", "k/s")),
        (None, "B", ("–", "B/s")),
    ],
)
def test_rates_have_units(value, unit, expected):
    assert expected == numbers.with_unit(value, unit)
