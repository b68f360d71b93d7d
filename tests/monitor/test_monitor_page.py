"""docs/monitor.md and its picture show the monitor as it is."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator():
    path = ROOT / "tools" / "generate_monitor_docs.py"
    spec = importlib.util.spec_from_file_location("generate_monitor_docs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_the_recording_shows(generator):
    committed = generator.PICTURE.read_text(encoding="utf-8")

    assert generator.render_picture() == committed, "run make docs-img"


def test_lines_and_options_are_those_of_the_program(generator):
    committed = generator.PAGE.read_text(encoding="utf-8")

    assert generator.render_page(committed) == committed, "run make docs-img"
    assert "<!-- generated: lines -->" in committed
    assert "<!-- generated: options -->" in committed
