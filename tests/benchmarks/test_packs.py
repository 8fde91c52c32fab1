"""What a pack gains: so many jobs in lockstep against the same jobs one after the other, on the embedded prior.

`make gpu` measures the official size of Stable Diffusion 1.5, whose denoiser a single view does not fill a GPU with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from measuring import Call, in_turn, middle, ratios
from random_priors import Scale, make_prior

from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.optimizer.lockstep import Lockstep
from psdbench.optimizer.loop import Optimisation
from psdbench.priors import Prior
from psdbench.registry import method_class
from psdbench.scorers import load_scorer

ROUNDS, STEPS = 8, 3
"""rounds that are measured, and steps of every job in each of them"""
SIZES = {"cpu": (2, 4), "cuda": (2, 4, 8)}


def begin(prior: Prior, seat: Callable[[Prior], Prior], method: str, seed: int, size: int) -> Optimisation:
    config = OptimizeConfig(steps=100_000, size=size, size_schedule=("0:64",) if size > 64 else ())
    spec = JobSpec("a red cube", method, {}, seed, Protocol(PriorRef("any", "0" * 64), optimize=config))
    reward = load_scorer("hps_shapes", str(prior.device)) if method != "sds" else None
    return Optimisation.begin(spec, seat(prior), method_class(method)(), reward)


def go_on(run: Optimisation) -> None:
    for _ in range(STEPS):
        run.step()


def on_gpu(dtype: torch.dtype) -> Any:
    return pytest.param(Scale("sd15", "official", "cuda", dtype), id=f"sd15-{dtype}", marks=pytest.mark.gpu)


@pytest.mark.parametrize("scale", [None, on_gpu(torch.float16), on_gpu(torch.bfloat16)])
@pytest.mark.parametrize("method", ["sds", "psd", "rewardsds"])
def test_packs(scale: Scale | None, method: str, request: pytest.FixtureRequest, benchmark: Any) -> None:
    if scale and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    prior = make_prior(scale) if scale else request.getfixturevalue("shapes_prior")
    size, sizes = 512 if scale else 64, SIZES[prior.device.type][: None if benchmark.enabled else 1]
    calls, pairs = [], list[tuple[Optimisation, Optimisation]]()
    for jobs in sizes:
        alone = [begin(prior, copy.copy, method, seed, size) for seed in range(jobs)]
        lockstep = Lockstep()
        packed = [begin(prior, lockstep.seat, method, seed, size) for seed in range(jobs)]
        together = partial(lockstep.run, [partial(go_on, run) for run in packed])
        pairs += zip(alone, packed, strict=True)
        calls += [
            Call(f"{jobs} alone", lambda runs=alone: [go_on(run) for run in runs]),
            Call(f"{jobs} packed", together),
        ]
    seconds: dict[str, list[float]] = {}

    def measure() -> None:
        rounds, warmup = (ROUNDS, 2) if benchmark.enabled else (1, 0)
        seconds.update(in_turn(calls, prior.device, rounds, warmup))

    benchmark.pedantic(measure, rounds=1)
    for alone_run, packed_run in pairs:
        losses = [[row.loss for row in run.trace[:STEPS]] for run in (alone_run, packed_run)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3), "a pack gives the numbers of its jobs alone"
    gains = {jobs: ratios(seconds[f"{jobs} alone"], seconds[f"{jobs} packed"]) for jobs in sizes}
    each = {jobs: [1e3 * s / STEPS / jobs for s in middle(seconds[f"{jobs} packed"])] for jobs in sizes}
    name = f"sd15-{str(scale.dtype).removeprefix('torch.')}" if scale else "shapes"
    benchmark.extra_info.update(prior=name, method=method, rounds=ROUNDS, gain=gains, pack_step_ms=each)
    print(method, "throughput, packed : alone", {n: [round(v, 2) for v in gain] for n, gain in gains.items()})
