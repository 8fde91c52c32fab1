"""Every representation in the shared optimizer: the same bits alone, again, and after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.optimizer import checkpoint
from psdbench.optimizer.loop import OptimizeResult, optimize
from psdbench.optimizer.particles import ASSET, load_asset
from psdbench.optimizer.trace import TRACE
from psdbench.priors.diffusers import DiffusersPrior

STEPS = 10
SMALL: dict[str, dict[str, Any]] = {
    "voxels": {"resolution": 12},
    "hashgrid": {
        "levels": 3,
        "coarsest": 4,
        "finest": 16,
        "table_size_log2": 9,
        "hidden": 8,
        "samples": 16,
        "occupancy": 8,
        "occupancy_every": 2,
        "background": "learned",
    },
    "gaussians": {
        "count": 60,
        "densify_from": 0.0,
        "densify_until": 1.0,
        "densify_every": 3,
        "split_scale": 0.1,
    },
}

each = pytest.mark.parametrize("name", SMALL)


class Killed(Exception):
    """Stands for the death of the process."""


def make_spec(name: str, **fields: Any) -> JobSpec:
    config = OptimizeConfig(**{"steps": STEPS, "size": 32, "checkpoint_every": 4} | fields)
    protocol = Protocol(
        prior=PriorRef("tiny", "0" * 64),
        representation=name,
        representation_params=SMALL[name],
        optimize=config,
    )
    return JobSpec("a red cube", "sds", {}, 0, protocol)


def run(spec: JobSpec, prior_folder: Path, folder: Path, die_after: int = 0) -> OptimizeResult:
    def on_step(row: Any) -> None:
        if row.step + 1 == die_after:
            raise Killed

    method = registry.method_class("sds")()
    return optimize(spec, DiffusersPrior.load(prior_folder), method, None, folder, on_step=on_step)


def state(folder: Path, spec: JobSpec) -> dict[str, torch.Tensor]:
    stored = checkpoint.load_newest(folder, spec.id)
    assert stored is not None
    return stored.tensors


@each
def test_killed_and_resumed_run_ends_with_the_same_bits(
    name: str, tiny_prior_folder: Path, tmp_path: Path
) -> None:
    spec = make_spec(name)
    whole = run(spec, tiny_prior_folder, tmp_path / "whole")
    with pytest.raises(Killed):
        run(spec, tiny_prior_folder, tmp_path / "cut", die_after=7)
    run(spec, tiny_prior_folder, tmp_path / "cut")
    for file in (ASSET, TRACE):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    once, again = (state(tmp_path / folder, spec) for folder in ("whole", "cut"))
    assert once.keys() == again.keys()
    assert all(torch.equal(tensor, again[key]) for key, tensor in once.items())
    if name == "gaussians":
        assert len(whole.asset.get_parameter("means")) != SMALL[name]["count"]
    loaded = load_asset(spec, tmp_path / "whole" / ASSET)
    pairs = zip(whole.asset.state_dict().values(), loaded.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not loaded.training


@each
def test_schedules_and_particles_work_with_each(name: str, tiny_prior_folder: Path, tmp_path: Path) -> None:
    penalties = {
        "depth_variance_weight": 0.1,
        "penalty_schedule": ("depth_variance@0.3:0", "depth_variance@1:1"),
    }
    sizes = {"size_schedule": ("0:16", "0.5:32")}
    spec = make_spec(name, particles=2, steps=6, **penalties, **sizes)
    first = run(spec, tiny_prior_folder, tmp_path / "first")
    second = run(spec, tiny_prior_folder, tmp_path / "second")
    assert len(first.assets) == 2
    assert first.trace == second.trace
    assert (tmp_path / "first" / ASSET).read_bytes() == (tmp_path / "second" / ASSET).read_bytes()
