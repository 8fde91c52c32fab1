"""What one step of the shared optimizer costs, by parts: against its floor, and against the same in plain diffusers.

`make bench` measures and writes README.md beside this file; without it each case runs once, as a test that the floor
asks as much of every network as the step does and that the plain step has the same gradient. `make gpu` measures the
official sizes.
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from bare import Bare
from folders import SCHEDULER
from measuring import Call, ComputedTime, flops, in_turn, middle, peak_memory, products_per_second, ratios
from plain import Plain
from random_priors import Scale, make_prior

from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.guidance import Step, TextEmbeddings
from psdbench.optimizer.loop import Optimisation
from psdbench.optimizer.stopwatch import PARTS
from psdbench.registry import method_class
from psdbench.schedules import TimestepSchedule
from psdbench.scorers import load_scorer

METHODS = ("sds", "psd", "vsd")


@dataclass(frozen=True)
class Case:
    """A prior and how it is used; `prior` None is the embedded one."""

    name: str
    prior: Scale | None
    views: int
    size: int
    """side of the picture that the prior is given, pixels; real priors see it enlarged from 64, as early in a run"""
    rounds: int

    @property
    def render_sides(self) -> tuple[str, ...]:
        return () if self.prior is None else (f"0:{min(64, self.size)}",)


def on_gpu(kind: str, size: int, views: int, dtype: torch.dtype) -> Case:
    name = f"{kind}-{str(dtype).removeprefix('torch.')}-{views}"
    return Case(name, Scale(kind, "official", "cuda", dtype), views, size, 20)


HALVES = (torch.float16, torch.bfloat16)
ON_CPU = [
    Case("shapes", None, 1, 64, 30),
    Case("sd15-narrow", Scale("sd15", "narrow"), 1, 128, 12),
    Case("mvdream-narrow", Scale("mvdream", "narrow"), 4, 128, 8),
]
ON_GPU = [on_gpu("sd15", 512, views, dtype) for dtype in HALVES for views in (1, 2, 4, 8)]
ON_GPU += [on_gpu("mvdream", 256, 4, dtype) for dtype in HALVES]


def with_methods() -> Iterator[Any]:
    """Every case with every method; those on the CPU that show nothing of their own are slow."""
    for case, method in product(ON_CPU + ON_GPU, METHODS):
        gpu, repeats = case in ON_GPU, case.prior is not None and method != "vsd"
        marks = [pytest.mark.gpu] if gpu else [pytest.mark.slow] if repeats else []
        yield pytest.param((case, method), id=f"{case.name}-{method}", marks=marks)


@pytest.fixture(params=with_methods())
def case_and_method(request: pytest.FixtureRequest) -> tuple[Case, str]:
    found: tuple[Case, str] = request.param
    return found


@pytest.fixture
def method(case_and_method: tuple[Case, str]) -> str:
    """The method of the case."""
    return case_and_method[1]


@pytest.fixture
def case(case_and_method: tuple[Case, str], benchmark: Any) -> Case:
    """A case; where nothing is measured, with small pictures and networks."""
    found = case_and_method[0]
    if found.prior and found.prior.device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if benchmark.enabled:
        return found
    small = replace(found.prior, width="tiny") if found.prior else None
    return replace(found, prior=small, size=32, rounds=1)


@pytest.fixture
def prior(case: Case, request: pytest.FixtureRequest) -> Any:
    """The prior of the case."""
    return make_prior(case.prior) if case.prior else request.getfixturevalue("shapes_prior")


@pytest.fixture
def whole(case: Case, prior: Any, method: str) -> Iterator[tuple[Optimisation, Bare, tuple[Plain, Plain]]]:
    """A run, its floor, and its step in plain diffusers: a call for each branch, and guidance in one call."""
    denoiser = copy.deepcopy(prior.unet)
    config = OptimizeConfig(steps=100_000, views=case.views, size=case.size, size_schedule=case.render_sides)
    spec = JobSpec("a red cube", method, {}, 0, Protocol(PriorRef("any", "0" * 64), optimize=config))
    reward = load_scorer("hps_shapes", str(prior.device)) if method == "psd" else None
    run = Optimisation.begin(spec, prior, method_class(method)(), reward)
    run.prior.encode_text([f"a red cube, {view} view" for view in ("front", "side", "back", "overhead")])
    plain = [Plain(run, denoiser, scheduler_of(prior), batched) for batched in (False, True)]
    yield run, Bare(run, denoiser), (plain[0], plain[1])
    run.close()


def scheduler_of(prior: Any) -> dict[str, Any]:
    file = Path(prior.folder, "scheduler", "scheduler_config.json")
    config: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else SCHEDULER
    return {key: value for key, value in config.items() if not key.startswith("_")}


def test_step(
    whole: tuple[Optimisation, Bare, tuple[Plain, Plain]], case: Case, method: str, benchmark: Any
) -> None:
    run, bare, plain = whole
    bare_calls = bare.calls()
    before = dict(vars(run.prior.counters))
    run.step()
    taken = {name: count - before[name] for name, count in vars(run.prior.counters).items()}
    for call in bare_calls:
        for name, count in call.passes.items():
            taken[name] -= count
    assert not any(taken.values()), "the floor asks the networks for as much as a step"
    parts: list[dict[str, float]] = []

    def step() -> None:
        run.clock = ComputedTime(run.prior.device)
        run.step()
        parts.append(run.clock.seconds)

    calls = [Call("step", step), Call("plain", plain[0].step), Call("batched", plain[1].step), *bare_calls]
    seconds: dict[str, list[float]] = {}

    def measure() -> None:
        seconds.update(in_turn(calls, run.prior.device, case.rounds, 3 if benchmark.enabled else 0))

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(
        **vars(case) | {"prior": case.name},
        method=method,
        device=str(run.prior.device),
        dtype=str(run.prior.dtype).removeprefix("torch."),
        step_ms=[1e3 * value for value in middle(seconds["step"])],
        parts_ms={
            part: 1e3 * statistics.median(each[part] for each in parts[-case.rounds :]) for part in PARTS
        },
        bare_ms={call.name: 1e3 * statistics.median(seconds[call.name]) for call in bare_calls},
        floor=ratios(seconds["step"], *(seconds[call.name] for call in bare_calls)),
        plain=ratios(seconds["plain"], seconds["step"]),
        batched=ratios(seconds["batched"], seconds["step"]),
    )
    if benchmark.enabled:
        benchmark.extra_info.update(hardware(run, statistics.median(seconds["step"])))
    print(json.dumps(benchmark.extra_info))


def hardware(run: Optimisation, seconds: float) -> dict[str, Any]:
    """How much of the machine a step uses that takes so many seconds."""
    device, work = run.prior.device, flops(run.step)
    limit = products_per_second(device, run.prior.dtype, 8192 if device.type == "cuda" else 1024)
    return {
        "card": torch.cuda.get_device_name() if device.type == "cuda" else "",
        "gflop": work / 1e9,
        "gflops": work / seconds / 1e9,
        "limit_gflops": limit / 1e9,
        "memory_mb": peak_memory(run.step, device),
    }


def test_the_plain_step_has_the_same_gradient(shapes_prior: Any) -> None:
    reward = load_scorer("hps_shapes")
    for name in ("sds", "psd"):
        spec = JobSpec("a red cube", name, {}, 0, Protocol(PriorRef("any", "0" * 64)))
        method = method_class(name)()
        run = Optimisation.begin(spec, shapes_prior, method, reward)
        step = one_step(run)
        noises = step.noises(2)
        run = Optimisation.begin(spec, shapes_prior, method, reward)
        expected = method.gradient(one_step(run))
        plain = Plain(run, shapes_prior.unet, scheduler_of(shapes_prior), batched=name == "psd")
        more = {"other": noises[1]} if name == "psd" else {}
        with torch.no_grad():
            got = getattr(plain, name)(
                step.latents, step.timestep, step.prompts, step.cameras, noises[0], **more
            )
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def one_step(run: Optimisation) -> Step:
    """The first step of a run, on random latents."""
    from psdbench.camera_config import CameraConfig
    from psdbench.cameras import sample_cameras

    latents = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    prompts = ["a red cube, front view"]
    return Step(
        latents=latents,
        timestep=torch.tensor([500]),
        schedule=TimestepSchedule(),
        cameras=sample_cameras(torch.Generator().manual_seed(0), 1, CameraConfig()),
        prompt="a red cube",
        prompts=prompts,
        text=TextEmbeddings.encode(run.prior, prompts, "a red cube"),
        prior=run.prior,
        reward=run.reward,
        index=0,
        progress=0.0,
        streams=run.streams,
        counters=run.prior.counters,
        state=run.method_state,
    )
