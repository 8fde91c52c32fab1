"""Priors of the real shapes through the whole program: run, killed, run again, report.

Stable Diffusion 1.5's blocks, 77 tokens and four latents, its v-prediction variant, and MVDream, all with random
weights: what comes out is noise, the way it goes is that of the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import write_sd

from psdbench.optimizer.particles import ASSET
from psdbench.optimizer.trace import TRACE
from psdbench.store.table import load_table

METHODS = ("sds", "vsd", "psd", "dreamdpo")


@pytest.fixture(scope="module")
def priors(
    sd_folder: Path, mvdream_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    v = write_sd(tmp_path_factory.mktemp("v") / "sd-v", {"prediction_type": "v_prediction"})
    return {"epsilon": sd_folder, "v_prediction": v, "mvdream": mvdream_folder}


def arguments(prior: Path, prompts: Path, out: Path, *more: str, **given: object) -> list[str]:
    """A run of four methods in small: the family's defaults, but for lengths and sizes."""
    prompts.write_text("a red fox\n")
    options = {"methods": ",".join(METHODS), "prompts": prompts, "prior": prior, "seeds": 1, "steps": 6}
    options |= {"reward": "hps_shapes", "metrics": "clip_shapes,hps_shapes", "workers": 1, "device": "cpu"}
    options |= given
    sets = ["optimize.size=64", "optimize.checkpoint_every=2", "voxels.resolution=12"]
    sets += ["evaluate.turntable_frames=4"]
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [*flags, *(text for each in sets for text in ("--set", each)), "--out", str(out), *more]


def killed_in_the_middle(options: list[str], out: Path) -> None:
    """SIGKILL the run's whole process group once its second job has a checkpoint."""
    command = [sys.executable, "-m", "psdbench", "run", *options]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not list(out.glob("jobs/vsd--*/checkpoint-*.safetensors")):
        time.sleep(0.05)
    assert run.poll() is None, f"it ended before it could be killed: {run.communicate()[1]}"
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(timeout=30) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "mvdream"])
def test_run_resume_and_report(kind: str, priors: dict[str, Path], program: Callable, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert program("run", *arguments(priors[kind], tmp_path / "p.txt", whole)).code == 0
    options = arguments(priors[kind], tmp_path / "p.txt", cut)
    killed_in_the_middle(options, cut)
    assert program("run", *options).code == 0
    for job in sorted((whole / "jobs").iterdir()):
        for name in (ASSET, TRACE, "scores.json"):
            assert (job / name).read_bytes() == (cut / "jobs" / job.name / name).read_bytes(), (
                job.name,
                name,
            )
    assert {row.method for row in load_table(cut).itertuples()} == set(METHODS)
    done = program("report", cut, "--baseline", "sds")
    assert done.code == 0
    text = (cut / "report" / "report.md").read_text(encoding="utf-8")
    assert all(method in text for method in METHODS)


def test_a_plan_of_each_says_what_it_is(priors: dict[str, Path], program: Callable, tmp_path: Path) -> None:
    for kind, prior in priors.items():
        done = program("plan", *arguments(prior, tmp_path / "p.txt", tmp_path / "run"))
        assert done.code == 0
        assert prior.name in done.out, kind


def test_perp_neg_and_precision_are_options_of_a_run(
    priors: dict[str, Path], program: Callable, tmp_path: Path
) -> None:
    """Two prompts of other views double the denoiser forwards; bfloat16 is another protocol."""
    base = {"methods": "sds", "metrics": "none", "steps": 2}
    ways = {"plain": [], "perp": ["--set", "optimize.perp_neg=2"], "bf16": ["--dtype", "bfloat16"]}
    costs, protocols = {}, set()
    for way, more in ways.items():
        out = tmp_path / way
        options = arguments(priors["epsilon"], tmp_path / "p.txt", out, *more, **base)
        assert program("run", *options).code == 0
        (cost,) = out.glob("jobs/*/cost.json")
        costs[way] = json.loads(cost.read_text())["denoiser_forwards"]
        protocols.add(json.loads((out / "run.json").read_text())["protocol"])
    assert costs == {"plain": 4, "perp": 8, "bf16": 4}
    assert len(protocols) == 3
