"""Files: complete in themselves, the same every time, and faithful to the frame."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from trio_kafka_net.monitor.export import LIGHT_COLORS, Picture, save
from trio_kafka_net.monitor.snapshot import Snapshot

STYLES = {"label": "default", "bad": "bold red", "graph": "blue", "select": "reverse", "dim": "dim"}
LINES = [
    (("╭─ Title ─╮", "label"),),
    (("│", "label"), ("▁▄█░▓", "graph"), (" a  b&<c>", "bad"), ("│", "dim")),
    (("selected 表 row", "select"),),
]
NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def picture():
    return Picture(LINES, 20, STYLES)


def test_a_picture_has_every_word_where_it_belongs(picture):
    root = ElementTree.fromstring(picture.svg())

    texts = {each.text: float(each.get("x")) / 8.4 for each in root.iter(f"{NAMESPACE}text")}
    columns = {"Title": 3, "a": 7, "b&<c>": 10, "selected 表 row": 0}
    assert columns == {text: round(column) for text, column in texts.items()}


def test_a_picture_needs_nothing_from_anywhere(picture):
    for document in (picture.svg(), picture.html()):
        links = document.replace("http://www.w3.org/2000/svg", "")
        assert "http" not in links
        assert "url(" not in links
        assert "@import" not in links


def test_bars_are_shapes_of_their_height(picture):
    root = ElementTree.fromstring(picture.svg())

    bars = [each for each in root.iter(f"{NAMESPACE}rect") if each.get("class") == "graph"]
    heights = [float(each.get("height")) for each in bars]
    assert sorted(heights[:3]) == heights[:3]
    assert ["0.25", "0.75"] == [each.get("opacity") for each in bars[3:]]


def test_borders_are_lines(picture):
    root = ElementTree.fromstring(picture.svg())

    assert 6 == len(list(root.iter(f"{NAMESPACE}path")))


def test_a_selected_row_has_a_ground_as_wide_as_its_cells(picture):
    root = ElementTree.fromstring(picture.svg())

    grounds = [each for each in root.iter(f"{NAMESPACE}rect") if each.get("class") is None]
    assert [round(15 * 8.4, 1)] == [float(each.get("width")) for each in grounds[1:]]


def test_a_picture_is_the_same_every_time(picture):
    assert picture.svg() == Picture(LINES, 20, STYLES).svg()
    assert picture.svg() != Picture(LINES, 20, STYLES, LIGHT_COLORS).svg()


def test_a_text_has_the_characters_and_no_blanks_at_the_ends(picture):
    picture = Picture([*LINES, (("end   ", "label"),)], 20, STYLES)

    expected = "╭─ Title ─╮\n│▁▄█░▓ a  b&<c>│\nselected 表 row\nend\n"
    assert expected == picture.text()


def test_a_page_has_the_same_text(picture):
    assert "b&amp;&lt;c&gt;" in picture.html()


def test_a_frame_that_is_printed_keeps_its_lines(picture):
    file = io.StringIO()
    picture.print(Console(file=file, width=10))

    assert picture.text() == file.getvalue()


@pytest.mark.parametrize(
    ("everything", "endings"), [(False, {".svg"}), (True, {".svg", ".html", ".txt", ".json"})]
)
def test_saving_writes_files_beside_each_other(picture, tmp_path, everything, endings):
    snapshot = Snapshot(1.0, 2.0, {"up": {(): 1.0}})

    written = save(picture, snapshot, tmp_path / "moment-1.5", everything=everything)

    assert {tmp_path / f"moment-1.5{ending}" for ending in endings} == set(written)
    assert all(path.stat().st_size for path in written)
    if everything:
        text = (tmp_path / "moment-1.5.json").read_text(encoding="utf-8")
        assert snapshot == Snapshot.from_json(text)
