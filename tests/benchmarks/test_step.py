"""What one step of the shared optimizer costs, by parts, and what the harness adds to the bare arithmetic.

`pytest tests/benchmarks --benchmark-enable` measures; without it each benchmark runs once, as a test.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from psdbench.camera_config import CameraConfig
from psdbench.cameras import sample_cameras
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.guidance import cfg
from psdbench.optimize import Optimisation
from psdbench.registry import method_class
from psdbench.representations.voxels import Voxels, VoxelsConfig
from psdbench.stopwatch import PARTS, Stopwatch

ROUNDS, WARMUP = 40, 5
MAX_TAX = 0.10
"""share of a step that may be spent on anything but the bare arithmetic"""


@pytest.fixture(autouse=True)
def all_threads() -> Iterator[None]:
    """As many threads as a run with one worker would use."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    yield
    torch.set_num_threads(before)


def begin(prior: Any, method: str = "sds") -> Optimisation:
    protocol = Protocol(PriorRef("any", "0" * 64), optimize=OptimizeConfig(steps=1000))
    spec = JobSpec("a red cube", method, {}, 0, protocol)
    run = Optimisation.begin(spec, prior, method_class(method)(), None)
    run.prior.encode_text([f"a red cube, {view} view" for view in ("front", "side", "back", "overhead")])
    return run


def bare_step(run: Optimisation) -> Callable[[], None]:
    """The arithmetic of an SDS step and nothing else: no schedule, guard, trace, counters or timer."""
    prior, generator = run.prior, torch.Generator().manual_seed(0)
    asset, adam = run.particles[0].asset, run.particles[0].adam
    cameras = sample_cameras(generator, 1, CameraConfig())
    t, white = torch.tensor([500]), torch.ones(3)
    text = prior.encode_text(["", "a red cube, front view"])
    alpha, sigma = prior.alpha_sigma(t)

    def step() -> None:
        latents = prior.encode(asset.render(cameras, 64, white).rgb)
        noise = torch.randn(latents.shape, generator=generator)
        x_t = alpha * latents.detach() + sigma * noise
        eps = cfg(*prior.predict_noise(x_t.repeat(2, 1, 1, 1), t.repeat(2), text).split(1), 7.5)
        adam.zero_grad()
        (latents * sigma**2 * (eps - noise)).sum().backward()
        adam.step()

    return step


@pytest.mark.parametrize("name", ["tiny_prior", "shapes_prior"])
def test_sds_step(name: str, request: pytest.FixtureRequest, benchmark: Any) -> None:
    run = begin(request.getfixturevalue(name))
    bare, bare_seconds, parts = bare_step(run), list[float](), list[dict[str, float]]()

    def before_each_round() -> None:
        start = time.perf_counter()
        bare()
        bare_seconds.append(time.perf_counter() - start)
        run.clock = Stopwatch(run.prior.device)
        parts.append(run.clock.seconds)

    for _ in range(WARMUP if benchmark.enabled else 0):
        bare()
        run.step()
    benchmark.pedantic(run.step, setup=before_each_round, rounds=ROUNDS)
    step = statistics.median(sum(seconds.values()) for seconds in parts)
    for part in PARTS:
        benchmark.extra_info[f"{part}_ms"] = 1e3 * statistics.median(seconds[part] for seconds in parts)
    tax = benchmark.extra_info["harness_tax"] = 1 - statistics.median(bare_seconds) / step
    print(f"{name}: step {1e3 * step:.1f} ms", {k: round(v, 3) for k, v in benchmark.extra_info.items()})
    if benchmark.enabled and name == "shapes_prior":
        assert tax <= MAX_TAX


def test_voxels_forward_and_backward(benchmark: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    asset = Voxels(VoxelsConfig(), generator)
    cameras = sample_cameras(generator, 1, CameraConfig())
    gradient = torch.randn(1, 3, 64, 64, generator=generator)

    def step() -> None:
        asset.zero_grad()
        asset.render(cameras, 64, torch.ones(3)).rgb.backward(gradient)

    benchmark.pedantic(step, rounds=ROUNDS, warmup_rounds=WARMUP)


def test_voxels_forward(benchmark: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    asset = Voxels(VoxelsConfig(), generator)
    cameras = sample_cameras(generator, 1, CameraConfig())
    with torch.no_grad():
        benchmark.pedantic(
            lambda: asset.render(cameras, 64, torch.ones(3)), rounds=ROUNDS, warmup_rounds=WARMUP
        )
