"""The table is complete whatever a script does, and the scripts are there."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import run
from pairs import Effort, Goal, alone

from .conftest import BENCHMARKS

EFFORT = Effort(1, 0.1)


@pytest.fixture
def script(monkeypatch):
    """Make a function the rows of a script of a name."""

    def install(name, rows):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(rows=rows))

    return install


def test_every_row_is_printed_and_misses_are_counted(script, capsys):
    def rows(effort):
        assert effort is EFFORT
        yield alone("reached", "x", [2.0], Goal(1))
        yield alone("missed", "x", [2.0], Goal(3, obstacle="clouds"))

    script("weather", rows)
    table = run.Table()
    table.measure("weather", EFFORT)
    assert (table.missed, table.failed) == (1, [])
    neighbours, reached, missed = table.lines
    assert neighbours.startswith("# load ")
    assert reached.startswith("reached")
    assert missed.endswith("NO clouds")
    assert capsys.readouterr().out.splitlines() == table.lines


def test_a_script_that_fails_is_a_line_and_the_others_go_on(script, capsys):
    def rows(effort):
        yield alone("before", "x", [2.0])
        raise RuntimeError("no C compiler")

    script("weather", rows)
    script("climate", lambda effort: iter([alone("after", "x", [1.0])]))
    table = run.Table()
    table.measure("weather", EFFORT)
    table.measure("climate", EFFORT)
    assert table.failed == ["weather"]
    assert "# weather was not measured: no C compiler" in table.lines
    assert table.lines[-1].startswith("after")
    assert "Traceback" in capsys.readouterr().err


def test_a_script_whose_packages_are_missing_is_a_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "weather", None)  # as if it could not be imported
    table = run.Table()
    table.measure("weather", EFFORT)
    assert table.failed == ["weather"]


def test_neighbours_are_told_once_for_rows_of_the_same_runs():
    rows = iter([alone("rate", "x", [1.0]), alone("latency", "x", [1.0])])
    (_, first), (_, second) = run.beside_neighbours(rows)
    assert first is not None
    assert second is None


@pytest.mark.parametrize("name", run.SCRIPTS)
def test_every_script_has_rows(name):
    tree = ast.parse(Path(BENCHMARKS, f"{name}.py").read_text())
    assert "rows" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
