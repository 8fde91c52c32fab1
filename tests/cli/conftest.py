"""Real runs, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `psdbench ARGS` in a process of its own."""

    def run(*args: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "psdbench", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)

    return run


@pytest.fixture
def small(tiny_prior_folder: Path, tmp_path: Path) -> list[object]:
    """Arguments of a run that takes a second: two prompts, the untrained prior, true metrics of the world."""
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red cube\na blue sphere\n")
    arguments = ["--methods", "sds", "--prompts", prompts, "--seeds", 1, "--prior", tiny_prior_folder]
    arguments += [
        "--metrics",
        "true_preference,ground_truth",
        "--steps",
        3,
        "--workers",
        1,
        "--device",
        "cpu",
    ]
    sets = ["--set", "voxels.resolution=12", "--set", "optimize.size=32"]
    return [*arguments, *sets, "--out", tmp_path / "run"]
