"""The rules of the house for a method's file: short, about the method alone, every number explained."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
from imports import imports

import psdbench.methods
from psdbench import registry
from psdbench.cli.list import field_docstrings

FOLDER = Path(psdbench.methods.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
MAX_LINES = 150
NOT_FOR_METHODS = {
    *("cli", "store", "launch", "report", "tracking", "tuning"),
    *("optimizer", "job", "plan", "config"),
}
"""parts of psdbench that run, keep and tell: a method that knew them could treat its own jobs differently"""

NO_PAPER = "baseline without a paper"

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def refused(tree: ast.AST) -> set[str]:
    """The imports of a syntax tree that a method must not have."""
    return {n for n in imports(tree) if n.startswith("psdbench.") and n.split(".")[1] in NOT_FOR_METHODS}


def test_there_are_methods() -> None:
    assert {"sds", "vsd", "psd"} <= {path.stem for path in FILES}


@each_file
def test_a_method_fits_on_one_page_or_two(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@each_file
def test_a_method_knows_nothing_of_running_keeping_and_telling(path: Path) -> None:
    assert refused(ast.parse(path.read_text(encoding="utf-8"))) == set()


def test_hidden_imports_are_found() -> None:
    code = "def f():\n    from psdbench import store\n    import psdbench.cli.run\n    from psdbench.report import text"
    assert refused(ast.parse(code)) == {
        "psdbench.store",
        "psdbench.cli.run",
        "psdbench.report",
        "psdbench.report.text",
    }
    assert refused(ast.parse("import torch\nfrom psdbench.guidance import Method")) == set()


@each_file
def test_a_method_names_its_paper_and_explains_every_field(path: Path) -> None:
    cls = registry.method_class(path.stem)
    assert cls.paper.startswith("arXiv ") or cls.paper == NO_PAPER
    assert cls.__doc__
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert cls.paper in text or cls.paper == NO_PAPER, "the file's docstring names the paper"
    meanings = field_docstrings(cls)
    assert [field.name for field in dataclasses.fields(cls) if not meanings.get(field.name)] == []


@each_file
def test_a_method_has_defaults_for_all_and_is_the_same_twice(path: Path) -> None:
    cls = registry.method_class(path.stem)
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
