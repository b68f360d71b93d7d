import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from trio_kafka_net.monitor.page import PageError, format_labels, parse_labels, parse_page

names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,10}", fullmatch=True)
label_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True)
# Lines end with a line feed alone, but the reference splits at every character that ends lines.
texts = st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=8)
values = st.one_of(st.floats(), st.integers(-(10**15), 10**15))
samples = st.tuples(
    names, st.dictionaries(label_names, texts, max_size=3), values, st.sampled_from(["", " 17"])
)


def line_of(name, labels, value, timestamp):
    written = {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, repr(value))
    braces = "{" + format_labels(tuple(labels.items())) + "}" if labels else ""
    return f"{name}{braces} {written}{timestamp}\n"


def as_reference_reads_it(page):
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            found.setdefault(sample.name, {})[labels] = float(sample.value)
    return found


@given(st.lists(samples, max_size=5))
def test_pages_are_read_as_the_reference_does(drawn):
    page = "".join(line_of(*sample) for sample in drawn)

    found = {
        name: {frozenset(labels): value for labels, value in family.items()}
        for name, family in parse_page(page).items()
    }

    assert repr(sorted_page(as_reference_reads_it(page))) == repr(sorted_page(found))


def sorted_page(page):
    return {
        name: sorted((sorted(labels), value) for labels, value in page[name].items())
        for name in sorted(page)
    }


@given(st.dictionaries(label_names, st.text(), max_size=4))
def test_labels_are_written_as_they_are_read(labels):
    pairs = tuple(labels.items())

    assert pairs == parse_labels(format_labels(pairs))


def test_comments_blank_lines_and_timestamps_say_nothing():
    page = '# HELP a b\n# TYPE a counter\n\n  \na 1 1700000000000\na_b{c="}",d="x y",} +Inf\n'

    assert {"a": {(): 1.0}, "a_b": {(("c", "}"), ("d", "x y")): math.inf}} == parse_page(page)


@pytest.mark.parametrize(
    "line", ["<html>", "a", "a b", "a{b} 1", 'a{b="c} 1', 'a{b="c"', "a{b=c} 1", "}", "{} x"]
)
def test_what_is_no_page_is_refused(line):
    with pytest.raises(PageError, match="not a line of a metrics page"):
        parse_page(f"fine 1\n{line}\n")


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(PageError):
        parse_page(text)


def test_a_series_of_megabytes_is_none():
    line = 'a{b="' + '\\"' * 1_000_000 + '"} 1'
    with pytest.raises(PageError, match="not a line of a metrics page"):
        parse_page(line)
