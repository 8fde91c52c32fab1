"""Folders know nothing of those above them: an optimizer that knew of jobs or reports could serve some differently."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from imports import imports

import psdbench

FOLDER = Path(psdbench.__file__).parent
ABOVE = {
    "store": {
        "cli",
        "launch",
        "plan",
        "job",
        "optimizer",
        "guidance",
        "priors",
        "scorers",
        "report",
        "tracking",
    },
    "guidance": {
        "cli",
        "launch",
        "plan",
        "job",
        "optimizer",
        "report",
        "tracking",
        "tuning",
        "store",
        "methods",
    },
    "representations": {
        "cli",
        "launch",
        "plan",
        "job",
        "optimizer",
        "report",
        "tracking",
        "guidance",
        "priors",
    },
    "optimizer": {"cli", "launch", "plan", "job", "report", "tracking", "tuning", "foreign", "methods"},
    "job": {"cli", "launch", "plan", "report", "tracking", "tuning", "methods"},
    "report": {"cli", "launch", "plan", "tracking", "tuning", "optimizer", "methods"},
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
