"""Invariant trajectories: the numbers and coarse pictures of a short run, stored and compared with those of now."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from psdbench.config import JobSpec
from psdbench.job.evaluate import read_views
from psdbench.store.run import job_folders, read_job

STEPS = 20
SEEN = (0, 1, 4, 9, 14, 19)
"""steps whose numbers are compared"""
VIEWS = (0, 4)
"""pictures of the rig that are compared: front and back"""
BLOCKS = 4
"""means over so many blocks along an edge"""
RELATIVE = 5e-3
"""of losses and gradients"""
ABSOLUTE = 5e-3
"""of colours in [0, 1]"""

Trajectory = dict[str, list[Any]]
"""losses and gradient_rms at SEEN; views [VIEWS][BLOCKS * BLOCKS] of colours"""


def run_program(folder: Path, *options: object, settings: Mapping[str, object]) -> dict[str, Path]:
    """Twenty steps on "a red cube" with the embedded prior, through the real command line: job folders by method."""
    prompts = folder / "prompts.txt"
    prompts.write_text("a red cube\n")
    arguments = ["--prompts", prompts, "--seeds", 1, "--steps", STEPS, "--reward", "hps", "--metrics", "none"]
    arguments += ["--device", "cpu", "--out", folder / "run", "--quiet", *options]
    for key, value in {"evaluate.turntable_frames": 1, **settings}.items():
        arguments += ["--set", f"{key}={value}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PSDBENCH_")}
    done = subprocess.run(
        [sys.executable, "-m", "psdbench", "run", *map(str, arguments)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {read_job(job).method: job for job in job_folders(folder / "run")}


def weights_of(spec: JobSpec) -> dict[str, str]:
    """The sha256 of what a trajectory hangs on beside the program."""
    protocol = spec.protocol
    assert protocol.reward is not None
    return {"prior": protocol.prior.sha256, "reward": protocol.reward.sha256}


def read_trajectory(job: Path) -> Trajectory:
    """What a job folder tells, in as many digits as are compared."""
    with (job / "trace.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == STEPS
    numbers: Trajectory = {
        name: [float(f"{float(rows[step][name]):.6g}") for step in SEEN] for name in ("loss", "gradient_rms")
    }
    views = read_views(job)[list(VIEWS)]
    blocks = views.unflatten(3, (BLOCKS, -1)).unflatten(2, (BLOCKS, -1)).mean((3, 5))
    return numbers | {"views": [[round(value, 4) for value in view.flatten().tolist()] for view in blocks]}


def differences(now: Trajectory, was: Trajectory) -> list[str]:
    """In words, what a trajectory does not share with another; empty when they are the same.

    Rounding differs between processors, and Adam, whose first steps have the size of the learning rate however
    small a gradient is, passes it on. Made to run without AVX (ATEN_CPU_CAPABILITY=default with
    ONEDNN_MAX_CPU_ISA=SSE41), most methods were off by less than 1e-4, SDI, which goes through the denoiser most
    often, by 6e-4, and colours by 3e-4. The tolerances are eight times as wide, and a sixth of what a slip of three
    percent does to the gradient.
    """
    found = [
        f"{name} at step {step}: {new:.6g}, was {old:.6g}"
        for name in ("loss", "gradient_rms")
        for step, new, old in zip(SEEN, now[name], was[name], strict=True)
        if not isclose(new, old, rel_tol=RELATIVE)
    ]
    for view, new, old in zip(VIEWS, now["views"], was["views"], strict=True):
        worst = max(abs(a - b) for a, b in zip(new, old, strict=True))
        if worst > ABSOLUTE:
            found.append(f"view {view}: a block is off by {worst:.3f}")
    return found


def write_golden(path: Path, content: Mapping[str, Any]) -> None:
    """Store trajectories, one list of numbers on a line."""
    text = json.dumps(content, indent=1)
    compact = re.sub(r"\[[^][]*]", lambda numbers: " ".join(numbers[0].split()), text)
    path.write_text(compact + "\n", encoding="utf-8")


def read_golden(path: Path, now: Mapping[str, Any]) -> dict[str, Any]:
    """The stored trajectories; fails the test where they were made with other weights than those of `now`."""
    renew = "run these tests with --renew-trajectories"
    if not path.exists():
        pytest.fail(f"there is no {path.name}; {renew}")
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for part in ("prior", "reward"):
        if stored[part] != now[part]:
            pytest.fail(f"{path.name} was made with another {part}; if that was replaced on purpose: {renew}")
    return stored
