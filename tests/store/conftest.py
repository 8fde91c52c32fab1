"""Fixtures of the store: a run folder, and a finished job in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_jobs import commit


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An empty run folder."""
    (tmp_path / "run" / "jobs").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
def job(run: Path) -> Path:
    """A finished job's folder."""
    return commit(run)
