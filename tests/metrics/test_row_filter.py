from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.metrics.row_filter import MAX_PATTERN, FilterError, RowFilter


@pytest.mark.parametrize(
    ("pattern", "text", "is_chosen"),
    [
        ("", "anything", True),
        ("sink", "orders-SINK-3", True),
        ("^orders", "orders-sink", True),
        ("^sink", "orders-sink", False),
        ("sink$", "orders-sink", True),
        ("orders$", "orders-sink", False),
        ("o.*-.*3$", "orders-sink-3", True),
        ("o.*-.*4$", "orders-sink-3", False),
        ("^orders.+$", "orders", False),
        ("^orders.*$", "orders", True),
        ("^a$", "aa", False),
        ("10\\.0\\.0\\.[1-3]:", "10.0.0.2:9092", True),
        ("10\\.0\\.0\\.[^1-3]:", "10.0.0.2:9092", False),
        ("audit|sink", "orders-sink", True),
        ("audit|clicks", "orders-sink", False),
        ("!sink", "orders-sink", False),
        ("!audit|clicks", "orders-sink", True),
        ("\\d\\d", "v12", True),
        ("$", "x", True),
        ("[]x]", "]", True),
    ],
)
def test_a_pattern_chooses_as_a_regular_expression_does(pattern, text, is_chosen):
    assert is_chosen == RowFilter(pattern).matches(text)


@pytest.mark.parametrize(
    "pattern",
    ["(a*)*", "a*", "a+", "a?", "a{2}", "a^", "a$b", "\\b", "\\1", "[z-a]", "[", "\\", ")", "^^"],
)
def test_what_could_take_for_ever_is_refused(pattern):
    with pytest.raises(FilterError):
        RowFilter(pattern)


def test_a_long_pattern_is_refused():
    RowFilter("a" * MAX_PATTERN)
    with pytest.raises(FilterError, match="longer"):
        RowFilter("a" * (MAX_PATTERN + 1))


PIECE = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", ".*", ".+", "\\.", "|"])


@given(
    st.builds(
        lambda start, pieces, end: start + "".join(pieces) + end,
        st.sampled_from(["", "^"]),
        st.lists(PIECE, max_size=8),
        st.sampled_from(["", "$"]),
    ),
    st.text("ab.c", max_size=12),
)
def test_every_pattern_that_is_understood_means_what_it_means_elsewhere(pattern, text):
    expected = re.search(pattern, text, re.IGNORECASE) is not None
    assert expected == RowFilter(pattern).matches(text)


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern):
    with contextlib.suppress(FilterError):
        RowFilter(pattern).matches("orders-sink-3")
