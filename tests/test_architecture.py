"""Rules about the code as a whole that no linter checks."""

import ast
import re
import tokenize
from pathlib import Path
from tokenize import COMMENT

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trio_kafka_net"
GENERATED = PACKAGE / "protocol" / "messages"
SOURCES = sorted(PACKAGE.rglob("*.py"))
WRITTEN = [path for path in SOURCES if GENERATED not in path.parents]
EVERY_TEXT = [
    path
    for pattern in ("*.py", "*.md", "*.toml", "*.txt", "Makefile", "run")
    for path in ROOT.rglob(pattern)
    if not {".venv", ".git", ".hypothesis"} & set(path.relative_to(ROOT).parts)
]
PYTHON_FILES = [path for path in EVERY_TEXT if path.suffix == ".py"]

MAX_LINES = 600
NOBODY_FINDS_ANYTHING_IN = {"utils", "util", "helpers", "common", "base", "types", "misc"}


def name_of(path):
    return str(path.relative_to(ROOT))


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def public_definitions(node, prefix=""):
    """Public functions and classes, and what they contain: (dotted name, node)."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_"):
            continue
        yield prefix + child.name, child
        if isinstance(child, ast.ClassDef):
            yield from public_definitions(child, f"{prefix}{child.name}.")


def is_documented(node):
    overloads = {"overload", "override"}
    decorators = {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}
    is_setter = "setter" in decorators
    return ast.get_docstring(node) is not None or bool(overloads & decorators) or is_setter


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_files_can_be_read_in_one_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_are_named_after_what_they_do(path):
    assert not NOBODY_FINDS_ANYTHING_IN & set(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_public_definitions_are_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert ast.get_docstring(tree), "the module itself"
    assert [name for name, node in public_definitions(tree) if not is_documented(node)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_command_line_and_monitor_know_a_terminal(path):
    if path.relative_to(PACKAGE).parts[0] not in {"cli", "monitor"}:
        assert not {"rich", "click"} & set(imported_by(path))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_to_be_done(path):
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

    assert unfinished.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_lint_exceptions_carry_code_and_reason(path):
    with path.open("rb") as file:
        comments = [t.string for t in tokenize.tokenize(file.readline) if t.type == COMMENT]

    exceptions = [text for text in comments if re.search(r"noqa|type:\s*ignore", text)]
    allowed = re.compile(
        r"# noqa: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)* - \S.*|# type: ignore\[[a-z, -]+\]\s+# \S.*"
    )
    assert [text for text in exceptions if not allowed.fullmatch(text)] == []


@pytest.mark.parametrize("path", EVERY_TEXT, ids=name_of)
def test_no_text_depends_on_somebodys_machine(path):
    # /var, /tmp and /usr exist everywhere; these are somebody's.
    machine_path = re.compile(r"(?<![\w.])/(home|Users|root|work)/\w+")

    assert machine_path.search(path.read_text(encoding="utf-8")) is None


def test_architecture_page_names_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+(?:\.py)?)`", page)

    files = [name for name in named if name.endswith(".py") or name.startswith("protocol/")]
    assert files
    assert [name for name in files if not (PACKAGE / name).exists()] == []
