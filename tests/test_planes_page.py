"""docs/planes.md names tests and commands that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "planes.md").read_text()


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_of_the_page_exists():
    cited = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(cited) >= 10
    missing = [
        f"{path}::{name}"
        for path, name in cited
        if not (ROOT / path).exists() or (name and name not in functions(ROOT / path))
    ]
    assert [] == missing


def test_every_program_and_result_of_the_page_exists():
    cited = re.findall(r"`(?:python )?((?:benchmarks|examples)/[\w./-]+)", PAGE)
    assert len(cited) >= 4
    assert [] == [path for path in cited if not (ROOT / path).exists()]
