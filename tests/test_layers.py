from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]
MOST_LINES = 450
MOST_LINES_OF_A_FUNCTION = 60
FOLDERS = ("microstream", "tests", "benchmarks", "examples")
SOURCES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
VAGUE = {"utils", "util", "helpers", "helper", "manager", "base", "core", "common", "context", "misc", "impl"}


def test_imports_go_down_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)

    assert status == EXIT_STATUS_SUCCESS


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("microstream", cache_dir=None)

    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_short_and_says_what_it_is_about(file: Path) -> None:
    lines = file.read_text().splitlines()

    words = set(file.stem.split("_"))

    assert len(lines) <= MOST_LINES
    assert not words & VAGUE


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_function_fits_on_a_screen(file: Path) -> None:
    tree = ast.parse(file.read_text())

    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    assert [f.name for f in functions if code_lines(f) > MOST_LINES_OF_A_FUNCTION] == []


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    described = ast.get_docstring(function, clean=False) or ""
    return (function.end_lineno or 0) - function.lineno + 1 - len(described.splitlines())
