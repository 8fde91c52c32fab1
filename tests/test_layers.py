"""Folders know nothing of those above them: an optimizer that knew of jobs or reports could serve some differently."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from imports import imports

import psdbench

FOLDER = Path(psdbench.__file__).parent
RUNNING = {"cli", "launch", "plan", "report", "tracking", "tuning", "methods"}
"""what starts jobs, tells of them or is chosen by them"""
ABOVE = {
    "store": RUNNING | {"job", "optimizer", "guidance", "priors", "scorers"},
    "guidance": RUNNING | {"job", "optimizer", "store"},
    "representations": RUNNING | {"job", "optimizer", "guidance", "priors"},
    "optimizer": RUNNING | {"job", "foreign"},
    "job": RUNNING,
    "report": RUNNING - {"report"} | {"optimizer"},
}
"""by folder, what none of its files may import"""


def above(folder: str) -> set[str]:
    """What the files of a folder import from above it, with the file."""
    found = set()
    for path in sorted((FOLDER / folder).rglob("*.py")):
        for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if name.startswith("psdbench.") and name.split(".")[1] in ABOVE[folder]:
                found.add(f"{path.name} imports {name}")
    return found


@pytest.mark.parametrize("folder", ABOVE)
def test_a_folder_knows_nothing_of_those_above_it(folder: str) -> None:
    assert above(folder) == set()


def test_what_looks_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ABOVE, "job", {"optimizer"})
    assert "stages.py imports psdbench.optimizer.loop" in above("job")
