"""Invariant trajectories: the first twenty steps of every method on the embedded prior stay what they were.

All methods run once through the real command line; loss, size of the raw gradient and coarse pictures are
compared with `trajectories.json`. That is made anew, on purpose, by

    python -m pytest tests/methods/test_trajectories.py --renew-trajectories

after the embedded weights, a default or a formula has changed: only what was meant to change may differ in it.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from itertools import permutations
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from psdbench import registry
from psdbench.evaluate import read_views
from psdbench.store.run import job_folders, read_job

GOLDEN = Path(__file__).with_name("trajectories.json")
RENEW = "python -m pytest tests/methods/test_trajectories.py --renew-trajectories"
METHODS = registry.shipped_methods()

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

FASTER = {f"{name}.lora_learning_rate": 1e-2 for name in ("vsd", "esd", "rewardvsd")}
"""so that twenty steps are enough for a learned score to matter: with the default rate ESD is hardly told from VSD"""

CHANGED = '''
"""SDS with a guidance scale that is three percent off."""
from psdbench.guidance import Method, combine, method, noise_pool, weights
from psdbench.methods.sds import SDS

@method("changed", paper="none")
class Changed(Method):
    """A slip."""

    def gradient(self, step):
        pool = noise_pool(step, step.noise(), 1.03 * SDS().guidance_scale)
        return combine(pool.residuals, weights(step, pool, SDS().weighting))
'''

Trajectory = dict[str, list[Any]]
"""losses and gradient_rms at SEEN; views [VIEWS][BLOCKS * BLOCKS] of colours"""


def run_all(folder: Path) -> dict[str, Any]:
    """The trajectories of all methods, and the weights that they belong to."""
    (folder / "prompts.txt").write_text("a red cube\n")
    (folder / "changed.py").write_text(CHANGED)
    arguments = ["--methods", ",".join([*METHODS, "changed"]), "--plugin", folder / "changed.py"]
    arguments += ["--prompts", folder / "prompts.txt", "--seeds", 1, "--steps", STEPS, "--reward", "hps"]
    arguments += ["--metrics", "none", "--device", "cpu", "--workers", 2, "--out", folder / "run", "--quiet"]
    for key, value in (FASTER | {"evaluate.turntable_frames": 1}).items():
        arguments += ["--set", f"{key}={value}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PSDBENCH_")}
    done = subprocess.run(
        [sys.executable, "-m", "psdbench.cli.main", "run", *map(str, arguments)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    jobs = {read_job(job).method: job for job in job_folders(folder / "run")}
    protocol = read_job(jobs["sds"]).protocol
    assert protocol.reward is not None
    return {
        "prior": protocol.prior.sha256,
        "reward": protocol.reward.sha256,
        "methods": {name: read_trajectory(jobs[name]) for name in sorted(jobs)},
    }


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


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """As they are now; under --renew-trajectories they become the golden ones."""
    found = run_all(tmp_path_factory.mktemp("trajectories"))
    if request.config.getoption("--renew-trajectories", default=False):
        shipped = {name: found["methods"][name] for name in METHODS}
        text = json.dumps({**found, "methods": shipped}, indent=1)
        compact = re.sub(r"\[[^][]*]", lambda numbers: " ".join(numbers[0].split()), text)
        GOLDEN.write_text(compact + "\n", encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def golden(trajectories: dict[str, Any]) -> dict[str, Any]:
    """As they were; they must have been made with the weights that are there now."""
    if not GOLDEN.exists():
        pytest.fail(f"there is no {GOLDEN.name}; make it: {RENEW}")
    stored: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for part in ("prior", "reward"):
        if stored[part] != trajectories[part]:
            pytest.fail(
                f"{GOLDEN.name} was made with another {part}; if that was replaced on purpose: {RENEW}"
            )
    return stored


@pytest.mark.parametrize("name", METHODS)
def test_a_method_goes_the_way_it_went(
    name: str, trajectories: dict[str, Any], golden: dict[str, Any]
) -> None:
    assert name in golden["methods"], f"a new method: {RENEW}"
    assert differences(trajectories["methods"][name], golden["methods"][name]) == []


def test_the_golden_file_has_no_method_that_is_gone(golden: dict[str, Any]) -> None:
    assert sorted(golden["methods"]) == METHODS


def test_a_formula_that_is_three_percent_off_is_noticed(
    trajectories: dict[str, Any], golden: dict[str, Any]
) -> None:
    assert differences(trajectories["methods"]["changed"], golden["methods"]["sds"])


def test_no_method_passes_for_another(trajectories: dict[str, Any]) -> None:
    methods = {name: trajectories["methods"][name] for name in METHODS}
    assert [pair for pair in permutations(METHODS, 2) if not differences(*map(methods.get, pair))] == []  # type: ignore[arg-type]
