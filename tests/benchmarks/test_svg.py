"""A picture is well-formed, says what it shows, and draws inside its frame."""

from __future__ import annotations

from xml.etree import ElementTree

import svg

SVG = "{http://www.w3.org/2000/svg}"


def draw(tmp_path, series):
    path = tmp_path / "img/curves.svg"
    svg.curves(path, "Cost & <use>", "connections", "µs per request", series)
    return ElementTree.parse(path).getroot()


def test_title_axes_and_series_are_named(tmp_path):
    picture = draw(tmp_path, {"Produce": [(1, 10), (10_000, 20)], "Metadata": [(1, 5)]})
    texts = [element.text for element in picture.iter(f"{SVG}text")]
    named = {"Cost & <use>", "connections", "µs per request", "Produce", "Metadata", "10,000"}
    assert named <= set(texts)


def test_points_are_inside_and_in_order(tmp_path):
    picture = draw(tmp_path, {"Produce": [(100, 30), (1, 10), (10_000, 20)]})
    (line,) = picture.iter(f"{SVG}polyline")
    points = [tuple(map(float, each.split(","))) for each in line.get("points").split()]
    assert points == sorted(points)
    for x, y in points:
        assert svg.LEFT <= x <= svg.WIDTH - svg.RIGHT
        assert svg.TOP <= y <= svg.HEIGHT - svg.BOTTOM
    assert points[1][1] == min(y for _, y in points)  # the largest value stands highest


def test_a_text_stays_inside_its_picture(tmp_path):
    """By the width of a wide fixed-width font: nobody knows what a reader's browser has."""
    picture = draw(tmp_path, {"partitions: Metadata": [(1, 10), (100, 20)]})
    for element in picture.findall(f"{SVG}text"):
        width = 7.3 * len(element.text)
        begin = float(element.get("x"))
        begin -= {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor")]
        assert begin >= 0
        assert begin + width <= svg.WIDTH
